//! Objects: what is put can be read, listed and deleted as with OSS, and survives.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CallbackServer, SECRET, builder, call, eventually, ok, send_raw};
use oss_standin::{Standin, StartError};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_answered_with_its_digests_and_read_back_as_described() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let put = call("PUT", "a/b c+ü.txt")
        .header("content-type", "text/plain")
        .header("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")
        .header("cache-control", "no-cache")
        .header("x-oss-meta-owner", "me")
        .body("123456789")
        .send(&standin);
    assert_eq!((put.status(), put.body.len()), (200, 0));
    assert_eq!(put.header("etag"), "\"25F9E794323B453885F5181F1B624D0B\"");
    assert_eq!(put.header("content-md5"), "JfnnlDI7RTiF9RgfG2JNCw==");
    assert_eq!(put.header("x-oss-hash-crc64ecma"), "11051210869376104954");
    let id = put.header("x-oss-request-id");
    assert!(id.len() == 24 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')), "{id}");

    let get = call("GET", "a/b c+ü.txt").send(&standin);
    let head = call("HEAD", "a/b c+ü.txt").send(&standin);
    assert_eq!((get.status(), get.text().as_str()), (200, "123456789"));
    assert_eq!((head.status(), head.body.len()), (200, 0));
    for message in [&get, &head] {
        assert_eq!(message.header("content-length"), "9");
        assert_eq!(message.header("content-type"), "text/plain");
        assert_eq!(message.header("etag"), "\"25F9E794323B453885F5181F1B624D0B\"");
        assert_eq!(message.header("cache-control"), "no-cache");
        assert_eq!(message.header("x-oss-meta-owner"), "me");
        assert_eq!(message.header("x-oss-object-type"), "Normal");
        assert_eq!(message.header("x-oss-hash-crc64ecma"), "11051210869376104954");
        assert!(httpdate::parse_http_date(message.header("last-modified")).is_ok());
    }
    assert_eq!(call("DELETE", "a/b c+ü.txt").send(&standin).status(), 204);
    assert_eq!(call("DELETE", "a/b c+ü.txt").send(&standin).status(), 204);
    assert_eq!(call("GET", "a/b c+ü.txt").send(&standin).element("Code"), "NoSuchKey");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_uploads_count_the_chunks_and_not_a_content_length_beside_them() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let chunked = call("PUT", "chunked").header("transfer-encoding", "chunked").body("A\r\n0123456789\r\n0\r\n\r\n");
    for call in
        [chunked.clone(), chunked.clone().header("content-length", "10"), chunked.header("expect", "100-continue")]
    {
        assert_eq!(call.send(&standin).status(), 200);
        assert_eq!(common::call("GET", "chunked").send(&standin).text(), "0123456789");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_leaves_what_was_there() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("PUT", "k").body("first").header("x-oss-forbid-overwrite", "true").send(&standin).status(), 200);
    let exists = call("PUT", "k").body("second").header("x-oss-forbid-overwrite", "true").send(&standin);
    assert_eq!((exists.status(), exists.element("Code").as_str()), (409, "FileAlreadyExists"));
    for digest in ["JfnnlDI7RTiF9RgfG2JNCw==", "no digest"] {
        let invalid = call("PUT", "k").body("second").header("content-md5", digest).send(&standin);
        assert_eq!((invalid.status(), invalid.element("Code").as_str()), (400, "InvalidDigest"));
    }
    let part = call("PUT", "k").signed_query("partNumber", "1").body("second").send(&standin);
    assert_eq!((part.status(), part.element("Code").as_str()), (501, "NotImplemented"));
    assert_eq!(call("GET", "k").send(&standin).text(), "first");
    // Nothing is left behind either.
    let bodies = data.path().join("buckets/examplebucket/bodies");
    assert_eq!(std::fs::read_dir(bodies).unwrap().count(), 1);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_stores_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    let bodies = data.path().join("buckets/examplebucket/bodies");
    let count = || std::fs::read_dir(&bodies).unwrap().count();
    let mut stream = std::net::TcpStream::connect(standin.address()).unwrap();
    stream.write_all(b"PUT /examplebucket/k HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    while count() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(call("GET", "k").send(&standin).status(), 404);
    let unmeasured = send_raw(standin.address(), b"PUT /examplebucket/k HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((unmeasured.status(), unmeasured.element("Code").as_str()), (411, "MissingContentLength"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_within_the_object_are_served_and_others_ignored() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let content: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(call("PUT", "k").body(content.clone()).send(&standin).status(), 200);
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=199990-", 199_990, 199_999),
        ("bytes=-7", 199_993, 199_999),
        ("bytes=-200000", 0, 199_999),
        ("bytes=0-1,3-4", 0, 1),
    ] {
        let get = call("GET", "k").header("range", range).send(&standin);
        assert_eq!((get.status(), get.header("content-range")), (206, format!("bytes {first}-{last}/200000").as_str()));
        assert!(get.body == content[first..=last], "{range}");
    }
    for range in [
        "bytes=200000-",
        "bytes=0-200000",
        "bytes=-200001",
        "bytes=9-5",
        "bytes=",
        "bytes=-",
        "bytes=-0",
        "bytes=a-b",
        "bytes=+1-2",
        "lines=0-1",
    ] {
        let get = call("GET", "k").header("range", range).send(&standin);
        assert_eq!((get.status(), get.body.len()), (200, 200_000), "{range}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_those_of_http_for_who_asks_for_that() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("PUT", "k").body("0123456789").send(&standin).status(), 200);
    assert_eq!(call("PUT", "empty").send(&standin).status(), 200);
    let get = |key: &str, range: &str| {
        call("GET", key).header("range", range).header("x-oss-range-behavior", "standard").send(&standin)
    };
    for (range, expected, content_range) in
        [("bytes=7-99", "789", "bytes 7-9/10"), ("bytes=-99", "0123456789", "bytes 0-9/10")]
    {
        let part = get("k", range);
        assert_eq!((part.status(), part.text().as_str()), (206, expected));
        assert_eq!(part.header("content-range"), content_range);
    }
    for (key, range) in [("k", "bytes=10-"), ("k", "bytes=10-20"), ("k", "bytes=-0"), ("empty", "bytes=0-0")] {
        let refused = get(key, range);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (416, "InvalidRange"), "{key} {range}");
        let size = if key == "k" { "10" } else { "0" };
        assert_eq!(refused.element("ActualObjectSize"), size);
        assert_eq!(refused.header("content-range"), format!("bytes */{size}"));
    }
    assert_eq!(get("k", "bytes=9-5").text(), "0123456789");
    let empty = call("GET", "empty").header("range", "bytes=0-0").send(&standin);
    assert_eq!((empty.status(), empty.body.len()), (200, 0));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_between_200_304_and_412() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let etag = call("PUT", "k").body("x").send(&standin).header("etag").to_owned();
    let modified = call("HEAD", "k").send(&standin).header("last-modified").to_owned();
    let (past, future) = ("Sun, 22 Nov 2020 12:00:00 GMT", "Sun, 22 Nov 2099 12:00:00 GMT");
    for (name, value, expected) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", etag.trim_matches('"'), 200),
        ("if-match", "\"0\"", 412),
        ("if-none-match", &etag, 304),
        ("if-none-match", "\"0\"", 200),
        ("if-modified-since", &modified, 304),
        ("if-modified-since", past, 200),
        ("if-unmodified-since", past, 412),
        ("if-unmodified-since", future, 200),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = call(method, "k").header(name, value).send(&standin);
            assert_eq!(answer.status(), expected, "{method} {name}: {value}");
        }
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_pages_in_key_order() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for key in ["a.txt", "dir/1", "dir/2", "dir/sub/3", "dis", "z&<é \u{1}"] {
        assert_eq!(call("PUT", key).body("x").send(&standin).status(), 200);
    }
    let list = |query: &str| call("GET", "").query(&format!("list-type=2&{query}")).send(&standin);
    let keys = |text: &str, element: &str| -> Vec<String> {
        text.split(&format!("<{element}>")).skip(1).map(|rest| rest.split("</").next().unwrap().to_owned()).collect()
    };

    let all = list("");
    assert_eq!(all.header("content-type"), "application/xml");
    assert_eq!(keys(&all.text(), "Key"), ["a.txt", "dir/1", "dir/2", "dir/sub/3", "dis", "z&amp;&lt;é \u{fffd}"]);
    assert_eq!(
        (all.element("KeyCount"), all.element("MaxKeys"), all.element("IsTruncated")),
        ("6".into(), "100".into(), "false".into())
    );
    assert_eq!(all.element("ETag"), "&quot;9DD4E461268C8034F5C8564E155C67A6&quot;");
    assert!(all.element("LastModified").ends_with(".000Z"));

    let encoded = list("encoding-type=url&prefix=z%26");
    assert_eq!(
        (keys(&encoded.text(), "Key"), encoded.element("Prefix")),
        (vec!["z%26%3C%C3%A9%20%01".to_owned()], "z%26".into())
    );
    assert_eq!(keys(&list("start-after=dir/2").text(), "Key")[0], "dir/sub/3");
    assert_eq!(list("fetch-owner=true&prefix=a").element("ID").len(), 16);
    assert!(list("prefix=a").element("Owner").is_empty());

    let grouped = list("delimiter=/&prefix=d");
    assert_eq!(keys(&grouped.text(), "Key"), ["dis"]);
    assert_eq!(grouped.text().matches("<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>").count(), 1);

    for (delimiter, expected) in [
        ("", &["a.txt", "dir/1", "dir/2", "dir/sub/3", "dis", "z&amp;&lt;é \u{fffd}"][..]),
        ("delimiter=/&", &["a.txt", "dir/", "dis", "z&amp;&lt;é \u{fffd}"]),
    ] {
        let mut seen = Vec::new();
        let mut page = list(&format!("{delimiter}max-keys=1"));
        loop {
            assert_eq!(page.element("KeyCount"), "1");
            // The first Prefix is that of the request.
            seen.extend(keys(&page.text(), "Prefix").into_iter().skip(1));
            seen.extend(keys(&page.text(), "Key"));
            assert_eq!(seen.len() < expected.len(), page.element("IsTruncated") == "true");
            if seen.len() >= expected.len() {
                break;
            }
            let token = page.element("NextContinuationToken");
            page = call("GET", "")
                .query(&format!("list-type=2&{delimiter}max-keys=1"))
                .signed_query("continuation-token", &token)
                .send(&standin);
        }
        assert_eq!(seen, expected);
    }
    for query in ["max-keys=0", "max-keys=1001", "max-keys=x", "encoding-type=base64"] {
        assert_eq!(list(query).element("Code"), "InvalidArgument", "{query}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_the_first_version_go_on_at_a_marker_and_name_the_owner() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for key in ["a b", "dir/1", "dir/2", "z"] {
        assert_eq!(call("PUT", key).body("x").send(&standin).status(), 200);
    }
    let list = |query: &str| call("GET", "").query(query).send(&standin);
    let all = list("encoding-type=url&marker=a%20b");
    assert_eq!((all.element("Marker"), all.element("Key")), ("a%20b".into(), "dir/1".into()));
    assert_eq!((all.element("IsTruncated"), all.element("NextMarker")), ("false".into(), String::new()));
    assert_eq!((all.element("MaxKeys"), all.element("KeyCount")), ("100".into(), String::new()));
    assert_eq!(all.text().matches("<Owner><ID>").count(), 3);

    let mut seen = Vec::new();
    let mut page = list("delimiter=/&max-keys=1");
    loop {
        let text = page.text();
        seen.extend(text.split("<Key>").nth(1).map(|rest| rest.split("</").next().unwrap().to_owned()));
        seen.extend(
            text.split("<CommonPrefixes><Prefix>").nth(1).map(|rest| rest.split("</").next().unwrap().to_owned()),
        );
        if page.element("IsTruncated") == "false" {
            break;
        }
        page = list(&format!("delimiter=/&max-keys=1&marker={}", page.element("NextMarker").replace(' ', "%20")));
    }
    assert_eq!(seen, ["a b", "dir/", "z"]);
    assert_eq!(list("list-type=3").element("Code"), "InvalidArgument");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_objects_are_deleted_at_once() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for key in ["a&b <é>", "tab\there", "quiet", "stays"] {
        assert_eq!(call("PUT", key).body("x").send(&standin).status(), 200);
    }
    let delete = |body: &str| call("POST", "").resource("delete").body(body);
    let body = "<?xml version=\"1.0\"?><Delete><Quiet>false</Quiet><Object><Key>a&amp;b &lt;é&gt;</Key></Object>\
        <Object><Key>tab&#9;here</Key></Object><Object><Key>never was</Key></Object></Delete>";
    let deleted = delete(body).send(&standin);
    assert_eq!(deleted.status(), 200);
    assert_eq!(deleted.text().matches("<Deleted><Key>").count(), 3);
    assert_eq!(deleted.element("Key"), "a&amp;b &lt;é&gt;");
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>quiet</Key></Object></Delete>";
    let deleted = delete(quiet).send(&standin);
    assert_eq!((deleted.status(), deleted.body.len()), (200, 0));
    let list = call("GET", "").send(&standin).text();
    assert_eq!((list.matches("<Key>").count(), list.contains("<Key>stays</Key>")), (1, true));
    assert_eq!(std::fs::read_dir(data.path().join("buckets/examplebucket/bodies")).unwrap().count(), 1);

    let encoded = delete("<Delete><Object><Key>a b</Key></Object></Delete>").header("encoding-type", "url");
    let url = encoded.send(&standin);
    assert_eq!((url.element("EncodingType"), url.element("Key")), ("url".into(), "a%20b".into()));
    assert_eq!(delete("<Delete>").send(&standin).element("Code"), "MalformedXML");
    let digest = delete(quiet).header("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==").send(&standin);
    assert_eq!(digest.element("Code"), "InvalidDigest");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_object_with_its_own_or_new_metadata() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).bucket("second-bucket").start().await.unwrap();
    let content = vec![7_u8; 2_500_000];
    let source = call("PUT", "dir/a b+é").header("content-type", "text/plain").header("x-oss-meta-a", "1");
    let put = source.body(content.clone()).send(&standin);
    let copy = |key: &str| call("PUT", key).header("x-oss-copy-source", "/examplebucket/dir/a%20b%2B%C3%A9");
    let copied = copy("copy").bucket("second-bucket").send(&standin);
    assert_eq!(copied.status(), 200);
    assert_eq!(copied.element("ETag"), put.header("etag").replace('"', "&quot;"));
    assert_eq!(copied.header("etag"), put.header("etag"));
    let as_in_a_form = call("PUT", "also").header("x-oss-copy-source", "/examplebucket/dir%2Fa+b%2B%C3%A9");
    assert_eq!(as_in_a_form.send(&standin).status(), 200);
    assert!(copied.element("LastModified").ends_with(".000Z"));
    let read = call("GET", "copy").bucket("second-bucket").send(&standin);
    assert!(read.body == content);
    for name in ["etag", "content-md5", "x-oss-hash-crc64ecma"] {
        assert_eq!(read.header(name), put.header(name), "{name}");
    }
    assert_eq!((read.header("content-type"), read.header("x-oss-meta-a")), ("text/plain", "1"));

    let replacing = copy("replaced").header("x-oss-metadata-directive", "REPLACE").header("x-oss-meta-b", "2");
    assert_eq!(replacing.send(&standin).status(), 200);
    let replaced = call("HEAD", "replaced").send(&standin);
    assert_eq!((replaced.header("x-oss-meta-a"), replaced.header("x-oss-meta-b")), ("", "2"));
    assert_eq!(replaced.header("content-type"), "application/octet-stream");

    // Onto itself, the metadata is replaced whatever the directive says.
    assert_eq!(copy("dir/a b+é").header("x-oss-meta-c", "3").send(&standin).status(), 200);
    let itself = call("GET", "dir/a b+é").send(&standin);
    assert!(itself.body == content);
    assert_eq!((itself.header("x-oss-meta-a"), itself.header("x-oss-meta-c")), ("", "3"));

    for (name, value, status, code) in [
        ("x-oss-forbid-overwrite", "true", 409, "FileAlreadyExists"),
        ("x-oss-metadata-directive", "MOVE", 400, "InvalidArgument"),
        ("x-oss-copy-source", "/examplebucket/none", 404, "NoSuchKey"),
        ("x-oss-copy-source", "/third-bucket/k", 404, "NoSuchBucket"),
        ("x-oss-copy-source", "examplebucket", 400, "InvalidArgument"),
        ("x-oss-copy-source-if-match", "\"0\"", 412, "PreconditionFailed"),
        ("x-oss-copy-source-if-none-match", put.header("etag"), 304, ""),
        ("x-oss-copy-source-if-unmodified-since", "Sun, 22 Nov 2020 12:00:00 GMT", 412, "PreconditionFailed"),
        ("x-oss-copy-source-if-modified-since", "Sun, 22 Nov 2099 12:00:00 GMT", 304, ""),
    ] {
        let refused = copy("replaced").header(name, value).send(&standin);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (status, code), "{name}: {value}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meta_of_an_object_is_a_few_facts() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let put = call("PUT", "k").body("123456789").header("x-oss-meta-a", "1").send(&standin);
    let meta = call("HEAD", "k").resource("objectMeta").send(&standin);
    assert_eq!((meta.status(), meta.header("content-length"), meta.header("etag")), (200, "9", put.header("etag")));
    assert!(!meta.header("last-modified").is_empty());
    assert_eq!((meta.header("x-oss-meta-a"), meta.header("content-type")), ("", ""));
    assert_eq!(call("HEAD", "none").resource("objectMeta").send(&standin).status(), 404);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_their_cause_in_xml_or_in_headers() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let raw = |request: &str| send_raw(standin.address(), format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    let missing = call("GET", "none").send(&standin);
    assert_eq!((missing.status(), missing.element("Code").as_str()), (404, "NoSuchKey"));
    assert_eq!(missing.element("RequestId"), missing.header("x-oss-request-id"));
    assert!(!missing.element("HostId").is_empty());

    let head = call("HEAD", "none").send(&standin);
    let xml = STANDARD.decode(head.header("x-oss-err")).unwrap();
    assert!(String::from_utf8(xml).unwrap().contains("<Code>NoSuchKey</Code>"));
    assert_eq!((head.status(), head.body.len()), (404, 0));

    assert_eq!(raw("GET /examplebucket/k").element("Code"), "AccessDenied");
    assert_eq!(raw("GET /examplebucket?acl").element("Code"), "AccessDenied");
    assert_eq!(call("OPTIONS", "k").send(&standin).element("Code"), "InvalidArgument");
    assert_eq!(call("PATCH", "k").send(&standin).element("Code"), "MethodNotAllowed");
    assert_eq!(call("POST", "k").send(&standin).element("Code"), "NotImplemented");
    standin.stop().await;

    let (other, data) = (builder(&data).credentials("other", SECRET), data);
    let standin = other.start().await.unwrap();
    assert_eq!(call("GET", "k").send(&standin).element("Code"), "InvalidAccessKeyId");
    standin.stop().await;
    let standin = builder(&data).anonymous(true).bucket("second-bucket").start().await.unwrap();
    let address = standin.address();
    let raw = |request: &str| {
        send_raw(address, format!("{request} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").as_bytes())
    };
    assert_eq!(raw("PUT /second-bucket/k").status(), 200);
    assert_eq!(raw("GET /second-bucket/k").text(), "x");
    let missing = raw("GET /third-bucket/k");
    assert_eq!(
        (missing.status(), missing.element("Code").as_str(), missing.element("EC").as_str()),
        (404, "NoSuchBucket", "0015-00000101")
    );
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_keys_never_become_paths() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for key in ["../../../escaped", "/etc/passwd", "a\0b", "..", "k\r\nx: y", &"k".repeat(1023)] {
        assert_eq!(call("PUT", key).body("x").send(&standin).status(), 200, "{key:?}");
        assert_eq!(call("GET", key).send(&standin).text(), "x", "{key:?}");
    }
    let mut names: Vec<_> = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["buckets", "keys", "lock"]);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_the_key_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let key = standin.public_key_pem().to_owned();
    assert_eq!(call("PUT", "k").body("x").header("x-oss-meta-a", "b").send(&standin).status(), 200);
    let before = call("HEAD", "k").send(&standin).headers;
    assert!(matches!(builder(&data).start().await, Err(StartError::DataInUse { .. })));
    standin.stop().await;

    let bucket = data.path().join("buckets/examplebucket");
    std::fs::write(bucket.join("bodies/orphan"), "left by a crash").unwrap();
    std::fs::write(bucket.join("objects/x.unfinished"), "left by a crash").unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(standin.public_key_pem(), key);
    let after = call("HEAD", "k").send(&standin).headers;
    for name in ["etag", "last-modified", "x-oss-meta-a", "content-length", "x-oss-hash-crc64ecma"] {
        assert_eq!(before.get(name), after.get(name));
    }
    assert_eq!(std::fs::read_dir(bucket.join("bodies")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(bucket.join("objects")).unwrap().count(), 1);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_that_was_stopped_has_let_go_of_its_data() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let standin = builder(&data).start().await.unwrap();
        // A connection that is kept open must not keep it from stopping.
        let _idle = std::net::TcpStream::connect(standin.address()).unwrap();
        assert_eq!(call("PUT", "k").body("x").send(&standin).status(), 200);
        standin.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_the_stand_in_does_not_wait_for_a_late_callback() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).fault("callback-late=10m".parse().unwrap()).start().await.unwrap();
    let server = CallbackServer::answering(vec![ok("{}")]);
    let upload = call("PUT", "k").body("x").callback(&json!({"callbackUrl": server.url("/"), "callbackBody": "a"}));
    let address = standin.address();
    let uploader = std::thread::spawn(move || upload.send_to(address).text());
    let object = data.path().join("buckets/examplebucket/objects");
    eventually("the object is there", || std::fs::read_dir(&object).unwrap().count() == 1);
    standin.stop().await;
    assert_eq!((uploader.join().unwrap().as_str(), server.request().text().as_str()), ("{}", "a"));
    builder(&data).start().await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_stand_ins_run_beside_each_other_and_dropping_one_stops_it() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = builder(&one).start().await.unwrap();
    let second = builder(&two).start().await.unwrap();
    assert_ne!(first.address(), second.address());
    assert_ne!(first.public_key_pem(), second.public_key_pem());
    assert_eq!(call("PUT", "k").body("x").send(&first).status(), 200);
    assert_eq!(call("GET", "k").send(&second).status(), 404);
    let address = first.address();
    drop(first);
    while std::net::TcpStream::connect(address).is_ok() {
        tokio::task::yield_now().await;
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_of_one_key_leave_one_whole_object() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let address = standin.address();
    let uploads: Vec<_> = (0..8_u8)
        .map(|number| {
            std::thread::spawn(move || {
                let body = vec![number; 100_000];
                assert_eq!(call("PUT", "k").body(body).send_to(address).status(), 200);
                let read = call("GET", "k").send_to(address).body;
                assert_eq!(read.len(), 100_000);
                assert!(read.iter().all(|byte| *byte == read[0]));
            })
        })
        .collect();
    for upload in uploads {
        tokio::task::spawn_blocking(|| upload.join().unwrap()).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(data.path().join("buckets/examplebucket/bodies")).unwrap().count(), 1);
    standin.stop().await;
}

#[tokio::test]
async fn faulty_settings_are_start_errors() {
    let data = tempfile::tempdir().unwrap();
    assert!(matches!(builder(&data).bucket("Not_A_Bucket").start().await, Err(StartError::BucketName { .. })));
    assert!(matches!(builder(&data).credentials("id", "").start().await, Err(StartError::Credentials)));
    assert!(matches!(builder(&data).listen("nowhere").start().await, Err(StartError::Listen { .. })));
    std::fs::write(data.path().join("broken.pem"), "no key").unwrap();
    let broken = builder(&data).key_file(data.path().join("broken.pem"));
    assert!(matches!(broken.start().await, Err(StartError::Key { .. })));
    std::fs::write(data.path().join("file"), "").unwrap();
    let misplaced = Standin::builder().data(data.path().join("file/below"));
    assert!(matches!(misplaced.start().await, Err(StartError::Data { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_what_is_not_imitated_are_checked_and_change_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for (name, good, bad) in [
        ("x-oss-object-acl", "public-read", "public"),
        ("x-oss-storage-class", "IA", "Cold"),
        ("x-oss-server-side-encryption", "AES256", "ROT13"),
        ("x-oss-forbid-overwrite", "false", "maybe"),
    ] {
        assert_eq!(call("PUT", "k").body("x").header(name, good).send(&standin).status(), 200);
        let refused = call("PUT", "other").body("x").header(name, bad).send(&standin);
        assert_eq!((refused.status(), refused.element("ArgumentName").as_str()), (400, name));
    }
    assert_eq!(call("GET", "other").send(&standin).status(), 404);
    let copied = call("PUT", "k").resource("partNumber=1&uploadId=0").header("x-oss-copy-source", "/examplebucket/k");
    assert!(copied.send(&standin).element("Message").contains("UploadPartCopy"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_an_unknown_operation_is_never_taken_for_another() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    assert_eq!(call("PUT", "k").body("x").send(&standin).status(), 200);
    let raw = |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1\r\n\r\ny");
        send_raw(standin.address(), request.as_bytes())
    };
    for request in [
        "PUT /examplebucket/k?retention",
        "PUT /examplebucket/k?legalHold=",
        "DELETE /examplebucket/k?anything",
        "POST /examplebucket/k?anything",
        "PUT /examplebucket/?cname",
        "GET /examplebucket/?cname",
        "DELETE /examplebucket/?overwriteConfig",
    ] {
        let refused = raw(request);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (501, "NotImplemented"), "{request}");
    }
    assert_eq!(call("GET", "k").send(&standin).text(), "x");
    let of_a_version = "<Delete><Object><Key>k</Key><VersionId>old</VersionId></Object></Delete>";
    assert_eq!(call("POST", "").resource("delete").body(of_a_version).send(&standin).status(), 501);
    assert_eq!(call("GET", "k").send(&standin).text(), "x");
    standin.stop().await;
}
