//! One run: through the listing, then through the records; every object is judged, and begun in its order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::checkpoint::{self, Position};
use super::compare::{Cost, Finding, compare};
use super::meter::Meter;
use super::{Event, FAILURES_IN_A_ROW, Found, ReconcileError, Request, Stopped, Tally};
use crate::media::Rules;
use crate::objects::{Listed, Listing, Objects, ObjectsError};
use crate::record::{Record, RecordKey, State};
use crate::records::{Page, Query, Records, RecordsError};
use crate::worker::Worker;

/// How many objects are looked at at a time. Most of that is waiting for the store; pictures are decoded a few at a time.
const AT_A_TIME: usize = 16;

/// Records on one page of the store's listing.
const RECORDS_PER_PAGE: usize = 500;

/// How often what may pass is tried: a page of a listing, a read, one object.
const TRIES: u32 = 3;

/// The pause before the second try; the next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// What a run carries along.
pub(super) struct Run<'a> {
    pub(super) request: &'a Request,
    pub(super) rules: &'a Rules,
    pub(super) objects: &'a dyn Objects,
    pub(super) records: &'a dyn Records,
    pub(super) worker: &'a Worker,
    pub(super) meter: &'a Meter,
    /// The name of the rules in a checkpoint.
    pub(super) rules_name: &'a str,
    /// Objects that were asked about because their records were not listed.
    pub(super) heads: AtomicU64,
    pub(super) stop: &'a AtomicBool,
    pub(super) tell: &'a (dyn Fn(Event<'_>) + Sync),
    pub(super) checkpoint: Option<&'a checkpoint::File>,
}

/// What a run has gathered.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) tally: Tally,
    /// Objects that were looked at, listed or not.
    pub(super) looked: u64,
    /// Hashes of the keys that were listed, in their order at the end; a key is too long to remember millions of.
    seen: Vec<u64>,
    /// What repairs were expected to cost so far.
    expected: Cost,
    /// Objects in a row about which OSS could not be asked.
    failures: u64,
}

/// What is to be said of one object before anything is done.
enum Judged {
    /// Nothing is wrong with it.
    Agrees,
    /// This is, and mending it costs at most so much.
    Wrong(Finding, Cost),
    /// Its record cannot be read.
    Unreadable(String),
    /// It was not looked at.
    NotBegun(Stopped),
}

/// What is done with one object.
enum Begun {
    /// Nothing more.
    Done(Done),
    /// It is repaired.
    Repair(Found),
}

/// What became of one object.
enum Done {
    /// Nothing is wrong with it.
    Agrees,
    /// Something was, and it is repaired, or would be.
    Found(Found),
    /// Not begun: the run stops here.
    NotBegun(Stopped),
}

