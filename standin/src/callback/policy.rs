//! Callback policies: callbacks that are stored with a bucket, so that uploads need only name them.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use super::parameters::Callback;
use crate::bucket::change_settings;
use crate::error::Error;
use crate::reply::{Reply, empty, full, xml};
use crate::store::{Bucket, CallbackPolicy};
use crate::upload::read_document;
use crate::xml::{Document, Element};

const ROOT: &str = "BucketCallbackPolicy";

/// Replaces all policies of a bucket.
pub(crate) async fn put_callback_policy(
    bucket: Arc<Bucket>,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let policies = read_policies(&read_document(headers, body, ROOT).await?)?;
    change_settings(bucket, move |settings| settings.callback_policies = policies).await?;
    Ok(full(""))
}

pub(crate) fn get_callback_policy(bucket: &Bucket) -> Result<Reply, Error> {
    let settings = bucket.settings();
    if settings.callback_policies.is_empty() {
        return Err(policy_missing());
    }
    let mut document = Document::new(ROOT);
    for policy in &settings.callback_policies {
        document.open("PolicyItem");
        document.text("PolicyName", &policy.name);
        document.text("Callback", &policy.callback);
        document.text("CallbackVar", policy.callback_var.as_deref().unwrap_or_default());
        document.close();
    }
    Ok(xml(document))
}

/// not documented: 204, also if there was none, as with the other settings of buckets.
pub(crate) async fn delete_callback_policy(bucket: Arc<Bucket>) -> Result<Reply, Error> {
    change_settings(bucket, |settings| settings.callback_policies.clear()).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) fn policy_missing() -> Error {
    let message = "The bucket callback policy does not exist.";
    Error::new(StatusCode::NOT_FOUND, "BucketCallbackPolicyNotExist", message)
}

/// not documented: what OSS checks when it stores a policy. Here it is what would be refused when it is used.
fn read_policies(document: &Element) -> Result<Vec<CallbackPolicy>, Error> {
    let mut policies: Vec<CallbackPolicy> = Vec::new();
    for item in document.children("PolicyItem") {
        let text = |name| item.child_text(name).map(str::trim).filter(|text| !text.is_empty());
        let (Some(name), Some(callback)) = (text("PolicyName"), text("Callback")) else {
            return Err(Error::malformed_xml(ROOT));
        };
        if policies.iter().any(|known| known.name == name) {
            return Err(Error::invalid_argument("PolicyName", name, "The name of the policy is given twice."));
        }
        let policy = CallbackPolicy {
            name: name.to_owned(),
            callback: callback.to_owned(),
            callback_var: text("CallbackVar").map(str::to_owned),
        };
        if Callback::of_policy(&policy)?.is_none() {
            return Err(Error::invalid_argument("callbackUrl", "", "The callback of a policy needs a callbackUrl."));
        }
        policies.push(policy);
    }
    if policies.is_empty() { Err(Error::malformed_xml(ROOT)) } else { Ok(policies) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_policies_are_read_or_refused(name in "[ -~]{0,8}", callback in "(\\{\"callback(Url|Body|Policy)\":\"[a-z$]{0,5}\"\\}|.){0,30}", encode: bool) {
            let mut document = Document::new(ROOT);
            document.open("PolicyItem");
            document.text("PolicyName", &name);
            document.text("Callback", &if encode { STANDARD.encode(&callback) } else { callback });
            if let Some(document) = Element::parse(document.finish().as_bytes(), ROOT) {
                let _ = read_policies(&document);
            }
        }
    }
}
