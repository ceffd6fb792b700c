//! A callback without an upload: the same checks, request and judgement as after one, told in full to who triggers it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use tokio::time::{Instant, timeout_at};

use super::address::CallbackUrl;
use super::compose::Composed;
use super::fire::{Tls, exchange, resolve};
use super::parameters::Callback;
use super::template::EmptyValue;
use super::uploader::{CallbackParameters, Refusal};
use super::verdict::{Answer, Failure};
use super::{Image, Upload};
use crate::StartError;
use crate::key::{CallbackKey, KeyBits};
use crate::raw::{NoAnswer, Observed, RawAnswer};
use crate::reply::new_request_id;

/// protocol: the time that each URL has to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The content that the default facts describe.
const CONTENT: &[u8] = b"A callback without an upload.\n";

/// What the callback says about an upload that need not have happened. By default it is that of a short text.
#[derive(Clone, Debug)]
pub struct UploadFacts {
    /// `${bucket}`
    pub bucket: String,
    /// `${object}`, the key
    pub object: String,
    /// `${etag}`, without quotes
    pub etag: String,
    /// `${size}` in bytes
    pub size: u64,
    /// `${mimeType}`
    pub mime_type: String,
    /// `${imageInfo.width}`, `${imageInfo.height}` and `${imageInfo.format}`, if the object is an image
    pub image: Option<Image>,
    /// `${crc64}`
    pub crc64: u64,
    /// `${contentMd5}` in Base64; OSS has none after a multipart upload
    pub content_md5: Option<String>,
    /// `${clientIp}`
    pub client: IpAddr,
    /// `${reqId}`; a new one for each callback if there is none
    pub request_id: Option<String>,
    /// `${operation}`, such as `PutObject`, `PostObject` or `CompleteMultipartUpload`
    pub operation: String,
}

impl Default for UploadFacts {
    fn default() -> Self {
        let md5 = Md5::digest(CONTENT);
        Self {
            bucket: "examplebucket".to_owned(),
            object: "triggered.txt".to_owned(),
            etag: md5.iter().map(|byte| format!("{byte:02X}")).collect(),
            size: CONTENT.len() as u64,
            mime_type: "text/plain".to_owned(),
            image: None,
            crc64: crc_fast::checksum(CrcAlgorithm::Crc64Xz, CONTENT),
            content_md5: Some(STANDARD.encode(md5)),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            request_id: None,
            operation: "PutObject".to_owned(),
        }
    }
}

impl UploadFacts {
    pub(crate) fn upload<'a>(&'a self, request_id: &'a str) -> Upload<'a> {
        Upload {
            bucket: &self.bucket,
            object: &self.object,
            etag: &self.etag,
            size: self.size,
            mime_type: &self.mime_type,
            image: self.image,
            crc64: self.crc64,
            content_md5: self.content_md5.as_deref(),
            client: self.client,
            request_id,
            operation: &self.operation,
        }
    }
}

/// Callbacks that can be fired without any upload, exactly as a stand-in fires them after one.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use oss_standin::{CallbackParameters, DEFAULT_KEY_URL, KeyBits, Trigger, UploadFacts};
///
/// let parameters = CallbackParameters::new("http://127.0.0.1:9000/callback", "object=${object}&uid=${x:uid}")
///     .variable("x:uid", "7");
/// let trigger = Trigger::new(&parameters, "key.pem".as_ref(), KeyBits::Bits512, DEFAULT_KEY_URL)?;
/// let fired = trigger.fire(&UploadFacts::default()).await?;
/// println!("the uploader is answered with {}", fired.relayed.status());
/// # Ok(())
/// # }
/// ```
pub struct Trigger {
    callback: Callback,
    key: CallbackKey,
    key_url: String,
    tls: Tls,
}

/// What became of a callback.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fired {
    /// Host and port of the URL that was called; of several the last one.
    pub authority: String,
    /// The request id that the callback carried.
    pub request_id: String,
    /// What the callback server answered.
    pub answer: Result<RawAnswer, NoAnswer>,
    /// What the uploader would have got.
    pub relayed: Relayed,
    /// From the first packet of the last URL until its answer was judged.
    pub elapsed: Duration,
}

/// What OSS answers the uploader with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// 200, with the answer of the callback server.
    Answer,
    /// 203 with code `CallbackFailed`: the object is stored and its callback failed.
    CallbackFailed {
        /// OSS's sentence.
        message: String,
        /// OSS's number for it.
        ec: &'static str,
    },
}

impl Relayed {
    /// The status that the uploader gets.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answer => 200,
            Self::CallbackFailed { .. } => 203,
        }
    }
}

impl From<Result<Answer, Failure>> for Relayed {
    fn from(judged: Result<Answer, Failure>) -> Self {
        match judged {
            Ok(_) => Self::Answer,
            Err(failure) => Self::CallbackFailed { message: failure.message, ec: failure.ec },
        }
    }
}

