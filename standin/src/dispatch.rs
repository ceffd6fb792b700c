//! One request from its head to its operation: what it is about, whether its signature proves it, and who does it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;

use crate::bucket::{
    delete_bucket, get_bucket_acl, get_bucket_info, get_bucket_location, get_bucket_stat, head_bucket, list_buckets,
    put_bucket, put_bucket_acl,
};
use crate::callback::{delete_callback_policy, get_callback_policy, put_callback_policy};
use crate::copy::copy_object;
use crate::cors::{delete_bucket_cors, get_bucket_cors, preflight, put_bucket_cors};
use crate::delete::{delete_multiple_objects, delete_object};
use crate::error::Error;
use crate::fault::Subject;
use crate::get::{get_object, get_object_meta, head_object};
use crate::journal::{Happened, remembered, remembered_path};
use crate::list::list_objects;
use crate::multipart::{abort, complete, initiate, list_multipart_uploads, list_parts, upload_part};
use crate::operation::{BucketOperation, ObjectOperation, Operation, ServiceOperation};
use crate::post::post_object;
use crate::process::{get_processed, post_async_process, post_process};
use crate::put::put_object;
use crate::reply::Reply;
use crate::request::{Address, Query, addresses, host_names_bucket};
use crate::server::State;
use crate::signature::{Claim, Head};
use crate::store::Acl;
use crate::upload::Target;

pub(crate) async fn perform(
    state: &Arc<State>,
    peer: SocketAddr,
    now: SystemTime,
    parts: &Parts,
    body: &mut Incoming,
    request_id: &str,
) -> Result<Reply, Error> {
    let (method, headers) = (&parts.method, &parts.headers);
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let readings = readings_of(state, parts)?;
    if *method == Method::OPTIONS {
        return preflight(state, &readings, headers);
    }
    if let Some(bucket_name) = Operation::form_target(method, &query, &readings) {
        let bucket = state.store.bucket(bucket_name).ok_or_else(|| Error::no_such_bucket(bucket_name))?;
        let bucket_name = bucket_name.to_owned();
        let request_id = request_id.to_owned();
        let target = Target { bucket_name, bucket, key: String::new(), client: peer.ip(), request_id };
        return post_object(state, target, &host_of(parts).unwrap_or_default(), now, headers, body).await;
    }
    let (address, proof) = state.authorize(Head { method, query: &query, headers }, &readings, now)?;
    let operation = Operation::of(method, address, &query, headers)?;
    let bucket_name = address.bucket.as_deref().unwrap_or_default();
    let bucket = || {
        let bucket = state.store.bucket(bucket_name).ok_or_else(|| Error::no_such_bucket(bucket_name))?;
        proof.check(operation, bucket.settings().acl, &query)?;
        Ok::<_, Error>(bucket)
    };
    let key = &address.key;
    let target = |bucket| Target {
        bucket_name: bucket_name.to_owned(),
        bucket,
        key: key.clone(),
        client: peer.ip(),
        request_id: request_id.to_owned(),
    };
    match operation {
        Operation::Service(ServiceOperation::ListBuckets) => {
            proof.demand_signature()?;
            list_buckets(state, &query)
        }
        Operation::Service(ServiceOperation::PutBucket) => {
            proof.demand_signature()?;
            put_bucket(state, bucket_name, headers, body).await
        }
        Operation::Bucket(operation) => {
            let bucket = bucket()?;
            match operation {
                BucketOperation::DeleteBucket => delete_bucket(state, bucket_name).await,
                BucketOperation::HeadBucket => Ok(head_bucket(state)),
                BucketOperation::GetBucketInfo => Ok(get_bucket_info(state, bucket_name, &bucket)),
                BucketOperation::GetBucketLocation => Ok(get_bucket_location(state)),
                BucketOperation::GetBucketStat => Ok(get_bucket_stat(&bucket)),
                BucketOperation::PutBucketAcl => put_bucket_acl(bucket, headers).await,
                BucketOperation::GetBucketAcl => Ok(get_bucket_acl(&bucket)),
                BucketOperation::PutBucketCors => put_bucket_cors(bucket, headers, body).await,
                BucketOperation::GetBucketCors => get_bucket_cors(&bucket),
                BucketOperation::DeleteBucketCors => delete_bucket_cors(bucket).await,
                BucketOperation::PutCallbackPolicy => put_callback_policy(bucket, headers, body).await,
                BucketOperation::GetCallbackPolicy => get_callback_policy(&bucket),
                BucketOperation::DeleteCallbackPolicy => delete_callback_policy(bucket).await,
                BucketOperation::ListObjects => list_objects(bucket_name, &bucket, &query),
                BucketOperation::DeleteMultipleObjects => delete_multiple_objects(bucket, &query, headers, body).await,
                BucketOperation::ListMultipartUploads => list_multipart_uploads(bucket_name, &bucket, &query),
            }
        }
        Operation::Object(operation) => {
            let bucket = bucket()?;
            match operation {
                ObjectOperation::PutObject => put_object(state, target(bucket), &query, headers, body).await,
                ObjectOperation::CopyObject => copy_object(state, target(bucket), headers).await,
                ObjectOperation::GetObject => get_object(&bucket, key, &query, headers),
                ObjectOperation::HeadObject if query.has("objectMeta") => get_object_meta(&bucket, key),
                ObjectOperation::HeadObject => head_object(&bucket, key, &query, headers),
                ObjectOperation::DeleteObject => delete_object(bucket, key).await,
                ObjectOperation::GetProcessed => get_processed(state, &target(bucket), &query, headers).await,
                ObjectOperation::PostProcess => post_process(state, target(bucket), headers, body).await,
                ObjectOperation::PostAsyncProcess => post_async_process(state, target(bucket), headers, body).await,
                ObjectOperation::InitiateMultipartUpload => initiate(target(bucket), &query, headers).await,
                ObjectOperation::UploadPart => upload_part(target(bucket), &query, headers, body).await,
                ObjectOperation::CompleteMultipartUpload => {
                    let host = host_of(parts).unwrap_or_default();
                    complete(state, target(bucket), &host, &query, headers, body).await
                }
                ObjectOperation::AbortMultipartUpload => abort(target(bucket), &query).await,
                ObjectOperation::ListParts => list_parts(&target(bucket), &query),
            }
        }
    }
}

