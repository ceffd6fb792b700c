//! What the header of a JPEG says that decoders do not pass on: its quality and its density. Pure.

/// The luminance table of the JPEG standard (ITU-T T.81, table K.1), summed. Every quality scales this table.
const STANDARD_SUM: u64 = 3688;

/// Horizontal and vertical density, and the unit: 0 none, 1 dots per inch, 2 dots per centimetre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Density {
    pub(super) unit: u8,
    pub(super) x: u16,
    pub(super) y: u16,
}

/// The quality that a JPEG was made with, 1 to 100, as the usual encoders count it: read off its first table. Too high
/// for qualities below 24, where entries of the table reach their end at 255.
pub(super) fn quality(jpeg: &[u8]) -> Option<u8> {
    let (_, tables) = segments(jpeg).find(|(marker, _)| *marker == 0xdb)?;
    let (kind, table) = tables.split_first()?;
    let sum: u64 = match kind >> 4 {
        0 => table.get(..64)?.iter().map(|entry| u64::from(*entry)).sum(),
        _ => table
            .get(..128)?
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            .sum(),
    };
    // Per cent of the standard table: 100 at quality 50, 200 at 25, 2 at 99.
    let scale = (sum * 100 + STANDARD_SUM / 2) / STANDARD_SUM;
    let quality = if scale <= 100 { 200_u64.saturating_sub(scale).div_ceil(2) } else { 5000 / scale };
    u8::try_from(quality.clamp(1, 100)).ok()
}

/// The density that a JFIF header declares.
pub(super) fn density(jpeg: &[u8]) -> Option<Density> {
    let (_, header) = segments(jpeg).find(|(marker, content)| *marker == 0xe0 && content.starts_with(b"JFIF\0"))?;
    match header.get(7..12)? {
        &[unit, x1, x2, y1, y2] => {
            Some(Density { unit, x: u16::from_be_bytes([x1, x2]), y: u16::from_be_bytes([y1, y2]) })
        }
        _ => None,
    }
}

/// Markers with their content, up to the first scan.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = jpeg.strip_prefix(b"\xff\xd8").unwrap_or_default();
    std::iter::from_fn(move || {
        let [0xff, marker, high, low] = *rest.first_chunk::<4>()? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let content = rest.get(4..length.checked_add(2)?)?;
        rest = rest.get(length + 2..)?;
        (marker != 0xda).then_some((marker, content))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    #[test]
    fn the_quality_is_the_one_that_the_encoder_was_given() {
        for wanted in [25_u8, 40, 50, 60, 75, 80, 90, 95, 100] {
            let mut jpeg = Vec::new();
            let picture = image::RgbImage::new(8, 8);
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, wanted)).unwrap();
            let found = quality(&jpeg).unwrap();
            assert!(found.abs_diff(wanted) <= 1, "{wanted} was read as {found}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..800) {
            let _ = (quality(&bytes), density(&bytes));
            let mut jpeg = b"\xff\xd8".to_vec();
            jpeg.extend_from_slice(&bytes);
            let _ = (quality(&jpeg), density(&jpeg));
            let mut jpeg = Vec::new();
            image::RgbImage::new(8, 8).write_with_encoder(JpegEncoder::new(&mut jpeg)).unwrap();
            let _ = quality(jpeg.get(..cut).unwrap_or(&jpeg));
        }
    }
}
