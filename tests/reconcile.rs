//! Reconciling: the built command beside a stand-in for OSS, over the store itself and through the server that holds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use oss_callback::record::{Facts, Lease, Plan, Reason, Record, RecordKey, State, Transition};
use oss_callback::records::embedded::Embedded;
use oss_callback::records::{Query, Records as _};
use oss_standin::Happened;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use support::world::{BUCKET, Running, World, png};
use support::{API_TOKEN, send, settings};

/// What a run ended with.
struct Ran {
    code: Option<i32>,
    found: Vec<Value>,
    finished: Value,
    error: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let is_last = lines.last().is_some_and(|line| line["event"] == "finished");
        let finished = if is_last { lines.pop().unwrap() } else { Value::Null };
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        Self { code: output.status.code(), found: lines, finished, error }
    }

    /// The finding for each object.
    fn findings(&self) -> BTreeMap<&str, &str> {
        self.found.iter().map(|line| (line["object"].as_str().unwrap(), line["finding"].as_str().unwrap())).collect()
    }

    /// These numbers of the last line.
    fn numbers<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        names.map(|name| {
            self.finished[name].as_u64().unwrap_or_else(|| panic!("{name}: {} {}", self.finished, self.error))
        })
    }

    fn assert_complete(&self) {
        assert_eq!(
            (self.code, &self.finished["complete"]),
            (Some(0), &json!(true)),
            "{} {}",
            self.finished,
            self.error
        );
    }
}

fn command(world: &World, arguments: &[&str], more: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oss-callback"));
    command.env_clear().envs(settings(&world.records(), more)).envs(world.oss()).current_dir(world.data.path());
    command.arg("reconcile").args(arguments);
    command
}

async fn reconcile_with(world: &World, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
    let mut command = command(world, arguments, more);
    Ran::of(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
}

async fn reconcile(world: &World, arguments: &[&str]) -> Ran {
    reconcile_with(world, arguments, &[]).await
}

/// Uploads with a callback to the server; whether it was answered.
async fn upload(world: &World, server: &Running, key: &str, mime: &str, bytes: &[u8]) -> bool {
    let callback = json!({
        "callbackUrl": format!("http://{}/callback", server.address),
        "callbackBody": "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}&reqId=${reqId}",
    });
    let head = format!(
        "PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {mime}\r\nx-oss-callback: {}\r\n\
         Content-Length: {}\r\n\r\n",
        STANDARD.encode(callback.to_string()),
        bytes.len()
    );
    let answer = send(world.standin.address(), &[head.as_bytes(), bytes].concat()).await;
    assert!([200, 203].contains(&answer.status), "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    answer.status == 200
}

/// All records, by object, as no server holds them.
async fn all(world: &World) -> BTreeMap<String, Record> {
    let store = Embedded::open(&world.records()).unwrap();
    let mut query = Query { limit: 500, ..Query::default() };
    let mut all = BTreeMap::new();
    loop {
        let page = store.list(&query).await.unwrap();
        all.extend(page.records.into_iter().map(|record| (record.object.clone(), record)));
        match page.cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return all,
        }
    }
}

/// Changes the record of an object behind everybody's back.
async fn change(world: &World, key: &str, change: impl FnOnce(&mut Record)) {
    let store = Embedded::open(&world.records()).unwrap();
    let record = store.get(&RecordKey::new(BUCKET, key)).await.unwrap().unwrap();
    let mut changed = record.clone();
    change(&mut changed);
    changed.revision += 1;
    store.put(&changed, Some(record.version())).await.unwrap();
}

/// How often OSS was asked for each operation since then.
fn asked(world: &World, since: usize) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for event in world.standin.journal().events().iter().skip(since) {
        if let Happened::Request { operation: Some(operation), .. } = &event.happened {
            *asked.entry(operation.to_string()).or_default() += 1;
        }
    }
    asked
}

