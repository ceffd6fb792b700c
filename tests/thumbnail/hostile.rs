//! Damaged and foreign files: always an error or a thumbnail, never a panic.

use image::ImageFormat;
use oss_callback::media::{Limits, Variant};
use oss_callback::record::Reason;
use oss_callback::thumbnail::{ThumbnailError, make};
use proptest::prelude::*;

use crate::refused;
use crate::sources::{corners, encoded, exif, jpeg_with_exif, png_with_chunk, webp_with_exif};

/// Small files of every format, with EXIF where there can be.
fn samples() -> Vec<(ImageFormat, Vec<u8>)> {
    let image = corners(24, 16);
    let webp = encoded(image.clone(), ImageFormat::WebP);
    vec![
        (ImageFormat::Jpeg, jpeg_with_exif(&encoded(image.clone(), ImageFormat::Jpeg), &exif(6, true))),
        (ImageFormat::Png, png_with_chunk(&encoded(image.clone(), ImageFormat::Png), b"eXIf", &exif(6, true))),
        (ImageFormat::Gif, encoded(image, ImageFormat::Gif)),
        (ImageFormat::WebP, webp_with_exif(&webp, (24, 16), &exif(6, true))),
    ]
}

fn survives(bytes: &[u8]) {
    if let Ok(thumbnails) = make(bytes, &[Variant::inside("small", 16)], &Limits::default()) {
        assert!(thumbnails.width > 0 && thumbnails.height > 0);
    }
}

#[test]
fn a_file_that_was_cut_short_is_an_error() {
    for (format, bytes) in samples() {
        // Behind the pixels of PNG, GIF and WebP nothing is needed but a few closing bytes.
        let needed = if format == ImageFormat::Jpeg { bytes.len() } else { bytes.len() * 3 / 4 };
        for length in 0..needed {
            let result = make(&bytes[..length], &[], &Limits::default());
            assert!(result.is_err(), "{format:?} of {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn known_formats_that_are_not_decoded_are_named() {
    let cases: [(&[u8], &str); 12] = [
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0", "HEIF"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "MP4"),
        (b"BM\0\0\0\0", "BMP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\x01\0\x01\0", "ICO"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"\xef\xbb\xbf \n<?xml version=\"1.0\"?><SVG xmlns=\"\">", "SVG"),
        (b"<!DOCTYPE html><p>", "HTML"),
    ];
    for (bytes, expected) in cases {
        let error = refused(bytes);
        assert_eq!(error, ThumbnailError::UnsupportedFormat { found: expected });
        assert_eq!(error.reason(), Reason::UnsupportedFormat);
    }
}

#[test]
fn what_is_no_image_at_all_is_an_error() {
    for bytes in [
        &b""[..],
        b"\xff",
        b"\xff\xd8\xff",
        b"GIF89",
        b"GIF89a",
        b"hello, world",
        b"RIFF\0\0\0\0WAVE",
        b"\x89PNG\r\n\x1a\n",
    ] {
        assert_eq!(refused(bytes).reason(), Reason::Undecodable, "{bytes:?}");
    }
}

#[test]
fn an_image_without_pixels_is_an_error() {
    let gif = b"GIF89a\0\0\x10\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;";
    assert_eq!(refused(gif).to_string(), "the content cannot be decoded: the image is 0 by 16 pixels");
}

#[test]
fn a_jpeg_with_two_frames_is_an_error() {
    let jpeg = encoded(corners(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|window| window == [0xff, 0xc0]).unwrap();
    let segment = &jpeg[frame..frame + 19];
    let doubled = [&jpeg[..frame], segment, &jpeg[frame..]].concat();
    assert_eq!(refused(&doubled).reason(), Reason::Undecodable);
}

#[test]
fn bytes_behind_the_end_of_a_file_do_no_harm() {
    for (format, bytes) in samples() {
        let longer = [&bytes[..], b"trailing bytes of a camera"].concat();
        assert!(make(&longer, &[], &Limits::default()).is_ok(), "{format:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(start in 0..5_usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let starts = [&b""[..], b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\xff\0\0\0WEBPVP8X"];
        survives(&[starts[start], &bytes].concat());
    }

    #[test]
    fn changed_files_never_panic(
        sample in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kept in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, mut bytes) = samples().swap_remove(sample);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(kept) = kept {
            bytes.truncate(kept.index(bytes.len()));
        }
        survives(&bytes);
    }
}
