//! Every way in which a request can fail, each with its status, its stable code and its public sentence.
//!
//! The sentences are for the person who reads them: what was wrong, with which value, what to do. They never hold a
//! signature, a key or a whole body; of one field's value at most 100 characters.

use http::StatusCode;

/// Why a request gets no 200. One exhaustive list; the order of the variants follows the steps of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No route has this path.
    NotFound,
    /// The read routes do not exist without a token.
    NoReading,
    /// There is no record of this object.
    NoRecord,
    /// The route exists, the method does not fit.
    MethodNotAllowed {
        /// The method that does.
        allowed: &'static str,
    },
    /// A read route was called without the right bearer token.
    Unauthorized,
    /// The gateway delivers events that have lost what OSS signed.
    UnsupportedEvent {
        /// What arrived, and what is needed.
        message: &'static str,
    },
    /// The body is over the limit.
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A header that every callback carries is absent.
    MissingHeader {
        /// Its name.
        name: &'static str,
    },
    /// A header is repeated, or not text.
    BadHeader {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// `x-oss-signature-version` is not 1.0.
    UnsupportedSignatureVersion {
        /// What it says.
        version: String,
    },
    /// `x-oss-pub-key-url` names no trusted key.
    UntrustedKeyUrl {
        /// What it says, decoded.
        url: String,
    },
    /// The signature fits none of the candidates.
    SignatureMismatch,
    /// `Content-Type` is neither a form nor JSON.
    UnsupportedMediaType {
        /// What it says.
        given: String,
    },
    /// The body, though signed, is not what its type says.
    BadBody {
        /// What is wrong.
        problem: String,
    },
    /// A field stands twice.
    DuplicateField {
        /// Its name.
        name: String,
    },
    /// A required field is absent.
    MissingField {
        /// Its name.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// A field's value is not of its kind.
    BadField {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The object is not in the allow-list.
    BucketNotAllowed {
        /// The bucket named by the callback.
        bucket: String,
    },
    /// Nothing is reconciled here: on Lambda, or without OSS.
    NoReconciling,
    /// Another run is going on.
    Reconciling,
    /// The record store did not answer.
    StoreUnavailable {
        /// What it said, for the log.
        cause: String,
    },
    /// As many callbacks are under way as are taken on at a time.
    Busy,
    /// Other writers were faster, again and again.
    Contended,
    /// The time for this request is used up.
    Timeout {
        /// The budget in milliseconds.
        budget_ms: u128,
    },
    /// A bug: a panic that was caught.
    Internal,
}

impl Failure {
    /// The HTTP status. 4xx will never be accepted; 5xx was not recorded and may be tried again.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::UnsupportedEvent { .. }
            | Self::MissingHeader { .. }
            | Self::BadHeader { .. }
            | Self::UnsupportedSignatureVersion { .. }
            | Self::BadBody { .. }
            | Self::DuplicateField { .. }
            | Self::MissingField { .. }
            | Self::BadField { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::UntrustedKeyUrl { .. } | Self::SignatureMismatch | Self::BucketNotAllowed { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound | Self::NoReading | Self::NoRecord | Self::NoReconciling => StatusCode::NOT_FOUND,
            Self::Reconciling => StatusCode::CONFLICT,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreUnavailable { .. } | Self::Busy | Self::Contended | Self::Timeout { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The stable code that programs may rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound | Self::NoReading | Self::NoRecord | Self::NoReconciling => "not_found",
            Self::Reconciling => "reconciling",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedEvent { .. } => "unsupported_event",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::MissingHeader { .. } => "missing_header",
            Self::BadHeader { .. } => "bad_header",
            Self::UnsupportedSignatureVersion { .. } => "unsupported_signature_version",
            Self::UntrustedKeyUrl { .. } => "untrusted_key_url",
            Self::SignatureMismatch => "signature_mismatch",
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::BadBody { .. } => "bad_body",
            Self::DuplicateField { .. } => "duplicate_field",
            Self::MissingField { .. } => "missing_field",
            Self::BadField { .. } => "bad_field",
            Self::BucketNotAllowed { .. } => "bucket_not_allowed",
            Self::StoreUnavailable { .. } => "store_unavailable",
            Self::Busy | Self::Contended => "busy",
            Self::Timeout { .. } => "timeout",
            Self::Internal => "internal",
        }
    }

    /// The sentence for whoever reads the answer. What only the operator should see (`cause`) is left to the log.
    pub fn message(&self) -> String {
        match self {
            Self::NotFound => "Nothing is served at this path. If it is the path of callbackUrl, list it in \
                               OSS_CALLBACK_PATH exactly as OSS calls it, stage included."
                .to_owned(),
            Self::NoReading => "The routes for records are off; OSS_CALLBACK_API_TOKEN switches them on.".to_owned(),
            Self::NoRecord => "There is no record of this object.".to_owned(),
            Self::MethodNotAllowed { allowed } => format!("This path takes {allowed} only."),
            Self::Unauthorized => "This path needs the header `Authorization: Bearer` with the API token.".to_owned(),
            Self::UnsupportedEvent { message } => (*message).to_owned(),
            Self::BodyTooLarge { limit } => {
                format!("The body is larger than {limit} bytes; shorten callbackBody.")
            }
            Self::MissingHeader { name } => {
                format!("The header {name} is missing. OSS sends it; a gateway or proxy may have removed it.")
            }
            Self::BadHeader { name, problem } => format!("The header {name} {problem}."),
            Self::UnsupportedSignatureVersion { version } => {
                format!("The header x-oss-signature-version says {version}; only 1.0 is known.")
            }
            Self::UntrustedKeyUrl { url } => format!(
                "The header x-oss-pub-key-url names {url}, which is not a trusted key. Keys are never fetched; a further \
                 key is added by OSS_CALLBACK_KEYS."
            ),
            Self::SignatureMismatch => "The signature does not fit path, query and body as received. Usual causes: \
                                        a stage or prefix that is missing from OSS_CALLBACK_PATH, or a body or query \
                                        changed on the way."
                .to_owned(),
            Self::UnsupportedMediaType { given } => format!(
                "The Content-Type is {given}; callbackBodyType must be application/x-www-form-urlencoded or \
                 application/json."
            ),
            Self::BadBody { problem } => format!("The body cannot be read: {problem}."),
            Self::DuplicateField { name } => {
                format!("The field {name} stands more than once in the body; name it once in callbackBody.")
            }
            Self::MissingField { name, hint } => format!("The field {name} is missing from the body. {hint}"),
            Self::BadField { name, problem } => format!("The field {name} {problem}."),
            Self::BucketNotAllowed { bucket } => {
                format!("The bucket {bucket} with this object is not in OSS_CALLBACK_BUCKETS.")
            }
            Self::NoReconciling => {
                "Nothing is reconciled here: it takes a server (on Lambda, run `oss-callback reconcile` \
                                    elsewhere) with the settings of OSS."
                    .to_owned()
            }
            Self::Reconciling => {
                "Another run is going on, for something else. GET /reconcile tells how far it is.".to_owned()
            }
            Self::StoreUnavailable { .. } => {
                "The record store did not answer in time, so it may be that nothing is recorded. Try again.".to_owned()
            }
            Self::Busy => {
                "As many callbacks are under way as are taken on at a time (OSS_CALLBACK_CONCURRENCY). Try again."
                    .to_owned()
            }
            Self::Contended => "Too many requests are at the same object. Try again.".to_owned(),
            Self::Timeout { budget_ms } => {
                format!("The request could not be finished within {budget_ms} ms. Try again.")
            }
            Self::Internal => {
                "An internal error; it may be that nothing is recorded. The log has the details.".to_owned()
            }
        }
    }
}

/// A value from outside, made fit for a sentence or a log line: at most 100 characters, control characters escaped.
pub fn quoted(value: &str) -> String {
    let shown: String = value.chars().take(100).collect();
    let more = if shown.len() < value.len() { "..." } else { "" };
    format!("{shown:?}{more}")
}
