//! Buckets: they are made, listed, described and deleted as with OSS, and keep what they are told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CallbackServer, builder, call, eventually, ok, send_raw};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_once_and_deleted_when_it_is_empty() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let configuration = "<CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>";
    assert_eq!(call("HEAD", "").bucket("new-bucket").send(&standin).status(), 404);
    assert_eq!(call("PUT", "").bucket("new-bucket").body(configuration).send(&standin).status(), 200);
    assert_eq!(call("HEAD", "").bucket("new-bucket").send(&standin).status(), 200);
    assert_eq!(call("PUT", "k").bucket("new-bucket").body("x").send(&standin).status(), 200);
    // Making it again keeps what is in it.
    assert_eq!(call("PUT", "").bucket("new-bucket").send(&standin).status(), 200);
    standin.stop().await;

    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("GET", "k").bucket("new-bucket").send(&standin).text(), "x");
    let refused = call("DELETE", "").bucket("new-bucket").send(&standin);
    assert_eq!((refused.status(), refused.element("Code").as_str()), (409, "BucketNotEmpty"));
    assert_eq!(call("DELETE", "k").bucket("new-bucket").send(&standin).status(), 204);
    assert_eq!(call("DELETE", "").bucket("new-bucket").send(&standin).status(), 204);
    assert_eq!(call("DELETE", "").bucket("new-bucket").send(&standin).element("Code"), "NoSuchBucket");
    assert_eq!(call("GET", "").bucket("new-bucket").send(&standin).element("Code"), "NoSuchBucket");
    assert!(!data.path().join("buckets/new-bucket").exists());
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_configurations_that_oss_refuses_make_no_bucket() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for name in ["No", "-bucket", "under_score", "ab"] {
        let refused = call("PUT", "").bucket(name).send(&standin);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (400, "InvalidBucketName"), "{name}");
    }
    let new = || call("PUT", "").bucket("new-bucket");
    assert_eq!(new().body("<Other/>").send(&standin).element("Code"), "MalformedXML");
    assert_eq!(new().header("x-oss-acl", "everybody").send(&standin).element("Code"), "InvalidArgument");
    assert_eq!(std::fs::read_dir(data.path().join("buckets")).unwrap().count(), 1);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bucket_is_found_however_the_request_names_it() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    let port = standin.address().port();
    for (path, host, bucket) in [
        ("/path-style/", "127.0.0.1".to_owned(), "path-style"),
        ("/", "virtual-hosted.oss-cn-hangzhou.aliyuncs.com".to_owned(), "virtual-hosted"),
        ("/", format!("below-localhost.localhost:{port}"), "below-localhost"),
        ("/", format!("with-address.127.0.0.1.nip.io:{port}"), "with-address"),
    ] {
        let request = format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(send_raw(standin.address(), request.as_bytes()).status(), 200);
        assert!(data.path().join("buckets").join(bucket).is_dir(), "{bucket}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_listed_in_pages() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).bucket("other-a").bucket("other-b").start().await.unwrap();
    let list = |query: &str| call("GET", "").bucket("").query(query).send(&standin);
    let all = list("");
    assert_eq!((all.status(), all.text().matches("<Bucket>").count()), (200, 3));
    assert_eq!((all.element("ID").len(), all.element("IsTruncated")), (16, String::new()));
    assert_eq!((all.element("Name"), all.element("Location")), ("examplebucket".into(), "oss-cn-hangzhou".into()));
    assert_eq!(all.element("ExtranetEndpoint"), "oss-cn-hangzhou.aliyuncs.com");
    assert_eq!((all.element("Region"), all.element("StorageClass")), ("cn-hangzhou".into(), "Standard".into()));
    assert!(all.element("CreationDate").ends_with(".000Z"));
    let first = list("prefix=other&max-keys=1");
    assert_eq!((first.element("Name"), first.element("NextMarker")), ("other-a".into(), "other-a".into()));
    assert_eq!(list("prefix=other&marker=other-a").element("Name"), "other-b");
    assert_eq!(list("max-keys=0").element("Code"), "InvalidArgument");
    let unsigned = send_raw(standin.address(), b"GET / HTTP/1.1\r\nHost: oss-cn-hangzhou.aliyuncs.com\r\n\r\n");
    assert_eq!(unsigned.element("Code"), "AccessDenied");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_says_what_it_is_and_holds() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).region("eu-central-1").start().await.unwrap();
    for key in ["a", "b"] {
        assert_eq!(call("PUT", key).body("12345").send(&standin).status(), 200);
    }
    let get = |parameter: &str| call("GET", "").resource(parameter).send(&standin);
    let info = get("bucketInfo");
    assert_eq!((info.element("Name"), info.element("Grant")), ("examplebucket".into(), "private".into()));
    assert_eq!(info.element("IntranetEndpoint"), "oss-eu-central-1-internal.aliyuncs.com");
    assert_eq!(get("location").element("LocationConstraint"), "oss-eu-central-1");
    let stat = get("stat");
    assert_eq!((stat.element("ObjectCount"), stat.element("Storage")), ("2".into(), "10".into()));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_control_list_decides_what_unsigned_requests_may_do() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("PUT", "k").body("x").send(&standin).status(), 200);
    let raw = |request: &str| {
        send_raw(standin.address(), format!("{request} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\ny").as_bytes())
    };
    let status = |request: &str| raw(request).status();
    for (acl, read, write) in [("private", 403, 403), ("public-read", 200, 403), ("public-read-write", 200, 200)] {
        assert_eq!(call("PUT", "").resource("acl").header("x-oss-acl", acl).send(&standin).status(), 200);
        assert_eq!(call("GET", "").resource("acl").send(&standin).element("Grant"), acl);
        assert_eq!(status("GET /examplebucket/k"), read, "{acl}");
        assert_eq!(status("PUT /examplebucket/new"), write, "{acl}");
        for never in ["GET /examplebucket/", "DELETE /examplebucket/", "GET /examplebucket/?acl", "PUT /another/"] {
            assert_eq!(raw(never).element("Code"), "AccessDenied", "{never} with {acl}");
        }
    }
    assert_eq!(raw("GET /examplebucket/k?response-content-type=a").element("Code"), "InvalidArgument");
    let wrong = call("PUT", "").resource("acl").header("x-oss-acl", "default").send(&standin);
    assert_eq!(wrong.element("Code"), "InvalidArgument");
    assert_eq!(call("PUT", "").bucket("open-bucket").header("x-oss-acl", "public-read").send(&standin).status(), 200);
    standin.stop().await;
    let standin = builder(&data).start().await.unwrap();
    let read = send_raw(standin.address(), b"GET /open-bucket/k HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(read.element("Code"), "NoSuchKey");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_use_the_callback_that_a_policy_of_the_bucket_names() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let server = CallbackServer::answering(vec![ok("{}"), ok("{}")]);
    let callback = json!({"callbackUrl": server.url("/cb"), "callbackBody": "o=${object}&a=${x:a}"}).to_string();
    let policy = |name: &str, callback: &str| {
        format!(
            "<BucketCallbackPolicy><PolicyItem><PolicyName>{name}</PolicyName><Callback>{}</Callback><CallbackVar>{}\
             </CallbackVar></PolicyItem></BucketCallbackPolicy>",
            STANDARD.encode(callback),
            STANDARD.encode(r#"{"x:a":"stored"}"#)
        )
    };
    let policies = |method: &str| call(method, "").resource("comp=callback&policy");
    assert_eq!(policies("GET").send(&standin).element("Code"), "BucketCallbackPolicyNotExist");
    for (body, code) in [
        (policy("p", r#"{"callbackUrl":"u","callbackBody":""}"#), "InvalidArgument"),
        (policy("p", r#"{"callbackPolicy":"q"}"#), "BucketCallbackPolicyNotExist"),
        (policy("p", "{}"), "InvalidArgument"),
        ("<BucketCallbackPolicy/>".to_owned(), "MalformedXML"),
    ] {
        assert_eq!(policies("PUT").body(body.clone()).send(&standin).element("Code"), code, "{body}");
    }
    assert_eq!(policies("PUT").body(policy("p", &callback)).send(&standin).status(), 200);
    let stored = policies("GET").send(&standin);
    assert_eq!((stored.element("PolicyName"), stored.element("Callback")), ("p".into(), STANDARD.encode(&callback)));

    let named = json!({"callbackPolicy": "p"});
    let upload = call("PUT", "k").body("x").callback(&named);
    assert_eq!(upload.send(&standin).text(), "{}");
    let request = server.request();
    assert_eq!((request.start.as_str(), request.text().as_str()), ("POST /cb HTTP/1.1", "o=k&a=stored"));
    assert_eq!(upload.variables(&json!({"x:a": "given"})).send(&standin).status(), 200);
    assert_eq!(server.request().text(), "o=k&a=given");

    let unknown = call("PUT", "other").body("x").callback(&json!({"callbackPolicy": "q"})).send(&standin);
    assert_eq!((unknown.status(), unknown.element("PolicyName").as_str()), (404, "q"));
    assert_eq!(call("GET", "other").send(&standin).status(), 404);
    assert_eq!(policies("DELETE").send(&standin).status(), 204);
    assert_eq!(call("PUT", "k").body("x").callback(&named).send(&standin).status(), 404);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_under_an_upload_stays_deleted_and_the_upload_is_told() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    assert_eq!(call("PUT", "").bucket("new-bucket").send(&standin).status(), 200);
    let mut upload = TcpStream::connect(standin.address()).unwrap();
    upload.write_all(b"PUT /new-bucket/k HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nhal").unwrap();
    let bodies = data.path().join("buckets/new-bucket/bodies");
    eventually("the body is on its way to the disk", || fs::read_dir(&bodies).unwrap().count() == 1);

    assert_eq!(call("DELETE", "").bucket("new-bucket").send(&standin).status(), 204);
    // Another bucket of that name is none of the upload's business.
    assert_eq!(call("PUT", "").bucket("new-bucket").send(&standin).status(), 200);
    upload.write_all(b"ves").unwrap();
    let mut answer = [0; 4096];
    let count = upload.read(&mut answer).unwrap();
    let answer = String::from_utf8(answer[..count].to_vec()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("<Code>NoSuchBucket</Code>"), "{answer}");
    assert_eq!(call("GET", "").bucket("new-bucket").send(&standin).element("KeyCount"), "");
    assert_eq!(call("DELETE", "").bucket("new-bucket").send(&standin).status(), 204);
    standin.stop().await;

    let standin = builder(&data).anonymous(true).start().await.unwrap();
    assert_eq!(call("GET", "").bucket("new-bucket").send(&standin).element("Code"), "NoSuchBucket");
    assert_eq!(fs::read_dir(data.path().join("buckets")).unwrap().count(), 1);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_remains_of_a_deleted_bucket_go_at_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let remains = data.path().join("buckets/gone.deleted/bodies");
    fs::create_dir_all(&remains).unwrap();
    fs::write(remains.join("x"), "x").unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(fs::read_dir(data.path().join("buckets")).unwrap().count(), 1);
    standin.stop().await;
}
