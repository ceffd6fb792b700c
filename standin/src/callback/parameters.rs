//! The callback parameters: where they stand in a request, and everything that OSS refuses in them.
//!
//! protocol: both are standard Base64 of JSON, at most 5 KB each as sent, in a header or in the query but not in both.
//! The order of the checks follows the numbers that OSS gives its errors. Sentences that OSS is known to use are used
//! to the letter; where its wording is not known, the sentence is the stand-in's own.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::address::CallbackUrl;
use super::policy::policy_missing;
use super::template::{BodyType, Template, TemplateError};
use crate::error::Error;
use crate::request::Query;
use crate::store::CallbackPolicy;

/// The longest parameter in bytes, as sent.
const LONGEST: usize = 5 * 1024;
const MOST_URLS: usize = 5;
const MOST_ADDITIONAL_HEADERS: usize = 10;

/// A callback that passed every check.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    /// One to five, tried in this order.
    pub(crate) urls: Vec<CallbackUrl>,
    /// The Host header, if it is not that of the URL.
    pub(crate) host: Option<String>,
    pub(crate) body: Template,
    pub(crate) body_type: BodyType,
    /// Whether TLS names the host that is wanted.
    pub(crate) sni: bool,
    pub(crate) additional_headers: Vec<(String, String)>,
    /// Custom variables, with their `x:`.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Callback {
    /// Reads and judges the parameters of a request; `None` if it asks for no callback. It may name one of the bucket's
    /// policies.
    pub(crate) fn read(headers: &HeaderMap, query: &Query, policies: &[CallbackPolicy]) -> Result<Option<Self>, Error> {
        let callback = CALLBACK.find(headers, query)?;
        let variables = CALLBACK_VAR.find(headers, query)?;
        Self::from_encoded(callback.as_deref(), variables.as_deref(), policies)
    }

    /// Judges the parameters as they were sent, in Base64; `None` if they ask for no callback.
    pub(crate) fn from_encoded(
        callback: Option<&str>,
        variables: Option<&str>,
        policies: &[CallbackPolicy],
    ) -> Result<Option<Self>, Error> {
        CALLBACK.check_length(callback)?;
        CALLBACK_VAR.check_length(variables)?;
        let parsed = match callback {
            Some(encoded) => Self::parse(&CALLBACK.decode(encoded)?, policies)?,
            None => None,
        };
        let variables = match variables {
            Some(encoded) => Some(parse_variables(&CALLBACK_VAR.decode(encoded)?)?),
            None => None,
        };
        // not documented: the variables of a request take the place of all those of the policy that it names.
        Ok(parsed.map(|callback| match variables {
            Some(variables) => Self { variables, ..callback },
            None => callback,
        }))
    }

    /// Judges the parameters of a form, where every custom variable is a field of its own; `None` if it asks for no
    /// callback. OSS's documents disagree on whether a form may have a field `callback-var` too; here it may.
    pub(crate) fn from_form(
        callback: Option<&str>,
        callback_var: Option<&str>,
        fields: BTreeMap<String, String>,
        policies: &[CallbackPolicy],
    ) -> Result<Option<Self>, Error> {
        let mut parsed = Self::from_encoded(callback, callback_var, policies)?;
        if let Some(callback) = &mut parsed {
            callback.variables.extend(fields);
        }
        Ok(parsed)
    }

    /// The callback that a bucket's policy stands for; `None` if it has no URL.
    pub(super) fn of_policy(policy: &CallbackPolicy) -> Result<Option<Self>, Error> {
        // A policy that names another one leads nowhere.
        Self::from_encoded(Some(&policy.callback), policy.callback_var.as_deref(), &[])
    }

    pub(crate) fn asks_about_image(&self) -> bool {
        self.body.asks_about_image()
    }

    fn parse(text: &str, policies: &[CallbackPolicy]) -> Result<Option<Self>, Error> {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
            return Err(refuse(text, "0007-00000003", "The callback configuration is not json format."));
        };
        if let Some(policy) = fields.get("callbackPolicy") {
            // not documented: whatever stands beside the name does not count.
            let named = policies.iter().find(|known| policy.as_str() == Some(known.name.as_str()));
            return Self::of_policy(named.ok_or_else(|| policy_missing().detail("PolicyName", plain(policy)))?);
        }
        let Some(urls) = parse_urls(&fields)? else { return Ok(None) };
        let host = parse_host(&fields)?;
        let body = match fields.get("callbackBody") {
            Some(Value::String(body)) if !body.is_empty() => body,
            Some(Value::String(_)) | None => {
                return Err(refuse("", "0007-00000011", "The callbackBody must not be empty."));
            }
            Some(other) => return Err(refuse(&plain(other), "0007-00000010", "The callbackBody must be a string.")),
        };
        let body_type = match fields.get("callbackBodyType") {
            None => BodyType::default(),
            Some(Value::String(text)) => BodyType::parse(text).ok_or_else(|| {
                refuse(
                    text,
                    "0007-00000013",
                    "The callbackBodyType must be application/x-www-form-urlencoded or application/json.",
                )
            })?,
            Some(other) => {
                return Err(refuse(&plain(other), "0007-00000012", "The callbackBodyType must be a string."));
            }
        };
        let sni = match fields.get("callbackSNI") {
            None => false,
            Some(Value::Bool(sni)) => *sni,
            Some(other) => {
                return Err(Error::invalid_argument(
                    "callback",
                    &plain(other),
                    "The callbackSNI must be true or false.",
                ));
            }
        };
        let additional_headers = parse_additional_headers(&fields)?;
        let body = Template::parse(body).map_err(|error| {
            let message = match error {
                TemplateError::NoLeftBrace => "Left brace must be adjacent to dollar sign.",
                TemplateError::NoRightBrace => "Right brace must end the variable.",
            };
            Error::invalid_argument("ReplaceKeyPrefix", body, message).ec("0007-00000105")
        })?;
        Ok(Some(Self { urls, host, body, body_type, sni, additional_headers, variables: BTreeMap::new() }))
    }
}

