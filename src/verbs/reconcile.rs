//! `reconcile`: in this process, or by the server that holds the store.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use oss_callback::config::{Config, Source, Store, WorkerConfig};
use oss_callback::reconcile::runs::{Run, RunState};
use oss_callback::reconcile::{Event, Found, Request, Summary, Tally, checkpoint};
use oss_callback::served::ServedRecords;
use oss_callback::server::stop_signal;
use oss_callback::wire::{self, WireError};
use serde_json::json;

use super::{Failed, NotAll, held_by_a_server, print_line, text};

/// How often a server is asked how far it is.
const POLL: Duration = Duration::from_millis(300);

const HELP: &str = "\
Lists the bucket and compares it with the records. Objects without a record, records of an old version or in doubt, work that
nobody did and records without an object are repaired, thumbnails included. Where nothing is wrong nothing is written. What lies
under the output prefix is passed over.

It needs the settings of OSS, and the right oss:ListObjects on the bucket. Where a server holds the embedded store, the server
does it, with its own settings and checkpoints: set OSS_CALLBACK_API_TOKEN as for the server, and OSS_CALLBACK_LISTEN to its
address. It does not tell what it found one by one.

On a terminal it shows how far it is and a summary. Piped, it prints JSON lines: {\"event\":\"found\",...} for each thing it found,
and {\"event\":\"finished\",\"complete\":true,\"missing\":0,...,\"written\":0,\"spent\":{...}} at the end; with --dry-run also
\"estimate\", the requests that repairing would take. What they cost depends on your region: multiply by the prices of OSS and, for
DynamoDB, of its request units.

Stopped by a cap, Ctrl-C or a failure, the same command goes on where it stopped, within a day. A second Ctrl-C does not wait for
what is in hand.
Exit code: 0 everything was seen and, unless it is a dry run, what was wrong is repaired (\"waiting\" says how many still wait for
their thumbnails); 75 not everything was seen or could be repaired, run it again; 1 it failed.

  oss-callback reconcile my-bucket --dry-run
  oss-callback reconcile my-bucket/photos/ --max-objects 100000 --max-bytes 50000000000";

/// The command line of `reconcile`.
pub(crate) fn command() -> Command {
    let cap = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("NUMBER").help(help).value_parser(value_parser!(u64))
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    Command::new("reconcile")
        .about("Compare a bucket with its records, and repair what no callback told")
        .after_help(HELP)
        .arg(Arg::new("BUCKET[/PREFIX]").required(true).help("The bucket, or only keys that begin with PREFIX"))
        .arg(flag("dry-run", "Only say what would be done, and what it would cost"))
        .arg(flag("failed", "Also begin again what has failed"))
        .arg(flag("rules-changed", "Also make again what another rule than today's made"))
        .arg(cap("max-objects", "Look at no more objects than these"))
        .arg(cap("max-bytes", "Read no more bytes of objects than these"))
        .arg(cap("max-calls", "Ask OSS no more often than so"))
        .arg(
            Arg::new("checkpoint")
                .long("checkpoint")
                .value_name("FILE")
                .help("Where to write how far it came [default: beside an embedded store, else in this directory]"),
        )
        .arg(flag("from-start", "Do not go on from where an earlier run stopped"))
}

/// `reconcile`
pub(crate) fn run(source: &Source<'_>, given: &ArgMatches) -> Result<(), Failed> {
    let request = request(given)?;
    let store = Config::read_store(source)?;
    // Who holds the store needs no settings of OSS from here.
    let held = match Config::read_reconcile(source) {
        Ok((_, Some(buckets))) if !buckets.covers(&request.bucket, &request.prefix) => {
            return Err(format!(
                "{}/{} is not covered by OSS_CALLBACK_BUCKETS ({buckets})",
                request.bucket, request.prefix
            )
            .into());
        }
        Ok((config, _)) => {
            let file = checkpoint_file(given, &config.store, &request);
            match in_this_process(config, &request, &file) {
                Err(error) => match error.downcast::<WireError>() {
                    Ok(error) => match *error {
                        WireError::StoreInUse(held) => held,
                        error => return Err(error.into()),
                    },
                    Err(error) => return Err(error),
                },
                done => return done,
            }
        }
        Err(faults) => match wire::records(&store.store, Duration::from_secs(20), None) {
            Err(WireError::StoreInUse(held)) => held,
            _ => return Err(faults.into()),
        },
    };
    match &store.api_token {
        Some(token) => by_the_server(&ServedRecords::new(store.listen, token), &request),
        None => Err(held_by_a_server(&held, &store).into()),
    }
}

fn request(given: &ArgMatches) -> Result<Request, Failed> {
    let name = text(given, "BUCKET[/PREFIX]").unwrap_or_default();
    let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
    if bucket.is_empty() {
        return Err(format!("{name:?} names no bucket").into());
    }
    let cap = |name: &str| given.get_one::<u64>(name).copied();
    Ok(Request {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        dry_run: given.get_flag("dry-run"),
        failed: given.get_flag("failed"),
        rules_changed: given.get_flag("rules-changed"),
        from_start: given.get_flag("from-start"),
        max_objects: cap("max-objects"),
        max_bytes: cap("max-bytes"),
        max_calls: cap("max-calls"),
    })
}

fn checkpoint_file(given: &ArgMatches, store: &Store, request: &Request) -> checkpoint::File {
    match (text(given, "checkpoint"), wire::checkpoints(store)) {
        (Some(path), _) => checkpoint::File::at(path.into()),
        (None, Some(beside)) => checkpoint::File::in_directory(&beside, &store.to_string(), request),
        (None, None) => checkpoint::File::in_directory(Path::new("."), &store.to_string(), request),
    }
}

fn in_this_process(config: WorkerConfig, request: &Request, file: &checkpoint::File) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let reconciler = wire::reconciler(config)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop_signal()?;
        tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                asked.await;
                stop.store(true, Ordering::Relaxed);
                // Whoever asks twice does not wait for what is in hand: its leases run out.
                if let Ok(again) = stop_signal() {
                    again.await;
                    std::process::exit(130);
                }
            }
        });
        let screen = Screen::new();
        let tell = |event: Event<'_>| match event {
            Event::Resumed(left) => screen.say(&format!("goes on from {} ({})", left.saved, file.path().display())),
            Event::Found(found) => screen.found(found),
            Event::Progress(tally) => screen.progress(tally),
        };
        let summary = reconciler.run(request, Some(file), &stop, &tell).await?;
        screen.finished(&summary)
    });
    // A decode or a disk that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

