//! A stand-in for Alibaba Cloud OSS: real SDKs upload to it, and it fires genuinely signed upload callbacks.
//!
//! It is for laptops and tests. It speaks HTTP on loopback, keeps its objects on disk, and answers as OSS does, refusals
//! and failed callbacks included, so that an application finds out at home what it would find out in production. It
//! shares no code with the receiver of callbacks that stands beside it: a shared mistake would cancel out.
//!
//! ```no_run
//! # async fn example() -> Result<(), oss_standin::StartError> {
//! let standin = oss_standin::Standin::builder()
//!     .bucket("examplebucket")
//!     .data("target/standin")
//!     .listen("127.0.0.1:0")
//!     .credentials("id", "secret")
//!     .start()
//!     .await?;
//! println!("upload to {}, verify callbacks with {}", standin.endpoint(), standin.key_url());
//! standin.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The files, in the order in which a request passes through them:
//!
//! | file | does |
//! | --- | --- |
//! | `server` | connections; each request from reading to answer |
//! | `dispatch` | each request from its head to its operation |
//! | `connection` | the socket of a client, which a fault may cut |
//! | `admin` | the stand-in's own routes: faults and journal |
//! | `fault` | what is broken on purpose, and which requests and callbacks it strikes |
//! | `journal` | what was received, sent and answered |
//! | `request` | bucket and key out of path and Host, query parameters |
//! | `signature` | versions 1 and 4, by header and by query; pure |
//! | `operation` | which operation is asked for |
//! | `put`, `copy`, `get`, `delete`, `list` | the operations on objects |
//! | `post` | uploads by the form of a web page: the form, its policy, its signature |
//! | `multipart` | objects in parts: beginning, parts, completion, abortion, and the lists of both |
//! | `bucket` | the operations on buckets and their access control lists |
//! | `cors` | pages of other origins: rules, preflights, and the headers on every answer |
//! | `process` | pictures and films: what is asked for, image operations, `image/info`, ffmpeg |
//! | `upload` | what all uploads share: receiving, describing, calling back, answering |
//! | `store` | buckets and objects on disk |
//! | `callback` | parameters, the policies of buckets, template, request, sending, verdict; callbacks without an upload |
//! | `key` | the key that signs callbacks |
//! | `reply`, `error`, `xml` | answers and refusals |
//! | `raw` | recorded requests sent as they are, and their answers as they came |
//! | `fuzzing` | what fuzz targets enter at |
//!
//! Not imitated: access control lists of objects (buckets have theirs: what unsigned requests may do follows them),
//! versions, storage classes and encryption; their headers are ignored. Requests for operations that are not implemented
//! are refused with `NotImplemented`. More lenient than OSS: a bucket without CORS rules lets pages of all origins in
//! (see [`Builder::strict_cors`]), and deleting several objects needs no Content-MD5, which is checked if it is sent.
//!
//! What can be broken on purpose, so that an application is tried before production breaks it, is a [`Fault`]; what
//! happened is in the [`Journal`]. Both are also reached over HTTP below `/_standin/`, but not by web pages.
//!
//! Of processing: pictures are resized, cut, turned and converted (of an animation its first picture; WebP without loss;
//! not HEIC and AVIF), films are converted and pictures taken out of them where ffmpeg is installed.

mod admin;
mod bucket;
mod callback;
mod connection;
mod copy;
mod cors;
mod delete;
mod dispatch;
mod error;
mod fault;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod journal;
mod key;
mod list;
mod multipart;
mod operation;
mod post;
mod process;
mod put;
mod raw;
mod reply;
mod request;
mod server;
mod signature;
mod store;
mod upload;
mod xml;

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use callback::{
    BodyType, CallbackParameters, EmptyValue, Fired, Image, Refusal, Relayed, Trigger, TriggerError, UploadFacts,
};
use callback::{Callbacks, Tls};
use fault::Faults;
pub use fault::{
    ArmedFault, CallbackFault, FAULT_KINDS, FAULT_LIMITS, FAULT_OPERATIONS, Fault, FaultError, FaultKind, RequestFault,
};
use journal::Recorder;
pub use journal::{Event, Happened, JOURNAL_CAPACITY, Journal};
use key::CallbackKey;
pub use key::KeyBits;
use process::Processing;
pub use raw::{NoAnswer, RawAnswer, send_raw};
use server::{State, Stopping};
use store::{Store, is_bucket_name};

