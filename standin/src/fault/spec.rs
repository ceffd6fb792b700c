//! The one line in which a fault is written: read, and written back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{
    CALLING_OPERATIONS, CallbackFault, FAULT_KINDS, FAULT_LIMITS, FAULT_OPERATIONS, Fault, FaultKind, RequestFault,
};

/// The longest delay, which also bounds how long a forgotten fault can hold a client.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// The largest skew in seconds: some thirty years, so that every date can still be written.
const LARGEST_SKEW: i32 = 1_000_000_000;

/// A word of a written fault that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in the fault {spec:?} the word {word:?} is wrong: {problem}")]
pub struct FaultError {
    spec: String,
    word: String,
    problem: String,
}

impl FaultError {
    /// The word that is wrong, as it was written.
    pub fn word(&self) -> &str {
        &self.word
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(spec: &str) -> Result<Self, FaultError> {
        let error = |word: &str, problem: String| FaultError { spec: spec.to_owned(), word: word.to_owned(), problem };
        let words = words(spec);
        let (kind, limits) = match words.split_first() {
            Some((kind, limits)) => (kind, limits),
            None => return Err(error("", kinds())),
        };
        let mut fault = Self::new(kind_of(kind).map_err(|problem| error(kind, problem))?);
        let mut seen = Vec::new();
        for word in limits {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if seen.contains(&name) {
                return Err(error(word, "it stands there twice".to_owned()));
            }
            seen.push(name);
            fault = limited(fault, name, value).map_err(|problem| error(word, problem))?;
        }
        Ok(fault)
    }
}

/// The words between commas; `\,` is a comma in a word and `\\` a backslash.
fn words(spec: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = spec.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.push(characters.next().unwrap_or('\\')),
            ',' => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

fn kind_of(word: &str) -> Result<FaultKind, String> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let wanted = || value.filter(|value| !value.is_empty()).ok_or_else(|| format!("it wants a value, {}", form(name)));
    let kind: FaultKind = match name {
        "slow" => RequestFault::Slow(delay(wanted()?)?).into(),
        "hang" => RequestFault::Hang.into(),
        "reset" => RequestFault::Reset.into(),
        "answer-lost" => RequestFault::AnswerLost.into(),
        "status" => match wanted()? {
            "500" => RequestFault::InternalError.into(),
            "503" => RequestFault::Unavailable.into(),
            _ => return Err("only the statuses 500 and 503 can be answered on purpose".to_owned()),
        },
        "truncate" => RequestFault::Truncate.into(),
        "wrong-etag" => RequestFault::WrongEtag.into(),
        "precondition" => RequestFault::Precondition.into(),
        "skew" => RequestFault::Skew(skew(wanted()?)?).into(),
        "callback-lost" => CallbackFault::Lost.into(),
        "callback-answer-lost" => CallbackFault::AnswerLost.into(),
        "callback-late" => CallbackFault::Late(delay(wanted()?)?).into(),
        "callback-doubled" => CallbackFault::Doubled.into(),
        "callback-reordered" => CallbackFault::Reordered.into(),
        "callback-wrong-signature" => CallbackFault::WrongSignature.into(),
        "callback-wrong-key-url" => CallbackFault::WrongKeyUrl(wanted()?.to_owned()).into(),
        "callback-stage-stripped" => CallbackFault::StageStripped(stage(wanted()?)?).into(),
        "callback-stage-added" => CallbackFault::StageAdded(stage(wanted()?)?).into(),
        "callback-base64-body" => CallbackFault::Base64Body.into(),
        "callback-http-1.0" => CallbackFault::Http10.into(),
        _ => return Err(kinds()),
    };
    match value {
        Some(_) if !form(name).contains('=') => Err("it takes no value".to_owned()),
        _ => Ok(kind),
    }
}

/// How a kind is written, with a word for its value.
fn form(name: &str) -> &'static str {
    let forms = FAULT_KINDS.iter().map(|(form, _)| *form);
    forms.into_iter().find(|form| form.split('=').next() == Some(name)).unwrap_or_default()
}

fn kinds() -> String {
    let forms: Vec<&str> = FAULT_KINDS.iter().map(|(form, _)| *form).collect();
    format!("a fault begins with one of {}", forms.join(", "))
}