impl Run<'_> {
    /// All of it, from this position; why it stopped, if it did.
    pub(super) async fn all(
        &self,
        position: Position,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        let (cursor, listed_before) = match position {
            Position::Listing(after) => {
                let before = after.clone();
                if let Some(stopped) = self.list(after, progress).await? {
                    return Ok(Some(stopped));
                }
                self.save(Position::Records(None));
                (None, before.map(Some))
            }
            Position::Records(cursor) => (cursor, Some(None)),
        };
        if let Some(until) = listed_before
            && let Some(stopped) = self.list_again(until.as_deref(), progress).await?
        {
            return Ok(Some(stopped));
        }
        progress.seen.sort_unstable();
        self.compare_records(cursor, progress).await
    }

    /// Goes through the objects of the bucket.
    async fn list(
        &self,
        mut after: Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        loop {
            if let Some(stopped) = self.no_more(progress, Cost { calls: 1, ..Cost::default() }) {
                return Ok(Some(stopped));
            }
            let Listing { objects, more } = self.page(after.as_deref()).await?;
            let end = objects.last().map(|last| self.behind(&last.object));
            let mut sources: Vec<Listed> =
                objects.into_iter().filter(|listed| !self.is_own_output(&listed.object)).collect();
            let room = self.room(progress);
            let cut = sources.len() > room;
            sources.truncate(room);
            let looked = self.look_at(sources, &mut after, progress).await;
            if looked.is_err() {
                self.save(Position::Listing(after.clone()));
            }
            let stopped = looked?.or_else(|| cut.then_some(Stopped::MaxObjects));
            if stopped.is_none() {
                after = end;
            }
            self.save(Position::Listing(after.clone()));
            if stopped.is_some() || !more {
                return Ok(stopped);
            }
        }
    }

    /// Lists once more what an earlier run has listed, up to this key or to the end, only to know what is there: a page costs
    /// less than to ask about its thousand objects.
    async fn list_again(
        &self,
        until: Option<&str>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        let mut after = None;
        loop {
            if let Some(stopped) = self.no_more(progress, Cost { calls: 1, ..Cost::default() }) {
                return Ok(Some(stopped));
            }
            let Listing { objects, more } = self.page(after.as_deref()).await?;
            after = objects.last().map(|last| self.behind(&last.object));
            progress.seen.extend(objects.iter().map(|listed| hash(&listed.object)));
            let reached = until.zip(after.as_deref()).is_some_and(|(until, after)| after >= until);
            if reached || !more {
                return Ok(None);
            }
        }
    }

    fn is_own_output(&self, object: &str) -> bool {
        self.rules.output().owns(&self.request.bucket, object)
    }

    /// Where the listing goes on behind a key: if that is our own output, behind all of it, which is most of many a bucket.
    fn behind(&self, object: &str) -> String {
        if self.is_own_output(object) {
            format!("{}{}", self.rules.output().prefix(), char::MAX)
        } else {
            object.to_owned()
        }
    }

    async fn page(&self, after: Option<&str>) -> Result<Listing, ReconcileError> {
        let Request { bucket, prefix, .. } = self.request;
        let mut tries = 1;
        loop {
            match self.objects.list(bucket, prefix, after).await {
                Ok(page) => return Ok(page),
                Err(ObjectsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                Err(error) => return Err(ReconcileError::Listing { bucket: bucket.clone(), error }),
            }
            tries += 1;
        }
    }

    /// Looks at some objects, in their order; `after` ends up at the last one behind which nothing was left out.
    async fn look_at(
        &self,
        objects: Vec<Listed>,
        after: &mut Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        let expected = Mutex::new(std::mem::take(&mut progress.expected));
        let mut looked = stream::iter(objects)
            .map(|listed| async {
                let judged = self.judge(&listed).await;
                (listed.object, judged)
            })
            .buffered(AT_A_TIME)
            .map(|(object, judged)| {
                // Here, in their order, so that what goes beyond a cap is a rest and not a gap.
                let begun = judged.map(|judged| self.begin(&object, judged, &expected));
                async move {
                    match begun {
                        Ok(begun) => (object, Ok(self.carry_out(begun).await)),
                        Err(error) => (object, Err(error)),
                    }
                }
            })
            .buffered(AT_A_TIME);
        let mut stopped = None;
        while let Some((object, done)) = looked.next().await {
            let done = done?;
            if let (Done::NotBegun(reason), None) = (&done, stopped) {
                stopped = Some(*reason);
            }
            if stopped.is_none() {
                progress.tally.listed += 1;
                progress.looked += 1;
                progress.seen.push(hash(&object));
                *after = Some(object);
            }
            self.note(done, progress)?;
            progress.measure(self.meter, self.request);
            (self.tell)(Event::Progress(&progress.tally));
        }
        drop(looked);
        progress.expected = expected.into_inner().unwrap_or_default();
        Ok(stopped)
    }

    /// Compares an object of the listing with its record.
    async fn judge(&self, listed: &Listed) -> Result<Judged, ReconcileError> {
        let key = RecordKey::new(&self.request.bucket, &listed.object);
        let record = match self.read(&key).await {
            Ok(record) => record,
            Err(RecordsError::Unreadable(problem)) => return Ok(Judged::Unreadable(problem)),
            Err(error) => return Err(error.into()),
        };
        Ok(match compare(listed, record.as_ref(), self.request, self.rules, Timestamp::now()) {
            None => Judged::Agrees,
            Some(finding) => {
                let mime = record.as_ref().and_then(|record| record.mime.as_deref());
                let size = listed.version.as_ref().map(|version| version.size);
                Judged::Wrong(finding, Cost::of_repair(&key, mime, size, self.rules))
            }
        })
    }

    /// What is to be done now, if that stays within what is allowed.
    fn begin(&self, object: &str, judged: Judged, expected: &Mutex<Cost>) -> Begun {
        if self.stop.load(Ordering::Relaxed) {
            return Begun::Done(Done::NotBegun(Stopped::Asked));
        }
        let found = |finding, problem| Found {
            bucket: self.request.bucket.clone(),
            object: object.to_owned(),
            finding,
            state: None,
            problem,
            is_outage: false,
        };
        match judged {
            Judged::Agrees => Begun::Done(Done::Agrees),
            Judged::NotBegun(stopped) => Begun::Done(Done::NotBegun(stopped)),
            Judged::Unreadable(problem) => Begun::Done(Done::Found(found(Finding::InDoubt, Some(problem)))),
            Judged::Wrong(finding, cost) => {
                let mut expected = expected.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(stopped) = self.too_much(&expected.plus(cost)) {
                    return Begun::Done(Done::NotBegun(stopped));
                }
                *expected = expected.plus(cost);
                match self.request.dry_run {
                    true => Begun::Done(Done::Found(found(finding, None))),
                    false => Begun::Repair(found(finding, None)),
                }
            }
        }
    }

    async fn carry_out(&self, begun: Begun) -> Done {
        match begun {
            Begun::Done(done) => done,
            Begun::Repair(found) => Done::Found(self.repair(found).await),
        }
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let mut tries = 1;
        loop {
            match self.records.get(key).await {
                Err(RecordsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                read => return read,
            }
            tries += 1;
        }
    }

    /// Goes through the records: what was not listed may be gone.
    async fn compare_records(
        &self,
        mut cursor: Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        // Only where an earlier run stopped may the store have been made anew since.
        let mut left = cursor.is_some();
        loop {
            let page = self.records_page(cursor.clone(), std::mem::take(&mut left)).await?;
            progress.tally.records += u64::try_from(page.records.len()).unwrap_or_default();
            let mut unlisted: Vec<Record> = page
                .records
                .into_iter()
                .filter(|record| record.state != State::Deleted || record.recheck)
                .filter(|record| !self.is_own_output(&record.object))
                .filter(|record| !progress.was_listed(&record.object))
                .collect();
            let room = self.room(progress);
            let mut stopped = (unlisted.len() > room).then_some(Stopped::MaxObjects);
            unlisted.truncate(room);
            let expected = Mutex::new(std::mem::take(&mut progress.expected));
            let looked: Vec<Done> = stream::iter(unlisted)
                .map(|record| {
                    let refused = self.may_ask(&expected);
                    async move {
                        let judged = match refused {
                            Some(stopped) => Judged::NotBegun(stopped),
                            None => self.look_for(&record).await,
                        };
                        (record.object, judged)
                    }
                })
                .buffered(AT_A_TIME)
                .map(|(object, judged)| self.carry_out(self.begin(&object, judged, &expected)))
                .buffered(AT_A_TIME)
                .collect()
                .await;
            progress.expected = expected.into_inner().unwrap_or_default();
            for done in looked {
                match &done {
                    Done::NotBegun(reason) => stopped = stopped.or(Some(*reason)),
                    Done::Agrees | Done::Found(_) => progress.looked += 1,
                }
                self.note(done, progress)?;
            }
            if stopped.is_none() {
                cursor = page.cursor;
            }
            progress.measure(self.meter, self.request);
            (self.tell)(Event::Progress(&progress.tally));
            if stopped.is_some() || cursor.is_none() {
                return Ok(stopped);
            }
            self.save(Position::Records(cursor.clone()));
        }
    }

    /// A page of records; from the beginning if the store does not know the cursor that an earlier run left.
    async fn records_page(&self, cursor: Option<String>, left: bool) -> Result<Page, RecordsError> {
        let Request { bucket, prefix, .. } = self.request;
        let mut query = Query {
            bucket: Some(bucket.clone()),
            prefix: Some(prefix.clone()).filter(|prefix| !prefix.is_empty()),
            limit: RECORDS_PER_PAGE,
            cursor,
            ..Query::default()
        };
        let mut tries = 1;
        loop {
            match self.records.list(&query).await {
                Err(RecordsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                Err(RecordsError::BadCursor) if left && query.cursor.is_some() => query.cursor = None,
                page => return page,
            }
            tries += 1;
        }
    }

    /// Whether one more object may be asked about; why not, otherwise.
    fn may_ask(&self, expected: &Mutex<Cost>) -> Option<Stopped> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.too_much(&expected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for the object of a record that was not listed.
    async fn look_for(&self, record: &Record) -> Judged {
        let key = record.key();
        let finding = match self.objects.head(&key).await {
            // It has come since.
            Ok(facts) if record.describes(&facts) && !record.is_in_doubt() => return Judged::Agrees,
            Ok(facts) if !record.describes(&facts) => Finding::Stale,
            Err(ObjectsError::NotFound) => Finding::Orphaned,
            Ok(_) | Err(_) => Finding::InDoubt,
        };
        let cost = match finding {
            Finding::Orphaned => Cost { calls: 1, reads: 3, writes: 1, ..Cost::default() },
            _ => Cost::of_repair(&key, record.mime.as_deref(), record.size, self.rules),
        };
        Judged::Wrong(finding, cost)
    }

    async fn repair(&self, found: Found) -> Found {
        let key = RecordKey::new(&found.bucket, &found.object);
        let again = matches!(found.finding, Finding::Failed | Finding::Outdated);
        let mut tries = 1;
        loop {
            match self.worker.repair(&key, again).await {
                Ok(record) => return Found { state: record.map(|record| record.state), ..found },
                // That is about this object: others may be allowed.
                Err(error) if error.is_forbidden() => return Found { problem: Some(error.to_string()), ..found },
                Err(_) if tries < TRIES => {
                    pause(tries).await;
                    tries += 1;
                }
                Err(error) => return Found { problem: Some(error.to_string()), is_outage: true, ..found },
            }
        }
    }

    /// Counts what was found, and tells of it.
    fn note(&self, done: Done, progress: &mut Progress) -> Result<(), ReconcileError> {
        let found = match done {
            Done::Found(found) => found,
            Done::Agrees => {
                progress.failures = 0;
                return Ok(());
            }
            Done::NotBegun(_) => return Ok(()),
        };
        progress.tally.count(found.finding);
        match &found.problem {
            Some(problem) => {
                let (bucket, object) = (found.bucket.as_str(), found.object.as_str());
                tracing::warn!(bucket, object, finding = found.finding.as_str(), problem, "not repaired");
                progress.tally.not_repaired += 1;
                progress.failures = if found.is_outage { progress.failures + 1 } else { 0 };
            }
            None if self.request.dry_run => {}
            None => {
                progress.failures = 0;
                progress.tally.repaired += 1;
                let waits = matches!(found.state, Some(State::Received | State::Processing));
                progress.tally.waiting += u64::from(waits);
            }
        }
        (self.tell)(Event::Found(&found));
        match found.problem {
            Some(problem) if progress.failures >= FAILURES_IN_A_ROW => Err(ReconcileError::Objects(problem)),
            _ => Ok(()),
        }
    }

    /// How many more objects may be looked at.
    fn room(&self, progress: &Progress) -> usize {
        let room = self.request.max_objects.map(|most| most.saturating_sub(progress.looked));
        room.and_then(|room| usize::try_from(room).ok()).unwrap_or(usize::MAX)
    }

    /// Why something of this cost may not be begun.
    fn no_more(&self, progress: &Progress, cost: Cost) -> Option<Stopped> {
        if self.stop.load(Ordering::Relaxed) {
            return Some(Stopped::Asked);
        }
        if self.room(progress) == 0 {
            return Some(Stopped::MaxObjects);
        }
        self.too_much(&progress.expected.plus(cost))
    }

    /// Which cap is exceeded once repairs have cost so much, beside what was spent on looking.
    fn too_much(&self, repairs: &Cost) -> Option<Stopped> {
        let spent = self.meter.spent();
        // In a dry run nothing of it is spent; otherwise some of it is spent already, and must not count twice.
        let looking = spent.lists.saturating_add(self.heads.load(Ordering::Relaxed));
        let calls = looking.saturating_add(repairs.calls).max(spent.calls());
        let bytes = repairs.bytes.max(spent.bytes_read);
        let over = |cap: Option<u64>, amount: u64| cap.is_some_and(|most| amount > most);
        if over(self.request.max_calls, calls) {
            return Some(Stopped::MaxCalls);
        }
        over(self.request.max_bytes, bytes).then_some(Stopped::MaxBytes)
    }

    fn save(&self, position: Position) {
        if let Some(file) = self.checkpoint {
            file.write(self.request, self.rules_name, position);
        }
    }
}

impl Progress {
    /// Whether the listing named it.
    fn was_listed(&self, object: &str) -> bool {
        self.seen.binary_search(&hash(object)).is_ok()
    }

    pub(super) fn measure(&mut self, meter: &Meter, request: &Request) {
        self.tally.spent = meter.spent();
        self.tally.written = self.tally.spent.store_writes;
        self.tally.estimate = request.dry_run.then(|| self.tally.spent.plus(&self.expected));
    }
}

fn hash(object: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

async fn pause(tries: u32) {
    tokio::time::sleep(PAUSE.saturating_mul(1 << tries.saturating_sub(1))).await;
}
