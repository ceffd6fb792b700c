//! Faults: what can be broken on purpose, for which requests and callbacks, how often, and in which reproducible order.
//!
//! A fault is decided once for each request and each callback sent ([`Faults`]) and is from then on a value: the server
//! applies a [`RequestFault`] at the points of [`strike`], the callback a [`CallbackFault`] while it is composed and sent.

mod armed;
mod spec;
mod strike;

use std::time::Duration;

pub use armed::ArmedFault;
pub(crate) use armed::{Faults, Subject, without_stage};
pub use spec::FaultError;
pub(crate) use strike::Meeting;

/// Every kind of fault as it is written, and what it does in a line. The limits are [`FAULT_LIMITS`].
pub const FAULT_KINDS: [(&str, &str); 21] = [
    ("slow=DURATION", "the request is carried out and answered that much later, if its client still waits then"),
    ("hang", "the request is neither carried out nor answered"),
    ("reset", "the connection is reset (TCP RST) before anything is done"),
    ("answer-lost", "the request is carried out, but the connection is reset in place of its answer"),
    ("status=500", "InternalError, before anything is done"),
    ("status=503", "ServiceUnavailable, before anything is done"),
    ("truncate", "the answer announces its whole length and breaks off after half of it"),
    ("wrong-etag", "the answer carries the ETag of another object"),
    ("precondition", "412 PreconditionFailed, before anything is done"),
    ("skew=SECONDS", "the clock is off by so many seconds, -3600 for an hour behind"),
    ("callback-lost", "the callback is never sent; the uploader is told that OSS could not connect"),
    ("callback-answer-lost", "the callback is sent, its answer thrown away; the uploader is told as above"),
    ("callback-late=DURATION", "the callback is sent that much later, and the upload waits"),
    ("callback-doubled", "the callback is sent twice, one after the other; the first answer counts"),
    ("callback-reordered", "the callback is held back until another one is through, for as long as one may take"),
    ("callback-wrong-signature", "the callback carries the signature of something else"),
    ("callback-wrong-key-url=URL", "the callback names this URL as that of its key"),
    ("callback-stage-stripped=/STAGE", "a gateway takes this off the path that was signed"),
    ("callback-stage-added=/STAGE", "a gateway puts this before the path that was signed"),
    ("callback-base64-body", "a gateway puts the body into Base64"),
    ("callback-http-1.0", "the request line and the few headers of OSS's older documents"),
];

/// Every limit of a fault as it is written, and what it means.
pub const FAULT_LIMITS: [(&str, &str); 5] = [
    ("bucket=NAME", "only this bucket"),
    (
        "prefix=PREFIX",
        "only keys that begin so; a comma in it is written `\\,`. The key of a form comes too late for its request",
    ),
    ("operation=NAME", "only this operation, such as HeadObject; of callbacks that of the upload"),
    ("probability=P", "only so often, from 0 to 1"),
    ("times=N", "only so many times"),
];

/// Every operation that a limit can name. A form is `PostObject`.
pub const FAULT_OPERATIONS: [&str; 32] = [
    "ListBuckets",
    "PutBucket",
    "DeleteBucket",
    "HeadBucket",
    "GetBucketInfo",
    "GetBucketLocation",
    "GetBucketStat",
    "PutBucketAcl",
    "GetBucketAcl",
    "PutBucketCors",
    "GetBucketCors",
    "DeleteBucketCors",
    "PutCallbackPolicy",
    "GetCallbackPolicy",
    "DeleteCallbackPolicy",
    "ListObjects",
    "ListMultipartUploads",
    "DeleteMultipleObjects",
    "PutObject",
    "PostObject",
    "CopyObject",
    "GetObject",
    "HeadObject",
    "DeleteObject",
    "InitiateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "ListParts",
    "GetProcessed",
    "PostProcess",
    "PostAsyncProcess",
];

/// The operations that fire callbacks; the last is what `trigger/callback` calls itself in them.
pub(crate) const CALLING_OPERATIONS: [&str; 4] =
    ["PutObject", "PostObject", "CompleteMultipartUpload", "PostProcessTask"];

