//! From what an edge received to a [`SignedRequest`]: bounded raw bytes, header values, and the candidates for the path that
//! OSS signed.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use http::{HeaderName, Method};
use percent_encoding::percent_decode_str;

use crate::error::{Failure, quoted};

/// The most bytes of a callback's body that are read. A template has at most 5 KB, so this is generous.
pub const BODY_LIMIT: usize = 64 * 1024;

const KEY_URL: HeaderName = HeaderName::from_static("x-oss-pub-key-url");
const SIGNATURE_VERSION: HeaderName = HeaderName::from_static("x-oss-signature-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-oss-request-id");

/// A request as an edge hands it over: nothing decoded, nothing normalised.
#[derive(Debug)]
pub struct Incoming {
    /// When it arrived; the budget runs from here.
    pub received: Instant,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: DeliveredPath,
    /// The query without its `?`, raw; `None` where there was no `?`.
    pub query: Option<String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or why there is none.
    pub body: Body,
}

/// The path as the edge sees it, and what the gateway before it may have done to the path that OSS called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredPath {
    /// The path as delivered.
    pub path: String,
    /// The gateway percent-decoded it: an HTTP API does, a function URL does not.
    pub decoded: bool,
    /// The gateway's named stage, which may have been put before the path or taken from it.
    pub stage: Option<String>,
}

impl DeliveredPath {
    /// A path straight from the request line.
    pub fn raw(path: impl Into<String>) -> Self {
        Self { path: path.into(), decoded: false, stage: None }
    }

    /// The path without the stage, for routes that nobody signs.
    pub fn without_stage(&self) -> &str {
        self.stage.as_deref().and_then(|stage| strip_stage(&self.path, stage)).unwrap_or(&self.path)
    }

    /// What OSS may have called, the delivered path first.
    fn forms(&self) -> Vec<String> {
        let mut forms = vec![self.path.clone()];
        if let Some(stage) = &self.stage {
            forms.extend(strip_stage(&self.path, stage).map(str::to_owned));
            forms.push(format!("/{stage}{}", self.path));
        }
        forms
    }
}

fn strip_stage<'a>(path: &'a str, stage: &str) -> Option<&'a str> {
    let rest = path.strip_prefix('/')?.strip_prefix(stage)?;
    rest.starts_with('/').then_some(rest)
}

/// A body that was read under [`BODY_LIMIT`].
#[derive(Clone)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It was over the limit; the rest was not read.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// The connection broke, or the gateway's encoding of it cannot be undone.
    Broken(&'static str),
}

impl Body {
    /// All of it, if it arrived.
    ///
    /// # Errors
    /// [`Failure::BodyTooLarge`], [`Failure::Timeout`] or [`Failure::BadBody`].
    pub fn whole(self, budget_ms: u128) -> Result<Bytes, Failure> {
        match self {
            Self::Whole(body) if body.len() <= BODY_LIMIT => Ok(body),
            Self::Whole(_) | Self::TooLarge => Err(Failure::BodyTooLarge { limit: BODY_LIMIT }),
            Self::TooSlow => Err(Failure::Timeout { budget_ms }),
            Self::Broken(problem) => Err(Failure::BadBody { problem: problem.to_owned() }),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(formatter, "Whole({} bytes)", bytes.len()),
            Self::TooLarge => formatter.write_str("TooLarge"),
            Self::TooSlow => formatter.write_str("TooSlow"),
            Self::Broken(problem) => write!(formatter, "Broken({problem})"),
        }
    }
}

/// The configured paths of `callbackUrl`, each as OSS calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackPaths(Vec<CallbackPath>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct CallbackPath {
    raw: String,
    decoded: Vec<u8>,
}

impl CallbackPaths {
    /// Reads a comma-separated list.
    ///
    /// # Errors
    /// A sentence, if the list is empty or a path does not begin with `/` or holds a query or a space.
    pub fn parse(list: &str) -> Result<Self, String> {
        let paths = list
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty())
            .map(|path| match path {
                path if !path.starts_with('/') => Err(format!("{} does not begin with a slash", quoted(path))),
                path if path.contains(['?', '#', ' ']) => {
                    Err(format!("{} holds a `?`, `#` or space; give the path of callbackUrl alone", quoted(path)))
                }
                path => Self::one(path),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if paths.is_empty() { Err("no path is given".to_owned()) } else { Ok(Self(paths)) }
    }

    /// An escaped `?` or control character would make it ambiguous where the signed path ends.
    fn one(path: &str) -> Result<CallbackPath, String> {
        let decoded: Vec<u8> = percent_decode_str(path).collect();
        if decoded.iter().any(|byte| *byte == b'?' || byte.is_ascii_control()) {
            return Err(format!(
                "{} holds an escaped `?` or control character; no callback could be proven",
                quoted(path)
            ));
        }
        Ok(CallbackPath { raw: path.to_owned(), decoded })
    }

    /// The candidates for the signed path, if `delivered` is one of the configured paths; `None` if it is not.
    ///
    /// The raw path is compared before anything is decoded, so that an escaped `?` or line feed cannot move the boundary
    /// between path, query and body. What OSS signed is then the delivered path or one that differs from it by a prefix
    /// which a proxy or a stage added or removed, as far as that is configured too. Every candidate is checked against the
    /// same signature, so trying several gives nothing away.
    pub fn candidates(&self, delivered: &DeliveredPath) -> Option<Vec<Vec<u8>>> {
        let forms = delivered.forms();
        let routes: Vec<&CallbackPath> = self
            .0
            .iter()
            .filter(|path| {
                forms
                    .iter()
                    .any(|form| *form == path.raw || (delivered.decoded && form.as_bytes() == path.decoded.as_slice()))
            })
            .collect();
        if routes.is_empty() {
            return None;
        }
        let mut candidates: Vec<Vec<u8>> = routes.iter().map(|route| route.decoded.clone()).collect();
        if delivered.stage.is_some() {
            candidates.extend(forms.iter().map(|form| {
                if delivered.decoded { form.clone().into_bytes() } else { percent_decode_str(form).collect() }
            }));
        }
        candidates.extend(
            self.0.iter().map(|path| path.decoded.clone()).filter(|path| {
                routes.iter().any(|route| path.ends_with(&route.decoded) || route.decoded.ends_with(path))
            }),
        );
        // Alibaba's own samples disagree on whether a `+` in the path means a space.
        candidates.extend(candidates.clone().into_iter().filter(|path| path.contains(&b'+')).map(plus_as_space));
        let mut distinct = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if !distinct.contains(&candidate) {
                distinct.push(candidate);
            }
        }
        Some(distinct)
    }
}

