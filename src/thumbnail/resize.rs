//! Resizing: blocks of whole pixels are averaged first, as far as every thumbnail allows, then each thumbnail is made of
//! that by Lanczos3.
//!
//! Averaging is cheap and runs once for all variants. It stops at twice the size of the largest, where its coarser filter
//! no longer shows.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{MulDiv, PixelType, ResizeOptions, Resizer};

use super::ThumbnailError;
use super::pixels::{Layout, Pixels};
use super::plan::Plan;

/// How much larger than a thumbnail the averaged picture stays.
const HEADROOM: f64 = 2.0;
/// The longest side of a block; the sum of the bytes in a block of this size fits into 32 bits.
const MAX_BLOCK: f64 = 2048.0;

/// The source, made as small as the plans allow.
pub(super) struct Reduced {
    /// Colours are multiplied by alpha, so that transparent pixels do not bleed into their neighbours.
    pixels: Pixels,
    /// Pixels of the source per pixel of these, along and across.
    columns: u32,
    rows: u32,
}

impl Reduced {
    /// Reduces a source for these plans.
    pub(super) fn new(mut pixels: Pixels, plans: &[Plan]) -> Result<Self, ThumbnailError> {
        multiply_alpha(&mut pixels)?;
        let columns = block(plans, |plan| plan.part.width / f64::from(plan.width));
        let rows = block(plans, |plan| plan.part.height / f64::from(plan.height));
        let pixels = match pixels.layout {
            _ if columns == 1 && rows == 1 => pixels,
            Layout::Grey => average::<1>(&pixels, columns, rows),
            Layout::GreyAlpha => average::<2>(&pixels, columns, rows),
            Layout::Rgb => average::<3>(&pixels, columns, rows),
            Layout::Rgba => average::<4>(&pixels, columns, rows),
        };
        Ok(Self { pixels, columns, rows })
    }

    /// Makes the thumbnail of one plan; colours are no longer multiplied by alpha.
    pub(super) fn resize(&self, plan: &Plan) -> Result<Pixels, ThumbnailError> {
        let Pixels { width, height, layout, data } = &self.pixels;
        let source =
            ImageRef::new(*width, *height, data, pixel_type(*layout)).map_err(ThumbnailError::not_encodable)?;
        let mut target = Image::new(plan.width, plan.height, pixel_type(*layout));
        let (columns, rows) = (f64::from(self.columns), f64::from(self.rows));
        let part = plan.part;
        let options = ResizeOptions::new().use_alpha(false).crop(
            part.left / columns,
            part.top / rows,
            part.width / columns,
            part.height / rows,
        );
        Resizer::new().resize(&source, &mut target, &options).map_err(ThumbnailError::not_encodable)?;
        if layout.has_alpha() {
            MulDiv::new().divide_alpha_inplace(&mut target).map_err(ThumbnailError::not_encodable)?;
        }
        Ok(Pixels { width: plan.width, height: plan.height, layout: *layout, data: target.into_vec() })
    }
}

/// The side of the blocks that can be averaged along one axis, by how many pixels of the source each plan has per pixel of
/// its thumbnail.
fn block(plans: &[Plan], ratio: impl Fn(&Plan) -> f64) -> u32 {
    let least = plans.iter().map(ratio).fold(f64::INFINITY, f64::min);
    // Without plans there is nothing to reduce for.
    if least.is_finite() { (least / HEADROOM).floor().clamp(1.0, MAX_BLOCK) as u32 } else { 1 }
}

fn multiply_alpha(pixels: &mut Pixels) -> Result<(), ThumbnailError> {
    if !pixels.layout.has_alpha() {
        return Ok(());
    }
    let kind = pixel_type(pixels.layout);
    let mut image = Image::from_slice_u8(pixels.width, pixels.height, &mut pixels.data, kind)
        .map_err(ThumbnailError::not_encodable)?;
    MulDiv::new().multiply_alpha_inplace(&mut image).map_err(ThumbnailError::not_encodable)
}

/// Averages blocks of `columns` by `rows` pixels. Blocks at the right and the bottom edge may hold fewer.
fn average<const SAMPLES: usize>(pixels: &Pixels, columns: u32, rows: u32) -> Pixels {
    let (width, height) = (pixels.width.div_ceil(columns), pixels.height.div_ceil(rows));
    let (block_width, block_height) = (columns as usize, rows as usize);
    let row_length = pixels.row_length();
    let mut sums = vec![[0_u32; SAMPLES]; width as usize];
    let mut data = Vec::with_capacity(width as usize * height as usize * SAMPLES);
    for band in pixels.data.chunks(row_length.saturating_mul(block_height)) {
        sums.fill([0; SAMPLES]);
        for row in band.chunks_exact(row_length) {
            add_blocks(&mut sums, row.as_chunks::<SAMPLES>().0, block_width);
        }
        let band_height = band.len() / row_length;
        for (at, sum) in sums.iter().enumerate() {
            let taken = block_width.min((pixels.width as usize).saturating_sub(at.saturating_mul(block_width)));
            let count = u32::try_from(taken.saturating_mul(band_height)).unwrap_or(u32::MAX).max(1);
            // A sum of bytes divided by their count fits into a byte.
            data.extend(sum.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    Pixels { width, height, layout: pixels.layout, data }
}

/// Adds each block of pixels in a row to its sum.
fn add_blocks<const SAMPLES: usize>(sums: &mut [[u32; SAMPLES]], row: &[[u8; SAMPLES]], block_width: usize) {
    for (sum, block) in sums.iter_mut().zip(row.chunks(block_width)) {
        for pixel in block {
            for (sum, sample) in sum.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(u32::from(*sample));
            }
        }
    }
}

const fn pixel_type(layout: Layout) -> PixelType {
    match layout {
        Layout::Grey => PixelType::U8,
        Layout::GreyAlpha => PixelType::U8x2,
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba => PixelType::U8x4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32, data: Vec<u8>) -> Pixels {
        Pixels { width, height, layout: Layout::Grey, data }
    }

    #[test]
    fn blocks_at_the_edges_are_averaged_over_what_they_hold() {
        let source = grey(3, 3, vec![0, 4, 10, 8, 12, 20, 100, 200, 7]);
        assert_eq!(average::<1>(&source, 2, 2), grey(2, 2, vec![6, 15, 150, 7]));
    }

    #[test]
    fn a_block_of_the_greatest_size_does_not_overflow() {
        let side = MAX_BLOCK as u32;
        let source = grey(side, side, vec![255; (side * side) as usize]);
        assert_eq!(average::<1>(&source, side, side), grey(1, 1, vec![255]));
    }
}
