//! Records to store.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oss_callback::record::{
    Facts, Lease, Plan, Reason, Record, RecordKey, SCHEMA, State, Thumbnail, ThumbnailState, Transition,
};

pub(crate) const BUCKET: &str = "examplebucket";

pub(crate) fn key(object: &str) -> RecordKey {
    RecordKey::new(BUCKET, object)
}

/// A record with nothing in it that need not be there.
pub(crate) fn plain(key: &RecordKey) -> Record {
    seen(None, key, "ETAG")
}

/// What becomes of `previous` when a version with this ETag, unlike any before, is seen.
pub(crate) fn seen(previous: Option<&Record>, key: &RecordKey, etag: &str) -> Record {
    let facts = Facts {
        etag: Some(etag.to_owned()),
        size: Some(0),
        mime: None,
        last_modified: None,
        version_id: None,
        crc64: None,
        own_output: false,
        confirmed: true,
    };
    match Record::observe(previous, key, &facts, None, &Plan::Record, Timestamp::UNIX_EPOCH) {
        Transition::Write(record) => *record,
        Transition::Unchanged => panic!("{etag} was seen before"),
    }
}

/// A record with every field set, as far from its default as it can be.
pub(crate) fn full(key: &RecordKey) -> Record {
    Record {
        bucket: key.bucket.clone(),
        object: key.object.clone(),
        etag: Some("D41D8CD98F00B204E9800998ECF8427E-3".to_owned()),
        size: Some(u64::MAX),
        mime: Some("image/jpeg; charset=\"utf-8\"".to_owned()),
        last_modified: Some("2026-02-28T23:59:59Z".parse().unwrap()),
        version_id: Some("CAEQNRiBgIDI".to_owned()),
        crc64: Some(u64::MAX),
        width: Some(u32::MAX),
        height: Some(0),
        generation: u64::MAX - 1,
        revision: u64::MAX,
        state: State::Processing,
        reason: Some(Reason::OutOfTime),
        confirmed: true,
        recheck: true,
        thumbnails: vec![made(), failed()],
        custom: custom(),
        attempts: u32::MAX,
        deferrals: u32::MAX,
        next_attempt: Some("2026-03-01T00:00:00.000000001Z".parse().unwrap()),
        lease: Some(Lease { owner: "worker 7".to_owned(), until: Timestamp::MAX }),
        first_seen: Timestamp::MIN,
        updated: "2026-03-01T00:00:00.123456789Z".parse().unwrap(),
        request_id: Some(String::new()),
        schema: SCHEMA,
    }
}

fn made() -> Thumbnail {
    Thumbnail {
        name: "small".to_owned(),
        state: ThumbnailState::Ready,
        bucket: BUCKET.to_owned(),
        key: "thumbnails/\u{1f5bc}".to_owned(),
        width: Some(256),
        height: Some(171),
        mime: Some("image/webp".to_owned()),
        size: Some(9_876),
        reason: None,
    }
}

fn failed() -> Thumbnail {
    Thumbnail {
        name: String::new(),
        state: ThumbnailState::Failed,
        bucket: String::new(),
        key: String::new(),
        width: None,
        height: None,
        mime: None,
        size: None,
        reason: Some(Reason::NotEncodable),
    }
}

fn custom() -> BTreeMap<String, String> {
    [("uid", "42"), ("empty", ""), ("a.b#c:d", "null"), ("\u{0}", "\u{0}\r\n\t\"\\"), ("名", "\u{10ffff}")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Object keys of which a careless store confuses some with others, or refuses some.
pub(crate) fn hostile_keys() -> Vec<RecordKey> {
    let longest = "é".repeat(511) + "x";
    assert_eq!(longest.len(), 1_023);
    let objects = [
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "a//b",
        "a/../b",
        "../",
        "..",
        ".",
        "/",
        "/a",
        "A",
        "a\u{0}",
        "a\u{0}b",
        "\u{0}",
        "a\n",
        "a\r\nb",
        "a b",
        "a+b",
        "a%2Fb",
        "a?b#c",
        "\"a\"",
        "'; --",
        "\u{e9}",
        "e\u{301}",
        "\u{202e}gpj.exe",
        "\u{feff}",
        "\u{10ffff}",
        "日本語/写真.jpg",
        &longest,
        &longest[..1_022],
    ];
    let in_first = objects.iter().map(|object| key(object));
    // As joined text, these differ from the ones above by where the slash stands.
    let in_others = [("a", "b/c"), ("examplebucke", "t/a"), ("examplebucket2", "a")]
        .map(|(bucket, object)| RecordKey::new(bucket, object));
    in_first.chain(in_others).collect()
}