/// One of the two parameters.
struct Parameter {
    header: &'static str,
    query: &'static str,
    too_long: &'static str,
    not_base64: &'static str,
    not_json: &'static str,
    twice: &'static str,
    what: &'static str,
}

const CALLBACK: Parameter = Parameter {
    header: "x-oss-callback",
    query: "callback",
    too_long: "0007-00000001",
    not_base64: "0007-00000002",
    not_json: "0007-00000003",
    twice: "0007-00000027",
    what: "callback configuration",
};

const CALLBACK_VAR: Parameter = Parameter {
    header: "x-oss-callback-var",
    query: "callback-var",
    too_long: "0007-00000101",
    not_base64: "0007-00000102",
    not_json: "0007-00000103",
    twice: "0007-00000028",
    what: "callback-var configuration",
};

impl Parameter {
    fn find(&self, headers: &HeaderMap, query: &Query) -> Result<Option<String>, Error> {
        let mut in_headers = headers.get_all(self.header).iter();
        let first = in_headers.next().map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
        let in_query = query.get(self.query);
        if first.is_some() && (in_query.is_some() || in_headers.next().is_some()) {
            let message = format!("The {} must be given only once, in a header or in the query.", self.what);
            return Err(Error::invalid_argument(self.query, in_query.unwrap_or_default(), message).ec(self.twice));
        }
        Ok(first.or_else(|| in_query.map(str::to_owned)))
    }

    fn check_length(&self, encoded: Option<&str>) -> Result<(), Error> {
        match encoded {
            Some(value) if value.len() > LONGEST => {
                let message = format!("The {} must not be longer than 5 KB.", self.what);
                Err(Error::invalid_argument(self.query, value, message).ec(self.too_long))
            }
            _ => Ok(()),
        }
    }

