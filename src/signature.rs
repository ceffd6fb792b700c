//! The string to sign, and whether OSS signed it.
//!
//! Protocol: `signature = RSASSA-PKCS1-v1_5(key, MD5, url_decode(path) + ["?" + query] + "\n" + body)`. The query stands
//! raw, the body is the bytes on the wire, the separator is one line feed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPublicKey, pkcs1::DecodeRsaPublicKey as _};

use crate::error::{Failure, quoted};
use crate::request::SignedRequest;

mod modulus;

use modulus::Modulus;

/// The fewest bits of a key: the size of the published one. The most is what the parser takes, 4,096.
const FEWEST_BITS: usize = 512;

/// What stands before an MD5 in a signature: DER of `DigestInfo` with the object identifier of MD5 and its NULL (RFC 8017,
/// section 9.2, note 1).
const MD5_INFO: [u8; 18] = *b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10";

/// Why a PEM file is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It does not hold a key.
    #[error("not an RSA public key in PEM form (BEGIN PUBLIC KEY): {0}")]
    Unreadable(String),
    /// It holds one that is no protection.
    #[error("an RSA public key of {bits} bits, whose signatures anybody can make: at least {FEWEST_BITS} are needed")]
    Short {
        /// How many it has.
        bits: usize,
    },
}

/// An RSA key that callbacks are checked against, of 512 bits, the size of the published one, up to 4,096.
#[derive(Clone)]
pub struct PublicKey {
    modulus: Modulus,
    /// Odd and above 1.
    exponent: u64,
    /// Bytes of the modulus, and so of every signature.
    length: usize,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({} bits)", self.length.saturating_mul(8))
    }
}

impl PublicKey {
    /// Reads a key in PEM form, `PUBLIC KEY` or `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// If the text is no such key, or one whose signatures anybody could make.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        let key = RsaPublicKey::from_public_key_pem(pem)
            .or_else(|error| RsaPublicKey::from_pkcs1_pem(pem).map_err(|_| error))
            .map_err(|error| KeyError::Unreadable(error.to_string()))?;
        if key.n().bits() < FEWEST_BITS {
            return Err(KeyError::Short { bits: key.n().bits() });
        }
        // The parser has refused an even modulus, and exponents that are even, below 2 or longer than 33 bits.
        let modulus = Modulus::new(key.n()).ok_or_else(|| KeyError::Unreadable("its modulus is even".to_owned()))?;
        let exponent = key.e().to_bytes_be().iter().fold(0, |exponent, &byte| exponent << 8 | u64::from(byte));
        Ok(Self { modulus, exponent, length: key.size() })
    }

    /// Whether the signature opens to exactly the one encoding of this MD5 that RFC 8017 allows to be made (section 8.2.2: the
    /// encodings are compared, the received one is never parsed).
    fn signed(&self, digest: &[u8; 16], signature: &[u8]) -> bool {
        self.modulus.raise(signature, self.exponent).is_some_and(|opened| {
            // Whole limbs come back; what is above the length of the key is zero, or else not below the modulus.
            let opened = opened.iter().skip(opened.len().saturating_sub(self.length));
            opened.eq(encoding(digest, self.length).iter())
        })
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, section 9.2) of an MD5 for a key of so many bytes, of which there are at least 64.
fn encoding(digest: &[u8; 16], length: usize) -> Vec<u8> {
    let padding = vec![0xff; length.saturating_sub(3 + MD5_INFO.len() + digest.len())];
    [&[0, 1], padding.as_slice(), &[0], &MD5_INFO, digest].concat()
}

/// The port to the trusted keys.
///
/// # Contract
///
/// A key is found by its URL alone, which must equal the trusted one byte for byte: no prefix rule, no parsing, nothing that
/// could be fooled. Looking up never fetches and never fails for want of a network.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// The key with this URL, if it is trusted.
    fn key(&self, url: &[u8]) -> Option<&PublicKey>;
}

/// The MD5 of the string to sign for one candidate of the path.
fn digest(path: &[u8], query: Option<&str>, body: &[u8]) -> [u8; 16] {
    let mut hash = Md5::new();
    hash.update(path);
    if let Some(query) = query {
        hash.update(b"?");
        hash.update(query);
    }
    hash.update(b"\n");
    hash.update(body);
    hash.finalize().into()
}

