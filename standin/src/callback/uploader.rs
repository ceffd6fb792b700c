//! The callback parameters as an uploader writes them: JSON, Base64, and the same judgement that an upload meets.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::parameters::Callback;
use super::template::{BodyType, EmptyValue};
use super::trigger::UploadFacts;
use crate::error::Error;

/// What an uploader asks for in `x-oss-callback` and `x-oss-callback-var`. Nothing is checked before
/// [`CallbackParameters::check`].
#[derive(Clone, Debug, Default)]
pub struct CallbackParameters {
    fields: Fields,
    variables: BTreeMap<String, String>,
}

/// The callback parameter, in the order of OSS's documents.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    callback_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_host: Option<String>,
    callback_body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_body_type: Option<&'static str>,
    #[serde(rename = "callbackSNI", skip_serializing_if = "Option::is_none")]
    callback_sni: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    additional_headers: BTreeMap<String, String>,
}

impl CallbackParameters {
    /// A callback to this URL (several are separated by `;` and tried in order), whose body is this template.
    pub fn new(url: impl Into<String>, body: impl Into<String>) -> Self {
        let fields = Fields { callback_url: url.into(), callback_body: body.into(), ..Fields::default() };
        Self { fields, variables: BTreeMap::new() }
    }

    /// The type of the body. OSS takes a form for granted.
    pub fn body_type(mut self, body_type: BodyType) -> Self {
        self.fields.callback_body_type = Some(body_type.as_str());
        self
    }

    /// The Host header, if it is not that of the URL.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.fields.callback_host = Some(host.into());
        self
    }

    /// Whether the TLS handshake names the host, which most gateways need. OSS does not unless it is asked to.
    pub fn sni(mut self, sni: bool) -> Self {
        self.fields.callback_sni = Some(sni);
        self
    }

    /// Adds a header to the callback.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.additional_headers.insert(name.into(), value.into());
        self
    }

    /// Adds a custom variable; its name begins with `x:`.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The JSON of the callback parameter.
    pub fn callback_json(&self) -> String {
        // Strings and a flag: nothing in them can fail to be written.
        serde_json::to_string(&self.fields).unwrap_or_default()
    }

    /// The JSON of the variables; `None` if there are none.
    pub fn variables_json(&self) -> Option<String> {
        (!self.variables.is_empty()).then(|| serde_json::json!(self.variables).to_string())
    }

    /// The value of `x-oss-callback`.
    pub fn callback(&self) -> String {
        STANDARD.encode(self.callback_json())
    }

    /// The value of `x-oss-callback-var`; `None` if there are no variables.
    pub fn variables(&self) -> Option<String> {
        self.variables_json().map(|json| STANDARD.encode(json))
    }

    /// Runs the checks that an upload with these parameters runs into.
    ///
    /// # Errors
    ///
    /// What OSS would refuse the upload with.
    pub fn check(&self) -> Result<(), Refusal> {
        self.read().map(drop)
    }

    /// The body of the callback after an upload of which these are the facts.
    ///
    /// # Errors
    ///
    /// As [`CallbackParameters::check`].
    pub fn preview(&self, facts: &UploadFacts) -> Result<String, Refusal> {
        let callback = self.read()?;
        let request_id = facts.request_id.clone().unwrap_or_else(crate::reply::new_request_id);
        let upload = facts.upload(&request_id);
        Ok(callback.body.fill(callback.body_type, EmptyValue::default(), &upload, &callback.variables))
    }

    pub(super) fn read(&self) -> Result<Callback, Refusal> {
        let read =
            Callback::from_encoded(Some(&self.callback()), self.variables().as_deref(), &[]).map_err(Refusal::from)?;
        read.ok_or_else(|| Refusal {
            code: "InvalidArgument",
            message: "Without a callbackUrl OSS fires no callback.".to_owned(),
            ec: None,
            argument: Some("callback".to_owned()),
        })
    }
}

/// What OSS would refuse an upload with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// OSS's stable code, such as `InvalidArgument`.
    pub code: &'static str,
    /// OSS's sentence, where it is known.
    pub message: String,
    /// The finer number, where it is known.
    pub ec: Option<&'static str>,
    /// The argument that is at fault.
    pub argument: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "OSS would refuse the upload: {}: {}", self.code, self.message)?;
        match (&self.argument, self.ec) {
            (Some(argument), Some(ec)) => write!(formatter, " (argument {argument}, EC {ec})"),
            (Some(argument), None) => write!(formatter, " (argument {argument})"),
            (None, Some(ec)) => write!(formatter, " (EC {ec})"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let argument = error.details.into_iter().find(|(name, _)| *name == "ArgumentName").map(|(_, value)| value);
        Self { code: error.code, message: error.message, ec: error.ec, argument }
    }
}
