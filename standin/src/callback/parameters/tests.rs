#![allow(clippy::unwrap_used)]

use http::StatusCode;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What becomes of a callback and its variables, both given as the JSON that is inside.
fn read(callback: &str, variables: Option<&str>) -> Result<Option<Callback>, Error> {
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-callback", HeaderValue::try_from(STANDARD.encode(callback)).unwrap());
    if let Some(variables) = variables {
        headers.insert("x-oss-callback-var", HeaderValue::try_from(STANDARD.encode(variables)).unwrap());
    }
    Callback::read(&headers, &Query::default(), &[])
}

/// A valid callback with some fields changed; `null` removes a field.
fn with(changes: Value) -> Result<Option<Callback>, Error> {
    let mut fields = json!({"callbackUrl": "http://127.0.0.1:9000/cb", "callbackBody": "bucket=${bucket}"});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(fields.as_object_mut().unwrap().remove(name)),
            value => drop(fields.as_object_mut().unwrap().insert(name.clone(), value.clone())),
        }
    }
    read(&fields.to_string(), None)
}

fn refusal(changes: Value) -> (Option<&'static str>, String) {
    let error = with(changes).unwrap_err();
    assert_eq!((error.status, error.code), (StatusCode::BAD_REQUEST, "InvalidArgument"));
    assert_eq!(error.details.first().map(|detail| detail.0), Some("ArgumentName"));
    (error.ec, error.message)
}

#[test]
fn the_defaults_are_form_type_and_no_server_name() {
    let callback = with(json!({})).unwrap().unwrap();
    assert_eq!((callback.body_type, callback.sni, callback.host), (BodyType::Form, false, None));
    assert_eq!(callback.urls.len(), 1);
}

#[test]
fn json_is_read_as_json_whoever_wrote_it() {
    let odd = "{\"callbackUrl\":\"http:\\/\\/h\\/cb?a=1\\u0026b=2\" ,\"callbackBody\":\"x\" , \"callbackSNI\":true}\n";
    let callback = read(odd, Some("{\"x:var2\":\"value2\" ,\"x:键值1\":\"值\" }")).unwrap().unwrap();
    let url = callback.urls.first().unwrap();
    assert_eq!((url.path.as_str(), url.query.as_str(), callback.sni), ("/cb", "?a=1&b=2", true));
    assert_eq!(callback.variables.get("x:键值1").map(String::as_str), Some("值"));
}

#[test]
fn without_a_url_no_callback_is_wanted() {
    assert!(with(json!({"callbackUrl": null})).unwrap().is_none());
    assert!(with(json!({"callbackUrl": "", "callbackBody": null})).unwrap().is_none());
}

#[test]
fn every_faulty_field_is_refused_by_its_number() {
    let many: serde_json::Map<String, Value> = (0..11).map(|n| (format!("h{n}"), json!("v"))).collect();
    for (changes, ec) in [
        (json!({"callbackUrl": 1}), "0007-00000004"),
        (json!({"callbackUrl": "host:test"}), "0007-00000004"),
        (json!({"callbackUrl": "http://a/;ftp://b/"}), "0007-00000004"),
        (json!({"callbackUrl": "a;b;c;d;e;f"}), "0007-00000005"),
        (json!({"callbackHost": 1}), "0007-00000009"),
        (json!({"callbackHost": "a\r\nb: c"}), "0007-00000009"),
        (json!({"callbackBody": 1}), "0007-00000010"),
        (json!({"callbackBody": ""}), "0007-00000011"),
        (json!({"callbackBody": null}), "0007-00000011"),
        (json!({"callbackBodyType": 1}), "0007-00000012"),
        (json!({"callbackBodyType": "text/plain"}), "0007-00000013"),
        (json!({"additionalHeaders": []}), "0007-00000021"),
        (json!({"additionalHeaders": {"a": 1}}), "0007-00000021"),
        (json!({"additionalHeaders": many}), "0007-00000022"),
        (json!({"additionalHeaders": {"": "v"}}), "0007-00000023"),
        (json!({"additionalHeaders": {"A": "v"}}), "0007-00000024"),
        (json!({"additionalHeaders": {"a": "v\r\nb: c"}}), "0007-00000025"),
        (json!({"additionalHeaders": {"x-oss-a": "v"}}), "0007-00000026"),
        (json!({"callbackBody": "$x:my_var}"}), "0007-00000105"),
    ] {
        assert_eq!(refusal(changes.clone()).0, Some(ec), "{changes}");
    }
    assert_eq!(refusal(json!({"callbackSNI": "true"})).0, None);
}

#[test]
fn the_known_sentences_are_used_to_the_letter() {
    let error = read("no json", None).unwrap_err();
    assert_eq!(error.message, "The callback configuration is not json format.");
    assert_eq!(error.details, [("ArgumentName", "callback".to_owned()), ("ArgumentValue", "no json".to_owned())]);
    let error = with(json!({"callbackBody": "$(object)"})).unwrap_err();
    assert_eq!(error.message, "Left brace must be adjacent to dollar sign.");
    assert_eq!(error.details.first(), Some(&("ArgumentName", "ReplaceKeyPrefix".to_owned())));
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-callback", HeaderValue::from_static("{}"));
    let error = Callback::read(&headers, &Query::default(), &[]).unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.ec),
        ("The callback configuration is not base64 encoded.", Some("0007-00000002"))
    );
}

