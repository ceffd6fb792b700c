//! Who made a form: the fields that sign its policy, version 1 and version 4.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use subtle::ConstantTimeEq as _;

use super::Fields;
use super::policy::Policy;
use crate::error::Error;
use crate::server::State;
use crate::signature::{Scope, basic_instant, policy_signature_four, policy_signature_one, version_two};

/// protocol: a version 4 form is valid for at most seven days.
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// protocol: the fields of a version 4 signature that its policy must bind. (Not documented of the security token.)
const BOUND: &[&str] = &["x-oss-signature-version", "x-oss-credential", "x-oss-date"];

/// The policy of a form, if whoever made the form signed it. `None`: the form is not signed.
///
/// protocol: what is signed is the policy as it stands in the form, in Base64. The fields of a version 4 signature are
/// bound by conditions in it.
pub(crate) fn signed_policy(state: &State, fields: &Fields, now: SystemTime) -> Result<Option<Policy>, Error> {
    let encoded = fields.get("policy");
    let policy = || -> Result<&str, Error> {
        let message = "A form that is signed must have a field named policy before the file.";
        encoded.ok_or_else(|| Error::invalid_argument("policy", "", message).ec("0002-00000702"))
    };
    match fields.get("x-oss-signature-version") {
        Some("OSS4-HMAC-SHA256") => {
            let get = |name: &'static str| -> Result<&str, Error> {
                let message = "A form with a version 4 signature must have this field before the file.";
                fields.get(name).ok_or_else(|| Error::invalid_argument(name, "", message))
            };
            let scope = Scope::parse(get("x-oss-credential")?).map_err(|error| error.ec("0002-00000710"))?;
            state.check_access_key(&scope.access_key_id)?;
            state.check_region(&scope.region)?;
            let date = get("x-oss-date")?;
            let made = basic_instant(date).filter(|_| date.starts_with(&scope.day)).ok_or_else(|| {
                let message = "It must be like 20300131T120000Z, and on the day of x-oss-credential.";
                Error::invalid_argument("x-oss-date", date, message)
            })?;
            let expected = policy_signature_four(&state.access_key_secret, &scope, policy()?);
            check_signature(&scope.access_key_id, &expected, get("x-oss-signature")?)?;
            let policy = Policy::parse(policy()?)?;
            if let Some(skew) = state.max_skew {
                check_time(now, made, skew, policy.expiration)?;
            }
            policy.check_bound(BOUND)?;
            Ok(Some(policy))
        }
        Some("OSS2") => Err(version_two()),
        Some(other) => {
            let message = "It must be OSS4-HMAC-SHA256, or absent for version 1.";
            Err(Error::invalid_argument("x-oss-signature-version", other, message))
        }
        None => {
            let (Some(id), Some(signature)) = (fields.get("ossaccesskeyid"), fields.get("signature")) else {
                let signs = ["ossaccesskeyid", "signature", "policy"].iter().any(|name| fields.get(name).is_some());
                let message =
                    "A form that is signed must have the fields OSSAccessKeyId, policy and Signature before the file.";
                return match signs {
                    true => Err(Error::invalid_argument("Signature", "", message)),
                    false => Ok(None),
                };
            };
            state.check_access_key(id)?;
            check_signature(id, &policy_signature_one(&state.access_key_secret, policy()?), signature)?;
            let policy = Policy::parse(policy()?)?;
            if state.max_skew.is_some() {
                check_expiration(now, policy.expiration)?;
            }
            Ok(Some(policy))
        }
    }
}

fn check_signature(id: &str, expected: &str, given: &str) -> Result<(), Error> {
    if bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
        return Ok(());
    }
    Err(Error::new(
        StatusCode::FORBIDDEN,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    )
    .detail("OSSAccessKeyId", id)
    .detail("SignatureProvided", given)
    .ec("0002-00000705"))
}

/// protocol: a version 4 form is not from the future by more than the skew, and expires within seven days.
fn check_time(now: SystemTime, made: SystemTime, skew: Duration, expiration: SystemTime) -> Result<(), Error> {
    if made.duration_since(now).is_ok_and(|ahead| ahead > skew) {
        return Err(Error::access_denied("Invalid according to Policy: x-oss-date is in the future."));
    }
    let ends = expiration.min(made + LONGEST_LIFE);
    check_expiration(now, ends)
}

fn check_expiration(now: SystemTime, expiration: SystemTime) -> Result<(), Error> {
    match now > expiration {
        true => Err(Error::access_denied("Invalid according to Policy: Policy expired.")),
        false => Ok(()),
    }
}