    fn decode(&self, encoded: &str) -> Result<String, Error> {
        let refused = || {
            let message = format!("The {} is not base64 encoded.", self.what);
            Error::invalid_argument(self.query, encoded, message).ec(self.not_base64)
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| refused())?;
        String::from_utf8(bytes).map_err(|_| {
            let message = format!("The {} is not json format.", self.what);
            Error::invalid_argument(self.query, encoded, message).ec(self.not_json)
        })
    }
}

/// protocol: a missing or empty callbackUrl means that no callback is wanted.
fn parse_urls(fields: &Map<String, Value>) -> Result<Option<Vec<CallbackUrl>>, Error> {
    let text = match fields.get("callbackUrl") {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => return Err(refuse(&plain(other), "0007-00000004", "The callbackUrl must be a string.")),
    };
    // A semicolon at the end separates nothing.
    let urls: Vec<&str> = text.strip_suffix(';').unwrap_or(text).split(';').collect();
    if urls.len() > MOST_URLS {
        return Err(refuse(text, "0007-00000005", "The callbackUrl must not hold more than 5 URLs."));
    }
    let invalid = || refuse(text, "0007-00000004", "The callbackUrl is not valid.");
    urls.into_iter().map(|url| CallbackUrl::parse(url.trim()).ok_or_else(invalid)).collect::<Result<_, _>>().map(Some)
}

fn parse_host(fields: &Map<String, Value>) -> Result<Option<String>, Error> {
    match fields.get("callbackHost") {
        None => Ok(None),
        Some(Value::String(host)) if host.is_empty() => Ok(None),
        Some(Value::String(host)) if host.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(host.clone())),
        Some(other) => Err(refuse(&plain(other), "0007-00000009", "The callbackHost is not valid.")),
    }
}

/// protocol: at most ten; names of digits, `-` and lower-case letters that do not begin with `x-oss-`; no line breaks
/// in values.
fn parse_additional_headers(fields: &Map<String, Value>) -> Result<Vec<(String, String)>, Error> {
    let headers = match fields.get("additionalHeaders") {
        None => return Ok(Vec::new()),
        Some(Value::Object(headers)) => headers,
        Some(other) => return Err(refuse(&plain(other), "0007-00000021", "The additionalHeaders must be a map.")),
    };
    if headers.len() > MOST_ADDITIONAL_HEADERS {
        let count = headers.len().to_string();
        return Err(refuse(&count, "0007-00000022", "The additionalHeaders must not hold more than 10 headers."));
    }
    let mut checked = Vec::new();
    for (name, value) in headers {
        let Value::String(value) = value else {
            return Err(refuse(&plain(value), "0007-00000021", "The additionalHeaders must be a map of strings."));
        };
        if name.is_empty() {
            return Err(refuse(name, "0007-00000023", "The name of an additional header must not be empty."));
        }
        let legal = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte == b'-';
        if !name.bytes().all(legal) || HeaderName::try_from(name).is_err() {
            return Err(refuse(name, "0007-00000024", "The name of an additional header has an illegal character."));
        }
        if HeaderValue::try_from(value).is_err() {
            return Err(refuse(value, "0007-00000025", "The value of an additional header has an illegal character."));
        }
        if name.starts_with("x-oss-") {
            return Err(refuse(name, "0007-00000026", "The name of an additional header must not begin with x-oss-."));
        }
        checked.push((name.clone(), value.clone()));
    }
    Ok(checked)
}

/// protocol: a flat map of strings whose names begin with `x:`.
fn parse_variables(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let refused = |ec, message: &str| Error::invalid_argument("callback-var", text, message).ec(ec);
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(refused("0007-00000103", "The callback-var configuration is not json format."));
    };
    fields
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(value) if name.starts_with("x:") => Ok((name, value)),
            Value::String(_) => Err(refused("0007-00000104", "The names of callback-var must begin with x:.")),
            _ => Err(refused("0007-00000104", "The values of callback-var must be strings.")),
        })
        .collect()
}

fn refuse(value: &str, ec: &'static str, message: &str) -> Error {
    Error::invalid_argument("callback", value, message).ec(ec)
}

/// A JSON value for an error message: strings without their quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
