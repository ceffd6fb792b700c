//! The spine: every request goes through [`App::handle`], which names the steps in order and cannot forget to answer.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use crate::callback::Callback;
use crate::error::Failure;
use crate::media::{Action, Rules};
use crate::objects::Objects;
use crate::record::{Facts, Lease, Plan, Reason, Record, RecordKey, State, Transition};
use crate::records::{Put, Records, RecordsError};
use crate::reply::Reply;
use crate::request::{CallbackPaths, Incoming, SignedRequest};
use crate::route::{Route, Wanted};
use crate::signature::{KeySource, verify};
use crate::trust::{self, Admitted, AllowList, ApiToken, Confirmation, Confirmed};
use crate::worker::Worker;

/// How often a callback is judged anew when another writer was faster.
const ROUNDS: u32 = 16;

/// The parts that an [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Paths of `callbackUrl`.
    pub paths: CallbackPaths,
    /// The trusted keys.
    pub keys: Box<dyn KeySource>,
    /// The allow-list.
    pub buckets: AllowList,
    /// What is done with which object.
    pub rules: Arc<Rules>,
    /// The store.
    pub records: Arc<dyn Records>,
    /// OSS; without it nothing is confirmed.
    pub objects: Option<Arc<dyn Objects>>,
    /// Token of the read routes; without it they do not exist.
    pub api_token: Option<ApiToken>,
    /// Time in which every request is answered.
    pub budget: Duration,
    /// Whether work may go on after the answer: on a server it may, on Lambda nothing runs between requests.
    pub works_after_answer: bool,
}

/// The function: from a request to its answer.
pub struct App {
    parts: Parts,
    worker: Option<Arc<Worker>>,
}

impl fmt::Debug for App {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("App").field(&self.parts).finish()
    }
}

