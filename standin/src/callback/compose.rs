//! The callback request, byte for byte.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;

use super::Upload;
use super::address::CallbackUrl;
use super::parameters::Callback;
use crate::key::CallbackKey;

/// The account that owns every bucket and makes every upload: a number, as account ids are.
pub(crate) const ACCOUNT: &str = "1000000000000001";

/// Headers that an uploader cannot set by `additionalHeaders`, since the request has them already or would be framed
/// differently with them.
const OWN_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "eagleeye-rpcid",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What OSS signs.
///
/// protocol: the path percent-decoded once (`+` stays), the query exactly as on the request line, LF, the body.
pub(crate) fn string_to_sign(url: &CallbackUrl, body: &str) -> Vec<u8> {
    let mut signed: Vec<u8> = percent_decode_str(&url.path).collect();
    signed.extend_from_slice(url.query.as_bytes());
    signed.push(b'\n');
    signed.extend_from_slice(body.as_bytes());
    signed
}

/// The whole request as it goes on the wire.
pub(crate) fn request(
    url: &CallbackUrl,
    callback: &Callback,
    upload: &Upload<'_>,
    body: &str,
    key: &CallbackKey,
    key_url: &str,
    now: SystemTime,
) -> Result<Vec<u8>, rsa::Error> {
    let additional: Vec<&(String, String)> =
        callback.additional_headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())).collect();
    let names: Vec<&str> = additional.iter().map(|(name, _)| name.as_str()).collect();
    let mut head = format!("POST {}{} HTTP/1.1\r\n", url.path, url.query);
    let mut header = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    header("Host", callback.host.as_deref().unwrap_or(&url.authority));
    header("Connection", "close");
    header("Content-Length", &body.len().to_string());
    header("Authorization", &key.authorization(&string_to_sign(url, body))?);
    header("Content-MD5", &STANDARD.encode(Md5::digest(body)));
    header("Content-Type", callback.body_type.as_str());
    header("Date", &httpdate::fmt_http_date(now));
    header("User-Agent", "aliyun-oss-callback");
    header("x-oss-additional-headers", &names.join(";"));
    header("x-oss-bucket", upload.bucket);
    header("x-oss-owner", ACCOUNT);
    header("x-oss-pub-key-url", &STANDARD.encode(key_url));
    header("x-oss-request-id", upload.request_id);
    header("x-oss-requester", ACCOUNT);
    header("x-oss-signature-version", "1.0");
    header("x-oss-tag", "CALLBACK");
    header("eagleeye-rpcid", "0.1");
    for (name, value) in additional {
        header(name, value);
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend_from_slice(body.as_bytes());
    Ok(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_string_to_sign_is_that_of_genuine_callbacks() {
        for (url, body, md5) in [
            ("http://h/index.php?id=1&index=2", "bucket=yonghu-test", "5b74fc97cc385b45c6c8b7782d5a2140"),
            (
                "http://h/api/v3/callback/oss/TnXx5E5VyfJUyM1UdkdDu1rtnJ34EbmH",
                "{\"name\":\"2f7b2ccf30e9270ea920f1ab8a4037a546a2f0d5.jpg\",\"source_name\":\
                 \"1/1_hFRtDLgM_2f7b2ccf30e9270ea920f1ab8a4037a546a2f0d5.jpg\",\"size\":114020,\"pic_info\":\"810,539\"}",
                "69bb676122db122e6b91c2e2487c8ed0",
            ),
            (
                "http://h/api/File/15/upload_notify/",
                "filename=zmaplex%2F20210407_14%3A31%3A41_286180%2F20200130021612_pnfqp.jpg&size=112595",
                "f01f35552b2f10ac3e131e791d1a1b76",
            ),
            (
                "http://h/api/AliYunOssCallback",
                "filename=headSculpture%2Fjikang2.jpg&size=108904&mimeType=image%2Fjpeg&height=278&width=200",
                "166dddd26f191ddf6a9a5993c9b5e13f",
            ),
        ] {
            let url = CallbackUrl::parse(url).unwrap();
            let digest: String =
                Md5::digest(string_to_sign(&url, body)).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, md5, "{body}");
        }
    }
}
