//! JPEG: headers and pixels.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;

use super::ThumbnailError;
use super::decode::{Decoded, decode_with};
use super::inspect::Header;
use super::offsets::{slice, u16_be};
use super::orientation::Orientation;
use crate::media::Limits;

/// What begins an application segment that holds EXIF.
const EXIF_MARKER: &[u8] = b"Exif\0\0";

/// What the walk over all segments finds.
#[derive(Default)]
struct Walk<'bytes> {
    frame: Option<Frame>,
    exif: Option<&'bytes [u8]>,
    scans: u32,
}

/// The frame header.
#[derive(Clone, Copy)]
struct Frame {
    width: u32,
    height: u32,
    components: u64,
    progressive: bool,
}

/// Walks all segments and scans to the end marker, so that a file that was cut short is known before it is decoded: the
/// decoder would fill the rest with grey and say nothing.
pub(super) fn header(bytes: &[u8]) -> Result<Header, ThumbnailError> {
    let walk = walk(bytes)?;
    let frame = walk.frame.ok_or_else(|| ThumbnailError::undecodable("the JPEG has no frame"))?;
    if walk.scans == 0 {
        return Err(ThumbnailError::undecodable("the JPEG has no scan"));
    }
    // The decoder keeps the coefficients of all components, two bytes each, of a file in several scans.
    let coefficients = if frame.progressive || walk.scans > 1 { frame.components.saturating_mul(2) } else { 0 };
    let output = if frame.components == 1 { 1 } else { 3 };
    Ok(Header {
        width: frame.width,
        height: frame.height,
        orientation: Orientation::from_exif(walk.exif),
        memory_per_pixel: coefficients.saturating_add(output),
        scans: walk.scans,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, ThumbnailError> {
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(ThumbnailError::undecodable)?;
    decode_with(decoder, header, limits)
}

fn walk(bytes: &[u8]) -> Result<Walk<'_>, ThumbnailError> {
    let cut_short = || ThumbnailError::undecodable("the JPEG ends before its end marker");
    let mut walk = Walk::default();
    // Behind the start marker.
    let mut at = 2;
    loop {
        let marker = next_marker(bytes, at).ok_or_else(cut_short)?;
        at = marker.end;
        if marker.code == 0xd9 {
            return Ok(walk);
        }
        if marker.stands_alone() {
            continue;
        }
        let length = u16_be(bytes, at).map(usize::from).ok_or_else(cut_short)?;
        let segment = slice(bytes, at, length).ok_or_else(cut_short)?;
        let content = segment.get(2..).ok_or_else(|| ThumbnailError::undecodable("a JPEG segment is too short"))?;
        at = at.saturating_add(length);
        match marker.code {
            0xda => walk.scans = walk.scans.saturating_add(1),
            0xe1 if walk.exif.is_none() && content.starts_with(EXIF_MARKER) => walk.exif = Some(content),
            code if marker.begins_frame() => walk.set_frame(content, code)?,
            _ => {}
        }
    }
}

impl Walk<'_> {
    fn set_frame(&mut self, content: &[u8], code: u8) -> Result<(), ThumbnailError> {
        if self.frame.is_some() {
            return Err(ThumbnailError::undecodable("the JPEG has more than one frame"));
        }
        let frame = u16_be(content, 1).zip(u16_be(content, 3)).zip(content.get(5));
        let ((height, width), components) =
            frame.ok_or_else(|| ThumbnailError::undecodable("the JPEG frame header is too short"))?;
        self.frame = Some(Frame {
            width: width.into(),
            height: height.into(),
            components: (*components).into(),
            progressive: matches!(code, 0xc2 | 0xc6 | 0xca | 0xce),
        });
        Ok(())
    }
}

/// A marker: its code, and where it ends.
struct Marker {
    code: u8,
    end: usize,
}

impl Marker {
    /// Whether no segment follows it.
    const fn stands_alone(&self) -> bool {
        matches!(self.code, 0x01 | 0xd0..=0xd8)
    }

    const fn begins_frame(&self) -> bool {
        matches!(self.code, 0xc0..=0xcf) && !matches!(self.code, 0xc4 | 0xc8 | 0xcc)
    }
}

/// The next marker from `at`, past entropy-coded data: in that, 0xff is always followed by zero.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<Marker> {
    loop {
        let distance = bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        at = at.checked_add(distance)?.checked_add(1)?;
        match *bytes.get(at)? {
            0x00 => {}
            // A marker may be preceded by any number of 0xff.
            0xff => continue,
            code => return Some(Marker { code, end: at.checked_add(1)? }),
        }
    }
}
