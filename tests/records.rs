//! What every record store must hold to, run on every backend, and what only one of them can get wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![cfg(any(feature = "embedded", feature = "dynamodb"))]

#[path = "records/conformance.rs"]
#[macro_use]
mod conformance;
#[cfg(feature = "dynamodb")]
#[path = "records/dynamodb.rs"]
mod dynamodb;
#[cfg(feature = "embedded")]
#[path = "records/embedded.rs"]
mod embedded;
#[cfg(feature = "dynamodb")]
#[path = "records/proxy.rs"]
mod proxy;
#[path = "records/samples.rs"]
mod samples;
