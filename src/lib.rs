//! The receiver for Alibaba Cloud OSS upload callbacks.

pub mod media;
pub mod record;
pub mod records;
pub mod thumbnail;
