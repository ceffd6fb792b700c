//! Which keys are trusted. The published key is built in; no key is ever fetched.

use crate::signature::{KeyError, KeySource, PublicKey};

/// The two addresses under which OSS publishes its callback key. Both occur in genuine requests and mean the same key.
pub const PUBLISHED_URLS: [&str; 2] =
    ["https://gosspublic.alicdn.com/callback_pub_key_v1.pem", "http://gosspublic.alicdn.com/callback_pub_key_v1.pem"];

const PUBLISHED_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKs/JBGzwUB2aVht4crBx3oIPBLNsjGs
C0fTXv+nvlmklvkcolvpvXLTjaxUHR3W9LXxQ2EHXAJfCB+6H2YF1k8CAwEAAQ==
-----END PUBLIC KEY-----
";

/// The keys that may sign a callback, each under the URL that a callback names it by.
#[derive(Debug, Clone)]
pub struct TrustedKeys(Vec<(String, PublicKey)>);

impl TrustedKeys {
    /// The published key alone.
    ///
    /// # Errors
    /// Never for the key that is built in; the signature is that of every other key.
    pub fn published() -> Result<Self, KeyError> {
        let key = PublicKey::from_pem(PUBLISHED_KEY)?;
        Ok(Self(PUBLISHED_URLS.iter().map(|url| ((*url).to_owned(), key.clone())).collect()))
    }

    /// Trusts one more key. An entry for a published URL replaces the built-in key under both of its URLs.
    #[must_use]
    pub fn with(mut self, url: &str, key: &PublicKey) -> Self {
        let published = PUBLISHED_URLS.contains(&url);
        let names = if published { PUBLISHED_URLS.to_vec() } else { vec![url] };
        self.0.retain(|(known, _)| !names.contains(&known.as_str()));
        self.0.extend(names.into_iter().map(|name| (name.to_owned(), key.clone())));
        self
    }
}

impl KeySource for TrustedKeys {
    fn key(&self, url: &[u8]) -> Option<&PublicKey> {
        self.0.iter().find(|(known, _)| known.as_bytes() == url).map(|(_, key)| key)
    }
}
