//! From signed bytes to typed fields: form and JSON bodies, judged by one set of rules.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;

use percent_encoding::percent_decode;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Failure, quoted};
use crate::media::Fields as FieldNames;
use crate::signature::Verified;

/// Names that people use where they do not use the canonical one. An alias counts only where the canonical field is absent.
const ALIASES: [(&str, &str); 4] = [
    ("object", "filename"),
    ("imageInfo.height", "height"),
    ("imageInfo.width", "width"),
    ("imageInfo.format", "format"),
];

/// The field that carries our own token. It is never stored, logged or returned.
const TOKEN: &str = "token";

/// Keeps other files from making what only this one may.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof;

/// What a callback says. OSS signed it; whether it is true, and about our bucket, is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    pub(crate) bucket: Option<String>,
    pub(crate) object: String,
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) mime: Option<String>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) crc64: Option<u64>,
    pub(crate) request_id: Option<String>,
    pub(crate) custom: BTreeMap<String, String>,
    _proof: Proof,
}

impl Callback {
    /// Reads the fields of a verified body.
    ///
    /// Missing, empty, `null` and unexpanded (`${...}`) optional fields are all absent. Every field that is none of OSS's
    /// variables is kept as a custom variable.
    ///
    /// # Errors
    /// In this order: [`Failure::UnsupportedMediaType`], [`Failure::BadBody`], [`Failure::DuplicateField`],
    /// [`Failure::MissingField`], [`Failure::BadField`].
    pub fn parse(verified: Verified, names: &FieldNames) -> Result<Self, Failure> {
        let mut fields = match MediaType::of(verified.content_type.as_deref())? {
            MediaType::Form => form_fields(&verified.body)?,
            MediaType::Json => json_fields(&verified.body)?,
        };
        rename(&mut fields, names);
        fields.remove(TOKEN);

        let object = match fields.remove("object") {
            Some(Field::Text(object)) if !object.is_empty() && !is_unexpanded(&object) => object,
            Some(Field::Other(value)) if !value.is_null() => return Err(bad("object", "must be text")),
            _ => {
                return Err(Failure::MissingField {
                    name: "object".to_owned(),
                    hint: "Put object=${object} into callbackBody.",
                });
            }
        };
        if object.len() > 1023 {
            return Err(bad("object", "is longer than the 1,023 bytes that OSS allows"));
        }
        let mut take = |name: &str| fields.remove(name).and_then(Field::present);
        let callback = Self {
            object,
            bucket: take("bucket"),
            etag: take("etag").map(|text| etag(&text)).transpose()?,
            size: take("size").map(|text| integer("size", &text)).transpose()?,
            // HEAD has the last word on it, so an odd one is worth no refusal.
            mime: take("mimeType").filter(|mime| mime.len() <= 255 && !mime.contains(|sign: char| sign.is_control())),
            height: take("imageInfo.height").map(|text| integer("imageInfo.height", &text)).transpose()?,
            width: take("imageInfo.width").map(|text| integer("imageInfo.width", &text)).transpose()?,
            crc64: take("crc64").map(|text| integer("crc64", &text)).transpose()?,
            // The copy in the header is not signed, so it only fills in.
            request_id: take("reqId").map(request_id).transpose()?.or(verified.request_id),
            custom: BTreeMap::new(),
            _proof: Proof,
        };
        for name in FieldNames::CANONICAL {
            fields.remove(name);
        }
        let custom = fields.into_iter().map(|(name, field)| (name, field.into_text())).collect();
        Ok(Self { custom, ..callback })
    }
}

fn bad(name: &str, problem: impl Into<String>) -> Failure {
    Failure::BadField { name: name.to_owned(), problem: problem.into() }
}

/// Protocol: an unsigned decimal. No sign, no exponent, no fraction, no blank, whether bare or in quotes.
fn integer<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, Failure> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| bad(name, format!("is {}, not an unsigned whole number in range", quoted(text))))
}

/// An ETag is hexadecimal, with `-` and a number of parts for a multipart upload; quotes around it are dropped.
fn etag(text: &str) -> Result<String, Failure> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let (hash, parts) = bare.split_once('-').map_or((bare, None), |(hash, parts)| (hash, Some(parts)));
    let valid = (1..=64).contains(&hash.len())
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && parts.is_none_or(|parts| (1..=5).contains(&parts.len()) && parts.bytes().all(|byte| byte.is_ascii_digit()));
    if valid { Ok(bare.to_ascii_uppercase()) } else { Err(bad("etag", format!("is {}, not an ETag", quoted(text)))) }
}

