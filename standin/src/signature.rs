//! Request signatures, versions 1 and 4, by header and by query. Everything here is a pure function of the request
//! head, the secret and the clock reading that is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::error::Error;
use crate::request::{Address, Query};

/// Bytes that V4 leaves as they are; a path keeps its slashes as well.
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
pub(crate) const UNRESERVED_PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Query parameters that belong to the resource in V1; so does every one that begins with `x-oss-`.
const SUB_RESOURCES: &[&str] = &[
    "acl",
    "append",
    "bucketInfo",
    "callback",
    "callback-var",
    "cloudboxes",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "img",
    "inventory",
    "inventoryId",
    "lifecycle",
    "live",
    "location",
    "logging",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "qos",
    "qosInfo",
    "referer",
    "regionList",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
];

/// The longest life of a presigned V4 request in seconds (seven days).
const LONGEST_LIFE: u64 = 7 * 24 * 3600;

/// What a request head says about its signature.
#[derive(Debug)]
pub(crate) struct Claim {
    version: Version,
    access_key_id: String,
    given: String,
    /// The line that stands for the time in the string to sign, exactly as sent.
    date: String,
    /// Set for presigned requests: V1 a unix time, V4 a number of seconds after `date`.
    expires: Option<u64>,
}

#[derive(Debug)]
enum Version {
    One,
    Four { day: String, region: String, additional: Vec<String> },
}

/// The parts of a request that signatures cover.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a HeaderMap,
}

impl Claim {
    /// Reads the claim; `None` for a request that is not signed at all.
    pub(crate) fn read(head: Head<'_>) -> Result<Option<Self>, Error> {
        let by_query = Self::read_query(head.query)?;
        let Some(value) = head.headers.get(AUTHORIZATION) else { return Ok(by_query) };
        let malformed = || {
            Error::invalid_argument(
                "Authorization",
                &String::from_utf8_lossy(value.as_bytes()),
                "The Authorization header is malformed.",
            )
        };
        if by_query.is_some() {
            return Err(Error::new(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "A request is signed either by its Authorization header or by its query, not by both.",
            ));
        }
        let (scheme, rest) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or_else(malformed)?;
        match scheme {
            "OSS" => {
                let (id, signature) = rest.trim().split_once(':').ok_or_else(malformed)?;
                let date = text(head.headers, "x-oss-date").or_else(|| text(head.headers, DATE.as_str()));
                Ok(Some(Self {
                    version: Version::One,
                    access_key_id: id.to_owned(),
                    given: signature.to_owned(),
                    date: date.unwrap_or_default(),
                    expires: None,
                }))
            }
            "OSS4-HMAC-SHA256" => {
                let (mut credential, mut additional, mut signature) = (None, "", None);
                for part in rest.split(',') {
                    match part.trim().split_once('=') {
                        Some(("Credential", value)) => credential = Some(value),
                        Some(("AdditionalHeaders", value)) => additional = value,
                        Some(("Signature", value)) => signature = Some(value),
                        _ => return Err(malformed()),
                    }
                }
                let (Some(credential), Some(signature)) = (credential, signature) else { return Err(malformed()) };
                // Go SDK v1 sends no x-oss-date and signs the text of its Date header.
                let date = text(head.headers, "x-oss-date").or_else(|| text(head.headers, DATE.as_str()));
                Self::four(credential, additional, signature, date.unwrap_or_default(), None).map(Some)
            }
            "OSS2" => Err(version_two()),
            _ => Err(malformed()),
        }
    }

