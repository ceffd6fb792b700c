//! Multipart uploads: parts that become one object, whatever happens between.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use common::{Call, CallbackServer, Message, builder, call, ok};
use oss_standin::Standin;
use serde_json::json;

const PART: usize = 100 * 1024;

async fn start(data: &tempfile::TempDir) -> Standin {
    builder(data).start().await.unwrap()
}

/// A request of the upload; both parameters are signed, in the order of their names.
fn upload_call(method: &str, key: &str, id: &str, part: Option<u32>) -> Call {
    match part {
        None => call(method, key).signed_query("uploadId", id),
        Some(number) => {
            let pair = format!("partNumber={number}&uploadId={id}");
            call(method, key).bare_query(&pair)
        }
    }
}

fn initiate(standin: &Standin, key: &str) -> String {
    let begun = call("POST", key).bare_query("uploads").send(standin);
    assert_eq!(begun.status(), 200, "{}", begun.text());
    assert_eq!((begun.element("Bucket").as_str(), begun.element("Key").as_str()), ("examplebucket", key));
    begun.element("UploadId")
}

fn put_part(standin: &Standin, key: &str, id: &str, number: u32, body: &[u8]) -> Message {
    upload_call("PUT", key, id, Some(number)).body(body).send(standin)
}

fn list_of(parts: &[(u32, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

fn complete(standin: &Standin, key: &str, id: &str, parts: &[(u32, &str)]) -> Message {
    with_length(upload_call("POST", key, id, None), list_of(parts)).send(standin)
}

fn with_length(call: Call, body: String) -> Call {
    call.header("content-length", &body.len().to_string()).body(body)
}

fn code(message: &Message) -> (u16, String) {
    (message.status(), message.element("Code"))
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn bucket_folder(data: &tempfile::TempDir) -> PathBuf {
    data.path().join("buckets/examplebucket")
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_in_any_order_become_one_object_with_the_digests_of_oss() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "a/b.bin");
    let (first, second) = (vec![b'a'; PART], b"123456789".to_vec());
    let two = put_part(&standin, "a/b.bin", &id, 7, &second);
    assert_eq!(two.header("etag"), "\"25F9E794323B453885F5181F1B624D0B\"");
    assert_eq!(two.header("x-oss-hash-crc64ecma"), "11051210869376104954");
    let one = put_part(&standin, "a/b.bin", &id, 3, &first);
    assert_eq!(call("GET", "a/b.bin").send(&standin).status(), 404, "no object before the completion");

    let done = complete(&standin, "a/b.bin", &id, &[(3, one.header("etag")), (7, two.header("etag"))]);
    assert_eq!(done.status(), 200, "{}", done.text());
    assert_eq!(done.element("Key"), "a/b.bin");
    assert!(done.element("ETag").ends_with("-2&quot;"), "{}", done.text());
    assert!(done.element("Location").ends_with("/examplebucket/a/b.bin"));

    let whole = [first, second].concat();
    let put = call("PUT", "same").body(whole.clone()).send(&standin);
    let got = call("GET", "a/b.bin").send(&standin);
    assert_eq!(got.body, whole);
    assert_eq!(got.header("x-oss-object-type"), "Multipart");
    assert_eq!(got.header("content-md5"), "");
    assert_eq!(got.header("x-oss-hash-crc64ecma"), put.header("x-oss-hash-crc64ecma"));
    let across = call("GET", "a/b.bin").header("range", &format!("bytes={}-{}", PART - 2, PART + 2)).send(&standin);
    assert_eq!((across.status(), across.text().as_str()), (206, "aa123"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_is_fired_at_the_end_and_takes_the_place_of_the_xml() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let server = CallbackServer::answering(vec![ok("{\"a\":1}"), b"HTTP/1.1 500 No\r\n\r\n".to_vec()]);
    let callback = json!({
        "callbackUrl": server.url("/cb"),
        "callbackBody": "{\"o\":${object},\"op\":${operation},\"size\":${size},\"md5\":${contentMd5},\"v\":${x:v}}",
        "callbackBodyType": "application/json",
    });
    for (status, answer) in [(200, "{\"a\":1}"), (203, "CallbackFailed")] {
        let id = initiate(&standin, "k");
        let etag = put_part(&standin, "k", &id, 1, b"x").header("etag").to_owned();
        let call = with_length(upload_call("POST", "k", &id, None), list_of(&[(1, &etag)]));
        let done = call.callback(&callback).variables(&json!({"x:v": "1"})).send(&standin);
        assert_eq!(done.status(), status);
        assert!(done.text().contains(answer), "{}", done.text());
        let body = server.request().text();
        assert_eq!(body, "{\"o\":\"k\",\"op\":\"CompleteMultipartUpload\",\"size\":1,\"md5\":null,\"v\":\"1\"}");
        assert_eq!(call_status("GET", "k", &standin), 200, "the object stays");
        let again = upload_call("DELETE", "k", &id, None).send(&standin);
        assert_eq!(code(&again), refusal(404, "NoSuchUpload"));
    }
    standin.stop().await;
}

fn call_status(method: &str, key: &str, standin: &Standin) -> u16 {
    call(method, key).send(standin).status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_callback_or_list_leaves_the_upload_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let small = put_part(&standin, "k", &id, 1, b"small").header("etag").to_owned();
    let last = put_part(&standin, "k", &id, 2, b"last").header("etag").to_owned();
    let post = |body: String| with_length(upload_call("POST", "k", &id, None), body);
    for (call, status, expected) in [
        (post(list_of(&[(2, &last), (1, &small)])), 400, "InvalidPartOrder"),
        (post(list_of(&[(2, &last), (2, &last)])), 400, "InvalidPartOrder"),
        (post(list_of(&[(1, &small), (2, &last)])), 400, "EntityTooSmall"),
        (post(list_of(&[(1, &last)])), 400, "InvalidPart"),
        (post(list_of(&[(3, &last)])), 400, "InvalidPart"),
        (post(list_of(&[])), 400, "MalformedXML"),
        (post("<Complete".to_owned()), 400, "MalformedXML"),
        (post(list_of(&[(2, &last)])).header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), 400, "InvalidDigest"),
        (post(list_of(&[(2, &last)])).header("x-oss-complete-all", "yes"), 400, "InvalidArgument"),
        (post(list_of(&[(2, &last)])).header("x-oss-callback", "?"), 400, "InvalidArgument"),
    ] {
        assert_eq!(code(&call.send(&standin)), refusal(status, expected));
        assert_eq!(call_status("GET", "k", &standin), 404);
    }
    assert_eq!(complete(&standin, "k", &id, &[(2, &last)]).status(), 200);
    assert_eq!(call("GET", "k").send(&standin).text(), "last");
    assert_eq!(count(&bucket_folder(&data).join("bodies")), 1, "the part that was not wanted is gone");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_can_be_completed_without_a_list() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    put_part(&standin, "k", &id, 2, b"b");
    put_part(&standin, "k", &id, 1, &vec![b'a'; PART]);
    put_part(&standin, "k", &id, 2, b"again");
    let all = with_length(upload_call("POST", "k", &id, None), String::new()).header("x-oss-complete-all", "yes");
    assert_eq!(all.send(&standin).status(), 200);
    assert!(call("GET", "k").send(&standin).text().ends_with("aagain"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_parts_are_listed_page_by_page() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "a/1");
    for number in [1, 2, 5] {
        put_part(&standin, "a/1", &id, number, b"x");
    }
    let parts = upload_call("GET", "a/1", &id, None).query_more("max-parts=2").send(&standin);
    assert_eq!(parts.element("IsTruncated"), "true");
    assert_eq!(parts.element("NextPartNumberMarker"), "2");
    let rest = upload_call("GET", "a/1", &id, None).query_more("part-number-marker=2").send(&standin);
    assert_eq!((rest.element("PartNumber").as_str(), rest.element("Size").as_str()), ("5", "1"));
    assert_eq!(rest.element("IsTruncated"), "false");

    for key in ["a/2", "b", "c d"] {
        initiate(&standin, key);
    }
    let list = |query: &str| call("GET", "").bare_query("uploads").query_more(query).send(&standin);
    let grouped = list("delimiter=%2F&max-uploads=2");
    assert_eq!(grouped.element("Prefix"), "");
    assert!(grouped.text().contains("<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), "{}", grouped.text());
    assert_eq!((grouped.element("Key").as_str(), grouped.element("NextKeyMarker").as_str()), ("b", "b"));
    let next = list("delimiter=%2F&key-marker=b&encoding-type=url");
    assert_eq!((next.element("Key").as_str(), next.element("IsTruncated").as_str()), ("c%20d", "false"));
    let prefixed = list("prefix=a%2F&max-uploads=1");
    let marker = format!("prefix=a%2F&key-marker=a%2F1&upload-id-marker={}", prefixed.element("NextUploadIdMarker"));
    assert_eq!(list(&marker).element("Key"), "a/2");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_to_an_upload_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    for number in ["0", "10001", "-1", "x"] {
        let part = call("PUT", "k").bare_query(&format!("partNumber={number}&uploadId={id}")).body("x").send(&standin);
        assert_eq!(code(&part), refusal(400, "InvalidArgument"), "{number}");
    }
    assert_eq!(code(&put_part(&standin, "other", &id, 1, b"x")), refusal(404, "NoSuchUpload"));
    assert_eq!(code(&put_part(&standin, "k", "../../x", 1, b"x")), refusal(404, "NoSuchUpload"));
    assert_eq!(upload_call("DELETE", "k", &id, None).send(&standin).status(), 204);
    assert_eq!(code(&put_part(&standin, "k", &id, 1, b"x")), refusal(404, "NoSuchUpload"));
    assert_eq!(code(&upload_call("GET", "k", &id, None).send(&standin)), refusal(404, "NoSuchUpload"));

    call("PUT", "there").body("x").send(&standin);
    let again = call("POST", "there").bare_query("uploads").header("x-oss-forbid-overwrite", "true").send(&standin);
    assert_eq!(code(&again), refusal(409, "FileAlreadyExists"));
    assert_eq!(count(&bucket_folder(&data).join("uploads")), 0);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    standin.stop().await;
    fs::write(bucket_folder(&data).join("bodies/stray"), "x").unwrap();
    fs::create_dir(bucket_folder(&data).join("uploads/HALFBEGUN")).unwrap();

    let standin = start(&data).await;
    assert_eq!(count(&bucket_folder(&data).join("bodies")), 1);
    assert_eq!(count(&bucket_folder(&data).join("uploads")), 1);
    assert_eq!(complete(&standin, "k", &id, &[(1, &etag)]).status(), 200);
    standin.stop().await;
    let standin = start(&data).await;
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_record_of_a_completed_upload_is_gone_costs_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    let record = bucket_folder(&data).join("uploads").join(&id);
    let kept = data.path().join("kept");
    copy(&record, &kept);
    assert_eq!(complete(&standin, "k", &id, &[(1, &etag)]).status(), 200);
    standin.stop().await;

    copy(&kept, &record);
    let standin = start(&data).await;
    assert!(!record.exists());
    assert_eq!(code(&upload_call("DELETE", "k", &id, None).send(&standin)), refusal(404, "NoSuchUpload"));
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    call("DELETE", "k").send(&standin);
    standin.stop().await;

    // The same record once more, now that its files are gone with the object.
    copy(&kept, &record);
    let standin = start(&data).await;
    assert!(!record.exists());
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_completions_at_once_one_wins() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    let address = standin.address();
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let complete = || {
            let call = with_length(upload_call("POST", "k", &id, None), list_of(&[(1, &etag)]));
            scope.spawn(move || code(&call.send_to(address)))
        };
        let running: Vec<_> = (0..8).map(|_| complete()).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, code)| code == "NoSuchUpload").count(), 7, "{answers:?}");
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_an_ended_upload_is_cleared_away_does_not_bring_it_back() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    put_part(&standin, "k", &id, 2, b"not wanted");
    let (record, kept) = (bucket_folder(&data).join("uploads").join(&id), data.path().join("kept"));
    copy(&record, &kept);
    assert_eq!(complete(&standin, "k", &id, &[(1, &etag)]).status(), 200);
    standin.stop().await;

    // The record of an upload is the first of its files to go; here the rest was still there.
    copy(&kept, &record);
    fs::remove_file(record.join("upload.json")).unwrap();
    let standin = start(&data).await;
    assert!(!record.exists());
    assert_eq!(code(&upload_call("GET", "k", &id, None).send(&standin)), refusal(404, "NoSuchUpload"));
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    standin.stop().await;
}

/// The answer to a part of which half was sent before `meanwhile`, and half after it.
fn interrupted_part(standin: &Standin, key: &str, id: &str, folder: &Path, meanwhile: impl FnOnce()) -> Message {
    let before = count(folder);
    let mut stream = TcpStream::connect(standin.address()).unwrap();
    let target = format!("/examplebucket/{key}?partNumber=1&uploadId={id}");
    write!(stream, "PUT {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
    while count(folder) == before {
        std::thread::yield_now();
    }
    meanwhile();
    stream.write_all(b"half").unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    Message::parse(&received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_under_way_when_its_upload_ends_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    let bodies = bucket_folder(&data).join("bodies");
    let id = initiate(&standin, "k");
    let late = interrupted_part(&standin, "k", &id, &bodies, || {
        assert_eq!(upload_call("DELETE", "k", &id, None).send(&standin).status(), 204);
    });
    assert_eq!(code(&late), refusal(404, "NoSuchUpload"));
    assert_eq!(count(&bodies), 0);

    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    let late = interrupted_part(&standin, "k", &id, &bodies, || {
        assert_eq!(complete(&standin, "k", &id, &[(1, &etag)]).status(), 200);
    });
    assert_eq!(code(&late), refusal(404, "NoSuchUpload"));
    assert_eq!(count(&bodies), 1);
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_with_one_number_at_once_leave_one_part() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let address = standin.address();
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let call = upload_call("PUT", "k", &id, Some(1)).body([number; 10]);
            scope.spawn(move || assert_eq!(call.send_to(address).status(), 200));
        }
    });
    assert_eq!(count(&bucket_folder(&data).join("bodies")), 1);
    let listed = upload_call("GET", "k", &id, None).send(&standin).element("ETag");
    assert_eq!(complete(&standin, "k", &id, &[(1, &listed)]).status(), 200);
    assert_eq!(call("GET", "k").send(&standin).body.len(), 10);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_may_forbid_to_overwrite_and_the_upload_stays() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    let etag = put_part(&standin, "k", &id, 1, b"part").header("etag").to_owned();
    call("PUT", "k").body("put").send(&standin);
    let forbidding = with_length(upload_call("POST", "k", &id, None), list_of(&[(1, &etag)]));
    let refused = forbidding.header("x-oss-forbid-overwrite", "true").send(&standin);
    assert_eq!(code(&refused), refusal(409, "FileAlreadyExists"));
    assert_eq!(call("GET", "k").send(&standin).text(), "put");
    assert_eq!(complete(&standin, "k", &id, &[(1, &etag)]).status(), 200);
    assert_eq!(call("GET", "k").send(&standin).text(), "part");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_an_upload_is_not_empty() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let id = initiate(&standin, "k");
    assert_eq!(code(&call("DELETE", "").send(&standin)), refusal(409, "BucketNotEmpty"));
    assert_eq!(upload_call("DELETE", "k", &id, None).send(&standin).status(), 204);
    assert_eq!(call("DELETE", "").send(&standin).status(), 204);
    standin.stop().await;
}
