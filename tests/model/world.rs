//! All that outlives the process: the bucket, the store of records, time; and what befalls the process on its way there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use oss_callback::objects::{Listed, ListedVersion, Listing, Objects, ObjectsError};
use oss_callback::record::{Facts, Record, RecordKey, Version};
use oss_callback::records::embedded::Embedded;
use oss_callback::records::{Page, Put, Query, Records, RecordsError};
use tokio::sync::watch;

use super::contents::{self, key_of};
use super::reference::{self, Ambush, Content, Reach, Surprise};

/// The bucket of all objects.
pub const BUCKET: &str = "examplebucket";

/// Few, so that every listing has several pages.
const LISTED_PER_PAGE: usize = 2;

/// An object in OSS.
#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub mime: String,
    pub second: i64,
    /// Whether it kills whoever reads it.
    pub poison: bool,
}

impl Object {
    pub fn etag(&self) -> String {
        etag(&self.bytes)
    }
}

/// The ETag that OSS gives to what was put whole: MD5 in upper case.
pub fn etag(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The state of the world.
pub struct State {
    pub objects: BTreeMap<RecordKey, Object>,
    pub reach: Reach,
    second: i64,
    /// By how much the clock of the process has jumped since the beginning.
    jumped: SignedDuration,
    ambush: Option<Ambush>,
    disturbed: bool,
    /// Two bits for each request to come: how long it takes, so that those who act at the same time fall out of step.
    pace: u64,
    /// Requests to the store and to OSS so far.
    pub calls: u64,
    /// Every record ever written, by its revision.
    pub history: BTreeMap<RecordKey, BTreeMap<u64, Record>>,
    /// Writes that the store has not answered yet.
    pub pending: Vec<Record>,
    /// Those that it had not answered when the process died.
    unheard: Vec<Record>,
    /// The first bytes put under each key.
    made: BTreeMap<RecordKey, Bytes>,
    /// How often reading an object killed the process.
    pub deaths: u32,
    /// What must never happen, and did.
    pub violations: Vec<String>,
}

/// The world.
pub struct World {
    state: Mutex<State>,
    alive: watch::Sender<bool>,
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("World")
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Through,
    /// It fails, and nothing happens.
    Refused,
    /// It takes effect, but nobody hears of it.
    Unheard,
    /// It takes effect, and the process dies.
    Last,
}

impl World {
    pub fn new(second: i64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                reach: Reach::Up,
                second,
                jumped: SignedDuration::ZERO,
                ambush: None,
                disturbed: false,
                pace: 0,
                calls: 0,
                history: BTreeMap::new(),
                pending: Vec::new(),
                unheard: Vec::new(),
                made: BTreeMap::new(),
                deaths: 0,
                violations: Vec::new(),
            }),
            alive: watch::Sender::new(true),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the process takes for the time.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.state().jumped
    }

    pub fn jump(&self, seconds: i64) {
        self.state().jumped += SignedDuration::from_secs(seconds);
    }

    /// Lays an ambush for the next step, or none, and sets the pace of its requests.
    pub fn prepare(&self, ambush: Option<Ambush>, pace: u64) {
        let mut state = self.state();
        state.pace = pace;
        state.disturbed = ambush.is_some();
        state.ambush = ambush;
    }

    /// What was to happen and has not; it happens now. True if the process dies of it.
    pub fn spring_ambush(&self) -> bool {
        let mut state = self.state();
        state.ambush.take().is_some_and(|ambush| state.befall(ambush.surprise) == Fate::Last)
    }

    pub fn is_alive(&self) -> bool {
        *self.alive.borrow()
    }

    pub fn start(&self) {
        let mut state = self.state();
        state.unheard = std::mem::take(&mut state.pending);
        drop(state);
        self.alive.send_replace(true);
    }

    /// Whether anything stood in the way of the last step.
    pub fn was_disturbed(&self) -> bool {
        self.state().disturbed
    }

    /// Until the process dies.
    pub async fn death(&self) {
        // The sender is `self`, so it is not gone.
        let _ = self.alive.subscribe().wait_for(|alive| !alive).await;
    }

    async fn die(&self) -> ! {
        self.alive.send_replace(false);
        std::future::pending::<std::convert::Infallible>().await;
        unreachable!("what is pending does not go on")
    }

    /// The fate of one request; whoever dies before it took effect never comes back from here.
    async fn request(&self) -> Fate {
        let pause = self.state().pause();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let fate = {
            let mut state = self.state();
            state.calls += 1;
            match &mut state.ambush {
                _ if !self.is_alive() => None,
                None => Some(Fate::Through),
                Some(ambush) if ambush.after > 0 => {
                    ambush.after -= 1;
                    Some(Fate::Through)
                }
                Some(Ambush { surprise, .. }) => {
                    let surprise = *surprise;
                    state.ambush = None;
                    (!matches!(surprise, Surprise::Crash { effect: false })).then(|| state.befall(surprise))
                }
            }
        };
        match fate {
            Some(fate) => fate,
            None => self.die().await,
        }
    }
}