/// One fault with its limits.
///
/// Written as one line, `slow=2s,bucket=photos,prefix=a/,probability=0.3,times=2`: the kind, then its limits in any
/// order, each at most once. [`FAULT_KINDS`] and [`FAULT_LIMITS`] list them.
///
/// ```
/// use oss_standin::{CallbackFault, Fault};
/// let written: Fault = "callback-lost,prefix=a/,times=2".parse()?;
/// assert_eq!(written, Fault::new(CallbackFault::Lost).prefix("a/").times(2));
/// # Ok::<(), oss_standin::FaultError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: FaultKind,
    bucket: Option<String>,
    prefix: Option<String>,
    operation: Option<String>,
    probability: f64,
    times: Option<u64>,
}

impl Fault {
    /// A fault without limits: it strikes every time.
    pub fn new(kind: impl Into<FaultKind>) -> Self {
        Self { kind: kind.into(), bucket: None, prefix: None, operation: None, probability: 1.0, times: None }
    }

    /// Only this bucket.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.bucket = Some(name.into());
        self
    }

    /// Only keys that begin so.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Only this operation, such as `HeadObject`, in any case. Of a callback it is the upload's: `PutObject`.
    pub fn operation(mut self, name: impl Into<String>) -> Self {
        self.operation = Some(name.into());
        self
    }

    /// How likely it strikes, from 0 to 1; what lies outside is taken for the nearer of the two. Default 1.
    pub fn probability(mut self, probability: f64) -> Self {
        // Not a number is taken for never.
        self.probability = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
        self
    }

    /// How many times it strikes at most. Default: without end.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// What a fault does, to requests or to callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// To a request of a client.
    Request(RequestFault),
    /// To a callback.
    Callback(CallbackFault),
}

impl From<RequestFault> for FaultKind {
    fn from(fault: RequestFault) -> Self {
        Self::Request(fault)
    }
}

impl From<CallbackFault> for FaultKind {
    fn from(fault: CallbackFault) -> Self {
        Self::Callback(fault)
    }
}

/// What goes wrong with a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestFault {
    /// It is answered that much later.
    Slow(Duration),
    /// It is never answered; the connection stays open until the client or the stand-in gives up.
    Hang,
    /// Its connection is reset (TCP RST) before anything is done.
    Reset,
    /// It is carried out, and its connection is reset in place of the answer.
    AnswerLost,
    /// 500 `InternalError`, before anything is done.
    InternalError,
    /// 503 `ServiceUnavailable`, before anything is done.
    Unavailable,
    /// The answer announces its whole length and breaks off after half of it. An answer without a body is left whole.
    Truncate,
    /// The answer carries another object's ETag, if it carries one.
    WrongEtag,
    /// 412 `PreconditionFailed`, before anything is done.
    Precondition,
    /// The stand-in's clock is off by so many seconds: signatures are judged by it, and `Date` shows it.
    Skew(i32),
}

/// What goes wrong with a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackFault {
    /// It is never sent; the uploader is told that OSS could not connect.
    Lost,
    /// It is sent, its answer is thrown away, and the uploader is told that OSS could not connect.
    AnswerLost,
    /// It is sent that much later, and the uploader waits.
    Late(Duration),
    /// It is sent a second time once the first is answered; the first answer counts.
    Doubled,
    /// It is held back until another callback is through, but no longer than a callback may take to be answered.
    Reordered,
    /// Its signature is that of something else.
    WrongSignature,
    /// It names this URL as that of its key.
    WrongKeyUrl(String),
    /// This prefix is missing from the path on its request line; the path with it is the one that is signed.
    StageStripped(String),
    /// This prefix stands before the path on its request line; the path without it is the one that is signed.
    StageAdded(String),
    /// Its body is the Base64 of what is signed.
    Base64Body,
    /// HTTP/1.0 and the header set of OSS's older documents.
    Http10,
}
