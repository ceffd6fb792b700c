//! How large a result is and which part of a picture it shows. Pure arithmetic; all figures are pixels.

use http::StatusCode;

use super::chain::{Corner, Crop, Mode, Resize, Size};
use crate::error::Error;

/// protocol: the longest side of a result, and the most pixels in it.
const LONGEST_SIDE: u64 = 16_384;
const MOST_PIXELS: u64 = 4096 * 4096;

/// A picture is scaled first, then cut or filled up, about its centre, to the size of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) scaled: (u32, u32),
    pub(super) result: (u32, u32),
}

/// A part of a picture, inside it and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Resize {
    /// What becomes of a picture of this size; both sides must be greater than zero.
    pub(super) fn plan(&self, source: (u32, u32)) -> Result<Plan, Error> {
        let unchanged = Plan { scaled: source, result: source };
        let (scaled, result) = self.sizes(source);
        let larger = scaled.0 > source.0.into() || scaled.1 > source.1.into();
        // Not documented: for fill and pad OSS says only that the resolution of the source stays.
        if larger && !self.enlarge {
            return Ok(unchanged);
        }
        Ok(Plan { scaled: within_limits(scaled)?, result: within_limits(result)? })
    }

    /// The sizes of [`Plan`], as if nothing limited them.
    fn sizes(&self, source: (u32, u32)) -> ((u64, u64), (u64, u64)) {
        let whole = (u64::from(source.0), u64::from(source.1));
        // protocol: a mode with a rectangle takes a side that is not given for as long as the other.
        let rectangle = matches!(self.mode, Mode::Fill | Mode::Pad | Mode::Fixed);
        let equal = |scaled| (scaled, scaled);
        let (width, height) = match self.size {
            Size::Percent(percent) => {
                let side = |side| rounded(side, percent.into(), 100);
                return equal((side(whole.0), side(whole.1)));
            }
            Size::Both(width, height) => (width.into(), height.into()),
            Size::Width(side) | Size::Height(side) | Size::Long(side) | Size::Short(side) if rectangle => {
                (side.into(), side.into())
            }
            Size::Width(width) => return equal(by_width(whole, width.into())),
            Size::Height(height) => return equal(by_height(whole, height.into())),
            Size::Long(side) => return equal(inside(whole, (side.into(), side.into()))),
            Size::Short(side) => return equal(around(whole, (side.into(), side.into()))),
            Size::LongAndShort(long, short) if whole.0 >= whole.1 => (long.into(), short.into()),
            Size::LongAndShort(long, short) => (short.into(), long.into()),
        };
        let wanted = (width, height);
        match self.mode {
            Mode::Lfit => equal(inside(whole, wanted)),
            Mode::Mfit => equal(around(whole, wanted)),
            Mode::Fill => (around(whole, wanted), wanted),
            Mode::Pad => (inside(whole, wanted), wanted),
            Mode::Fixed => equal(wanted),
        }
    }
}

impl Crop {
    /// The part of a picture of this size that is asked for, as far as the picture goes.
    pub(super) fn area(&self, (width, height): (u32, u32)) -> Result<Area, Error> {
        let wanted = |wanted: u32, side: u32| if wanted == 0 { side } else { wanted.min(side) };
        let (wanted_width, wanted_height) = (wanted(self.width, width), wanted(self.height, height));
        let column = match self.corner {
            Corner::NorthWest | Corner::West | Corner::SouthWest => 0,
            Corner::North | Corner::Center | Corner::South => width / 2 - wanted_width / 2,
            Corner::NorthEast | Corner::East | Corner::SouthEast => width - wanted_width,
        };
        let row = match self.corner {
            Corner::NorthWest | Corner::North | Corner::NorthEast => 0,
            Corner::West | Corner::Center | Corner::East => height / 2 - wanted_height / 2,
            Corner::SouthWest | Corner::South | Corner::SouthEast => height - wanted_height,
        };
        let (x, y) = (column.saturating_add(self.x), row.saturating_add(self.y));
        if x >= width || y >= height {
            // Documented so; OSS has also been seen to answer with the code CutEdgeExceedRange.
            let message = "Advance cut's position is out of image.";
            return Err(Error::new(StatusCode::BAD_REQUEST, "BadRequest", message));
        }
        Ok(Area { x, y, width: wanted_width.min(width - x), height: wanted_height.min(height - y) })
    }
}

