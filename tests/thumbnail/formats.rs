//! Every kind of source that is decoded, every format that is written, and their colours.

use image::codecs::gif::GifEncoder;
use image::{
    ColorType, Delay, DynamicImage, Frame, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage,
};
use moxcms::ColorProfile;
use oss_callback::media::{Fit, Format, Limits, Variant};
use oss_callback::thumbnail::{SourceFormat, make};

use crate::sources::{
    cmyk_jpeg, corners, encoded, jpeg_with_segment, png_of, webp_chunk, webp_extended, webp_of, webp_picture,
};
use crate::{near, one, open, png};

/// A picture whose left half is red and whose right half is transparent.
fn half_transparent() -> RgbaImage {
    RgbaImage::from_fn(64, 64, |x, _| if x < 32 { Rgba([255, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) })
}

fn as_format(format: Format, side: u32) -> Variant {
    Variant { format, ..Variant::inside("t", side) }
}

#[test]
fn every_source_format_is_told_by_its_content() {
    let cases = [
        (ImageFormat::Jpeg, SourceFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Png, SourceFormat::Png, "image/png"),
        (ImageFormat::Gif, SourceFormat::Gif, "image/gif"),
        (ImageFormat::WebP, SourceFormat::Webp, "image/webp"),
    ];
    for (written, found, mime) in cases {
        let bytes = encoded(corners(40, 20), written);
        let thumbnails = make(&bytes, &[png(20)], &Limits::default()).unwrap();
        assert_eq!((thumbnails.format, thumbnails.format.mime()), (found, mime));
        assert_eq!((thumbnails.width, thumbnails.height), (40, 20));
        assert_eq!(thumbnails.made.len(), 1);
    }
}

#[test]
fn every_format_is_written_with_its_mime_type() {
    let source = encoded(corners(64, 64), ImageFormat::Png);
    for (format, mime) in [(Format::Jpeg, "image/jpeg"), (Format::Png, "image/png"), (Format::Webp, "image/webp")] {
        let made = one(&source, &as_format(format, 32));
        assert_eq!(made.mime, mime);
        assert!(near(open(&made).into_rgb8().get_pixel(4, 4).0, [255, 0, 0], 12), "{format}");
    }
}

#[test]
fn all_variants_are_made_in_the_order_asked_for() {
    let source = encoded(corners(400, 300), ImageFormat::Jpeg);
    let variants = [Variant::inside("small", 16), png(200), as_format(Format::Webp, 4000)];
    let thumbnails = make(&source, &variants, &Limits::default()).unwrap();
    let sizes: Vec<_> = thumbnails
        .made
        .iter()
        .map(|(name, made)| (name.as_str(), made.as_ref().map(|made| (made.width, made.height)).unwrap()))
        .collect();
    assert_eq!(sizes, [("small", (16, 12)), ("exact", (200, 150)), ("t", (400, 300))]);
}

#[test]
fn without_variants_only_the_source_is_told() {
    let thumbnails = make(&encoded(corners(40, 20), ImageFormat::Gif), &[], &Limits::default()).unwrap();
    assert_eq!((thumbnails.width, thumbnails.height, thumbnails.made.len()), (40, 20, 0));
}

#[test]
fn transparency_is_kept_in_png_and_webp() {
    for source in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let bytes = encoded(half_transparent(), source);
        for format in [Format::Png, Format::Webp] {
            let image = open(&one(&bytes, &as_format(format, 32))).into_rgba8();
            assert_eq!(image.get_pixel(4, 4).0, [255, 0, 0, 255], "{source:?} {format}");
            assert_eq!(image.get_pixel(28, 4).0[3], 0, "{source:?} {format}");
        }
    }
}

#[test]
fn colours_of_transparent_pixels_do_not_bleed() {
    let image = open(&one(&encoded(half_transparent(), ImageFormat::Png), &png(8))).into_rgba8();
    for pixel in image.pixels().filter(|pixel| pixel.0[3] > 16) {
        assert!(pixel.0[1] < 24, "green shows in {pixel:?}");
    }
}

