//! `oss-standin trigger`: signs and fires callbacks without any upload.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use oss_standin::{DEFAULT_KEY_URL, Fired, Relayed, Trigger};
use serde_json::json;

use super::parameters::{Facts, Wanted};
use super::{Bits, Failed, answer, read};

pub(crate) const EXAMPLES: &str = "\
Examples:
  oss-standin trigger http://127.0.0.1:9000/callback
  oss-standin trigger http://127.0.0.1:9000/callback --object photos/a.jpg --mime-type image/jpeg --image 810x539:jpg
  oss-standin trigger https://abc.example.com/callback --sni --var x:uid=7 --body 'object=${object}&uid=${x:uid}'
  oss-standin trigger 127.0.0.1:9000/callback --body-type json --body '{\"object\":${object},\"size\":${size}}' --times 3
  oss-standin trigger http://127.0.0.1:9000/callback --print > callback.http

What receives the callback must trust the key under its URL: `cargo dev` does as it is, where it runs in this directory.
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
    /// Data folder of a stand-in [default: that of `cargo dev`, target/dev/oss, if it is there, else ./oss-standin-data].
    #[arg(long, value_name = "DIR", help_heading = "The key")]
    data: Option<PathBuf>,
}

impl Key {
    fn file(&self) -> PathBuf {
        if let Some(file) = &self.key {
            return file.clone();
        }
        let in_folder = |data: PathBuf| oss_standin::KeyBits::from(self.key_bits).key_file(&data);
        if let Some(data) = &self.data {
            return in_folder(data.clone());
        }
        let of_cargo_dev = in_folder(PathBuf::from("target/dev/oss"));
        if of_cargo_dev.exists() { of_cargo_dev } else { in_folder(PathBuf::from("./oss-standin-data")) }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failed> {
    let Arguments { url, wanted, times, print, json, signing, callback_ca, facts } = arguments;
    let (parameters, facts) = (wanted.parameters(&url), facts.facts());
    let file = signing.file();
    let known = file.exists();
    let mut trigger = Trigger::new(&parameters, &file, signing.key_bits.into(), &signing.key_url)?;
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
