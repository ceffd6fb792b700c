//! `oss-callback`: the verbs. Without a verb it is the Lambda function, where Lambda started it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use oss_callback::config::{Config, FLAGS, Source, flag_name, process_environment};
use oss_callback::log;

mod verbs;

/// A callback's many small allocations are made by one thread and freed by another, at which the system's allocator is slow. On
/// Lambda, where callbacks come one after the other, starting it would cost more than it saves.
#[cfg(feature = "server")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let (verb, given) = matches.subcommand().map_or(("", &matches), |(verb, given)| (verb, given));
    let source = Source::new(flags(given), &process_environment);
    let (format, filter) = Config::read_log(&source, std::io::stderr().is_terminal());
    log::start(format, filter.as_deref());
    let ended = match verb {
        "serve" => verbs::serve(&source),
        "worker" => verbs::worker(&source),
        #[cfg(feature = "server")]
        "reconcile" => verbs::reconcile::run(&source, given),
        "records" => verbs::records(&source, given),
        _ if Config::on_lambda(&source) => verbs::lambda(&source),
        _ => {
            let _ = command().print_help();
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            verbs::complain(&error);
            verbs::exit_code(&error)
        }
    }
}

const WORKER_HELP: &str = "\
Takes up thumbnails that were not made in time, and callbacks about which OSS could not be asked. `serve` does so itself; more
workers help where several servers share a DynamoDB table. An embedded store serves one process: while another one holds it,
the exit code is 75. Secrets are variables only: OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN, AWS_ACCESS_KEY_ID
and so on. When it works, it prints one line of JSON: {\"event\":\"ready\",\"store\":\"dynamodb:TABLE\"}";

const SERVE_HELP: &str = "\
Secrets are variables only: OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN for OSS, OSS_CALLBACK_API_TOKEN for the
read routes (GET /records/BUCKET/KEY, GET /records?bucket=&prefix=&state=&limit=), AWS_ACCESS_KEY_ID and so on for DynamoDB.
When it answers, it prints one line of JSON: {\"event\":\"ready\",\"listen\":\"http://127.0.0.1:9000\"}

  oss-callback serve --buckets my-bucket --path /callback
  OSS_ACCESS_KEY_ID=... OSS_ACCESS_KEY_SECRET=... oss-callback serve --buckets my-bucket/photos/ \\
    --oss-endpoint oss-cn-hangzhou.aliyuncs.com --oss-region cn-hangzhou";

/// The settings of `worker` that have a flag.
const WORKER_SETTINGS: [&str; 5] =
    ["OSS_CALLBACK_STORE", "OSS_CALLBACK_RULES", "OSS_CALLBACK_LOG", "OSS_ENDPOINT", "OSS_REGION"];

/// The settings of `reconcile` that have a flag.
#[cfg(feature = "server")]
const RECONCILE_SETTINGS: [&str; 7] = [
    "OSS_CALLBACK_STORE",
    "OSS_CALLBACK_RULES",
    "OSS_CALLBACK_LOG",
    "OSS_CALLBACK_BUCKETS",
    "OSS_CALLBACK_LISTEN",
    "OSS_ENDPOINT",
    "OSS_REGION",
];

fn command() -> Command {
    let command = Command::new("oss-callback")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Receives Alibaba Cloud OSS upload callbacks: proves each one, records the object, makes its thumbnails.")
        .after_help(
            "Without a command, and with AWS_LAMBDA_RUNTIME_API set, it is the Lambda function.\n\
             Every flag is also a variable: --listen is OSS_CALLBACK_LISTEN, --oss-endpoint is OSS_ENDPOINT. Secrets are\n\
             variables only: OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, OSS_SESSION_TOKEN, OSS_CALLBACK_API_TOKEN.",
        )
        .subcommand(settings(
            Command::new("serve").about("Serve callbacks over HTTP until SIGINT or SIGTERM").after_help(SERVE_HELP),
        ))
        .subcommand(
            Command::new("worker")
                .about("Do the work that was left over, without serving, until SIGINT or SIGTERM")
                .after_help(WORKER_HELP)
                .args(setting_arguments(&WORKER_SETTINGS)),
        )
        .subcommand(verbs::records_command().args(setting_arguments(&[
            "OSS_CALLBACK_STORE",
            "OSS_CALLBACK_RULES",
            "OSS_CALLBACK_LISTEN",
        ])));
    #[cfg(feature = "server")]
    let command = command.subcommand(verbs::reconcile::command().args(setting_arguments(&RECONCILE_SETTINGS)));
    command
}

fn settings(command: Command) -> Command {
    let all: Vec<&str> = FLAGS.iter().map(|(variable, _)| *variable).collect();
    command.args(setting_arguments(&all))
}

fn setting_arguments(variables: &[&str]) -> Vec<Arg> {
    FLAGS
        .iter()
        .filter(|(variable, _)| variables.contains(variable))
        .map(|(variable, meaning)| {
            Arg::new(*variable).long(flag_name(variable)).value_name("VALUE").help(*meaning).global(true)
        })
        .collect()
}

fn flags(given: &ArgMatches) -> BTreeMap<String, String> {
    FLAGS
        .iter()
        .filter_map(|(variable, _)| {
            let value = given.try_get_one::<String>(variable).ok().flatten()?;
            Some(((*variable).to_owned(), value.clone()))
        })
        .collect()
}