    fn read_query(query: &Query) -> Result<Option<Self>, Error> {
        let malformed = |name: &str| {
            Error::invalid_argument(name, query.get(name).unwrap_or_default(), "The presigned query is malformed.")
        };
        match query.get("x-oss-signature-version") {
            Some("OSS4-HMAC-SHA256") => {
                let get = |name| query.get(name).ok_or_else(|| malformed(name));
                let expires: u64 = get("x-oss-expires")?.parse().map_err(|_| malformed("x-oss-expires"))?;
                if expires == 0 || expires > LONGEST_LIFE {
                    return Err(malformed("x-oss-expires"));
                }
                let additional = query.get("x-oss-additional-headers").unwrap_or_default();
                let date = get("x-oss-date")?.to_owned();
                Self::four(get("x-oss-credential")?, additional, get("x-oss-signature")?, date, Some(expires)).map(Some)
            }
            Some("OSS2") => Err(version_two()),
            Some(_) => Err(malformed("x-oss-signature-version")),
            None => {
                let (Some(id), Some(signature)) = (query.get("OSSAccessKeyId"), query.get("Signature")) else {
                    return Ok(None);
                };
                let date = query.get("Expires").ok_or_else(|| malformed("Expires"))?;
                let expires = date.parse().map_err(|_| malformed("Expires"))?;
                Ok(Some(Self {
                    version: Version::One,
                    access_key_id: id.to_owned(),
                    given: signature.to_owned(),
                    date: date.to_owned(),
                    expires: Some(expires),
                }))
            }
        }
    }