/// The access key id that a stand-in accepts unless told otherwise.
pub const DEFAULT_ACCESS_KEY_ID: &str = "LTAI5tStandinDevelopment";
/// The secret that goes with [`DEFAULT_ACCESS_KEY_ID`]. It is published here and protects nothing.
pub const DEFAULT_ACCESS_KEY_SECRET: &str = "StandinDevelopmentSecret";
/// Where a stand-in that listens on its default address serves the public key of its callbacks.
pub const DEFAULT_KEY_URL: &str = "http://127.0.0.1:9080/_standin/callback_pub_key_v1.pem";

/// A stand-in that is running. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Standin {
    address: SocketAddr,
    key_url: String,
    public_key_pem: String,
    faults: Arc<Faults>,
    journal: Journal,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    journal_file: Option<JoinHandle<()>>,
    in_use: mpsc::Receiver<Infallible>,
}

impl Standin {
    /// Settings of a stand-in that is yet to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The address it listens on; where port 0 was asked for, the port it was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to give to an SDK, such as `http://127.0.0.1:9080`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL that callbacks name in `x-oss-pub-key-url` (there in Base64).
    pub fn key_url(&self) -> &str {
        &self.key_url
    }

    /// The public key that callbacks verify with: SPKI in PEM.
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    /// What was received, sent and answered.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The faults in force, in the order in which they are asked whether they strike.
    pub fn faults(&self) -> Vec<ArmedFault> {
        self.faults.list().1
    }

    /// Adds a fault after those in force.
    pub fn add_fault(&self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Puts these faults in place of all others, with this seed. The same seed, faults and requests in the same order
    /// give the same disturbances.
    pub fn set_faults(&self, seed: u64, faults: impl IntoIterator<Item = Fault>) {
        self.faults.replace(Some(seed), faults.into_iter().collect());
    }

    /// Takes all faults away; requests that they hold already stay held.
    pub fn clear_faults(&self) {
        self.faults.replace(None, Vec::new());
    }

    /// Stops accepting connections and returns once the requests in progress are answered and the data folder is free
    /// for another stand-in, or once ten seconds have not sufficed for one or the other.
    pub async fn stop(mut self) {
        // Sending fails only if the server has ended already.
        let _ = self.stop.send(true);
        let _ = self.server.await;
        let _ = tokio::time::timeout(server::PATIENCE, self.in_use.recv()).await;
        // Ends with the last request, so only what the disk still owes is waited for.
        if let Some(journal_file) = self.journal_file {
            let _ = tokio::time::timeout(server::PATIENCE, journal_file).await;
        }
    }
}

/// Settings of a stand-in. Every one has a default.
#[derive(Clone)]
pub struct Builder {
    buckets: Vec<String>,
    data: PathBuf,
    listen: String,
    region: String,
    access_key_id: String,
    access_key_secret: String,
    key_file: Option<PathBuf>,
    key_bits: KeyBits,
    key_url: Option<String>,
    max_skew: Option<Duration>,
    forbid_private: bool,
    anonymous: bool,
    strict_cors: bool,
    empty_value: EmptyValue,
    callback_time_limit: Duration,
    callback_certificates: Vec<u8>,
    ffmpeg: PathBuf,
    fault_seed: u64,
    faults: Vec<Fault>,
    journal_file: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            buckets: Vec::new(),
            data: PathBuf::from("./oss-standin-data"),
            listen: "127.0.0.1:9080".to_owned(),
            region: "cn-hangzhou".to_owned(),
            access_key_id: DEFAULT_ACCESS_KEY_ID.to_owned(),
            access_key_secret: DEFAULT_ACCESS_KEY_SECRET.to_owned(),
            key_file: None,
            key_bits: KeyBits::default(),
            key_url: None,
            max_skew: Some(Duration::from_secs(900)),
            forbid_private: false,
            anonymous: false,
            strict_cors: false,
            empty_value: EmptyValue::default(),
            callback_time_limit: Duration::from_secs(5),
            callback_certificates: Vec::new(),
            ffmpeg: PathBuf::from("ffmpeg"),
            fault_seed: 0,
            faults: Vec::new(),
            journal_file: None,
        }
    }
}

