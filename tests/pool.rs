//! Work that was left over is done without another callback: by the pool of a server or by the functions on Lambda, beside
//! a stand-in for OSS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oss_callback::config::{Config, Purpose, Source};
use oss_callback::lambda::work::{attend_batch, sweep};
use oss_callback::record::{Facts, Lease, Plan, Reason, Record, RecordKey, State, Transition};
use oss_callback::records::embedded::Embedded;
use oss_callback::records::{Put, Records as _};
use oss_callback::wire;
use oss_callback::worker::Worker;
use serde_json::{Value, json};
use support::world::{BUCKET, World, png};
use support::{Signed, send, settings};

/// A record of this picture under a lease, as a process leaves it that is killed at work.
fn leased(key: &str, etag: &str, bytes: &[u8], until: Timestamp) -> Record {
    let facts = Facts {
        etag: Some(etag.to_owned()),
        size: Some(bytes.len() as u64),
        mime: Some("image/png".to_owned()),
        last_modified: None,
        version_id: None,
        crc64: None,
        own_output: false,
        confirmed: true,
    };
    let lease = Lease { owner: "killed".to_owned(), until };
    let began = Timestamp::UNIX_EPOCH;
    match Record::observe(None, &RecordKey::new(BUCKET, key), &facts, None, &Plan::Make(lease), began) {
        Transition::Write(record) => *record,
        Transition::Unchanged => panic!("the first observation is written"),
    }
}

