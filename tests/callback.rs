//! What the function answers to callbacks, genuine and other, over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::{Function, Signed, repository};

/// A recorded request: its bytes, and where path, query and body lie.
struct Genuine {
    name: String,
    target: String,
    head: String,
    body: Vec<u8>,
}

impl Genuine {
    fn all() -> Vec<Self> {
        let mut all: Vec<Self> = std::fs::read_dir(repository("events/genuine"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
            .map(|path| {
                let bytes = std::fs::read(&path).unwrap();
                let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                Self {
                    name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                    target: head.split(' ').nth(1).unwrap().to_owned(),
                    head,
                    body: bytes[end + 4..].to_vec(),
                }
            })
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(all.len() >= 4, "the recorded callbacks are there");
        all
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.with(&self.head.clone(), &self.body)
    }

    fn with(&self, head: &str, body: &[u8]) -> Vec<u8> {
        [head.as_bytes(), b"\r\n\r\n", body].concat()
    }

    fn with_target(&self, target: &str) -> Vec<u8> {
        self.with(&self.head.replacen(&self.target, target, 1), &self.body)
    }

    fn authorization(&self) -> String {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with("authorization:")).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

async fn function_for(genuine: &[Genuine], more: &[&str]) -> Function {
    let paths: Vec<&str> = genuine.iter().map(Genuine::path).chain(more.iter().copied()).collect();
    Function::start(&[("OSS_CALLBACK_PATH", &paths.join(",")), ("OSS_CALLBACK_BUCKETS", "yonghu-test")]).await
}

#[tokio::test]
async fn every_genuine_callback_is_proven_and_only_its_body_may_be_refused() {
    let genuine = Genuine::all();
    let function = function_for(&genuine, &[]).await;
    for callback in &genuine {
        let answer = function.send(&callback.bytes()).await;
        let expected = match callback.name.as_str() {
            "full-header-set" | "trailing-slash" | "query-token" => (200, "recorded"),
            // These name no object.
            "query-in-path" | "json-body" => (400, "missing_field"),
            // These were signed as JSON, but are none.
            "json-type-form-layout" | "json-type-not-json" => (400, "bad_body"),
            other => panic!("say what is expected of {other}"),
        };
        assert_eq!((answer.status, answer.outcome().as_str()), expected, "{}", callback.name);
    }
    let record = function.read("/records/yonghu-test/headSculpture/jikang2.jpg").await.json();
    assert_eq!((record["size"].as_u64(), record["mime"].as_str()), (Some(108_904), Some("image/jpeg")));
    assert_eq!(record["request_id"], "5CF3E7821AB22D0FDB86704D");
}

#[tokio::test]
async fn one_flipped_bit_in_body_query_or_signature_is_a_mismatch() {
    let genuine = Genuine::all();
    let function = function_for(&genuine, &[]).await;
    for callback in &genuine {
        for bit in (0..callback.body.len() * 8).step_by(7) {
            let answer = function.send(&callback.with(&callback.head, &flipped(&callback.body, bit))).await;
            assert_eq!((answer.status, answer.outcome().as_str()), (403, "signature_mismatch"), "{}", callback.name);
        }
        let signature = STANDARD.decode(callback.authorization()).unwrap();
        for bit in (0..signature.len() * 8).step_by(11) {
            let head = callback.head.replace(&callback.authorization(), &STANDARD.encode(flipped(&signature, bit)));
            let answer = function.send(&callback.with(&head, &callback.body)).await;
            assert_eq!((answer.status, answer.outcome().as_str()), (403, "signature_mismatch"), "{}", callback.name);
        }
        if let Some((path, query)) = callback.target.split_once('?') {
            for at in 0..query.len() {
                let mut changed = query.as_bytes().to_vec();
                changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
                let target = format!("{path}?{}", String::from_utf8(changed).unwrap());
                let answer = function.send(&callback.with_target(&target)).await;
                assert_eq!((answer.status, answer.outcome().as_str()), (403, "signature_mismatch"), "{target}");
            }
        }
    }
}

#[tokio::test]
async fn another_path_is_not_found_and_a_mismatch_where_it_is_configured_too() {
    let genuine = Genuine::all();
    let function = function_for(&genuine, &[]).await;
    for callback in &genuine {
        let other = callback.target.replacen('a', "b", 1).replacen('i', "j", 1);
        let answer = function.send(&callback.with_target(&other)).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (404, "not_found"), "{other}");
        let path = other.split('?').next().unwrap().to_owned();
        let function = function_for(&genuine, &[&path]).await;
        let answer = function.send(&callback.with_target(&other)).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (403, "signature_mismatch"), "{other}");
    }
}

#[tokio::test]
async fn a_question_mark_that_oss_did_not_sign_is_a_mismatch() {
    let genuine = Genuine::all();
    let function = function_for(&genuine, &[]).await;
    for callback in genuine.iter().filter(|callback| !callback.target.contains('?')) {
        let answer = function.send(&callback.with_target(&format!("{}?", callback.target))).await;
        assert_eq!(answer.outcome(), "signature_mismatch", "{}", callback.name);
    }
}

#[tokio::test]
async fn an_escaped_boundary_cannot_move_what_was_signed() {
    let function = Function::start(&[]).await;
    let signed =
        Signed::at("/callback", Some("a=1"), "application/x-www-form-urlencoded", b"bucket=examplebucket&object=o");
    for path in
        ["/callback%3Fa=1", "/callback%3fa=1", "/callback%0Abucket=x", "/call%62ack", "//callback", "/callback/"]
    {
        let moved =
            Signed { path: path.to_owned(), query: None, body: signed.body.clone(), headers: signed.headers.clone() };
        assert_eq!(function.send(&moved.bytes()).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_prefix_that_a_proxy_removed_is_found_among_the_configured_paths() {
    let function = Function::start(&[("OSS_CALLBACK_PATH", "/prod/callback,/callback")]).await;
    let body = b"bucket=examplebucket&object=o";
    let mut signed = Signed::at("/prod/callback", None, "application/x-www-form-urlencoded", body);
    signed.path = "/callback".to_owned();
    assert_eq!(function.send(&signed.bytes()).await.outcome(), "recorded");
}

#[tokio::test]
async fn the_query_is_signed_raw_and_in_order() {
    let function = Function::start(&[]).await;
    let body = b"bucket=examplebucket&object=o";
    let mut signed = Signed::at("/callback", Some("b=%2F&a=+1&a=2"), "application/x-www-form-urlencoded", body);
    assert_eq!(function.send(&signed.bytes()).await.status, 200);
    signed.query = Some("a=+1&a=2&b=%2F".to_owned());
    assert_eq!(function.send(&signed.bytes()).await.outcome(), "signature_mismatch");
}

#[tokio::test]
async fn the_first_failure_answers() {
    let function = Function::start(&[]).await;
    let good = || Signed::form("bucket=examplebucket&object=o");
    let large = vec![b'x'; 64 * 1024 + 1];
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("other path", Signed { path: "/other".into(), ..good() }.bytes(), 404, "not_found"),
        (
            "large body on another path",
            Signed { path: "/other".into(), body: large.clone(), ..good() }.bytes(),
            404,
            "not_found",
        ),
        ("method", b"GET /callback HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 405, "method_not_allowed"),
        ("size before headers", Signed { body: large, headers: vec![], ..good() }.bytes(), 413, "body_too_large"),
        ("no authorization", good().header("authorization", None).bytes(), 400, "missing_header"),
        ("no key url", good().header("x-oss-pub-key-url", None).bytes(), 400, "missing_header"),
        ("key url that is not base64", good().header("x-oss-pub-key-url", Some("http://x")).bytes(), 400, "bad_header"),
        (
            "version before key",
            good().header("x-oss-signature-version", Some("2.0")).header("x-oss-pub-key-url", Some("eA==")).bytes(),
            400,
            "unsupported_signature_version",
        ),
        ("absent version is 1.0", good().header("x-oss-signature-version", None).bytes(), 200, "recorded"),
        (
            "key before signature",
            good().header("x-oss-pub-key-url", Some("eA==")).header("authorization", Some("!")).bytes(),
            403,
            "untrusted_key_url",
        ),
        ("signature not base64", good().header("authorization", Some("not base64")).bytes(), 403, "signature_mismatch"),
        ("signature too short", good().header("authorization", Some("AAAA")).bytes(), 403, "signature_mismatch"),
        (
            "signature before type",
            good().header("authorization", Some("AAAA")).header("content-type", Some("text/plain")).bytes(),
            403,
            "signature_mismatch",
        ),
        ("media type", good().header("content-type", Some("text/plain")).bytes(), 415, "unsupported_media_type"),
        ("no media type", good().header("content-type", None).bytes(), 415, "unsupported_media_type"),
        ("media type before body", Signed::new("text/plain", b"\xff=\xff").bytes(), 415, "unsupported_media_type"),
        ("body before allow-list", Signed::form("bucket=other&bucket=other&object=o").bytes(), 400, "duplicate_field"),
        ("allow-list", Signed::form("bucket=other&object=o").bytes(), 403, "bucket_not_allowed"),
        (
            "type parameters are ignored",
            Signed::new("Application/JSON; charset=utf-8", br#"{"bucket":"examplebucket","object":"o"}"#).bytes(),
            200,
            "recorded",
        ),
    ];
    for (name, request, status, code) in cases {
        let answer = function.send(&request).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (status, code), "{name}");
        assert_eq!(answer.headers["content-type"], "application/json", "{name}");
    }
}

#[tokio::test]
async fn a_repeated_header_is_refused() {
    let function = Function::start(&[]).await;
    let mut signed = Signed::form("bucket=examplebucket&object=o");
    signed.headers.push(("Authorization".to_owned(), "AAAA".to_owned()));
    assert_eq!(function.send(&signed.bytes()).await.outcome(), "bad_header");
}

#[tokio::test]
async fn only_the_exact_url_of_a_trusted_key_is_accepted_and_nothing_is_fetched() {
    // The listener stands where a fetching receiver would go.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fetchable = format!("http://{}/callback_pub_key_v1.pem", listener.local_addr().unwrap());
    let function = Function::start(&[]).await;
    for url in [
        fetchable.as_str(),
        "http://keys.test/callback.pem ",
        " http://keys.test/callback.pem",
        "http://keys.test/callback.pem\n",
        "HTTP://keys.test/callback.pem",
        "http://keys.test/callback.pem?x",
        "https://gosspublic.alicdn.com.evil.test/callback_pub_key_v1.pem",
        "https://gosspublic.alicdn.com/images/x.pem",
        "https://gosspublic.alicdn.com@evil.test/callback_pub_key_v1.pem",
        "",
    ] {
        let signed = Signed::form("bucket=examplebucket&object=o");
        let answer = function.send(&signed.header("x-oss-pub-key-url", Some(&STANDARD.encode(url))).bytes()).await;
        assert!(
            matches!(answer.outcome().as_str(), "untrusted_key_url" | "missing_header"),
            "{url:?} {}",
            answer.outcome()
        );
    }
    let connected = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(connected.is_err(), "no key is fetched");
    assert_eq!(function.send(&Signed::form("bucket=examplebucket&object=o").bytes()).await.status, 200);
}

#[tokio::test]
async fn all_system_variables_are_read_from_forms_and_from_json_alike() {
    let function = Function::start(&[]).await;
    let form = "bucket=examplebucket&object=a%2Fb+c%20d.jpg&etag=d8e8fca2dc0f896fd7cb4cb0031ba249&size=1024\
                &mimeType=text%2Fplain&imageInfo.height=20&imageInfo.width=10&imageInfo.format=jpg\
                &crc64=18446744073709551615&contentMd5=of2RLWEXu4JJWFPDpPYVow%3D%3D&vpcId=&clientIp=1.2.3.4\
                &reqId=5CF3E7821AB22D0FDB86704D&operation=PutObject&my_var=for-callback-test&token=secret";
    let json = r#"{"bucket":"examplebucket","object":"a/b c d.json","etag":"\"D8E8FCA2DC0F896FD7CB4CB0031BA249-3\"",
                "size":1024,"mimeType":"text/plain","imageInfo.height":20,"imageInfo.width":"10","imageInfo.format":"jpg",
                "crc64":18446744073709551615,"contentMd5":null,"vpcId":null,"clientIp":"1.2.3.4",
                "reqId":"5CF3E7821AB22D0FDB86704D","operation":"PutObject","my_var":"for-callback-test","token":"secret"}"#;
    for (signed, object, etag) in [
        (Signed::form(form), "a/b c d.jpg", "D8E8FCA2DC0F896FD7CB4CB0031BA249"),
        (Signed::json(json), "a/b c d.json", "D8E8FCA2DC0F896FD7CB4CB0031BA249-3"),
    ] {
        let answer = function.send(&signed.bytes()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let answer = answer.json();
        assert_eq!(answer["object"], object);
        assert_eq!(answer["request_id"], "5CF3E7821AB22D0FDB86704D");
        assert_eq!(answer["confirmed"], false);
        assert_eq!(answer["generation"], 1);
        let record =
            function.read(&format!("/records?bucket=examplebucket&object={}", object.replace(' ', "+"))).await.json();
        assert_eq!(record["etag"], etag);
        assert_eq!(record["size"], 1024);
        assert_eq!((record["width"].as_u64(), record["height"].as_u64()), (Some(10), Some(20)));
        assert_eq!(record["crc64"].as_u64(), Some(u64::MAX));
        assert_eq!(record["custom"], serde_json::json!({"my_var": "for-callback-test"}), "the token is not kept");
    }
}

#[tokio::test]
async fn absent_has_many_spellings() {
    let function = Function::start(&[]).await;
    for (at, body) in [
        Signed::form("bucket=examplebucket&object=1&size=&crc64=&imageInfo.height=&mimeType=&reqId="),
        Signed::form("bucket=examplebucket&object=1&size=null&imageInfo.width=null&mimeType=null"),
        Signed::form("bucket=examplebucket&object=1&size=${size}&mimeType=${mimeType}&crc64=%24%7Bcrc64%7D"),
        Signed::form("bucket=examplebucket&object=1&size&mimeType"),
        Signed::json(r#"{"bucket":"examplebucket","object":"1","size":null,"imageInfo":null,"mimeType":""}"#),
        Signed::json(r#"{"bucket":"examplebucket","object":"1","size":"","imageInfo":{"height":null},"crc64":"null"}"#),
        Signed::json(r#"{"bucket":null,"object":"1"}"#),
        Signed::form("bucket=&object=1"),
        Signed::form("object=1"),
        Signed::form("filename=1"),
        Signed::form("object=&filename=1"),
    ]
    .iter()
    .enumerate()
    {
        let answer = function.send(&body.bytes()).await;
        assert_eq!(answer.status, 200, "{at}: {:?}", answer.json());
        assert_eq!(answer.json()["object"], "1", "{at}");
    }
    let record = function.read("/records/examplebucket/1").await.json();
    assert!(record["size"].is_null() && record["mime"].is_null() && record["crc64"].is_null(), "{record}");
    assert_eq!(record["generation"], 1);
}

#[tokio::test]
async fn what_is_signed_but_not_well_formed_is_refused_by_name() {
    let function = Function::start(&[]).await;
    for (signed, code) in [
        (Signed::form("bucket=examplebucket&object=o&object=p"), "duplicate_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":"o","object":"p"}"#), "duplicate_field"),
        (Signed::form("bucket=examplebucket&object=o&x=1&x=2"), "duplicate_field"),
        (Signed::form("bucket=examplebucket"), "missing_field"),
        (Signed::form("bucket=examplebucket&object=${object}"), "missing_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":null}"#), "missing_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":5}"#), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&size=-1"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&size=%2B1"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&size=1e3"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&size=1.0"), "bad_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":"o","size":1.0}"#), "bad_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":"o","size":1e3}"#), "bad_field"),
        (Signed::json(r#"{"bucket":"examplebucket","object":"o","size":true}"#), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&crc64=18446744073709551616"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&etag=zz"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=o&etag=AB-"), "bad_field"),
        (Signed::form("bucket=examplebucket&object=%FF"), "bad_body"),
        (Signed::json(r#"{"bucket":examplebucket}"#), "bad_body"),
        (Signed::json(r#"["bucket"]"#), "bad_body"),
        (Signed::json(""), "bad_body"),
        (Signed::json(r#"{"object":"o","imageInfo":{"height":1,"height":2}}"#), "duplicate_field"),
        (Signed::json(&format!(r#"{{"object":"o","x":{}}}"#, "{\"a\":".repeat(5_000))), "bad_body"),
        (Signed::json(&format!(r#"{{"object":"o","x":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000))), "bad_body"),
        (Signed::form(&format!("bucket=examplebucket&object=o&reqId={}", "R".repeat(65))), "bad_field"),
        (Signed::json(&"[".repeat(10_000)), "bad_body"),
        (Signed::form(&format!("bucket=examplebucket&object={}", "k".repeat(1024))), "bad_field"),
    ] {
        let answer = function.send(&signed.bytes()).await;
        let body = String::from_utf8_lossy(&signed.body).chars().take(80).collect::<String>();
        assert_eq!((answer.status, answer.outcome().as_str()), (400, code), "{body}");
    }
    assert_eq!(function.read("/records?bucket=examplebucket").await.json()["records"], serde_json::json!([]));
}

#[tokio::test]
async fn a_duplicate_changes_nothing_and_another_version_is_the_next_generation() {
    let function = Function::start(&[]).await;
    let first = Signed::form("bucket=examplebucket&object=o&etag=AA&size=1&reqId=R1");
    let one = function.send(&first.bytes()).await;
    let again = function.send(&first.bytes()).await;
    assert_eq!(one.body, again.body);
    let record = function.read("/records/examplebucket/o").await.json();
    assert_eq!((record["generation"].as_u64(), record["revision"].as_u64()), (Some(1), Some(1)));
    let answer = function.send(&Signed::form("bucket=examplebucket&object=o&etag=AB&size=1&reqId=R2").bytes()).await;
    assert_eq!(answer.json()["generation"], 2);
    let answer = function.send(&Signed::form("bucket=examplebucket&object=o&etag=AB&size=2").bytes()).await;
    assert_eq!(answer.json()["generation"], 3);
}

#[tokio::test]
async fn a_callback_without_a_bucket_means_the_only_allowed_one() {
    let several = Function::start(&[("OSS_CALLBACK_BUCKETS", "one,two")]).await;
    assert_eq!(several.send(&Signed::form("object=o").bytes()).await.outcome(), "missing_field");
    let prefixes = Function::start(&[("OSS_CALLBACK_BUCKETS", "one/a/,one/b/")]).await;
    assert_eq!(prefixes.send(&Signed::form("object=a/o").bytes()).await.json()["bucket"], "one");
    assert_eq!(prefixes.send(&Signed::form("object=c/o").bytes()).await.outcome(), "bucket_not_allowed");
}

#[tokio::test]
async fn read_routes_need_the_token_and_do_not_exist_without_one() {
    let function = Function::start(&[]).await;
    let unread = function.send(b"GET /records?colour=red HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(unread.outcome(), "unauthorized", "the token comes before the query");
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic test-api-token\r\n"] {
        let request = format!("GET /records/examplebucket/o HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        let answer = function.send(request.as_bytes()).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthorized"), "{header}");
    }
    let answer = function.read("/records/examplebucket/o").await;
    assert_eq!((answer.status, answer.outcome().as_str()), (404, "not_found"));
    let closed = Function::start(&[("OSS_CALLBACK_API_TOKEN", "")]).await;
    assert_eq!(closed.read("/records/examplebucket/o").await.outcome(), "not_found");
    assert_eq!(closed.read("/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn records_are_found_by_path_by_query_and_in_pages() {
    let function = Function::start(&[]).await;
    for object in ["a/1", "a/2 %2F", "b/3?x=1&y", "ü\u{7f}"] {
        let encoded: String =
            percent_encoding::utf8_percent_encode(object, percent_encoding::NON_ALPHANUMERIC).to_string();
        let signed = Signed::form(&format!("bucket=examplebucket&object={encoded}&uid=7"));
        assert_eq!(function.send(&signed.bytes()).await.status, 200);
        for target in
            [format!("/records/examplebucket/{encoded}"), format!("/records?bucket=examplebucket&object={encoded}")]
        {
            assert_eq!(function.read(&target).await.json()["object"], object, "{target}");
        }
    }
    let mut seen = Vec::new();
    let mut target = "/records?bucket=examplebucket&limit=1&custom.uid=7&state=recorded".to_owned();
    loop {
        let page = function.read(&target).await.json();
        seen.extend(page["records"].as_array().unwrap().iter().map(|record| record["object"].clone()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        target = format!("/records?bucket=examplebucket&limit=1&custom.uid=7&state=recorded&cursor={cursor}");
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(function.read("/records?prefix=a/").await.json()["records"].as_array().unwrap().len(), 2);
    assert_eq!(function.read("/records?custom.uid=8").await.json()["records"].as_array().unwrap().len(), 0);
    for bad in ["/records?limit=0", "/records?state=no", "/records?colour=red", "/records?cursor=%21"] {
        assert_eq!(function.read(bad).await.outcome(), "bad_field", "{bad}");
    }
}

#[tokio::test]
async fn a_body_far_over_the_limit_is_refused_in_words_all_the_same() {
    let function = Function::start(&[]).await;
    let signed = Signed { body: vec![b'x'; 20 * 1024 * 1024], ..Signed::form("object=o") };
    let answer = function.send(&signed.bytes()).await;
    assert_eq!((answer.status, answer.outcome().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn no_answer_is_longer_than_oss_passes_on() {
    let function = Function::start(&[]).await;
    let escapes = "%01".repeat(1000);
    let body =
        format!("bucket=examplebucket&object={escapes}&mimeType={}&x={}", "%01".repeat(9000), "y".repeat(30_000));
    let answer = function.send(&Signed::form(&body).bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.outcome());
    assert!(answer.body.len() < 64 * 1024, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn old_http_1_0_requests_are_answered() {
    let function = Function::start(&[]).await;
    let signed = Signed::form("bucket=examplebucket&object=o");
    let request = String::from_utf8(signed.bytes()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(function.send(request.as_bytes()).await.outcome(), "recorded");
}

#[tokio::test]
async fn a_body_that_never_arrives_is_answered_within_the_budget() {
    let function = Function::start(&[("OSS_CALLBACK_BUDGET_MS", "400")]).await;
    let mut request = Signed::form("bucket=examplebucket&object=o").bytes();
    request.truncate(request.len() - 1);
    let sent = function.send(&request);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), sent).await.expect("an answer in time");
    assert_eq!((answer.status, answer.outcome().as_str()), (503, "timeout"));
}
