//! Two workers and two callbacks at one object, in every order in which their requests can reach the store and OSS.
//!
//! Each process is written down here as its requests, one step each, in the order in which `observe`, `worker` and `app` make
//! them; what lies between two requests is the real transition. Beside them the object is overwritten or deleted, leases run
//! out, OSS does not answer, and processes die, at every point. No state is visited twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use jiff::Timestamp;
use oss_callback::record::{
    End, Facts, Lease, MOST_ATTEMPTS, Plan, Reason, Record, RecordKey, State, Thumbnail, ThumbnailState, Transition,
    Upload, Version, lease_until,
};

/// What the bucket has under the key: the versions are `A`, `B`, ... in the order of their uploads.
type Object = Option<char>;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A request with the callback of this version.
    Callback(char),
    /// Somebody who looks after what is due.
    Worker,
    /// Somebody who only compares the record with OSS.
    Reconciler,
}

/// The next request of a process.
#[derive(Debug, Clone)]
enum Next {
    /// Read the record; a worker then sees whether anything is due.
    Read,
    /// Ask OSS what is there, having read this.
    Head(Option<Box<Record>>),
    /// Write what was observed in place of what was read.
    Observe(Option<Version>, Box<Record>),
    /// Take the lease.
    Lease(Version, Box<Record>),
    /// Get the bytes that the record is about.
    Get(Box<Record>),
    /// Store the thumbnail.
    Make(Box<Record>),
    /// Write how the work ended in place of this.
    End(Box<Record>, Outcome),
    /// Nothing more, or dead.
    Nothing,
}

/// How work ended.
#[derive(Debug, Clone, Copy, Hash)]
enum Outcome {
    Made(char),
    Changed,
    Gone,
    Unavailable,
}

#[derive(Debug, Clone)]
struct Process {
    name: &'static str,
    role: Role,
    next: Next,
}

/// What may still go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, Hash)]
struct Luck {
    overwritten: u32,
    deleted: u32,
    /// All leases run out and all pauses are over.
    hours: u32,
    outages: u32,
    deaths: u32,
}

#[derive(Debug, Clone)]
struct World {
    record: Option<Record>,
    object: Object,
    /// Versions of the object that ever were, `None` for a deletion.
    versions: Vec<Object>,
    /// The newest version that a confirmed record was about, as its place among the versions.
    reached: usize,
    thumbnails: BTreeSet<String>,
    processes: Vec<Process>,
    luck: Luck,
    now: Timestamp,
}

const SECOND: i64 = 1_700_000_000;

fn key() -> RecordKey {
    RecordKey::new("examplebucket", "a.png")
}

fn facts(version: char, confirmed: bool) -> Facts {
    Facts {
        etag: Some(version.to_string()),
        size: Some(1),
        mime: Some("image/png".to_owned()),
        // All within one second.
        last_modified: confirmed.then(|| Timestamp::from_second(SECOND).unwrap()),
        version_id: None,
        crc64: None,
        own_output: false,
        confirmed,
    }
}

fn thumbnail_of(version: &str) -> String {
    format!("thumbnails/{version}/small.jpg")
}

fn made(version: char) -> End {
    let line = Thumbnail {
        name: "small".to_owned(),
        state: ThumbnailState::Ready,
        bucket: "examplebucket".to_owned(),
        key: thumbnail_of(&version.to_string()),
        width: Some(1),
        height: Some(1),
        mime: Some("image/jpeg".to_owned()),
        size: Some(1),
        reason: None,
    };
    End::Made { thumbnails: vec![line], remark: None }
}