/// Whether a request is known to be the account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It is signed, or signatures are not asked for.
    Given,
    Missing,
}

impl Proof {
    fn demand_signature(self) -> Result<(), Error> {
        match self {
            Self::Given => Ok(()),
            Self::Missing => Err(Error::access_denied("The request is not signed.")),
        }
    }

    /// What an unsigned request may do depends on the bucket.
    fn check(self, operation: Operation, acl: Acl, query: &Query) -> Result<(), Error> {
        use ObjectOperation::{CopyObject, GetObject, GetProcessed, HeadObject, PostAsyncProcess, PostProcess};
        let permitted = match (acl, operation) {
            // not documented: whether these are possible unsigned. A copy's source may be in a private bucket, and so may
            // the place where processing saves its result.
            (_, Operation::Object(CopyObject | PostProcess | PostAsyncProcess)) => false,
            (Acl::PublicRead, Operation::Object(operation)) => {
                matches!(operation, GetObject | HeadObject | GetProcessed)
            }
            (Acl::PublicReadWrite, Operation::Object(_)) => true,
            _ => false,
        };
        if self == Self::Missing && permitted {
            // protocol: who does not sign cannot override headers. not documented: with which code.
            if let Some((name, value)) = query.iter().find(|(name, _)| name.starts_with("response-")) {
                return Err(Error::invalid_argument(name, value, "Only signed requests can override headers."));
            }
            return Ok(());
        }
        self.demand_signature()
    }
}

