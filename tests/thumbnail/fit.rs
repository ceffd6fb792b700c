//! Sizes: what fits, fills or stretches to a box, and what never happens.

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use oss_callback::media::{Fit, Variant};

use crate::sources::{corners, encoded};
use crate::{near, one, open, png};

fn size(source: (u32, u32), fit: Fit, (width, height): (u32, u32), enlarge: bool) -> (u32, u32) {
    let bytes = encoded(GrayImage::from_pixel(source.0, source.1, Luma([7])), ImageFormat::Png);
    let made = one(&bytes, &Variant { width, height, fit, enlarge, ..png(1) });
    open(&made);
    (made.width, made.height)
}

#[test]
fn inside_keeps_the_ratio_within_the_box() {
    assert_eq!(size((400, 300), Fit::Inside, (100, 100), false), (100, 75));
    assert_eq!(size((300, 400), Fit::Inside, (100, 100), false), (75, 100));
    assert_eq!(size((400, 300), Fit::Inside, (400, 10), false), (13, 10));
    assert_eq!(size((1023, 767), Fit::Inside, (256, 256), false), (256, 192));
}

#[test]
fn cover_fills_the_box() {
    assert_eq!(size((400, 300), Fit::Cover, (100, 100), false), (100, 100));
    assert_eq!(size((300, 400), Fit::Cover, (100, 10), false), (100, 10));
}

#[test]
fn cover_cuts_evenly_on_both_sides() {
    let striped = RgbImage::from_fn(90, 30, |x, _| Rgb(if (30..60).contains(&x) { [0, 200, 0] } else { [200, 0, 0] }));
    let image = open(&one(&encoded(striped, ImageFormat::Png), &Variant { fit: Fit::Cover, ..png(15) })).into_rgb8();
    for (x, y) in [(1, 1), (7, 7), (13, 13)] {
        assert!(near(image.get_pixel(x, y).0, [0, 200, 0], 30), "{x} {y}: {:?}", image.get_pixel(x, y));
    }
}

#[test]
fn exact_stretches_to_the_box() {
    assert_eq!(size((400, 300), Fit::Exact, (100, 100), false), (100, 100));
    let image = open(&one(&encoded(corners(80, 40), ImageFormat::Png), &Variant { fit: Fit::Exact, ..png(20) }));
    assert!(near(image.into_rgb8().get_pixel(18, 18).0, [0, 0, 255], 30));
}

#[test]
fn nothing_is_enlarged_unless_told() {
    assert_eq!(size((40, 30), Fit::Inside, (100, 100), false), (40, 30));
    assert_eq!(size((40, 30), Fit::Inside, (100, 100), true), (100, 75));
    assert_eq!(size((40, 30), Fit::Cover, (100, 100), false), (30, 30));
    assert_eq!(size((40, 30), Fit::Cover, (100, 50), false), (40, 20));
    assert_eq!(size((40, 30), Fit::Cover, (100, 100), true), (100, 100));
    assert_eq!(size((40, 30), Fit::Exact, (100, 20), false), (40, 20));
    assert_eq!(size((40, 30), Fit::Exact, (100, 20), true), (100, 20));
}

#[test]
fn extreme_ratios_never_lose_a_side() {
    for source in [(1, 4000), (4000, 1), (1, 1), (3, 9999)] {
        for fit in Fit::ALL {
            for enlarge in [false, true] {
                let (width, height) = size(source, fit, (16, 16), enlarge);
                assert!((1..=16).contains(&width) && (1..=16).contains(&height), "{source:?} {fit}: {width}x{height}");
            }
        }
    }
    assert_eq!(size((1, 4000), Fit::Inside, (256, 256), false), (1, 256));
}

#[test]
fn a_picture_that_is_reduced_far_keeps_its_mean() {
    let chequered = GrayImage::from_fn(1001, 777, |x, y| Luma([if (x + y) % 2 == 0 { 0 } else { 200 }]));
    for side in [1, 2, 5, 30] {
        let image = open(&one(&encoded(chequered.clone(), ImageFormat::Png), &png(side))).into_luma8();
        for pixel in image.pixels() {
            assert!(near(pixel.0, [100], 3), "{side}: {pixel:?}");
        }
    }
}

#[test]
fn a_straight_edge_stays_in_its_place_where_sides_do_not_divide_evenly() {
    let split = GrayImage::from_fn(1001, 11, |x, _| Luma([if x < 500 { 0 } else { 255 }]));
    let image = open(&one(&encoded(split, ImageFormat::Png), &Variant { fit: Fit::Exact, ..png(10) })).into_luma8();
    assert!(image.get_pixel(4, 5).0[0] < 30 && image.get_pixel(5, 5).0[0] > 225);
}
