//! Whatever is uploaded, told twice, told late, never told, dies, fails or jumps: the records follow the bucket.
//!
//! A reference model says what happens to the bucket; the function, all of it but the edge, runs over a real store and is
//! held against the model after every step. Crashes are those of the process: its store is closed as it is and opened anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs
)]

#[path = "model/contents.rs"]
mod contents;
#[path = "model/process.rs"]
mod process;
#[path = "model/properties.rs"]
mod properties;
#[path = "model/reference.rs"]
mod reference;
mod support;
#[path = "model/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use oss_callback::record::{Record, State};
use process::{Answer, Process, Task};
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use reference::{Model, Reach, Rest, Transition, Upload};
use support::Signed;
use tempfile::TempDir;
use world::{BUCKET, World};

/// The function in its world.
struct Function {
    /// `None` only between two lives.
    process: Option<Process>,
    world: Arc<World>,
    directory: TempDir,
    /// The callback of each upload, signed when it is first delivered.
    signed: BTreeMap<usize, Signed>,
}

impl Function {
    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.process = None;
        self.process = Some(Process::start(self.directory.path(), &self.world));
        let stored = self.process().stored();
        self.world.state().settle(&stored);
    }

    /// The records as they are stored.
    fn stored(&self) -> Vec<Record> {
        self.process().stored()
    }

    fn writes(&self) -> usize {
        self.world.state().history.values().map(BTreeMap::len).sum()
    }

    /// OSS signs a callback when there is something to call back about.
    fn sign(&mut self, model: &Model, upload: usize) {
        self.signed.entry(upload).or_insert_with(|| Signed::form(&body(BUCKET, model.uploads[upload], upload)));
    }

    /// Whether somebody, dead perhaps, holds work under a lease: waiting for that takes as long as the budget.
    fn must_wait(&self) -> bool {
        let now = self.world.now();
        self.stored().iter().any(|record| record.lease.as_ref().is_some_and(|lease| lease.until > now))
    }

    /// Does all this at the same time. The answers, or `None` if the process died of it; then it is another one now.
    fn act(&mut self, deliver: &[usize], sweep: bool, reconcile: bool) -> Option<Vec<Answer>> {
        let hasty = !deliver.is_empty() && self.must_wait();
        let signed = deliver.iter().map(|upload| &self.signed[upload]).collect();
        let answers = self.process().act(Task { deliver: signed, sweep, reconcile, hasty });
        if !self.world.is_alive() {
            self.restart();
            return None;
        }
        for answer in answers.iter().flatten() {
            self.stands_behind(answer, hasty);
        }
        answers
    }

    /// I1: what is answered is stored.
    fn stands_behind(&self, answer: &Answer, may_be_late: bool) {
        let refused = answer.status == StatusCode::SERVICE_UNAVAILABLE;
        assert!(answer.status == StatusCode::OK || refused, "{answer:?}");
        assert!(!refused || may_be_late || self.world.was_disturbed(), "nothing was wrong: {answer:?}");
        if refused || answer.body["status"] == "ignored" {
            return;
        }
        let stored = self.stored();
        let record = stored.iter().find(|record| answer.body["object"] == record.object.as_str());
        assert!(record.is_some(), "I1: {answer:?} is not stored");
    }

    /// I7: a callback that was answered before is answered the same way, and changes nothing.
    fn repeats(&mut self, upload: usize, answer: &Answer) {
        let writes = self.writes();
        let again = self.act(&[upload], false, false).expect("nothing kills it");
        assert_eq!(again, std::slice::from_ref(answer), "I7");
        assert_eq!(self.writes(), writes, "I7: a duplicate is written down");
    }

    /// A callback that nothing interferes with.
    fn delivered_alone(&mut self, model: &Model, upload: usize, answer: &Answer) {
        let Upload { key, says_etag, .. } = model.uploads[upload];
        assert_eq!(answer.status, StatusCode::OK);
        let Some(object) = self.world.state().objects.get(&contents::key_of(key)).cloned() else {
            assert_eq!(answer.body["status"], "ignored", "it is gone");
            return self.repeats(upload, answer);
        };
        assert_eq!(answer.body["etag"], object.etag(), "I2 at once: {answer:?}");
        assert_eq!(answer.body["confirmed"], true);
        let stored = self.stored();
        let record = stored.iter().find(|record| record.key() == contents::key_of(key)).unwrap();
        if record.due().is_some() {
            return;
        }
        self.repeats(upload, answer);
        if says_etag && contents::bytes(model.uploads[upload].version.content) == object.bytes {
            // OSS confirmed that once, so it need not be there to confirm it again.
            self.world.state().reach = Reach::Down;
            self.repeats(upload, answer);
            self.world.state().reach = model.reach;
        }
    }

    /// I8: nobody is asked about what nobody signed, or what is not about our bucket.
    fn forged(&self, model: &Model, upload: usize, signed: bool) {
        let callback = if signed {
            Signed::form(&body("somebody-elses", model.uploads[upload], upload))
        } else {
            let mut callback = Signed::form(&body(BUCKET, model.uploads[upload], upload));
            callback.body.extend_from_slice(b"0");
            callback
        };
        let calls = self.world.state().calls;
        let answers = self.process().act(Task { deliver: vec![&callback], ..Task::default() }).unwrap();
        assert!(answers.iter().all(|answer| answer.status == StatusCode::FORBIDDEN), "I8: {answers:?}");
        assert_eq!(self.world.state().calls, calls, "I8: somebody was asked");
    }

    /// Whatever was wrong ends.
    fn rest(&mut self, model: &Model, rest: Rest) {
        self.world.prepare(None, 0);
        self.world.state().reach = Reach::Up;
        self.world.jump(4000);
        if rest == Rest::Delivered {
            for upload in 0..model.uploads.len() {
                self.sign(model, upload);
                self.act(&[upload], false, false);
            }
        }
        for round in 0.. {
            assert!(round < 40, "there is no rest: {:?}", self.stored());
            self.world.jump(4000);
            self.act(&[], true, rest == Rest::Reconciled);
            if self.stored().iter().all(|record| record.due().is_none()) && self.world.is_alive() {
                break;
            }
        }
        let stored = self.stored();
        properties::hold_at_rest(&self.world.state(), model, &stored, rest == Rest::Delivered);
        if rest == Rest::Reconciled {
            let writes = self.writes();
            self.act(&[], true, true).expect("nothing kills it");
            assert_eq!(self.writes(), writes, "I10: reconciling again writes something");
        }
    }
}

