//! OSS over signed HTTP.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, LAST_MODIFIED};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aliyun_oss::{Credential, RequestSigner, SigningVersion};
use reqsign_core::{Context, SignRequest as _};

use super::listing::parse;
use super::{Listing, Objects, ObjectsError};
use crate::record::{Facts, RecordKey};

/// An object of which nothing comes for so long is given up, however long the whole of it may take.
const IDLE: Duration = Duration::from_secs(8);

/// The mark of what we made, on the object itself, and what it says.
const MADE_BY: HeaderName = HeaderName::from_static("x-oss-meta-made-by");
const US: &str = "oss-callback";

const VERSION_ID: HeaderName = HeaderName::from_static("x-oss-version-id");
const CRC64: HeaderName = HeaderName::from_static("x-oss-hash-crc64ecma");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-oss-ec");
const ERROR: HeaderName = HeaderName::from_static("x-oss-err");

/// Unreserved characters and the slash stand for themselves in the path of an object, as OSS signs it.
const KEY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// In a query only the unreserved characters stand for themselves.
const QUERY: AsciiSet = KEY.add(b'/');

/// Protocol: the most objects that one page of a listing can hold.
const LISTED_PER_PAGE: usize = 1000;

/// The most bytes of a page of a listing: so many keys of 1,023 bytes, each byte escaped, and what stands around them.
const LISTING_LIMIT: usize = 8 * 1024 * 1024;

/// Where OSS is and who we are.
#[derive(Clone)]
pub struct OssSettings {
    /// Endpoint with scheme, without bucket: `https://oss-cn-hangzhou.aliyuncs.com`.
    pub endpoint: Uri,
    /// Region id without `oss-`: `cn-hangzhou`.
    pub region: String,
    /// Access key id.
    pub access_key_id: String,
    /// Access key secret.
    pub access_key_secret: String,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
    /// The longest that one request without a large body may take.
    pub request_timeout: Duration,
}

impl fmt::Debug for OssSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OssSettings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// A client of OSS that signs every request with version 4 of its signature.
pub struct Oss {
    settings: OssSettings,
    addressing: Addressing,
    credential: Credential,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl fmt::Debug for Oss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Oss").field(&self.settings).finish()
    }
}

/// Whether the bucket stands before the host or at the head of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addressing {
    Path,
    VirtualHosted,
}

impl Addressing {
    /// An IP address or `localhost` has no names below it.
    fn of(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<std::net::IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost") {
            Self::Path
        } else {
            Self::VirtualHosted
        }
    }
}

impl Oss {
    /// A client with its own pool of connections. Nothing is sent yet.
    pub fn new(settings: OssSettings) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(settings.request_timeout));
        let https =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(https);
        let credential = Credential {
            access_key_id: settings.access_key_id.clone(),
            access_key_secret: settings.access_key_secret.clone(),
            security_token: settings.session_token.clone(),
            expires_in: None,
        };
        let addressing = Addressing::of(settings.endpoint.host().unwrap_or_default());
        Self { settings, addressing, credential, client }
    }

    /// The address of an object, or, with an empty key and a query, of its bucket.
    fn uri(&self, key: &RecordKey, query: &str) -> Result<Uri, http::Error> {
        let authority = self.settings.endpoint.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let object = utf8_percent_encode(&key.object, &KEY);
        let uri = Uri::builder().scheme(self.settings.endpoint.scheme_str().unwrap_or("https"));
        match self.addressing {
            Addressing::Path => uri.authority(authority).path_and_query(format!("/{}/{object}{query}", key.bucket)),
            Addressing::VirtualHosted => {
                uri.authority(format!("{}.{authority}", key.bucket)).path_and_query(format!("/{object}{query}"))
            }
        }
        .build()
    }

    /// Signs and sends. `signed` take part in the signature; `unsigned` are added after it.
    async fn send(
        &self,
        method: Method,
        (key, query): (&RecordKey, &str),
        signed: HeaderMap,
        unsigned: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, ObjectsError> {
        let malformed =
            |error: &dyn fmt::Display| ObjectsError::Unavailable(format!("no request can be made: {error}"));
        let uri = self.uri(key, query).map_err(|error| malformed(&error))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = signed;
        let (mut parts, body) = request.into_parts();
        RequestSigner::new(&key.bucket)
            .with_region(self.settings.region.clone())
            .with_signing_version(SigningVersion::V4)
            .sign_request(&Context::new(), &mut parts, Some(&self.credential), None)
            .await
            .map_err(|error| malformed(&error))?;
        parts.headers.extend(unsigned);
        // Every request may be repeated. Once is enough for a connection that died unnoticed, as they do while a function
        // is frozen; the time-out around it stays the same.
        let request = Request::from_parts(parts, body);
        let first = self.client.request(request.clone()).await;
        let answer = match first {
            Err(_) => self.client.request(request).await,
            answer => answer,
        };
        answer.map_err(|error| {
            use std::error::Error as _;
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            ObjectsError::Unavailable(format!("{error}{cause}"))
        })
    }

    async fn in_time<T>(
        &self,
        time: Duration,
        call: impl Future<Output = Result<T, ObjectsError>>,
    ) -> Result<T, ObjectsError> {
        match tokio::time::timeout(time, call).await {
            Ok(result) => result,
            Err(_) => Err(ObjectsError::Unavailable(format!("no answer within {} ms", time.as_millis()))),
        }
    }
}

