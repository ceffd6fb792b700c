//! GIF: headers and the first frame.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;

use super::ThumbnailError;
use super::decode::{Decoded, decode_with};
use super::inspect::Header;
use super::offsets::u16_le;
use super::orientation::Orientation;
use crate::media::Limits;

/// Where the size of the canvas stands.
const CANVAS_OFFSET: usize = 6;

pub(super) fn header(bytes: &[u8]) -> Result<Header, ThumbnailError> {
    let (width, height) = u16_le(bytes, CANVAS_OFFSET)
        .zip(u16_le(bytes, CANVAS_OFFSET + 2))
        .ok_or_else(|| ThumbnailError::undecodable("the GIF ends within its header"))?;
    Ok(Header {
        width: width.into(),
        height: height.into(),
        orientation: Orientation::default(),
        // The canvas, and a frame that does not fill it.
        memory_per_pixel: 8,
        scans: 1,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, ThumbnailError> {
    let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(ThumbnailError::undecodable)?;
    decode_with(decoder, header, limits)
}
