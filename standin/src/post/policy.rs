//! The policy of a form: until when it holds, and what the form's fields must say. It is the text that is signed.
//!
//! Unlike other object stores, OSS does not ask for a condition on every field: what no condition mentions, the
//! uploader may choose, the callback included. The fields of a version 4 signature alone must be bound.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::Value;

use crate::error::Error;

/// A policy that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) expiration: SystemTime,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    test: Test,
    /// As it stands in the policy, for the refusal.
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equal(String, String),
    StartsWith(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    /// Bytes of the file.
    LengthRange(RangeInclusive<u64>),
}

impl Policy {
    /// Reads the Base64 that stands in a form.
    pub(crate) fn parse(encoded: &str) -> Result<Self, Error> {
        let text = STANDARD.decode(encoded).map_err(|_| invalid("it is not Base64"))?;
        let document: Value = serde_json::from_slice(&text).map_err(|cause| invalid(&format!("no JSON: {cause}")))?;
        let expiration = document.get("expiration").and_then(Value::as_str);
        let expiration = expiration.ok_or_else(|| invalid("no expiration").ec("0006-00000208"))?;
        let instant: jiff::Timestamp = expiration
            .parse()
            .map_err(|_| invalid(&format!("the expiration {expiration:?} is not like 2030-01-31T12:00:00.000Z")))?;
        let list = document.get("conditions").ok_or_else(|| invalid("no conditions").ec("0006-00000207"))?;
        let list = list.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| invalid("the conditions are not a list, or it is empty").ec("0006-00000215"))?;
        let mut conditions = Vec::new();
        for condition in list {
            parse_condition(condition, &mut conditions)?;
        }
        Ok(Self { expiration: instant.into(), conditions })
    }

    /// Refuses a form whose fields are not what the policy demands. A field that is missing counts as empty.
    pub(crate) fn check(&self, value_of: impl Fn(&str) -> String) -> Result<(), Error> {
        let holds = |test: &Test| match test {
            Test::Equal(name, value) => value_of(name) == *value,
            Test::StartsWith(name, prefix) => value_of(name).starts_with(prefix.as_str()),
            Test::In(name, values) => values.contains(&value_of(name)),
            Test::NotIn(name, values) => !values.contains(&value_of(name)),
            Test::LengthRange(_) => true,
        };
        match self.conditions.iter().find(|condition| !holds(&condition.test)) {
            None => Ok(()),
            Some(failed) => {
                let message = format!("Invalid according to Policy: Policy Condition failed: {}", failed.text);
                Err(Error::access_denied(message).ec("0006-00000227"))
            }
        }
    }

    /// Refuses a form if one of these fields, which it has, is not bound by a condition.
    pub(crate) fn check_bound(&self, fields: &[&str]) -> Result<(), Error> {
        let is_bound = |field: &str| self.conditions.iter().any(|condition| condition.test.field() == Some(field));
        match fields.iter().find(|field| !is_bound(field)) {
            None => Ok(()),
            Some(free) => {
                let message = format!("Invalid according to Policy: Extra input fields: {free}");
                Err(Error::access_denied(message).ec("0006-00000228"))
            }
        }
    }

    /// How long the file may be, in bytes: what all conditions allow.
    pub(crate) fn length_range(&self) -> RangeInclusive<u64> {
        let ranges = self.conditions.iter().filter_map(|condition| match &condition.test {
            Test::LengthRange(range) => Some(range),
            _ => None,
        });
        ranges.fold(0..=u64::MAX, |all, one| *all.start().max(one.start())..=*all.end().min(one.end()))
    }
}

impl Test {
    /// The field that it is about.
    fn field(&self) -> Option<&str> {
        match self {
            Self::Equal(name, _) | Self::StartsWith(name, _) | Self::In(name, _) | Self::NotIn(name, _) => Some(name),
            Self::LengthRange(_) => None,
        }
    }
}

