//! Orientation: which of eight ways a stored picture is to be turned, and the turning.
//!
//! The tag is read here and not by the decoders: they miss it where an EXIF block begins with the `Exif` marker that many
//! writers put before it, and where it comes behind the pixels.

use super::offsets::{slice, u16_be, u16_le, u32_be, u32_le};
use super::pixels::Pixels;

/// The EXIF tag that holds the orientation.
const ORIENTATION_TAG: u16 = 0x0112;
/// The EXIF type of the orientation: an unsigned number of 16 bits.
const SHORT: u16 = 3;
/// Bytes per entry of an EXIF directory.
const ENTRY_LENGTH: usize = 12;

/// How a stored picture becomes upright: first its axes are swapped, then it is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation {
    /// Rows become columns.
    pub(super) swap_axes: bool,
    /// Left becomes right.
    pub(super) mirror_horizontally: bool,
    /// Top becomes bottom.
    pub(super) mirror_vertically: bool,
}

impl Orientation {
    /// The orientation that EXIF numbers from 1 to 8.
    const fn from_number(number: u16) -> Option<Self> {
        let (swap_axes, mirror_horizontally, mirror_vertically) = match number {
            1 => (false, false, false),
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => return None,
        };
        Some(Self { swap_axes, mirror_horizontally, mirror_vertically })
    }

    /// The orientation in an EXIF block, with or without the `Exif` marker before it; upright where there is none or where
    /// it makes no sense.
    pub(super) fn from_exif(block: Option<&[u8]>) -> Self {
        block.and_then(orientation_number).and_then(Self::from_number).unwrap_or_default()
    }

    /// Width and height after turning.
    pub(super) const fn upright<T: Copy>(self, (width, height): (T, T)) -> (T, T) {
        if self.swap_axes { (height, width) } else { (width, height) }
    }

    /// Turns a picture upright.
    pub(super) fn apply(self, stored: Pixels) -> Pixels {
        match stored.layout.samples() {
            _ if self == Self::default() => stored,
            1 => self.turn::<1>(stored),
            2 => self.turn::<2>(stored),
            3 => self.turn::<3>(stored),
            _ => self.turn::<4>(stored),
        }
    }

    fn turn<const SAMPLES: usize>(self, stored: Pixels) -> Pixels {
        let (width, height) = self.upright((stored.width, stored.height));
        let (pixels, _) = stored.data.as_chunks::<SAMPLES>();
        let stored_width = stored.width as usize;
        let mut data = Vec::with_capacity(stored.data.len());
        for row in order(height, self.mirror_vertically) {
            for column in order(width, self.mirror_horizontally) {
                let (stored_column, stored_row) = self.upright((column, row));
                let at = stored_row.saturating_mul(stored_width).saturating_add(stored_column);
                data.extend_from_slice(pixels.get(at).unwrap_or(&[0; SAMPLES]));
            }
        }
        Pixels { width, height, layout: stored.layout, data }
    }
}

/// The positions along an axis, from its end if mirrored.
fn order(length: u32, mirrored: bool) -> impl Iterator<Item = usize> {
    let length = length as usize;
    (0..length).map(move |at| if mirrored { length.saturating_sub(at).saturating_sub(1) } else { at })
}

/// The value of the orientation tag in the first directory of an EXIF block.
fn orientation_number(block: &[u8]) -> Option<u16> {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let little_endian = match slice(tiff, 0, 4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at| if little_endian { u16_le(tiff, at) } else { u16_be(tiff, at) };
    let long = |at| if little_endian { u32_le(tiff, at) } else { u32_be(tiff, at) };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = directory.checked_add(2)?;
    (0..usize::from(short(directory)?))
        .map_while(|entry| entry.checked_mul(ENTRY_LENGTH)?.checked_add(entries))
        .take_while(|entry| *entry < tiff.len())
        .find(|entry| short(*entry) == Some(ORIENTATION_TAG))
        .filter(|entry| entry.checked_add(2).and_then(short) == Some(SHORT))
        .and_then(|entry| short(entry.checked_add(8)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::thumbnail::pixels::Layout;

    /// A block with one entry of this tag, type and value.
    fn block(tag: u16, kind: u16, value: u16) -> Vec<u8> {
        let entry = [tag.to_le_bytes(), kind.to_le_bytes(), [1, 0], [0, 0], value.to_le_bytes(), [0, 0]].concat();
        [b"II*\0\x08\0\0\0\x01\0".to_vec(), entry].concat()
    }

    #[test]
    fn only_a_short_in_the_right_tag_counts() {
        assert_eq!(orientation_number(&block(ORIENTATION_TAG, SHORT, 6)), Some(6));
        assert_eq!(orientation_number(&block(ORIENTATION_TAG, 4, 6)), None);
        assert_eq!(orientation_number(&block(0x0111, SHORT, 6)), None);
        let mut cut_short = block(ORIENTATION_TAG, SHORT, 6);
        cut_short.truncate(18);
        assert_eq!(orientation_number(&cut_short), None);
    }

    #[test]
    fn a_directory_that_lies_outside_the_block_is_none() {
        for offset in [0_u32, 26, 1 << 31, u32::MAX - 1, u32::MAX] {
            let block = [&b"MM\0*"[..], &offset.to_be_bytes(), &[0xff; 4]].concat();
            assert_eq!(Orientation::from_exif(Some(&block)), Orientation::default(), "{offset}");
        }
    }

    #[test]
    fn six_turns_clockwise_and_eight_back() {
        let stored = Pixels { width: 3, height: 2, layout: Layout::Grey, data: vec![1, 2, 3, 4, 5, 6] };
        let turn = |number, pixels| Orientation::from_number(number).map(|orientation| orientation.apply(pixels));
        let turned = Pixels { width: 2, height: 3, layout: Layout::Grey, data: vec![4, 1, 5, 2, 6, 3] };
        assert_eq!(turn(6, stored.clone()), Some(turned.clone()));
        assert_eq!(turn(8, turned), Some(stored));
    }

    proptest! {
        #[test]
        fn no_block_makes_the_reader_panic(big in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let start: &[u8] = if big { b"MM\0*\0\0\0" } else { b"II*\0" };
            Orientation::from_exif(Some(&bytes));
            Orientation::from_exif(Some(&[start, &bytes].concat()));
        }
    }
}
