//! WebP: headers and the first frame.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;

use super::ThumbnailError;
use super::decode::{Decoded, decode_with};
use super::inspect::Header;
use super::offsets::{slice, u16_le, u24_le, u32_le};
use super::orientation::Orientation;
use crate::media::Limits;

/// Where the first chunk begins.
const FIRST_CHUNK: usize = 12;
/// Bytes of a chunk before its content.
const CHUNK_HEADER: usize = 8;
/// Bytes of an animation frame before its chunks.
const FRAME_HEADER: usize = 16;

/// The decoder takes memory for every picture inside by that picture's own claim before it compares it with the canvas;
/// so all of them are compared here first.
pub(super) fn header(bytes: &[u8]) -> Result<Header, ThumbnailError> {
    let damaged = || ThumbnailError::undecodable("the WebP has no complete header");
    let chunks = |content, at| Chunks { bytes: content, at };
    let canvas = chunks(bytes, FIRST_CHUNK).find_map(size).ok_or_else(damaged)?;
    let first_frame = chunks(bytes, FIRST_CHUNK).find(|chunk| chunk.name == b"ANMF").map(|chunk| chunk.content);
    let inside = chunks(bytes, FIRST_CHUNK).chain(chunks(first_frame.unwrap_or_default(), FRAME_HEADER));
    let frame = first_frame.map(|frame| frame_size(frame).ok_or_else(damaged)).transpose()?;
    if inside.filter_map(size).chain(frame).any(|(width, height)| width > canvas.0 || height > canvas.1) {
        return Err(ThumbnailError::undecodable("a picture in the WebP is larger than its canvas"));
    }
    let exif = chunks(bytes, FIRST_CHUNK).find(|chunk| chunk.name == b"EXIF").map(|chunk| chunk.content);
    Ok(Header {
        width: canvas.0,
        height: canvas.1,
        orientation: Orientation::from_exif(exif),
        // The output, and the planes or the transparent picture that it is made of; in animations also the canvas.
        memory_per_pixel: if first_frame.is_some() { 12 } else { 8 },
        scans: 1,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, ThumbnailError> {
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(ThumbnailError::undecodable)?;
    decode_with(decoder, header, limits)
}

/// Width and height that a chunk claims, if it is of those that do.
fn size(chunk: Chunk<'_>) -> Option<(u32, u32)> {
    let content = chunk.content;
    match chunk.name {
        b"VP8X" => Some((u24_le(content, 4)?.saturating_add(1), u24_le(content, 7)?.saturating_add(1))),
        b"VP8L" => {
            let packed = u32_le(content, 1)?;
            Some(((packed & 0x3fff).saturating_add(1), (packed >> 14 & 0x3fff).saturating_add(1)))
        }
        b"VP8 " => Some((u32::from(u16_le(content, 6)? & 0x3fff), u32::from(u16_le(content, 8)? & 0x3fff))),
        _ => None,
    }
}

/// Width and height of an animation frame.
fn frame_size(frame: &[u8]) -> Option<(u32, u32)> {
    Some((u24_le(frame, 6)?.saturating_add(1), u24_le(frame, 9)?.saturating_add(1)))
}

/// One chunk; its content may be cut short by the end of the file.
#[derive(Clone, Copy)]
struct Chunk<'bytes> {
    name: &'bytes [u8],
    content: &'bytes [u8],
}

/// The chunks from an offset.
struct Chunks<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
}

impl<'bytes> Iterator for Chunks<'bytes> {
    type Item = Chunk<'bytes>;

    fn next(&mut self) -> Option<Chunk<'bytes>> {
        let name = slice(self.bytes, self.at, 4)?;
        let length = usize::try_from(u32_le(self.bytes, self.at.checked_add(4)?)?).ok()?;
        let begin = self.at.checked_add(CHUNK_HEADER)?;
        let end = begin.checked_add(length)?;
        let content = self.bytes.get(begin..end.min(self.bytes.len()))?;
        // Contents of odd length are padded.
        self.at = end.checked_add(length % 2)?;
        Some(Chunk { name, content })
    }
}
