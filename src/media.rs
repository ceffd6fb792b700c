//! Rules: from MIME type, bucket, key and size to what is done with an object.
//!
//! Rules come from a TOML file ([`Rules::parse`]) or are the built-in ones ([`Rules::built_in`]). The first rule that
//! matches decides; where none does, the object is recorded and nothing else happens.
//!
//! A rule needs `mime` and may narrow itself by `prefix`, `suffix`, `bucket` and `max_size` (bytes); an object that does
//! not meet all of them is left to the rules behind it. It says exactly one of `thumbnails = [...]`, `record = true` and
//! `skip = true`. Of a variant, `name`, `width` and `height` are needed. The other tables of the file are `[output]`
//! (`prefix`, `bucket`), `[fields]`, `[index]` (`custom`) and `[limits]`, named as in [`Limits`].
//!
//! No loops: an object under the output prefix is our own output and is skipped before any rule is looked at. A rule
//! without a prefix, or with one that is wider than the output prefix, is therefore safe and allowed. Refused when the
//! rules are read are an output prefix that is empty, and a rule whose own prefix lies under the output prefix, which
//! could match nothing but our own output.

mod check;
mod mime;
mod output;
mod parse;
mod variant;

use std::collections::BTreeMap;

use crate::record::Reason;

pub use mime::MimePattern;
pub use output::Output;
pub use parse::{Fault, RulesError};
pub use variant::{Fit, Format, Variant};

/// What is to be done with objects, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    output: Output,
    fields: Fields,
    indexed: Vec<String>,
    limits: Limits,
}

/// What a rule says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'rules> {
    /// Record it; there is nothing to make.
    Record,
    /// Record it as skipped, for this reason.
    Skip(Reason),
    /// Make these thumbnails of it; never empty.
    Thumbnails(&'rules [Variant]),
}

/// One rule: the conditions, all of which must hold, and the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    mime: MimePattern,
    prefix: String,
    suffix: String,
    bucket: Option<String>,
    max_size: Option<u64>,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Record,
    Skip,
    /// Frames and transcoding of videos: known, but not made by this version.
    NotSupported,
    Thumbnails(Vec<Variant>),
}

impl Rules {
    /// The rules that hold without a rules file: images get `small` (256 by 256) and `large` (800 by 800), both fitted
    /// inside and stored as JPEG of quality 80; everything else is recorded.
    pub fn built_in() -> Self {
        Self {
            rules: vec![Rule::built_in_images()],
            output: Output::default(),
            fields: Fields::default(),
            indexed: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Reads a rules file. A file without a `[[rule]]` keeps the built-in rules and changes only what it names.
    ///
    /// # Errors
    ///
    /// If the text is no TOML, holds an unknown field or a value that cannot be used. Faults of syntax and type are
    /// reported alone, as nothing behind them can be judged; all others are reported together.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        parse::parse(text)
    }

    /// What is to be done with the object `key` of `size` bytes in `bucket`. `declared_mime` is its stored Content-Type;
    /// where that is absent or `application/octet-stream`, the extension of the key stands in for it.
    pub fn action(&self, bucket: &str, key: &str, declared_mime: Option<&str>, size: u64) -> Action<'_> {
        if self.output.owns(bucket, key) {
            return Action::Skip(Reason::OwnOutput);
        }
        let mime = mime::effective(declared_mime, key);
        match self.rules.iter().find(|rule| rule.matches(bucket, key, &mime, size)).map(|rule| &rule.verdict) {
            None | Some(Verdict::Record) => Action::Record,
            Some(Verdict::Skip) => Action::Skip(Reason::RefusedByRule),
            Some(Verdict::NotSupported) => Action::Skip(Reason::NotSupported),
            Some(Verdict::Thumbnails(variants)) => Action::Thumbnails(variants),
        }
    }

    /// Whether a rule asks for something that this version does not make (`snapshot`, `transcode`). What such a rule
    /// matches is recorded as skipped.
    pub fn ask_too_much(&self) -> bool {
        self.rules.iter().any(|rule| rule.verdict == Verdict::NotSupported)
    }

    /// Where thumbnails are stored.
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// What the fields of a callback's body are called.
    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Names of the custom variables by which records can be queried.
    pub fn indexed(&self) -> &[String] {
        &self.indexed
    }

    /// What a source may cost before it is refused.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Rule {
    fn built_in_images() -> Self {
        Self {
            mime: MimePattern::of_type("image"),
            prefix: String::new(),
            suffix: String::new(),
            bucket: None,
            max_size: None,
            verdict: Verdict::Thumbnails(vec![Variant::inside("small", 256), Variant::inside("large", 800)]),
        }
    }

    fn matches(&self, bucket: &str, key: &str, mime: &str, size: u64) -> bool {
        self.mime.matches(mime)
            && key.starts_with(&self.prefix)
            && key.ends_with(&self.suffix)
            && self.bucket.as_deref().is_none_or(|only| only == bucket)
            && self.max_size.is_none_or(|most| size <= most)
    }
}

/// What the fields of a callback's body are called, where that differs from the system variables of OSS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// The system variables of OSS, each of which a body may carry under another name. Protocol: the user guide lists the
    /// first eight only; the others are substituted as well.
    pub const CANONICAL: [&'static str; 14] = [
        "bucket",
        "object",
        "etag",
        "size",
        "mimeType",
        "imageInfo.height",
        "imageInfo.width",
        "imageInfo.format",
        "crc64",
        "contentMd5",
        "vpcId",
        "clientIp",
        "reqId",
        "operation",
    ];

    /// Each field that has another name in the body: what OSS calls it, and that name.
    pub fn renamed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(canonical, name)| (canonical.as_str(), name.as_str()))
    }

    /// The name in the body of the field that OSS calls `canonical`.
    pub fn name<'a>(&'a self, canonical: &'a str) -> &'a str {
        self.0.get(canonical).map_or(canonical, String::as_str)
    }
}

/// What a source may cost. Everything is checked before anything is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file in bytes.
    pub max_bytes: u64,
    /// Width times height in pixels.
    pub max_pixels: u64,
    /// The longer side in pixels.
    pub max_side: u32,
    /// Memory in bytes that decoding is expected to take, estimated from the header.
    pub max_memory: u64,
}

impl Default for Limits {
    /// 32 MiB, 50 million pixels, sides of 16,384 pixels, 512 MiB of memory.
    fn default() -> Self {
        Self { max_bytes: 32 << 20, max_pixels: 50_000_000, max_side: 16_384, max_memory: 512 << 20 }
    }
}

#[cfg(test)]
mod tests;
