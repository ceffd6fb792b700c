//! Thumbnails as others see them: files made here go in, files come out and are looked at with another decoder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "thumbnail/fit.rs"]
mod fit;
#[path = "thumbnail/formats.rs"]
mod formats;
#[path = "thumbnail/hostile.rs"]
mod hostile;
#[path = "thumbnail/limits.rs"]
mod limits;
#[path = "thumbnail/orientation.rs"]
mod orientation;
#[path = "thumbnail/sources.rs"]
mod sources;

use image::DynamicImage;
use oss_callback::media::{Format, Limits, Variant};
use oss_callback::thumbnail::{Made, ThumbnailError, Thumbnails, make};

/// Makes one thumbnail under the default limits.
fn one(bytes: &[u8], variant: &Variant) -> Made {
    only(make(bytes, std::slice::from_ref(variant), &Limits::default()).expect("the source must be accepted"))
}

fn only(mut thumbnails: Thumbnails) -> Made {
    assert_eq!(thumbnails.made.len(), 1);
    thumbnails.made.remove(0).1.expect("the thumbnail must be made")
}

fn refused(bytes: &[u8]) -> ThumbnailError {
    make(bytes, &[Variant::inside("small", 256)], &Limits::default()).expect_err("the source must be refused")
}

/// A PNG thumbnail, which shows exactly what was made.
fn png(side: u32) -> Variant {
    Variant { format: Format::Png, ..Variant::inside("exact", side) }
}

fn open(made: &Made) -> DynamicImage {
    let image = image::load_from_memory(&made.bytes).expect("a thumbnail must be readable");
    assert_eq!((image.width(), image.height()), (made.width, made.height));
    assert_eq!(image::guess_format(&made.bytes).unwrap().to_mime_type(), made.mime);
    image
}

/// Whether two colours differ by no more than `tolerance` in any sample.
fn near<const N: usize>(left: [u8; N], right: [u8; N], tolerance: u8) -> bool {
    left.iter().zip(&right).all(|(left, right)| left.abs_diff(*right) <= tolerance)
}