/// Bodies travel at least this fast, or the transfer is given up: 1 MiB/s.
fn transfer_time(base: Duration, bytes: u64) -> Duration {
    base.saturating_add(Duration::from_millis(bytes / 1024))
}

/// The failure that a status stands for; `None` for success.
fn failure(status: StatusCode, headers: &HeaderMap) -> Option<ObjectsError> {
    let code = headers.get(ERROR_CODE).and_then(|value| value.to_str().ok()).unwrap_or("no EC");
    match status {
        status if status.is_success() => None,
        // A bucket that does not exist, at this endpoint or for this account, says nothing about the object.
        StatusCode::NOT_FOUND if names_no_bucket(headers) => {
            Some(ObjectsError::Unavailable("there is no such bucket at this endpoint".to_owned()))
        }
        StatusCode::NOT_FOUND => Some(ObjectsError::NotFound),
        StatusCode::PRECONDITION_FAILED => Some(ObjectsError::Changed),
        StatusCode::FORBIDDEN => Some(ObjectsError::Forbidden(format!(
            "status 403, {code}; check OSS_ACCESS_KEY_ID and its secret, OSS_REGION, and the rights oss:GetObject, \
             oss:PutObject and, to reconcile, oss:ListObjects"
        ))),
        status => Some(ObjectsError::Unavailable(format!("status {}, {code}", status.as_u16()))),
    }
}

