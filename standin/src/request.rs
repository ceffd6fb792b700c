//! What a request is about: its bucket and key out of path and Host, and its query parameters.

use std::net::IpAddr;

use http::StatusCode;
use percent_encoding::percent_decode;

use crate::error::Error;
use crate::store::is_bucket_name;

/// The longest key in bytes (protocol: 1 to 1,023 bytes of UTF-8).
pub(crate) const LONGEST_KEY: usize = 1023;

/// One way to read a request: the bucket, if it names one, and the key, empty for the bucket itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) bucket: Option<String>,
    pub(crate) key: String,
}

impl Address {
    fn new(bucket: &str, key: &str) -> Self {
        Self { bucket: Some(bucket.to_owned()), key: key.to_owned() }
    }
}

/// Every way to read the path and the Host header, the likeliest first.
///
/// Clients address the same object as `/bucket/key`, as `/key` with the bucket in Host, with the bucket in both, and
/// as `/key` with no bucket at all (a domain of the bucket's own). Several of these readings can fit one request; the
/// reading that the client signed is the right one, so the signature decides between them.
pub(crate) fn addresses(path: &str, host: Option<&str>, buckets: &[String]) -> Result<Vec<Address>, Error> {
    let path = decode(path.strip_prefix('/').unwrap_or(path))
        .ok_or_else(|| Error::new(StatusCode::BAD_REQUEST, "InvalidObjectName", "The key is not UTF-8."))?;
    let (first, rest) = path.split_once('/').unwrap_or((&path, ""));
    let mut readings = Vec::new();
    let named = host.and_then(|host| bucket_of_host(host, buckets));
    if let Some((bucket, true)) = named {
        readings.push(Address::new(bucket, &path));
        if first == bucket {
            readings.push(Address::new(bucket, rest));
        }
    } else {
        // A bucket that is yet to be made is nowhere else than in the request: in a host that may just as well be a
        // name of this machine, or alone in the path.
        if let (Some((bucket, _)), true) = (named, path.is_empty()) {
            readings.push(Address::new(bucket, ""));
        }
        let first_is_bucket = buckets.iter().any(|bucket| bucket == first);
        if first_is_bucket || (rest.is_empty() && path.ends_with('/') && is_bucket_name(first)) {
            readings.push(Address::new(first, rest));
        }
        if let [only] = buckets {
            readings.push(Address::new(only, &path));
        }
        if !first_is_bucket && !first.is_empty() {
            readings.push(Address::new(first, rest));
        }
        if let (Some((bucket, _)), false) = (named, path.is_empty()) {
            readings.push(Address::new(bucket, &path));
        }
        // A domain of a bucket's own says which one only in the signature.
        if let [_, _, ..] = buckets {
            readings.extend(buckets.iter().map(|bucket| Address::new(bucket, &path)));
        }
        if path.is_empty() {
            readings.push(Address { bucket: None, key: String::new() });
        }
    }
    readings.retain(|reading| reading.key.len() <= LONGEST_KEY);
    if readings.is_empty() {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidObjectName",
            "The length of the key must be between 1 and 1023 bytes.",
        ));
    }
    Ok(readings)
}

/// Whether a Host header names a bucket, one of these or one of OSS.
pub(crate) fn host_names_bucket(host: &str, buckets: &[String]) -> bool {
    matches!(bucket_of_host(host, buckets), Some((_, true)))
}

/// The bucket that a Host header names, and whether it does so for certain.
fn bucket_of_host<'a>(host: &'a str, buckets: &[String]) -> Option<(&'a str, bool)> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let (first, rest) = name.split_once('.')?;
    // A bucket that does not exist here is recognised by the OSS endpoint behind it.
    let certain = buckets.iter().any(|bucket| bucket == first) || rest.starts_with("oss-");
    (certain || (is_bucket_name(first) && is_local(rest))).then_some((first, certain))
}

