//! Where thumbnails are stored: a bucket, a prefix, and keys that nobody else can choose.

use sha2::{Digest, Sha256};

use super::Variant;

/// Where thumbnails are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub(super) prefix: String,
    pub(super) bucket: Option<String>,
}

impl Default for Output {
    /// Under `thumbnails/` in the bucket of the source.
    fn default() -> Self {
        Self { prefix: Self::DEFAULT_PREFIX.to_owned(), bucket: None }
    }
}

impl Output {
    /// The prefix where none is given.
    pub const DEFAULT_PREFIX: &'static str = "thumbnails/";
    /// The longest prefix in bytes; leaves room for the rest of a key within the 1,023 bytes that OSS allows.
    pub const MAX_PREFIX: usize = 512;
    /// The longest ETag that stands in a key as it is.
    const MAX_ETAG: usize = 64;

    /// What the key of every thumbnail begins with; ends in a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The bucket that thumbnails of objects in `source` are stored in.
    pub fn bucket<'a>(&'a self, source: &'a str) -> &'a str {
        self.bucket.as_deref().unwrap_or(source)
    }

    /// Whether `key` in `bucket` is one of our own thumbnails, or could be.
    pub fn owns(&self, bucket: &str, key: &str) -> bool {
        self.bucket(bucket) == bucket && key.starts_with(&self.prefix)
    }

    /// The key of the thumbnail that `variant` makes of the version `etag` of `object` in `bucket`.
    ///
    /// It is the same for the same inputs for ever, and differs where the version or any parameter differs. No part of
    /// the object's own key stands in it, so a hostile key can neither leave the prefix nor take another one's place.
    pub fn key(&self, bucket: &str, object: &str, etag: &str, variant: &Variant) -> String {
        let mut source = Sha256::new();
        source.update(bucket);
        source.update([0]);
        source.update(object);
        let source = hex(&source.finalize());
        let etag = etag_segment(etag);
        let parameters = hex(Sha256::digest(variant.canonical()).get(..4).unwrap_or_default());
        let (name, extension) = (&variant.name, variant.format.extension());
        format!("{}{source}/{etag}/{name}-{parameters}.{extension}", self.prefix)
    }
}

/// The ETag as one segment of a key. An unconfirmed ETag is only a claim: one that does not look like those of OSS is
/// replaced by its hash.
fn etag_segment(etag: &str) -> String {
    let plain = (1..=Output::MAX_ETAG).contains(&etag.len())
        && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain { etag.to_ascii_uppercase() } else { hex(&Sha256::digest(etag)) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
