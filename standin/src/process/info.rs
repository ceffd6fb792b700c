//! `image/info`: what is known of a picture without decoding it. Pure.

use std::collections::BTreeMap;
use std::io::Cursor;

use exif::{In, Tag, Value};
use serde_json::json;

use super::image::unsupported;
use super::jpeg;
use crate::callback::image_in;
use crate::error::Error;

/// The longest list of numbers that is printed; the notes of camera makers are longer.
const MOST_NUMBERS: usize = 64;

/// The answer, a JSON document.
///
/// protocol: every value is a string in an object of its own; names in alphabetical order.
pub(super) fn describe(source: &[u8]) -> Result<String, Error> {
    let image = image_in(Cursor::new(source)).ok_or_else(unsupported)?;
    let mut fields = BTreeMap::new();
    if image.format == "jpg"
        && let Some(density) = jpeg::density(source)
    {
        // Exif counts the units from 1, JFIF from 0.
        fields.insert("ResolutionUnit".to_owned(), (u16::from(density.unit) + 1).to_string());
        fields.insert("XResolution".to_owned(), format!("{}/1", density.x));
        fields.insert("YResolution".to_owned(), format!("{}/1", density.y));
    }
    // protocol: not of PNG.
    if image.format != "png" {
        fields.extend(exif_of(source));
    }
    for (name, value) in [
        ("FileSize", source.len().to_string()),
        ("Format", image.format.to_owned()),
        ("FrameCount", frames(image.format, source).to_string()),
        // As stored, before any orientation is applied.
        ("ImageHeight", image.height.to_string()),
        ("ImageWidth", image.width.to_string()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    let document: BTreeMap<String, serde_json::Value> =
        fields.into_iter().map(|(name, value)| (name, json!({ "value": value }))).collect();
    serde_json::to_string_pretty(&document).map_err(Error::internal)
}

/// The Exif tags that have names; those of the picture itself before those of its thumbnail.
fn exif_of(source: &[u8]) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    let Ok(exif) = exif::Reader::new().read_from_container(&mut Cursor::new(source)) else { return tags };
    let (first, later): (Vec<_>, Vec<_>) = exif.fields().partition(|field| field.ifd_num == In::PRIMARY);
    for field in first.into_iter().chain(later) {
        if field.tag.description().is_some()
            && let Some(value) = print(field.tag, &field.value)
        {
            tags.entry(field.tag.to_string()).or_insert(value);
        }
    }
    tags
}

/// A value as OSS prints it: numbers side by side, fractions unreduced, directions as words.
fn print(tag: Tag, value: &Value) -> Option<String> {
    fn list<T>(values: &[T], print: impl Fn(&T) -> String) -> Option<String> {
        (values.len() <= MOST_NUMBERS).then(|| values.iter().map(print).collect::<Vec<_>>().join(" "))
    }
    match value {
        Value::Ascii(lines) => {
            let text = lines.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>().join(" ");
            Some(match (tag, text.as_str()) {
                (Tag::GPSLatitudeRef, "N") => "North".to_owned(),
                (Tag::GPSLatitudeRef, "S") => "South".to_owned(),
                (Tag::GPSLongitudeRef, "E") => "East".to_owned(),
                (Tag::GPSLongitudeRef, "W") => "West".to_owned(),
                _ => text,
            })
        }
        // Not documented for angles other than 0; OSS prints that one so.
        Value::Rational(parts) if matches!(tag, Tag::GPSLatitude | Tag::GPSLongitude) => {
            let part = |index: usize| parts.get(index).map(exif::Rational::to_f64).filter(|part| part.is_finite());
            let mut text = format!("{}deg ", part(0)?);
            if let Some(minutes) = part(1).filter(|minutes| *minutes > 0.0) {
                text.push_str(&format!("{minutes}' "));
            }
            if let Some(seconds) = part(2).filter(|seconds| *seconds > 0.0) {
                text.push_str(&format!("{seconds}\" "));
            }
            Some(text)
        }
        Value::Byte(numbers) => list(numbers, u8::to_string),
        Value::Undefined(numbers, _) => list(numbers, u8::to_string),
        Value::Short(numbers) => list(numbers, u16::to_string),
        Value::Long(numbers) => list(numbers, u32::to_string),
        Value::SByte(numbers) => list(numbers, i8::to_string),
        Value::SShort(numbers) => list(numbers, i16::to_string),
        Value::SLong(numbers) => list(numbers, i32::to_string),
        Value::Rational(numbers) => list(numbers, |number| format!("{}/{}", number.num, number.denom)),
        Value::SRational(numbers) => list(numbers, |number| format!("{}/{}", number.num, number.denom)),
        Value::Float(numbers) => list(numbers, f32::to_string),
        Value::Double(numbers) => list(numbers, f64::to_string),
        Value::Unknown(..) => None,
    }
}

/// How many pictures follow each other; 1 of a still one.
fn frames(format: &str, source: &[u8]) -> usize {
    let counted = match format {
        "gif" => gif_frames(source),
        "webp" => webp_frames(source),
        _ => 1,
    };
    counted.max(1)
}

fn gif_frames(source: &[u8]) -> usize {
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let Ok(mut decoder) = options.read_info(Cursor::new(source)) else { return 0 };
    let mut count = 0;
    while let Ok(Some(_)) = decoder.next_frame_info() {
        count += 1;
    }
    count
}

/// Each picture of an animation is a chunk called ANMF.
fn webp_frames(source: &[u8]) -> usize {
    let mut rest = source.get(12..).unwrap_or_default();
    let mut count = 0;
    while let Some((name, after)) = rest.split_first_chunk::<4>()
        && let Some((length, content)) = after.split_first_chunk::<4>()
    {
        count += usize::from(name == b"ANMF");
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        rest = content.get(length.saturating_add(length & 1)..).unwrap_or_default();
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pictures_of_an_animation_are_counted() {
        let mut source = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut source);
        encoder.encode_frames((0..3).map(|_| image::Frame::new(image::RgbaImage::new(4, 4)))).unwrap();
        drop(encoder);
        assert_eq!(frames("gif", &source), 3);
        let webp = b"RIFF\0\0\0\0WEBPVP8X\x01\0\0\0a\0ANMF\x02\0\0\0aaANMF\0\0\0\0";
        assert_eq!(frames("webp", webp), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(
            magic in proptest::sample::select(vec![&b"GIF89a"[..], b"\xff\xd8\xff\xe1\0\x20Exif\0\0II*\0\x08\0\0\0", b"II*\0\x08\0\0\0", b"RIFF\x40\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n", b""]),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let source = [magic, &bytes].concat();
            let _ = describe(&source);
            let _ = (exif_of(&source), gif_frames(&source), webp_frames(&source));
        }
    }
}
