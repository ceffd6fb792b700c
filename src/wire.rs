//! From settings to the function: the only file that names adapters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, Parts};
use crate::config::{self, Config, Purpose, Store, WorkerConfig};
use crate::keys::TrustedKeys;
use crate::media::Rules;
use crate::objects::Objects;
use crate::objects::oss::{Oss, OssSettings};
use crate::reconcile::Reconciler;
use crate::records::Records;
use crate::worker::Worker;

/// What the requests of a worker take their shares of: nobody waits for its answer.
const WORKER_BUDGET: Duration = Duration::from_secs(20);

/// Why the function cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// Another process holds the store.
    #[error("{0}")]
    StoreInUse(String),
    /// This build lacks what the settings ask for.
    #[error("OSS_CALLBACK_STORE asks for {store}, but this program was built without the feature `{store}`")]
    NotBuilt {
        /// The missing feature.
        store: &'static str,
    },
    /// The built-in key cannot be read.
    #[error(transparent)]
    Key(#[from] crate::signature::KeyError),
}

/// Puts the function together. The embedded store is opened here; nothing else is asked yet.
///
/// # Errors
/// If the store cannot be opened, or this build lacks it.
pub fn app(config: Config) -> Result<App, WireError> {
    let keys = config.keys.iter().fold(TrustedKeys::published()?, |keys, (url, key)| keys.with(url, key));
    warn_of(&config.rules);
    let records = records(&config.store, config.budget, Some(&config.rules))?;
    let checkpoints = checkpoints(&config.store).map(|directory| (directory, config.store.to_string()));
    let objects = config.oss.map(|oss| objects(oss, config.budget));
    Ok(App::new(Parts {
        paths: config.paths,
        keys: Box::new(keys),
        buckets: config.buckets,
        rules: Arc::new(config.rules),
        records,
        objects,
        api_token: config.api_token,
        budget: config.budget,
        concurrency: config.concurrency,
        works_after_answer: config.purpose == Purpose::Server,
        checkpoints,
    }))
}

/// Puts a worker together that does what is left over in the store, without a server.
///
/// # Errors
/// If the store cannot be opened, or this build lacks it.
pub fn worker(config: WorkerConfig) -> Result<Arc<Worker>, WireError> {
    warn_of(&config.rules);
    let records = records(&config.store, WORKER_BUDGET, indexed_beside_a_server(&config))?;
    Ok(Arc::new(Worker::new(objects(config.oss, WORKER_BUDGET), records, Arc::new(config.rules))))
}

/// Puts together what reconciles without a server.
///
/// # Errors
/// If the store cannot be opened, or this build lacks it.
pub fn reconciler(config: WorkerConfig) -> Result<Reconciler, WireError> {
    warn_of(&config.rules);
    let records = records(&config.store, WORKER_BUDGET, indexed_beside_a_server(&config))?;
    let (objects, rules) = (objects(config.oss, WORKER_BUDGET), Arc::new(config.rules));
    let worker = Worker::new(Arc::clone(&objects), Arc::clone(&records), Arc::clone(&rules));
    Ok(Reconciler::new(objects, records, rules, Arc::new(worker)))
}

/// Where checkpoints are kept beside the store, if it has a place of its own on this machine.
pub fn checkpoints(store: &Store) -> Option<PathBuf> {
    match store {
        Store::Embedded(directory) => Some(directory.clone()),
        Store::DynamoDb(_) => None,
    }
}

/// The rules that say what is indexed. An embedded store keeps what its server said: one that helps out need not know.
fn indexed_beside_a_server(config: &WorkerConfig) -> Option<&Rules> {
    matches!(config.store, Store::DynamoDb(_)).then_some(&config.rules)
}

fn warn_of(rules: &Rules) {
    if rules.ask_too_much() {
        tracing::warn!(
            "rules ask for `snapshot` or `transcode`, which this version does not make: such objects are skipped"
        );
    }
}

fn objects(oss: config::Oss, budget: Duration) -> Arc<dyn Objects> {
    Arc::new(Oss::new(OssSettings {
        endpoint: oss.endpoint,
        region: oss.region,
        access_key_id: oss.access_key_id,
        access_key_secret: oss.access_key_secret,
        session_token: oss.session_token,
        request_timeout: share(budget, 30),
    }))
}

/// Opens the store of records, indexed by the custom variables that the rules name. Without rules, which is for reading alone,
/// an embedded store keeps its indexes, and a table is not asked by those of custom variables.
///
/// # Errors
/// If it cannot be opened, or this build lacks it.
pub fn records(store: &Store, budget: Duration, rules: Option<&Rules>) -> Result<Arc<dyn Records>, WireError> {
    let indexed = rules.map(Rules::indexed);
    match store {
        Store::Embedded(directory) => embedded(directory, indexed),
        Store::DynamoDb(settings) => dynamodb(settings, share(budget, 25), indexed.unwrap_or_default()),
    }
}

/// So many hundredths of the budget.
fn share(budget: Duration, hundredths: u32) -> Duration {
    budget * hundredths / 100
}

#[cfg(feature = "embedded")]
fn embedded(directory: &std::path::Path, indexed: Option<&[String]>) -> Result<Arc<dyn Records>, WireError> {
    use crate::records::embedded::{Embedded, OpenError};
    match indexed.map_or_else(|| Embedded::open(directory), |indexed| Embedded::open_indexed(directory, indexed)) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error @ OpenError::InUse { .. }) => Err(WireError::StoreInUse(error.to_string())),
        Err(error) => Err(WireError::Store(error.to_string())),
    }
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: &std::path::Path, _: Option<&[String]>) -> Result<Arc<dyn Records>, WireError> {
    Err(WireError::NotBuilt { store: "embedded" })
}

#[cfg(feature = "dynamodb")]
fn dynamodb(
    settings: &crate::config::DynamoDb,
    timeout: Duration,
    indexed: &[String],
) -> Result<Arc<dyn Records>, WireError> {
    use crate::records::dynamodb::{Credentials, DynamoDb, DynamoDbSettings};
    let credentials = Credentials {
        access_key_id: settings.access_key_id.clone(),
        secret_access_key: settings.secret_access_key.clone(),
        session_token: settings.session_token.clone(),
    };
    let settings_of_table = DynamoDbSettings {
        endpoint: settings.endpoint.clone(),
        operation_timeout: timeout,
        attempt_timeout: share(timeout, 50),
        connect_timeout: share(timeout, 40),
        indexed: indexed.to_vec(),
        ..DynamoDbSettings::new(settings.region.clone(), credentials)
    };
    Ok(Arc::new(DynamoDb::new(settings.table.clone(), settings_of_table)))
}

#[cfg(not(feature = "dynamodb"))]
fn dynamodb(_: &crate::config::DynamoDb, _: Duration, _: &[String]) -> Result<Arc<dyn Records>, WireError> {
    Err(WireError::NotBuilt { store: "dynamodb" })
}
