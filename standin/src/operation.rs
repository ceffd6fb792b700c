//! Which operation a request asks for.

use std::fmt;

use http::{HeaderMap, Method};

use crate::error::Error;
use crate::request::{Address, Query};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Service(ServiceOperation),
    Bucket(BucketOperation),
    Object(ObjectOperation),
}

/// Operations on the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceOperation {
    ListBuckets,
    PutBucket,
}

/// Operations on a bucket that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketOperation {
    DeleteBucket,
    HeadBucket,
    GetBucketInfo,
    GetBucketLocation,
    GetBucketStat,
    PutBucketAcl,
    GetBucketAcl,
    PutBucketCors,
    GetBucketCors,
    DeleteBucketCors,
    PutCallbackPolicy,
    GetCallbackPolicy,
    DeleteCallbackPolicy,
    ListObjects,
    ListMultipartUploads,
    DeleteMultipleObjects,
}

/// Operations on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectOperation {
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    DeleteObject,
    InitiateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    /// GetObject through `x-oss-process`.
    GetProcessed,
    PostProcess,
    PostAsyncProcess,
}

/// Query parameters that turn a request into another operation, or into one on something else than the object.
const SELECTORS: &[&str] = &[
    "accessPoint",
    "acl",
    "append",
    "asyncFetch",
    "bucketInfo",
    "comp",
    "cors",
    "delete",
    "encryption",
    "inventory",
    "lifecycle",
    "live",
    "location",
    "logging",
    "metaQuery",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "referer",
    "replication",
    "requestPayment",
    "resourceGroup",
    "restore",
    "stat",
    "style",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "x-oss-async-process",
    "x-oss-process",
];

/// Query parameters that may be empty without asking for another operation.
const MODIFIERS: &[&str] = &[
    "callback",
    "callback-var",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "objectMeta",
    "part-number-marker",
    "prefix",
    "regionList",
    "security-token",
    "sequential",
    "start-after",
    "tag-key",
    "tag-value",
    "upload-id-marker",
];

/// A parameter without a value that is not known: most likely it asks for an operation, and a PUT must not store under a name
/// what was meant for one of its properties.
fn unknown_selector<'a>(method: &Method, address: &Address, query: &'a Query) -> Option<&'a str> {
    let reads_object = !address.key.is_empty() && matches!(*method, Method::GET | Method::HEAD);
    let known = |name: &str| {
        SELECTORS.contains(&name)
            || MODIFIERS.contains(&name)
            || name.starts_with("x-oss-")
            || name.starts_with("response-")
    };
    query.iter().find(|(name, value)| !reads_object && value.is_empty() && !known(name)).map(|(name, _)| name)
}

impl fmt::Display for Operation {
    /// Its name, such as `PutObject`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(operation) => fmt::Debug::fmt(operation, formatter),
            Self::Bucket(operation) => fmt::Debug::fmt(operation, formatter),
            Self::Object(operation) => fmt::Debug::fmt(operation, formatter),
        }
    }
}