impl State {
    /// How long the next request takes.
    fn pause(&mut self) -> Duration {
        self.pace = self.pace.rotate_right(2);
        Duration::from_millis((self.pace & 3) * 2)
    }

    fn befall(&mut self, surprise: Surprise) -> Fate {
        match surprise {
            Surprise::Crash { .. } => return Fate::Last,
            Surprise::Fault { effect } => return if effect { Fate::Unheard } else { Fate::Refused },
            Surprise::Upload(upload) => self.upload(upload),
            Surprise::Delete { key } => self.delete(key),
            Surprise::Outage => self.reach = Reach::Down,
        }
        Fate::Through
    }

    pub fn upload(&mut self, upload: reference::Upload) {
        let reference::Version { content, second } = upload.version;
        self.second = second;
        let object = Object {
            bytes: contents::bytes(content),
            mime: contents::mime(content).to_owned(),
            second,
            poison: content == Content::Poison,
        };
        self.objects.insert(key_of(upload.key), object);
    }

    pub fn delete(&mut self, key: usize) {
        self.objects.remove(&key_of(key));
    }

    /// A record was written.
    fn note(&mut self, record: Record) {
        let history = self.history.entry(record.key()).or_default();
        if let Some(twin) = history.insert(record.revision, record.clone()) {
            self.violations.push(format!("I3: two writes of one revision: {twin:?}, {record:?}"));
        }
    }

    /// What the process had not heard of when it died is there or not; `stored` says.
    pub fn settle(&mut self, stored: &[Record]) {
        for record in std::mem::take(&mut self.unheard) {
            if stored.contains(&record) {
                self.note(record);
            }
        }
    }

    fn answers(&self) -> Result<(), ObjectsError> {
        match self.reach {
            Reach::Up => Ok(()),
            Reach::Down => Err(ObjectsError::Unavailable("it is down".to_owned())),
            Reach::Forbidden => Err(ObjectsError::Forbidden("it does not know us".to_owned())),
        }
    }

    fn find(&self, key: &RecordKey) -> Result<&Object, ObjectsError> {
        self.answers()?;
        self.objects.get(key).ok_or(ObjectsError::NotFound)
    }

    fn store(&mut self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.answers()?;
        let first = self.made.entry(key.clone()).or_insert_with(|| bytes.clone());
        if *first != bytes {
            self.violations.push(format!("I5: {} was made anew with other bytes", key.object));
        }
        let object = Object { bytes, mime: mime.to_owned(), second: self.second, poison: false };
        self.objects.insert(key.clone(), object);
        Ok(())
    }
}

/// OSS as the process sees it.
#[derive(Debug)]
pub struct Oss(pub Arc<World>);

impl Oss {
    async fn ask<T>(&self, answer: impl FnOnce(&mut State) -> Result<T, ObjectsError>) -> Result<T, ObjectsError> {
        let unheard = || Err(ObjectsError::Unavailable("it did not answer".to_owned()));
        match self.0.request().await {
            Fate::Through => answer(&mut self.0.state()),
            Fate::Refused => unheard(),
            Fate::Unheard => {
                let _ = answer(&mut self.0.state());
                unheard()
            }
            Fate::Last => {
                let _ = answer(&mut self.0.state());
                self.0.die().await
            }
        }
    }
}