impl std::fmt::Debug for Builder {
    /// Leaves the secret out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("buckets", &self.buckets)
            .field("data", &self.data)
            .field("listen", &self.listen)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a bucket; call it once for each. Without any there is one, `examplebucket`.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.buckets.push(name.into());
        self
    }

    /// The folder for objects and keys; it is made if need be, and only one stand-in at a time can use it. Default
    /// `./oss-standin-data`.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = directory.into();
        self
    }

    /// The address and port to listen on; port 0 picks a free one. Default `127.0.0.1:9080`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// The region that version 4 signatures must name, without `oss-`. Default `cn-hangzhou`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The access key that requests must be signed with. Default [`DEFAULT_ACCESS_KEY_ID`] and
    /// [`DEFAULT_ACCESS_KEY_SECRET`].
    pub fn credentials(mut self, access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        self.access_key_id = access_key_id.into();
        self.access_key_secret = access_key_secret.into();
        self
    }

    /// The private key that signs callbacks, PKCS#8 in PEM; made if there is none. Default: one in the data folder for
    /// each size.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// The size of a key that is made new. Default 512 bits.
    pub fn key_bits(mut self, bits: KeyBits) -> Self {
        self.key_bits = bits;
        self
    }

    /// The URL that callbacks claim their key is at, such as that of the real key. Default: where the stand-in serves
    /// its key.
    pub fn key_url(mut self, url: impl Into<String>) -> Self {
        self.key_url = Some(url.into());
        self
    }

    /// How far the time of a signature may be from now; `None` also ignores the expiry of presigned requests. Default
    /// 900 seconds.
    pub fn max_skew(mut self, skew: Option<Duration>) -> Self {
        self.max_skew = skew;
        self
    }

    /// Whether callbacks to loopback and private addresses are refused, as OSS does. Default false.
    pub fn forbid_private(mut self, forbid: bool) -> Self {
        self.forbid_private = forbid;
        self
    }

    /// Whether requests are accepted unsigned or with any signature. Default false.
    pub fn anonymous(mut self, anonymous: bool) -> Self {
        self.anonymous = anonymous;
        self
    }

    /// Whether a bucket without CORS rules keeps browsers' pages of other origins out, as OSS does. A bucket that has
    /// rules is judged by them in any case. Default false: all pages are let in.
    pub fn strict_cors(mut self, strict: bool) -> Self {
        self.strict_cors = strict;
        self
    }

    /// What a JSON callback body gets for a variable without a value. Default [`EmptyValue::Null`].
    pub fn empty_value(mut self, value: EmptyValue) -> Self {
        self.empty_value = value;
        self
    }

    /// The time that each URL of a callback has to answer. Default 5 seconds, as with OSS.
    pub fn callback_time_limit(mut self, limit: Duration) -> Self {
        self.callback_time_limit = limit;
        self
    }

    /// Certificate authorities (PEM) that https callbacks trust beside the public ones.
    pub fn callback_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.callback_certificates = pem.into();
        self
    }

    /// The program that films are worked on with: a name to be found in `PATH`, or an absolute path. Without it films
    /// are refused. Default `ffmpeg`.
    pub fn ffmpeg(mut self, program: impl Into<PathBuf>) -> Self {
        self.ffmpeg = program.into();
        self
    }

    /// Adds a fault; of several that could strike, the one that was added first does. Default: none.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The seed from which faults with a probability are decided. Default 0.
    pub fn fault_seed(mut self, seed: u64) -> Self {
        self.fault_seed = seed;
        self
    }

    /// A file to which the journal is appended, a line of JSON for each event. Default: none.
    pub fn journal_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal_file = Some(path.into());
        self
    }

    /// Starts the stand-in on the current Tokio runtime. When it returns, requests are answered.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is running then.
    pub async fn start(mut self) -> Result<Standin, StartError> {
        if self.buckets.is_empty() {
            self.buckets.push("examplebucket".to_owned());
        }
        if let Some(name) = self.buckets.iter().find(|name| !is_bucket_name(name)) {
            return Err(StartError::BucketName { name: name.clone() });
        }
        if self.access_key_id.is_empty() || self.access_key_secret.is_empty() {
            return Err(StartError::Credentials);
        }
        self.buckets.sort();
        self.buckets.dedup();
        let tls = Tls::trusting(&self.callback_certificates).map_err(StartError::Certificates)?;
        // Disk and key first: while they are not ready, nobody should be able to connect. Both block.
        let (data, buckets, bits) = (self.data.clone(), self.buckets, self.key_bits);
        let ffmpeg = self.ffmpeg;
        let key_file = self.key_file.unwrap_or_else(|| bits.key_file(&data));
        let journal_file = self.journal_file;
        let prepared = tokio::task::spawn_blocking(move || {
            let store = Store::open(&data, &buckets)?;
            let processing =
                Processing::new(ffmpeg, &data).map_err(|cause| StartError::Data { path: data.clone(), cause })?;
            let key = CallbackKey::load_or_create(&key_file, bits)?;
            let journal_file = journal_file.map(open_journal).transpose()?;
            Ok::<_, StartError>((store, processing, key, journal_file))
        });
        let (store, processing, key, journal_file) =
            prepared.await.map_err(|cause| StartError::Interrupted(cause.to_string()))??;
        let fail = |cause| StartError::Listen { address: self.listen.clone(), cause };
        let listener = TcpListener::bind(&self.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let key_url = self.key_url.unwrap_or_else(|| format!("http://{address}{}", server::PUBLIC_KEY_PATH));
        let public_key_pem = key.public_pem().to_owned();
        let (stop, stopping) = watch::channel(false);
        let stopping = Stopping(stopping);
        let (holder, in_use) = mpsc::channel(1);
        let faults = Arc::new(Faults::new(self.fault_seed, self.faults));
        let recorder = Arc::new(Recorder::new());
        let journal = recorder.journal();
        let state = State {
            region: self.region,
            access_key_id: self.access_key_id,
            access_key_secret: self.access_key_secret,
            max_skew: self.max_skew,
            anonymous: self.anonymous,
            strict_cors: self.strict_cors,
            store,
            callbacks: Callbacks {
                key,
                key_url: key_url.clone(),
                forbid_private: self.forbid_private,
                empty_value: self.empty_value,
                time_limit: self.callback_time_limit,
                tls,
                faults: Arc::clone(&faults),
                recorder: Arc::clone(&recorder),
                stopping: stopping.clone(),
                through: watch::Sender::default(),
            },
            processing,
            faults: Arc::clone(&faults),
            recorder,
            stopping,
            _in_use: holder,
        };
        let server = tokio::spawn(server::serve(listener, Arc::new(state)));
        let journal_file = journal_file.map(|file| tokio::spawn(journal::keep(journal.clone(), file)));
        Ok(Standin { address, key_url, public_key_pem, faults, journal, stop, server, journal_file, in_use })
    }
}

