//! Pictures: decoded within limits, taken through the steps, encoded. Pure, and heavy: for a blocking thread.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, Resizer};
use http::StatusCode;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, Rgb, RgbImage, Rgba, RgbaImage,
    imageops,
};

use super::chain::{Format, Quality, Resize, Step};
use super::jpeg;
use crate::error::Error;

/// protocol: the largest source in bytes, its longest side and the most pixels in it.
pub(super) const LARGEST_SOURCE: u64 = 20 * 1024 * 1024;
const LONGEST_SIDE: u32 = 30_000;
const LONGEST_TIFF_SIDE: u32 = 16_384;
const MOST_PIXELS: u64 = 250_000_000;
/// protocol: the longest side of a picture that is turned.
const LONGEST_TURNED_SIDE: u32 = 4096;
/// The most memory of a decoder: a picture of the most pixels in four bytes each.
const DECODER_MEMORY: u64 = 4 * MOST_PIXELS + 64 * 1024 * 1024;
/// Not documented: the quality of a JPEG that nobody asked a quality of.
const DEFAULT_QUALITY: u8 = 75;

/// A finished picture.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
}

/// Takes a picture through the steps, in their order.
///
/// protocol: a picture is oriented before anything else, wherever `auto-orient,1` stands, and never unasked. The result
/// has the format of the source unless another is asked for. Of an animation only the first picture is used (OSS keeps
/// animations that are resized or cropped).
pub(super) fn process(source: &[u8], steps: &[Step]) -> Result<Picture, Error> {
    let (mut picture, format, orientation) = decode(source)?;
    if steps.iter().rev().find_map(|step| if let Step::AutoOrient(wanted) = step { Some(*wanted) } else { None })
        == Some(true)
        && orientation != Orientation::NoTransforms
    {
        check_turned(&picture)?;
        picture.apply_orientation(orientation);
    }
    let mut target = format;
    let mut quality = None;
    for step in steps {
        match step {
            Step::Resize(resize) => picture = apply_resize(picture, resize)?,
            Step::Crop(crop) => {
                let area = crop.area((picture.width(), picture.height()))?;
                picture = picture.crop_imm(area.x, area.y, area.width, area.height);
            }
            Step::Rotate(degrees) => picture = rotate(picture, *degrees)?,
            Step::AutoOrient(_) => {}
            Step::Quality(wanted) => quality = Some(*wanted),
            Step::Format(wanted) => target = *wanted,
        }
    }
    let source_quality = if format == Format::Jpg { jpeg::quality(source) } else { None };
    encode(&picture, target, effective(quality, source_quality))
}

pub(super) fn unsupported() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "BadRequest", "This image format is not supported.").ec("0040-00000005")
}

pub(super) fn source_too_large(size: u64) -> Error {
    // Not documented: the sentence.
    let message = format!("The source image has {size} bytes: at most {LARGEST_SOURCE}.");
    Error::new(StatusCode::BAD_REQUEST, "ImageTooLarge", message).ec("0040-00000001")
}

/// A source that no decoder can make sense of.
pub(super) fn damaged(webp: bool) -> Error {
    match webp {
        true => Error::new(StatusCode::BAD_REQUEST, "BadWebPImage", "The webp image file may be damaged.")
            .ec("0040-00000010"),
        // Not documented for other formats.
        false => Error::new(StatusCode::BAD_REQUEST, "BadRequest", "The image file may be damaged."),
    }
}