/// Whether a name stands for this machine: `localhost`, or an address written as a name, such as `127.0.0.1.nip.io`.
fn is_local(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let address = labels.get(..4).is_some_and(|octets| octets.iter().all(|octet| octet.parse::<u8>().is_ok()));
    address || labels.last().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// The query string: as it was sent, and its parameters decoded, in order.
#[derive(Debug, Default)]
pub(crate) struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(raw: &str) -> Result<Self, Error> {
        let mut parameters = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => parameters.push((name, value)),
                _ => return Err(Error::invalid_argument("query", pair, "The query string is not UTF-8.")),
            }
        }
        Ok(Self { parameters })
    }

    /// The value of a parameter; of several with one name the last (as the signature counts them).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Percent-decodes once; `+` is a space (the Ruby SDK writes keys so, and V4 canonicalises queries so).
fn decode(text: &str) -> Option<String> {
    String::from_utf8(percent_decode(text.replace('+', " ").as_bytes()).collect()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn first(path: &str, host: &str) -> Address {
        let buckets = vec!["examplebucket".to_owned(), "other".to_owned()];
        addresses(path, Some(host), &buckets).unwrap()[0].clone()
    }

    #[test]
    fn one_object_is_found_however_the_client_writes_it() {
        let expected = Address::new("examplebucket", "t/a key.txt");
        for (path, host) in [
            ("/examplebucket/t/a%20key.txt", "127.0.0.1:9080"),
            ("/examplebucket/t%2Fa%20key.txt", "localhost"),
            ("/examplebucket%2Ft%2Fa+key.txt", "[::1]:9080"),
            ("/t/a%20key.txt", "examplebucket.oss-cn-hangzhou.aliyuncs.com"),
            ("/t%2Fa%20key.txt", "examplebucket.localhost:9080"),
        ] {
            assert_eq!(first(path, host), expected, "{path} at {host}");
        }
    }

    #[test]
    fn a_bucket_in_host_and_path_leaves_two_readings() {
        let readings = addresses(
            "/examplebucket/k",
            Some("examplebucket.oss-cn-hangzhou.aliyuncs.com"),
            &["examplebucket".to_owned()],
        )
        .unwrap();
        assert_eq!(readings, [Address::new("examplebucket", "examplebucket/k"), Address::new("examplebucket", "k")]);
    }

    #[test]
    fn without_any_bucket_the_only_one_is_meant() {
        let readings = addresses("/t/k", Some("127.0.0.1"), &["examplebucket".to_owned()]).unwrap();
        assert_eq!(readings, [Address::new("examplebucket", "t/k"), Address::new("t", "k")]);
        let buckets = ["examplebucket".to_owned(), "other".to_owned()];
        let readings = addresses("/t/k", Some("files.example.com"), &buckets).unwrap();
        let each = buckets.iter().map(|bucket| Address::new(bucket, "t/k"));
        assert_eq!(readings, [Address::new("t", "k")].into_iter().chain(each).collect::<Vec<_>>());
    }

    #[test]
    fn keys_are_utf_8_of_at_most_1023_bytes() {
        let buckets = ["examplebucket".to_owned()];
        assert!(addresses("/examplebucket/%FF", None, &buckets).is_err());
        let longest = format!("/examplebucket/{}", "k".repeat(1023));
        assert_eq!(addresses(&longest, None, &buckets).unwrap()[0].key.len(), 1023);
        assert!(addresses(&format!("{longest}k"), None, &buckets).is_err());
    }

    proptest! {
        #[test]
        fn any_request_line_is_read_or_refused(path in "(/|%2[fF]|[a-z%+]|.){0,20}", host in ".{0,20}", query in ".{0,40}") {
            let buckets = ["examplebucket".to_owned()];
            if let Ok(readings) = addresses(&path, Some(&host), &buckets) {
                prop_assert!(!readings.is_empty());
            }
            let _ = Query::parse(&query);
        }
    }
}