fn open_journal(path: PathBuf) -> Result<File, StartError> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    // It has what callbacks said and were answered.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map_err(|cause| StartError::Journal { path, cause })
}

/// Why a stand-in could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A name that no bucket can have.
    #[error("{name:?} is not a bucket name: 3 to 63 lower-case letters, digits and hyphens, no hyphen at either end")]
    BucketName {
        /// The name that was asked for.
        name: String,
    },
    /// The access key id or its secret is empty, which no request could be signed with.
    #[error("the access key id and its secret must not be empty")]
    Credentials,
    /// The address is taken, or is not one of this machine's.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The data folder cannot be used, or holds something that is not ours.
    #[error("cannot use {}: {cause}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Another stand-in uses the data folder.
    #[error("another stand-in uses {}", path.display())]
    DataInUse {
        /// The data folder.
        path: PathBuf,
    },
    /// The key that signs callbacks cannot be read or made.
    #[error("cannot use the key {}: {cause}", path.display())]
    Key {
        /// The file of the key.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The certificates for https callbacks cannot be used.
    #[error("cannot use the certificates for callbacks: {0}")]
    Certificates(String),
    /// The journal cannot be written to its file.
    #[error("cannot write the journal to {}: {cause}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The runtime is shutting down.
    #[error("interrupted: {0}")]
    Interrupted(String),
}
