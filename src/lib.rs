//! The receiver for Alibaba Cloud OSS upload callbacks.
//!
//! # The map
//!
//! A callback flows through these files, each of which proves one thing and hands on a type that only it can make:
//!
//! ```text
//! edge (server, lambda)   Incoming: nothing decoded, nothing normalised
//! route                   which route, and the candidates for the signed path
//! request                 SignedRequest: bounded, with all that a callback must have
//! signature, keys         Verified: signed by a trusted key
//! callback                Callback: typed fields
//! trust                   Admitted: in the allow-list; Confirmed: what OSS itself says
//! record                  Record: the transition, as a pure function
//! observe, records        stored durably, or lost to a faster writer and judged anew
//! worker, thumbnail       the thumbnails: in the request if they can be made in time, else afterwards
//! reconcile               what no callback told: the bucket listed, compared, repaired
//! reply                   the answer, always JSON, always with its length
//! ```
//!
//! [`app::App::handle`] is the one place that names the steps in order.
//!
//! # What must stay true
//!
//! * Nothing is parsed before it is verified; nothing is verified after it was changed.
//! * A signature says that OSS signed these bytes once, not that they are true or about our bucket.
//! * A 200 means: recorded durably, or known, or knowingly ignored.
//! * Only `wire` names adapters; only `config` reads the environment. A test holds the table of allowed imports.
//! * The function never depends on the stand-in; the stand-in never depends on the function.

pub mod app;
pub mod callback;
pub mod config;
pub mod error;
pub mod keys;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod log;
pub mod media;
pub mod objects;
pub mod observe;
pub mod reconcile;
pub mod record;
pub mod records;
pub mod reply;
pub mod request;
pub mod route;
pub mod served;
#[cfg(feature = "server")]
pub mod server;
pub mod signature;
pub mod thumbnail;
pub mod trust;
pub mod wire;
pub mod worker;
