//! Requests from web pages of other origins: the rules of a bucket, preflights, and the headers that let a browser hand
//! the answer to the page.
//!
//! A bucket without rules refuses such pages with OSS. The stand-in lets them all in unless it is told to be strict: on
//! a laptop that saves a step, and a bucket that has rules is judged by them alone.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;

use crate::bucket::change_settings;
use crate::dispatch::host_of;
use crate::error::Error;
use crate::reply::{Reply, empty, full, xml};
use crate::request::{Address, addresses};
use crate::server::State;
use crate::store::{Bucket, Cors, CorsRule};
use crate::upload::read_document;
use crate::xml::{Document, Element};

const ROOT: &str = "CORSConfiguration";

/// protocol: at most 20 rules, and these methods. (Older documents say 10 rules.)
const MOST_RULES: usize = 20;
const METHODS: [&str; 5] = ["GET", "PUT", "DELETE", "POST", "HEAD"];

/// What pages may read of answers of a bucket without rules.
const EXPOSED_BY_DEFAULT: [&str; 9] = [
    "ETag",
    "Content-MD5",
    "Content-Range",
    "Date",
    "x-oss-request-id",
    "x-oss-hash-crc64ecma",
    "x-oss-object-type",
    "x-oss-ec",
    "x-oss-err",
];

pub(crate) async fn put_bucket_cors(
    bucket: Arc<Bucket>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let cors = read_rules(&read_document(headers, body, ROOT).await?)?;
    change_settings(bucket, move |settings| settings.cors = Some(cors)).await?;
    Ok(full(""))
}

pub(crate) fn get_bucket_cors(bucket: &Bucket) -> Result<Reply, Error> {
    let settings = bucket.settings();
    let Some(cors) = &settings.cors else {
        let message = "The CORS Configuration does not exist.";
        return Err(Error::new(StatusCode::NOT_FOUND, "NoSuchCORSConfiguration", message));
    };
    Ok(xml(document_of(cors)))
}

