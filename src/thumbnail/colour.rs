//! Colours: from what a profile says they mean to sRGB, and from transparent to opaque.

use moxcms::{ColorProfile, DataColorSpace, Layout as ProfileLayout, TransformOptions};

use super::pixels::{Layout, Pixels};

/// Larger profiles are left out, in bytes. Real ones have at most some hundred kilobytes.
const MAX_PROFILE: usize = 4 << 20;

/// From the colours of a file to sRGB.
pub(super) struct Profile(ColorProfile);

impl Profile {
    /// Reads an ICC profile. `None` where it cannot be used; the colours are then taken for sRGB, as they would be without
    /// a profile.
    pub(super) fn read(profile: &[u8]) -> Option<Self> {
        (profile.len() <= MAX_PROFILE).then(|| ColorProfile::new_from_slice(profile).ok().map(Self)).flatten()
    }

    /// Converts to sRGB. A profile for other samples than these stays without effect: that of a CMYK file is for inks,
    /// which the decoder has made light of already.
    pub(super) fn convert(&self, pixels: Pixels) -> Pixels {
        let (space, layout) = match pixels.layout {
            Layout::Grey => (DataColorSpace::Gray, ProfileLayout::Gray),
            Layout::GreyAlpha => (DataColorSpace::Gray, ProfileLayout::GrayAlpha),
            Layout::Rgb => (DataColorSpace::Rgb, ProfileLayout::Rgb),
            Layout::Rgba => (DataColorSpace::Rgb, ProfileLayout::Rgba),
        };
        if self.0.color_space != space {
            return pixels;
        }
        let target = if space == DataColorSpace::Gray { srgb_grey() } else { ColorProfile::new_srgb() };
        let mut data = vec![0; pixels.data.len()];
        let converted = self
            .0
            .create_transform_8bit(layout, &target, layout, TransformOptions::default())
            .and_then(|transform| transform.transform(&pixels.data, &mut data));
        match converted {
            Ok(()) => Pixels { data, ..pixels },
            Err(_) => pixels,
        }
    }
}

/// Grey with the tone curve of sRGB.
fn srgb_grey() -> ColorProfile {
    let mut grey = ColorProfile::new_gray_with_gamma(2.2);
    grey.gray_trc = ColorProfile::new_srgb().red_trc;
    grey
}

/// Lays a picture on a background of one colour; what was opaque stays as it is.
pub(super) fn flatten(pixels: Pixels, background: [u8; 3]) -> Pixels {
    let over = |sample: u8, alpha: u8, behind: u8| {
        let mixed = u32::from(sample) * u32::from(alpha) + u32::from(behind) * (255 - u32::from(alpha));
        // At most 255, as the weights add up to 255.
        u8::try_from((mixed + 127) / 255).unwrap_or(u8::MAX)
    };
    let flat = |[red, green, blue, alpha]: [u8; 4]| {
        let [behind_red, behind_green, behind_blue] = background;
        [over(red, alpha, behind_red), over(green, alpha, behind_green), over(blue, alpha, behind_blue)]
    };
    let data = match pixels.layout {
        Layout::Grey | Layout::Rgb => return pixels,
        Layout::GreyAlpha => {
            pixels.data.as_chunks().0.iter().flat_map(|[grey, alpha]| flat([*grey, *grey, *grey, *alpha])).collect()
        }
        Layout::Rgba => pixels.data.as_chunks().0.iter().flat_map(|pixel| flat(*pixel)).collect(),
    };
    Pixels { layout: Layout::Rgb, data, ..pixels }
}