fn readings_of(state: &State, parts: &Parts) -> Result<Vec<Address>, Error> {
    addresses(parts.uri.path(), host_of(parts).as_deref(), &bucket_names(state))
}

/// Whether the host that a request is addressed to is that of a bucket.
pub(crate) fn is_for_a_bucket(state: &State, parts: &Parts) -> bool {
    host_of(parts).is_some_and(|host| host_names_bucket(&host, &bucket_names(state)))
}

fn bucket_names(state: &State) -> Vec<String> {
    state.store.buckets().into_iter().map(|(name, _)| name).collect()
}

/// What a request is about in its likeliest reading, which stands before its signature is checked: for the journal and
/// for the limits of faults.
#[derive(Default)]
pub(crate) struct LikelySubject {
    address: Option<Address>,
    operation: Option<String>,
}

pub(crate) fn likely_subject(state: &State, parts: &Parts) -> LikelySubject {
    let readings = readings_of(state, parts).unwrap_or_default();
    let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    if let Some(bucket) = Operation::form_target(&parts.method, &query, &readings) {
        // The key stands in the form, which is yet to be read.
        let address = Address { bucket: Some(bucket.to_owned()), key: String::new() };
        return LikelySubject { address: Some(address), operation: Some("PostObject".to_owned()) };
    }
    let Some(address) = readings.into_iter().next() else { return LikelySubject::default() };
    let operation = Operation::of(&parts.method, &address, &query, &parts.headers).ok();
    LikelySubject { address: Some(address), operation: operation.map(|operation| operation.to_string()) }
}

impl LikelySubject {
    fn key(&self) -> Option<&str> {
        self.address.as_ref().map(|address| address.key.as_str()).filter(|key| !key.is_empty())
    }

    pub(crate) fn limits(&self) -> Subject<'_> {
        Subject {
            bucket: self.address.as_ref().and_then(|address| address.bucket.as_deref()),
            key: self.key(),
            operation: self.operation.as_deref(),
            path: None,
        }
    }

    /// The line about the request in the journal.
    pub(crate) fn received(&self, parts: &Parts) -> Happened {
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        Happened::Request {
            method: parts.method.to_string(),
            path: remembered_path(path),
            bucket: self.limits().bucket.map(|bucket| remembered(bucket.as_bytes())),
            key: self.key().map(str::to_owned),
            operation: self.operation.clone(),
            length: parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }
}

impl State {
    /// The reading of the request that its signature proves; of an unsigned one, the likeliest.
    fn authorize<'a>(
        &self,
        head: Head<'_>,
        readings: &'a [Address],
        now: SystemTime,
    ) -> Result<(&'a Address, Proof), Error> {
        let first = readings.first().ok_or_else(|| Error::internal("a request without an address"))?;
        if self.anonymous {
            // A signature still tells which of several readings the client means.
            let claim = Claim::read(head).ok().flatten();
            let meant = claim.and_then(|claim| claim.verify(head, readings, &self.access_key_secret).ok());
            return Ok((meant.unwrap_or(first), Proof::Given));
        }
        let Some(claim) = Claim::read(head)? else { return Ok((first, Proof::Missing)) };
        self.check_access_key(claim.access_key_id())?;
        if let Some(region) = claim.region() {
            self.check_region(region)?;
        }
        if let Some(skew) = self.max_skew {
            claim.check_time(now, skew)?;
        }
        Ok((claim.verify(head, readings, &self.access_key_secret)?, Proof::Given))
    }

    pub(crate) fn check_access_key(&self, id: &str) -> Result<(), Error> {
        if id == self.access_key_id {
            return Ok(());
        }
        let message = "The OSS Access Key Id you provided does not exist in our records.";
        Err(Error::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
            .ec("0002-00000902")
            .detail("OSSAccessKeyId", id))
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
