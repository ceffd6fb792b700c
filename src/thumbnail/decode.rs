//! From bytes to pixels, once for all variants.

use image::{ColorType, ImageDecoder, Limits as DecoderLimits};

use super::colour::Profile;
use super::inspect::Header;
use super::pixels::{Layout, Pixels};
use super::{SourceFormat, ThumbnailError, gif, jpeg, png, webp};
use crate::media::Limits;

/// What a file holds.
pub(super) struct Decoded {
    /// The picture as stored, not yet turned.
    pub(super) pixels: Pixels,
    /// What its colours mean, where they are not sRGB.
    pub(super) profile: Option<Profile>,
}

/// Decodes a file whose header was found within the limits. Some decoders panic on damaged files.
pub(super) fn decode(
    bytes: &[u8],
    format: SourceFormat,
    header: &Header,
    limits: &Limits,
) -> Result<Decoded, ThumbnailError> {
    match format {
        SourceFormat::Jpeg => jpeg::decode(bytes, header, limits),
        SourceFormat::Png => png::decode(bytes, header),
        SourceFormat::Gif => gif::decode(bytes, header, limits),
        SourceFormat::Webp => webp::decode(bytes, header, limits),
    }
}

/// Decodes with a decoder of the `image` crate.
pub(super) fn decode_with(
    mut decoder: impl ImageDecoder,
    header: &Header,
    limits: &Limits,
) -> Result<Decoded, ThumbnailError> {
    let mut decoder_limits = DecoderLimits::no_limits();
    decoder_limits.max_image_width = Some(limits.max_side);
    decoder_limits.max_image_height = Some(limits.max_side);
    decoder_limits.max_alloc = Some(limits.max_memory);
    decoder.set_limits(decoder_limits).map_err(ThumbnailError::undecodable)?;
    check_size(header, decoder.dimensions())?;
    let layout = match decoder.color_type() {
        ColorType::L8 => Layout::Grey,
        ColorType::La8 => Layout::GreyAlpha,
        ColorType::Rgb8 => Layout::Rgb,
        ColorType::Rgba8 => Layout::Rgba,
        other => return Err(ThumbnailError::undecodable(format!("samples of {other:?} are not expected"))),
    };
    // A profile that cannot be read is as good as none.
    let profile = decoder.icc_profile().ok().flatten().and_then(|profile| Profile::read(&profile));
    let mut pixels = Pixels::zeroed(header.width, header.height, layout)?;
    decoder.read_image(&mut pixels.data).map_err(ThumbnailError::undecodable)?;
    Ok(Decoded { pixels, profile })
}

/// The limits were held against what the header says; a decoder that reads another size from it is not trusted with it.
pub(super) fn check_size(header: &Header, size: (u32, u32)) -> Result<(), ThumbnailError> {
    if size == (header.width, header.height) {
        Ok(())
    } else {
        Err(ThumbnailError::undecodable("the file says different things about its size"))
    }
}
