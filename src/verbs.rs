//! What each verb of the program does.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
#[cfg(feature = "lambda")]
use oss_callback::config::Handler;
use oss_callback::config::{Config, Purpose, Source, Store, StoreConfig, WorkerConfig};
use oss_callback::record::{Record, RecordKey, State};
use oss_callback::records::{Page, Query, Records};
use oss_callback::served::ServedRecords;
use oss_callback::wire::{self, WireError};

#[cfg(feature = "server")]
pub(crate) mod reconcile;

/// What a verb ends with when it fails: a sentence for whoever started it.
pub(crate) type Failed = Box<dyn std::error::Error>;

/// Prints the reason of a failure on standard error.
#[allow(clippy::print_stderr, reason = "the one place where the program speaks to whoever started it")]
pub(crate) fn complain(error: &Failed) {
    eprintln!("oss-callback: {}", error.to_string().trim_end());
}

/// Tells whoever started it that trying again later may do: sysexits' EX_TEMPFAIL.
const TRY_LATER: u8 = 75;

/// How the program ends with this failure.
pub(crate) fn exit_code(error: &Failed) -> ExitCode {
    let try_later = matches!(error.downcast_ref(), Some(WireError::StoreInUse(_))) || error.is::<NotAll>();
    if try_later { ExitCode::from(TRY_LATER) } else { ExitCode::FAILURE }
}

/// Not everything was done, though nothing is wrong with how it was asked for: what is left, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotAll(String);

/// `serve`
pub(crate) fn serve(source: &Source<'_>) -> Result<(), Failed> {
    let config = Config::read(source, Purpose::Server)?;
    serve_with(config)
}

#[cfg(feature = "server")]
fn serve_with(config: Config) -> Result<(), Failed> {
    use oss_callback::server::{Server, stop_signal};
    let listen = config.listen;
    let confirms = config.oss.is_some();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let oss = config.oss.as_ref().map(|oss| oss.endpoint.to_string());
        // Not the paths: one of them may hold a secret segment.
        tracing::info!(store = %config.store, buckets = %config.buckets, oss, "starting");
        let app = Arc::new(wire::app(config)?);
        let server = Server::bind(listen, app)
            .await
            .map_err(|error| format!("cannot listen on {listen} (OSS_CALLBACK_LISTEN): {error}"))?;
        if !confirms {
            tracing::warn!("no OSS settings: callbacks are recorded as they claim, unconfirmed, without thumbnails");
        }
        let listen = format!("http://{}", server.address()?);
        let stop = stop_signal()?;
        print_line(&serde_json::json!({"event": "ready", "listen": listen}))?;
        // As a task, so that whatever accepts connections runs where they are served, not in a thread of its own.
        tokio::spawn(server.serve(stop)).await?;
        tracing::info!("stopped");
        Ok(())
    });
    // A decode or a disk that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served
}

#[cfg(not(feature = "server"))]
fn serve_with(_: Config) -> Result<(), Failed> {
    Err("this program was built without the feature `server`".into())
}

/// `worker`
pub(crate) fn worker(source: &Source<'_>) -> Result<(), Failed> {
    work_with(Config::read_worker(source, Purpose::Server)?)
}

#[cfg(feature = "server")]
fn work_with(config: WorkerConfig) -> Result<(), Failed> {
    let store = config.store.to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let worked = runtime.block_on(async {
        let oss = config.oss.endpoint.to_string();
        let worker = wire::worker(config)?;
        let stop = oss_callback::server::stop_signal()?;
        tracing::info!(store, oss, "starting");
        print_line(&serde_json::json!({"event": "ready", "store": store}))?;
        worker.run(stop).await;
        tracing::info!("stopped");
        Ok(())
    });
    // A decode or a disk that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    worked
}

#[cfg(not(feature = "server"))]
fn work_with(_: WorkerConfig) -> Result<(), Failed> {
    Err("this program was built without the feature `server`".into())
}

/// The functions on Lambda. One request at a time, so one thread suffices; pictures are decoded beside it.
#[cfg(feature = "lambda")]
pub(crate) fn lambda(source: &Source<'_>) -> Result<(), Failed> {
    use oss_callback::{app::App, lambda};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handler = Config::handler(source);
    let ended = if handler == Handler::Callback {
        let config = Config::read(source, Purpose::Lambda)?;
        runtime.block_on(async {
            let app: Arc<App> = Arc::new(wire::app(config)?);
            Ok::<_, Failed>(lambda::run(app).await)
        })
    } else {
        let config = Config::read_worker(source, Purpose::Lambda)?;
        runtime.block_on(async {
            let worker = wire::worker(config)?;
            Ok(match handler {
                Handler::Sweep => lambda::work::run_sweep(worker).await,
                _ => lambda::work::run_stream(worker).await,
            })
        })
    };
    ended?.map_err(|error| error.to_string().into())
}

