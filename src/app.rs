//! The spine: every request goes through [`App::handle`], which names the steps in order and cannot forget to answer.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::callback::Callback;
use crate::error::Failure;
use crate::media::Rules;
use crate::objects::Objects;
use crate::observe::{ObserveError, Observed, Observer, Work};
#[cfg(feature = "server")]
use crate::reconcile::{Reconciler, runs::Runs};
use crate::record::{Lease, Reason, Record, RecordKey, State};
use crate::records::{Put, Records, RecordsError};
use crate::reply::Reply;
use crate::request::{CallbackPaths, Incoming, SignedRequest, request_id};
use crate::route::{Route, Wanted};
use crate::signature::{KeySource, verify};
use crate::trust::{Admitted, AllowList, ApiToken};
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
    /// The most callbacks at a time; further ones are told to try again.
    pub concurrency: usize,
    /// Whether work may go on after the answer: on a server it may, on Lambda nothing runs between requests.
    pub works_after_answer: bool,
    /// Where checkpoints of a run that reconciles are kept, and the name of the store.
    pub checkpoints: Option<(std::path::PathBuf, String)>,
}

/// The function: from a request to its answer.
pub struct App {
    parts: Parts,
    observer: Observer,
    worker: Option<Arc<Worker>>,
    #[cfg(feature = "server")]
    runs: Option<Runs>,
    room: Semaphore,
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
        let observer = Observer::new(Arc::clone(&parts.records), parts.objects.clone(), Arc::clone(&parts.rules));
        let room = Semaphore::new(parts.concurrency);
        #[cfg(feature = "server")]
        let runs =
            worker.as_ref().filter(|_| parts.works_after_answer).zip(parts.objects.clone()).map(|(worker, objects)| {
                let (records, rules) = (Arc::clone(&parts.records), Arc::clone(&parts.rules));
                Runs::new(Reconciler::new(objects, records, rules, Arc::clone(worker)), parts.checkpoints.clone())
            });
        Self {
            parts,
            observer,
            worker,
            #[cfg(feature = "server")]
            runs,
            room,
        }
    }

    /// The runs that reconcile, where there can be any.
    #[cfg(feature = "server")]
    pub const fn runs(&self) -> Option<&Runs> {
        self.runs.as_ref()
    }

    /// Who does the work that is left over; `None` where there is no OSS, and so no work, and where nothing runs after an
    /// answer.
    pub fn pool(&self) -> Option<&Arc<Worker>> {
        self.worker.as_ref().filter(|_| self.parts.works_after_answer)
    }

    /// Time in which every request is answered.
    pub const fn budget(&self) -> Duration {
        self.parts.budget
    }

    /// Answers a request: within the budget, whatever hangs, and even if there is a bug.
    pub async fn handle(&self, incoming: Incoming) -> Reply {
        let received = incoming.received;
        let deadline = tokio::time::Instant::from_std(received + self.parts.budget);
        let request_id = request_id(&incoming.headers);
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
                tracing::info!(status = reply.status.as_u16(), milliseconds, request_id, bucket, object, "{done}");
                reply
            }
            Err(failure) => {
                let (status, code) = (failure.status().as_u16(), failure.code());
                if let Failure::StoreUnavailable { cause } = &failure {
                    tracing::error!(cause, "the record store failed");
                }
                tracing::warn!(status, code, milliseconds, request_id, "refused: {}", failure.message());
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
        if route == Route::Reconcile {
            return self.reconcile(incoming);
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

    /// A run that reconciles: `POST` starts or joins one, `GET` looks at the latest.
    #[cfg(feature = "server")]
    fn reconcile(&self, incoming: Incoming) -> Result<Answer, Failure> {
        let runs = self.runs.as_ref().ok_or(Failure::NoReconciling)?;
        let run = if incoming.method == http::Method::POST {
            let body = incoming.body.whole(self.parts.budget.as_millis())?;
            let request: crate::reconcile::Request =
                serde_json::from_slice(&body).map_err(|error| Failure::BadBody { problem: error.to_string() })?;
            if !self.parts.buckets.covers(&request.bucket, &request.prefix) {
                let named = format!("{}/{}", request.bucket, request.prefix);
                return Err(Failure::BucketNotAllowed { bucket: crate::error::quoted(&named) });
            }
            Some(runs.start_or_join(request).map_err(|_| Failure::Reconciling)?)
        } else {
            runs.latest()
        };
        Ok(Answer { reply: Reply::ok(&serde_json::json!({"run": run})), done: "reconciling", key: None })
    }

    /// Nothing runs after an answer.
    #[cfg(not(feature = "server"))]
    fn reconcile(&self, _: Incoming) -> Result<Answer, Failure> {
        Err(Failure::NoReconciling)
    }

    /// The steps of a callback, in the order in which they may fail. Once the record is written nothing fails any more: what
    /// is not finished in time is answered as it stands.
    async fn callback(&self, incoming: Incoming, candidates: Vec<Vec<u8>>) -> Result<Answer, Failure> {
        let times = self.times(incoming.received);
        let signed = SignedRequest::receive(incoming, candidates, self.parts.budget.as_millis())?;
        let verified = verify(signed, self.parts.keys.as_ref())?;
        let callback = Callback::parse(verified, self.parts.rules.fields())?;
        let admitted = Admitted::judge(callback, &self.parts.buckets)?;
        // Not before: who only pretends to be OSS takes no room from it, and is told so rather than to come again.
        let _room = self.room.try_acquire().map_err(|_| Failure::Busy)?;
        let mut settled = self.settle(&admitted, times.work).await?;
        for _ in 0..ROUNDS {
            let Settled::Recorded(record, lease) = settled else { break };
            let standing = record.clone();
            // In a box, as what follows is what few callbacks need and would make every future large.
            let finish = Box::pin(self.finish(record, lease, times.work));
            settled = match tokio::time::timeout_at(times.last_word, finish).await {
                Ok(finished) => finished,
                Err(_) => Settled::Unfinished(standing, Reason::OutOfTime),
            };
            let Settled::Stands(record) = &settled else { break };
            if record.state != State::Received || record.reason != Some(Reason::ObjectChanged) {
                break;
            }
            // The object changed under the work, so the whole question is new, as long as there is time.
            match tokio::time::timeout_at(times.work, Box::pin(self.settle(&admitted, times.work))).await {
                Ok(Ok(again)) => settled = again,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        if settled.leaves_work()
            && let Some(worker) = self.pool()
        {
            worker.wake();
        }
        let (done, reply) = settled.reply(admitted.key(), admitted.request_id());
        Ok(Answer { reply, done, key: Some(admitted.key().clone()) })
    }

    /// When work is no longer waited for, and when the answer is given as things stand. Where nothing runs after the
    /// answer, giving back the lease must fit between the two.
    fn times(&self, received: Instant) -> Times {
        let budget = self.parts.budget;
        let before = |share: u32| tokio::time::Instant::from_std(received + budget.saturating_sub(budget / share));
        Times { work: before(if self.parts.works_after_answer { 10 } else { 3 }), last_word: before(25) }
    }

    /// Brings the record up to what OSS says; work that is due is begun if it can be expected to end in time.
    async fn settle(&self, admitted: &Admitted, until: tokio::time::Instant) -> Result<Settled, Failure> {
        let lease = self.worker.as_ref().map(|_| Worker::lease());
        let time = until.saturating_duration_since(tokio::time::Instant::now());
        let work = lease.clone().map_or(Work::Leave, |lease| Work::Begin(lease, time));
        let (observed, _) = self.observer.observe(admitted.key(), Some(admitted), &work).await.map_err(unsettled)?;
        Ok(match observed {
            Observed::Gone | Observed::Unasked(_) => Settled::Ignored,
            Observed::Known(record) => match lease {
                Some(lease) => Settled::Recorded(record, lease),
                None => Settled::Stands(record),
            },
            Observed::Repeated(record) => Settled::Stands(record),
            Observed::Claimed(record, reason) => Settled::Unverified(record, reason),
        })
    }

    /// Brings a record to its end if that can be done in time: does the work that is ours, takes over what is due, waits for
    /// what others do. The record itself is safe already, so a store that fails now costs no more than the waiting.
    async fn finish(&self, record: Record, lease: Lease, until: tokio::time::Instant) -> Settled {
        let Some(worker) = &self.worker else { return Settled::Stands(record) };
        let mut standing = record;
        let mut pause = Duration::from_millis(25);
        loop {
            if standing.is_leased_by(&lease.owner) {
                return self.work(worker, standing, lease.owner, until).await;
            }
            let time = until.saturating_duration_since(tokio::time::Instant::now());
            if standing.state == State::Received && !worker.fits(&standing, time) {
                return Settled::Unfinished(standing, Reason::OutOfTime);
            }
            if let Some(next) = standing.lease_early(lease.clone(), Timestamp::now()) {
                match self.parts.records.put(&next, Some(standing.version())).await {
                    Ok(Put::Stored) => standing = next,
                    Ok(Put::Lost(Some(current))) => standing = *current,
                    Ok(Put::Lost(None)) => return Settled::Ignored,
                    Err(error) => return failed_later(standing, &error),
                }
                continue;
            }
            if standing.state != State::Processing {
                return Settled::Stands(standing);
            }
            if tokio::time::Instant::now() + pause >= until {
                return Settled::Unfinished(standing, Reason::LeasedElsewhere);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
            match self.parts.records.get(&standing.key()).await {
                Ok(Some(current)) => standing = current,
                Ok(None) => return Settled::Ignored,
                Err(error) => return failed_later(standing, &error),
            }
        }
    }

    /// Does the work on a record that we hold, as far as there is time.
    async fn work(&self, worker: &Arc<Worker>, record: Record, owner: String, until: tokio::time::Instant) -> Settled {
        let mut task = tokio::spawn({
            let (worker, record, owner) = (Arc::clone(worker), record.clone(), owner.clone());
            async move { worker.work(record, &owner).await }
        });
        match tokio::time::timeout_at(until, &mut task).await {
            Ok(Ok(Ok(done))) => Settled::Stands(done),
            Ok(Ok(Err(error))) => failed_later(record, &error),
            Ok(Err(error)) => {
                tracing::error!(%error, "the work broke off");
                Settled::Unfinished(record, Reason::OutOfTime)
            }
            Err(_) if self.parts.works_after_answer => Settled::Unfinished(record, Reason::OutOfTime),
            Err(_) => {
                task.abort();
                match worker.release(record.clone(), &owner).await {
                    Ok(released) => Settled::Stands(released),
                    Err(error) => failed_later(record, &error),
                }
            }
        }
    }
}

/// The times of one callback.
struct Times {
    /// Until then work is waited for.
    work: tokio::time::Instant,
    /// Then the answer is given, whatever is still going on.
    last_word: tokio::time::Instant,
}

/// How far a callback has come.
enum Settled {
    /// There is no such object.
    Ignored,
    /// Written down; work may be due under this lease.
    Recorded(Record, Lease),
    /// The record says it all.
    Stands(Record),
    /// Recorded, but the work is not at its end, for this reason.
    Unfinished(Record, Reason),
    /// OSS could not be asked: the record with the callback's claims.
    Unverified(Record, Reason),
}

impl Settled {
    /// Whether work is due that nobody has begun.
    fn leaves_work(&self) -> bool {
        match self {
            Self::Recorded(record, _) | Self::Stands(record) | Self::Unfinished(record, _) => {
                record.state == State::Received
            }
            Self::Ignored | Self::Unverified(..) => false,
        }
    }

    /// The answer, and the word for the log.
    fn reply(&self, key: &RecordKey, request_id: Option<&str>) -> (&'static str, Reply) {
        let (record, state, reason) = match self {
            Self::Recorded(record, _) | Self::Stands(record) if record.state != State::Deleted => {
                (record, record.state, record.reason)
            }
            Self::Unfinished(record, reason) => (record, record.state, Some(*reason)),
            Self::Unverified(record, reason) => (record, State::Unverified, Some(*reason)),
            Self::Ignored | Self::Recorded(..) | Self::Stands(_) => {
                return ("ignored", Reply::ignored(&key.bucket, &key.object, request_id));
            }
        };
        (state.as_str(), Reply::recorded(record, state.as_str(), reason, request_id))
    }
}

fn failed_later(record: Record, error: &RecordsError) -> Settled {
    tracing::error!(%error, "the record store failed after the record was written");
    Settled::Unfinished(record, Reason::OutOfTime)
}

fn unsettled(error: ObserveError) -> Failure {
    match error {
        ObserveError::Records(error) => store_failure(error),
        ObserveError::Contended => Failure::Contended,
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
