//! callbackUrl: what is connected to, and what stands on the request line.

use std::net::IpAddr;

use http::uri::PathAndQuery;

/// One URL of a callback, taken apart but never rewritten: OSS sends and signs what the uploader wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallbackUrl {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host with the port, if one was written: the default Host header.
    pub(crate) authority: String,
    /// Begins with a slash; percent-encoding untouched.
    pub(crate) path: String,
    /// Empty, or `?` and all that follows it; a lone `?` stays.
    pub(crate) query: String,
}

impl CallbackUrl {
    /// `None` if this is no URL that a callback can go to.
    ///
    /// protocol: the scheme is optional (http); a port is a positive number; IPv6 literals are not supported; what is
    /// not ASCII must be percent-encoded by the caller. Without a path the request goes to `/`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (https, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            // The first "://" may stand in the query of a URL without a scheme.
            Some((before, _)) if before.contains(['/', '?']) => (false, url),
            Some(_) => return None,
            None => (false, url),
        };
        // A fragment never leaves the client.
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, ""),
        };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, port.parse().ok().filter(|port| *port > 0)?)
            }
            Some(_) => return None,
            None => (authority, if https { 443 } else { 80 }),
        };
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(is_host_byte) {
            return None;
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic())
            || (!target.is_empty() && PathAndQuery::try_from(target).is_err())
        {
            return None;
        }
        let (path, query) = match target.find('?') {
            Some(at) => target.split_at_checked(at)?,
            None => (target, ""),
        };
        Some(Self {
            https,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            query: query.to_owned(),
        })
    }

    /// As it was written, with its scheme.
    pub(crate) fn written(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}{}", self.authority, self.path, self.query)
    }
}

/// Whether OSS refuses to call this address: loopback, private, link-local and the like.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_private(IpAddr::V4(mapped)),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parts(url: &str) -> (bool, String, u16, String, String) {
        let url = CallbackUrl::parse(url).unwrap();
        (url.https, url.host, url.port, url.path, url.query)
    }

    #[test]
    fn urls_are_taken_apart_and_left_as_written() {
        let expect = |https, host: &str, port, path: &str, query: &str| {
            (https, host.to_owned(), port, path.to_owned(), query.to_owned())
        };
        assert_eq!(parts("121.43.113.8:23456/index.html"), expect(false, "121.43.113.8", 23456, "/index.html", ""));
        assert_eq!(parts("www.aliyuncs.com"), expect(false, "www.aliyuncs.com", 80, "/", ""));
        assert_eq!(parts("HTTPS://h/a%2Fb/../c?x=%20&x"), expect(true, "h", 443, "/a%2Fb/../c", "?x=%20&x"));
        assert_eq!(parts("http://h:1?user=put_object"), expect(false, "h", 1, "/", "?user=put_object"));
        assert_eq!(parts("http://h/cb?"), expect(false, "h", 80, "/cb", "?"));
        assert_eq!(parts("h/cb?next=http://other/"), expect(false, "h", 80, "/cb", "?next=http://other/"));
        assert_eq!(parts("http://h/a?b?c#d"), expect(false, "h", 80, "/a", "?b?c"));
    }

    #[test]
    fn what_no_callback_can_go_to_is_no_url() {
        for url in [
            "",
            "http://",
            "http:///cb",
            "host:test",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "ftp://h/",
            "http://u@h/",
            "http://[::1]/",
            "http://h/a b",
            "http://h/\r\nX: y",
            "http://h/路径",
            "http://ho st/",
        ] {
            assert_eq!(CallbackUrl::parse(url), None, "{url:?}");
        }
    }
}
