#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::{Image, UploadFacts};
use super::*;

fn upload() -> Upload<'static> {
    Upload {
        bucket: "callback-test",
        object: "1/a b~\"\\\u{1}é.jpg",
        etag: "D8E8FCA2DC0F896FD7CB4CB0031BA249",
        size: 114_020,
        mime_type: "text/plain",
        image: None,
        crc64: u64::MAX,
        content_md5: Some("2Oj8otwPiW/Xy0ywAxuiSQ=="),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: "5CF3E7821AB22D0FDB86704D",
        operation: "PutObject",
    }
}

fn image() -> Option<Image> {
    Some(Image { width: 810, height: 539, format: "jpg" })
}

fn fill(template: &str, body_type: BodyType, upload: &Upload<'_>, variables: &[(&str, &str)]) -> String {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Template::parse(template).unwrap().fill(body_type, EmptyValue::Null, upload, &variables)
}

#[test]
fn the_documented_example_is_filled_as_documented() {
    let upload = Upload { object: "test.txt", size: 5, ..upload() };
    let template = "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}\
                    &imageInfo.height=${imageInfo.height}&imageInfo.width=${imageInfo.width}\
                    &imageInfo.format=${imageInfo.format}&my_var=${x:my_var}";
    assert_eq!(
        fill(template, BodyType::Form, &upload, &[("x:my_var", "for-callback-test")]),
        "bucket=callback-test&object=test.txt&etag=D8E8FCA2DC0F896FD7CB4CB0031BA249&size=5&mimeType=text%2Fplain\
         &imageInfo.height=&imageInfo.width=&imageInfo.format=&my_var=for-callback-test"
    );
}

