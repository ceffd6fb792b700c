//! One request from its head to its operation: what it is about, whether its signature proves it, and who does it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use http::header::HOST;
use http::request::Parts;
use hyper::body::Incoming;

use crate::error::Error;
use crate::get::{get_object, head_object};
use crate::list::list_objects;
use crate::operation::{BucketOperation, ObjectOperation, Operation};
use crate::process::{get_processed, post_async_process, post_process};
use crate::put::put_object;
use crate::reply::{Reply, empty};
use crate::request::{Address, Query, addresses};
use crate::server::State;
use crate::signature::{Claim, Head};
use crate::upload::Target;

pub(crate) async fn perform(
    state: &Arc<State>,
    peer: SocketAddr,
    parts: &Parts,
    body: &mut Incoming,
    request_id: &str,
) -> Result<Reply, Error> {
    let (method, headers) = (&parts.method, &parts.headers);
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let buckets: Vec<String> = state.store.buckets().into_iter().map(|(name, _)| name).collect();
    let readings = addresses(parts.uri.path(), host_of(parts).as_deref(), &buckets)?;
    let address = state.authorize(Head { method, query: &query, headers }, &readings)?;
    let operation = Operation::of(method, address, &query, headers)?;
    let (Some(bucket_name), Operation::Bucket(_) | Operation::Object(_)) = (&address.bucket, operation) else {
        return Err(Error::not_implemented("an operation without a bucket"));
    };
    let bucket = state.store.bucket(bucket_name).ok_or_else(|| Error::no_such_bucket(bucket_name))?;
    let key = &address.key;
    let target = || Target {
        bucket_name: bucket_name.clone(),
        bucket: Arc::clone(&bucket),
        key: key.clone(),
        client: peer.ip(),
        request_id: request_id.to_owned(),
    };
    match operation {
        Operation::Service(_) => Err(Error::not_implemented("an operation without a bucket")),
        Operation::Bucket(operation) => match operation {
            BucketOperation::ListObjects => list_objects(bucket_name, &bucket, &query),
            other => Err(Error::not_implemented(&format!("{other:?}"))),
        },
        Operation::Object(operation) => match operation {
            ObjectOperation::PutObject => put_object(state, target(), &query, headers, body).await,
            ObjectOperation::GetObject => get_object(&bucket, key, &query, headers),
            ObjectOperation::HeadObject => head_object(&bucket, key, &query, headers),
            ObjectOperation::DeleteObject => {
                let key = key.clone();
                let deleted =
                    tokio::task::spawn_blocking(move || bucket.delete(&key)).await.map_err(Error::internal)?;
                deleted.map_err(Error::internal)?;
                // protocol: 204, also if there was no such object.
                Ok(empty(StatusCode::NO_CONTENT))
            }
            ObjectOperation::GetProcessed => get_processed(state, &target(), &query, headers).await,
            ObjectOperation::PostProcess => post_process(state, target(), headers, body).await,
            ObjectOperation::PostAsyncProcess => post_async_process(state, target(), headers, body).await,
            other => Err(Error::not_implemented(&format!("{other:?}"))),
        },
    }
}

impl State {
    /// The reading of the request that its signature proves.
    fn authorize<'a>(&self, head: Head<'_>, readings: &'a [Address]) -> Result<&'a Address, Error> {
        let first = readings.first().ok_or_else(|| Error::internal("a request without an address"))?;
        if self.anonymous {
            // A signature still tells which of several readings the client means.
            let claim = Claim::read(head).ok().flatten();
            let meant = claim.and_then(|claim| claim.verify(head, readings, &self.access_key_secret).ok());
            return Ok(meant.unwrap_or(first));
        }
        let claim = Claim::read(head)?.ok_or_else(|| Error::access_denied("The request is not signed."))?;
        self.check_access_key(claim.access_key_id())?;
        if let Some(region) = claim.region() {
            self.check_region(region)?;
        }
        if let Some(skew) = self.max_skew {
            claim.check_time(SystemTime::now(), skew)?;
        }
        claim.verify(head, readings, &self.access_key_secret)
    }

    pub(crate) fn check_access_key(&self, id: &str) -> Result<(), Error> {
        if id == self.access_key_id {
            return Ok(());
        }
        let message = "The OSS Access Key Id you provided does not exist in our records.";
        Err(Error::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message).detail("OSSAccessKeyId", id))
    }

    pub(crate) fn check_region(&self, region: &str) -> Result<(), Error> {
        if region == self.region {
            return Ok(());
        }
        let message = format!("The request is signed for the region {region}, this is {}.", self.region);
        Err(Error::invalid_argument("Credential", region, message))
    }
}

/// The host that a request is addressed to.
pub(crate) fn host_of(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // A request line may hold a whole URL; then its host counts.
    parts.uri.authority().map(|authority| authority.as_str().to_owned()).or(header)
}
