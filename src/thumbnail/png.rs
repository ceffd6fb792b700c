//! PNG: headers and pixels.

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError, Limits as DecoderLimits, Reader, Transformations};

use super::ThumbnailError;
use super::colour::Profile;
use super::decode::{Decoded, check_size};
use super::inspect::Header;
use super::offsets::{slice, u32_be};
use super::orientation::Orientation;
use super::pixels::{Layout, Pixels};

/// Length of the signature, where the first chunk begins.
const SIGNATURE_LENGTH: usize = 8;
/// Bytes of a chunk around its content: length, type and checksum.
const CHUNK_FRAME: usize = 12;
/// What the decoder may keep besides pixels, in bytes: rows, colour profile, EXIF. A profile that inflates to more is left
/// out.
const MAX_BESIDES_PIXELS: usize = 8 << 20;

pub(super) fn header(bytes: &[u8]) -> Result<Header, ThumbnailError> {
    let damaged = || ThumbnailError::undecodable("the PNG has no complete header");
    let (name, content) = chunks(bytes).next().ok_or_else(damaged)?;
    if name != b"IHDR" {
        return Err(damaged());
    }
    let (width, height) = u32_be(content, 0).zip(u32_be(content, 4)).ok_or_else(damaged)?;
    // Exporters write EXIF before or behind the pixels.
    let exif = chunks(bytes).find(|(name, _)| name == b"eXIf").map(|(_, content)| content);
    Ok(Header {
        width,
        height,
        orientation: Orientation::from_exif(exif),
        // At most red, green, blue and alpha of 8 bits; deeper samples are reduced row by row.
        memory_per_pixel: 4,
        scans: 1,
    })
}

pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Decoded, ThumbnailError> {
    let mut reader = match open(bytes, true) {
        Err(DecodingError::LimitsExceeded) => open(bytes, false),
        opened => opened,
    }
    .map_err(ThumbnailError::undecodable)?;
    check_size(header, (reader.info().width, reader.info().height))?;
    let layout = match reader.output_color_type().0 {
        ColorType::Grayscale => Layout::Grey,
        ColorType::GrayscaleAlpha => Layout::GreyAlpha,
        ColorType::Rgb => Layout::Rgb,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Indexed => return Err(ThumbnailError::undecodable("the palette was not expanded")),
    };
    let mut pixels = Pixels::zeroed(header.width, header.height, layout)?;
    if reader.output_buffer_size() != Some(pixels.data.len()) {
        return Err(ThumbnailError::undecodable("the PNG says different things about its size"));
    }
    reader.next_frame(&mut pixels.data).map_err(ThumbnailError::undecodable)?;
    let profile = reader.info().icc_profile.as_ref().and_then(|profile| Profile::read(profile));
    Ok(Decoded { pixels, profile })
}

/// Reads up to the pixels. Text is not read at all, as it can inflate without bound.
fn open(bytes: &[u8], with_profile: bool) -> Result<Reader<Cursor<&[u8]>>, DecodingError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), DecoderLimits { bytes: MAX_BESIDES_PIXELS });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(!with_profile);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.read_info()
}

/// The chunks with their types, as far as they are complete.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = SIGNATURE_LENGTH;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_be(bytes, at)?).ok()?;
        let name = slice(bytes, at.checked_add(4)?, 4)?;
        let content = slice(bytes, at.checked_add(8)?, length)?;
        at = at.checked_add(length)?.checked_add(CHUNK_FRAME)?;
        Some((name, content))
    })
}
