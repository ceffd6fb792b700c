//! callbackBody: constant text with `${variables}` in it.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Upload;

/// What form mode leaves as it is. OSS documents only letters, digits, `-`, `.` and `_`, and that a slash and a colon
/// are encoded; `~` and the space as `%20` are an assumption.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The type of a callback's body, which also decides how values are written into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Values are percent-encoded.
    #[default]
    Form,
    /// Strings are quoted and escaped, numbers are bare.
    Json,
}

impl BodyType {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "application/x-www-form-urlencoded" => Some(Self::Form),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

/// What a JSON body gets for a variable that has no value, such as the width of a text file. What OSS itself writes is
/// not documented; receivers should accept both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyValue {
    /// `null`
    #[default]
    Null,
    /// `""`
    EmptyString,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Constant(String),
    Variable(String),
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// A dollar sign that no left brace follows.
    NoLeftBrace,
    /// A variable that does not end.
    NoRightBrace,
}

/// The value of one variable.
enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Empty,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((constant, variable)) = rest.split_once('$') {
            let variable = variable.strip_prefix('{').ok_or(TemplateError::NoLeftBrace)?;
            let (name, after) = variable.split_once('}').ok_or(TemplateError::NoRightBrace)?;
            if !constant.is_empty() {
                parts.push(Part::Constant(constant.to_owned()));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Constant(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether the content must be looked at to fill this template.
    pub(crate) fn asks_about_image(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Variable(name) if name.starts_with("imageInfo.")))
    }

    /// The body of the callback.
    ///
    /// protocol: constants pass through byte for byte, whatever the type; the result need not be valid JSON.
    pub(crate) fn fill(
        &self,
        body_type: BodyType,
        empty: EmptyValue,
        upload: &Upload<'_>,
        variables: &BTreeMap<String, String>,
    ) -> String {
        let client = upload.client.to_string();
        let mut body = String::new();
        for part in &self.parts {
            let name = match part {
                Part::Constant(text) => {
                    body.push_str(text);
                    continue;
                }
                Part::Variable(name) => name.as_str(),
            };
            match (body_type, value(name, upload, &client, variables)) {
                (_, Value::Number(number)) => body.push_str(&number.to_string()),
                (BodyType::Form, Value::Text(text)) => body.extend(utf8_percent_encode(text, UNRESERVED)),
                (BodyType::Form, Value::Empty) => {}
                (BodyType::Json, Value::Text(text)) => body.push_str(&serde_json::Value::from(text).to_string()),
                (BodyType::Json, Value::Empty) => body.push_str(match empty {
                    EmptyValue::Null => "null",
                    EmptyValue::EmptyString => "\"\"",
                }),
            }
        }
        body
    }
}

fn value<'a>(name: &str, upload: &Upload<'a>, client: &'a str, variables: &'a BTreeMap<String, String>) -> Value<'a> {
    let image = upload.image;
    match name {
        "bucket" => Value::Text(upload.bucket),
        "object" => Value::Text(upload.object),
        "etag" => Value::Text(upload.etag),
        "size" => Value::Number(upload.size),
        "mimeType" => Value::Text(upload.mime_type),
        "imageInfo.height" => image.map_or(Value::Empty, |image| Value::Number(image.height)),
        "imageInfo.width" => image.map_or(Value::Empty, |image| Value::Number(image.width)),
        "imageInfo.format" => image.map_or(Value::Empty, |image| Value::Text(image.format)),
        "crc64" => Value::Number(upload.crc64),
        "contentMd5" => upload.content_md5.map_or(Value::Empty, Value::Text),
        "clientIp" => Value::Text(client),
        "reqId" => Value::Text(upload.request_id),
        "operation" => Value::Text(upload.operation),
        // protocol: a custom variable that was not supplied is empty. `vpcId` is empty outside a VPC, and no upload to
        // a stand-in comes from one. What OSS does with names that it does not know is not documented: empty here.
        name => variables.get(name).map_or(Value::Empty, |value| Value::Text(value)),
    }
}

#[cfg(test)]
mod tests;
