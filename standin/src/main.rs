//! `oss-standin`: the stand-in as a program of its own.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use oss_standin::{DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET, KeyBits, Standin};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A stand-in for Alibaba Cloud OSS that real SDKs upload to and that fires signed upload callbacks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until interrupted.
    ///
    /// Prints one line of JSON on standard output when requests are answered, and nothing else there; what is for people
    /// goes to standard error (RUST_LOG=debug for more). Point an SDK at the address as its endpoint, with an IP address,
    /// so that it puts the bucket into the path.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9080")]
    listen: String,
    /// A bucket to serve; may be repeated.
    #[arg(long = "bucket", value_name = "NAME", default_value = "examplebucket")]
    buckets: Vec<String>,
    /// Folder for objects and keys.
    #[arg(long, value_name = "DIR", default_value = "./oss-standin-data")]
    data: PathBuf,
    /// Region that version 4 signatures must name.
    #[arg(long, value_name = "R", default_value = "cn-hangzhou")]
    region: String,
    /// Access key id that requests must be signed with.
    #[arg(long, value_name = "ID", env = "OSS_ACCESS_KEY_ID", default_value = DEFAULT_ACCESS_KEY_ID)]
    access_key_id: String,
    /// The secret that goes with it.
    #[arg(
        long,
        value_name = "SECRET",
        env = "OSS_ACCESS_KEY_SECRET",
        hide_env_values = true,
        default_value = DEFAULT_ACCESS_KEY_SECRET
    )]
    access_key_secret: String,
    /// Private key that signs callbacks, PKCS#8 PEM; made if there is none [default: in the data folder].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Size of a key that is made new; 512 is that of the real key.
    #[arg(long, value_name = "BITS", default_value = "512")]
    key_bits: Bits,
    /// URL that callbacks claim their key is at [default: where it is served].
    #[arg(long, value_name = "URL")]
    key_url: Option<String>,
    /// How far, in seconds, a signature's time may be from now; `off` also ignores expiry.
    #[arg(long, value_name = "SECONDS|off", default_value = "900", value_parser = parse_skew)]
    max_skew: Skew,
    /// Refuse callbacks to loopback and private addresses, as OSS does.
    #[arg(long)]
    forbid_private: bool,
    /// Accept requests unsigned or with any signature.
    #[arg(long)]
    anonymous: bool,
    /// Keep web pages of other origins out of buckets without CORS rules, as OSS does.
    #[arg(long)]
    strict_cors: bool,
    /// Certificate authorities (PEM) that https callbacks trust beside the public ones.
    #[arg(long, value_name = "FILE")]
    callback_ca: Option<PathBuf>,
}

impl std::fmt::Debug for Serve {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Serve").field("listen", &self.listen).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bits {
    #[value(name = "512")]
    Bits512,
    #[value(name = "2048")]
    Bits2048,
}

/// A largest skew, or none.
#[derive(Clone, Copy, Debug)]
struct Skew(Option<Duration>);

fn parse_skew(text: &str) -> Result<Skew, String> {
    match text {
        "off" => Ok(Skew(None)),
        seconds => match seconds.parse() {
            Ok(seconds) => Ok(Skew(Some(Duration::from_secs(seconds)))),
            Err(_) => Err("neither a whole number of seconds nor `off`".to_owned()),
        },
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command: Command::Serve(serve) } = Arguments::parse();
    let filter = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let people =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(people).with(filter.unwrap_or(Targets::new().with_default(Level::INFO))).init();
    match run(serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!("{cause}");
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: Serve) -> Result<(), Box<dyn std::error::Error>> {
    // Before the ready line, so that who reads it can already stop us.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut builder = Standin::builder()
        .listen(&serve.listen)
        .data(&serve.data)
        .region(&serve.region)
        .credentials(serve.access_key_id, serve.access_key_secret)
        .key_bits(match serve.key_bits {
            Bits::Bits512 => KeyBits::Bits512,
            Bits::Bits2048 => KeyBits::Bits2048,
        })
        .max_skew(serve.max_skew.0)
        .forbid_private(serve.forbid_private)
        .anonymous(serve.anonymous)
        .strict_cors(serve.strict_cors);
    for bucket in &serve.buckets {
        builder = builder.bucket(bucket);
    }
    if let Some(key) = serve.key {
        builder = builder.key_file(key);
    }
    if let Some(url) = serve.key_url {
        builder = builder.key_url(url);
    }
    if let Some(path) = serve.callback_ca {
        let pem = std::fs::read(&path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))?;
        builder = builder.callback_certificates(pem);
    }
    let standin = builder.start().await?;
    let ready = json!({
        "event": "ready",
        "listen": standin.endpoint(),
        "bucket": serve.buckets.first(),
        "buckets": serve.buckets,
        "region": serve.region,
        "key_url": standin.key_url(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    standin.stop().await;
    Ok(())
}