#[test]
fn transparency_is_laid_on_the_background_in_jpeg() {
    let bytes = encoded(half_transparent(), ImageFormat::Png);
    let white = open(&one(&bytes, &as_format(Format::Jpeg, 32))).into_rgb8();
    assert!(near(white.get_pixel(28, 4).0, [255, 255, 255], 6));
    assert!(near(white.get_pixel(4, 4).0, [255, 0, 0], 12));
    let blue = Variant { background: [0, 0, 255], ..as_format(Format::Jpeg, 32) };
    assert!(near(open(&one(&bytes, &blue)).into_rgb8().get_pixel(28, 4).0, [0, 0, 255], 12));
}

#[test]
fn quality_changes_the_size_of_a_jpeg() {
    let noise = RgbImage::from_fn(128, 128, |x, y| Rgb([((x * 7) ^ (y * 13)) as u8, (x * y) as u8, (x + 3 * y) as u8]));
    let bytes = encoded(noise, ImageFormat::Png);
    let size = |quality| one(&bytes, &Variant { quality, ..Variant::inside("t", 128) }).bytes.len();
    assert!(size(20) * 2 < size(95));
}

#[test]
fn grey_stays_grey() {
    let grey: ImageBuffer<Luma<u8>, Vec<u8>> = ImageBuffer::from_pixel(64, 64, Luma([90]));
    for source in [ImageFormat::Jpeg, ImageFormat::Png] {
        let image = open(&one(&encoded(grey.clone(), source), &Variant::inside("t", 32)));
        assert_eq!(image.color(), ColorType::L8, "{source:?}");
        assert!(near([image.into_luma8().get_pixel(9, 9).0[0]], [90], 2));
    }
    let with_alpha: ImageBuffer<LumaA<u8>, Vec<u8>> = ImageBuffer::from_pixel(64, 64, LumaA([90, 128]));
    let image = open(&one(&encoded(with_alpha, ImageFormat::Png), &png(32)));
    assert_eq!(image.color(), ColorType::La8);
    assert!(near(image.into_luma_alpha8().get_pixel(9, 9).0, [90, 128], 2));
}

#[test]
fn sixteen_bits_are_reduced_to_eight() {
    let rgb: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_pixel(32, 32, Rgb([0x8080, 0xffff, 0x10ff]));
    let image = open(&one(&encoded(DynamicImage::ImageRgb16(rgb), ImageFormat::Png), &png(16)));
    assert_eq!(image.color(), ColorType::Rgb8);
    assert!(near(image.into_rgb8().get_pixel(5, 5).0, [0x80, 0xff, 0x10], 1));
    let grey: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(32, 32, Luma([0x4000]));
    let image = open(&one(&encoded(DynamicImage::ImageLuma16(grey), ImageFormat::Png), &png(16)));
    assert!(near([image.into_luma8().get_pixel(5, 5).0[0]], [0x40], 1));
}

#[test]
fn a_palette_and_few_bits_are_expanded() {
    let palette = (&[255, 0, 0, 0, 0, 255][..], &[255, 0][..]);
    let bytes = png_of((8, 2), png::ColorType::Indexed, png::BitDepth::One, Some(palette), &[0x0f, 0x0f]);
    let image = open(&one(&bytes, &png(8))).into_rgba8();
    assert_eq!(image.get_pixel(0, 0).0, [255, 0, 0, 255]);
    assert_eq!(image.get_pixel(7, 1).0[3], 0);
    let bytes = png_of((8, 1), png::ColorType::Grayscale, png::BitDepth::Two, None, &[0b0001_1011, 0b0001_1011]);
    let image = open(&one(&bytes, &png(8))).into_luma8();
    assert_eq!(image.as_raw()[..4], [0, 85, 170, 255]);
}

#[test]
fn an_interlaced_png_is_decoded() {
    // Two by two pixels of grey in three passes, deflated without compression: 10, 20 above 30, 40.
    let rows = [0, 10, 0, 20, 0, 30, 40];
    let header = [0, 0, 0, 2, 0, 0, 0, 2, 8, 0, 0, 0, 1];
    let (low, high) = rows.iter().fold((1_u32, 0_u32), |(low, high), byte| (low + byte, high + low + byte));
    let stored = rows.map(|byte| byte as u8);
    let data = [&[0x78, 1, 1, 7, 0, 0xf8, 0xff], &stored[..], &(high << 16 | low).to_be_bytes()].concat();
    let chunk = crate::sources::png_chunk;
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", &[])].concat();
    let bytes = [&b"\x89PNG\r\n\x1a\n"[..], &chunks].concat();
    assert_eq!(open(&one(&bytes, &png(2))).into_luma8().into_raw(), [10, 20, 30, 40]);
}

