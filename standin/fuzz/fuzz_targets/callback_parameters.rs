//! Callback parameters, as sent or as the JSON that is inside: read or refused without a panic, and what accepted
//! variables are filled into can be read back.
#![no_main]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use oss_standin::{BodyType, CallbackParameters, UploadFacts, fuzzing};

// Up to the first zero byte the callback, after it the variables.
fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (callback, variables) = match text.split_once('\0') {
        Some((callback, variables)) => (callback, Some(variables)),
        None => (&*text, None),
    };
    let facts = UploadFacts { object: callback.to_owned(), ..UploadFacts::default() };
    let _ = fuzzing::callback_parameters(callback, variables, &facts);
    let encoded = variables.map(|variables| STANDARD.encode(variables));
    let accepted = fuzzing::callback_parameters(&STANDARD.encode(callback), encoded.as_deref(), &facts).is_some();
    if let (true, Some(variables)) = (accepted, variables) {
        read_back(&serde_json::from_str(variables).expect("accepted variables are a map of strings"), &facts);
    }
});

/// Fills each variable, and the object's key, into a field of its own.
fn read_back(variables: &BTreeMap<String, String>, facts: &UploadFacts) {
    let mut expected: Vec<(String, String)> = vec![("object".to_owned(), facts.object.clone())];
    // A brace ends the name of a variable.
    expected.extend(variables.clone().into_iter().filter(|(name, _)| !name.contains('}')));
    let (mut form, mut json) = (Vec::new(), Vec::new());
    for (index, (name, _)) in expected.iter().enumerate() {
        form.push(format!("f{index}=${{{name}}}"));
        json.push(format!("${{{name}}}"));
    }
    let wanted = |template: String| {
        let parameters = CallbackParameters::new("http://127.0.0.1/", template);
        expected.iter().skip(1).fold(parameters, |parameters, (name, value)| parameters.variable(name, value))
    };
    let values: Vec<&str> = expected.iter().map(|(_, value)| value.as_str()).collect();
    // What names and values are accepted in may still become longer than a parameter may be.
    if let Ok(body) = wanted(form.join("&")).preview(facts) {
        let fields: Vec<(String, String)> = serde_urlencoded::from_str(&body).expect("a filled form is a form");
        assert_eq!(fields.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), values);
    }
    if let Ok(body) = wanted(format!("[{}]", json.join(","))).body_type(BodyType::Json).preview(facts) {
        let fields: Vec<String> = serde_json::from_str(&body).expect("filled JSON is JSON");
        assert_eq!(fields, values);
    }
}