/// What OSS says of an upload.
fn body(bucket: &str, upload: Upload, number: usize) -> String {
    let content = upload.version.content;
    let bytes = contents::bytes(content);
    let etag = if upload.says_etag { format!("&etag={}", world::etag(&bytes)) } else { String::new() };
    let object = contents::key_of(upload.key).object;
    let (size, mime) = (bytes.len(), contents::mime(content));
    format!("bucket={bucket}&object={object}{etag}&size={size}&mimeType={mime}&reqId={number:024X}")
}

impl StateMachineTest for Function {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = World::new(model.second);
        let process = Some(Process::start(directory.path(), &world));
        Self { process, world, directory, signed: BTreeMap::new() }
    }

    fn apply(mut function: Self, model: &Model, transition: Transition) -> Self {
        match transition {
            Transition::Upload(upload) => function.world.state().upload(upload),
            Transition::Delete { key } => function.world.state().delete(key),
            Transition::Oss(reach) => function.world.state().reach = reach,
            Transition::Jump(seconds) => function.world.jump(seconds),
            Transition::Restart => function.restart(),
            Transition::Forge { upload, signed } => function.forged(model, upload, signed),
            Transition::Rest(rest) => function.rest(model, rest),
            Transition::Act { deliver, sweep, reconcile, ambush, pace } => {
                for upload in &deliver {
                    function.sign(model, *upload);
                }
                let swept_from = function.world.now();
                function.world.prepare(ambush, pace);
                let answers = function.act(&deliver, sweep, reconcile);
                if function.world.spring_ambush() {
                    function.restart();
                }
                let undisturbed = answers.is_some() && ambush.is_none() && model.reach == Reach::Up;
                if sweep && answers.is_some() && ambush.is_none() {
                    for record in function.stored() {
                        let abandoned = record.lease.as_ref().is_some_and(|lease| lease.until <= swept_from);
                        assert!(!abandoned, "I6: a lease ran out and nobody cares: {record:?}");
                        let left =
                            undisturbed && deliver.is_empty() && record.due().is_some_and(|due| due <= swept_from);
                        assert!(!left, "what is due was not done: {record:?}");
                    }
                }
                if let ([upload], Some([answer])) = (deliver.as_slice(), answers.as_deref())
                    && undisturbed
                    && !sweep
                    && !reconcile
                    && answer.status == StatusCode::OK
                {
                    function.delivered_alone(model, *upload, answer);
                }
            }
        }
        function
    }

    fn check_invariants(function: &Self, model: &Model) {
        let stored = function.stored();
        properties::hold_always(&function.world.state(), model, &stored);
    }

    fn teardown(mut function: Self, model: Model) {
        // As if somebody came to look after all.
        let model = <Model as ReferenceStateMachine>::apply(model, &Transition::Rest(Rest::Reconciled));
        function.rest(&model, Rest::Reconciled);
        Self::check_invariants(&function, &model);
        assert!(function.stored().iter().all(|record| record.state != State::Unverified));
    }
}

/// As many cases as fit into a run of all tests, or as `PROPTEST_CASES` says.
fn config() -> Config {
    let asked = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 };
    Config { cases, failure_persistence: None, ..asked }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn the_records_follow_the_bucket_whatever_happens(sequential 1..30 => Function);
}
