//! `cargo dev`: a stand-in for OSS, the function and its store in one process on loopback, ready for a real SDK's upload.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use oss_callback::config::{Config, Purpose, Source, process_environment};
use oss_callback::server::{Server, stop_signal};
use oss_callback::signature::PublicKey;
use oss_callback::{log, wire};
use oss_standin::Standin;
use serde_json::json;

mod examples;

const BUCKET: &str = "examplebucket";
const REGION: &str = "cn-hangzhou";
const ACCESS_KEY_ID: &str = "oss-callback-dev";
const ACCESS_KEY_SECRET: &str = "oss-callback-dev-secret";

/// Runs a stand-in for OSS and the function beside it, on loopback, with a bucket, keys and a token that stay the same.
#[derive(Parser)]
#[command(
    name = "cargo dev",
    version,
    after_help = "One ready line (JSON) goes to standard output; how to try it, and the \
    log, to standard error. RUST_LOG chooses what is logged. Ctrl-C stops it."
)]
struct Flags {
    /// Address of the stand-in for OSS; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    standin: SocketAddr,
    /// Address of the function; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Where objects, records, keys and the token are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dev")]
    data: PathBuf,
    /// A rules file for the function; built-in rules without it.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let source = Source::new(BTreeMap::new(), &process_environment);
    let (format, filter) = Config::read_log(&source, io::stderr().is_terminal());
    log::start(format, filter.as_deref());
    let run = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(run(flags)));
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            to_people(&format!("cargo dev: {}", error.to_string().trim_end()));
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Failed> {
    std::fs::create_dir_all(&flags.data).map_err(|error| format!("cannot make {}: {error}", flags.data.display()))?;
    let standin = Standin::builder()
        .bucket(BUCKET)
        .region(REGION)
        .credentials(ACCESS_KEY_ID, ACCESS_KEY_SECRET)
        .data(flags.data.join("oss"))
        .listen(flags.standin.to_string())
        .start()
        .await
        .map_err(|error| {
            let data = flags.data.display();
            format!("the stand-in cannot start on {} (--standin), data in {data} (--data): {error}", flags.standin)
        })?;
    let api_token = kept_token(&flags.data.join("api-token"))?;
    let settings: BTreeMap<&str, String> = BTreeMap::from([
        ("OSS_CALLBACK_LISTEN", flags.listen.to_string()),
        ("OSS_CALLBACK_BUCKETS", BUCKET.to_owned()),
        ("OSS_CALLBACK_STORE", format!("embedded:{}", flags.data.join("records").display())),
        ("OSS_CALLBACK_RULES", flags.rules.map(|path| path.display().to_string()).unwrap_or_default()),
        ("OSS_CALLBACK_API_TOKEN", api_token.clone()),
        ("OSS_ENDPOINT", standin.endpoint()),
        ("OSS_REGION", REGION.to_owned()),
        ("OSS_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
        ("OSS_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET.to_owned()),
    ]);
    let environment = |name: &str| settings.get(name).cloned();
    let mut config = Config::read(&Source::new(BTreeMap::new(), &environment), Purpose::Server)?;
    config.keys.push((standin.key_url().to_owned(), PublicKey::from_pem(standin.public_key_pem())?));
    let app = Arc::new(wire::app(config)?);
    let server = Server::bind(flags.listen, app)
        .await
        .map_err(|error| format!("cannot listen on {} (--listen): {error}", flags.listen))?;

    let listen = format!("http://{}", server.address()?);
    let ready = Ready { standin: standin.endpoint(), callback_url: format!("{listen}/callback"), listen, api_token };
    let picture = examples::sample_picture(&flags.data)?;
    let examples = examples::text(&ready, &picture).await?;
    let stop = stop_signal()?;
    print_ready(&ready)?;
    to_people(&examples);
    server.serve(stop).await;
    standin.stop().await;
    Ok(())
}

/// What somebody needs to know to try it.
struct Ready {
    listen: String,
    standin: String,
    callback_url: String,
    api_token: String,
}

fn print_ready(ready: &Ready) -> io::Result<()> {
    let line = json!({
        "event": "ready", "listen": ready.listen, "standin": ready.standin, "callback_url": ready.callback_url,
        "bucket": BUCKET, "region": REGION, "access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET,
        "api_token": ready.api_token, "page": null,
    });
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// The token in this file, made if there is none, so that it stays the same across restarts.
fn kept_token(file: &Path) -> Result<String, Failed> {
    if let Ok(token) = std::fs::read_to_string(file)
        && !token.trim().is_empty()
    {
        return Ok(token.trim().to_owned());
    }
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness for a token: {error}"))?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(file, &token).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(token)
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(text.as_bytes())
}

#[allow(clippy::print_stderr, reason = "everything for people goes to standard error")]
fn to_people(text: &str) {
    eprintln!("{text}");
}
