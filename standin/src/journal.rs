//! The journal: what was received, sent and answered, without signatures, keys and security tokens; what callbacks say and
//! are answered is in it. The newest events are in memory, to be
//! read, followed and written to a file; nobody who reads slowly holds anything up.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How many events are remembered.
pub const JOURNAL_CAPACITY: usize = 10_000;

/// How much of a body or a path is remembered, in bytes.
const LONGEST_TEXT: usize = 4096;

/// How many events are written to a file at a time.
const WRITTEN_AT_ONCE: usize = 256;

/// Query parameters whose values are nobody's business, in lower case.
const SECRET_PARAMETERS: [&str; 4] = ["signature", "x-oss-signature", "security-token", "x-oss-security-token"];

/// One thing that happened. In JSON it is one flat object; what is not there is left out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Counts up from 1 without gaps; a reader who finds a gap was too slow.
    pub number: u64,
    /// RFC 3339, UTC, in milliseconds.
    pub time: String,
    /// The request that it belongs to, as `x-oss-request-id` says in answers and callbacks.
    pub request_id: String,
    /// What happened; in JSON `event` names it.
    #[serde(flatten)]
    pub happened: Happened,
}

/// What an [`Event`] tells. Texts are cut after 4 KiB; signatures and tokens in a query are blotted out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Happened {
    /// A request was received.
    Request {
        /// Its method.
        method: String,
        /// Path and query.
        path: String,
        /// The bucket that it names, as far as can be told before its signature is checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket: Option<String>,
        /// The key, likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// What it asks for, such as `PutObject`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
        /// The bytes of its body, if it announces them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<u64>,
    },
    /// A callback was sent (or would have been, but for its fault).
    Callback {
        /// The URL as the uploader configured it.
        url: String,
        /// Path and query as they stood on the request line.
        path: String,
        /// The body as it was sent.
        body: String,
        /// Its `Content-Type`.
        body_type: String,
        /// The fault that it was sent with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
    /// A callback came to its end.
    CallbackAnswer {
        /// The URL as the uploader configured it.
        url: String,
        /// The status that came back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The body that came back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// Why it failed, in the words in which the uploader hears it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
        /// From the first packet to the last.
        milliseconds: u64,
        /// The fault that it was sent with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
    /// A request was answered.
    Answer {
        /// The status; none if the connection ended without an answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// OSS's error code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Since the request was received.
        milliseconds: u64,
        /// The fault that struck the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
}

/// The journal of a stand-in, for reading. Clones read the same journal.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

/// The journal, for writing. When it is dropped, readers learn that nothing more will come.
pub(crate) struct Recorder(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    /// The number of the newest event.
    last: u64,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Journal").field("last", &self.0.lock().last).finish_non_exhaustive()
    }
}

impl Journal {
    /// All events that are remembered, the newest [`JOURNAL_CAPACITY`], oldest first.
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.newer_than(0)
    }

    /// The events after this number; none if there are none yet.
    pub fn newer_than(&self, number: u64) -> Vec<Arc<Event>> {
        let kept = self.0.lock();
        let first = kept.events.partition_point(|event| event.number <= number);
        kept.events.iter().skip(first).cloned().collect()
    }

    /// Waits until there are events after this number. None means that the stand-in has stopped and there will be none.
    pub async fn wait_for_newer(&self, number: u64) -> Vec<Arc<Event>> {
        let mut changed = self.0.changed.subscribe();
        loop {
            let closed = self.0.lock().closed;
            let events = self.newer_than(number);
            if closed || !events.is_empty() {
                return events;
            }
            // The sender lives as long as this handle.
            let _ = changed.changed().await;
        }
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { kept: Mutex::default(), changed: watch::Sender::new(()) }))
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal(Arc::clone(&self.0))
    }

    /// Writes down what happened now.
    pub(crate) fn record(&self, request_id: &str, happened: Happened) {
        // Always with three digits, so that times stand under each other.
        let time = format!("{:.3}", Timestamp::now());
        let mut kept = self.0.lock();
        kept.last += 1;
        let event = Event { number: kept.last, time, request_id: request_id.to_owned(), happened };
        if kept.events.len() >= JOURNAL_CAPACITY {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::new(event));
        drop(kept);
        self.0.changed.send_replace(());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.send_replace(());
    }
}

/// A request that is being answered: however that ends, the journal has one line about it.
pub(crate) struct Answering<'a> {
    recorder: &'a Recorder,
    request_id: &'a str,
    began: Instant,
    fault: Option<String>,
    outcome: Option<(u16, Option<String>)>,
}

impl<'a> Answering<'a> {
    pub(crate) fn new(recorder: &'a Recorder, request_id: &'a str, fault: Option<String>) -> Self {
        Self { recorder, request_id, began: Instant::now(), fault, outcome: None }
    }

    /// The answer is about to leave.
    pub(crate) fn with(mut self, status: u16, code: Option<&str>) {
        self.outcome = Some((status, code.map(str::to_owned)));
    }
}

impl Drop for Answering<'_> {
    /// Without an outcome the connection was cut, by a fault or by the client.
    fn drop(&mut self) {
        let (status, code) = self.outcome.take().unzip();
        let milliseconds = milliseconds_since(self.began);
        let answer = Happened::Answer { status, code: code.flatten(), milliseconds, fault: self.fault.take() };
        self.recorder.record(self.request_id, answer);
    }
}