/// The picture in eight bits, its format, and how it should be turned.
fn decode(source: &[u8]) -> Result<(DynamicImage, Format, Orientation), Error> {
    let known = image::guess_format(source).map_err(|_| unsupported())?;
    let format = match known {
        ImageFormat::Jpeg => Format::Jpg,
        ImageFormat::Png => Format::Png,
        ImageFormat::WebP => Format::Webp,
        ImageFormat::Bmp => Format::Bmp,
        ImageFormat::Gif => Format::Gif,
        ImageFormat::Tiff => Format::Tiff,
        _ => return Err(unsupported()),
    };
    let broken = |cause: image::ImageError| {
        tracing::debug!(%cause, "a picture could not be decoded");
        damaged(format == Format::Webp)
    };
    let mut reader = ImageReader::with_format(Cursor::new(source), known);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    check_source(decoder.dimensions(), format)?;
    // The decoder's own limit holds for its work, not for the picture that it fills.
    if decoder.total_bytes() > DECODER_MEMORY {
        // Not documented: the sentence.
        let message =
            format!("The source image takes {} bytes of memory: at most {DECODER_MEMORY}.", decoder.total_bytes());
        return Err(Error::new(StatusCode::BAD_REQUEST, "ImageTooLarge", message));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    let picture = match picture.color().has_alpha() {
        true => DynamicImage::ImageRgba8(picture.into_rgba8()),
        false => DynamicImage::ImageRgb8(picture.into_rgb8()),
    };
    Ok((picture, format, orientation))
}

fn check_source((width, height): (u32, u32), format: Format) -> Result<(), Error> {
    let too_large = |ec| {
        // Not documented: the sentence.
        let message = format!(
            "The source image has {width} x {height} pixels: at most {LONGEST_SIDE} on a side and {MOST_PIXELS} in all."
        );
        Err(Error::new(StatusCode::BAD_REQUEST, "ImageTooLarge", message).ec(ec))
    };
    match format {
        Format::Tiff if width.max(height) > LONGEST_TIFF_SIDE => too_large("0040-00000018"),
        Format::Jpg if width.max(height) > LONGEST_SIDE => too_large("0040-00000019"),
        Format::Bmp if width.max(height) > LONGEST_SIDE => too_large("0040-00000017"),
        _ if width.max(height) > LONGEST_SIDE => too_large("0040-00000009"),
        _ if u64::from(width) * u64::from(height) > MOST_PIXELS => too_large("0040-00000012"),
        _ => Ok(()),
    }
}

fn apply_resize(picture: DynamicImage, resize: &Resize) -> Result<DynamicImage, Error> {
    let plan = resize.plan((picture.width(), picture.height()))?;
    let scaled = scale(picture, plan.scaled)?;
    let (width, height) = plan.result;
    if plan.scaled == plan.result {
        return Ok(scaled);
    }
    if width <= plan.scaled.0 && height <= plan.scaled.1 {
        let (x, y) = ((plan.scaled.0 - width) / 2, (plan.scaled.1 - height) / 2);
        return Ok(scaled.crop_imm(x, y, width, height));
    }
    // The fill is opaque; a picture with an alpha channel keeps it.
    let place = |inner: u32, outer: u32| i64::from(outer.saturating_sub(inner) / 2);
    let (x, y) = (place(plan.scaled.0, width), place(plan.scaled.1, height));
    Ok(match scaled {
        DynamicImage::ImageRgba8(picture) => {
            let [red, green, blue] = resize.color;
            let mut canvas = RgbaImage::from_pixel(width, height, Rgba([red, green, blue, 0xff]));
            imageops::replace(&mut canvas, &picture, x, y);
            DynamicImage::ImageRgba8(canvas)
        }
        other => {
            let mut canvas = RgbImage::from_pixel(width, height, Rgb(resize.color));
            imageops::replace(&mut canvas, &other.into_rgb8(), x, y);
            DynamicImage::ImageRgb8(canvas)
        }
    })
}

/// Resamples a picture to this size.
fn scale(picture: DynamicImage, (width, height): (u32, u32)) -> Result<DynamicImage, Error> {
    if (picture.width(), picture.height()) == (width, height) {
        return Ok(picture);
    }
    let pixels = if picture.color().has_alpha() { PixelType::U8x4 } else { PixelType::U8x3 };
    let source =
        ImageRef::new(picture.width(), picture.height(), picture.as_bytes(), pixels).map_err(Error::internal)?;
    let mut target = Image::new(width, height, pixels);
    Resizer::new().resize(&source, &mut target, None).map_err(Error::internal)?;
    let bytes = target.into_vec();
    match pixels {
        PixelType::U8x4 => RgbaImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8),
        _ => RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
    }
    .ok_or_else(|| Error::internal("a resampled picture is not of its size"))
}