/// Protocol: 24 hexadecimal digits; other text is let through as far as it cannot do harm in an answer or a log.
fn request_id(text: String) -> Result<String, Failure> {
    let fits = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text) } else { Err(bad("reqId", format!("is {}, not a request id", quoted(&text)))) }
}

/// The ways of saying that an optional field has no value.
fn is_absent(text: &str) -> bool {
    text.is_empty() || text == "null" || is_unexpanded(text)
}

fn is_unexpanded(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}')
}

enum MediaType {
    Form,
    Json,
}

impl MediaType {
    fn of(content_type: Option<&str>) -> Result<Self, Failure> {
        let given = content_type.unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Ok(Self::Form)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else {
            let given = if given.is_empty() { "absent".to_owned() } else { quoted(given) };
            Err(Failure::UnsupportedMediaType { given })
        }
    }
}

/// The value of a field before anything is known about its kind.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Text(String),
    Other(Value),
}

impl Field {
    /// The value of an optional field, or `None` in any of the spellings of "absent".
    fn present(self) -> Option<String> {
        Some(self.into_text()).filter(|text| !is_absent(text))
    }

    fn is_present(&self) -> bool {
        match self {
            Self::Text(text) => !is_absent(text),
            Self::Other(value) => !value.is_null(),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Other(Value::Null) => String::new(),
            Self::Other(value) => value.to_string(),
        }
    }
}

type Fields = BTreeMap<String, Field>;

fn form_fields(body: &[u8]) -> Result<Fields, Failure> {
    let mut fields = Fields::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair.get(..at), pair.get(at.saturating_add(1)..)),
            None => (Some(pair), None),
        };
        let name = form_text(name.unwrap_or_default())?;
        let value = form_text(value.unwrap_or_default())?;
        insert(&mut fields, name, Field::Text(value))?;
    }
    Ok(fields)
}

/// Protocol: values are percent-encoded; a space may come as `%20` or as `+`. Constants of the template are not encoded at all.
fn form_text(encoded: &[u8]) -> Result<String, Failure> {
    let spaced: Cow<'_, [u8]> = if encoded.contains(&b'+') {
        encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
    } else {
        encoded.into()
    };
    percent_decode(&spaced)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| Failure::BadBody { problem: "a name or value of the form is not UTF-8".to_owned() })
}

fn json_fields(body: &[u8]) -> Result<Fields, Failure> {
    let Members::<Box<RawValue>>(members) = json(body)?;
    let mut fields = Fields::new();
    for (name, value) in members {
        let value = value.get();
        if name != "imageInfo" {
            insert(&mut fields, name, field(json(value.as_bytes())?))?;
        } else if value.starts_with('{') {
            // It may come as an object of its own, or as null for what is no picture.
            let Members::<Value>(parts) = json(value.as_bytes())?;
            for (part, value) in parts {
                insert(&mut fields, format!("imageInfo.{part}"), field(value))?;
            }
        }
    }
    Ok(fields)
}

fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::BadBody {
        problem: format!(
            "it is not a JSON object with one value a name (line {}, column {}); in JSON mode OSS adds the quotes around \
             text itself, so callbackBody must not",
            error.line(),
            error.column()
        ),
    })
}

fn field(value: Value) -> Field {
    match value {
        Value::String(text) => Field::Text(text),
        other => Field::Other(other),
    }
}

fn insert(fields: &mut Fields, name: String, field: Field) -> Result<(), Failure> {
    if name.is_empty() {
        // A value that nobody can ask for; some stores refuse such a name.
        return Ok(());
    }
    match fields.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(field);
            Ok(())
        }
        Entry::Occupied(entry) => Err(Failure::DuplicateField { name: quoted(entry.key()) }),
    }
}

/// Brings the names of the rules file, then the common aliases, to the canonical ones. A name counts only where the
/// canonical field is absent, or is itself the name of another field: two may swap.
fn rename(fields: &mut Fields, names: &FieldNames) {
    let absent = |fields: &Fields, name: &str| !fields.get(name).is_some_and(Field::is_present);
    let swapped = |canonical: &str| names.renamed().any(|(_, name)| name == canonical);
    let wanted: Vec<_> =
        names.renamed().filter(|(canonical, _)| swapped(canonical) || absent(fields, canonical)).collect();
    let renamed: Vec<_> =
        wanted.into_iter().filter_map(|(canonical, name)| Some((canonical, fields.remove(name)?))).collect();
    fields.extend(renamed.into_iter().map(|(canonical, field)| (canonical.to_owned(), field)));
    for (canonical, alias) in ALIASES {
        if absent(fields, canonical)
            && let Some(field) = fields.remove(alias)
        {
            fields.insert(canonical.to_owned(), field);
        }
    }
}

