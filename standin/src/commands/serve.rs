//! `oss-standin serve`: the stand-in, until it is interrupted.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use oss_standin::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET, FAULT_KINDS, FAULT_LIMITS, FAULT_OPERATIONS, Fault, Standin,
    StartError,
};
use serde_json::json;

use super::{Bits, Failed, read};

#[derive(Args)]
pub(crate) struct Serve {
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
    /// Break something on purpose; may be repeated, and --help says how.
    #[arg(long = "fault", value_name = "SPEC")]
    faults: Vec<Fault>,
    /// Decides which requests a fault with a probability strikes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_seed: u64,
    /// File to append the journal to, a line of JSON for each event.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

/// What `--fault` takes, for --help.
pub(crate) fn faults_explained() -> String {
    let list = |entries: &[(&str, &str)]| -> String {
        entries.iter().map(|(form, meaning)| format!("  {form:<32} {meaning}\n")).collect()
    };
    format!(
        "Faults, as in --fault slow=2s,bucket=photos,prefix=a/,probability=0.3,times=2:\n{}\nTheir limits:\n{}\n\
         The first fault that wants to strikes; the same seed and the same requests give the same faults. DURATION is \
         500ms, 2s or 1m.\n\nOperations: {}. Callbacks are those of PutObject, PostObject, CompleteMultipartUpload \
         and PostProcessTask.",
        list(&FAULT_KINDS),
        list(&FAULT_LIMITS),
        FAULT_OPERATIONS.join(", ")
    )
}

impl std::fmt::Debug for Serve {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Serve").field("listen", &self.listen).finish_non_exhaustive()
    }
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

pub(crate) async fn run(serve: Serve) -> Result<(), Failed> {
    // Before the ready line, so that who reads it can already stop us.
    let stop = stop_signal()?;
    let mut builder = Standin::builder()
        .listen(&serve.listen)
        .data(&serve.data)
        .region(&serve.region)
        .credentials(&serve.access_key_id, &serve.access_key_secret)
        .key_bits(serve.key_bits.into())
        .max_skew(serve.max_skew.0)
        .forbid_private(serve.forbid_private)
        .anonymous(serve.anonymous)
        .strict_cors(serve.strict_cors)
        .fault_seed(serve.fault_seed);
    for bucket in &serve.buckets {
        builder = builder.bucket(bucket);
    }
    for fault in serve.faults {
        builder = builder.fault(fault);
    }
    if let Some(path) = serve.journal {
        builder = builder.journal_file(path);
    }
    if let Some(key) = serve.key {
        builder = builder.key_file(key);
    }
    if let Some(url) = serve.key_url {
        builder = builder.key_url(url);
    }
    if let Some(path) = serve.callback_ca {
        builder = builder.callback_certificates(read(&path)?);
    }
    let standin = builder.start().await.map_err(|error| match error {
        error @ StartError::Listen { .. } => format!("{error}; --listen names another address, as 127.0.0.1:9081"),
        error @ StartError::DataInUse { .. } => format!("{error}; --data names another folder"),
        error => error.to_string(),
    })?;
    // Only the one that is published anyway: what was given may be that of a real account.
    let published_secret = Some(&serve.access_key_secret).filter(|secret| *secret == DEFAULT_ACCESS_KEY_SECRET);
    let ready = json!({
        "event": "ready",
        "listen": standin.endpoint(),
        "bucket": serve.buckets.first(),
        "buckets": serve.buckets,
        "region": serve.region,
        "access_key_id": serve.access_key_id,
        "access_key_secret": published_secret,
        "key_url": standin.key_url(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;
    stop.await;
    tracing::info!("stopping");
    standin.stop().await;
    Ok(())
}

/// Resolves when the program is asked to stop; signals count from the moment this function returns.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves when the program is asked to stop.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(cause) = tokio::signal::ctrl_c().await {
            tracing::error!(%cause, "cannot be told to stop by Ctrl-C");
            std::future::pending::<()>().await;
        }
    })
}