fn limited(fault: Fault, name: &str, value: &str) -> Result<Fault, String> {
    let known = FAULT_LIMITS.iter().any(|(form, _)| form.split('=').next() == Some(name));
    if known && value.is_empty() {
        return Err("it wants a value".to_owned());
    }
    match name {
        "bucket" => Ok(fault.bucket(value)),
        "prefix" => Ok(fault.prefix(value)),
        "operation" => {
            let known: &[&str] = match fault.kind {
                FaultKind::Request(_) => &FAULT_OPERATIONS,
                FaultKind::Callback(_) => &CALLING_OPERATIONS,
            };
            match known.iter().find(|name| name.eq_ignore_ascii_case(value)) {
                Some(name) => Ok(fault.operation(*name)),
                None => Err(format!("the operation is one of {}", known.join(", "))),
            }
        }
        "probability" => match value.parse::<f64>() {
            Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(fault.probability(probability)),
            _ => Err("a probability is a number from 0 to 1".to_owned()),
        },
        "times" => match value.parse::<u64>() {
            Ok(times) if times > 0 => Ok(fault.times(times)),
            _ => Err("how many times is a whole number from 1".to_owned()),
        },
        _ => {
            let forms: Vec<&str> = FAULT_LIMITS.iter().map(|(form, _)| *form).collect();
            Err(format!("after its kind a fault has only {}", forms.join(", ")))
        }
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a whole number with its unit: 500ms, 2s, 1m".to_owned();
    let unit = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at_checked(unit).ok_or_else(wrong)?;
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(count),
        "s" => count.checked_mul(1000),
        "m" => count.checked_mul(60_000),
        _ => return Err(wrong()),
    };
    let delay = milliseconds.map(Duration::from_millis).filter(|delay| *delay <= LONGEST_DELAY);
    delay.ok_or_else(|| "a duration is at most 60m".to_owned())
}

fn skew(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(seconds) if (-LARGEST_SKEW..=LARGEST_SKEW).contains(&seconds) => Ok(seconds),
        _ => Err(format!("a skew is a whole number of seconds, at most {LARGEST_SKEW} either way")),
    }
}

fn stage(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if plain && text.len() > 1 && text.starts_with('/') && !text.ends_with('/') {
        return Ok(text.to_owned());
    }
    Err("a stage is the beginning of a path, such as /prod".to_owned())
}

impl fmt::Display for Fault {
    /// As it is written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&escaped(&self.kind.to_string()))?;
        for (name, value) in [("bucket", &self.bucket), ("prefix", &self.prefix), ("operation", &self.operation)] {
            if let Some(value) = value {
                write!(formatter, ",{name}={}", escaped(value))?;
            }
        }
        if self.probability < 1.0 {
            write!(formatter, ",probability={}", self.probability)?;
        }
        self.times.map_or(Ok(()), |times| write!(formatter, ",times={times}"))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(fault) => fault.fmt(formatter),
            Self::Callback(fault) => fault.fmt(formatter),
        }
    }
}

impl fmt::Display for RequestFault {
    /// As it is written, without limits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(delay) => write!(formatter, "slow={}", Delay(*delay)),
            Self::Hang => formatter.write_str("hang"),
            Self::Reset => formatter.write_str("reset"),
            Self::AnswerLost => formatter.write_str("answer-lost"),
            Self::InternalError => formatter.write_str("status=500"),
            Self::Unavailable => formatter.write_str("status=503"),
            Self::Truncate => formatter.write_str("truncate"),
            Self::WrongEtag => formatter.write_str("wrong-etag"),
            Self::Precondition => formatter.write_str("precondition"),
            Self::Skew(seconds) => write!(formatter, "skew={seconds}"),
        }
    }
}

impl fmt::Display for CallbackFault {
    /// As it is written, without limits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => formatter.write_str("callback-lost"),
            Self::AnswerLost => formatter.write_str("callback-answer-lost"),
            Self::Late(delay) => write!(formatter, "callback-late={}", Delay(*delay)),
            Self::Doubled => formatter.write_str("callback-doubled"),
            Self::Reordered => formatter.write_str("callback-reordered"),
            Self::WrongSignature => formatter.write_str("callback-wrong-signature"),
            Self::WrongKeyUrl(url) => write!(formatter, "callback-wrong-key-url={url}"),
            Self::StageStripped(stage) => write!(formatter, "callback-stage-stripped={stage}"),
            Self::StageAdded(stage) => write!(formatter, "callback-stage-added={stage}"),
            Self::Base64Body => formatter.write_str("callback-base64-body"),
            Self::Http10 => formatter.write_str("callback-http-1.0"),
        }
    }
}

/// A delay in the coarsest unit that it is whole in.
struct Delay(Duration);

