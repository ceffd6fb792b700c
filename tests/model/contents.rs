//! What the objects hold, and what must come of it.

use std::io::Cursor;
use std::sync::LazyLock;

use bytes::Bytes;
use image::{ImageFormat, Rgb, RgbImage};
use oss_callback::record::{Reason, RecordKey, State};

use super::reference::Content;
use super::world::BUCKET;

static RED: LazyLock<Bytes> = LazyLock::new(|| picture([200, 10, 10], 8, 6));
static BLUE: LazyLock<Bytes> = LazyLock::new(|| picture([10, 10, 200], 6, 8));
static POISON: LazyLock<Bytes> = LazyLock::new(|| picture([10, 200, 10], 8, 8));

fn picture(colour: [u8; 3], width: u32, height: u32) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb(colour)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

/// The object with this number.
pub fn key_of(key: usize) -> RecordKey {
    RecordKey::new(BUCKET, ["a.png", "b/c"][key])
}

pub fn bytes(content: Content) -> Bytes {
    match content {
        Content::Red | Content::RedAsText => RED.clone(),
        Content::Blue => BLUE.clone(),
        Content::Poison => POISON.clone(),
        Content::Text | Content::TextAsPicture => Bytes::from_static(b"just words"),
        Content::Broken => RED.slice(..RED.len() / 2),
    }
}

pub const fn mime(content: Content) -> &'static str {
    match content {
        Content::RedAsText | Content::Text => "text/plain",
        _ => "image/png",
    }
}

/// How the record of such an object stands at rest.
pub const fn end(content: Content) -> (State, Option<Reason>) {
    match content {
        Content::Red | Content::Blue => (State::Ready, None),
        Content::RedAsText | Content::Text => (State::Recorded, None),
        Content::TextAsPicture | Content::Broken => (State::Failed, Some(Reason::Undecodable)),
        Content::Poison => (State::Failed, Some(Reason::Exhausted)),
    }
}