impl World {
    fn new(object: Object, record: Option<Record>, processes: &[(&'static str, Role)], luck: Luck) -> Self {
        Self {
            record,
            object,
            versions: vec![object],
            reached: 0,
            thumbnails: BTreeSet::new(),
            processes: processes.iter().map(|(name, role)| Process { name, role: *role, next: Next::Read }).collect(),
            luck,
            now: Timestamp::from_second(SECOND).unwrap(),
        }
    }

    /// All worlds that may come next.
    fn successors(&self) -> Vec<Self> {
        let mut successors = Vec::new();
        for number in 0..self.processes.len() {
            if !self.may_go_on(number) {
                continue;
            }
            successors.push(self.after(number, true));
            let asks = matches!(self.processes[number].next, Next::Head(_) | Next::Get(_) | Next::Make(_));
            if asks && self.luck.outages > 0 {
                let mut world = self.after(number, false);
                world.luck.outages -= 1;
                successors.push(world);
            }
            if self.luck.deaths > 0 {
                // Between two requests: before this one, which is after the one before.
                let mut world = self.clone();
                world.luck.deaths -= 1;
                world.processes[number].next = Next::Nothing;
                successors.push(world);
            }
        }
        let changed = |object: Object| {
            let mut world = self.clone();
            world.object = object;
            world.versions.push(object);
            world
        };
        if self.luck.overwritten > 0 {
            let newest = self.versions.iter().flatten().max().map_or('A', |newest| char::from(*newest as u8 + 1));
            let mut world = changed(Some(newest));
            world.luck.overwritten -= 1;
            successors.push(world);
        }
        if self.luck.deleted > 0 && self.object.is_some() {
            let mut world = changed(None);
            world.luck.deleted -= 1;
            successors.push(world);
        }
        if self.luck.hours > 0 {
            let mut world = self.clone();
            world.luck.hours -= 1;
            world.later();
            successors.push(world);
        }
        successors
    }

    fn later(&mut self) {
        self.now += jiff::SignedDuration::from_hours(2);
    }

    /// A callback comes after its upload.
    fn may_go_on(&self, number: usize) -> bool {
        let process = &self.processes[number];
        match (&process.next, process.role) {
            (Next::Nothing, _) => false,
            (_, Role::Callback(version)) => self.versions.contains(&Some(version)),
            _ => true,
        }
    }

    /// The world after the next request of a process, which OSS answers or not.
    fn after(&self, number: usize, answered: bool) -> Self {
        let mut world = self.clone();
        let process = world.processes[number].clone();
        let next = world.request(&process, answered);
        world.processes[number].next = next;
        world
    }

    fn request(&mut self, process: &Process, answered: bool) -> Next {
        let owner = process.name;
        match process.next.clone() {
            Next::Nothing => Next::Nothing,
            Next::Read => {
                let record = self.record.clone();
                if process.role != Role::Worker {
                    return Next::Head(record.map(Box::new));
                }
                let Some(record) = record else { return Next::Nothing };
                if record.due().is_none_or(|due| due > self.now) {
                    return Next::Nothing;
                }
                match record.lease(self.lease(owner), self.now) {
                    Some(next) => Next::Lease(record.version(), Box::new(next)),
                    None => Next::Head(Some(Box::new(record))),
                }
            }
            Next::Head(previous) => self.observed(process, previous.map(|record| *record), answered),
            Next::Observe(expected, next) => {
                if self.put(process, *next.clone(), expected) {
                    self.goes_on(process, *next)
                } else {
                    Next::Read
                }
            }
            Next::Lease(expected, next) => match (self.put(process, *next.clone(), Some(expected)), process.role) {
                (true, _) => self.works(process, *next),
                (false, Role::Worker) => Next::Read,
                (false, _) => self.record.clone().map_or(Next::Nothing, |current| self.goes_on(process, current)),
            },
            Next::Get(record) if !answered => Next::End(record, Outcome::Unavailable),
            Next::Get(record) => match self.object {
                None => Next::End(record, Outcome::Gone),
                Some(version) if record.etag != Some(version.to_string()) => Next::End(record, Outcome::Changed),
                Some(_) => Next::Make(record),
            },
            Next::Make(record) if !answered => Next::End(record, Outcome::Unavailable),
            Next::Make(record) => {
                let version = record.etag.clone().unwrap();
                self.thumbnails.insert(thumbnail_of(&version));
                Next::End(record, Outcome::Made(version.chars().next().unwrap()))
            }
            Next::End(record, outcome) => {
                let ended = match outcome {
                    Outcome::Made(version) => record.commit(owner, made(version), self.now),
                    Outcome::Changed => record.release(owner, Reason::ObjectChanged, Vec::new(), self.now, self.now),
                    Outcome::Unavailable => {
                        let next = record.next_try(self.now, 0);
                        record.release(owner, Reason::OssUnavailable, Vec::new(), next, self.now)
                    }
                    Outcome::Gone => record.gone(owner, self.now),
                };
                let Some(next) = ended else { return Next::Nothing };
                if !self.put(process, next.clone(), Some(record.version())) {
                    // Somebody else was faster: the same again on what stands there now.
                    return self.record.clone().map_or(Next::Nothing, |current| Next::End(Box::new(current), outcome));
                }
                // The object changed under the work: the question is new.
                if next.state == State::Received && matches!(outcome, Outcome::Changed) {
                    Next::Read
                } else {
                    Next::Nothing
                }
            }
        }
    }

    /// What OSS says is held against what was read before.
    fn observed(&self, process: &Process, previous: Option<Record>, answered: bool) -> Next {
        let upload = |version: char| Upload { request_id: Some(version.to_string()), ..Upload::default() };
        let next = match (answered, self.object, process.role) {
            (true, None, _) => previous.as_ref().and_then(|record| record.delete(self.now)),
            (true, Some(version), role) => {
                let told = match role {
                    Role::Callback(told) if told == version => Some(upload(told)),
                    _ => None,
                };
                let plan = match role {
                    Role::Reconciler => Plan::Leave,
                    _ => Plan::Make(self.lease(process.name)),
                };
                self.written(previous.as_ref(), &facts(version, true), told.as_ref(), &plan)
            }
            (false, _, Role::Callback(told)) => {
                let plan = Plan::Verify(Reason::OssUnavailable);
                self.written(previous.as_ref(), &facts(told, false), Some(&upload(told)), &plan)
            }
            (false, _, _) => {
                previous.as_ref().and_then(|record| record.postpone(record.next_try(self.now, 0), self.now))
            }
        };
        match next {
            Some(next) => Next::Observe(previous.map(|record| record.version()), Box::new(next)),
            None if answered => previous.map_or(Next::Nothing, |record| self.goes_on(process, record)),
            None => Next::Nothing,
        }
    }

    fn written(
        &self,
        previous: Option<&Record>,
        facts: &Facts,
        upload: Option<&Upload>,
        plan: &Plan,
    ) -> Option<Record> {
        match Record::observe(previous, &key(), facts, upload, plan, self.now) {
            Transition::Write(next) => Some(*next),
            Transition::Unchanged => None,
        }
    }

    /// What a process does about a record that says what OSS says.
    fn goes_on(&self, process: &Process, record: Record) -> Next {
        if record.is_leased_by(process.name) {
            return Next::Get(Box::new(record));
        }
        let may_lease = matches!(process.role, Role::Callback(_)) && record.confirmed;
        let leased = may_lease.then(|| record.lease_early(self.lease(process.name), self.now)).flatten();
        leased.map_or(Next::Nothing, |next| Next::Lease(record.version(), Box::new(next)))
    }

    fn works(&self, process: &Process, record: Record) -> Next {
        if record.is_leased_by(process.name) { Next::Get(Box::new(record)) } else { Next::Nothing }
    }

    fn lease(&self, owner: &str) -> Lease {
        lease_until(owner, self.now, std::time::Duration::from_secs(60))
    }

    /// A conditional write, as every store does it. What must hold for each write is held here.
    fn put(&mut self, process: &Process, next: Record, expected: Option<Version>) -> bool {
        if self.record.as_ref().map(Record::version) != expected {
            return false;
        }
        let before = self.record.replace(next);
        let next = self.record.as_ref().unwrap();
        if let Some(before) = before {
            assert_eq!(next.revision, before.revision + 1, "I3");
            assert!((before.generation..=before.generation + 1).contains(&next.generation), "I3");
            if let Next::End(..) = process.next {
                assert!(before.is_leased_by(process.name), "{} ends the work of {:?}", process.name, before.lease);
            }
            let taken = matches!(process.next, Next::Lease(..))
                && before.lease.as_ref().is_some_and(|lease| lease.until > self.now);
            assert!(!taken, "{} takes a lease that {:?} holds", process.name, before.lease);
        }
        assert!(next.attempts <= MOST_ATTEMPTS, "I6: {next:?}");
        assert_eq!(next.lease.is_some(), next.state == State::Processing, "{next:?}");
        if next.confirmed && next.state != State::Deleted {
            let version = next.etag.as_deref().and_then(|etag| etag.chars().next());
            let ahead = self.versions.iter().skip(self.reached).position(|known| *known == version);
            self.reached += ahead.unwrap_or_else(|| panic!("I3: {next:?} goes back to an older version"));
        }
        if next.state == State::Ready {
            let key = thumbnail_of(next.etag.as_deref().unwrap());
            assert_eq!(next.thumbnails.iter().map(|line| &line.key).collect::<Vec<_>>(), [&key], "I4 and I5: {next:?}");
            assert!(self.thumbnails.contains(&key), "I4: {key} is not there");
        }
        true
    }

    /// Lets one more process run alone until it has nothing more to do.
    fn alone(&mut self, name: &'static str, role: Role) {
        let mut process = Process { name, role, next: Next::Read };
        for step in 0.. {
            assert!(step < 100, "{name} never ends");
            if matches!(process.next, Next::Nothing) {
                return;
            }
            process.next = self.request(&process, true);
        }
    }

    /// Everybody has ended or died. What then?
    fn at_rest(&self, told: Option<char>) {
        let mut world = self.clone();
        world.later();
        // Without reconciling, if somebody told of what is there.
        if let Some(told) = told {
            world.alone("last", Role::Callback(told));
        } else {
            world.alone("reconciler", Role::Reconciler);
        }
        for round in 0.. {
            assert!(round < 20, "there is no rest: {:?}", world.record);
            world.later();
            world.alone("sweeper", Role::Worker);
            if world.record.as_ref().is_none_or(|record| record.due().is_none()) {
                break;
            }
        }
        let record = world.record.clone();
        match world.object {
            None => assert!(record.is_none_or(|record| record.state == State::Deleted), "I2"),
            Some(version) => {
                let record = record.expect("I2: nobody knows of it");
                assert_eq!(record.etag, Some(version.to_string()), "I2: {record:?}");
                assert!(record.confirmed && !record.recheck, "I2: {record:?}");
                assert_eq!(record.state, State::Ready, "{record:?}");
            }
        }
        // I7 and I10: whoever comes now changes nothing.
        let written = world.record.as_ref().map(Record::version);
        for (name, role) in [("reconciler", Role::Reconciler), ("worker", Role::Worker)] {
            world.alone(name, role);
            assert_eq!(world.record.as_ref().map(Record::version), written, "{name} writes at rest");
        }
        if let Some(told) = told {
            world.alone("duplicate", Role::Callback(told));
            assert_eq!(world.record.as_ref().map(Record::version), written, "I7");
        }
    }

    /// What tells this world from others; what may still go wrong is part of it.
    fn digest(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        (self.object, &self.versions, self.reached, &self.thumbnails, self.now).hash(&mut digest);
        self.luck.hash(&mut digest);
        tell_apart(self.record.as_ref(), &mut digest);
        for Process { name: _, role: _, next } in &self.processes {
            std::mem::discriminant(next).hash(&mut digest);
            match next {
                Next::Read | Next::Nothing => {}
                Next::Head(previous) => tell_apart(previous.as_deref(), &mut digest),
                Next::Observe(expected, record) => {
                    expected.map(|version| version.revision).hash(&mut digest);
                    tell_apart(Some(record), &mut digest);
                }
                Next::Lease(expected, record) => {
                    expected.revision.hash(&mut digest);
                    tell_apart(Some(record), &mut digest);
                }
                Next::Get(record) | Next::Make(record) => tell_apart(Some(record), &mut digest),
                Next::End(record, outcome) => {
                    outcome.hash(&mut digest);
                    tell_apart(Some(record), &mut digest);
                }
            }
        }
        digest.finish()
    }
}

/// What differs between records here. A revision is not enough: what another process is about to write may have the same.
fn tell_apart(record: Option<&Record>, digest: &mut DefaultHasher) {
    let Some(record) = record else { return false.hash(digest) };
    let lease = record.lease.as_ref().map(|lease| (&lease.owner, lease.until));
    (record.generation, record.revision, record.state, record.reason, &record.etag, lease).hash(digest);
    (record.confirmed, record.recheck, &record.request_id, record.last_modified).hash(digest);
    (record.attempts, record.deferrals, record.next_attempt, record.first_seen, record.updated).hash(digest);
    for line in &record.thumbnails {
        line.key.hash(digest);
    }
}

/// Visits every world that can come of this one; how many those are, and how many of them are ends.
fn visit(first: World) -> (usize, usize) {
    let mut seen = HashSet::from([first.digest()]);
    let mut open = vec![first];
    let mut ends = 0;
    while let Some(world) = open.pop() {
        if !(0..world.processes.len()).any(|number| world.may_go_on(number)) {
            ends += 1;
            world.at_rest(None);
            if let Some(version) = world.object {
                world.at_rest(Some(version));
            }
        }
        for next in world.successors() {
            if seen.insert(next.digest()) {
                open.push(next);
            }
        }
    }
    (seen.len(), ends)
}

/// A record of version `A` whose thumbnail nobody has begun.
fn received() -> Record {
    let now = Timestamp::from_second(SECOND).unwrap();
    match Record::observe(None, &key(), &facts('A', true), None, &Plan::Leave, now) {
        Transition::Write(record) => *record,
        Transition::Unchanged => panic!("the first write is one"),
    }
}

fn visit_all(name: &str, first: World) {
    let (worlds, ends) = visit(first);
    assert!(ends > 1, "{name}: nothing happened");
    // Shown with `--nocapture`.
    println!("{name}: {worlds} worlds, {ends} of them ends");
}

#[test]
fn two_workers_at_one_record_whose_object_changes_and_whose_leases_run_out() {
    let luck = Luck { overwritten: 1, deleted: 1, hours: 1, outages: 1, deaths: 1 };
    let processes = [("worker 1", Role::Worker), ("worker 2", Role::Worker)];
    visit_all("two workers", World::new(Some('A'), Some(received()), &processes, luck));
}

#[test]
fn two_callbacks_and_a_worker_at_an_object_that_is_uploaded_twice() {
    let luck = Luck { overwritten: 1, hours: 1, deaths: 1, ..Luck::default() };
    let processes = [("first", Role::Callback('A')), ("second", Role::Callback('B')), ("worker", Role::Worker)];
    visit_all("two callbacks and a worker", World::new(Some('A'), None, &processes, luck));
}

#[test]
fn a_callback_and_its_duplicate_while_oss_comes_and_goes() {
    let luck = Luck { outages: 2, hours: 1, deaths: 1, ..Luck::default() };
    let processes = [("once", Role::Callback('A')), ("twice", Role::Callback('A')), ("worker", Role::Worker)];
    visit_all("a callback and its duplicate", World::new(Some('A'), None, &processes, luck));
}

#[test]
fn a_callback_between_two_workers_while_the_object_is_overwritten() {
    let luck = Luck { overwritten: 1, hours: 1, ..Luck::default() };
    let processes = [("worker 1", Role::Worker), ("worker 2", Role::Worker), ("second", Role::Callback('B'))];
    visit_all("a callback between two workers", World::new(Some('A'), Some(received()), &processes, luck));
}

#[test]
fn somebody_reconciles_while_callbacks_arrive_and_the_object_goes() {
    let luck = Luck { overwritten: 1, deleted: 1, hours: 1, ..Luck::default() };
    let processes = [("first", Role::Callback('A')), ("second", Role::Callback('B')), ("all", Role::Reconciler)];
    visit_all("callbacks beside reconciling", World::new(Some('A'), None, &processes, luck));
}
