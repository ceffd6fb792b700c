//! All eight orientations come out upright, whichever container says so.

use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
use image::{ImageFormat, RgbImage};
use oss_callback::media::{Fit, Limits, Variant};
use oss_callback::thumbnail::make;

use crate::sources::{
    CORNERS, corners, encoded, exif, jpeg_with_exif, png_with_chunk, png_with_late_chunk, webp_with_exif,
};
use crate::{near, one, open, png};

/// What a camera stores so that the picture is upright once turned as `orientation` says.
fn stored(upright: &RgbImage, orientation: u8) -> RgbImage {
    match orientation {
        1 => upright.clone(),
        2 => flip_horizontal(upright),
        3 => rotate180(upright),
        4 => flip_vertical(upright),
        5 => rotate90(&flip_vertical(upright)),
        6 => rotate270(upright),
        7 => rotate270(&flip_vertical(upright)),
        8 => rotate90(upright),
        other => panic!("there is no orientation {other}"),
    }
}

/// Makes thumbnails of the picture in every orientation, as `source` writes it, and looks at size and corners.
fn comes_out_upright(source: impl Fn(&RgbImage, u8) -> Vec<u8>) {
    for orientation in 1..=8 {
        let bytes = source(&stored(&corners(64, 32), orientation), orientation);
        let thumbnails = make(&bytes, &[png(32)], &Limits::default()).unwrap();
        assert_eq!((thumbnails.width, thumbnails.height), (64, 32), "orientation {orientation}");
        let image = open(thumbnails.made[0].1.as_ref().unwrap()).into_rgb8();
        assert_eq!(image.dimensions(), (32, 16), "orientation {orientation}");
        let seen = [(2, 2), (29, 2), (29, 13), (2, 13)].map(|(x, y)| image.get_pixel(x, y).0);
        for (seen, expected) in seen.into_iter().zip(CORNERS) {
            assert!(near(seen, expected, 40), "orientation {orientation}: {seen:?} is not {expected:?}");
        }
    }
}

#[test]
fn a_jpeg_comes_out_upright() {
    for little_endian in [true, false] {
        comes_out_upright(|image, orientation| {
            jpeg_with_exif(&encoded(image.clone(), ImageFormat::Jpeg), &exif(orientation, little_endian))
        });
    }
}

#[test]
fn a_png_comes_out_upright_with_exif_before_or_behind_the_pixels() {
    comes_out_upright(|image, orientation| {
        png_with_chunk(&encoded(image.clone(), ImageFormat::Png), b"eXIf", &exif(orientation, true))
    });
    comes_out_upright(|image, orientation| {
        png_with_late_chunk(&encoded(image.clone(), ImageFormat::Png), b"eXIf", &exif(orientation, false))
    });
}

#[test]
fn a_webp_comes_out_upright_with_or_without_the_marker_before_exif() {
    for marker in [&b""[..], b"Exif\0\0"] {
        comes_out_upright(|image, orientation| {
            let webp = encoded(image.clone(), ImageFormat::WebP);
            webp_with_exif(&webp, image.dimensions(), &[marker, &exif(orientation, true)].concat())
        });
    }
}

#[test]
fn a_senseless_orientation_leaves_the_picture_as_it_is() {
    for orientation in [0, 9, 255] {
        let jpeg = jpeg_with_exif(&encoded(corners(64, 32), ImageFormat::Jpeg), &exif(orientation, true));
        let image = open(&one(&jpeg, &png(64))).into_rgb8();
        assert_eq!(image.dimensions(), (64, 32));
        assert!(near(image.get_pixel(4, 4).0, CORNERS[0], 40), "orientation {orientation}");
    }
}

#[test]
fn the_box_is_meant_for_the_upright_picture() {
    let jpeg = jpeg_with_exif(&encoded(corners(64, 32), ImageFormat::Jpeg), &exif(6, true));
    for (fit, expected) in [(Fit::Inside, (8, 16)), (Fit::Cover, (8, 20)), (Fit::Exact, (8, 20))] {
        let made = one(&jpeg, &Variant { width: 8, height: 20, fit, ..png(1) });
        assert_eq!((made.width, made.height), expected, "{fit}");
    }
}
