//! What a bucket is told about itself.

use serde::{Deserialize, Serialize};

/// Everything that stands in `settings.json`. A field that an older file lacks has its default.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Unix time in milliseconds.
    pub(crate) created: i64,
    #[serde(default)]
    pub(crate) acl: Acl,
    /// None until rules are stored.
    #[serde(default)]
    pub(crate) cors: Option<Cors>,
    #[serde(default)]
    pub(crate) callback_policies: Vec<CallbackPolicy>,
}

impl Settings {
    pub(super) fn new() -> Self {
        let created = jiff::Timestamp::now().as_millisecond();
        Self { created, acl: Acl::default(), cors: None, callback_policies: Vec::new() }
    }
}

/// What unsigned requests may do with the objects of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Acl {
    /// Nothing.
    #[default]
    Private,
    PublicRead,
    PublicReadWrite,
}

impl Acl {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "private" => Some(Self::Private),
            "public-read" => Some(Self::PublicRead),
            "public-read-write" => Some(Self::PublicReadWrite),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
        }
    }
}

/// Which web pages may use a bucket, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cors {
    pub(crate) rules: Vec<CorsRule>,
    /// Whether `Vary: Origin` is sent in any case.
    pub(crate) response_vary: bool,
}

/// One rule; the first that fits counts. Origins and headers may hold one `*` each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CorsRule {
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allowed_methods: Vec<String>,
    pub(crate) allowed_headers: Vec<String>,
    pub(crate) expose_headers: Vec<String>,
    pub(crate) max_age_seconds: Option<u32>,
}

/// A callback that uploads ask for by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallbackPolicy {
    pub(crate) name: String,
    /// Base64, as it was sent.
    pub(crate) callback: String,
    /// Base64, as it was sent.
    pub(crate) callback_var: Option<String>,
}