/// What a request had to say in the end, for its one line in the log.
struct Answer {
    reply: Reply,
    /// What was done, in a word.
    done: &'static str,
    /// What it was about.
    key: Option<RecordKey>,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let worker = parts
            .objects
            .clone()
            .map(|objects| Arc::new(Worker::new(objects, Arc::clone(&parts.records), Arc::clone(&parts.rules))));
        Self { parts, worker }
    }

    /// Time in which every request is answered.
    pub const fn budget(&self) -> Duration {
        self.parts.budget
    }

    /// Answers a request: within the budget, whatever hangs, and even if there is a bug.
    pub async fn handle(&self, incoming: Incoming) -> Reply {
        let received = incoming.received;
        let deadline = tokio::time::Instant::from_std(received + self.parts.budget);
        let answered = AssertUnwindSafe(self.answer(incoming)).catch_unwind();
        let answer = match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Internal),
            Err(_) => Err(Failure::Timeout { budget_ms: self.parts.budget.as_millis() }),
        };
        let milliseconds = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(Answer { reply, done, key }) => {
                let (bucket, object) = key.as_ref().map(|key| (key.bucket.as_str(), key.object.as_str())).unzip();
                tracing::info!(status = reply.status.as_u16(), milliseconds, bucket, object, "{done}");
                reply
            }
            Err(failure) => {
                let (status, code) = (failure.status().as_u16(), failure.code());
                if let Failure::StoreUnavailable { cause } = &failure {
                    tracing::error!(cause, "the record store failed");
                }
                tracing::warn!(status, code, milliseconds, "refused: {}", failure.message());
                Reply::from(failure)
            }
        }
    }

    async fn answer(&self, incoming: Incoming) -> Result<Answer, Failure> {
        let route = Route::of(&incoming, &self.parts.paths, self.parts.api_token.is_some())?;
        if let Route::Callback(candidates) = route {
            return self.callback(incoming, candidates).await;
        }
        let authorization = incoming.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !self.parts.api_token.as_ref().is_some_and(|token| token.admits(authorization)) {
            return Err(Failure::Unauthorized);
        }
        match Wanted::of(&incoming)? {
            Wanted::Record(key) => {
                let record = self.parts.records.get(&key).await.map_err(store_failure)?.ok_or(Failure::NoRecord)?;
                Ok(Answer { reply: Reply::ok(&record), done: "record read", key: Some(key) })
            }
            Wanted::Page(query) => {
                let page = self.parts.records.list(&query).await.map_err(store_failure)?;
                Ok(Answer { reply: Reply::ok(&page), done: "records listed", key: None })
            }
        }
    }

    /// The steps of a callback, in the order in which they may fail.
    async fn callback(&self, incoming: Incoming, candidates: Vec<Vec<u8>>) -> Result<Answer, Failure> {
        let received = incoming.received;
        let signed = SignedRequest::receive(incoming, candidates, self.parts.budget.as_millis())?;
        let verified = verify(signed, self.parts.keys.as_ref())?;
        let callback = Callback::parse(verified, self.parts.rules.fields())?;
        let admitted = Admitted::judge(callback, &self.parts.buckets)?;
        let settled = self.settle(&admitted, self.answer_by(received)).await?;
        let key = admitted.key();
        let request_id = admitted.request_id();
        let reply = match &settled {
            Settled::Ignored => Reply::ignored(&key.bucket, &key.object, request_id),
            Settled::Stands(record) => Reply::recorded(record, record.state.as_str(), record.reason, request_id),
            Settled::Unfinished(record, state, reason) => {
                Reply::recorded(record, state.as_str(), Some(*reason), request_id)
            }
        };
        Ok(Answer { reply, done: settled.name(), key: Some(key.clone()) })
    }

    /// When a callback stops waiting for work, so that the answer itself still fits into the budget; where nothing runs
    /// after the answer, so does giving back the lease.
    fn answer_by(&self, received: Instant) -> tokio::time::Instant {
        let margin = self.parts.budget / if self.parts.works_after_answer { 10 } else { 3 };
        tokio::time::Instant::from_std(received + self.parts.budget.saturating_sub(margin))
    }

    /// Read, HEAD, compare and set, until the record describes the object; then the work that is due.
    async fn settle(&self, admitted: &Admitted, answer_by: tokio::time::Instant) -> Result<Settled, Failure> {
        let key = admitted.key();
        let lease = Worker::lease();
        for round in 0..ROUNDS {
            let previous = self.parts.records.get(key).await.map_err(store_failure)?;
            let confirmation = trust::confirm(admitted, self.parts.objects.as_deref()).await;
            let next = self.transition(previous.as_ref(), key, &confirmation, &lease);
            let standing = match next {
                None => previous,
                Some(next) => {
                    let expected = previous.as_ref().map(Record::version);
                    match self.parts.records.put(&next, expected).await.map_err(store_failure)? {
                        Put::Stored => Some(next),
                        Put::Lost(_) => {
                            tokio::time::sleep(jitter(round)).await;
                            continue;
                        }
                    }
                }
            };
            return match (confirmation, standing) {
                (Confirmation::Gone, _) | (_, None) => Ok(Settled::Ignored),
                // What OSS confirmed earlier it need not confirm again for a duplicate.
                (Confirmation::Unverified(claimed, _), Some(record)) if record.is_known_from(&claimed.facts) => {
                    Ok(Settled::Stands(record))
                }
                (Confirmation::Unverified(_, reason), Some(record)) => {
                    Ok(Settled::Unfinished(record, State::Unverified, reason))
                }
                (Confirmation::Known(_), Some(record)) => self.finish(record, lease, answer_by).await,
            };
        }
        Err(Failure::Busy)
    }

    /// What to write, if anything, now that this is known.
    fn transition(
        &self,
        previous: Option<&Record>,
        key: &RecordKey,
        confirmation: &Confirmation,
        lease: &Lease,
    ) -> Option<Record> {
        let now = Timestamp::now();
        let (Confirmed { facts, upload }, plan) = match confirmation {
            Confirmation::Gone => return previous.and_then(|record| record.delete(now)),
            Confirmation::Known(confirmed) => (confirmed, self.plan(key, &confirmed.facts, lease)),
            Confirmation::Unverified(confirmed, reason) => (confirmed, Plan::Verify(*reason)),
        };
        match Record::observe(previous, key, facts, upload.as_ref(), &plan, now) {
            Transition::Write(next) => Some(*next),
            Transition::Unchanged => None,
        }
    }

    /// What is to be done with an object of which this is known.
    fn plan(&self, key: &RecordKey, facts: &Facts, lease: &Lease) -> Plan {
        let size = facts.size.unwrap_or_default();
        match self.parts.rules.action(&key.bucket, &key.object, facts.mime.as_deref(), size) {
            Action::Skip(reason) => Plan::Skip(reason),
            Action::Thumbnails(_) if facts.confirmed && self.worker.is_some() => Plan::Make(lease.clone()),
            Action::Thumbnails(_) | Action::Record => Plan::Record,
        }
    }

    /// Brings a record to its end if that can be done before `answer_by`: does the work that is ours, takes over what is
    /// due, waits for what others do.
    async fn finish(
        &self,
        mut record: Record,
        lease: Lease,
        answer_by: tokio::time::Instant,
    ) -> Result<Settled, Failure> {
        let Some(worker) = &self.worker else { return Ok(Settled::Stands(record)) };
        let mut pause = Duration::from_millis(25);
        loop {
            if record.is_leased_by(&lease.owner) {
                return Ok(self.work(worker, record, lease.owner, answer_by).await);
            }
            if let Some(next) = record.lease(lease.clone(), Timestamp::now()) {
                match self.parts.records.put(&next, Some(record.version())).await.map_err(store_failure)? {
                    Put::Stored => record = next,
                    Put::Lost(Some(current)) => record = *current,
                    Put::Lost(None) => return Ok(Settled::Ignored),
                }
                continue;
            }
            if record.state != State::Processing {
                return Ok(Settled::Stands(record));
            }
            if tokio::time::Instant::now() + pause >= answer_by {
                return Ok(Settled::Unfinished(record, State::Processing, Reason::LeasedElsewhere));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
            match self.parts.records.get(&record.key()).await.map_err(store_failure)? {
                Some(current) => record = current,
                None => return Ok(Settled::Ignored),
            }
        }
    }

    /// Does the work on a record that we hold, as far as there is time. The record itself is safe already.
    async fn work(
        &self,
        worker: &Arc<Worker>,
        record: Record,
        owner: String,
        answer_by: tokio::time::Instant,
    ) -> Settled {
        let mut task = tokio::spawn({
            let (worker, record, owner) = (Arc::clone(worker), record.clone(), owner.clone());
            async move { worker.work(record, &owner).await }
        });
        let unfinished = |record| Settled::Unfinished(record, State::Processing, Reason::OutOfTime);
        match tokio::time::timeout_at(answer_by, &mut task).await {
            Ok(Ok(Ok(done))) => Settled::Stands(done),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "the record store failed at the end of the work");
                unfinished(record)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the work broke off");
                unfinished(record)
            }
            Err(_) if self.parts.works_after_answer => unfinished(record),
            Err(_) => {
                task.abort();
                match worker.release(record.clone(), &owner).await {
                    Ok(released) => Settled::Stands(released),
                    Err(_) => unfinished(record),
                }
            }
        }
    }
}

/// How a callback ended.
enum Settled {
    /// There is no such object, and no record of it.
    Ignored,
    /// The record says it all.
    Stands(Record),
    /// The record, and what this request learned beyond it.
    Unfinished(Record, State, Reason),
}

impl Settled {
    const fn name(&self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Stands(record) => record.state.as_str(),
            Self::Unfinished(_, state, _) => state.as_str(),
        }
    }
}

fn store_failure(error: RecordsError) -> Failure {
    match error {
        RecordsError::BadCursor => {
            Failure::BadField { name: "cursor".to_owned(), problem: "is none that this store gave out".to_owned() }
        }
        error => Failure::StoreUnavailable { cause: error.to_string() },
    }
}

/// A short pause before the next round, longer each time, so that many writers of one key do not keep in step.
fn jitter(round: u32) -> Duration {
    let spread = u64::from(std::process::id()) ^ Timestamp::now().as_nanosecond().unsigned_abs() as u64;
    Duration::from_millis(1 + spread % (4 << round.min(4)))
}