    fn four(
        credential: &str,
        additional: &str,
        signature: &str,
        date: String,
        expires: Option<u64>,
    ) -> Result<Self, Error> {
        let Scope { access_key_id, day, region } = Scope::parse(credential)?;
        if basic_instant(&date).is_some() && !date.starts_with(&day) {
            let problem = "The date in the credential scope is not that of x-oss-date.";
            return Err(Error::invalid_argument("Credential", credential, problem));
        }
        let mut additional: Vec<String> = additional
            .split(';')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && !is_always_signed(name))
            .collect();
        additional.sort();
        additional.dedup();
        Ok(Self {
            version: Version::Four { day, region, additional },
            access_key_id,
            given: signature.to_owned(),
            date,
            expires,
        })
    }

    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The region that a V4 claim was made for.
    pub(crate) fn region(&self) -> Option<&str> {
        match &self.version {
            Version::One => None,
            Version::Four { region, .. } => Some(region),
        }
    }

    /// Refuses a claim that is expired, or that was made at a time further than `skew` from `now`.
    pub(crate) fn check_time(&self, now: SystemTime, skew: Duration) -> Result<(), Error> {
        let expired = |end: SystemTime| {
            Error::access_denied("Request has expired.")
                .detail("Expires", format_instant(end))
                .detail("ServerTime", format_instant(now))
        };
        let made = match (&self.version, self.expires) {
            (Version::One, Some(end)) => {
                let end = UNIX_EPOCH.checked_add(Duration::from_secs(end));
                return match end {
                    Some(end) if now > end => Err(expired(end)),
                    _ => Ok(()),
                };
            }
            (Version::One, None) => httpdate::parse_http_date(&self.date).ok(),
            (Version::Four { .. }, _) => {
                basic_instant(&self.date).or_else(|| httpdate::parse_http_date(&self.date).ok())
            }
        };
        let made = made.ok_or_else(|| Error::access_denied("OSS authentication requires a valid Date."))?;
        let ahead = made.duration_since(now).unwrap_or_default();
        let behind = now.duration_since(made).unwrap_or_default();
        if ahead > skew || (self.expires.is_none() && behind > skew) {
            return Err(Error::new(
                StatusCode::FORBIDDEN,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
            .ec("0002-00000504")
            .detail("RequestTime", format_instant(made))
            .detail("ServerTime", format_instant(now))
            .detail("MaxAllowedSkewMilliseconds", skew.as_millis().to_string()));
        }
        match self.expires {
            Some(life) if behind > Duration::from_secs(life) => Err(expired(made + Duration::from_secs(life))),
            _ => Ok(()),
        }
    }

    /// The first of these addresses that the client can have signed with this secret.
    pub(crate) fn verify<'a>(
        &self,
        head: Head<'_>,
        addresses: &'a [Address],
        secret: &str,
    ) -> Result<&'a Address, Error> {
        let matching = addresses.iter().find(|address| {
            self.resources(address).iter().any(|resource| {
                bool::from(self.expected(head, resource, secret).as_bytes().ct_eq(self.given.as_bytes()))
            })
        });
        if let Some(address) = matching {
            return Ok(address);
        }
        let signed = addresses.first().map(|address| self.string_to_sign(head, &resource(address))).unwrap_or_default();
        Err(Error::new(
            StatusCode::FORBIDDEN,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        )
        .ec("0002-00000040")
        .detail("OSSAccessKeyId", &self.access_key_id)
        .detail("SignatureProvided", &self.given)
        .detail("StringToSign", String::from_utf8_lossy(&signed)))
    }

    /// What the client may have signed as the address. Version 1 of one client (OpenDAL) leaves out the slash behind the
    /// bucket, as it does in the path.
    fn resources(&self, address: &Address) -> Vec<String> {
        let mut resources = vec![resource(address)];
        if let (Version::One, Some(bucket), true) = (&self.version, &address.bucket, address.key.is_empty()) {
            resources.push(format!("/{bucket}"));
        }
        resources
    }

    fn expected(&self, head: Head<'_>, resource: &str, secret: &str) -> String {
        let signed = self.string_to_sign(head, resource);
        match &self.version {
            Version::One => hmac_sha1_base64(secret, &signed),
            Version::Four { day, region, .. } => hex(&hmac_sha256(&signing_key(secret, day, region), &signed)),
        }
    }

    fn string_to_sign(&self, head: Head<'_>, resource: &str) -> Vec<u8> {
        match &self.version {
            Version::One => self.string_to_sign_one(head, resource),
            Version::Four { day, region, additional } => {
                let canonical = canonical_request(head, resource, additional);
                let digest = hex(&Sha256::digest(&canonical));
                format!("OSS4-HMAC-SHA256\n{}\n{day}/{region}/oss/aliyun_v4_request\n{digest}", self.date).into_bytes()
            }
        }
    }

    fn string_to_sign_one(&self, head: Head<'_>, resource: &str) -> Vec<u8> {
        let mut signed = Vec::new();
        signed.extend_from_slice(head.method.as_str().as_bytes());
        signed.push(b'\n');
        for name in ["content-md5", CONTENT_TYPE.as_str()] {
            signed.extend_from_slice(&joined(head.headers, name));
            signed.push(b'\n');
        }
        signed.extend_from_slice(self.date.as_bytes());
        signed.push(b'\n');
        for name in names(head.headers, |name| name.starts_with("x-oss-")) {
            signed.extend_from_slice(name.as_bytes());
            signed.push(b':');
            signed.extend_from_slice(&joined(head.headers, name));
            signed.push(b'\n');
        }
        signed.extend_from_slice(resource.as_bytes());
        let mut parameters: Vec<(&str, &str)> =
            head.query.iter().filter(|(name, _)| SUB_RESOURCES.contains(name) || name.starts_with("x-oss-")).collect();
        parameters.sort();
        for (position, (name, value)) in parameters.into_iter().enumerate() {
            signed.push(if position == 0 { b'?' } else { b'&' });
            signed.extend_from_slice(name.as_bytes());
            if !value.is_empty() {
                signed.push(b'=');
                signed.extend_from_slice(value.as_bytes());
            }
        }
        signed
    }
}

/// The credential of a version 4 signature, taken apart.
pub(crate) struct Scope {
    pub(crate) access_key_id: String,
    /// Like `20300131`.
    pub(crate) day: String,
    pub(crate) region: String,
}

impl Scope {
    pub(crate) fn parse(credential: &str) -> Result<Self, Error> {
        // The id is all before the scope, so that it may itself contain a slash.
        let mut parts = credential.rsplitn(5, '/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("aliyun_v4_request"), Some("oss"), Some(region), Some(day), Some(id)) => {
                Ok(Self { access_key_id: id.to_owned(), day: day.to_owned(), region: region.to_owned() })
            }
            _ => Err(Error::invalid_argument("Credential", credential, "The credential scope is malformed.")),
        }
    }
}