fn check_turned(picture: &DynamicImage) -> Result<(), Error> {
    if picture.width().max(picture.height()) > LONGEST_TURNED_SIDE {
        // Not documented: the code.
        let message = "Picture exceed the maximum allowable rotation range";
        return Err(Error::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    Ok(())
}

/// Turns a picture clockwise. By other than right angles it grows; not documented: that the corners become white, or
/// transparent where the picture can be.
fn rotate(picture: DynamicImage, degrees: u16) -> Result<DynamicImage, Error> {
    check_turned(&picture)?;
    Ok(match degrees % 360 {
        0 => picture,
        90 => picture.rotate90(),
        180 => picture.rotate180(),
        270 => picture.rotate270(),
        degrees => match picture {
            DynamicImage::ImageRgba8(picture) => {
                DynamicImage::ImageRgba8(turn(&picture, degrees, Rgba([0xff, 0xff, 0xff, 0])))
            }
            other => DynamicImage::ImageRgb8(turn(&other.into_rgb8(), degrees, Rgb([0xff; 3]))),
        },
    })
}

/// Every pixel of the result is looked up where it comes from.
fn turn<P: Pixel<Subpixel = u8>>(
    picture: &ImageBuffer<P, Vec<u8>>,
    degrees: u16,
    background: P,
) -> ImageBuffer<P, Vec<u8>> {
    let (sine, cosine) = f32::from(degrees).to_radians().sin_cos();
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let bounds = |along: f32, across: f32| (along * cosine.abs() + across * sine.abs()).round().max(1.0);
    let (turned_width, turned_height) = (bounds(width, height), bounds(height, width));
    ImageBuffer::from_fn(turned_width as u32, turned_height as u32, |column, row| {
        let (x, y) = (column as f32 + 0.5 - turned_width / 2.0, row as f32 + 0.5 - turned_height / 2.0);
        let (x, y) = (x * cosine + y * sine + width / 2.0 - 0.5, y * cosine - x * sine + height / 2.0 - 0.5);
        imageops::interpolate_bilinear(picture, x, y).unwrap_or(background)
    })
}

/// The quality to encode with.
///
/// protocol: relative quality is of that of a JPEG source and absolute for others; absolute quality never exceeds that
/// of the source.
fn effective(wanted: Option<Quality>, source: Option<u8>) -> u8 {
    match (wanted, source) {
        (None, _) => DEFAULT_QUALITY,
        (Some(Quality::Relative(percent)), Some(source)) => {
            u8::try_from(u16::from(percent) * u16::from(source) / 100).unwrap_or(100).max(1)
        }
        (Some(Quality::Absolute(quality)), Some(source)) => quality.min(source),
        (Some(Quality::Relative(quality) | Quality::Absolute(quality)), None) => quality,
    }
}

fn encode(picture: &DynamicImage, format: Format, quality: u8) -> Result<Picture, Error> {
    let mut bytes = Vec::new();
    let written = match format {
        Format::Jpg => flatten(picture).write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)),
        // Without loss, whatever the quality: there is no other encoder.
        Format::Webp => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP),
        Format::Png => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png),
        Format::Bmp => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Bmp),
        Format::Gif => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Gif),
        Format::Tiff => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Tiff),
    };
    match written {
        Ok(()) => Ok(Picture { bytes, content_type: format.content_type() }),
        // Of sizes within the limits only WebP, at 16,384, cannot take every one.
        Err(cause) if format == Format::Webp => {
            Err(Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", cause.to_string()).ec("0040-00000011"))
        }
        Err(cause) => Err(Error::internal(cause)),
    }
}

/// JPEG has no transparency. Not documented: that OSS lays a picture on white.
fn flatten(picture: &DynamicImage) -> RgbImage {
    let DynamicImage::ImageRgba8(picture) = picture else { return picture.to_rgb8() };
    ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
        let mut pixel = Rgba([0xff; 4]);
        pixel.blend(picture.get_pixel(x, y));
        pixel.to_rgb()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::chain::{Task, Work};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_damaged_picture_is_processed_or_refused(
            format in proptest::sample::select(vec![
                ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff,
            ]),
            damage in proptest::collection::vec((0_usize..400, any::<u8>()), 0..4),
            length in 0_usize..2000,
            steps in "(resize,(m_(fill|pad|fixed|mfit),)?w_[1-9][0-9]{0,2}(,limit_0)?/|crop,g_se,w_[0-9]{1,3},x_[0-9]/|rotate,[0-9]{1,2}/|auto-orient,1/|quality,q_[1-9]/){0,4}format,(jpg|png|webp|bmp|gif|tiff)",
        ) {
            let mut source = Cursor::new(Vec::new());
            RgbImage::from_fn(20, 10, |x, y| Rgb([x as u8, y as u8, 7])).write_to(&mut source, format).unwrap();
            let mut source = source.into_inner();
            for (at, byte) in damage {
                if let Some(place) = source.get_mut(at) { *place = byte; }
            }
            source.truncate(length.max(20));
            let Work::Image(steps) = Task::parse(&format!("image/{steps}")).unwrap().work else { return Ok(()) };
            if let Ok(picture) = process(&source, &steps) {
                prop_assert!(image::load_from_memory(&picture.bytes).is_ok());
            }
        }
    }
}
