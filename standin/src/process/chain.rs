//! The text of `x-oss-process`, parsed into typed steps. Pure.
//!
//! protocol: `CLASS/ACTION,NAME_VALUE,NAME_VALUE/ACTION,VALUE|sys/saveas,o_KEY,b_BUCKET`. Sentences and numbers of errors
//! are those of OSS where they are known; a sentence that OSS is not known to use says what is wrong.

mod image;
#[cfg(test)]
mod tests;
mod video;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::StatusCode;

pub(crate) use self::image::{Corner, Crop, Format, Mode, Quality, Resize, Size, Step};
pub(crate) use self::video::{Conversion, Snapshot, Turn};
use crate::error::Error;

/// The longest text in bytes, apart from that of a callback. Not documented: OSS has a limit, its number is not known.
const LONGEST: usize = 4096;

/// Everything that one request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) work: Work,
    pub(crate) save_as: Option<Destination>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    ImageInfo,
    Image(Vec<Step>),
    Snapshot(Snapshot),
    Convert(Conversion),
    TriggerCallback(Trigger),
}

/// Where a result is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// `None`: in the bucket of the source.
    pub(crate) bucket: Option<String>,
    pub(crate) key: String,
}

/// A callback for an object that exists: the parameters as they were sent, in Base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) callback: Option<String>,
    pub(crate) variables: Option<String>,
}

impl Task {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(parameters) = text.strip_prefix("trigger/callback") {
            return Ok(Self { work: Work::TriggerCallback(Trigger::parse(parameters)), save_as: None });
        }
        if text.len() > LONGEST {
            let message = format!("The parameter x-oss-process is longer than {LONGEST} bytes.");
            return Err(Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message).ec("0017-00000288"));
        }
        let (work, save_as) = match text.split_once('|') {
            Some((work, next)) => (work, Some(Destination::parse(next)?)),
            None => (text, None),
        };
        Ok(Self { work: Work::parse(work)?, save_as })
    }
}

impl Work {
    fn parse(text: &str) -> Result<Self, Error> {
        let (class, actions) = text.split_once('/').unwrap_or((text, ""));
        match class {
            "image" => image::parse(actions),
            "video" => video::parse(actions),
            // A bucket of the stand-in has no styles.
            "style" => Err(Error::new(StatusCode::NOT_FOUND, "NoSuchStyle", "The specified style does not exist.")
                .detail("StyleName", actions)),
            "audio" | "doc" | "hls" | "imm" | "metadata" => {
                Err(Error::not_implemented(&format!("x-oss-process={class}/")))
            }
            _ => Err(invalid("x-oss-process", text, None)),
        }
    }
}

impl Destination {
    fn parse(text: &str) -> Result<Self, Error> {
        let Some(parameters) = text.strip_prefix("sys/saveas,") else {
            return Err(invalid("x-oss-process", text, None));
        };
        // A message to a topic is not sent. The key may be standard Base64, which has slashes of its own.
        let parameters = parameters.split("/notify,").next().unwrap_or(parameters);
        let (mut key, mut bucket) = (None, None);
        for parameter in parameters.split(',') {
            match parameter.split_once('_') {
                Some(("o", encoded)) => key = Some(decode(encoded)?),
                Some(("b", encoded)) => bucket = Some(decode(encoded)?),
                _ => return Err(invalid("saveas", parameter, None)),
            }
        }
        match key {
            Some(key) if (1..=1023).contains(&key.len()) => Ok(Self { bucket, key }),
            Some(_) => Err(Error::new(
                StatusCode::BAD_REQUEST,
                "InvalidObjectName",
                "The length of the key must be between 1 and 1023 bytes.",
            )),
            None => Err(Error::new(StatusCode::BAD_REQUEST, "MissingArgument", "sys/saveas needs the parameter o.")),
        }
    }
}

impl Trigger {
    /// Clients write both parameters even if there is nothing in them.
    fn parse(parameters: &str) -> Self {
        let find = |name: &str| {
            let mut last_first = parameters.rsplit(',');
            let found = last_first.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('_'));
            found.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        Self { callback: find("callback"), variables: find("callback-var") }
    }
}

/// Parameters written `name_value`; of several with one name the last counts.
struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    /// Not documented: what OSS does with names that it does not know. Refused here, unless all are wanted.
    fn parse(action: &str, text: &'a str, known: Option<&[&str]>) -> Result<Self, Error> {
        let mut parameters = Vec::new();
        for parameter in text.split(',').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('_') {
                Some((name, value)) if known.is_none_or(|known| known.contains(&name)) => {
                    parameters.push((name, value));
                }
                _ if known.is_none() => {}
                _ => return Err(invalid(action, parameter, None)),
            }
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
        ec: Option<&'static str>,
    ) -> Result<Option<u32>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        number(value).filter(|number| range.contains(number)).map(Some).ok_or_else(|| invalid(name, value, ec))
    }
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn invalid(parameter: &str, value: &str, ec: Option<&'static str>) -> Error {
    let message = format!("The value: {value} of parameter: {parameter} is invalid.");
    let error = Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    match ec {
        Some(ec) => error.ec(ec),
        None => error,
    }
}

/// Base64 as clients write it: URL-safe or (Android) standard, padded or not.
fn decode(encoded: &str) -> Result<String, Error> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::URL_SAFE, lenient)
        .decode(encoded.replace('+', "-").replace('/', "_"))
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::new(StatusCode::BAD_REQUEST, "BadRequest", "Input is not base64 decoding."))
}
