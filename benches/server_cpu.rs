//! What a callback costs the server's processors: user and system time of the server's process for callbacks that it proves,
//! records durably and answers, beside the sample servers for Node and Python, which prove and answer them, and record nothing.
//!
//!     cargo bench --bench server_cpu
//!
//! Needs Node and a Python (`PYTHON`, else `python3`) with `cryptography`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::Command;
use std::time::Duration;

mod support;

use support::function::repository;
use support::{Program, Series, callbacks, directory, fire, print_table};

const ROUNDS: usize = 7;
const CALLBACKS: usize = 4_000;
const IN_FLIGHT: usize = 64;

fn main() {
    let data = directory();
    let key = repository("tests/support/test-key.pub.pem");
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let servers = [
        ("oss-callback, recording each durably", Program::serve(data.path())),
        ("Node sample", Program::start(Command::new("node").arg(repository("benches/samples/server.mjs")).arg(&key))),
        ("Python sample", Program::start(Command::new(python).arg(repository("benches/samples/server.py")).arg(&key))),
    ];
    let mut processor: [Series; 3] = Default::default();
    let mut clock: [Series; 3] = Default::default();
    for round in 0..=ROUNDS {
        let fired = callbacks(round * CALLBACKS..(round + 1) * CALLBACKS);
        for (((_, server), processor), clock) in servers.iter().zip(&mut processor).zip(&mut clock) {
            let before = server.cpu();
            let time = fire(server.address, &fired, IN_FLIGHT);
            let spent: Duration = server.cpu() - before;
            // The first round warms up.
            if round > 0 {
                processor.push_per(spent, CALLBACKS);
                clock.push_per(time, CALLBACKS);
            }
        }
    }
    let rows: Vec<Vec<String>> = servers
        .iter()
        .zip(processor.iter().zip(&clock))
        .map(|((name, _), (spent, time))| {
            vec![
                (*name).to_owned(),
                format!("{:.0} µs", spent.median()),
                format!("{:.2}", processor[0].over(spent)),
                format!("{:.0}", 1e6 / time.median()),
            ]
        })
        .collect();
    print_table(
        &format!("Per callback with {IN_FLIGHT} in flight, medians of {ROUNDS} interleaved rounds of {CALLBACKS}"),
        &[
            "server",
            "processor time",
            "oss-callback's share of it",
            "callbacks a second, client on the same processors",
        ],
        &rows,
    );
}