impl fmt::Display for Delay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            milliseconds if milliseconds % 60_000 == 0 && milliseconds > 0 => {
                write!(formatter, "{}m", milliseconds / 60_000)
            }
            milliseconds if milliseconds % 1000 == 0 => write!(formatter, "{}s", milliseconds / 1000),
            milliseconds => write!(formatter, "{milliseconds}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn wrong(spec: &str) -> (String, String) {
        let error = spec.parse::<Fault>().unwrap_err();
        (error.word().to_owned(), error.to_string())
    }

    #[test]
    fn a_fault_is_its_kind_and_its_limits() {
        let fault: Fault = "slow=2s,bucket=photos,prefix=a/,probability=0.3,times=2".parse().unwrap();
        let same = Fault::new(RequestFault::Slow(Duration::from_secs(2)));
        assert_eq!(fault, same.times(2).prefix("a/").bucket("photos").probability(0.3));
        let fault: Fault =
            r"callback-wrong-key-url=http://h/?a=1\,2,prefix=a\\b\,c,operation=PutObject".parse().unwrap();
        let same = Fault::new(CallbackFault::WrongKeyUrl("http://h/?a=1,2".to_owned()));
        assert_eq!(fault, same.prefix(r"a\b,c").operation("PutObject"));
    }

    #[test]
    fn every_kind_in_the_list_can_be_written_and_is_written_back() {
        for (form, _) in FAULT_KINDS {
            let spec = form
                .replace("DURATION", "500ms")
                .replace("SECONDS", "-3600")
                .replace("URL", "http://keys.test/k.pem")
                .replace("/STAGE", "/prod");
            assert_eq!(spec.parse::<Fault>().unwrap().to_string(), spec);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (spec, word, problem) in [
            ("", "", "a fault begins with one of slow=DURATION, hang"),
            ("slw=2s", "slw=2s", "a fault begins with one of"),
            ("bucket=photos", "bucket=photos", "a fault begins with one of"),
            ("slow", "slow", "it wants a value, slow=DURATION"),
            ("slow=", "slow=", "it wants a value, slow=DURATION"),
            ("slow=2", "slow=2", "a whole number with its unit"),
            ("slow=2h", "slow=2h", "a whole number with its unit"),
            ("slow=61m", "slow=61m", "at most 60m"),
            ("hang=1", "hang=1", "it takes no value"),
            ("status=404", "status=404", "only the statuses 500 and 503"),
            ("skew=soon", "skew=soon", "a whole number of seconds"),
            ("callback-stage-added=prod", "callback-stage-added=prod", "such as /prod"),
            ("hang,probability=2", "probability=2", "a number from 0 to 1"),
            ("hang,probability=NaN", "probability=NaN", "a number from 0 to 1"),
            ("hang,times=0", "times=0", "a whole number from 1"),
            ("hang,times=1,times=2", "times=2", "it stands there twice"),
            ("hang,bucket", "bucket", "it wants a value"),
            ("hang,reset", "reset", "after its kind a fault has only bucket=NAME"),
            ("hang,", "", "after its kind a fault has only"),
            ("hang,operation=HEAD /", "operation=HEAD /", "one of ListBuckets, PutBucket"),
            ("callback-lost,operation=HeadObject", "operation=HeadObject", "one of PutObject, PostObject"),
        ] {
            let (named, message) = wrong(spec);
            assert_eq!(named, word, "{spec}");
            assert!(message.contains(problem), "{message}");
        }
    }

    fn kinds() -> impl Strategy<Value = FaultKind> {
        let delay = || (0..=3_600_000_u64).prop_map(Duration::from_millis);
        prop_oneof![
            delay().prop_map(|delay| RequestFault::Slow(delay).into()),
            Just(RequestFault::Hang.into()),
            (-LARGEST_SKEW..=LARGEST_SKEW).prop_map(|seconds| RequestFault::Skew(seconds).into()),
            delay().prop_map(|delay| CallbackFault::Late(delay).into()),
            ".{1,20}".prop_map(|url| CallbackFault::WrongKeyUrl(url).into()),
            r"/[a-z\\,=]{1,9}".prop_map(|stage| CallbackFault::StageStripped(stage).into()),
        ]
    }

    proptest! {
        #[test]
        fn every_fault_is_read_as_it_is_written(
            kind in kinds(),
            bucket in proptest::option::of(".{1,9}"),
            prefix in proptest::option::of(".{1,9}"),
            probability in 0.0..=1.0_f64,
            times in proptest::option::of(1..u64::MAX),
        ) {
            let fault = Fault { bucket, prefix, times, ..Fault::new(kind).probability(probability) };
            prop_assert_eq!(fault.to_string().parse::<Fault>(), Ok(fault));
        }

        #[test]
        fn any_text_is_a_fault_or_refused(spec in "([a-z-]{1,9}=?|=|,|\\\\|[0-9]{1,20}(ms|s|m)?|.){0,12}") {
            let _ = spec.parse::<Fault>();
        }
    }
}
