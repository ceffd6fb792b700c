//! Operations on buckets: making, finding, describing and deleting them, and their access control list.

use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;

use crate::error::Error;
use crate::list::{page_size, write_owner};
use crate::reply::{Reply, empty, full, xml};
use crate::request::Query;
use crate::server::State;
use crate::store::{Acl, Bucket, Settings, is_bucket_name, on_disk};
use crate::upload::{LARGEST_DOCUMENT, read_whole};
use crate::xml::{Document, Element};

pub(crate) fn list_buckets(state: &State, query: &Query) -> Result<Reply, Error> {
    let prefix = query.get("prefix").unwrap_or_default();
    let marker = query.get("marker").unwrap_or_default();
    let count = page_size(query)?;
    let mut buckets = state.store.buckets();
    buckets.retain(|(name, _)| name.starts_with(prefix) && name.as_str() > marker);
    let truncated = buckets.len() > count;
    buckets.truncate(count);
    let mut document = Document::new("ListAllMyBucketsResult");
    // protocol: these stand there only if there is more.
    if let (true, Some((last, _))) = (truncated, buckets.last()) {
        document.text("Prefix", prefix);
        document.text("Marker", marker);
        document.text("MaxKeys", &count.to_string());
        document.text("IsTruncated", "true");
        document.text("NextMarker", last);
    }
    write_owner(&mut document);
    document.open("Buckets");
    for (name, bucket) in &buckets {
        document.open("Bucket");
        write_bucket(&mut document, state, name, bucket);
        document.text("Region", &state.region);
        document.close();
    }
    Ok(xml(document))
}

/// Makes a bucket; one that exists is kept with all that is in it, as it belongs to the one account there is.
pub(crate) async fn put_bucket(
    state: &Arc<State>,
    name: &str,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    if !is_bucket_name(name) {
        let message = "The specified bucket is not valid.";
        return Err(Error::new(StatusCode::BAD_REQUEST, "InvalidBucketName", message).detail("BucketName", name));
    }
    let acl = acl_of(headers)?;
    let configuration = read_whole(body, LARGEST_DOCUMENT).await?;
    // Storage classes and redundancy are not imitated, so nothing in it counts.
    if !configuration.is_empty() && Element::parse(&configuration, "CreateBucketConfiguration").is_none() {
        return Err(Error::malformed_xml("CreateBucketConfiguration"));
    }
    let mut reply = full("");
    if let Ok(location) = HeaderValue::try_from(format!("/{name}")) {
        reply.headers_mut().insert(LOCATION, location);
    }
    let (state, name) = (Arc::clone(state), name.to_owned());
    on_disk(move || {
        let bucket = state.store.create_bucket(&name)?;
        match acl {
            Some(acl) if acl != bucket.settings().acl => bucket.change_settings(|settings| settings.acl = acl),
            _ => Ok(()),
        }
    })
    .await?;
    Ok(reply)
}

pub(crate) async fn delete_bucket(state: &Arc<State>, name: &str) -> Result<Reply, Error> {
    let (state, deleted) = (Arc::clone(state), name.to_owned());
    match on_disk(move || state.store.delete_bucket(&deleted)).await? {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => {
            let message = "The bucket you tried to delete is not empty.";
            Err(Error::new(StatusCode::CONFLICT, "BucketNotEmpty", message).detail("BucketName", name))
        }
    }
}

/// not documented: OSS's SDKs ask for GetBucketInfo or GetBucketAcl instead.
pub(crate) fn head_bucket(state: &State) -> Reply {
    let mut reply = full("");
    if let Ok(region) = HeaderValue::try_from(&state.region) {
        reply.headers_mut().insert("x-oss-bucket-region", region);
    }
    reply
}

pub(crate) fn get_bucket_info(state: &State, name: &str, bucket: &Bucket) -> Reply {
    let mut document = Document::new("BucketInfo");
    document.open("Bucket");
    write_bucket(&mut document, state, name, bucket);
    for (feature, value) in [
        ("AccessMonitor", "Disabled"),
        ("CrossRegionReplication", "Disabled"),
        ("TransferAcceleration", "Disabled"),
        ("DataRedundancyType", "LRS"),
        ("BlockPublicAccess", "false"),
        ("Comment", ""),
    ] {
        document.text(feature, value);
    }
    write_owner(&mut document);
    write_grant(&mut document, &bucket.settings());
    document.open("ServerSideEncryptionRule");
    document.text("SSEAlgorithm", "None");
    document.close();
    xml(document)
}

pub(crate) fn get_bucket_location(state: &State) -> Reply {
    let mut document = Document::new("LocationConstraint");
    document.content(&format!("oss-{}", state.region));
    xml(document)
}

pub(crate) fn get_bucket_stat(bucket: &Bucket) -> Reply {
    let index = bucket.index();
    let (mut count, mut size) = (0_u64, 0_u64);
    for object in index.objects() {
        count += 1;
        size += object.size;
    }
    let (count, size) = (count.to_string(), size.to_string());
    let uploads = bucket.uploads().len().to_string();
    let now = jiff::Timestamp::now().as_second().to_string();
    let mut document = Document::new("BucketStat");
    for (name, value) in [
        ("Storage", size.as_str()),
        ("ObjectCount", &count),
        ("MultipartUploadCount", &uploads),
        ("LiveChannelCount", "0"),
        ("LastModifiedTime", &now),
        ("StandardStorage", &size),
        ("StandardObjectCount", &count),
    ] {
        document.text(name, value);
    }
    xml(document)
}

pub(crate) async fn put_bucket_acl(bucket: Arc<Bucket>, headers: &HeaderMap) -> Result<Reply, Error> {
    let Some(acl) = acl_of(headers)? else {
        return Err(Error::invalid_argument("x-oss-acl", "", "The header x-oss-acl is missing."));
    };
    change_settings(bucket, move |settings| settings.acl = acl).await?;
    Ok(full(""))
}

pub(crate) fn get_bucket_acl(bucket: &Bucket) -> Reply {
    let mut document = Document::new("AccessControlPolicy");
    write_owner(&mut document);
    write_grant(&mut document, &bucket.settings());
    xml(document)
}

/// Changes a bucket's settings without blocking the async threads.
pub(crate) async fn change_settings(
    bucket: Arc<Bucket>,
    change: impl FnOnce(&mut Settings) + Send + 'static,
) -> Result<(), Error> {
    on_disk(move || bucket.change_settings(change)).await
}

fn acl_of(headers: &HeaderMap) -> Result<Option<Acl>, Error> {
    let Some(value) = headers.get("x-oss-acl") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let message = "The ACL must be private, public-read or public-read-write.";
    Acl::parse(&text).map(Some).ok_or_else(|| Error::invalid_argument("x-oss-acl", &text, message))
}

/// What lists and GetBucketInfo both say. The endpoints are the real ones of the region: they name OSS, not this machine.
fn write_bucket(document: &mut Document, state: &State, name: &str, bucket: &Bucket) {
    let region = &state.region;
    document.instant("CreationDate", bucket.settings().created);
    document.text("ExtranetEndpoint", &format!("oss-{region}.aliyuncs.com"));
    document.text("IntranetEndpoint", &format!("oss-{region}-internal.aliyuncs.com"));
    document.text("Location", &format!("oss-{region}"));
    document.text("Name", name);
    document.text("StorageClass", "Standard");
}

fn write_grant(document: &mut Document, settings: &Settings) {
    document.open("AccessControlList");
    document.text("Grant", settings.acl.as_str());
    document.close();
}
