//! The contract of the port to OSS, held by the client of OSS against the stand-in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use oss_callback::objects::oss::{Oss, OssSettings};
use oss_callback::objects::{Objects, ObjectsError};
use oss_callback::record::{Facts, RecordKey};
use oss_standin::Standin;

struct Store {
    standin: Standin,
    _data: tempfile::TempDir,
}

impl Store {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let standin = Standin::builder()
            .bucket("examplebucket")
            .credentials("id", "secret")
            .data(data.path())
            .listen("127.0.0.1:0")
            .start()
            .await
            .unwrap();
        Self { standin, _data: data }
    }

    fn client(&self, change: impl FnOnce(&mut OssSettings)) -> Oss {
        let mut settings = OssSettings {
            endpoint: self.standin.endpoint().parse().unwrap(),
            region: "cn-hangzhou".to_owned(),
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".to_owned(),
            session_token: None,
            request_timeout: Duration::from_secs(2),
        };
        change(&mut settings);
        Oss::new(settings)
    }
}

fn key(object: &str) -> RecordKey {
    RecordKey::new("examplebucket", object)
}

/// What OSS says of an object that was just stored.
async fn stored(client: &Oss, object: &str, bytes: &'static [u8]) -> Facts {
    client.put(&key(object), "text/plain", Bytes::from_static(bytes)).await.unwrap();
    client.head(&key(object)).await.unwrap()
}

#[tokio::test]
async fn what_was_put_is_described_by_head_and_returned_by_get() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    for object in ["plain", "a/b/c.txt", "ü 你+&=?#%25%", "../up", "/slash//double/", "\"'<>\\`{}|^", "~-._!*()"] {
        let facts = stored(&client, object, b"hello").await;
        assert_eq!(facts.etag.as_deref(), Some("5D41402ABC4B2A76B9719D911017C592"), "{object}");
        assert_eq!((facts.size, facts.mime.as_deref()), (Some(5), Some("text/plain")));
        assert!(facts.confirmed && facts.last_modified.is_some() && facts.crc64.is_some());
        let bytes = client.get(&key(object), facts.etag.as_deref().unwrap(), 5).await.unwrap();
        assert_eq!(bytes.as_ref(), b"hello", "{object}");
    }
}

#[tokio::test]
async fn a_listing_names_each_object_once_in_order_and_says_of_it_what_head_says() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    let keys = ["ü 你+&=?#%25%", "a/b", "a/b+c", "a/b c", "a/<&>\"'", "a/\u{1}", "a//", "b", "~-._!*()"];
    for object in keys {
        stored(&client, object, b"hello").await;
    }
    let mut sorted = keys;
    sorted.sort_unstable();
    for (prefix, after) in
        [("", None), ("a/", None), ("a/b ", None), ("", Some("a/b+c")), ("a/", Some("a/b c")), ("z", None)]
    {
        let listing = client.list("examplebucket", prefix, after).await.unwrap();
        let wanted = sorted.iter().filter(|key| key.starts_with(prefix) && after.is_none_or(|after| **key > after));
        let listed: Vec<&str> = listing.objects.iter().map(|listed| listed.object.as_str()).collect();
        assert_eq!((listed, listing.more), (wanted.copied().collect(), false), "{prefix:?} {after:?}");
        for listed in &listing.objects {
            let head = client.head(&key(&listed.object)).await.unwrap();
            let facts = listed.facts();
            assert_eq!((facts.etag, facts.size, facts.last_modified), (head.etag, head.size, head.last_modified));
        }
    }
    let missing = client.list("otherbucket", "", None).await;
    assert!(matches!(&missing, Err(ObjectsError::Unavailable(why)) if why.contains("otherbucket")), "{missing:?}");
}

#[tokio::test]
async fn what_we_store_bears_our_mark() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    assert!(stored(&client, "ours", b"hello").await.own_output);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    assert_eq!(client.head(&key("none")).await, Err(ObjectsError::NotFound));
    assert_eq!(client.get(&key("none"), "AA", 10).await, Err(ObjectsError::NotFound));
}

#[tokio::test]
async fn another_version_than_the_one_asked_for_is_never_returned() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    let first = stored(&client, "o", b"first").await;
    stored(&client, "o", b"second").await;
    assert_eq!(client.get(&key("o"), first.etag.as_deref().unwrap(), 10).await, Err(ObjectsError::Changed));
}

#[tokio::test]
async fn more_bytes_than_the_limit_are_not_read() {
    let store = Store::start().await;
    let client = store.client(|_| {});
    let facts = stored(&client, "o", b"hello").await;
    let refused = client.get(&key("o"), facts.etag.as_deref().unwrap(), 4).await;
    assert_eq!(refused, Err(ObjectsError::TooLarge { limit: 4 }));
}

#[tokio::test]
async fn wrong_credentials_are_forbidden_and_not_missing() {
    let store = Store::start().await;
    let client = store.client(|settings| settings.access_key_secret = "wrong".to_owned());
    assert!(matches!(client.head(&key("o")).await, Err(ObjectsError::Forbidden(_))));
    assert!(matches!(client.put(&key("o"), "text/plain", Bytes::new()).await, Err(ObjectsError::Forbidden(_))));
    let Err(ObjectsError::Forbidden(why)) = client.list("examplebucket", "", None).await else {
        panic!("not forbidden")
    };
    assert!(why.contains("oss:ListObjects"), "{why}");
}

#[tokio::test]
async fn temporary_credentials_are_signed_with_their_token() {
    let store = Store::start().await;
    let client = store.client(|settings| settings.session_token = Some("token".to_owned()));
    stored(&client, "o", b"x").await;
    assert_eq!(client.list("examplebucket", "", None).await.unwrap().objects.len(), 1);
}

#[tokio::test]
async fn an_oss_that_is_out_of_reach_or_never_answers_is_unavailable() {
    let store = Store::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    for endpoint in [silent.as_str(), "http://127.0.0.1:1"] {
        let client = store.client(|settings| {
            settings.endpoint = endpoint.parse().unwrap();
            settings.request_timeout = Duration::from_millis(200);
        });
        assert!(matches!(client.head(&key("o")).await, Err(ObjectsError::Unavailable(_))), "{endpoint}");
        let listed = client.list("examplebucket", "", None).await;
        assert!(matches!(listed, Err(ObjectsError::Unavailable(_))), "{endpoint}: {listed:?}");
    }
}
