//! `oss-standin trigger`: signs and fires callbacks without any upload.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use oss_standin::{CallbackParameters, DEFAULT_KEY_URL, Fired, Relayed, Trigger, send_raw};
use serde_json::json;

use super::parameters::{Facts, Wanted};
use super::{Bits, Failed, answer, read};

/// How long a stand-in on this machine may take to show its key.
const ASKING: Duration = Duration::from_secs(2);

pub(crate) const EXAMPLES: &str = "\
Examples:
  oss-standin trigger http://127.0.0.1:9000/callback
  oss-standin trigger http://127.0.0.1:9000/callback --object photos/a.jpg --mime-type image/jpeg --image 810x539:jpg
  oss-standin trigger https://abc.example.com/callback --sni --var x:uid=7 --body 'object=${object}&uid=${x:uid}'
  oss-standin trigger 127.0.0.1:9000/callback --body-type json --body '{\"object\":${object},\"size\":${size}}' --times 3
  oss-standin trigger http://127.0.0.1:9000/callback --print > callback.http

What receives the callback must trust the key under its URL: `cargo dev` does as it is, where it runs in this directory. For
a stand-in of your own say --key-url http://127.0.0.1:PORT/_standin/callback_pub_key_v1.pem and, unless it keeps its data in
./oss-standin-data, --data DIR.
The exit code is 0 if OSS would have relayed every answer to the uploader, else 1.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Where the callback goes, as in callbackUrl; several are separated by `;` and tried in order.
    url: String,
    #[command(flatten)]
    wanted: Wanted,
    /// How many callbacks, one after the other.
    #[arg(long, value_name = "N", default_value = "1")]
    times: u32,
    /// Print the request, signature included, instead of sending it.
    #[arg(long)]
    print: bool,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signing: Key,
    /// Certificate authorities (PEM) that https trusts beside the public ones.
    #[arg(long, value_name = "FILE")]
    callback_ca: Option<PathBuf>,
    #[command(flatten)]
    facts: Facts,
}

#[derive(Args)]
struct Key {
    /// Private key, PKCS#8 PEM; made if there is none [default: that of the data folder].
    #[arg(long, value_name = "FILE", help_heading = "The key")]
    key: Option<PathBuf>,
    /// Which key of the data folder, and the size of a key that is made new.
    #[arg(long, value_name = "BITS", default_value = "512", help_heading = "The key")]
    key_bits: Bits,
    /// URL that the callback claims its key is at.
    #[arg(long, value_name = "URL", default_value = DEFAULT_KEY_URL, help_heading = "The key")]
    key_url: String,
    /// Data folder of a stand-in [default: of ./oss-standin-data and that of `cargo dev`, target/dev/oss, the one whose key
    /// is served at the key URL; where nothing is served there, the latter if it exists].
    #[arg(long, value_name = "DIR", help_heading = "The key")]
    data: Option<PathBuf>,
}

impl Key {
    /// The files that the key may be in, the likeliest first.
    fn files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.key {
            return vec![file.clone()];
        }
        let in_folder = |data: &Path| oss_standin::KeyBits::from(self.key_bits).key_file(data);
        if let Some(data) = &self.data {
            return vec![in_folder(data)];
        }
        let [of_cargo_dev, own] = ["target/dev/oss", "./oss-standin-data"].map(|data| in_folder(Path::new(data)));
        if of_cargo_dev.exists() { vec![of_cargo_dev, own] } else { vec![own] }
    }

    /// What signs the callback, and where its key is: the key that is served under the URL, if it is at hand.
    async fn trigger(&self, parameters: &CallbackParameters) -> Result<(Trigger, PathBuf), Failed> {
        let served = served_key(&self.key_url).await;
        let open = |file: &Path| Trigger::new(parameters, file, self.key_bits.into(), &self.key_url);
        let files = self.files();
        for file in files.iter().filter(|file| file.exists()) {
            let trigger = open(file)?;
            if served.as_deref().is_some_and(|served| served.trim() == trigger.public_key_pem().trim()) {
                return Ok((trigger, file.clone()));
            }
        }
        let file = files.into_iter().next().ok_or("there is no key to sign with")?;
        if served.is_some() {
            tracing::warn!(
                key = %file.display(), key_url = self.key_url,
                "another key is served at this URL: whoever trusts that one refuses the callback; --data names the stand-in's folder"
            );
        }
        Ok((open(&file)?, file))
    }
}

/// The key that is served at this URL, if it is that of a stand-in on this machine.
async fn served_key(url: &str) -> Option<String> {
    let parsed: http::Uri = url.parse().ok()?;
    let host = parsed.host().filter(|host| is_this_machine(host))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", parsed.path());
    let answer = send_raw(url, request.as_bytes(), &[], ASKING).await.ok()?;
    (answer.status == 200).then(|| String::from_utf8(answer.body).ok()).flatten()
}

/// Nobody else is asked: a key URL may name a place that is only claimed.
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failed> {
    let Arguments { url, wanted, times, print, json, signing, callback_ca, facts } = arguments;
    let (parameters, facts) = (wanted.parameters(&url), facts.facts());
    let known = signing.files().iter().any(|file| file.exists());
    let (mut trigger, file) = signing.trigger(&parameters).await?;
    if let Some(path) = callback_ca {
        trigger = trigger.certificates(&read(&path)?)?;
    }
    if known {
        tracing::info!(key = %file.display(), key_url = signing.key_url, "signing");
    } else {
        tracing::warn!(key = %file.display(), key_url = signing.key_url, "signing with a new key, which nobody trusts yet");
    }
    if print {
        answer::print(&trigger.request(&facts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut all_relayed = true;
    for _ in 0..times {
        let fired = trigger.fire(&facts).await?;
        all_relayed &= fired.relayed == Relayed::Answer;
        let text = if answer::for_programs(json) { line(&fired) } else { lines(&fired) };
        answer::print(text.as_bytes())?;
    }
    Ok(if all_relayed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(fired: &Fired) -> String {
    let mut fields = answer::fields(&fired.answer);
    fields.insert("authority".to_owned(), json!(fired.authority));
    fields.insert("request_id".to_owned(), json!(fired.request_id));
    fields.insert("milliseconds".to_owned(), json!(fired.elapsed.as_millis()));
    let uploader = match &fired.relayed {
        Relayed::Answer => json!({ "status": fired.relayed.status() }),
        Relayed::CallbackFailed { message, ec } => {
            json!({ "status": fired.relayed.status(), "code": "CallbackFailed", "message": message, "ec": ec })
        }
    };
    fields.insert("uploader".to_owned(), uploader);
    format!("{}\n", json!(fields))
}

fn lines(fired: &Fired) -> String {
    let answer = answer::lines(&fired.answer, fired.elapsed.as_millis());
    let uploader = match &fired.relayed {
        Relayed::Answer => "200 and this answer".to_owned(),
        Relayed::CallbackFailed { message, ec } => format!("203 CallbackFailed: {message} (EC {ec})"),
    };
    let Fired { authority, request_id, .. } = fired;
    format!("callback {request_id} to {authority}: {answer}\nuploader: {uploader}\n")
}
