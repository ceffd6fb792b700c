//! Geometry: which part of the source becomes a thumbnail, and of what size.

use super::orientation::Orientation;
use crate::media::{Fit, Variant};

/// What part of the stored picture becomes a thumbnail of what size; both before orientation, so that the thumbnail is
/// turned instead of the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// The part, in pixels of the stored picture.
    pub(super) part: Part,
    /// Width of the thumbnail in pixels, at least 1.
    pub(super) width: u32,
    /// Height of the thumbnail in pixels, at least 1.
    pub(super) height: u32,
}

/// A rectangle in the middle of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Plan {
    /// What `variant` makes of a stored picture of this size.
    pub(super) fn new(variant: &Variant, stored: (u32, u32), orientation: Orientation) -> Self {
        let source = orientation.upright(stored);
        let (size, part) = match variant.fit {
            Fit::Inside => (inside(variant, source), as_float(source)),
            Fit::Cover => cover(variant, source),
            Fit::Exact => (exact(variant, source), as_float(source)),
        };
        let (width, height) = orientation.upright(size);
        Self { part: Part::centred(orientation.upright(part), as_float(stored)), width, height }
    }
}

impl Part {
    /// The rectangle of this size in the middle of a whole; at least one pixel, at most the whole.
    fn centred((width, height): (f64, f64), whole: (f64, f64)) -> Self {
        let (width, height) = (width.clamp(1.0, whole.0), height.clamp(1.0, whole.1));
        Self { left: (whole.0 - width) / 2.0, top: (whole.1 - height) / 2.0, width, height }
    }
}

/// The largest size of the source's ratio within the box.
fn inside(variant: &Variant, (width, height): (u32, u32)) -> (u32, u32) {
    if !variant.enlarge && width <= variant.width && height <= variant.height {
        return (width, height);
    }
    // Compares the ratios without dividing: is the source wider than the box?
    if u64::from(width) * u64::from(variant.height) >= u64::from(height) * u64::from(variant.width) {
        (variant.width, scaled(height, variant.width, width).min(variant.height))
    } else {
        (scaled(width, variant.height, height).min(variant.width), variant.height)
    }
}

/// The size that fills the box, and the size of the part of the source that it shows.
fn cover(variant: &Variant, source: (u32, u32)) -> ((u32, u32), (f64, f64)) {
    let (box_width, box_height) = as_float((variant.width, variant.height));
    let (width, height) = as_float(source);
    // Pixels of the thumbnail per pixel of the source.
    let scale = (box_width / width).max(box_height / height);
    let part = (box_width / scale, box_height / scale);
    if variant.enlarge || scale <= 1.0 {
        ((variant.width, variant.height), part)
    } else {
        ((rounded(part.0).min(source.0), rounded(part.1).min(source.1)), part)
    }
}

/// The box, with no side longer than that of the source unless told so.
fn exact(variant: &Variant, (width, height): (u32, u32)) -> (u32, u32) {
    if variant.enlarge {
        (variant.width, variant.height)
    } else {
        (variant.width.min(width), variant.height.min(height))
    }
}

/// `side * numerator / denominator`, rounded, at least 1.
fn scaled(side: u32, numerator: u32, denominator: u32) -> u32 {
    let product = u64::from(side) * u64::from(numerator) + u64::from(denominator) / 2;
    u32::try_from(product / u64::from(denominator.max(1))).unwrap_or(u32::MAX).max(1)
}

/// The nearest whole number, at least 1. Callers pass no more than a side of an image.
fn rounded(length: f64) -> u32 {
    length.round().clamp(1.0, f64::from(u32::MAX)) as u32
}

fn as_float((width, height): (u32, u32)) -> (f64, f64) {
    (width.into(), height.into())
}