/// Protocol: an answer to HEAD has no body; the error stands in `x-oss-err` as Base64 of XML, its number in `x-oss-ec`, where
/// the family 0015 is about buckets.
fn names_no_bucket(headers: &HeaderMap) -> bool {
    let xml = text(headers, &ERROR).and_then(|encoded| STANDARD.decode(encoded).ok()).unwrap_or_default();
    let code = text(headers, &ERROR_CODE).unwrap_or_default();
    code.starts_with("0015-") || xml.windows(12).any(|part| part == b"NoSuchBucket")
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn facts(headers: &HeaderMap) -> Result<Facts, ObjectsError> {
    let missing = |name: &str| ObjectsError::Unavailable(format!("the answer to HEAD has no usable {name}"));
    let etag = text(headers, &ETAG).ok_or_else(|| missing("ETag"))?;
    let size = text(headers, &CONTENT_LENGTH).and_then(|size| size.parse().ok());
    let modified = text(headers, &LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(&date).ok());
    Ok(Facts {
        etag: Some(etag.trim_matches('"').to_ascii_uppercase()),
        size: Some(size.ok_or_else(|| missing("Content-Length"))?),
        mime: text(headers, &CONTENT_TYPE).filter(|mime| mime.len() <= 255),
        last_modified: modified.and_then(|time| Timestamp::try_from(time).ok()),
        version_id: text(headers, &VERSION_ID),
        crc64: text(headers, &CRC64).and_then(|crc| crc.parse().ok()),
        own_output: headers.get(MADE_BY).is_some_and(|value| value == US),
        confirmed: true,
    })
}

#[async_trait]
impl Objects for Oss {
    async fn head(&self, key: &RecordKey) -> Result<Facts, ObjectsError> {
        self.in_time(self.settings.request_timeout, async {
            let answer = self.send(Method::HEAD, (key, ""), HeaderMap::new(), HeaderMap::new(), Bytes::new()).await?;
            failure(answer.status(), answer.headers()).map_or_else(|| facts(answer.headers()), Err)
        })
        .await
    }

    async fn get(&self, key: &RecordKey, etag: &str, limit: u64) -> Result<Bytes, ObjectsError> {
        let time = transfer_time(self.settings.request_timeout, limit);
        self.in_time(time, async {
            let mut condition = HeaderMap::new();
            let value = HeaderValue::from_str(&format!("\"{etag}\"")).map_err(|_| ObjectsError::Changed)?;
            condition.insert(IF_MATCH, value);
            let asked = self.send(Method::GET, (key, ""), HeaderMap::new(), condition, Bytes::new());
            let answer = self.in_time(IDLE, asked).await?;
            if let Some(failure) = failure(answer.status(), answer.headers()) {
                return Err(failure);
            }
            let mut body = answer.into_body();
            let mut bytes = BytesMut::new();
            while let Some(frame) = self.in_time(IDLE, async { Ok(body.frame().await) }).await? {
                let frame = frame.map_err(|error| ObjectsError::Unavailable(format!("the body broke off: {error}")))?;
                bytes.extend(frame.into_data().ok());
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
                    return Err(ObjectsError::TooLarge { limit });
                }
            }
            Ok(bytes.freeze())
        })
        .await
    }

    async fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError> {
        let limit = u64::try_from(LISTING_LIMIT).unwrap_or(u64::MAX);
        self.in_time(transfer_time(self.settings.request_timeout, limit), async {
            let encoded = |value| utf8_percent_encode(value, &QUERY);
            let after_parameter = after.map(|after| format!("&start-after={}", encoded(after))).unwrap_or_default();
            let query = format!(
                "?list-type=2&encoding-type=url&max-keys={LISTED_PER_PAGE}&prefix={}{after_parameter}",
                encoded(prefix)
            );
            let of_bucket = RecordKey::new(bucket, "");
            let answer =
                self.send(Method::GET, (&of_bucket, &query), HeaderMap::new(), HeaderMap::new(), Bytes::new()).await?;
            match failure(answer.status(), answer.headers()) {
                // Whatever is not found here, it is not an object.
                Some(ObjectsError::NotFound) => {
                    return Err(ObjectsError::Unavailable(format!("there is no bucket {bucket} at this endpoint")));
                }
                Some(failure) => return Err(failure),
                None => {}
            }
            let body = Limited::new(answer.into_body(), LISTING_LIMIT).collect().await;
            let body = body.map_err(|error| ObjectsError::Unavailable(format!("the listing broke off: {error}")))?;
            parse(&body.to_bytes(), prefix, after)
                .map_err(|problem| ObjectsError::Unavailable(format!("the listing of {bucket} {problem}")))
        })
        .await
    }

    async fn put(&self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.in_time(transfer_time(self.settings.request_timeout, size), async {
            let mut headers = HeaderMap::new();
            let mime = HeaderValue::from_str(mime).unwrap_or(HeaderValue::from_static("application/octet-stream"));
            headers.insert(CONTENT_TYPE, mime);
            headers.insert(MADE_BY, HeaderValue::from_static(US));
            let answer = self.send(Method::PUT, (key, ""), headers, HeaderMap::new(), bytes).await?;
            failure(answer.status(), answer.headers()).map_or(Ok(()), Err)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn uri(endpoint: &str, bucket: &str, object: &str) -> String {
        let settings = OssSettings {
            endpoint: endpoint.parse().unwrap(),
            region: String::new(),
            access_key_id: String::new(),
            access_key_secret: String::new(),
            session_token: None,
            request_timeout: Duration::from_secs(1),
        };
        Oss::new(settings).uri(&RecordKey::new(bucket, object), "").unwrap().to_string()
    }

    #[test]
    fn addresses_and_localhost_are_addressed_path_style_and_names_virtual_hosted() {
        assert_eq!(uri("http://127.0.0.1:9080", "b", "k"), "http://127.0.0.1:9080/b/k");
        assert_eq!(uri("http://[::1]:9080", "b", "k"), "http://[::1]:9080/b/k");
        assert_eq!(uri("http://localhost:9080", "b", "k"), "http://localhost:9080/b/k");
        assert_eq!(uri("https://oss-cn-hangzhou.aliyuncs.com", "b", "k"), "https://b.oss-cn-hangzhou.aliyuncs.com/k");
    }

    #[test]
    fn every_byte_of_a_key_but_the_unreserved_and_the_slash_is_escaped() {
        assert_eq!(uri("http://h", "b", "a/b c+d%?#&=\u{e4}~-._"), "http://b.h/a/b%20c%2Bd%25%3F%23%26%3D%C3%A4~-._");
        assert_eq!(uri("http://h", "b", "../x//"), "http://b.h/../x//");
    }

    #[test]
    fn settings_show_no_secret() {
        let shown = format!(
            "{:?}",
            OssSettings {
                endpoint: "http://h".parse().unwrap(),
                region: "r".to_owned(),
                access_key_id: "canary-id".to_owned(),
                access_key_secret: "canary-secret".to_owned(),
                session_token: Some("canary-token".to_owned()),
                request_timeout: Duration::from_secs(1),
            }
        );
        assert!(!shown.contains("canary"), "{shown}");
    }
}
