//! What fuzz targets enter at (`fuzz/`), one function for each. There only where `--cfg fuzzing` is given, as cargo-fuzz
//! does; no part of the interface. They judge nothing: the targets do.

use crate::callback::{Callback, EmptyValue, UploadFacts};

/// The filled body of a callback whose parameters are these, as sent in Base64; `None` if they are refused.
pub fn callback_parameters(callback: &str, variables: Option<&str>, facts: &UploadFacts) -> Option<String> {
    let callback = Callback::from_encoded(Some(callback), variables, &[]).ok().flatten()?;
    let upload = facts.upload("5CF3E7821AB22D0FDB86704D");
    Some(callback.body.fill(callback.body_type, EmptyValue::default(), &upload, &callback.variables))
}