#[test]
fn faulty_variables_are_refused() {
    let callback = json!({"callbackUrl": "http://h/", "callbackBody": "b"}).to_string();
    for (variables, ec) in [
        ("no json", "0007-00000103"),
        ("[]", "0007-00000103"),
        (r#"{"x:a":1}"#, "0007-00000104"),
        (r#"{"x:a":{"b":"c"}}"#, "0007-00000104"),
        (r#"{"a":"b"}"#, "0007-00000104"),
    ] {
        assert_eq!(read(&callback, Some(variables)).unwrap_err().ec, Some(ec), "{variables}");
    }
}

#[test]
fn the_limit_of_5_kb_is_on_what_is_sent() {
    let sized = |length: usize| {
        let query = Query::parse(&format!("callback={}", "A".repeat(length))).unwrap();
        Callback::read(&HeaderMap::new(), &query, &[]).unwrap_err().ec
    };
    assert_eq!(sized(5120), Some("0007-00000003"));
    assert_eq!(sized(5121), Some("0007-00000001"));
}

#[test]
fn a_parameter_may_stand_in_header_or_query_but_not_in_both() {
    let encoded = STANDARD.encode(r#"{"callbackUrl":"http://h/","callbackBody":"b"}"#);
    let query = Query::parse(&format!("callback={}", encoded.replace('=', "%3D"))).unwrap();
    assert!(Callback::read(&HeaderMap::new(), &query, &[]).unwrap().is_some());
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-callback", HeaderValue::try_from(&encoded).unwrap());
    assert_eq!(Callback::read(&headers, &query, &[]).unwrap_err().ec, Some("0007-00000027"));
    let mut headers = HeaderMap::new();
    headers.insert("x-oss-callback-var", HeaderValue::from_static("e30="));
    let query = Query::parse("callback-var=e30%3D").unwrap();
    assert_eq!(Callback::read(&headers, &query, &[]).unwrap_err().ec, Some("0007-00000028"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(callback in any::<Vec<u8>>(), variables in any::<Vec<u8>>()) {
        let (as_sent, vars_as_sent) = (String::from_utf8_lossy(&callback), String::from_utf8_lossy(&variables));
        prop_assert!(Callback::from_encoded(Some(&as_sent), Some(&vars_as_sent), &[]).is_err());
        let _ = Callback::from_encoded(Some(&STANDARD.encode(&callback)), Some(&STANDARD.encode(&variables)), &[]);
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&callback) {
            headers.insert("x-oss-callback", value);
        }
        let _ = Callback::read(&headers, &Query::default(), &[]);
    }

    #[test]
    fn any_json_is_read_or_refused_and_what_is_read_cannot_break_the_request(
        fields in any_fields(),
        variables in any_json(),
    ) {
        if let Ok(Some(callback)) = read(&fields.to_string(), Some(&variables.to_string())) {
            prop_assert!((1..=MOST_URLS).contains(&callback.urls.len()));
            prop_assert!(callback.additional_headers.len() <= MOST_ADDITIONAL_HEADERS);
            prop_assert!(callback.variables.keys().all(|name| name.starts_with("x:")));
            let of_headers = callback.additional_headers.iter().flat_map(|(name, value)| [name, value]);
            for text in of_headers.chain(&callback.host) {
                prop_assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
            }
        }
    }

    #[test]
    fn any_url_is_taken_apart_or_refused(url in "(https?://)?[a-z0-9.:]{0,12}[/?#]?.{0,20}") {
        if let Some(parsed) = CallbackUrl::parse(&url) {
            prop_assert!(parsed.path.starts_with('/'));
            prop_assert!(parsed.port > 0);
            let on_the_wire = format!("{}{}", parsed.path, parsed.query);
            prop_assert!(on_the_wire.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let name = prop_oneof![any::<String>(), "x:.{0,8}", "[a-z-]{0,8}"];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..12)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// A callback of which each field is missing, right, or anything.
fn any_fields() -> impl Strategy<Value = Value> {
    let field = |name: &'static str, right: Vec<Value>| {
        let value = prop_oneof![
            1 => any_json().prop_map(Some),
            1 => any::<String>().prop_map(|text| Some(text.into())),
            1 => Just(None),
            9 => prop::sample::select(right).prop_map(Some),
        ];
        value.prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let fields = (
        field("callbackUrl", vec![json!("h"), json!("https://h:1/a?b;h;"), json!("h;h;h;h;h;h")]),
        field("callbackBody", vec![json!("${object}"), json!("a"), json!("${x:a}$")]),
        field("callbackBodyType", vec![json!("application/json"), json!("application/x-www-form-urlencoded")]),
        field("callbackHost", vec![json!("h"), json!("a\r\nb: c")]),
        field("callbackSNI", vec![json!(true)]),
        field("additionalHeaders", vec![json!({"a": "b"}), json!({"a": "b\r\nc: d"}), json!({"x-oss-a": ""})]),
    );
    fields.prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].into_iter().flatten().collect::<Map<_, _>>().into())
}
