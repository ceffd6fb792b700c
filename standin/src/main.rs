//! `oss-standin`: the stand-in as a program of its own, with commands for trying what receives callbacks.

mod commands;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use commands::{Failed, callback, replay, serve, trigger, watch};

/// A stand-in for Alibaba Cloud OSS that real SDKs upload to and that fires signed upload callbacks.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until interrupted.
    ///
    /// Prints one line of JSON on standard output when requests are answered, and nothing else there; what is for people
    /// goes to standard error (RUST_LOG=debug for more). Point an SDK at the address as its endpoint, with an IP address,
    /// so that it puts the bucket into the path.
    #[command(after_long_help = serve::faults_explained())]
    Serve(serve::Serve),
    /// Sign and fire a callback without any upload.
    ///
    /// It is checked, composed and signed as a stand-in does it after an upload. Standard output says what the server
    /// answered and what the uploader would have got from OSS: one line of JSON, or something for people on a terminal.
    Trigger(Box<trigger::Arguments>),
    /// Send a recorded request again, byte for byte.
    ///
    /// Nothing is changed, so what was signed stays signed. Standard output says what the server answered: one line of
    /// JSON, or something for people on a terminal.
    Replay(replay::Arguments),
    /// Write the callback parameters of an upload.
    ///
    /// They are checked as OSS checks them; the body is filled with the facts of an upload, to be looked at.
    Callback(Box<callback::Arguments>),
    /// Follow what a running stand-in receives, sends and answers.
    ///
    /// On a terminal in lines for people, otherwise in lines of JSON.
    Watch(watch::Watch),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let filter = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let people =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(people).with(filter.unwrap_or(Targets::new().with_default(Level::INFO))).init();
    match run(command).await {
        Ok(code) => code,
        Err(cause) => {
            tracing::error!("{cause}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Failed> {
    match command {
        Command::Serve(arguments) => serve::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Trigger(arguments) => trigger::run(*arguments).await,
        Command::Replay(arguments) => replay::run(arguments).await,
        Command::Callback(arguments) => callback::run(&arguments),
        Command::Watch(arguments) => watch::run(arguments).await.map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_flags_of_every_command_fit_together() {
        <super::Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