fn within_limits((width, height): (u64, u64)) -> Result<(u32, u32), Error> {
    let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    sides.filter(|_| width <= LONGEST_SIDE && height <= LONGEST_SIDE && width * height <= MOST_PIXELS).ok_or_else(|| {
        // Not documented: the code and the sentence.
        let message = format!(
            "The result would be {width} x {height} pixels: at most {LONGEST_SIDE} on a side and {MOST_PIXELS} in all."
        );
        Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message).ec("0040-00000007")
    })
}

/// `side * numerator / denominator`, rounded, but at least one. protocol: rounded to the nearest whole pixel.
fn rounded(side: u64, numerator: u64, denominator: u64) -> u64 {
    let denominator = denominator.max(1);
    ((side * numerator * 2 + denominator) / (denominator * 2)).max(1)
}

fn by_width(whole: (u64, u64), width: u64) -> (u64, u64) {
    (width, rounded(whole.1, width, whole.0))
}

fn by_height(whole: (u64, u64), height: u64) -> (u64, u64) {
    (rounded(whole.0, height, whole.1), height)
}

/// The largest picture of these proportions inside a rectangle.
fn inside(whole: (u64, u64), (width, height): (u64, u64)) -> (u64, u64) {
    if width * whole.1 <= height * whole.0 { by_width(whole, width) } else { by_height(whole, height) }
}

