//! How long thumbnails may take, guessed before anything is fetched: whether a request can wait for them.

use std::time::Duration;

use crate::media::Limits;

/// To fetch and to read: 20 MB a second.
const NANOSECONDS_PER_BYTE: u64 = 50;
/// To decode, reduce and encode. Both built-in thumbnails of a JPEG or PNG of 12 megapixels were measured at 11 to 12 ns a
/// pixel on one core; WebP takes longer, and a busy machine too.
const NANOSECONDS_PER_PIXEL: u64 = 30;
/// Where nobody says how many pixels there are: screenshots have some ten in a byte, photographs three.
const PIXELS_PER_BYTE: u64 = 8;

/// The time that the thumbnails of a source of this size may take, its journey included; a little more than they do.
pub fn expected_time(bytes: u64, pixels: Option<u64>, limits: &Limits) -> Duration {
    let pixels = pixels.unwrap_or_else(|| bytes.saturating_mul(PIXELS_PER_BYTE)).min(limits.max_pixels);
    let travel = bytes.min(limits.max_bytes).saturating_mul(NANOSECONDS_PER_BYTE);
    Duration::from_nanos(travel.saturating_add(pixels.saturating_mul(NANOSECONDS_PER_PIXEL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_a_phone_fits_into_a_request_and_limits_bound_the_largest() {
        let limits = Limits::default();
        assert!(expected_time(4_000_000, Some(12_000_000), &limits) < Duration::from_secs(1));
        assert!(expected_time(u64::MAX, None, &limits) < Duration::from_secs(4));
        assert!(expected_time(32 << 20, Some(48_000_000), &limits) > Duration::from_secs(2));
        assert_eq!(expected_time(0, None, &limits), Duration::ZERO);
    }
}