/// `{"name": "value", ...}`, or `["operator", ...]`.
fn parse_condition(condition: &Value, conditions: &mut Vec<Condition>) -> Result<(), Error> {
    let refuse = |ec| invalid(&format!("the condition {condition} is none that is known")).ec(ec);
    let wrong = || refuse("0006-00000218");
    match condition {
        Value::Object(fields) => {
            for (name, value) in fields {
                let value = value.as_str().ok_or_else(wrong)?;
                let test = Test::Equal(field_name(name), value.to_owned());
                conditions.push(Condition { test, text: quoted("eq", name, &Value::from(value)) });
            }
            Ok(())
        }
        Value::Array(items) => {
            let mut text = condition.to_string();
            let test = match items.as_slice() {
                [Value::String(operator), Value::String(name), operand] => {
                    text = quoted(operator, name, operand);
                    let name = field_name(name);
                    match (operator.to_ascii_lowercase().as_str(), operand) {
                        ("eq", Value::String(value)) => Test::Equal(name, value.clone()),
                        ("starts-with", Value::String(prefix)) => Test::StartsWith(name, prefix.clone()),
                        ("in", Value::Array(values)) => Test::In(name, strings(values).ok_or_else(wrong)?),
                        ("not-in", Value::Array(values)) => Test::NotIn(name, strings(values).ok_or_else(wrong)?),
                        _ => return Err(wrong()),
                    }
                }
                [Value::String(operator), least, most] if operator.eq_ignore_ascii_case("content-length-range") => {
                    match (least.as_u64(), most.as_u64()) {
                        (Some(least), Some(most)) => Test::LengthRange(least..=most),
                        _ => return Err(wrong()),
                    }
                }
                [] | [_] => return Err(refuse("0006-00000216")),
                _ => return Err(wrong()),
            };
            conditions.push(Condition { test, text });
            Ok(())
        }
        _ => Err(refuse("0006-00000222")),
    }
}