fn plus_as_space(path: Vec<u8>) -> Vec<u8> {
    path.into_iter().map(|byte| if byte == b'+' { b' ' } else { byte }).collect()
}

/// Keeps other files from making what only this one may.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof;

/// A request that has everything a callback must have. Whether OSS signed it is not known yet.
pub struct SignedRequest {
    pub(crate) candidates: Vec<Vec<u8>>,
    pub(crate) query: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) authorization: String,
    pub(crate) key_url: String,
    pub(crate) content_type: Option<String>,
    pub(crate) request_id: Option<String>,
    _proof: Proof,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SignedRequest").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl SignedRequest {
    /// Checks size, headers and signature version, in this order.
    ///
    /// # Errors
    /// The first of these that fails.
    pub fn receive(incoming: Incoming, candidates: Vec<Vec<u8>>, budget_ms: u128) -> Result<Self, Failure> {
        let body = incoming.body.whole(budget_ms)?;
        let headers = &incoming.headers;
        let authorization = required(headers, &AUTHORIZATION, "authorization")?;
        let key_url = required(headers, &KEY_URL, "x-oss-pub-key-url")?;
        let content_type = single(headers, &CONTENT_TYPE, "content-type")?;
        let version = single(headers, &SIGNATURE_VERSION, "x-oss-signature-version")?;
        if let Some(version) = version.filter(|version| version != "1.0") {
            return Err(Failure::UnsupportedSignatureVersion { version: quoted(&version) });
        }
        // Unsigned, and only used to name the request: a bad one is as good as none.
        let request_id = request_id(headers);
        let query = incoming.query;
        Ok(Self { candidates, query, body, authorization, key_url, content_type, request_id, _proof: Proof })
    }
}

/// The request id of the upload as the header says it: not signed, so only good for finding a line in a log.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    single(headers, &REQUEST_ID, "x-oss-request-id")
        .unwrap_or_default()
        .filter(|id| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
}

fn required(headers: &HeaderMap, header: &HeaderName, name: &'static str) -> Result<String, Failure> {
    single(headers, header, name)?.filter(|value| !value.is_empty()).ok_or(Failure::MissingHeader { name })
}

fn single(headers: &HeaderMap, header: &HeaderName, name: &'static str) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failure::BadHeader { name, problem: "stands more than once" });
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(_) => Err(Failure::BadHeader { name, problem: "is not plain text" }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = String> {
        "(/([a-z0-9+.~-]|%20|%2B|%c3){1,8}){1,4}/?"
    }

    proptest! {
        #[test]
        fn a_configured_path_is_a_candidate_for_itself_and_the_first(configured in path(), others in proptest::collection::vec(path(), 0..4)) {
            let list = std::iter::once(&configured).chain(&others).cloned().collect::<Vec<_>>().join(",");
            let candidates = CallbackPaths::parse(&list).unwrap().candidates(&DeliveredPath::raw(configured.clone())).unwrap();
            let decoded: Vec<u8> = percent_decode_str(&configured).collect();
            prop_assert_eq!(&candidates[0], &decoded);
        }

        #[test]
        fn any_other_path_is_no_route(configured in path(), delivered in any::<String>()) {
            prop_assume!(configured != delivered);
            prop_assert_eq!(CallbackPaths::parse(&configured).unwrap().candidates(&DeliveredPath::raw(delivered)), None);
        }

        #[test]
        fn a_candidate_is_one_of_the_configured_paths_up_to_the_plus(list in proptest::collection::vec(path(), 1..5)) {
            let paths = CallbackPaths::parse(&list.join(",")).unwrap();
            let known: Vec<Vec<u8>> = list.iter().map(|path| percent_decode_str(path).collect()).collect();
            for delivered in &list {
                for candidate in paths.candidates(&DeliveredPath::raw(delivered.clone())).unwrap() {
                    prop_assert!(known.iter().any(|path| *path == candidate || plus_as_space(path.clone()) == candidate));
                }
            }
        }

        #[test]
        fn no_list_of_paths_and_no_delivered_path_panics(list in any::<String>(), path in any::<String>(), stage in any::<String>(), decoded in any::<bool>()) {
            let delivered = DeliveredPath { path, decoded, stage: Some(stage) };
            let _ = delivered.without_stage();
            if let Ok(paths) = CallbackPaths::parse(&list) {
                let _ = paths.candidates(&delivered);
            }
        }
    }
}