/// The version 1 signature of a form's policy, which is signed as it stands there, in Base64.
pub(crate) fn policy_signature_one(secret: &str, policy: &str) -> String {
    hmac_sha1_base64(secret, policy.as_bytes())
}

/// The version 4 signature of the same.
pub(crate) fn policy_signature_four(secret: &str, scope: &Scope, policy: &str) -> String {
    hex(&hmac_sha256(&signing_key(secret, &scope.day, &scope.region), policy.as_bytes()))
}

/// protocol: version 4 never signs with the secret itself, but with a key for one day and region.
fn signing_key(secret: &str, day: &str, region: &str) -> Vec<u8> {
    let mut key = hmac_sha256(format!("aliyun_v4{secret}").as_bytes(), day.as_bytes());
    for part in [region.as_bytes(), b"oss", b"aliyun_v4_request"] {
        key = hmac_sha256(&key, part);
    }
    key
}

fn hmac_sha1_base64(secret: &str, message: &[u8]) -> String {
    match Hmac::<Sha1>::new_from_slice(secret.as_bytes()) {
        Ok(mut mac) => {
            mac.update(message);
            STANDARD.encode(mac.finalize().into_bytes())
        }
        // HMAC takes keys of every length.
        Err(_) => String::new(),
    }
}

pub(crate) fn version_two() -> Error {
    Error::new(
        StatusCode::BAD_REQUEST,
        "InvalidArgument",
        "Signature version 2 (OSS2) is not supported; sign with version 4 (OSS4-HMAC-SHA256) or version 1 (OSS).",
    )
}

fn canonical_request(head: Head<'_>, resource: &str, additional: &[String]) -> Vec<u8> {
    let mut canonical = Vec::new();
    canonical.extend_from_slice(head.method.as_str().as_bytes());
    canonical.push(b'\n');
    canonical.extend(utf8_percent_encode(resource, UNRESERVED_PATH).flat_map(str::bytes));
    canonical.push(b'\n');
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in head.query.iter().filter(|(name, _)| *name != "x-oss-signature") {
        let name = utf8_percent_encode(name, UNRESERVED).to_string();
        let value = utf8_percent_encode(value, UNRESERVED).to_string();
        // Of two parameters with one name the last one counts.
        parameters.insert(name, value);
    }
    let query: Vec<String> = parameters
        .into_iter()
        .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
        .collect();
    canonical.extend_from_slice(query.join("&").as_bytes());
    canonical.push(b'\n');
    for name in names(head.headers, |name| is_always_signed(name) || additional.iter().any(|known| known == name)) {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        canonical.extend_from_slice(&joined(head.headers, name));
        canonical.push(b'\n');
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(additional.join(";").as_bytes());
    canonical.push(b'\n');
    let payload = text(head.headers, "x-oss-content-sha256");
    canonical.extend_from_slice(payload.as_deref().unwrap_or("UNSIGNED-PAYLOAD").as_bytes());
    canonical
}

/// protocol: the bucket is part of the resource however the request addresses it.
fn resource(address: &Address) -> String {
    match &address.bucket {
        Some(bucket) => format!("/{bucket}/{}", address.key),
        None => "/".to_owned(),
    }
}

fn is_always_signed(name: &str) -> bool {
    name.starts_with("x-oss-") || name == "content-type" || name == "content-md5"
}

/// The names of the headers that are wanted, sorted, each once.
fn names(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).filter(|name| wanted(name)).collect();
    names.sort_unstable();
    names
}

/// All values of one header, trimmed and joined with commas.
fn joined(headers: &HeaderMap, name: &str) -> Vec<u8> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).collect();
    values.join(&b","[..])
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        // HMAC takes keys of every length.
        Err(_) => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `YYYYMMDDTHHMMSSZ`.
pub(crate) fn basic_instant(text: &str) -> Option<SystemTime> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| SystemTime::from(zoned.timestamp()))
}

fn format_instant(instant: SystemTime) -> String {
    jiff::Timestamp::try_from(instant).map(|timestamp| timestamp.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
