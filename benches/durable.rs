//! What durability costs: a put into the embedded store, and a whole callback to the built server, over the least that a disk
//! allows: the same bytes written to a file that has its blocks already, and one `fdatasync`.
//!
//!     cargo bench --bench durable
//!
//! With several in flight the floor shares its syncs too: one for as many records as are in flight.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use oss_callback::record::Record;
use oss_callback::records::embedded::Embedded;
use oss_callback::records::{Put, Records};
use tokio::runtime::Runtime;

mod support;

use support::function::{API_TOKEN, send};
use support::{Program, Series, callbacks, directory, fire, print_table};

const ROUNDS: usize = 41;
/// In flight, and how many in one round.
const LOADS: [(usize, usize); 3] = [(1, 40), (16, 320), (64, 1_280)];

fn main() {
    let (data, server_data, floor_data) = (directory(), directory(), directory());
    let runtime = Runtime::new().unwrap();
    let store: Arc<dyn Records> = Arc::new(Embedded::open(data.path()).unwrap());
    let server = Program::serve(server_data.path());
    let record = first_record(&runtime, &server);
    let bytes = serde_json::to_vec(&record).unwrap();
    let all: usize = LOADS.iter().map(|(_, times)| ROUNDS * times * bytes.len()).sum();
    let mut floor_file = filled_file(&floor_data.path().join("floor"), all);

    let mut series: Vec<[Series; 3]> = vec![Default::default(); LOADS.len()];
    let mut number = 1;
    for _ in 0..ROUNDS {
        for ((in_flight, times), [floor, put, callback]) in LOADS.into_iter().zip(&mut series) {
            let numbers = number..number + times;
            number += times;
            // In a thread that does nothing else, as the store's writer is one.
            let floor_time = thread::scope(|scope| {
                scope.spawn(|| write_and_sync(&mut floor_file, &bytes, in_flight, times)).join().unwrap()
            });
            floor.push_per(floor_time, times);
            put.push_per(runtime.block_on(put_all(&store, &record, numbers.clone(), in_flight)), times);
            callback.push_per(fire(server.address, &callbacks(numbers), in_flight), times);
        }
    }

    let rows: Vec<Vec<String>> = LOADS
        .into_iter()
        .zip(&series)
        .map(|((in_flight, _), [floor, put, callback])| {
            vec![
                in_flight.to_string(),
                format!("{:.0} µs", floor.median()),
                format!("{:.0} µs", put.median()),
                format!("{:.2}", put.over(floor)),
                format!("{:.0} µs", callback.median()),
                format!("{:.2}", callback.over(floor)),
                format!("{:.2}", callback.over(&series[0][0])),
            ]
        })
        .collect();
    print_table(
        &format!("Durable records of {} bytes: time for each, medians of {ROUNDS} interleaved rounds", bytes.len()),
        &["in flight", "floor", "put", "of floor", "callback", "of floor", "of the floor with one in flight"],
        &rows,
    );
}

/// The record that a callback makes, as the server reads it back.
fn first_record(runtime: &Runtime, server: &Program) -> Record {
    fire(server.address, &callbacks(0..1), 1);
    let target = "/records/examplebucket/photos/2026/00000000.jpg";
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n");
    serde_json::from_value(runtime.block_on(send(server.address, request.as_bytes())).json()).unwrap()
}

/// A file of that length at its beginning: to append would be to change the file's length too, which takes another write.
fn filled_file(path: &Path, length: usize) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![1; length]).unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    file
}

/// Writes the bytes so many times, one after the other, with one sync for each so many.
fn write_and_sync(file: &mut File, bytes: &[u8], in_flight: usize, times: usize) -> Duration {
    let begun = Instant::now();
    for _ in 0..times / in_flight {
        for _ in 0..in_flight {
            file.write_all(bytes).unwrap();
        }
        file.sync_data().unwrap();
    }
    begun.elapsed()
}

/// Puts first records of as many objects, so many at a time.
async fn put_all(store: &Arc<dyn Records>, record: &Record, numbers: Range<usize>, in_flight: usize) -> Duration {
    let records: Vec<Record> =
        numbers.map(|number| Record { object: format!("photos/2026/{number:08}.jpg"), ..record.clone() }).collect();
    let shares: Vec<Vec<Record>> =
        (0..in_flight).map(|first| records.iter().skip(first).step_by(in_flight).cloned().collect()).collect();
    let begun = Instant::now();
    let writers: Vec<_> = shares
        .into_iter()
        .map(|share| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for record in share {
                    assert_eq!(store.put(&record, None).await.unwrap(), Put::Stored);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    begun.elapsed()
}