/// The functions on Lambda.
#[cfg(not(feature = "lambda"))]
pub(crate) fn lambda(_: &Source<'_>) -> Result<(), Failed> {
    Err("this program was built without the feature `lambda`".into())
}

/// The command line of `records`.
pub(crate) fn records_command() -> Command {
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("VALUE").help(help);
    Command::new("records")
        .about("Read the records, one JSON object a line")
        .subcommand_required(true)
        .subcommand(
            Command::new("get").about("Print one record").arg(
                Arg::new("BUCKET/KEY")
                    .required(true)
                    .help("Bucket, slash, object key; split at the first slash, nothing decoded"),
            ),
        )
        .subcommand(
            Command::new("list")
                .about("Print many records")
                .arg(option("bucket", "Only this bucket"))
                .arg(option("prefix", "Only keys that begin so"))
                .arg(option("state", "Only this state").value_parser(State::ALL.map(State::as_str)))
                .arg(
                    option("custom", "Only records whose custom variable has this value; may be given several times")
                        .value_name("NAME=VALUE")
                        .value_parser(custom)
                        .action(ArgAction::Append),
                )
                .arg(option("limit", "At most so many [default: all]").value_parser(value_parser!(usize))),
        )
}

/// `records get` and `records list`
pub(crate) fn records(source: &Source<'_>, given: &ArgMatches) -> Result<(), Failed> {
    let config = Config::read_store(source)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let reader = Reader::of(&config)?;
        match given.subcommand() {
            Some(("get", given)) => get(&reader, text(given, "BUCKET/KEY").unwrap_or_default()).await,
            Some(("list", given)) => list(&reader, given).await,
            _ => Err("say `records get` or `records list`".into()),
        }
    })
}

/// What to do about a store that another process holds.
fn held_by_a_server(held: &str, config: &StoreConfig) -> WireError {
    WireError::StoreInUse(format!(
        "{held}. To ask the server that holds it, set OSS_CALLBACK_API_TOKEN as for the server, and OSS_CALLBACK_LISTEN to \
         its address (now {})",
        config.listen
    ))
}

/// Where records are read: the store itself, or the server that holds it.
enum Reader {
    Store(Arc<dyn Records>),
    Server(ServedRecords),
}

impl Reader {
    fn of(config: &StoreConfig) -> Result<Self, Failed> {
        if let Store::Embedded(directory) = &config.store
            && !directory.is_dir()
        {
            let directory = directory.display();
            return Err(format!("there is no record store in {directory} (OSS_CALLBACK_STORE)").into());
        }
        // An embedded store keeps what its server said is indexed: reading changes nothing.
        let rules = config.rules.as_ref().filter(|_| matches!(config.store, Store::DynamoDb(_)));
        match wire::records(&config.store, Duration::from_secs(20), rules) {
            Ok(store) => Ok(Self::Store(store)),
            Err(WireError::StoreInUse(held)) => match &config.api_token {
                Some(token) => Ok(Self::Server(ServedRecords::new(config.listen, token))),
                None => Err(held_by_a_server(&held, config).into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, Failed> {
        match self {
            Self::Store(store) => Ok(store.get(key).await?),
            Self::Server(server) => Ok(server.get(key).await?),
        }
    }

    async fn list(&self, query: &Query) -> Result<Page, Failed> {
        match self {
            Self::Store(store) => Ok(store.list(query).await?),
            Self::Server(server) => Ok(server.list(query).await?),
        }
    }
}

async fn get(reader: &Reader, name: &str) -> Result<(), Failed> {
    let (bucket, object) = name
        .split_once('/')
        .filter(|(bucket, object)| !bucket.is_empty() && !object.is_empty())
        .ok_or_else(|| format!("{name:?} is not of the form BUCKET/KEY"))?;
    let record = reader.get(&RecordKey::new(bucket, object)).await?;
    print_line(&record.ok_or_else(|| format!("there is no record of {name}"))?)
}

async fn list(reader: &Reader, given: &ArgMatches) -> Result<(), Failed> {
    let mut left = given.get_one::<usize>("limit").copied().unwrap_or(usize::MAX);
    let mut query = Query {
        bucket: text(given, "bucket").map(str::to_owned),
        prefix: text(given, "prefix").map(str::to_owned),
        state: text(given, "state").and_then(State::from_name),
        custom: given.get_many("custom").into_iter().flatten().cloned().collect(),
        ..Query::default()
    };
    while left > 0 {
        query.limit = left.min(500);
        let Page { records, cursor } = reader.list(&query).await?;
        left = left.saturating_sub(records.len());
        records.iter().try_for_each(|record| print_line(record))?;
        match cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    Ok(())
}

/// A filter by a custom variable, split at the first `=`.
fn custom(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or("is not of the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn text<'a>(given: &'a ArgMatches, name: &str) -> Option<&'a str> {
    given.get_one::<String>(name).map(String::as_str)
}

fn print_line(value: &impl serde::Serialize) -> Result<(), Failed> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    match output.write_all(&line).and_then(|()| output.flush()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
