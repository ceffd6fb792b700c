//! MIME types: the pattern in a rule, and the type that an object counts as.

use std::fmt;

/// What OSS stores for an upload without a Content-Type; it says nothing about the content.
const UNDECLARED: &str = "application/octet-stream";

/// A MIME type in a rule: exact (`image/png`), of one kind (`image/*`), or any (`*/*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MimePattern {
    kind: Option<String>,
    subtype: Option<String>,
}

impl MimePattern {
    /// Reads a pattern; letter case does not count. `None` where it is not `type/subtype`, `type/*` or `*/*`.
    pub fn parse(pattern: &str) -> Option<Self> {
        let pattern = pattern.to_ascii_lowercase();
        let (kind, subtype) = pattern.split_once('/')?;
        match (kind, subtype) {
            ("*", "*") => Some(Self { kind: None, subtype: None }),
            (kind, "*") if is_token(kind) => Some(Self::of_type(kind)),
            (kind, subtype) if is_token(kind) && is_token(subtype) => {
                Some(Self { kind: Some(kind.to_owned()), subtype: Some(subtype.to_owned()) })
            }
            _ => None,
        }
    }

    /// The pattern `kind/*`.
    pub(super) fn of_type(kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()), subtype: None }
    }

    /// Whether `mime`, in lower case and without parameters, fits.
    pub(super) fn matches(&self, mime: &str) -> bool {
        let (kind, subtype) = mime.split_once('/').unwrap_or((mime, ""));
        let fits = |pattern: &Option<String>, part: &str| pattern.as_deref().is_none_or(|pattern| pattern == part);
        fits(&self.kind, kind) && fits(&self.subtype, subtype)
    }
}

impl fmt::Display for MimePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.as_deref().unwrap_or("*").to_owned();
        write!(formatter, "{}/{}", part(&self.kind), part(&self.subtype))
    }
}

/// Whether `part` can stand on one side of the slash of a MIME type.
fn is_token(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
}

/// The type by which rules judge an object, in lower case and without parameters: the declared one, or, where that says
/// nothing, the one that the key's extension stands for.
pub(super) fn effective(declared: Option<&str>, key: &str) -> String {
    let declared = declared.and_then(|declared| declared.split(';').next()).unwrap_or_default();
    match declared.trim().to_ascii_lowercase().as_str() {
        "" | UNDECLARED => by_extension(key).unwrap_or(UNDECLARED).to_owned(),
        // Not registered, but sent by old browsers and by clients that build the type from the extension.
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "image/x-png" => "image/png".to_owned(),
        declared => declared.to_owned(),
    }
}

fn by_extension(key: &str) -> Option<&'static str> {
    let name = key.rsplit('/').next()?;
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" | "jpe" | "jfif" => "image/jpeg",
        "png" | "apng" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "avif" => "image/avif",
        "jxl" => "image/jxl",
        "ico" => "image/x-icon",
        "svg" => "image/svg+xml",
        "psd" => "image/vnd.adobe.photoshop",
        "mp4" | "m4v" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "avi" => "video/x-msvideo",
        "flv" => "video/x-flv",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "txt" | "log" => "text/plain",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "md" => "text/markdown",
        "js" | "mjs" => "text/javascript",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        _ => return None,
    })
}
