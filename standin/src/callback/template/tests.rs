#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::super::Image;
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
    fn any_text_is_filled_or_refused(text in ".*", value in ".*") {
        if let Ok(template) = Template::parse(&text) {
            for body_type in [BodyType::Form, BodyType::Json] {
                template.fill(body_type, EmptyValue::Null, &upload(), &BTreeMap::from([("x:v".to_owned(), value.clone())]));
            }
        }
    }

    #[test]
    fn text_without_dollar_signs_passes_unchanged(text in "[^$]*") {
        prop_assert_eq!(fill(&text, BodyType::Json, &upload(), &[]), text.clone());
        prop_assert_eq!(fill(&text, BodyType::Form, &upload(), &[]), text);
    }

    #[test]
    fn values_can_be_read_back(value in ".*") {
        let variables = [("x:v", value.as_str())];
        let form = fill("${x:v}", BodyType::Form, &upload(), &variables);
        prop_assert_eq!(percent_encoding::percent_decode_str(&form).decode_utf8().unwrap(), value.as_str());
        let json = fill("${x:v}", BodyType::Json, &upload(), &variables);
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }
}
