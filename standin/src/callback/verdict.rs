//! The judgement of a callback server's answer: what OSS relays, and in which words it says that a callback failed.

use bytes::Bytes;
use http::HeaderValue;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::IgnoredAny;

/// The longest answer in bytes. OSS's documents say 1 MB in one place and 3 MB in another.
pub(crate) const LONGEST_ANSWER: u64 = 1024 * 1024;

/// An answer that is relayed to the uploader, with status 200.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) content_type: Option<HeaderValue>,
    /// Exactly the bytes of the callback server.
    pub(crate) body: Bytes,
}

/// Why a callback failed, in OSS's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) ec: &'static str,
}

impl Failure {
    fn new(message: impl Into<String>, ec: &'static str) -> Self {
        Self { message: message.into(), ec }
    }

    /// No connection, no TLS, or a connection that broke before there was a whole answer.
    pub(crate) fn cannot_connect() -> Self {
        Self::new("Error status : -1.OSS can not connect to your callbackUrl, please check it.", "0007-00000203")
    }

    pub(crate) fn timeout(address: &str, limit: std::time::Duration) -> Self {
        let limit = limit.as_millis();
        Self::new(
            format!("Error status : -1 {address} reply timeout, cost:{limit}ms, timeout:{limit}ms (err -4, errno115)"),
            "0007-00000202",
        )
    }

    pub(crate) fn not_json() -> Self {
        Self::new("Response body is not valid json format.", "0007-00000205")
    }
}

/// The length of the body that a head announces, if the head is acceptable.
///
/// protocol: exactly status 200, and a positive Content-Length; a chunked answer counts as one without length.
pub(crate) fn judge_head(status: u16, content_lengths: &[&[u8]], chunked: bool) -> Result<u64, Failure> {
    if status != 200 {
        return Err(Failure::new(format!("Error status : {status}."), "0007-00000203"));
    }
    let (first, rest) = match content_lengths {
        [first, rest @ ..] if !chunked => (first, rest),
        _ => return Err(Failure::new("Error Status : 400.User server missing content-length.", "0007-00000204")),
    };
    // The spelling is OSS's own.
    let invalid =
        || Failure::new("Error Status : 400.User server return invalid conent-length value.", "0007-00000204");
    let digits = first.trim_ascii();
    if digits.is_empty()
        || !digits.iter().all(u8::is_ascii_digit)
        || rest.iter().any(|other| other.trim_ascii() != digits)
    {
        return Err(invalid());
    }
    // A number too long to be read is above the limit too.
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()) {
        Some(0) => Err(invalid()),
        Some(length) if length <= LONGEST_ANSWER => Ok(length),
        _ => Err(Failure::new("Error Status : 400.User server return too long content-length value.", "0007-00000204")),
    }
}

/// protocol: JSON without a byte order mark; XML as well if the answer calls itself `application/xml`.
pub(crate) fn judge_body(content_type: Option<&HeaderValue>, body: &[u8]) -> Result<(), Failure> {
    let media_type = content_type.and_then(|value| value.to_str().ok()).and_then(|text| text.split(';').next());
    let may_be_xml = media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/xml"));
    let text = std::str::from_utf8(body).map_err(|_| Failure::not_json())?;
    if serde_json::from_str::<IgnoredAny>(text).is_ok() || (may_be_xml && is_xml(text)) {
        return Ok(());
    }
    Err(Failure::not_json())
}

/// Whether a text is well-formed XML with exactly one root element.
fn is_xml(text: &str) -> bool {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut roots) = (0_u32, 0_u32);
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => {
                roots += u32::from(depth == 0);
                depth += 1;
            }
            Ok(Event::Empty(_)) => roots += u32::from(depth == 0),
            // The reader itself refuses an end that does not match its start.
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Text(text)) if depth == 0 && !text.as_ref().bytes().all(|byte| byte.is_ascii_whitespace()) => {
                return false;
            }
            Ok(Event::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(status: u16, lengths: &[&[u8]], chunked: bool) -> String {
        judge_head(status, lengths, chunked).unwrap_err().message
    }

    #[test]
    fn only_200_with_a_length_from_1_byte_to_1_mib_is_read() {
        assert_eq!(judge_head(200, &[b"1"], false), Ok(1));
        assert_eq!(judge_head(200, &[b"1048576"], false), Ok(1_048_576));
        for status in [201, 202, 204, 301, 400, 502] {
            assert_eq!(message(status, &[b"2"], false), format!("Error status : {status}."));
        }
        let missing = "Error Status : 400.User server missing content-length.";
        assert_eq!(message(200, &[], false), missing);
        assert_eq!(message(200, &[b"5"], true), missing);
        let invalid = "Error Status : 400.User server return invalid conent-length value.";
        for lengths in [&[&b"0"[..]][..], &[b"-1"], &[b"x"], &[b""], &[b"1", b"2"]] {
            assert_eq!(message(200, lengths, false), invalid);
        }
        let too_long = "Error Status : 400.User server return too long content-length value.";
        assert_eq!(message(200, &[b"1048577"], false), too_long);
        assert_eq!(message(200, &[b"99999999999999999999999"], false), too_long);
    }

    #[test]
    fn json_is_relayed_and_xml_only_under_its_own_type() {
        let json = HeaderValue::from_static("application/json");
        let xml = HeaderValue::from_static("application/xml; charset=utf-8");
        for body in ["{}", "1", "\"x\"", " {\"Status\":\"OK\"}\n"] {
            assert_eq!(judge_body(Some(&json), body.as_bytes()), Ok(()));
            assert_eq!(judge_body(None, body.as_bytes()), Ok(()));
        }
        assert_eq!(judge_body(Some(&xml), b"<?xml version=\"1.0\"?>\n<a><b/>text</a>\n"), Ok(()));
        assert_eq!(judge_body(Some(&json), b"<a/>"), Err(Failure::not_json()));
        for body in [&b"ok"[..], b"\xef\xbb\xbf{}", b"{}x", b"a=b", b"\"\xff\""] {
            assert_eq!(judge_body(Some(&json), body), Err(Failure::not_json()));
        }
        for body in ["<a>", "<a></b>", "<a/><b/>", "text", "<a/>text"] {
            assert_eq!(judge_body(Some(&xml), body.as_bytes()), Err(Failure::not_json()), "{body}");
        }
    }
}
