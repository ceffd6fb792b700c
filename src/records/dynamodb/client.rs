//! Who asks, where and for how long; and the client made of that.

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// One repetition: it helps against a connection that died while the function was frozen, and two attempts fit the budget of
/// an answer.
const ATTEMPTS: u32 = 2;

/// Waiting before the repetition, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// Who asks. Its `Debug` shows the key id alone.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token, where the credentials are temporary.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Where the table is and how long an answer may take.
#[derive(Debug, Clone)]
pub struct DynamoDbSettings {
    /// AWS region, such as `eu-central-1`.
    pub region: String,
    /// URL of another endpoint than the region's own, such as a local one; `http://` is taken as it is.
    pub endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// Time for one operation with its repetition.
    pub operation_timeout: Duration,
    /// Time for one attempt.
    pub attempt_timeout: Duration,
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Names of the custom variables by which records are indexed; the same for everybody who writes to the table.
    pub indexed: Vec<String>,
}

impl DynamoDbSettings {
    /// The region's own endpoint and the time-outs that fit an answer within four seconds: 1 s for an operation, 500 ms for
    /// an attempt, 400 ms for a connection. No custom variable is indexed.
    pub fn new(region: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            credentials,
            operation_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(400),
            indexed: Vec::new(),
        }
    }
}

pub(super) fn make_client(settings: &DynamoDbSettings) -> Result<Client, String> {
    let plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = if plain { HttpClientBuilder::new().build_http() } else { https_client()? };
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(settings.operation_timeout)
        .operation_attempt_timeout(settings.attempt_timeout)
        .connect_timeout(settings.connect_timeout)
        .build();
    let (first, longest) = BACKOFF;
    let retries =
        RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(first).with_max_backoff(longest);
    let mut config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials(&settings.credentials))
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

fn credentials(given: &Credentials) -> aws_sdk_dynamodb::config::Credentials {
    let Credentials { access_key_id, secret_access_key, session_token } = given.clone();
    aws_sdk_dynamodb::config::Credentials::new(access_key_id, secret_access_key, session_token, None, "settings")
}

/// A client that trusts the roots that are compiled in: reading the system's takes several times as long, which every cold
/// start would pay.
fn https_client() -> Result<SharedHttpClient, String> {
    let roots = TrustStore::empty().with_pem_certificate(root_certificates());
    let context = TlsContext::builder().with_trust_store(roots).build().map_err(|error| error.to_string())?;
    Ok(HttpClientBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// The compiled-in roots in the only form that the client takes.
fn root_certificates() -> String {
    let mut pem = String::new();
    for certificate in TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(certificate, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_connection_leaves_time_for_a_second_attempt() {
        let credentials =
            Credentials { access_key_id: String::new(), secret_access_key: String::new(), session_token: None };
        let settings = DynamoDbSettings::new("eu-central-1", credentials);
        let (_, longest_wait) = BACKOFF;
        assert!(settings.attempt_timeout + longest_wait + settings.connect_timeout <= settings.operation_timeout);
    }

    #[test]
    fn every_root_certificate_is_one_block_of_the_trust_store() {
        let pem = root_certificates();
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
        assert_eq!(pem.matches("\n-----END CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
    }
}