#[async_trait]
impl Objects for Oss {
    async fn head(&self, key: &RecordKey) -> Result<Facts, ObjectsError> {
        self.ask(|state| {
            state.find(key).map(|object| Facts {
                etag: Some(object.etag()),
                size: Some(object.bytes.len() as u64),
                mime: Some(object.mime.clone()),
                last_modified: Timestamp::from_second(object.second).ok(),
                version_id: None,
                crc64: None,
                own_output: false,
                confirmed: true,
            })
        })
        .await
    }

    async fn get(&self, key: &RecordKey, etag: &str, _: u64) -> Result<Bytes, ObjectsError> {
        let object = self.ask(|state| state.find(key).cloned()).await?;
        if object.etag() != etag {
            return Err(ObjectsError::Changed);
        }
        if object.poison {
            self.0.state().deaths += 1;
            self.0.die().await;
        }
        Ok(object.bytes)
    }

    async fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError> {
        self.ask(|state| {
            state.answers()?;
            let behind = |key: &&RecordKey| after.is_none_or(|after| key.object.as_str() > after);
            let keys = state.objects.keys().filter(|key| key.bucket == bucket && key.object.starts_with(prefix));
            let mut objects: Vec<Listed> = keys
                .filter(behind)
                .map(|key| {
                    let object = &state.objects[key];
                    Listed {
                        object: key.object.clone(),
                        version: Some(ListedVersion {
                            etag: object.etag(),
                            size: object.bytes.len() as u64,
                            last_modified: Timestamp::from_second(object.second).unwrap(),
                        }),
                    }
                })
                .collect();
            let more = objects.len() > LISTED_PER_PAGE;
            objects.truncate(LISTED_PER_PAGE);
            Ok(Listing { objects, more })
        })
        .await
    }

    async fn put(&self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.ask(|state| state.store(key, mime, bytes)).await
    }
}

/// The store as the process sees it: in its own time, so that a jump of its clock moves all that was stored before.
#[derive(Debug)]
pub struct Store {
    pub inner: Arc<Embedded>,
    world: Arc<World>,
}

impl Store {
    pub fn open(directory: &Path, world: &Arc<World>) -> Self {
        Self { inner: Arc::new(Embedded::open(directory).unwrap()), world: Arc::clone(world) }
    }

    /// A stored record in the time of the process.
    fn told(&self, record: Record) -> Record {
        moved(record, -self.world.state().jumped)
    }

    async fn ask<T>(&self, answer: impl Future<Output = Result<T, RecordsError>>) -> Result<T, RecordsError> {
        let unheard = || Err(RecordsError::Unavailable("it did not answer".to_owned()));
        match self.world.request().await {
            Fate::Through => answer.await,
            Fate::Refused => unheard(),
            Fate::Unheard => {
                let _ = answer.await;
                unheard()
            }
            Fate::Last => {
                let _ = answer.await;
                self.world.die().await
            }
        }
    }

    /// Writes, and notes what was written even if nobody waits for the answer any more.
    async fn write(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        let record = moved(record.clone(), self.world.state().jumped);
        self.world.state().pending.push(record.clone());
        let (inner, world) = (Arc::clone(&self.inner), Arc::clone(&self.world));
        let written = tokio::spawn(async move {
            let put = inner.put(&record, expected).await;
            let mut state = world.state();
            state.pending.retain(|pending| *pending != record);
            if matches!(put, Ok(Put::Stored)) {
                state.note(record);
            }
            put
        });
        Ok(match written.await.unwrap()? {
            Put::Lost(Some(current)) => Put::Lost(Some(Box::new(self.told(*current)))),
            put => put,
        })
    }
}

#[async_trait]
impl Records for Store {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let record = self.ask(self.inner.get(key)).await?;
        Ok(record.map(|record| self.told(record)))
    }

    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        self.ask(self.write(record, expected)).await
    }

    async fn list(&self, query: &Query) -> Result<Page, RecordsError> {
        let page = self.ask(self.inner.list(query)).await?;
        Ok(Page { records: page.records.into_iter().map(|record| self.told(record)).collect(), ..page })
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError> {
        let now = now + self.world.state().jumped;
        self.ask(self.inner.due(now, limit)).await
    }
}

/// A record whose times are all later by so much.
fn moved(mut record: Record, by: SignedDuration) -> Record {
    record.first_seen += by;
    record.updated += by;
    for time in record.next_attempt.iter_mut().chain(record.lease.as_mut().map(|lease| &mut lease.until)) {
        *time += by;
    }
    record
}