/// A condition as OSS quotes one that failed.
fn quoted(operator: &str, name: &str, operand: &Value) -> String {
    let operand = match operand.as_array() {
        Some(values) => format!("[{}]", values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")),
        None => operand.to_string(),
    };
    let name = Value::from(format!("${}", name.strip_prefix('$').unwrap_or(name)));
    format!("[{}, {name}, {operand}]", Value::from(operator))
}

/// protocol: the names of fields are not case-sensitive. Those of custom variables are as they were sent. OSS's own
/// examples write the `$` before a name, and leave it out.
pub(crate) fn field_name(name: &str) -> String {
    let name = name.strip_prefix('$').unwrap_or(name);
    match name.starts_with("x:") {
        true => name.to_owned(),
        false => name.to_ascii_lowercase(),
    }
}

fn strings(values: &[Value]) -> Option<Vec<String>> {
    values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

fn invalid(what: &str) -> Error {
    let message = format!("Invalid Policy: {what}.");
    Error::new(StatusCode::BAD_REQUEST, "InvalidPolicyDocument", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn policy(conditions: &Value) -> Result<Policy, Error> {
        let text = json!({"expiration": "2030-01-01T00:00:00.000Z", "conditions": conditions}).to_string();
        Policy::parse(&STANDARD.encode(text))
    }

    fn value_of(name: &str) -> String {
        match name {
            "key" => "user/7.jpg",
            "content-type" => "image/jpeg",
            "x:Uid" => "7",
            _ => "",
        }
        .to_owned()
    }

    #[test]
    fn each_kind_of_condition_holds_or_fails() {
        for (condition, holds) in [
            (json!({"key": "user/7.jpg"}), true),
            (json!({"Key": "user/8.jpg"}), false),
            (json!(["eq", "$key", "user/7.jpg"]), true),
            (json!(["EQ", "$KEY", "user"]), false),
            (json!(["starts-with", "$key", "user/"]), true),
            (json!(["starts-with", "$key", ""]), true),
            (json!(["starts-with", "$key", "admin/"]), false),
            (json!(["in", "$content-type", ["image/png", "image/jpeg"]]), true),
            (json!(["in", "$content-type", ["image/png"]]), false),
            (json!(["not-in", "$content-type", ["text/html"]]), true),
            (json!(["not-in", "$Content-Type", ["image/jpeg"]]), false),
            (json!({"x:Uid": "7"}), true),
            (json!({"x:uid": "7"}), false),
            (json!(["eq", "$absent", ""]), true),
            (json!(["eq", "key", "user/7.jpg"]), true),
            (json!(["eq", "key", "user/8.jpg"]), false),
            (json!({"$key": "user/8.jpg"}), false),
            (json!({"absent": "x"}), false),
        ] {
            let checked = policy(&json!([condition])).unwrap().check(value_of);
            assert_eq!(checked.is_ok(), holds, "{condition}");
            if let Err(error) = checked {
                assert_eq!((error.status.as_u16(), error.code), (403, "AccessDenied"));
                assert!(error.message.starts_with("Invalid according to Policy: Policy Condition failed: ["));
            }
        }
    }

    #[test]
    fn a_condition_that_fails_is_quoted_as_oss_quotes_it() {
        for (condition, quoted) in [
            (json!({"Key": "user/\"1\""}), r#"["eq", "$Key", "user/\"1\""]"#),
            (json!(["starts-with", "key", "admin/"]), r#"["starts-with", "$key", "admin/"]"#),
            (json!(["in", "$key", ["a", "b"]]), r#"["in", "$key", ["a", "b"]]"#),
        ] {
            let refused = policy(&json!([condition])).unwrap().check(value_of).unwrap_err();
            assert_eq!(refused.message, format!("Invalid according to Policy: Policy Condition failed: {quoted}"));
            assert_eq!(refused.ec, Some("0006-00000227"));
        }
    }

    #[test]
    fn fields_that_must_be_bound_are_asked_for_by_name() {
        let policy = policy(&json!([{"X-Oss-Date": "1"}, ["starts-with", "$x-oss-credential", ""]])).unwrap();
        policy.check_bound(&["x-oss-date", "x-oss-credential"]).unwrap();
        let refused = policy.check_bound(&["x-oss-date", "x-oss-signature-version"]).unwrap_err();
        assert_eq!(refused.message, "Invalid according to Policy: Extra input fields: x-oss-signature-version");
    }

    #[test]
    fn the_narrowest_length_range_counts() {
        let two = policy(&json!([["content-length-range", 1, 100], ["content-length-range", 0, 50]])).unwrap();
        assert_eq!(two.length_range(), 1..=50);
        assert_eq!(policy(&json!([{"key": "k"}])).unwrap().length_range(), 0..=u64::MAX);
    }

    #[test]
    fn what_is_no_policy_is_refused_with_what_is_wrong() {
        for conditions in [
            json!({}),
            json!(["eq"]),
            json!([]),
            json!([["$key"]]),
            json!([["starts-with", "$key", "a", "b"]]),
            json!([["eq", "$key", 1]]),
            json!([["like", "$key", "x"]]),
            json!([["in", "$key", "x"]]),
            json!([["content-length-range", -1, 5]]),
            json!([["content-length-range", "1", "5"]]),
            json!([{"key": 1}]),
            json!([7]),
        ] {
            assert_eq!(policy(&conditions).unwrap_err().code, "InvalidPolicyDocument", "{conditions}");
        }
        for text in [
            "{",
            "{}",
            "[]",
            "{\"expiration\":\"soon\",\"conditions\":[]}",
            "{\"expiration\":\"2030-01-01T00:00:00Z\"}",
        ] {
            assert_eq!(Policy::parse(&STANDARD.encode(text)).unwrap_err().code, "InvalidPolicyDocument", "{text}");
        }
        assert!(Policy::parse("?").unwrap_err().message.contains("Base64"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_refused(text in ".{0,80}", inner in "(\\[|\\]|\\{|\\}|,|:|\"eq\"|\"\\$key\"|\"in\"|1|-1|\"content-length-range\"){0,12}") {
            let _ = Policy::parse(&text);
            let _ = Policy::parse(&STANDARD.encode(&text));
            let _ = Policy::parse(&STANDARD.encode(format!("{{\"expiration\":\"2030-01-01T00:00:00Z\",\"conditions\":[{inner}]}}")));
        }
    }
}
