//! What the headers of a file say, and whether it may be decoded at all. Nothing here allocates by what a file claims.

use super::error::ExceededLimit;
use super::orientation::Orientation;
use super::{SourceFormat, ThumbnailError, gif, jpeg, png, webp};
use crate::media::Limits;

/// How many pixels all scans of a file may visit together: twenty scans of 50 million pixels. Ordinary progressive files
/// have about ten; decoding time grows with each.
const MAX_VISITED_PIXELS: u64 = 1_000_000_000;

/// What the headers of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Stored width in pixels, before orientation.
    pub(super) width: u32,
    /// Stored height in pixels, before orientation.
    pub(super) height: u32,
    /// How the stored picture is to be turned.
    pub(super) orientation: Orientation,
    /// Bytes of memory per pixel that the decoder takes, its output included.
    pub(super) memory_per_pixel: u64,
    /// How often every pixel is visited.
    pub(super) scans: u32,
}

/// Reads the headers and holds them against the limits.
pub(super) fn inspect(bytes: &[u8], limits: &Limits) -> Result<(SourceFormat, Header), ThumbnailError> {
    check_bytes(bytes, limits)?;
    let format = SourceFormat::detect(bytes)?;
    let header = match format {
        SourceFormat::Jpeg => jpeg::header(bytes),
        SourceFormat::Png => png::header(bytes),
        SourceFormat::Gif => gif::header(bytes),
        SourceFormat::Webp => webp::header(bytes),
    }?;
    check_header(&header, limits)?;
    Ok((format, header))
}

fn check_bytes(bytes: &[u8], limits: &Limits) -> Result<(), ThumbnailError> {
    let (bytes, limit) = (bytes.len() as u64, limits.max_bytes);
    if bytes > limit { Err(ThumbnailError::TooManyBytes { bytes, limit }) } else { Ok(()) }
}

fn check_header(header: &Header, limits: &Limits) -> Result<(), ThumbnailError> {
    let Header { width, height, memory_per_pixel, scans, .. } = *header;
    if width == 0 || height == 0 {
        return Err(ThumbnailError::undecodable(format!("the image is {width} by {height} pixels")));
    }
    let pixels = u64::from(width).saturating_mul(height.into());
    let needed = pixels.saturating_mul(memory_per_pixel);
    let limit = if width.max(height) > limits.max_side {
        ExceededLimit::Side(limits.max_side)
    } else if pixels > limits.max_pixels {
        ExceededLimit::Pixels(limits.max_pixels)
    } else if needed > limits.max_memory {
        ExceededLimit::Memory { needed, limit: limits.max_memory }
    } else if pixels.saturating_mul(scans.into()) > MAX_VISITED_PIXELS.max(pixels) {
        ExceededLimit::Scans(scans)
    } else {
        return Ok(());
    };
    Err(ThumbnailError::TooManyPixels { width, height, limit })
}
