//! Bytes and limits in, thumbnails out: pure, no IO, no async.
