//! The callback request, byte for byte.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;

use super::Upload;
use super::address::CallbackUrl;
use super::parameters::Callback;
use crate::fault::{CallbackFault, without_stage};
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

/// A callback request before it is written out. What a fault changes is changed here, so that everything else stays as
/// OSS makes it.
pub(crate) struct Composed<'a> {
    pub(crate) url: &'a CallbackUrl,
    pub(crate) callback: &'a Callback,
    pub(crate) upload: &'a Upload<'a>,
    /// What is signed, and what `Content-MD5` is about.
    signed_body: &'a str,
    /// On the request line.
    path: String,
    pub(crate) body: String,
    authorization: String,
    key_url: String,
    edition: Edition,
}

/// Which of OSS's documents a request follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edition {
    Current,
    /// protocol: that of 2014 to 2018, HTTP/1.0 with fewer headers.
    Old,
}

impl<'a> Composed<'a> {
    pub(crate) fn new(
        url: &'a CallbackUrl,
        callback: &'a Callback,
        upload: &'a Upload<'a>,
        body: &'a str,
        key: &CallbackKey,
        key_url: &str,
    ) -> Result<Self, rsa::Error> {
        Ok(Self {
            url,
            callback,
            upload,
            signed_body: body,
            path: url.path.clone(),
            body: body.to_owned(),
            authorization: key.authorization(&string_to_sign(url, body))?,
            key_url: key_url.to_owned(),
            edition: Edition::Current,
        })
    }

    /// Makes the request what it is after this fault. Faults of sending leave it alone.
    pub(crate) fn disturb(&mut self, fault: &CallbackFault, key: &CallbackKey) -> Result<(), rsa::Error> {
        match fault {
            CallbackFault::WrongSignature => self.authorization = key.authorization(b"something else")?,
            CallbackFault::WrongKeyUrl(url) => self.key_url.clone_from(url),
            CallbackFault::StageStripped(stage) => {
                if let Some(rest) = without_stage(&self.path, stage) {
                    self.path = rest.to_owned();
                }
            }
            CallbackFault::StageAdded(stage) => self.path.insert_str(0, stage),
            CallbackFault::Base64Body => self.body = STANDARD.encode(self.signed_body),
            CallbackFault::Http10 => self.edition = Edition::Old,
            CallbackFault::Lost
            | CallbackFault::AnswerLost
            | CallbackFault::Late(_)
            | CallbackFault::Doubled
            | CallbackFault::Reordered => {}
        }
        Ok(())
    }

    /// Path and query on the request line.
    pub(crate) fn target(&self) -> String {
        format!("{}{}", self.path, self.url.query)
    }

    /// The whole request as it goes on the wire.
    pub(crate) fn bytes(&self, now: SystemTime) -> Vec<u8> {
        let (version, headers) = match self.edition {
            Edition::Current => ("1.1", self.current_headers(now)),
            Edition::Old => ("1.0", self.old_headers()),
        };
        let mut request = format!("POST {} HTTP/{version}\r\n", self.target());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(&self.body);
        request.into_bytes()
    }

    fn host(&self) -> &str {
        self.callback.host.as_deref().unwrap_or(&self.url.authority)
    }

    fn current_headers(&self, now: SystemTime) -> Vec<(&str, String)> {
        let additional: Vec<&(String, String)> =
            self.callback.additional_headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())).collect();
        let names: Vec<&str> = additional.iter().map(|(name, _)| name.as_str()).collect();
        let mut headers = vec![
            ("Host", self.host().to_owned()),
            ("Connection", "close".to_owned()),
            ("Content-Length", self.body.len().to_string()),
            ("Authorization", self.authorization.clone()),
            ("Content-MD5", STANDARD.encode(Md5::digest(self.signed_body))),
            ("Content-Type", self.callback.body_type.as_str().to_owned()),
            ("Date", httpdate::fmt_http_date(now)),
            ("User-Agent", "aliyun-oss-callback".to_owned()),
            ("x-oss-additional-headers", names.join(";")),
            ("x-oss-bucket", self.upload.bucket.to_owned()),
            ("x-oss-owner", ACCOUNT.to_owned()),
            ("x-oss-pub-key-url", STANDARD.encode(&self.key_url)),
            ("x-oss-request-id", self.upload.request_id.to_owned()),
            ("x-oss-requester", ACCOUNT.to_owned()),
            ("x-oss-signature-version", "1.0".to_owned()),
            ("x-oss-tag", "CALLBACK".to_owned()),
            ("eagleeye-rpcid", "0.1".to_owned()),
        ];
        headers.extend(additional.into_iter().map(|(name, value)| (name.as_str(), value.clone())));
        headers
    }

    /// protocol: these, so spelled, and no other.
    fn old_headers(&self) -> Vec<(&str, String)> {
        vec![
            ("Host", self.host().to_owned()),
            ("Connection", "close".to_owned()),
            ("Content-Length", self.body.len().to_string()),
            ("authorization", self.authorization.clone()),
            ("Content-Type", self.callback.body_type.as_str().to_owned()),
            ("User-Agent", "http-client/0.0.1".to_owned()),
            ("x-oss-pub-key-url", STANDARD.encode(&self.key_url)),
        ]
    }
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
