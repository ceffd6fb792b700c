//! The function as one process: two receivers and a worker over one store, until it dies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use oss_callback::app::{App, Parts};
use oss_callback::keys::TrustedKeys;
use oss_callback::media::Rules;
use oss_callback::objects::Objects;
use oss_callback::reconcile::{Reconciler, Request};
use oss_callback::record::Record;
use oss_callback::records::{Query, Records};
use oss_callback::request::{Body, CallbackPaths, DeliveredPath, Incoming};
use oss_callback::signature::PublicKey;
use oss_callback::trust::AllowList;
use oss_callback::worker::Worker;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time;

use super::support::{Signed, TEST_KEY_URL, repository};
use super::world::{BUCKET, Oss, Store, World};

/// Long enough for everything that is done in a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// For a request that has to wait for somebody who is dead anyway.
const HASTE: Duration = Duration::from_millis(60);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

/// What is to be done at the same time.
#[derive(Default)]
pub struct Task<'a> {
    pub deliver: Vec<&'a Signed>,
    pub sweep: bool,
    pub reconcile: bool,
    /// Whether to give up waiting for others soon.
    pub hasty: bool,
}

/// The process.
pub struct Process {
    // Dropped first: what it still does ends before the store is closed.
    runtime: Runtime,
    patient: Arc<App>,
    hasty: Arc<App>,
    worker: Arc<Worker>,
    reconciler: Reconciler,
    store: Arc<Store>,
    world: Arc<World>,
}

impl Process {
    pub fn start(directory: &Path, world: &Arc<World>) -> Self {
        world.start();
        let store = Arc::new(Store::open(directory, world));
        let records: Arc<dyn Records> = Arc::clone(&store) as _;
        let objects: Arc<dyn Objects> = Arc::new(Oss(Arc::clone(world)));
        let rules = Arc::new(Rules::built_in());
        let pem = std::fs::read_to_string(repository("tests/support/test-key.pub.pem")).unwrap();
        let key = PublicKey::from_pem(&pem).unwrap();
        let app = |budget| {
            Arc::new(App::new(Parts {
                paths: CallbackPaths::parse("/callback").unwrap(),
                keys: Box::new(TrustedKeys::published().unwrap().with(TEST_KEY_URL, &key)),
                buckets: AllowList::parse(BUCKET).unwrap(),
                rules: Arc::clone(&rules),
                records: Arc::clone(&records),
                objects: Some(Arc::clone(&objects)),
                api_token: None,
                budget,
                concurrency: 256,
                works_after_answer: true,
                checkpoints: None,
            }))
        };
        let worker = Arc::new(Worker::new(Arc::clone(&objects), Arc::clone(&records), Arc::clone(&rules)));
        Self {
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            patient: app(PATIENCE),
            hasty: app(HASTE),
            reconciler: Reconciler::new(objects, records, rules, Arc::clone(&worker)),
            worker,
            store,
            world: Arc::clone(world),
        }
    }

    /// The records as they are stored, once nothing is being written.
    pub fn stored(&self) -> Vec<Record> {
        let query = Query { limit: 100, ..Query::default() };
        let writes = || {
            let state = self.world.state();
            (!state.pending.is_empty(), state.history.values().map(BTreeMap::len).sum::<usize>())
        };
        self.runtime.block_on(async {
            loop {
                let before = writes();
                let records = self.store.inner.list(&query).await.unwrap().records;
                if !before.0 && writes() == before {
                    return records;
                }
                time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    /// Does all this at the same time; the answers, or `None` if the process died of it.
    pub fn act(&self, task: Task<'_>) -> Option<Vec<Answer>> {
        let app = if task.hasty { &self.hasty } else { &self.patient };
        let deliveries = join_all(task.deliver.iter().map(|signed| answer(app, signed)));
        let others = async {
            if task.reconcile {
                self.reconcile().await;
            }
            if task.sweep {
                // Faults are of the world's making; what they left undone is still due.
                let _ = self.worker.sweep(time::Instant::now() + PATIENCE).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.world.death() => None,
                (answers, ()) = join(deliveries, others) => Some(answers),
            }
        })
    }

    /// Brings every record up to what OSS says, whether anybody told of the object or not.
    async fn reconcile(&self) {
        let request = Request { bucket: BUCKET.to_owned(), ..Request::default() };
        // Faults are of the world's making; another run comes.
        let _ = self.reconciler.run(&request, None, &AtomicBool::new(false), &|_| {}).await;
    }
}

async fn answer(app: &App, signed: &Signed) -> Answer {
    let headers: HeaderMap = signed
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let incoming = Incoming {
        received: Instant::now(),
        method: Method::POST,
        path: DeliveredPath::raw(signed.path.clone()),
        query: signed.query.clone(),
        headers,
        body: Body::Whole(Bytes::from(signed.body.clone())),
    };
    let reply = app.handle(incoming).await;
    Answer { status: reply.status, body: serde_json::from_slice(&reply.body).expect("every answer is JSON") }
}
