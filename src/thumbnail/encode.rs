//! From pixels to the bytes of a thumbnail, without any metadata.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};

use super::ThumbnailError;
use super::colour::flatten;
use super::pixels::{Layout, Pixels};
use crate::media::{Format, Variant};

/// Encodes a thumbnail as its variant says.
pub(super) fn encode(pixels: Pixels, variant: &Variant) -> Result<Vec<u8>, ThumbnailError> {
    let mut bytes = Vec::new();
    match variant.format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, variant.quality);
            write(encoder, &flatten(pixels, variant.background))
        }
        Format::Png => {
            let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
            write(encoder, &pixels)
        }
        Format::Webp => write(WebPEncoder::new_lossless(&mut bytes), &pixels),
    }
    .map_err(ThumbnailError::not_encodable)?;
    Ok(bytes)
}

fn write(encoder: impl ImageEncoder, pixels: &Pixels) -> ImageResult<()> {
    let layout = match pixels.layout {
        Layout::Grey => ExtendedColorType::L8,
        Layout::GreyAlpha => ExtendedColorType::La8,
        Layout::Rgb => ExtendedColorType::Rgb8,
        Layout::Rgba => ExtendedColorType::Rgba8,
    };
    encoder.write_image(&pixels.data, pixels.width, pixels.height, layout)
}