/// Keeps other files from making what only this one may.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof;

/// A request that carries a valid signature of a trusted key over its path, query and body.
///
/// That proves less than it seems: any customer of OSS can have OSS sign any body for any path. It does not say that the
/// callback is about our bucket, nor when it was made.
pub struct Verified {
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) request_id: Option<String>,
    _proof: Proof,
}

#[cfg(test)]
impl Verified {
    /// For tests of what comes after: as if a trusted key had signed this body.
    pub(crate) fn for_tests(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), content_type: Some(content_type.to_owned()), request_id: None, _proof: Proof }
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verified").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

/// Checks key URL and signature, in this order, against every candidate of the path.
///
/// # Errors
/// [`Failure::BadHeader`] or [`Failure::UntrustedKeyUrl`] for the key URL; [`Failure::SignatureMismatch`] for a signature
/// that is not canonical Base64, not as long as the key, or fits no candidate.
pub fn verify(request: SignedRequest, keys: &dyn KeySource) -> Result<Verified, Failure> {
    let url = STANDARD
        .decode(&request.key_url)
        .map_err(|_| Failure::BadHeader { name: "x-oss-pub-key-url", problem: "is not Base64" })?;
    let key = keys.key(&url).ok_or_else(|| Failure::UntrustedKeyUrl { url: quoted(&String::from_utf8_lossy(&url)) })?;
    let bytes = STANDARD.decode(&request.authorization).map_err(|_| Failure::SignatureMismatch)?;
    if bytes.len() != key.length {
        return Err(Failure::SignatureMismatch);
    }
    let query = request.query.as_deref();
    let signed = request.candidates.iter().any(|path| key.signed(&digest(path, query, &request.body), &bytes));
    if !signed {
        return Err(Failure::SignatureMismatch);
    }
    let SignedRequest { body, content_type, request_id, .. } = request;
    Ok(Verified { body, content_type, request_id, _proof: Proof })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use rsa::BigUint;
    use rsa::pkcs8::{EncodePublicKey as _, LineEnding};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_string_to_sign_is_path_question_mark_query_line_feed_body() {
        assert_eq!(
            hex(&digest(b"/index.php", Some("id=1&index=2"), b"bucket=yonghu-test")),
            "5b74fc97cc385b45c6c8b7782d5a2140"
        );
    }

    #[test]
    fn without_a_query_no_question_mark_is_signed() {
        let body = b"filename=headSculpture%2Fjikang2.jpg&size=108904&mimeType=image%2Fjpeg&height=278&width=200";
        assert_eq!(hex(&digest(b"/api/AliYunOssCallback", None, body)), "166dddd26f191ddf6a9a5993c9b5e13f");
        assert_ne!(hex(&digest(b"/api/AliYunOssCallback", Some(""), body)), "166dddd26f191ddf6a9a5993c9b5e13f");
    }

    #[test]
    fn a_key_of_the_published_size_is_accepted_and_other_text_is_refused() {
        assert!(crate::keys::TrustedKeys::published().is_ok());
        assert!(PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").is_err());
        assert!(PublicKey::from_pem("").is_err());
    }

    #[test]
    fn a_key_whose_signatures_anybody_could_make_is_refused() {
        let read = |modulus: BigUint, exponent: u32| {
            let key = RsaPublicKey::new_unchecked(modulus, exponent.into());
            PublicKey::from_pem(&key.to_public_key_pem(LineEnding::LF).unwrap())
        };
        let odd = |bits: usize| (BigUint::from(1_u8) << (bits - 1)) + 1_u8;
        assert!(read(odd(512), 3).is_ok());
        assert!(matches!(read(odd(511), 3), Err(KeyError::Short { bits: 511 })));
        for (modulus, exponent) in [(odd(512) + 1_u8, 3), (odd(512), 4), (odd(512), 1), (odd(512), 0), (odd(4_097), 3)]
        {
            assert!(matches!(read(modulus, exponent), Err(KeyError::Unreadable(_))));
        }
    }
}