impl std::fmt::Debug for Trigger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trigger").field("key_url", &self.key_url).finish_non_exhaustive()
    }
}

/// Why a callback cannot be triggered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// OSS would refuse an upload with these parameters.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key or the certificates cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The key is too small to sign with.
    #[error("the callback could not be signed: {0}")]
    Unsigned(String),
}

impl Trigger {
    /// Checks the parameters and reads the key (PKCS#8 PEM), which is made if there is none. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`TriggerError`].
    pub fn new(
        parameters: &CallbackParameters,
        key_file: &Path,
        bits: KeyBits,
        key_url: impl Into<String>,
    ) -> Result<Self, TriggerError> {
        let callback = parameters.read()?;
        let key = CallbackKey::load_or_create(key_file, bits)?;
        let tls = Tls::trusting(&[]).map_err(StartError::Certificates)?;
        Ok(Self { callback, key, key_url: key_url.into(), tls })
    }

    /// What verifies its callbacks: SPKI in PEM.
    pub fn public_key_pem(&self) -> &str {
        self.key.public_pem()
    }

    /// Certificate authorities (PEM) that https callbacks trust beside the public ones.
    ///
    /// # Errors
    ///
    /// [`StartError::Certificates`].
    pub fn certificates(mut self, pem: &[u8]) -> Result<Self, StartError> {
        self.tls = Tls::trusting(pem).map_err(StartError::Certificates)?;
        Ok(self)
    }

    /// The request that would be sent to the first URL now, byte for byte.
    ///
    /// # Errors
    ///
    /// [`TriggerError::Unsigned`].
    pub fn request(&self, facts: &UploadFacts) -> Result<Vec<u8>, TriggerError> {
        let request_id = facts.request_id.clone().unwrap_or_else(new_request_id);
        match self.callback.urls.first() {
            Some(url) => self.compose(url, &facts.upload(&request_id)),
            None => Ok(Vec::new()),
        }
    }

    /// Fires one callback, trying the URLs in order until one succeeds.
    ///
    /// # Errors
    ///
    /// [`TriggerError::Unsigned`]. A callback that failed is no error: [`Fired::relayed`] tells.
    pub async fn fire(&self, facts: &UploadFacts) -> Result<Fired, TriggerError> {
        let request_id = facts.request_id.clone().unwrap_or_else(new_request_id);
        let mut fired = Fired {
            authority: String::new(),
            request_id: request_id.clone(),
            answer: Err(NoAnswer::Broken(None)),
            relayed: Err(Failure::cannot_connect()).into(),
            elapsed: Duration::ZERO,
        };
        for url in &self.callback.urls {
            let request = self.compose(url, &facts.upload(&request_id))?;
            let (answer, relayed, elapsed) = self.try_url(url, &request).await;
            fired =
                Fired { authority: url.authority.clone(), request_id: request_id.clone(), answer, relayed, elapsed };
            if fired.relayed == Relayed::Answer {
                break;
            }
        }
        Ok(fired)
    }

    fn compose(&self, url: &CallbackUrl, upload: &Upload<'_>) -> Result<Vec<u8>, TriggerError> {
        let Self { callback, key, key_url, .. } = self;
        let body = callback.body.fill(callback.body_type, EmptyValue::default(), upload, &callback.variables);
        let composed = Composed::new(url, callback, upload, &body, key, key_url)
            .map_err(|cause| TriggerError::Unsigned(cause.to_string()))?;
        Ok(composed.bytes(SystemTime::now()))
    }

    /// Judged as after an upload; beyond that, an answer that fails is read to its end, to be shown.
    async fn try_url(&self, url: &CallbackUrl, request: &[u8]) -> (Result<RawAnswer, NoAnswer>, Relayed, Duration) {
        let begun = Instant::now();
        let deadline = begun + TIME_LIMIT;
        let connecting = async { self.tls.connect(url, resolve(url).await?, self.callback.sni).await };
        let unreachable = |answer| (Err(answer), Err(Failure::cannot_connect()).into(), begun.elapsed());
        let (connection, peer) = match timeout_at(deadline, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(cause)) => return unreachable(NoAnswer::Connect { authority: url.authority.clone(), cause }),
            Err(_) => return unreachable(NoAnswer::Late(TIME_LIMIT)),
        };
        let mut observed = Observed::new(connection, request);
        let judged = timeout_at(deadline, exchange(&mut observed, request)).await;
        let elapsed = begun.elapsed();
        let judged = judged.unwrap_or_else(|_| Err(Failure::timeout(&peer.to_string(), TIME_LIMIT)));
        (observed.answer(deadline, TIME_LIMIT).await, judged.into(), elapsed)
    }
}
