//! What fuzz targets enter at (`fuzz/`), one function for each. There only where `--cfg fuzzing` is given, as cargo-fuzz
//! does; no part of the interface. They judge nothing: the targets do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::callback::{Callback, EmptyValue, UploadFacts};
use crate::post::form::{Event, Parser};
use crate::post::policy::Policy;

/// The filled body of a callback whose parameters are these, as sent in Base64; `None` if they are refused.
pub fn callback_parameters(callback: &str, variables: Option<&str>, facts: &UploadFacts) -> Option<String> {
    let callback = Callback::from_encoded(Some(callback), variables, &[]).ok().flatten()?;
    let upload = facts.upload("5CF3E7821AB22D0FDB86704D");
    Some(callback.body.fill(callback.body_type, EmptyValue::default(), &upload, &callback.variables))
}

/// Whether this text, or the Base64 of it, is the policy of a form; an accepted one is also held against these values.
pub fn policy(text: &str, value: &str) -> bool {
    let encoded = Policy::parse(&STANDARD.encode(text));
    let accepted = encoded.is_ok();
    for policy in [encoded, Policy::parse(text)].into_iter().flatten() {
        let _ = policy.check(|_| value.to_owned());
        let _ = policy.length_range();
    }
    accepted
}

/// The fields of a form that comes in these pieces, each with its content; `None` if it is refused or does not end.
pub fn multipart_form(boundary: &str, pieces: &[&[u8]]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut parser = Parser::new(boundary);
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for piece in pieces {
        parser.push(piece);
        while let Some(event) = parser.next().ok()? {
            match event {
                Event::Part(head) => fields.push((head.name, Vec::new())),
                Event::Data(data) => fields.last_mut()?.1.extend_from_slice(&data),
                Event::PartEnd => {}
                Event::End => return Some(fields),
            }
        }
    }
    None
}
