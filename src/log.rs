//! Logs on standard error: text for people, JSON for collectors, control characters escaped in both.

use std::str::FromStr as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::LogFormat;

/// Starts logging for the whole process. `filter` is written as for `RUST_LOG`: `info`, or `oss_callback=debug,hyper=warn`;
/// one that cannot be read counts as `info`. A second call changes nothing.
pub fn start(format: LogFormat, filter: Option<&str>) {
    let targets = filter
        .and_then(|filter| Targets::from_str(filter).ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => tracing_subscriber::registry().with(layer.compact().with_filter(targets)).try_init(),
        LogFormat::Json => {
            tracing_subscriber::registry().with(layer.json().flatten_event(true).with_filter(targets)).try_init()
        }
    };
    drop(started);
}