pub(crate) fn milliseconds_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A path with its query, fit to be remembered.
pub(crate) fn remembered_path(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else { return remembered(path_and_query.as_bytes()) };
    let pairs: Vec<String> = query.split('&').map(without_secret).collect();
    remembered(format!("{path}?{}", pairs.join("&")).as_bytes())
}

fn without_secret(pair: &str) -> String {
    let Some((name, _)) = pair.split_once('=') else { return pair.to_owned() };
    let decoded = percent_decode_str(name).decode_utf8_lossy().trim().to_ascii_lowercase();
    match SECRET_PARAMETERS.contains(&decoded.as_str()) {
        true => format!("{name}=REDACTED"),
        false => pair.to_owned(),
    }
}

/// The beginning of a text, as far as it is remembered.
pub(crate) fn remembered(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let end = text.floor_char_boundary(LONGEST_TEXT);
    match text.get(..end) {
        Some(beginning) if end < text.len() => format!("{beginning}..."),
        _ => text.into_owned(),
    }
}

/// One event as a line of JSON, with its line end.
pub(crate) fn line(event: &Event) -> String {
    // An event is made of text and numbers, which always can be written.
    let mut line = serde_json::to_string(event).unwrap_or_default();
    line.push('\n');
    line
}

/// Appends every event to a file until the journal is closed.
pub(crate) async fn keep(journal: Journal, file: File) {
    let mut last = 0;
    let file = Arc::new(file);
    loop {
        let events = journal.wait_for_newer(last).await;
        let Some(newest) = events.last().map(|event| event.number) else { return };
        if let Some(missed) = events.first().map(|event| event.number - last - 1).filter(|missed| *missed > 0) {
            tracing::warn!(missed, "the disk was too slow for the journal file");
        }
        last = newest;
        let file = Arc::clone(&file);
        let written = tokio::task::spawn_blocking(move || write(&file, &events)).await.map_err(io::Error::other);
        if let Err(cause) = written.flatten() {
            tracing::error!(%cause, "the journal file cannot be written any more");
            return;
        }
    }
}

fn write(mut file: &File, events: &[Arc<Event>]) -> io::Result<()> {
    events.chunks(WRITTEN_AT_ONCE).try_for_each(|events| {
        let lines: String = events.iter().map(|event| line(event)).collect();
        file.write_all(lines.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn answer(status: u16) -> Happened {
        Happened::Answer { status: Some(status), code: None, milliseconds: 0, fault: None }
    }

    #[test]
    fn only_the_newest_events_are_remembered() {
        let recorder = Recorder::new();
        for _ in 0..JOURNAL_CAPACITY + 5 {
            recorder.record("R", answer(200));
        }
        let numbers: Vec<u64> = recorder.journal().events().iter().map(|event| event.number).collect();
        assert_eq!(numbers, (6..=JOURNAL_CAPACITY as u64 + 5).collect::<Vec<_>>());
        assert_eq!(recorder.journal().newer_than(JOURNAL_CAPACITY as u64 + 3).len(), 2);
        assert_eq!(recorder.journal().newer_than(u64::MAX).len(), 0);
    }

    #[tokio::test]
    async fn who_waits_gets_what_comes_and_then_learns_of_the_end() {
        let recorder = Recorder::new();
        let journal = recorder.journal();
        let (came, ()) = tokio::join!(journal.wait_for_newer(0), async { recorder.record("R", answer(200)) });
        assert_eq!(came.len(), 1);
        let (came, ()) = tokio::join!(journal.wait_for_newer(1), async { drop(recorder) });
        assert!(came.is_empty());
        assert_eq!(journal.wait_for_newer(0).await.len(), 1, "what is there can still be read");
    }

    #[test]
    fn signatures_and_tokens_are_blotted_out_however_they_are_written() {
        for (path, remembered) in [
            ("/b/k", "/b/k"),
            ("/b/k?uploads", "/b/k?uploads"),
            ("/b/k?OSSAccessKeyId=i&Expires=1&Signature=s%3D", "/b/k?OSSAccessKeyId=i&Expires=1&Signature=REDACTED"),
            ("/k?x-oss-signature=s&security-token=t", "/k?x-oss-signature=REDACTED&security-token=REDACTED"),
            ("/k?X-Oss-Security-Token=t&x=1", "/k?X-Oss-Security-Token=REDACTED&x=1"),
            ("/k?%73ignature=s", "/k?%73ignature=REDACTED"),
        ] {
            assert_eq!(remembered_path(path), remembered);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = remembered("ü".repeat(LONGEST_TEXT).as_bytes());
        assert_eq!(text, format!("{}...", "ü".repeat(LONGEST_TEXT / 2)));
        let odd = remembered(format!("x{}", "ü".repeat(LONGEST_TEXT)).as_bytes());
        assert!(odd.len() <= LONGEST_TEXT + 3);
    }

    #[test]
    fn an_event_is_one_flat_object_and_reads_back() {
        let recorder = Recorder::new();
        recorder.record("R", answer(404));
        let events = recorder.journal().events();
        for event in &events {
            let line = line(event);
            let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            assert_eq!(event.time.len(), "2026-11-23T09:41:20.120Z".len(), "{}", event.time);
            assert_eq!((&json["event"], &json["status"], &json["number"]), (&"answer".into(), &404.into(), &1.into()));
            assert_eq!(serde_json::from_str::<Event>(&line).ok().as_ref(), Some(&**event));
        }
    }
}
