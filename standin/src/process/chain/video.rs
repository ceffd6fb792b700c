//! `video/...`: the actions on films.

use super::{Parameters, Work, invalid, number};
use crate::error::Error;

/// One picture out of a film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Milliseconds from the start; beyond the end the last picture is meant.
    pub(crate) time: u32,
    pub(crate) png: bool,
    /// Pixels; 0: in proportion to the height, or as in the film.
    pub(crate) width: u32,
    /// Pixels; 0: in proportion to the width, or as in the film.
    pub(crate) height: u32,
    /// The last key frame before the time, in place of the frame at that time.
    pub(crate) fast: bool,
    pub(crate) turn: Turn,
}

/// How a picture is turned by what the film says about its orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Never,
    Auto,
    /// Until it is higher than wide.
    High,
    /// Until it is wider than high.
    Wide,
}

/// A film made of a film. `None`: as the converter chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conversion {
    /// The container, such as `mp4`; also the file's extension.
    pub(crate) container: String,
    pub(crate) video_codec: Option<String>,
    pub(crate) audio_codec: Option<String>,
    /// Width and height in pixels; one may be open.
    pub(crate) size: Option<(Option<u32>, Option<u32>)>,
    /// Bits per second.
    pub(crate) video_bits: Option<u32>,
    /// Bits per second.
    pub(crate) audio_bits: Option<u32>,
    /// Pictures per second, possibly a decimal fraction.
    pub(crate) frames: Option<String>,
    /// Milliseconds into the source.
    pub(crate) start: Option<u32>,
    /// Milliseconds.
    pub(crate) duration: Option<u32>,
    pub(crate) no_video: bool,
    pub(crate) no_audio: bool,
    pub(crate) no_subtitles: bool,
}

/// The longest side of a snapshot, in pixels. Not documented beyond "the width of the video".
const LONGEST_SIDE: u32 = 16_384;

/// Containers, by their `f_`.
const CONTAINERS: &[&str] =
    &["3gp", "aac", "asf", "avi", "flac", "flv", "m4a", "mkv", "mov", "mp3", "mp4", "oga", "ogg", "ts", "wav", "webm"];

pub(super) fn parse(actions: &str) -> Result<Work, Error> {
    let (name, arguments) = actions.split_once(',').unwrap_or((actions, ""));
    match name {
        "snapshot" => parse_snapshot(arguments).map(Work::Snapshot),
        "convert" => parse_conversion(arguments).map(Work::Convert),
        "" => Err(invalid("video", "", None)),
        name => Err(Error::not_implemented(&format!("video/{name}"))),
    }
}

fn parse_snapshot(arguments: &str) -> Result<Snapshot, Error> {
    let parameters = Parameters::parse("snapshot", arguments, Some(&["t", "f", "w", "h", "m", "ar"]))
        .map_err(|error| error.ec("0053-00000109"))?;
    let side = |name, ec| Ok::<_, Error>(parameters.number(name, 0..=LONGEST_SIDE, Some(ec))?.unwrap_or(0));
    Ok(Snapshot {
        // Not documented: whether t may be left out.
        time: parameters.number("t", 0..=u32::MAX, Some("0053-00000101"))?.unwrap_or(0),
        png: match parameters.get("f") {
            None | Some("jpg") => false,
            Some("png") => true,
            Some(other) => return Err(invalid("f", other, Some("0053-00000107"))),
        },
        width: side("w", "0053-00000104")?,
        height: side("h", "0053-00000105")?,
        fast: match parameters.get("m") {
            None => false,
            Some("fast") => true,
            Some(other) => return Err(invalid("m", other, Some("0053-00000106"))),
        },
        turn: match parameters.get("ar") {
            None => Turn::Never,
            Some("auto") => Turn::Auto,
            Some("h") => Turn::High,
            Some("w") => Turn::Wide,
            Some(other) => return Err(invalid("ar", other, Some("0053-00000108"))),
        },
    })
}

fn parse_conversion(arguments: &str) -> Result<Conversion, Error> {
    let parameters = Parameters::parse("convert", arguments, None)?;
    let container = parameters.get("f").unwrap_or_default();
    if !CONTAINERS.contains(&container) {
        return Err(invalid("f", container, None));
    }
    let number = |name| parameters.number(name, 0..=i32::MAX.unsigned_abs(), None);
    let flag = |name| parameters.number(name, 0..=2, None).map(|value| value == Some(1));
    let is_decimal = |text: &str| {
        let digits = |text: &str| !text.is_empty() && text.len() < 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.split_once('.').map_or_else(|| digits(text), |(whole, part)| digits(whole) && digits(part))
    };
    Ok(Conversion {
        container: container.to_owned(),
        video_codec: parameters.get("vcodec").map(str::to_owned),
        audio_codec: parameters.get("acodec").map(str::to_owned),
        size: parameters.get("s").map(|text| parse_size(text).ok_or_else(|| invalid("s", text, None))).transpose()?,
        video_bits: number("vb")?,
        audio_bits: number("ab")?,
        frames: match parameters.get("fps") {
            Some(text) if !is_decimal(text) => return Err(invalid("fps", text, None)),
            frames => frames.map(str::to_owned),
        },
        start: number("ss")?,
        duration: number("t")?,
        no_video: flag("vn")?,
        no_audio: flag("an")?,
        no_subtitles: flag("sn")?,
    })
}

/// `1920x1080`, `1920x` or `x1080`.
fn parse_size(text: &str) -> Option<(Option<u32>, Option<u32>)> {
    let (width, height) = text.split_once('x')?;
    let side = |text: &str| match text {
        "" => Some(None),
        text => number(text).filter(|side| (1..=LONGEST_SIDE).contains(side)).map(Some),
    };
    let size = (side(width)?, side(height)?);
    (size != (None, None)).then_some(size)
}
