//! Which operation a request asks for.

use http::{HeaderMap, Method};

use crate::error::Error;
use crate::request::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    ListObjects,
}

/// Query parameters that turn a request into another operation, or into one on something else than the object.
const OTHER_OPERATIONS: &[&str] = &[
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

/// Request headers that do the same.
const OTHER_OPERATION_HEADERS: &[&str] = &["x-oss-copy-source"];

impl Operation {
    /// An operation that is not implemented is refused, never mistaken for one that is: a part of a multipart upload
    /// must not overwrite the object.
    pub(crate) fn of(method: &Method, key: &str, query: &Query, headers: &HeaderMap) -> Result<Self, Error> {
        // GetObjectMeta, by which SDKs ask whether an object exists: a HEAD request like any other, with fewer headers.
        if query.has("objectMeta") && *method != Method::HEAD {
            return Err(Error::not_implemented("the query parameter objectMeta"));
        }
        if let Some(name) = OTHER_OPERATIONS.iter().find(|name| query.has(name)) {
            return Err(Error::not_implemented(&format!("the query parameter {name}")));
        }
        if let Some(name) = OTHER_OPERATION_HEADERS.iter().find(|name| headers.contains_key(**name)) {
            return Err(Error::not_implemented(&format!("the header {name}")));
        }
        match (method.as_str(), key.is_empty()) {
            ("PUT", false) => Ok(Self::PutObject),
            ("GET", false) => Ok(Self::GetObject),
            ("HEAD", false) => Ok(Self::HeadObject),
            ("DELETE", false) => Ok(Self::DeleteObject),
            ("GET", true) => Ok(Self::ListObjects),
            ("PUT" | "DELETE" | "HEAD", true) => Err(Error::not_implemented("an operation on the bucket itself")),
            ("POST", _) => Err(Error::not_implemented("POST")),
            _ => Err(Error::method_not_allowed(method)),
        }
    }
}
