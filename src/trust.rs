//! Is it about our bucket, and is it true: the allow-list, then HEAD with our own credentials.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::callback::Callback;
use crate::error::{Failure, quoted};
use crate::objects::{Objects, ObjectsError};
use crate::record::{Facts, Reason, RecordKey, Upload};

/// The buckets, or parts of buckets, whose objects are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    bucket: String,
    prefix: String,
}

impl AllowList {
    /// Reads a comma-separated list of `name` or `name/prefix`.
    ///
    /// # Errors
    /// A sentence, if the list is empty or a name cannot be that of a bucket.
    pub fn parse(list: &str) -> Result<Self, String> {
        let allowed = list
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                let (bucket, prefix) = entry.split_once('/').unwrap_or((entry, ""));
                let valid = (1..=63).contains(&bucket.len())
                    && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
                if valid {
                    Ok(Allowed { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
                } else {
                    Err(format!("{} is no bucket name (lower-case letters, digits and `-`)", quoted(bucket)))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if allowed.is_empty() { Err("no bucket is named".to_owned()) } else { Ok(Self(allowed)) }
    }

    /// The bucket that a callback without one means: the only one there is.
    fn only_bucket(&self) -> Option<&str> {
        let first = self.0.first()?;
        self.0.iter().all(|allowed| allowed.bucket == first.bucket).then_some(first.bucket.as_str())
    }

    /// Whether every object of `bucket` whose key begins with `prefix` is in the list.
    pub fn covers(&self, bucket: &str, prefix: &str) -> bool {
        self.0.iter().any(|allowed| allowed.bucket == bucket && prefix.starts_with(&allowed.prefix))
    }

    fn admits(&self, key: &RecordKey) -> bool {
        self.0.iter().any(|allowed| allowed.bucket == key.bucket && key.object.starts_with(&allowed.prefix))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Allowed { bucket, prefix }) in self.0.iter().enumerate() {
            write!(formatter, "{}{bucket}/{prefix}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A callback about an object in the allow-list. Whether the object exists is not known yet.
#[derive(Debug)]
pub struct Admitted {
    key: RecordKey,
    callback: Callback,
}

impl Admitted {
    /// Judges the callback by the allow-list.
    ///
    /// # Errors
    /// [`Failure::MissingField`] if it names no bucket and the list does not name exactly one;
    /// [`Failure::BucketNotAllowed`].
    pub fn judge(mut callback: Callback, allow: &AllowList) -> Result<Self, Failure> {
        let bucket = callback.bucket.take().or_else(|| allow.only_bucket().map(str::to_owned)).ok_or_else(|| {
            Failure::MissingField {
                name: "bucket".to_owned(),
                hint: "Put bucket=${bucket} into callbackBody; without it only a single allowed bucket can be meant.",
            }
        })?;
        let key = RecordKey::new(bucket, callback.object.clone());
        if !allow.admits(&key) {
            return Err(Failure::BucketNotAllowed { bucket: quoted(&key.bucket) });
        }
        Ok(Self { key, callback })
    }

    /// The object that it is about.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The request id of the upload.
    pub fn request_id(&self) -> Option<&str> {
        self.callback.request_id.as_deref()
    }

    fn claims(&self) -> Facts {
        Facts {
            etag: self.callback.etag.clone(),
            size: self.callback.size,
            mime: self.callback.mime.clone(),
            last_modified: None,
            version_id: None,
            crc64: self.callback.crc64,
            own_output: false,
            confirmed: false,
        }
    }

    fn upload(&self) -> Upload {
        Upload {
            request_id: self.callback.request_id.clone(),
            width: self.callback.width,
            height: self.callback.height,
            custom: self.callback.custom.clone(),
        }
    }
}

/// Keeps other files from making what only this one may.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof;

/// What is now known about the object, and how far it may be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The facts: from HEAD, or, in the other two cases, the callback's claims.
    pub facts: Facts,
    /// What the callback adds; absent if it is about an older version than the facts.
    pub upload: Option<Upload>,
    _proof: Proof,
}

/// The end of the question whether a callback is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// OSS says so, or, where no OSS is configured, nobody was asked.
    Known(Confirmed),
    /// OSS could not be asked; these are claims.
    Unverified(Confirmed, Reason),
    /// OSS says that there is no such object.
    Gone,
    /// OSS could not be asked, and there is no callback that claims anything.
    Unasked(Reason),
}

/// Asks OSS about an object, of which a callback may claim something. Without OSS settings its claims are taken as they are,
/// unconfirmed.
pub async fn confirm(key: &RecordKey, claim: Option<&Admitted>, objects: Option<&dyn Objects>) -> Confirmation {
    let claimed =
        |admitted: &Admitted| Confirmed { facts: admitted.claims(), upload: Some(admitted.upload()), _proof: Proof };
    let Some(objects) = objects else {
        return match claim {
            Some(admitted) => Confirmation::Known(claimed(admitted)),
            None => Confirmation::Unasked(Reason::OssUnavailable),
        };
    };
    match objects.head(key).await {
        Ok(facts) => {
            // A callback that claims anything else is about an older version: what it says of its upload is not said of
            // this one.
            let upload = claim.filter(|admitted| admitted.claims().agree_with(&facts)).map(Admitted::upload);
            Confirmation::Known(Confirmed { facts, upload, _proof: Proof })
        }
        Err(ObjectsError::NotFound) => Confirmation::Gone,
        Err(error) => {
            let reason = match error {
                ObjectsError::Forbidden(_) => Reason::OssForbidden,
                _ => Reason::OssUnavailable,
            };
            tracing::error!(bucket = key.bucket, object = key.object, %error, "HEAD failed");
            match claim {
                Some(admitted) => Confirmation::Unverified(claimed(admitted), reason),
                None => Confirmation::Unasked(reason),
            }
        }
    }
}

/// The bearer token of the read routes, kept as its hash.
#[derive(Clone)]
pub struct ApiToken([u8; 32]);

impl ApiToken {
    /// Keeps the hash of a token.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the value of an `Authorization` header carries this token; compared in constant time.
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        let presented = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| Sha256::digest(token.trim()));
        presented.is_some_and(|hash| bool::from(hash.as_slice().ct_eq(&self.0)))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiToken(..)")
    }
}