fn events(world: &World) -> usize {
    world.standin.journal().events().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_uploads_one_run_restores_every_lost_callback_and_the_next_writes_nothing() {
    let world = World::new(&["callback-lost,probability=0.3"]).await;
    let (trust, pem) = world.trust();
    let server = world.serve(&[(trust, pem.as_str())]).await;
    let picture = png();
    let answered: Vec<bool> = stream::iter(0..1000)
        .map(|number| {
            let (world, server, picture) = (&world, &server, &picture);
            async move {
                if number % 25 == 0 {
                    upload(world, server, &format!("{number:04}.png"), "image/png", picture).await
                } else {
                    upload(world, server, &format!("{number:04}.txt"), "text/plain", b"text").await
                }
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let lost = answered.iter().filter(|answered| !**answered).count() as u64;
    assert!((200..400).contains(&lost), "{lost} were lost");

    let listen = server.address.to_string();
    let through = [("OSS_CALLBACK_LISTEN", listen.as_str())];
    let first = reconcile_with(&world, &[BUCKET], &through).await;
    first.assert_complete();
    assert_eq!(first.numbers(["missing", "repaired", "stale", "orphaned", "not_repaired"]), [lost, lost, 0, 0, 0]);
    let second = reconcile_with(&world, &[BUCKET], &through).await;
    second.assert_complete();
    assert_eq!(second.numbers(["missing", "repaired", "written"]), [0, 0, 0], "{}", second.finished);
    server.stop().await;

    let third = reconcile(&world, &[BUCKET]).await;
    third.assert_complete();
    assert_eq!(third.numbers(["written", "records", "listed"]), [0, 1000, 1000], "{}", third.finished);
    let records = all(&world).await;
    assert_eq!(records.len(), 1000);
    for (object, record) in &records {
        let wanted = if object.ends_with(".png") { State::Ready } else { State::Recorded };
        assert_eq!((record.state, record.generation, record.confirmed), (wanted, 1, true), "{record:?}");
        if wanted == State::Ready {
            world.assert_has_thumbnails(&json!(record)).await;
        }
    }
}

/// Objects and records of every kind that can be wrong, beside some that are right.
async fn disorder(world: &World) {
    for key in
        ["gone.txt", "stale.png", "right.png", "right.txt", "doubt.txt", "undone.png", "bad.png", "doubt-gone.txt"]
    {
        let mime = if key.ends_with("png") { "image/png" } else { "text/plain" };
        let bytes = if key == "bad.png" { b"no picture".to_vec() } else { png() };
        world.put(key, mime, &bytes).await;
    }
    reconcile(world, &[BUCKET]).await.assert_complete();
    for gone in ["gone.txt", "doubt-gone.txt"] {
        world.delete(gone).await;
    }
    world.put("stale.png", "image/png", &[&png()[..], b"more"].concat()).await;
    world.put("missing.png", "image/png", &png()).await;
    for doubtful in ["doubt.txt", "doubt-gone.txt"] {
        change(world, doubtful, |record| (record.state, record.confirmed) = (State::Unverified, false)).await;
    }
    change(world, "undone.png", |record| {
        record.state = State::Processing;
        record.thumbnails.clear();
        record.lease = Some(Lease { owner: "killed".to_owned(), until: Timestamp::UNIX_EPOCH });
    })
    .await;
}

const DISORDER: [(&str, &str); 6] = [
    ("doubt-gone.txt", "orphaned"),
    ("doubt.txt", "in_doubt"),
    ("gone.txt", "orphaned"),
    ("missing.png", "missing"),
    ("stale.png", "stale"),
    ("undone.png", "unfinished"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_finds_all_that_is_wrong_says_what_it_costs_and_changes_nothing() {
    let world = World::new(&[]).await;
    disorder(&world).await;
    let before = all(&world).await;
    let start = events(&world);
    let dry = reconcile(&world, &[BUCKET, "--dry-run"]).await;
    dry.assert_complete();
    assert_eq!(dry.findings(), BTreeMap::from(DISORDER));
    assert_eq!(asked(&world, start), BTreeMap::from([("ListObjects".to_owned(), 1), ("HeadObject".to_owned(), 2)]));
    assert_eq!(all(&world).await, before);

    // What was estimated is what it comes to.
    let estimate = dry.finished["estimate"].clone();
    let start = events(&world);
    let real = reconcile(&world, &[BUCKET]).await;
    real.assert_complete();
    assert_eq!(real.findings(), BTreeMap::from(DISORDER));
    let done = asked(&world, start);
    for (operation, name) in
        [("ListObjects", "lists"), ("GetObject", "gets"), ("PutObject", "puts"), ("HeadObject", "heads")]
    {
        let (spent, estimated) = (real.finished["spent"][name].as_u64().unwrap(), estimate[name].as_u64().unwrap());
        assert_eq!(done.get(operation).copied().unwrap_or_default() as u64, spent, "{operation}");
        assert_eq!(estimated, spent, "{name}: {estimate} {}", real.finished["spent"]);
    }
    assert_eq!(estimate["bytes_read"], real.finished["spent"]["bytes_read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_disorder_is_repaired_and_what_is_right_stays_as_it_is() {
    let world = World::new(&[]).await;
    disorder(&world).await;
    let before = all(&world).await;
    let ran = reconcile(&world, &[BUCKET]).await;
    ran.assert_complete();
    assert_eq!(ran.numbers(["missing", "stale", "in_doubt", "unfinished", "orphaned"]), [1, 1, 1, 1, 2]);
    assert_eq!(ran.numbers(["repaired", "waiting", "not_repaired"]), [6, 0, 0], "{}", ran.finished);
    let after = all(&world).await;
    for right in ["right.png", "right.txt", "bad.png"] {
        assert_eq!(before[right], after[right]);
    }
    let states = |key: &str| (after[key].state, after[key].generation);
    assert_eq!(states("gone.txt"), (State::Deleted, 1));
    assert_eq!(states("doubt-gone.txt"), (State::Deleted, 1));
    assert_eq!(states("stale.png"), (State::Ready, 2));
    assert_eq!(states("missing.png"), (State::Ready, 1));
    assert_eq!(states("undone.png"), (State::Ready, 1));
    assert_eq!((states("doubt.txt"), after["doubt.txt"].confirmed), ((State::Recorded, 1), true));
    assert_eq!(after["bad.png"].state, State::Failed);
    for ready in ["stale.png", "missing.png", "undone.png"] {
        world.assert_has_thumbnails(&json!(after[ready])).await;
    }
    let again = reconcile(&world, &[BUCKET]).await;
    again.assert_complete();
    assert_eq!((again.numbers(["written"]), again.found.len()), ([0], 0));

    // What was deleted and comes back is a new version.
    world.put("gone.txt", "text/plain", b"again").await;
    assert_eq!(reconcile(&world, &[BUCKET]).await.findings(), BTreeMap::from([("gone.txt", "missing")]));
    assert_eq!((all(&world).await["gone.txt"].state, all(&world).await["gone.txt"].generation), (State::Recorded, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_store_is_made_again_from_the_bucket_alone() {
    let world = World::new(&[]).await;
    for key in ["a.png", "b.txt"] {
        world.put(key, if key == "a.png" { "image/png" } else { "text/plain" }, &png()).await;
    }
    reconcile(&world, &[BUCKET]).await.assert_complete();
    let before = all(&world).await;
    std::fs::remove_dir_all(world.records()).unwrap();
    reconcile(&world, &[BUCKET]).await.assert_complete();
    let after = all(&world).await;
    for (key, record) in &before {
        assert_eq!(
            (record.state, &record.etag, &record.thumbnails),
            (after[key].state, &after[key].etag, &after[key].thumbnails)
        );
    }
    assert_eq!(after.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_work_and_work_by_other_rules_is_done_again_only_where_that_is_asked_for_and_then_once() {
    let world = World::new(&[]).await;
    world.put("a.png", "image/png", &png()).await;
    world.put("bad.png", "image/png", b"no picture").await;
    world.put("c.txt", "text/plain", b"text").await;
    reconcile(&world, &[BUCKET]).await.assert_complete();

    let failed = reconcile(&world, &[BUCKET, "--failed"]).await;
    failed.assert_complete();
    assert_eq!(failed.findings(), BTreeMap::from([("bad.png", "failed")]));
    let bad = &all(&world).await["bad.png"];
    assert_eq!((bad.state, bad.reason), (State::Failed, Some(Reason::Undecodable)), "{bad:?}");

    let rules = world.data.path().join("rules.toml");
    let text = "[[rule]]\nmime = \"image/*\"\nthumbnails = [{ name = \"tiny\", width = 32, height = 32 }]\n\
                [[rule]]\nmime = \"*/*\"\nrecord = true\n[output]\nprefix = \"small/\"\n";
    std::fs::write(&rules, text).unwrap();
    let ruled = [("OSS_CALLBACK_RULES", rules.to_str().unwrap())];
    let quiet = reconcile_with(&world, &[BUCKET], &ruled).await;
    // Thumbnails of the old rules lie where they are objects like others now; their mark keeps them from being sources.
    quiet.assert_complete();
    assert_eq!(quiet.numbers(["missing", "outdated"]), [2, 0], "{}", quiet.finished);
    let changed = reconcile_with(&world, &[BUCKET, "--rules-changed"], &ruled).await;
    changed.assert_complete();
    assert_eq!(changed.findings(), BTreeMap::from([("a.png", "outdated")]));
    let records = all(&world).await;
    let names: Vec<_> = records["a.png"].thumbnails.iter().map(|line| (line.name.as_str(), line.width)).collect();
    assert_eq!((records["a.png"].state, names), (State::Ready, vec![("tiny", Some(32))]));
    assert_eq!(world.get(&records["a.png"].thumbnails[0].key).await.status, 200);
    for (key, record) in records.iter().filter(|(key, _)| key.starts_with("thumbnails/")) {
        assert_eq!((record.state, record.reason), (State::Skipped, Some(Reason::OwnOutput)), "{key}");
    }
    let again = reconcile_with(&world, &[BUCKET, "--rules-changed"], &ruled).await;
    again.assert_complete();
    assert_eq!(again.numbers(["written", "outdated"]), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stops_at_its_caps_and_the_next_goes_on_there() {
    let world = World::new(&[]).await;
    for number in 0..25 {
        world.put(&format!("{number:02}.png"), "image/png", &png()).await;
    }
    // Of objects: exactly so many.
    for (ran, listed, complete) in [(1, 10, false), (2, 10, false), (3, 5, true)] {
        let run = reconcile(&world, &[BUCKET, "--max-objects", "10"]).await;
        assert_eq!(run.numbers(["listed", "missing", "repaired"]), [listed; 3], "run {ran}: {}", run.finished);
        assert_eq!((run.finished["complete"] == true, run.code), (complete, Some(if complete { 0 } else { 75 })));
        assert_eq!(run.finished["stopped"], if complete { Value::Null } else { json!("max_objects") });
    }
    assert_eq!(all(&world).await.len(), 25);
    let leftover = std::fs::read_dir(world.records()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!leftover.into_iter().any(|name| name.to_string_lossy().contains("reconcile")), "no checkpoint is left");

    // Of requests and bytes: no more than so many.
    std::fs::remove_dir_all(world.records()).unwrap();
    let size = png().len() as u64;
    let bytes = (3 * size).to_string();
    for (option, cap, reason) in [("--max-calls", "14", "max_calls"), ("--max-bytes", bytes.as_str(), "max_bytes")] {
        let start = events(&world);
        let run = reconcile(&world, &[BUCKET, option, cap]).await;
        assert_eq!((run.code, &run.finished["stopped"]), (Some(75), &json!(reason)), "{}", run.finished);
        let [repaired] = run.numbers(["repaired"]);
        assert_eq!(repaired, 3, "{}", run.finished);
        if option == "--max-calls" {
            assert!(asked(&world, start).values().sum::<usize>() <= 14, "{:?}", asked(&world, start));
        } else {
            assert_eq!(run.finished["spent"]["bytes_read"], 3 * size);
        }
    }
    let rest = reconcile(&world, &[BUCKET, "--max-calls", "10000"]).await;
    rest.assert_complete();
    assert_eq!(rest.numbers(["listed", "repaired"]), [19, 19], "{}", rest.finished);
    assert_eq!(reconcile(&world, &[BUCKET]).await.numbers(["listed", "written"]), [25, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_finishes_what_it_has_in_hand_and_the_next_goes_on() {
    let world = World::new(&["slow=300ms,operation=HeadObject"]).await;
    for number in 0..60 {
        world.put(&format!("{number:02}.txt"), "text/plain", b"text").await;
    }
    let mut child = command(&world, &[BUCKET], &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let output = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        lines.read_line(&mut text).unwrap();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        while lines.read_line(&mut text).unwrap() > 0 {}
        let mut output = child.wait_with_output().unwrap();
        output.stdout = text.into_bytes();
        output
    })
    .await
    .unwrap();
    let first = Ran::of(&output);
    assert_eq!(
        (first.code, &first.finished["stopped"]),
        (Some(75), &json!("asked")),
        "{} {}",
        first.finished,
        first.error
    );
    let [repaired] = first.numbers(["repaired"]);
    assert!((1..60).contains(&repaired));
    world.standin.clear_faults();
    let second = reconcile(&world, &[BUCKET]).await;
    second.assert_complete();
    assert_eq!(second.numbers(["missing"]), [60 - repaired], "{}", second.finished);
    assert_eq!(second.numbers(["orphaned", "not_repaired"]), [0, 0]);
    assert_eq!(all(&world).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_fails_is_never_taken_for_an_empty_bucket() {
    for fault in ["status=503,operation=ListObjects", "reset,operation=ListObjects", "truncate,operation=ListObjects"] {
        let world = World::new(&[]).await;
        world.put("a.txt", "text/plain", b"text").await;
        reconcile(&world, &[BUCKET]).await.assert_complete();
        let before = all(&world).await;
        world.standin.add_fault(fault.parse().unwrap());
        let ran = reconcile(&world, &[BUCKET]).await;
        assert_eq!((ran.code, ran.finished), (Some(1), Value::Null), "{fault}");
        assert!(ran.error.contains("cannot be listed"), "{fault}: {}", ran.error);
        assert_eq!(all(&world).await, before, "{fault}");
    }
    let world = World::new(&[]).await;
    let ran = reconcile_with(&world, &["otherbucket"], &[("OSS_CALLBACK_BUCKETS", "otherbucket")]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.error.contains("otherbucket"), "{}", ran.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_be_asked_about_are_told_and_left_for_the_next_run() {
    let world = World::new(&["status=503,operation=HeadObject,prefix=b"]).await;
    for key in ["a.txt", "b.txt", "c.txt"] {
        world.put(key, "text/plain", b"text").await;
    }
    let ran = reconcile(&world, &[BUCKET]).await;
    assert_eq!(ran.code, Some(75), "{}", ran.error);
    assert_eq!(ran.numbers(["missing", "repaired", "not_repaired"]), [3, 2, 1]);
    let problem = ran.found.iter().find(|line| line["object"] == "b.txt").unwrap();
    assert!(problem["problem"].as_str().unwrap().contains("OSS"), "{problem}");
    world.standin.clear_faults();
    let next = reconcile(&world, &[BUCKET]).await;
    next.assert_complete();
    assert_eq!(next.numbers(["missing", "repaired"]), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_whose_thumbnails_cannot_be_stored_are_not_called_repaired() {
    let world = World::new(&["status=503,operation=PutObject,prefix=thumbnails/"]).await;
    world.put("a.png", "image/png", &png()).await;
    let ran = reconcile(&world, &[BUCKET]).await;
    assert_eq!(ran.code, Some(75), "{}", ran.error);
    assert_eq!(ran.numbers(["missing", "repaired", "not_repaired"]), [1, 0, 1], "{}", ran.finished);
    assert!(ran.found[0]["problem"].as_str().unwrap().contains("oss_unavailable"), "{}", ran.found[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_run_listed_and_another_goes_on_from_is_neither_asked_about_one_by_one_nor_taken_for_gone() {
    let world = World::new(&[]).await;
    for number in 0..40 {
        world.put(&format!("{number:02}.txt"), "text/plain", b"text").await;
    }
    reconcile(&world, &[BUCKET]).await.assert_complete();
    world.delete("05.txt").await;
    world.delete("35.txt").await;
    let first = reconcile(&world, &[BUCKET, "--max-objects", "20"]).await;
    assert_eq!((first.code, first.numbers(["listed", "written"])), (Some(75), [20, 0]), "{}", first.finished);
    let start = events(&world);
    let second = reconcile(&world, &[BUCKET]).await;
    second.assert_complete();
    assert_eq!(second.findings(), BTreeMap::from([("05.txt", "orphaned"), ("35.txt", "orphaned")]));
    // The rest of the bucket, its beginning once more, and each of the two asked about before and while it is repaired.
    assert_eq!(asked(&world, start), BTreeMap::from([("ListObjects".to_owned(), 2), ("HeadObject".to_owned(), 4)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_within_which_nothing_can_be_done_is_named_rather_than_tried_for_ever() {
    let world = World::new(&[]).await;
    world.put("a.png", "image/png", &png()).await;
    for (cap, number) in [("--max-bytes", "100"), ("--max-calls", "2"), ("--max-objects", "0")] {
        let ran = reconcile(&world, &[BUCKET, cap, number]).await;
        assert_eq!((ran.code, ran.finished), (Some(1), Value::Null));
        assert!(ran.error.contains(cap), "{}", ran.error);
    }
    reconcile(&world, &[BUCKET]).await.assert_complete();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_found_under_their_prefix_and_nothing_beside_it() {
    let world = World::new(&[]).await;
    let keys = ["p/a b+c%", "p/\u{e4}\u{4e2d}", "p/<&>\"'", "p/\u{1}\u{7f}", "p/..", "p//", "p/?#", "p", "q"];
    for key in keys {
        world.put(&utf8_percent_encode(key, NON_ALPHANUMERIC).to_string(), "text/plain", b"text").await;
    }
    let ran = reconcile(&world, &["examplebucket/p/"]).await;
    ran.assert_complete();
    let wanted: Vec<_> = keys.iter().filter(|key| key.starts_with("p/")).map(|key| (*key).to_owned()).collect();
    let mut recorded: Vec<_> = all(&world).await.into_keys().collect();
    let mut sorted = wanted.clone();
    sorted.sort();
    recorded.sort();
    assert_eq!(recorded, sorted);
    let again = reconcile(&world, &["examplebucket/p/"]).await;
    again.assert_complete();
    assert_eq!(again.numbers(["listed", "records", "written"]), [7, 7, 0], "{}", again.finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_arrive_while_reconciling_make_no_second_generation_and_lose_nothing_they_say() {
    let world = World::new(&[]).await;
    for number in 0..40 {
        world.put(&format!("{number:02}.txt"), "text/plain", b"text").await;
    }
    let server = world.serve(&[]).await;
    let listen = server.address.to_string();
    let through = [("OSS_CALLBACK_LISTEN", listen.as_str())];
    let callbacks = async {
        for number in 0..40 {
            assert_eq!(server.callback(&format!("object={number:02}.txt&reqId=R")).await.outcome(), "recorded");
        }
    };
    let (ran, ()) = tokio::join!(reconcile_with(&world, &[BUCKET], &through), callbacks);
    ran.assert_complete();
    server.stop().await;
    for record in all(&world).await.values() {
        assert_eq!((record.generation, record.request_id.as_deref()), (1, Some("R")), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_one_run_at_a_time_which_whoever_asks_the_same_joins() {
    let world = World::new(&["slow=1s,operation=ListObjects"]).await;
    let server = world.serve(&[]).await;
    let request = async |method: &str, token: &str, body: &Value| {
        let body = body.to_string();
        let head = format!(
            "{method} /reconcile HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send(server.address, head.as_bytes()).await;
        (answer.status, answer.json())
    };
    let asked = json!({"bucket": BUCKET});
    assert_eq!(request("GET", API_TOKEN, &json!("")).await, (200, json!({"run": null})));
    let (status, started) = request("POST", API_TOKEN, &asked).await;
    assert_eq!((status, &started["run"]["state"], &started["run"]["number"]), (200, &json!("running"), &json!(1)));
    assert_eq!(request("POST", API_TOKEN, &asked).await.1["run"]["number"], 1, "joined");
    let (status, refused) = request("POST", API_TOKEN, &json!({"bucket": BUCKET, "failed": true})).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("reconciling")));
    for (body, wanted) in [
        (json!({"bucket": "otherbucket"}), (403, "bucket_not_allowed")),
        (json!({"bucket": BUCKET, "maximum": 1}), (400, "bad_body")),
        (json!({}), (400, "bad_body")),
        (json!([]), (400, "bad_body")),
    ] {
        let (status, answer) = request("POST", API_TOKEN, &body).await;
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), wanted, "{answer}");
    }
    assert_eq!(request("POST", "wrong", &asked).await.0, 401);
    assert_eq!(request("DELETE", API_TOKEN, &asked).await.0, 405);
    loop {
        let (_, latest) = request("GET", API_TOKEN, &json!("")).await;
        if latest["run"]["state"] == "finished" {
            assert_eq!(latest["run"]["complete"], true);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(request("POST", API_TOKEN, &asked).await.1["run"]["number"], 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_it_lacks() {
    let world = World::new(&[]).await;
    let narrow = reconcile_with(&world, &[BUCKET], &[("OSS_CALLBACK_BUCKETS", "examplebucket/photos/")]).await;
    assert_eq!(narrow.code, Some(1));
    assert!(narrow.error.contains("OSS_CALLBACK_BUCKETS"), "{}", narrow.error);
    let mut without = command(&world, &[BUCKET], &[]);
    let without = Ran::of(&without.env_remove("OSS_ENDPOINT").output().unwrap());
    assert!(without.error.contains("OSS_ENDPOINT is not set"), "{}", without.error);
    let server = world.serve(&[]).await;
    let mut held = command(&world, &[BUCKET], &[]);
    let held = Ran::of(&held.env_remove("OSS_CALLBACK_API_TOKEN").output().unwrap());
    assert_eq!(held.code, Some(75));
    assert!(held.error.contains("OSS_CALLBACK_API_TOKEN"), "{}", held.error);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_record_is_confirmed_and_its_thumbnails_made_once_there_are_settings_of_oss() {
    let world = World::new(&[]).await;
    let etag = world.put("a.png", "image/png", &png()).await;
    let facts = Facts {
        etag: Some(etag),
        size: Some(png().len() as u64),
        mime: None,
        last_modified: None,
        version_id: None,
        crc64: None,
        own_output: false,
        confirmed: false,
    };
    let key = RecordKey::new(BUCKET, "a.png");
    match Record::observe(None, &key, &facts, None, &Plan::Record, Timestamp::UNIX_EPOCH) {
        Transition::Write(record) => world.write(&record).await,
        Transition::Unchanged => panic!("the first observation is written"),
    }
    let ran = reconcile(&world, &[BUCKET]).await;
    ran.assert_complete();
    assert_eq!(ran.findings(), BTreeMap::from([("a.png", "in_doubt")]));
    let record = &all(&world).await["a.png"];
    assert_eq!((record.state, record.confirmed, record.generation), (State::Ready, true, 1));
}
