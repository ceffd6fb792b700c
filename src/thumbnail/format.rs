//! The format of a file by its first bytes, whatever it was declared as.

use super::ThumbnailError;
use super::offsets::slice;

/// A format that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceFormat {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG; of an animation, the default image.
    Png,
    /// GIF; of an animation, the first frame.
    Gif,
    /// WebP, lossy or lossless; of an animation, the first frame.
    Webp,
}

impl SourceFormat {
    /// The MIME type, to be compared with the declared one.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }

    /// The format of `bytes`, judged by how they begin.
    ///
    /// # Errors
    ///
    /// [`ThumbnailError::UnsupportedFormat`] if it is a known one that is not decoded, [`ThumbnailError::Undecodable`] if
    /// it is unknown.
    pub fn detect(bytes: &[u8]) -> Result<Self, ThumbnailError> {
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Ok(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Ok(Self::Png)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Ok(Self::Gif)
        } else if bytes.starts_with(b"RIFF") && slice(bytes, 8, 4) == Some(b"WEBP") {
            Ok(Self::Webp)
        } else if bytes.is_empty() {
            Err(ThumbnailError::undecodable("the file is empty"))
        } else if let Some(found) = not_decoded(bytes) {
            Err(ThumbnailError::UnsupportedFormat { found })
        } else {
            Err(ThumbnailError::undecodable("it begins like no known format"))
        }
    }
}

/// The name of a format that is known, but not decoded.
fn not_decoded(bytes: &[u8]) -> Option<&'static str> {
    const BY_START: [(&[u8], &str); 20] = [
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "BigTIFF"),
        (b"MM\0+", "BigTIFF"),
        (b"\0\0\x01\0", "ICO"),
        (b"\0\0\x02\0", "CUR"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"8BPS", "PSD"),
        (b"gimp xcf", "XCF"),
        (b"v/1\x01", "OpenEXR"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"qoif", "QOI"),
        (b"DDS ", "DDS"),
        (b"%PDF-", "PDF"),
        (b"%!PS", "PostScript"),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    ];
    BY_START
        .into_iter()
        .find_map(|(start, name)| bytes.starts_with(start).then_some(name))
        .or_else(|| by_brand(bytes))
        .or_else(|| by_markup(bytes))
}

/// The ISO base media formats, which tell each other apart by their brand.
fn by_brand(bytes: &[u8]) -> Option<&'static str> {
    if slice(bytes, 4, 4)? != b"ftyp" {
        return None;
    }
    Some(match slice(bytes, 8, 4)? {
        b"avif" | b"avis" => "AVIF",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => "HEIC",
        b"mif1" | b"msf1" => "HEIF",
        b"crx " => "CR3",
        b"qt  " => "QuickTime",
        _ => "MP4",
    })
}

/// SVG and HTML, which may begin with white space, a byte order mark and any letter case.
fn by_markup(bytes: &[u8]) -> Option<&'static str> {
    let head = String::from_utf8_lossy(bytes.get(..512.min(bytes.len()))?).to_ascii_lowercase();
    let head = head.trim_start_matches('\u{feff}').trim_start();
    let is_markup = head.starts_with('<');
    if is_markup && head.contains("<svg") {
        Some("SVG")
    } else if is_markup && (head.contains("<html") || head.starts_with("<!doctype html")) {
        Some("HTML")
    } else if head.starts_with("<?xml") {
        Some("XML")
    } else {
        None
    }
}