/// protocol: 204, also if there were no rules.
pub(crate) async fn delete_bucket_cors(bucket: Arc<Bucket>) -> Result<Reply, Error> {
    change_settings(bucket, |settings| settings.cors = None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Answers the question of a browser whether it may send a request. It comes unsigned.
pub(crate) fn preflight(state: &State, readings: &[Address], headers: &HeaderMap) -> Result<Reply, Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let (Some(origin), Some(method)) = (text(ORIGIN), text(ACCESS_CONTROL_REQUEST_METHOD)) else {
        // not documented: what OSS says to an OPTIONS request that is no preflight.
        let message = "A preflight request needs the headers Origin and Access-Control-Request-Method.";
        return Err(Error::invalid_argument("Origin", text(ORIGIN).unwrap_or_default(), message));
    };
    let cors = state.cors_of(readings).ok_or_else(|| forbidden("CORS is not enabled for this bucket."))?;
    let wanted = text(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let rule = cors.rules.iter().find(|rule| rule.allows(origin, method) && rule.allows_headers(wanted));
    let rule = rule.ok_or_else(|| {
        forbidden("This CORS request is not allowed: no rule fits its origin, its method and all of its headers.")
    })?;
    let mut reply = full("");
    let headers_of_reply = reply.headers_mut();
    rule.describe(origin, headers_of_reply);
    set(headers_of_reply, ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    if let Some(seconds) = rule.max_age_seconds {
        set(headers_of_reply, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    // Browsers ask this before a public page may reach a loopback address. OSS is never asked.
    if headers.contains_key("access-control-request-private-network") {
        set(headers_of_reply, HeaderName::from_static("access-control-allow-private-network"), "true");
    }
    Ok(reply)
}

/// Adds to an answer, also to a refusal, what a browser needs to hand it to the page.
pub(crate) fn stamp_cors(reply: &mut Reply, state: &State, parts: &Parts) {
    if parts.method == Method::OPTIONS {
        return;
    }
    let origin = parts.headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let buckets: Vec<String> = state.store.buckets().into_iter().map(|(name, _)| name).collect();
    let readings = addresses(parts.uri.path(), host_of(parts).as_deref(), &buckets).unwrap_or_default();
    let Some(cors) = state.cors_of(&readings) else { return };
    if cors.response_vary {
        set(reply.headers_mut(), VARY, "Origin");
    }
    let rule = origin.and_then(|origin| {
        cors.rules.iter().find(|rule| rule.allows(origin, parts.method.as_str())).map(|rule| (origin, rule))
    });
    if let Some((origin, rule)) = rule {
        rule.describe(origin, reply.headers_mut());
    }
}

impl State {
    /// The rules for a request that can be read in these ways; none if nothing is allowed.
    fn cors_of(&self, readings: &[Address]) -> Option<Cors> {
        let names = readings.iter().filter_map(|reading| reading.bucket.as_deref());
        let bucket = names.filter_map(|name| self.store.bucket(name)).next();
        match bucket.and_then(|bucket| bucket.settings().cors.clone()) {
            Some(cors) => Some(cors),
            None if self.strict_cors => None,
            None => Some(everything()),
        }
    }
}

/// The rules of a bucket that has none.
fn everything() -> Cors {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let rule = CorsRule {
        allowed_origins: owned(&["*"]),
        allowed_methods: owned(&METHODS),
        allowed_headers: owned(&["*"]),
        expose_headers: owned(&EXPOSED_BY_DEFAULT),
        max_age_seconds: None,
    };
    Cors { rules: vec![rule], response_vary: false }
}

impl CorsRule {
    fn allows(&self, origin: &str, method: &str) -> bool {
        self.allowed_methods.iter().any(|allowed| allowed == method)
            && self.allowed_origins.iter().any(|pattern| fits(pattern, origin))
    }

    /// Whether every name of a comma-separated list is allowed.
    fn allows_headers(&self, wanted: &str) -> bool {
        wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).all(|name| {
            let name = name.to_ascii_lowercase();
            self.allowed_headers.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &name))
        })
    }

    fn describe(&self, origin: &str, headers: &mut HeaderMap) {
        let anybody = self.allowed_origins.iter().any(|allowed| allowed == "*");
        set(headers, ACCESS_CONTROL_ALLOW_ORIGIN, if anybody { "*" } else { origin });
        if !anybody {
            set(headers, VARY, "Origin");
        }
        set(headers, ACCESS_CONTROL_ALLOW_METHODS, &self.allowed_methods.join(", "));
        set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers.join(", "));
    }
}

/// Whether a text is what a pattern with at most one `*` describes.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => text.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end)),
    }
}

/// Sets a header unless there is nothing to say.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

fn forbidden(reason: &str) -> Error {
    Error::new(StatusCode::FORBIDDEN, "AccessForbidden", format!("CORSResponse: {reason}"))
}

fn read_rules(document: &Element) -> Result<Cors, Error> {
    let rules: Vec<CorsRule> = document.children("CORSRule").map(read_rule).collect::<Result<_, _>>()?;
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Err(Error::malformed_xml(ROOT));
    }
    let response_vary = document.child_text("ResponseVary").is_some_and(|text| text.trim() == "true");
    Ok(Cors { rules, response_vary })
}

fn read_rule(element: &Element) -> Result<CorsRule, Error> {
    let texts = |name| element.children(name).map(|child| child.text().trim().to_owned()).collect::<Vec<String>>();
    let max_age_seconds = match element.child_text("MaxAgeSeconds").map(str::trim).filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|seconds| *seconds <= 999_999_999).ok_or_else(|| {
            Error::invalid_argument("MaxAgeSeconds", text, "MaxAgeSeconds must be a number from 0 to 999999999.")
        })?),
    };
    let rule = CorsRule {
        allowed_origins: texts("AllowedOrigin"),
        allowed_methods: texts("AllowedMethod"),
        allowed_headers: texts("AllowedHeader"),
        expose_headers: texts("ExposeHeader"),
        max_age_seconds,
    };
    if rule.allowed_origins.is_empty() || rule.allowed_methods.is_empty() {
        return Err(Error::malformed_xml(ROOT));
    }
    refuse_any("AllowedOrigin", &rule.allowed_origins, "must have text and at most one asterisk", |origin| {
        origin.is_empty() || origin.matches('*').count() > 1
    })?;
    refuse_any("AllowedMethod", &rule.allowed_methods, "must be GET, PUT, DELETE, POST or HEAD", |method| {
        !METHODS.contains(&method)
    })?;
    refuse_any("AllowedHeader", &rule.allowed_headers, "must have text and at most one asterisk", |header| {
        header.is_empty() || header.matches('*').count() > 1
    })?;
    refuse_any("ExposeHeader", &rule.expose_headers, "must be the name of one header", |header| {
        HeaderName::try_from(header).is_err() || header.contains('*')
    })?;
    Ok(rule)
}