fn by_the_server(server: &ServedRecords, request: &Request) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let screen = Screen::new();
        let started = server.reconcile(request).await?;
        screen.say("the server that holds the store does it; if this command is stopped, it goes on there");
        loop {
            let Run { number, state, summary, error, .. } = server.reconciling().await?;
            if number != started.number {
                return Err("another run was started on the server".into());
            }
            match state {
                RunState::Running => screen.progress(&summary.tally),
                RunState::Finished => return screen.finished(&summary),
                RunState::Failed => return Err(error.unwrap_or_default().into()),
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

/// Where people look, or programs read.
struct Screen {
    bar: ProgressBar,
    for_people: bool,
}

impl Screen {
    fn new() -> Self {
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, for_people: std::io::stdout().is_terminal() }
    }

    fn say(&self, sentence: &str) {
        self.bar.suspend(|| tracing::info!("{sentence}"));
    }

    fn found(&self, found: &Found) {
        if !self.for_people {
            let mut line = json!(found);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("event".to_owned(), json!("found"));
            }
            // Whoever reads may have gone; the repair goes on.
            let _ = self.bar.suspend(|| writeln!(std::io::stdout(), "{line}"));
        }
    }

    fn progress(&self, tally: &Tally) {
        self.bar.set_message(format!(
            "{} listed, {} records compared, {} found, {} repaired",
            HumanCount(tally.listed),
            HumanCount(tally.records),
            HumanCount(tally.found()),
            HumanCount(tally.repaired)
        ));
    }

    fn finished(&self, summary: &Summary) -> Result<(), Failed> {
        self.bar.finish_and_clear();
        if self.for_people {
            print_text(&in_words(summary))?;
        } else {
            let mut line = json!(summary);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("event".to_owned(), json!("finished"));
            }
            print_line(&line)?;
        }
        let left = summary.tally.not_repaired;
        match (summary.complete, left) {
            (true, 0) => Ok(()),
            (false, _) => Err(NotAll("not everything was seen; the same command goes on from here".to_owned()).into()),
            (true, left) => Err(NotAll(format!("{left} could not be repaired; run it again later")).into()),
        }
    }
}

fn print_text(text: &str) -> Result<(), Failed> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The summary for people.
fn in_words(Summary { request, tally, stopped, .. }: &Summary) -> String {
    let Tally { listed, records, repaired, waiting, not_repaired, written, spent, .. } = tally;
    let mut lines = vec![format!(
        "{}/{}: {} objects listed, {} records compared",
        request.bucket,
        request.prefix,
        HumanCount(*listed),
        HumanCount(*records)
    )];
    let found = [
        ("without a record", tally.missing),
        ("of an old version", tally.stale),
        ("in doubt", tally.in_doubt),
        ("with work undone", tally.unfinished),
        ("without an object", tally.orphaned),
        ("that had failed", tally.failed),
        ("made by other rules", tally.outdated),
    ];
    lines.extend(
        found.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("  {} {what}", HumanCount(*count))),
    );
    if tally.found() == 0 {
        lines.push("  nothing is wrong".to_owned());
    }
    if request.dry_run {
        let cost = tally.estimate.as_ref().unwrap_or(spent);
        lines.push(format!(
            "a run without --dry-run would ask OSS for {} pages of the listing, {} HEAD, {} GET ({}), {} PUT, and the store for {} \
             reads and {} writes",
            HumanCount(cost.lists),
            HumanCount(cost.heads),
            HumanCount(cost.gets),
            HumanBytes(cost.bytes_read),
            HumanCount(cost.puts),
            HumanCount(cost.store_reads),
            HumanCount(cost.store_writes)
        ));
    } else {
        lines.push(format!(
            "{} repaired ({} of them wait for work), {} not; {} records written",
            HumanCount(*repaired),
            HumanCount(*waiting),
            HumanCount(*not_repaired),
            HumanCount(*written)
        ));
    }
    lines.extend(stopped.map(|reason| format!("stopped early: {}", json!(reason).as_str().unwrap_or_default())));
    lines.join("\n") + "\n"
}
