//! Refusals as OSS words them: a status, a stable code, a sentence, and the XML document that carries them.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::reply::{Reply, full};
use crate::store::BucketDeleted;
use crate::xml::Document;

/// One refused request.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The finer error number that OSS adds, where it is known.
    pub(crate) ec: Option<&'static str>,
    /// Further elements of the XML document, such as `ArgumentName`.
    pub(crate) details: Vec<(&'static str, String)>,
    /// Headers that the refusal carries beside the document (a failed callback still reports its upload).
    pub(crate) headers: Box<HeaderMap>,
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), ec: None, details: Vec::new(), headers: Box::default() }
    }

    pub(crate) fn ec(mut self, ec: &'static str) -> Self {
        self.ec = Some(ec);
        self
    }

    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// protocol: a refused argument is named together with the value that was refused.
    pub(crate) fn invalid_argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    pub(crate) fn access_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    pub(crate) fn no_such_bucket(bucket: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.")
            .ec("0015-00000101")
            .detail("BucketName", bucket)
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
            .ec("0026-00000001")
            .detail("Key", key)
    }

    pub(crate) fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        )
        .detail("Method", method.as_str())
    }

    pub(crate) fn malformed_xml(root: &str) -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", message).detail("Expected", root)
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("The request asks for something that this stand-in does not implement: {what}."),
        )
    }

    /// A fault of the stand-in itself, most often of its disk.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "We encountered an internal error. Please try again.",
        )
    }

    /// What the store could not do.
    pub(crate) fn disk(cause: io::Error) -> Self {
        match cause.get_ref().and_then(|cause| cause.downcast_ref::<BucketDeleted>()) {
            Some(deleted) => Self::no_such_bucket(&deleted.name),
            None => Self::internal(cause),
        }
    }

    fn xml(&self, request_id: &str, host: &str) -> String {
        let mut document = Document::new("Error");
        document.text("Code", self.code);
        document.text("Message", &self.message);
        document.text("RequestId", request_id);
        document.text("HostId", host);
        for (name, value) in &self.details {
            document.text(name, value);
        }
        if let Some(ec) = self.ec {
            document.text("EC", ec);
            document.text("RecommendDoc", &format!("https://api.aliyun.com/troubleshoot?q={ec}"));
        }
        document.finish()
    }

    /// The answer to a request that was not a HEAD request.
    pub(crate) fn into_reply(self, request_id: &str, host: &str) -> Reply {
        let mut reply = full(self.xml(request_id, host));
        *reply.status_mut() = self.status;
        *reply.headers_mut() = *self.headers;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        reply
    }

    /// The answer to a HEAD request, which may have no body.
    ///
    /// protocol: the document moves into `x-oss-err` (Base64) and its number into `x-oss-ec`.
    pub(crate) fn into_head_reply(self, request_id: &str, host: &str) -> Reply {
        let mut reply = full("");
        *reply.status_mut() = self.status;
        *reply.headers_mut() = HeaderMap::clone(&self.headers);
        if let Some(ec) = self.ec {
            reply.headers_mut().insert("x-oss-ec", HeaderValue::from_static(ec));
        }
        if let Ok(document) = HeaderValue::try_from(STANDARD.encode(self.xml(request_id, host))) {
            reply.headers_mut().insert("x-oss-err", document);
        }
        reply
    }
}