/// The members of a JSON object in order, duplicates kept, so that they can be refused.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Members<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                    if members.len() > 1000 {
                        return Err(A::Error::custom("more than 1,000 fields"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    fn parse(content_type: &str, body: impl Into<bytes::Bytes>) -> Result<Callback, Failure> {
        Callback::parse(Verified::for_tests(content_type, body), &FieldNames::default())
    }

    fn as_form(fields: &BTreeMap<String, String>) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        pairs.join("&")
    }

    /// Fields with the names that mean something more often than others.
    fn fields() -> impl Strategy<Value = BTreeMap<String, String>> {
        let system = proptest::sample::select(FieldNames::CANONICAL.to_vec()).prop_map(str::to_owned);
        let alias = proptest::sample::select(ALIASES.to_vec()).prop_map(|(_, alias)| alias.to_owned());
        let name = prop_oneof![4 => system, 1 => alias, 1 => Just(TOKEN.to_owned()), 2 => "\\PC{0,8}"];
        let value = prop_oneof![
            3 => "[0-9]{1,20}",
            2 => "[0-9A-F]{32}(-[0-9]{1,3})?",
            1 => Just(String::new()),
            1 => Just("null".to_owned()),
            1 => Just("${size}".to_owned()),
            2 => any::<String>(),
        ];
        btree_map(name, value, 0..12)
    }

    #[test]
    fn names_of_the_rules_count_where_the_canonical_field_is_absent_and_may_swap() {
        let parse = |rules: &str, body: &str| {
            let rules = crate::media::Rules::parse(rules).unwrap();
            let verified = Verified::for_tests("application/x-www-form-urlencoded", body.to_owned());
            Callback::parse(verified, rules.fields()).unwrap()
        };
        assert_eq!(parse("[fields]\nobject = \"path\"", "path=p&filename=f").object, "p");
        let both = parse("[fields]\nobject = \"path\"", "object=o&path=p");
        assert_eq!((both.object.as_str(), both.custom["path"].as_str()), ("o", "p"));
        let swapped = parse("[fields]\netag = \"size\"\nsize = \"etag\"", "object=o&etag=7&size=AB");
        assert_eq!((swapped.etag.as_deref(), swapped.size), (Some("AB"), Some(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_but_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse("application/json", body.clone());
            let _ = parse("application/x-www-form-urlencoded", body.clone());
            let _ = parse(&String::from_utf8_lossy(&body), body.clone());
        }

        #[test]
        fn a_form_and_the_same_fields_as_json_are_judged_alike(fields in fields()) {
            let form = parse("application/x-www-form-urlencoded", as_form(&fields));
            let json = parse("application/json", serde_json::to_string(&fields).unwrap());
            prop_assert_eq!(form, json);
        }

        #[test]
        fn numbers_read_the_same_bare_and_quoted(size in any::<u64>(), crc64 in any::<u64>(), width in any::<u32>()) {
            let bare = format!(r#"{{"object":"o","size":{size},"crc64":{crc64},"width":{width}}}"#);
            let quoted = format!(r#"{{"object":"o","size":"{size}","crc64":"{crc64}","width":"{width}"}}"#);
            let (bare, quoted) = (parse("application/json", bare).unwrap(), parse("application/json", quoted).unwrap());
            prop_assert_eq!((bare.size, bare.crc64, bare.width), (Some(size), Some(crc64), Some(width)));
            prop_assert_eq!(bare, quoted);
        }

        #[test]
        fn a_field_that_stands_twice_is_refused_whatever_it_is_called(fields in fields(), at in any::<prop::sample::Index>()) {
            let names: Vec<&String> = fields.keys().filter(|name| !name.is_empty()).collect();
            prop_assume!(!names.is_empty());
            let name: &str = at.get::<&String>(&names);
            let again = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
            let refused = parse("application/x-www-form-urlencoded", format!("{}&{again}=x", as_form(&fields)));
            prop_assert!(matches!(refused, Err(Failure::DuplicateField { .. })), "{:?}", refused);
        }

        #[test]
        fn the_token_never_leaves_the_parser(token in "[a-z]{12}", fields in fields()) {
            let mut fields = fields;
            fields.insert("object".to_owned(), "o".to_owned());
            fields.insert(TOKEN.to_owned(), format!("canary-{token}"));
            let parsed = parse("application/x-www-form-urlencoded", as_form(&fields));
            let shown = format!("{parsed:?}");
            prop_assert!(!shown.contains("canary-"), "{}", shown);
        }
    }
}