#[test]
fn the_genuine_json_body_is_reproduced() {
    let object = "1/1_hFRtDLgM_2f7b2ccf30e9270ea920f1ab8a4037a546a2f0d5.jpg";
    let upload = Upload { object, image: image(), ..upload() };
    let template = r#"{"name":${x:fname},"source_name":${object},"size":${size},"pic_info":"${imageInfo.width},${imageInfo.height}"}"#;
    let name = "2f7b2ccf30e9270ea920f1ab8a4037a546a2f0d5.jpg";
    assert_eq!(
        fill(template, BodyType::Json, &upload, &[("x:fname", name)]),
        format!(r#"{{"name":"{name}","source_name":"{object}","size":114020,"pic_info":"810,539"}}"#)
    );
}

#[test]
fn form_values_are_percent_encoded_and_constants_are_not() {
    assert_eq!(
        fill("文 %24%7Bbucket%7D&o=${object}&t=${x:t}", BodyType::Form, &upload(), &[("x:t", "14:31_1.-*'()!+&=")]),
        "文 %24%7Bbucket%7D&o=1%2Fa%20b~%22%5C%01%C3%A9.jpg&t=14%3A31_1.-%2A%27%28%29%21%2B%26%3D"
    );
}

#[test]
fn json_strings_are_quoted_and_escaped_and_numbers_are_bare() {
    let upload = Upload { image: image(), ..upload() };
    assert_eq!(
        fill("${object}&${size},${crc64},${imageInfo.height},${imageInfo.format}", BodyType::Json, &upload, &[]),
        "\"1/a b~\\\"\\\\\\u0001é.jpg\"&114020,18446744073709551615,539,\"jpg\""
    );
}

#[test]
fn every_system_variable_has_its_value() {
    assert_eq!(
        fill("${contentMd5} ${clientIp} ${reqId} ${operation} ${vpcId}|", BodyType::Form, &upload(), &[]),
        "2Oj8otwPiW%2FXy0ywAxuiSQ%3D%3D 127.0.0.1 5CF3E7821AB22D0FDB86704D PutObject |"
    );
}

#[test]
fn variables_without_value_are_empty_and_their_names_case_sensitive() {
    let template = "${x:unset},${vpcId},${imageInfo.width},${Bucket},${}";
    assert_eq!(fill(template, BodyType::Form, &upload(), &[]), ",,,,");
    assert_eq!(fill(template, BodyType::Json, &upload(), &[]), "null,null,null,null,null");
    let parsed = Template::parse(template).unwrap();
    let filled = parsed.fill(BodyType::Json, EmptyValue::EmptyString, &upload(), &BTreeMap::new());
    assert_eq!(filled, "\"\",\"\",\"\",\"\",\"\"");
    assert_eq!(fill("${x:empty}", BodyType::Json, &upload(), &[("x:empty", "")]), "\"\"");
}

#[test]
fn custom_variables_cannot_replace_system_variables() {
    assert_eq!(fill("${bucket}", BodyType::Form, &upload(), &[("bucket", "other")]), "callback-test");
}

#[test]
fn a_dollar_sign_needs_both_braces() {
    for template in ["$x:my_var}", "$(object)", "price=$5", "$", "a$$"] {
        assert_eq!(Template::parse(template), Err(TemplateError::NoLeftBrace), "{template}");
    }
    assert_eq!(Template::parse("${object"), Err(TemplateError::NoRightBrace));
}

proptest! {
    #[test]
    fn any_text_is_filled_or_refused(text in any::<String>(), value in any::<String>()) {
        if let Ok(template) = Template::parse(&text) {
            for body_type in [BodyType::Form, BodyType::Json] {
                template.fill(body_type, EmptyValue::Null, &upload(), &BTreeMap::from([("x:v".to_owned(), value.clone())]));
            }
        }
    }

    #[test]
    fn text_without_dollar_signs_passes_unchanged(text in any::<String>()) {
        let text = text.replace('$', "");
        prop_assert_eq!(fill(&text, BodyType::Json, &upload(), &[]), text.clone());
        prop_assert_eq!(fill(&text, BodyType::Form, &upload(), &[]), text);
    }

    #[test]
    fn a_filled_form_parses_into_the_values(facts in facts(), variables in variables(), names in names()) {
        let upload = facts.upload("5CF3E7821AB22D0FDB86704D");
        let fields = fields(&upload, &variables, &names);
        let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let template: Vec<String> =
            fields.iter().map(|(name, variable, _)| format!("{}=${{{variable}}}", encode(name))).collect();
        let template = Template::parse(&template.join("&")).unwrap();
        let body = template.fill(BodyType::Form, EmptyValue::Null, &upload, &variables);
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let expected: Vec<(String, String)> = fields
            .iter()
            .map(|(name, _, value)| (name.clone(), if value.is_null() { String::new() } else { text(value) }))
            .collect();
        prop_assert_eq!(serde_urlencoded::from_str::<Vec<(String, String)>>(&body).unwrap(), expected);
    }

    #[test]
    fn filled_json_parses_into_the_values(facts in facts(), variables in variables(), names in names()) {
        let upload = facts.upload("5CF3E7821AB22D0FDB86704D");
        let fields = fields(&upload, &variables, &names);
        // A dollar sign of a name would begin a variable.
        let quote = |text: &str| Json::from(text).to_string().replace('$', "\\u0024");
        let template: Vec<String> =
            fields.iter().map(|(name, variable, _)| format!("[{},${{{variable}}}]", quote(name))).collect();
        let template = Template::parse(&format!("[{}]", template.join(","))).unwrap();
        let body = template.fill(BodyType::Json, EmptyValue::Null, &upload, &variables);
        let expected: Vec<(String, Json)> = fields.into_iter().map(|(name, _, value)| (name, value)).collect();
        prop_assert_eq!(serde_json::from_str::<Vec<(String, Json)>>(&body).unwrap(), expected);
    }
}

/// What each variable must turn out to be: the name of its field, its own name, its value.
fn fields(upload: &Upload<'_>, variables: &BTreeMap<String, String>, names: &[String]) -> Vec<(String, String, Json)> {
    let image = upload.image;
    let mut values: Vec<(String, Json)> = [
        ("bucket", json!(upload.bucket)),
        ("object", json!(upload.object)),
        ("etag", json!(upload.etag)),
        ("size", json!(upload.size)),
        ("mimeType", json!(upload.mime_type)),
        ("imageInfo.height", json!(image.map(|image| image.height))),
        ("imageInfo.width", json!(image.map(|image| image.width))),
        ("imageInfo.format", json!(image.map(|image| image.format))),
        ("crc64", json!(upload.crc64)),
        ("contentMd5", json!(upload.content_md5)),
        ("vpcId", Json::Null),
        ("clientIp", json!(upload.client.to_string())),
        ("reqId", json!(upload.request_id)),
        ("operation", json!(upload.operation)),
        ("x:never supplied", Json::Null),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    values.extend(variables.iter().map(|(name, value)| (name.clone(), json!(value))));
    // Every field gets one of the names; there may be fewer names than fields.
    values.into_iter().zip(names.iter().cycle()).map(|((name, value), field)| (field.clone(), name, value)).collect()
}

fn facts() -> impl Strategy<Value = UploadFacts> {
    let text = any::<String>;
    let image = (any::<u64>(), any::<u64>(), prop::sample::select(vec!["jpg", "webp"]));
    let image = image.prop_map(|(width, height, format)| Image { width, height, format });
    (
        (text(), text(), text(), any::<u64>(), text(), prop::option::of(image)),
        (any::<u64>(), prop::option::of(text()), any::<IpAddr>(), text()),
    )
        .prop_map(|((bucket, object, etag, size, mime_type, image), (crc64, content_md5, client, operation))| {
            let request_id = None;
            UploadFacts {
                bucket,
                object,
                etag,
                size,
                mime_type,
                image,
                crc64,
                content_md5,
                client,
                request_id,
                operation,
            }
        })
}

/// The names may hold anything but the brace that ends them.
fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = any::<String>().prop_map(|name| format!("x:{}", name.replace('}', "")));
    prop::collection::btree_map(name, any::<String>(), 0..4)
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any::<String>(), 1..30)
}
