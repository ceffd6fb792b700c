//! `image/...`: the actions on pictures.

use http::StatusCode;

use super::{Parameters, Work, invalid, number};
use crate::error::Error;

/// protocol: the longest side of a result, in pixels.
const LONGEST_SIDE: u32 = 16_384;

/// Actions that OSS has and the stand-in has not.
const NOT_IMPLEMENTED: &[&str] = &[
    "average-hue",
    "blindwatermark",
    "blur",
    "bright",
    "circle",
    "contrast",
    "indexcrop",
    "interlace",
    "rounded-corners",
    "sharpen",
    "watermark",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Resize(Resize),
    Crop(Crop),
    /// Degrees clockwise, 0 to 360.
    Rotate(u16),
    AutoOrient(bool),
    Quality(Quality),
    Format(Format),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) mode: Mode,
    pub(crate) size: Size,
    /// Whether the result may be larger than the source.
    pub(crate) enlarge: bool,
    /// What [`Mode::Pad`] fills with: red, green, blue.
    pub(crate) color: [u8; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The largest picture inside the rectangle.
    #[default]
    Lfit,
    /// The smallest picture around the rectangle.
    Mfit,
    /// As `Mfit`, then cut to the rectangle.
    Fill,
    /// As `Lfit`, then filled up to the rectangle.
    Pad,
    /// The rectangle, distorted if need be.
    Fixed,
}

/// The size asked for, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Width(u32),
    Height(u32),
    Both(u32, u32),
    /// The longer side.
    Long(u32),
    /// The shorter side.
    Short(u32),
    LongAndShort(u32, u32),
    Percent(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crop {
    pub(crate) corner: Corner,
    /// From the origin that `corner` gives.
    pub(crate) x: u32,
    pub(crate) y: u32,
    /// 0: to the border.
    pub(crate) width: u32,
    /// 0: to the border.
    pub(crate) height: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Corner {
    #[default]
    NorthWest,
    North,
    NorthEast,
    West,
    Center,
    East,
    SouthWest,
    South,
    SouthEast,
}

/// 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    /// Per cent of the quality of the source.
    Relative(u8),
    /// At most this.
    Absolute(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Jpg,
    Png,
    Webp,
    Bmp,
    Gif,
    Tiff,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Jpg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Bmp => "image/bmp",
            Self::Gif => "image/gif",
            Self::Tiff => "image/tiff",
        }
    }
}

pub(super) fn parse(actions: &str) -> Result<Work, Error> {
    let actions: Vec<&str> = actions.split('/').filter(|action| !action.is_empty()).collect();
    match actions.as_slice() {
        [] => Err(invalid("image", "", Some("0040-00000212"))),
        ["info"] => Ok(Work::ImageInfo),
        actions => Ok(Work::Image(actions.iter().map(|action| parse_step(action)).collect::<Result<_, _>>()?)),
    }
}

fn parse_step(action: &str) -> Result<Step, Error> {
    let (name, arguments) = action.split_once(',').unwrap_or((action, ""));
    match name {
        "resize" => parse_resize(arguments).map(Step::Resize),
        "crop" => parse_crop(arguments).map(Step::Crop),
        "rotate" => {
            let degrees = only_number(name, arguments, 360, "0040-00000216", "0040-00000217")?;
            Ok(Step::Rotate(u16::try_from(degrees).unwrap_or(360)))
        }
        "auto-orient" => Ok(Step::AutoOrient(only_number(name, arguments, 1, "0040-00000214", "0040-00000215")? == 1)),
        "quality" => parse_quality(arguments).map(Step::Quality),
        "format" => parse_format(arguments).map(Step::Format),
        // protocol: not together with other actions.
        "info" => Err(invalid("image", action, None)),
        name if NOT_IMPLEMENTED.contains(&name) => Err(Error::not_implemented(&format!("image/{name}"))),
        name => Err(invalid("image", name, Some("0040-00000213"))),
    }
}