impl Operation {
    /// The bucket that a form is sent to, if this is one: PostObject, which carries its signature in its fields. Of
    /// several readings of the request, that of a bucket that is there comes first.
    pub(crate) fn form_target<'a>(method: &Method, query: &Query, readings: &'a [Address]) -> Option<&'a str> {
        if *method != Method::POST || SELECTORS.iter().any(|name| query.has(name)) {
            return None;
        }
        readings.iter().find(|reading| reading.key.is_empty())?.bucket.as_deref()
    }

    /// An operation that is not implemented is refused, never mistaken for one that is: a part of a multipart upload
    /// must not overwrite the object.
    pub(crate) fn of(method: &Method, address: &Address, query: &Query, headers: &HeaderMap) -> Result<Self, Error> {
        let mut selectors: Vec<&str> = SELECTORS.iter().copied().filter(|name| query.has(name)).collect();
        selectors.sort_unstable();
        // GetObjectMeta, by which SDKs ask whether an object exists: a HEAD request like any other, with fewer headers.
        if query.has("objectMeta") && *method != Method::HEAD {
            selectors.push("objectMeta");
        }
        // Of the parts of a bucket's policy only that on callbacks is implemented.
        if query.get("comp").is_some_and(|part| part != "callback") {
            return Err(Error::not_implemented(&format!("{method} with this value of the query parameter comp")));
        }
        if let Some(name) = unknown_selector(method, address, query) {
            return Err(Error::not_implemented(&format!("{method} with the query parameter {name}")));
        }
        let copies = headers.contains_key("x-oss-copy-source");
        let operation = match (&address.bucket, address.key.is_empty()) {
            (None, _) => match (method.as_str(), selectors.as_slice()) {
                ("GET", []) => Some(Self::Service(ServiceOperation::ListBuckets)),
                _ => None,
            },
            (Some(_), true) if *method == Method::PUT && selectors.is_empty() => {
                Some(Self::Service(ServiceOperation::PutBucket))
            }
            (Some(_), true) => bucket_operation(method, &selectors).map(Self::Bucket),
            (Some(_), false) => object_operation(method, &selectors, copies).map(Self::Object),
        };
        if let Some(operation) = operation {
            return Ok(operation);
        }
        if copies && query.has("partNumber") {
            return Err(Error::not_implemented("UploadPartCopy, a part that is copied from an object"));
        }
        if let Some(name) = selectors.first() {
            return Err(Error::not_implemented(&format!("{method} with the query parameter {name}")));
        }
        match method.as_str() {
            "GET" | "PUT" | "POST" | "DELETE" | "HEAD" | "OPTIONS" => {
                Err(Error::not_implemented(&format!("{method} on {}", subject(address))))
            }
            _ => Err(Error::method_not_allowed(method)),
        }
    }
}

fn bucket_operation(method: &Method, selectors: &[&str]) -> Option<BucketOperation> {
    use BucketOperation as Bucket;
    Some(match (method.as_str(), selectors) {
        ("GET", []) => Bucket::ListObjects,
        ("DELETE", []) => Bucket::DeleteBucket,
        ("HEAD", []) => Bucket::HeadBucket,
        ("GET", ["bucketInfo"]) => Bucket::GetBucketInfo,
        ("GET", ["location"]) => Bucket::GetBucketLocation,
        ("GET", ["stat"]) => Bucket::GetBucketStat,
        ("PUT", ["acl"]) => Bucket::PutBucketAcl,
        ("GET", ["acl"]) => Bucket::GetBucketAcl,
        ("PUT", ["cors"]) => Bucket::PutBucketCors,
        ("GET", ["cors"]) => Bucket::GetBucketCors,
        ("DELETE", ["cors"]) => Bucket::DeleteBucketCors,
        ("PUT", ["comp", "policy"]) => Bucket::PutCallbackPolicy,
        ("GET", ["comp", "policy"]) => Bucket::GetCallbackPolicy,
        ("DELETE", ["comp", "policy"]) => Bucket::DeleteCallbackPolicy,
        ("GET", ["uploads"]) => Bucket::ListMultipartUploads,
        ("POST", ["delete"]) => Bucket::DeleteMultipleObjects,
        _ => return None,
    })
}

fn object_operation(method: &Method, selectors: &[&str], copies: bool) -> Option<ObjectOperation> {
    use ObjectOperation as Object;
    Some(match (method.as_str(), selectors, copies) {
        ("PUT", [], false) => Object::PutObject,
        ("PUT", [], true) => Object::CopyObject,
        ("GET", [], _) => Object::GetObject,
        ("HEAD", [], _) => Object::HeadObject,
        ("DELETE", [], _) => Object::DeleteObject,
        ("POST", ["uploads"], _) => Object::InitiateMultipartUpload,
        ("PUT", ["partNumber", "uploadId"], false) => Object::UploadPart,
        ("POST", ["uploadId"], _) => Object::CompleteMultipartUpload,
        ("DELETE", ["uploadId"], _) => Object::AbortMultipartUpload,
        ("GET", ["uploadId"], _) => Object::ListParts,
        ("GET", ["x-oss-process"], _) => Object::GetProcessed,
        ("POST", ["x-oss-process"], _) => Object::PostProcess,
        ("POST", ["x-oss-async-process"], _) => Object::PostAsyncProcess,
        _ => return None,
    })
}

fn subject(address: &Address) -> &'static str {
    match (&address.bucket, address.key.is_empty()) {
        (None, _) => "the account",
        (Some(_), true) => "a bucket",
        (Some(_), false) => "an object",
    }
}
