//! A decoded image.

use super::ThumbnailError;

/// What the samples of a pixel are, each of 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

impl Layout {
    pub(super) const fn samples(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    pub(super) const fn has_alpha(self) -> bool {
        matches!(self, Self::GreyAlpha | Self::Rgba)
    }
}

/// A decoded image: rows from the top, without gaps, `width * height * layout.samples()` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) data: Vec<u8>,
}

impl Pixels {
    /// An image of zeros.
    pub(super) fn zeroed(width: u32, height: u32, layout: Layout) -> Result<Self, ThumbnailError> {
        let length = usize::try_from(width)
            .ok()
            .zip(usize::try_from(height).ok())
            .and_then(|(width, height)| width.checked_mul(height)?.checked_mul(layout.samples()))
            .ok_or_else(|| ThumbnailError::undecodable("the image does not fit into memory"))?;
        Ok(Self { width, height, layout, data: vec![0; length] })
    }

    /// Bytes per row, at least 1.
    pub(super) fn row_length(&self) -> usize {
        (self.width as usize).saturating_mul(self.layout.samples()).max(1)
    }
}