fn refuse_any(name: &str, values: &[String], rule: &str, wrong: impl Fn(&str) -> bool) -> Result<(), Error> {
    match values.iter().find(|value| wrong(value)) {
        Some(value) => Err(Error::invalid_argument(name, value, format!("{name} {rule}."))),
        None => Ok(()),
    }
}

fn document_of(cors: &Cors) -> Document {
    let mut document = Document::new(ROOT);
    for rule in &cors.rules {
        document.open("CORSRule");
        for (name, values) in [
            ("AllowedOrigin", &rule.allowed_origins),
            ("AllowedMethod", &rule.allowed_methods),
            ("AllowedHeader", &rule.allowed_headers),
            ("ExposeHeader", &rule.expose_headers),
        ] {
            for value in values {
                document.text(name, value);
            }
        }
        if let Some(seconds) = rule.max_age_seconds {
            document.text("MaxAgeSeconds", &seconds.to_string());
        }
        document.close();
    }
    document.text("ResponseVary", if cors.response_vary { "true" } else { "false" });
    document
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_asterisk_stands_for_anything() {
        for (pattern, text, expected) in [
            ("*", "http://a", true),
            ("http://*.example.com", "http://a.b.example.com", true),
            ("http://*.example.com", "http://example.com", false),
            ("http://localhost:*", "http://localhost:3000", true),
            ("a*a", "a", false),
            ("http://a", "http://a", true),
            ("http://a", "http://A", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_that_oss_refuses_are_refused() {
        for (rule, code) in [
            ("", "MalformedXML"),
            ("<AllowedOrigin>*</AllowedOrigin>", "MalformedXML"),
            ("<AllowedOrigin>**</AllowedOrigin><AllowedMethod>GET</AllowedMethod>", "InvalidArgument"),
            ("<AllowedOrigin>*</AllowedOrigin><AllowedMethod>OPTIONS</AllowedMethod>", "InvalidArgument"),
            (
                "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><ExposeHeader>*</ExposeHeader>",
                "InvalidArgument",
            ),
            (
                "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>-1</MaxAgeSeconds>",
                "InvalidArgument",
            ),
        ] {
            let document = format!("<{ROOT}><CORSRule>{rule}</CORSRule></{ROOT}>");
            let refused = read_rules(&Element::parse(document.as_bytes(), ROOT).unwrap());
            assert_eq!(refused.unwrap_err().code, code, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn rules_are_read_back_as_they_were_stored(
            origins in proptest::collection::vec("http://[a-z.&<]{1,9}\\*?", 1..3),
            methods in proptest::sample::subsequence(METHODS.to_vec(), 1..=5),
            headers in proptest::collection::vec("[a-z-]{1,9}\\*?", 0..3),
            exposed in proptest::collection::vec("[a-zA-Z-]{1,9}", 0..3),
            max_age_seconds in proptest::option::of(0_u32..=999_999_999),
            response_vary: bool,
        ) {
            let rule = CorsRule {
                allowed_origins: origins,
                allowed_methods: methods.into_iter().map(str::to_owned).collect(),
                allowed_headers: headers,
                expose_headers: exposed,
                max_age_seconds,
            };
            let cors = Cors { rules: vec![rule], response_vary };
            let read = read_rules(&Element::parse(document_of(&cors).finish().as_bytes(), ROOT).unwrap()).unwrap();
            prop_assert_eq!(read, cors);
        }

        #[test]
        fn any_pattern_is_compared(pattern in ".{0,10}", text in ".{0,10}") {
            let _ = fits(&pattern, &text);
        }
    }
}