/// The smallest picture of these proportions around a rectangle.
fn around(whole: (u64, u64), (width, height): (u64, u64)) -> (u64, u64) {
    if width * whole.1 >= height * whole.0 { by_width(whole, width) } else { by_height(whole, height) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::chain::{Step, Task, Work};
    use proptest::prelude::*;

    fn steps(text: &str) -> Vec<Step> {
        match Task::parse(&format!("image/{text}")).unwrap().work {
            Work::Image(steps) => steps,
            _ => Vec::new(),
        }
    }

    fn plan(source: (u32, u32), text: &str) -> Plan {
        match steps(text).first() {
            Some(Step::Resize(resize)) => resize.plan(source).unwrap(),
            _ => Plan { scaled: (0, 0), result: (0, 0) },
        }
    }

    #[test]
    fn a_picture_of_200_by_100_becomes_what_the_protocol_says_of_each_mode() {
        for (text, scaled, result) in [
            ("resize,w_150,h_80", (150, 75), (150, 75)),
            ("resize,m_mfit,w_150,h_80", (160, 80), (160, 80)),
            ("resize,m_fill,w_150,h_80", (160, 80), (150, 80)),
            ("resize,m_pad,w_150,h_80", (150, 75), (150, 80)),
            ("resize,m_fixed,w_150,h_80", (150, 80), (150, 80)),
            ("resize,w_50", (50, 25), (50, 25)),
            ("resize,h_50", (100, 50), (100, 50)),
            ("resize,l_50", (50, 25), (50, 25)),
            ("resize,s_50", (100, 50), (100, 50)),
            ("resize,l_100,s_40", (80, 40), (80, 40)),
            ("resize,w_50,l_10,p_1", (50, 25), (50, 25)),
            ("resize,m_fill,w_50", (100, 50), (50, 50)),
            ("resize,m_pad,h_50", (50, 25), (50, 50)),
            ("resize,m_fixed,w_50", (50, 50), (50, 50)),
            ("resize,p_50", (100, 50), (100, 50)),
            ("resize,p_1", (2, 1), (2, 1)),
            ("resize,w_3", (3, 2), (3, 2)),
            ("resize,w_1", (1, 1), (1, 1)),
            // Never larger than the source, unless asked for.
            ("resize,w_300", (200, 100), (200, 100)),
            ("resize,m_fixed,w_100,h_101", (200, 100), (200, 100)),
            ("resize,m_pad,w_300,h_300", (200, 100), (200, 100)),
            ("resize,w_300,limit_0", (300, 150), (300, 150)),
            ("resize,m_pad,w_300,h_300,limit_0", (300, 150), (300, 300)),
            ("resize,p_200", (400, 200), (400, 200)),
            ("resize,p_200,limit_1", (200, 100), (200, 100)),
        ] {
            assert_eq!(plan((200, 100), text), Plan { scaled, result }, "{text}");
        }
    }

    #[test]
    fn a_result_that_is_too_large_is_refused() {
        for (source, text) in [
            ((200, 100), "resize,m_fixed,w_5000,h_5000,limit_0"),
            ((30_000, 1), "resize,m_mfit,w_16384,h_16384,limit_0"),
            ((16_000, 16_000), "resize,p_1000"),
        ] {
            let steps = steps(text);
            let Some(Step::Resize(resize)) = steps.first() else { return };
            assert_eq!(resize.plan(source).unwrap_err().ec, Some("0040-00000007"), "{text}");
        }
    }

    #[test]
    fn a_crop_begins_at_its_corner_and_ends_at_the_border() {
        for (text, x, y, width, height) in [
            ("crop,x_10,y_20,w_30,h_40", 10, 20, 30, 40),
            ("crop,x_150,y_50", 150, 50, 50, 50),
            ("crop,w_0,h_10", 0, 0, 200, 10),
            ("crop,g_se,w_90,h_90", 110, 10, 90, 90),
            ("crop,g_se,w_90,h_80,x_10,y_10", 120, 30, 80, 70),
            ("crop,g_center,w_50,h_50", 75, 25, 50, 50),
            ("crop,g_north,w_50,h_50", 75, 0, 50, 50),
            ("crop,g_ne,w_50,h_50", 150, 0, 50, 50),
            ("crop,g_west,w_50,h_50", 0, 25, 50, 50),
            ("crop,g_east,w_50,h_50", 150, 25, 50, 50),
            ("crop,g_sw,w_50,h_50", 0, 50, 50, 50),
            ("crop,g_south,w_50,h_50", 75, 50, 50, 50),
            ("crop,g_se,w_999,h_999", 0, 0, 200, 100),
        ] {
            let steps = steps(text);
            let Some(Step::Crop(crop)) = steps.first() else { return };
            assert_eq!(crop.area((200, 100)).unwrap(), Area { x, y, width, height }, "{text}");
        }
        let outside = Crop { corner: Corner::NorthWest, x: 200, y: 0, width: 1, height: 1 };
        assert_eq!(outside.area((200, 100)).unwrap_err().message, "Advance cut's position is out of image.");
    }

    proptest! {
        #[test]
        fn every_plan_keeps_the_limits_and_never_enlarges_unasked(
            source in (1_u32..30_000, 1_u32..30_000),
            mode in proptest::sample::select(vec![Mode::Lfit, Mode::Mfit, Mode::Fill, Mode::Pad, Mode::Fixed]),
            size in prop_oneof![
                (1_u32..16_385).prop_map(Size::Width),
                (1_u32..16_385).prop_map(Size::Short),
                (1_u32..16_385, 1_u32..16_385).prop_map(|(width, height)| Size::Both(width, height)),
                (1_u32..16_385, 1_u32..16_385).prop_map(|(long, short)| Size::LongAndShort(long, short)),
                (1_u32..1001).prop_map(Size::Percent),
            ],
            enlarge: bool,
        ) {
            let resize = Resize { mode, size, enlarge, color: [0; 3] };
            if let Ok(plan) = resize.plan(source) {
                prop_assert!(plan.scaled.0 > 0 && plan.scaled.1 > 0 && plan.result.0 > 0 && plan.result.1 > 0);
                if plan.scaled == source { return Ok(()); }
                prop_assert!(u64::from(plan.result.0) * u64::from(plan.result.1) <= MOST_PIXELS);
                if !enlarge {
                    prop_assert!(plan.scaled.0 <= source.0 && plan.scaled.1 <= source.1);
                }
                if mode == Mode::Fill {
                    prop_assert!(plan.result.0 <= plan.scaled.0 && plan.result.1 <= plan.scaled.1 || matches!(size, Size::Percent(_)));
                }
            }
        }

        #[test]
        fn every_crop_is_inside_the_picture(
            source in (1_u32..30_000, 1_u32..30_000), x: u32, y in 0_u32..30_000, width: u32, height in 0_u32..30_000,
            corner in proptest::sample::select(vec![Corner::NorthWest, Corner::Center, Corner::SouthEast]),
        ) {
            if let Ok(area) = (Crop { corner, x: x % 40_000, y, width, height }).area(source) {
                prop_assert!(area.width > 0 && area.height > 0);
                prop_assert!(area.x + area.width <= source.0 && area.y + area.height <= source.1);
            }
        }
    }
}