#[test]
fn of_an_animated_gif_the_first_frame_is_taken() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for colour in [[255, 0, 0, 255], [0, 0, 255, 255]] {
        let image = RgbaImage::from_pixel(40, 30, Rgba(colour));
        encoder.encode_frame(Frame::from_parts(image, 0, 0, Delay::from_numer_denom_ms(100, 1))).unwrap();
    }
    drop(encoder);
    let image = open(&one(&bytes, &png(20))).into_rgb8();
    assert_eq!((image.dimensions(), image.get_pixel(9, 9).0), ((20, 15), [255, 0, 0]));
}

#[test]
fn of_an_animated_webp_the_first_frame_is_taken() {
    let frame = |colour: [u8; 3]| {
        let picture = webp_picture(&encoded(RgbImage::from_pixel(40, 30, Rgb(colour)), ImageFormat::WebP));
        let header = [0, 0, 0, 0, 0, 0, 39, 0, 0, 29, 0, 0, 100, 0, 0, 0];
        webp_chunk(b"ANMF", &[&header[..], &webp_chunk(b"VP8L", &picture)].concat())
    };
    let animation = webp_chunk(b"ANIM", &[0; 6]);
    let bytes = webp_of(&[webp_extended(0b10, 40, 30), animation, frame([255, 0, 0]), frame([0, 0, 255])]);
    let image = open(&one(&bytes, &png(20))).into_rgb8();
    assert_eq!(image.dimensions(), (20, 15));
    assert!(near(image.get_pixel(9, 9).0, [255, 0, 0], 2));
}

#[test]
fn the_inks_of_a_cmyk_jpeg_are_not_inverted() {
    let cases =
        [([255, 255, 255, 255], [255, 255, 255]), ([0, 255, 255, 255], [0, 255, 255]), ([255, 255, 255, 0], [0; 3])];
    for (inverted_inks, expected) in cases {
        let image = open(&one(&cmyk_jpeg(inverted_inks), &png(8))).into_rgb8();
        assert!(near(image.get_pixel(4, 4).0, expected, 4), "{:?} is not {expected:?}", image.get_pixel(4, 4));
    }
}

#[test]
fn colours_end_in_srgb() {
    let profile = ColorProfile::new_display_p3().encode().unwrap();
    let segment = [b"ICC_PROFILE\0\x01\x01", &profile[..]].concat();
    let plain = encoded(RgbImage::from_pixel(16, 16, Rgb([200, 100, 100])), ImageFormat::Jpeg);
    let seen = |jpeg: &[u8]| open(&one(jpeg, &png(16))).into_rgb8().get_pixel(8, 8).0;
    assert!(near(seen(&plain), [200, 100, 100], 3));
    // What Display P3 calls 200, 100, 100 is more saturated in sRGB.
    let [red, green, blue] = seen(&jpeg_with_segment(&plain, 0xe2, &segment));
    assert!(red > 210 && green < 98 && blue < 99, "{red} {green} {blue}");
}

#[test]
fn a_broken_colour_profile_does_no_harm() {
    let plain = encoded(RgbImage::from_pixel(16, 16, Rgb([200, 100, 100])), ImageFormat::Jpeg);
    let jpeg = jpeg_with_segment(&plain, 0xe2, b"ICC_PROFILE\0\x01\x01garbage");
    assert!(near(open(&one(&jpeg, &png(16))).into_rgb8().get_pixel(8, 8).0, [200, 100, 100], 3));
}

#[test]
fn metadata_stays_behind() {
    let plain = encoded(corners(32, 32), ImageFormat::Jpeg);
    let secret = b"taken at 48.8584 N 2.2945 E";
    let jpeg = jpeg_with_segment(&jpeg_with_segment(&plain, 0xfe, secret), 0xe1, &[b"Exif\0\0", &secret[..]].concat());
    for format in Format::ALL {
        let made = one(&jpeg, &Variant { fit: Fit::Cover, ..as_format(format, 16) });
        assert!(!made.bytes.windows(8).any(|window| secret.starts_with(window)), "{format}");
    }
}