fn parse_resize(arguments: &str) -> Result<Resize, Error> {
    let parameters = Parameters::parse("resize", arguments, Some(&["m", "w", "h", "l", "s", "p", "limit", "color"]))?;
    let missing = || {
        let message = "resize needs one of the parameters w, h, l, s and p.";
        Error::new(StatusCode::BAD_REQUEST, "MissingArgument", message).ec("0040-00000322")
    };
    let mode = match parameters.get("m") {
        None => Mode::default(),
        Some("lfit") => Mode::Lfit,
        Some("mfit") => Mode::Mfit,
        Some("fill") => Mode::Fill,
        Some("pad") => Mode::Pad,
        Some("fixed") => Mode::Fixed,
        Some(other) => return Err(invalid("m", other, Some("0040-00000311"))),
    };
    if parameters.get("w").and_then(number) == Some(0) && parameters.get("h").and_then(number) == Some(0) {
        return Err(invalid("w", "0", Some("0040-00000321")));
    }
    let side = |name, ec| parameters.number(name, 1..=LONGEST_SIDE, Some(ec));
    let (width, height) = (side("w", "0040-00000312")?, side("h", "0040-00000313")?);
    let (long, short) = (side("l", "0040-00000314")?, side("s", "0040-00000315")?);
    let percent = parameters.number("p", 1..=1000, Some("0040-00000317"))?;
    // protocol: l and s do not count beside w and h. Not documented: nor does p beside any of them.
    let size = match (width, height, long, short, percent) {
        (Some(width), Some(height), ..) => Size::Both(width, height),
        (Some(width), None, ..) => Size::Width(width),
        (None, Some(height), ..) => Size::Height(height),
        (None, None, Some(long), Some(short), _) => Size::LongAndShort(long, short),
        (None, None, Some(long), None, _) => Size::Long(long),
        (None, None, None, Some(short), _) => Size::Short(short),
        (None, None, None, None, Some(percent)) => Size::Percent(percent),
        (None, None, None, None, None) => return Err(missing()),
    };
    // Not documented: that per cent above 100 enlarge without limit_0; its table alone says that they enlarge.
    let limit = parameters.number("limit", 0..=1, Some("0040-00000319"))?;
    let enlarge = limit.map_or(matches!(size, Size::Percent(_)), |limit| limit == 0);
    let color = match parameters.get("color") {
        None => [0xff; 3],
        Some(text) => parse_color(text).ok_or_else(|| invalid("color", text, Some("0040-00000318")))?,
    };
    Ok(Resize { mode, size, enlarge, color })
}

fn parse_color(text: &str) -> Option<[u8; 3]> {
    let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let [_, red, green, blue] = digits.then(|| u32::from_str_radix(text, 16).ok())??.to_be_bytes();
    Some([red, green, blue])
}

fn parse_crop(arguments: &str) -> Result<Crop, Error> {
    let parameters = Parameters::parse("crop", arguments, Some(&["x", "y", "w", "h", "g"]))?;
    let corner = match parameters.get("g") {
        None => Corner::default(),
        Some("nw") => Corner::NorthWest,
        Some("north") => Corner::North,
        Some("ne") => Corner::NorthEast,
        Some("west") => Corner::West,
        Some("center") => Corner::Center,
        Some("east") => Corner::East,
        Some("sw") => Corner::SouthWest,
        Some("south") => Corner::South,
        Some("se") => Corner::SouthEast,
        Some("face" | "auto") => return Err(Error::not_implemented("image/crop by content")),
        Some(other) => return Err(invalid("g", other, Some("0040-00000209"))),
    };
    let number = |name, ec| Ok::<_, Error>(parameters.number(name, 0..=u32::MAX, ec)?.unwrap_or(0));
    Ok(Crop {
        corner,
        x: number("x", None)?,
        y: number("y", None)?,
        width: number("w", Some("0040-00000225"))?,
        height: number("h", Some("0040-00000226"))?,
    })
}

fn parse_quality(arguments: &str) -> Result<Quality, Error> {
    let missing = || {
        let message = "quality needs one of the parameters q and Q.";
        Error::new(StatusCode::BAD_REQUEST, "MissingArgument", message).ec("0040-00000307")
    };
    let percent = |number: u32| u8::try_from(number).unwrap_or(100);
    if !arguments.contains('_') && !arguments.is_empty() {
        // Not documented: which of the two qualities a bare number means.
        let mut error = invalid("quality", arguments, Some("0040-00000310"));
        return match number(arguments) {
            Some(number @ 1..=100) => Ok(Quality::Relative(percent(number))),
            Some(_) => Err(error),
            None => {
                error.message.push_str("reason:Value must be digit");
                Err(error)
            }
        };
    }
    let parameters = Parameters::parse("quality", arguments, Some(&["q", "Q"]))?;
    let absolute = parameters.number("Q", 1..=100, Some("0040-00000308"))?;
    let relative = parameters.number("q", 1..=100, Some("0040-00000309"))?;
    // protocol: of both, Q counts.
    let absolute = absolute.map(|number| Quality::Absolute(percent(number)));
    absolute.or(relative.map(|number| Quality::Relative(percent(number)))).ok_or_else(missing)
}

fn parse_format(arguments: &str) -> Result<Format, Error> {
    match arguments {
        "jpg" | "jpeg" => Ok(Format::Jpg),
        "png" => Ok(Format::Png),
        "webp" => Ok(Format::Webp),
        "bmp" => Ok(Format::Bmp),
        "gif" => Ok(Format::Gif),
        "tiff" => Ok(Format::Tiff),
        "heic" | "avif" => Err(Error::not_implemented(&format!("image/format,{arguments}"))),
        "" => Err(invalid("format", "", Some("0040-00000207"))),
        other => Err(invalid("format", other, Some("0040-00000206"))),
    }
}

/// The one bare number of an action, 0 to `most`.
fn only_number(
    action: &str,
    arguments: &str,
    most: u32,
    missing: &'static str,
    wrong: &'static str,
) -> Result<u32, Error> {
    if arguments.is_empty() {
        return Err(invalid(action, "", Some(missing)));
    }
    if arguments.contains(',') {
        return Err(invalid(action, arguments, Some("0040-00000203")));
    }
    number(arguments).filter(|number| *number <= most).ok_or_else(|| invalid(action, arguments, Some(wrong)))
}