fn status_and_reason(answer: &Value) -> (Option<&str>, Option<&str>) {
    (answer["status"].as_str(), answer["reason"].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_oss_kept_from_being_done_is_done_by_itself_once_oss_answers_again() {
    let world =
        World::new(&["status=503,operation=HeadObject,prefix=a", "status=503,operation=GetObject,prefix=b"]).await;
    let server = world.serve(&[]).await;
    for key in ["a.png", "b.png"] {
        world.put(key, "image/png", &png()).await;
    }
    let answer = server.callback("object=a.png&reqId=R").await.json();
    assert_eq!(status_and_reason(&answer), (Some("unverified"), Some("oss_unavailable")), "{answer}");
    let answer = server.callback("object=b.png&reqId=R").await.json();
    assert_eq!(status_and_reason(&answer), (Some("received"), Some("oss_unavailable")), "{answer}");

    world.standin.clear_faults();
    for key in ["a.png", "b.png"] {
        let record = server.until(key, "ready").await;
        assert_eq!(
            (record["confirmed"].as_bool(), record["generation"].as_u64(), record["attempts"].as_u64()),
            (Some(true), Some(1), Some(1)),
            "{record}"
        );
        assert_eq!(record["next_attempt"], Value::Null);
        world.assert_has_thumbnails(&record).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_deleted_before_oss_could_be_asked_becomes_a_tombstone_by_itself() {
    let world = World::new(&["status=503,operation=HeadObject"]).await;
    let server = world.serve(&[]).await;
    assert_eq!(server.callback("object=gone.png&reqId=R").await.outcome(), "unverified");
    world.standin.clear_faults();
    server.until("gone.png", "deleted").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_at_work_is_finished_by_the_next_once_its_lease_ran_out_and_not_before() {
    let world = World::new(&[]).await;
    let bytes = png();
    let hour = Duration::from_secs(3600);
    for (key, until) in [("expired.png", Timestamp::now() - hour), ("running.png", Timestamp::now() + hour)] {
        let etag = world.put(key, "image/png", &bytes).await;
        world.write(&leased(key, &etag, &bytes, until)).await;
    }
    // Its time comes while the server runs.
    let etag = world.put("soon.png", "image/png", &bytes).await;
    let soon = Timestamp::now() + Duration::from_secs(3);
    world.write(&leased("soon.png", &etag, &bytes, soon)).await;

    let server = world.serve(&[]).await;
    for key in ["expired.png", "soon.png"] {
        let record = server.until(key, "ready").await;
        assert_eq!((record["attempts"].as_u64(), record["lease"].is_null()), (Some(2), true), "{record}");
        world.assert_has_thumbnails(&record).await;
    }
    assert!(Timestamp::now() > soon);
    server.stop().await;
    let untouched = world.left("running.png").await;
    assert_eq!((untouched.state, untouched.attempts, untouched.revision), (State::Processing, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_begun_too_often_is_not_begun_again() {
    let world = World::new(&[]).await;
    let bytes = png();
    let etag = world.put("poison.png", "image/png", &bytes).await;
    world.write(&Record { attempts: 5, ..leased("poison.png", &etag, &bytes, Timestamp::UNIX_EPOCH) }).await;
    let server = world.serve(&[]).await;
    let record = server.until("poison.png", "failed").await;
    assert_eq!(record["reason"], "exhausted");
    assert_eq!(world.count("GetObject"), 0, "nobody touches it");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_attempt_made_already_is_not_made_again() {
    let world = World::new(&[]).await;
    let server = world.serve(&[]).await;
    world.put("o.png", "image/png", &png()).await;
    let sent = server.callback("object=o.png&reqId=R").await.json();
    assert_eq!(sent["status"], "ready", "{sent}");
    server.stop().await;
    // As if OSS had failed between the first thumbnail and the second.
    let mut record = world.left("o.png").await;
    let lost = record.thumbnails.pop().unwrap();
    let half = Record {
        state: State::Received,
        reason: Some(Reason::OssUnavailable),
        revision: record.revision + 1,
        next_attempt: Some(Timestamp::now()),
        ..record.clone()
    };
    let records = Embedded::open(&world.records()).unwrap();
    assert_eq!(records.put(&half, Some(record.version())).await.unwrap(), Put::Stored);
    drop(records);
    let before = world.count("PutObject");

    let server = world.serve(&[]).await;
    let finished = server.until("o.png", "ready").await;
    assert_eq!(finished["thumbnails"].as_array().unwrap().len(), 2, "{finished}");
    assert_eq!(finished["thumbnails"][1]["key"], lost.key);
    assert_eq!(world.count("PutObject"), before + 1, "only what is missing is made");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_too_large_for_the_request_is_answered_at_once_and_made_afterwards() {
    let world = World::new(&[]).await;
    let server = world.serve(&[("OSS_CALLBACK_BUDGET_MS", "1000")]).await;
    let bytes = png();
    world.put("huge.png", "image/png", &bytes).await;
    let huge = "object=huge.png&reqId=R&imageInfo.width=60000&imageInfo.height=60000";
    let answer = server.callback(huge).await.json();
    assert_eq!(status_and_reason(&answer), (Some("received"), Some("out_of_time")), "{answer}");
    let record = server.until("huge.png", "ready").await;
    world.assert_has_thumbnails(&record).await;
    assert_eq!(record["attempts"], 1, "{record}");
    // Nobody says that this one is large, so it is begun within the request, though a busy machine may not end it there.
    world.put("plain.png", "image/png", &bytes).await;
    let answer = server.callback("object=plain.png&reqId=R&imageInfo.width=900&imageInfo.height=600").await;
    assert!(["ready", "processing"].contains(&answer.outcome().as_str()), "{}", answer.json());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_callbacks_than_are_taken_on_are_told_to_try_again() {
    let world = World::new(&["hang,operation=HeadObject,times=1"]).await;
    let server = world.serve(&[("OSS_CALLBACK_CONCURRENCY", "1"), ("OSS_CALLBACK_BUDGET_MS", "3000")]).await;
    world.put("o.txt", "text/plain", b"hello").await;
    let (first, second) = tokio::join!(server.callback("object=o.txt&reqId=R"), async {
        world.until_asked("HeadObject", 1).await;
        assert_eq!(server.record("o.txt").await["error"]["code"], "not_found", "reading has room of its own");
        server.callback("object=o.txt&reqId=S").await
    });
    assert_eq!((second.status, second.outcome().as_str()), (503, "busy"));
    let forged = Signed::form(&format!("bucket={BUCKET}&object=forged.txt")).header("Authorization", Some("AAAA"));
    assert_eq!(send(server.address, &forged.bytes()).await.outcome(), "signature_mismatch", "not told to come again");
    assert!(second.headers["retry-after"].parse::<u32>().is_ok(), "{:?}", second.headers);
    assert_eq!((first.status, first.outcome().as_str()), (200, "unverified"));
    assert_eq!(server.callback("object=o.txt&reqId=R").await.outcome(), "recorded", "there is room again");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_finishes_the_work_in_hand() {
    let world = World::new(&["slow=1s,operation=GetObject"]).await;
    let bytes = png();
    let etag = world.put("o.png", "image/png", &bytes).await;
    world.write(&leased("o.png", &etag, &bytes, Timestamp::UNIX_EPOCH)).await;
    let server = world.serve(&[]).await;
    world.until_asked("GetObject", 1).await;
    server.stop().await;
    assert_eq!(world.left("o.png").await.state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_left_over_records_are_all_done() {
    let world = World::new(&[]).await;
    let bytes = png();
    let etag = world.put("0.png", "image/png", &bytes).await;
    let records = Embedded::open(&world.records()).unwrap();
    let count = 150;
    for number in 0..count {
        let key = format!("{number}.png");
        // The first is there; the others were deleted, which is found out as quickly.
        let record = leased(&key, &etag, &bytes, Timestamp::UNIX_EPOCH);
        assert_eq!(records.put(&record, None).await.unwrap(), Put::Stored);
    }
    drop(records);
    let server = world.serve(&[]).await;
    server.until("0.png", "ready").await;
    for number in 1..count {
        server.until(&format!("{number}.png"), "deleted").await;
    }
    assert_eq!(world.count("GetObject"), count, "each is asked for once");
    server.stop().await;
}

#[tokio::test]
async fn without_oss_there_is_no_pool() {
    let data = tempfile::tempdir().unwrap();
    let app = support::app(&settings(data.path(), &[]));
    assert!(app.pool().is_none());
}

/// The worker that Lambda runs, on the embedded store, which Lambda itself would refuse.
fn worker_of(world: &World) -> Arc<Worker> {
    let endpoint = world.standin.endpoint();
    let oss = [
        ("OSS_ENDPOINT", endpoint.as_str()),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_ACCESS_KEY_ID", "id"),
        ("OSS_ACCESS_KEY_SECRET", "secret"),
    ];
    let settings = settings(&world.records(), &oss);
    let environment = |name: &str| settings.get(name).cloned();
    let source = Source::new(std::collections::BTreeMap::new(), &environment);
    wire::worker(Config::read_worker(&source, Purpose::Server).unwrap()).unwrap()
}

/// A batch as the table's stream brings it: changes of these records, numbered from 1.
fn batch(keys: &[&str]) -> String {
    let change = |(number, key): (usize, &&str)| {
        json!({"eventName": "MODIFY", "eventSource": "aws:dynamodb", "dynamodb": {
            "Keys": {"pk": {"S": format!("{BUCKET}/{key}")}}, "SequenceNumber": (number + 1).to_string(),
            "StreamViewType": "NEW_IMAGE",
        }})
    };
    json!({"Records": keys.iter().enumerate().map(change).collect::<Vec<_>>()}).to_string()
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(30)
}

/// The record of an object whose work was begun so often and always broke off.
async fn broken_off(world: &World, key: &str, bytes: &[u8], attempts: u32) {
    let etag = world.put(key, "image/png", bytes).await;
    let record = leased(key, &etag, bytes, Timestamp::UNIX_EPOCH);
    world.write(&Record { attempts, ..record }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_the_stream_is_done_and_no_record_that_is_itself_at_fault_holds_it_up() {
    let world = World::new(&[]).await;
    broken_off(&world, "good.png", &png(), 1).await;
    broken_off(&world, "damaged.png", &png()[..500], 1).await;
    broken_off(&world, "poison.png", &png(), 5).await;
    let worker = worker_of(&world);
    let keys = ["good.png", "damaged.png", "good.png", "unknown.png", "poison.png"];
    let answer = attend_batch(&worker, &batch(&keys), soon()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    drop(worker);
    for (key, state, reason) in [
        ("good.png", State::Ready, None),
        ("damaged.png", State::Failed, Some(Reason::Undecodable)),
        ("poison.png", State::Failed, Some(Reason::Exhausted)),
    ] {
        let record = world.left(key).await;
        assert_eq!((record.state, record.reason), (state, reason), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_for_which_oss_cannot_be_asked_are_to_be_sent_again() {
    let world = World::new(&["status=503,operation=GetObject,prefix=b"]).await;
    for key in ["a.png", "b.png"] {
        broken_off(&world, key, &png(), 1).await;
    }
    let worker = worker_of(&world);
    let answer = attend_batch(&worker, &batch(&["a.png", "b.png", "b.png"]), soon()).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "3"}]}));
    // Sent again at once, it is not due yet, and nothing is asked of OSS.
    let asked = world.count("GetObject");
    let again = attend_batch(&worker, &batch(&["b.png"]), soon()).await.unwrap();
    assert_eq!((again, world.count("GetObject")), (json!({"batchItemFailures": []}), asked));
    // No time: it stays due, and the stream goes on.
    let none_left = attend_batch(&worker, &batch(&["b.png"]), tokio::time::Instant::now()).await.unwrap();
    assert_eq!(none_left, json!({"batchItemFailures": []}));
    assert!(attend_batch(&worker, "{}", soon()).await.is_err());
    drop(worker);
    let record = world.left("b.png").await;
    assert_eq!((record.state, record.reason), (State::Received, Some(Reason::OssUnavailable)));
    assert_eq!((record.attempts, record.deferrals), (1, 1), "OSS's fault is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_up_what_was_left_and_a_poisoned_record_ends_failed_after_five_attempts() {
    let world = World::new(&[]).await;
    for number in 0..20 {
        broken_off(&world, &format!("left/{number}.png"), &png(), 1).await;
    }
    broken_off(&world, "poison.png", &png(), 5).await;
    let worker = worker_of(&world);
    assert_eq!(sweep(&worker, soon()).await.unwrap(), json!({"attended": 21}));
    assert_eq!(sweep(&worker, soon()).await.unwrap(), json!({"attended": 0}));
    drop(worker);
    for number in 0..20 {
        assert_eq!(world.left(&format!("left/{number}.png")).await.state, State::Ready);
    }
    let poisoned = world.left("poison.png").await;
    assert_eq!((poisoned.state, poisoned.reason, poisoned.attempts), (State::Failed, Some(Reason::Exhausted), 5));
}
