//! Callbacks: what reaches the callback server, and what its answer becomes for the uploader.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CallbackServer, Message, builder, call, ok, send_raw};
use md5::{Digest as _, Md5};
use oss_standin::{KeyBits, Standin};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn start(data: &tempfile::TempDir) -> Standin {
    builder(data).start().await.unwrap()
}

fn form(url: &str) -> Value {
    json!({"callbackUrl": url, "callbackBody": "object=${object}&size=${size}"})
}

/// Whether OSS's signature over this path, query and body is the one that the request carries.
fn is_signed(request: &Message, path_and_query: &str, public_key: &str) -> bool {
    let signed = [path_and_query.as_bytes(), b"\n", &request.body].concat();
    let key = RsaPublicKey::from_public_key_pem(public_key).unwrap();
    let signature = STANDARD.decode(request.header("authorization")).unwrap();
    key.verify(Pkcs1v15Sign::new::<Md5>(), &Md5::digest(signed), &signature).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_is_the_request_that_oss_sends() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let server = CallbackServer::answering(vec![ok("{\"Status\": \"OK\"}\n")]);
    let callback = json!({
        "callbackUrl": server.url("/call%2Fback?id=1&index=2%20"),
        "callbackBody": "{\"object\":${object},\"size\":${size},\"me\":${x:me},\"etag\":${etag}}",
        "callbackBodyType": "application/json",
        "callbackHost": "callback.example.com",
        "additionalHeaders": {"more": "1", "host": "ignored"},
    });
    let put = call("PUT", "a/b.txt").body("x").callback(&callback).variables(&json!({"x:me": "\"I\""})).send(&standin);
    assert_eq!((put.status(), put.text().as_str()), (200, "{\"Status\": \"OK\"}\n"));
    assert_eq!(put.header("content-type"), "application/json");
    assert_eq!(put.header("etag"), "\"9DD4E461268C8034F5C8564E155C67A6\"");

    let request = server.request();
    assert_eq!(request.start, "POST /call%2Fback?id=1&index=2%20 HTTP/1.1");
    let body = "{\"object\":\"a/b.txt\",\"size\":1,\"me\":\"\\\"I\\\"\",\"etag\":\"9DD4E461268C8034F5C8564E155C67A6\"}";
    assert_eq!(request.text(), body);
    for (name, value) in [
        ("host", "callback.example.com"),
        ("connection", "close"),
        ("content-length", &body.len().to_string()),
        ("content-md5", &STANDARD.encode(Md5::digest(body))),
        ("content-type", "application/json"),
        ("user-agent", "aliyun-oss-callback"),
        ("x-oss-additional-headers", "more"),
        ("x-oss-bucket", "examplebucket"),
        ("x-oss-pub-key-url", &STANDARD.encode(standin.key_url())),
        ("x-oss-request-id", put.header("x-oss-request-id")),
        ("x-oss-signature-version", "1.0"),
        ("x-oss-tag", "CALLBACK"),
        ("more", "1"),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    for name in ["x-oss-owner", "x-oss-requester"] {
        assert!(request.header(name).parse::<u64>().is_ok(), "{name}");
    }
    assert!(httpdate::parse_http_date(request.header("date")).is_ok());

    // The path is signed decoded, the query raw.
    assert!(is_signed(&request, "/call/back?id=1&index=2%20", standin.public_key_pem()));
    assert!(!is_signed(&request, "/call%2Fback?id=1&index=2%20", standin.public_key_pem()));
    assert_eq!(STANDARD.decode(request.header("authorization")).unwrap().len(), 64);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_served_to_anybody_where_the_callback_says() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let standin = start(&one).await;
    let path = standin.key_url().strip_prefix(&standin.endpoint()).unwrap().to_owned();
    let served = send_raw(standin.address(), format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    assert_eq!((served.status(), served.text().as_str()), (200, standin.public_key_pem()));
    standin.stop().await;

    let url = "https://gosspublic.alicdn.com/callback_pub_key_v1.pem";
    let standin = builder(&two).key_url(url).key_bits(KeyBits::Bits2048).start().await.unwrap();
    let server = CallbackServer::answering(vec![ok("{}")]);
    assert_eq!(call("PUT", "k").callback(&form(&server.url("/"))).send(&standin).status(), 200);
    let request = server.request();
    assert_eq!(request.header("x-oss-pub-key-url"), STANDARD.encode(url));
    assert!(is_signed(&request, "/", standin.public_key_pem()));
    assert_eq!(STANDARD.decode(request.header("authorization")).unwrap().len(), 256);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let key = std::fs::metadata(two.path().join("keys/callback-2048.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_targets_are_sent_and_signed_as_written() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    for (target, on_the_wire, signed) in [
        ("", "/", "/"),
        ("?user=put_object", "/?user=put_object", "/?user=put_object"),
        ("/cb?", "/cb?", "/cb?"),
        ("/a+b?x?y", "/a+b?x?y", "/a+b?x?y"),
        ("/a/../%e8%b7%af", "/a/../%e8%b7%af", "/a/../路"),
    ] {
        let server = CallbackServer::answering(vec![ok("{}")]);
        let put = call("PUT", "k").callback(&form(&server.url(target))).send(&standin);
        assert_eq!(put.status(), 200, "{}", put.text());
        let request = server.request();
        assert_eq!(request.start, format!("POST {on_the_wire} HTTP/1.1"));
        assert!(is_signed(&request, signed, standin.public_key_pem()), "{target}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_may_stand_in_the_query() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let server = CallbackServer::answering(vec![ok("{}")]);
    let encoded = STANDARD.encode(form(&server.url("/cb")).to_string());
    let put = call("PUT", "k").body("x").signed_query("callback", &encoded).send(&standin);
    assert_eq!(put.status(), 200, "{}", put.text());
    assert_eq!(server.request().text(), "object=k&size=1");
    let both = call("PUT", "k").signed_query("callback", &encoded).header("x-oss-callback", &encoded).send(&standin);
    assert_eq!((both.status(), both.element("EC").as_str()), (400, "0007-00000027"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_callback_is_refused_before_anything_is_stored() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let refused = call("PUT", "k").body("x").header("x-oss-callback", "e30").send(&standin);
    assert_eq!((refused.status(), refused.element("Code").as_str()), (400, "InvalidArgument"));
    assert_eq!(refused.element("Message"), "The callback configuration is not base64 encoded.");
    assert_eq!((refused.element("ArgumentName"), refused.element("ArgumentValue")), ("callback".into(), "e30".into()));
    assert_eq!(refused.element("EC"), "0007-00000002");
    assert_eq!(call("HEAD", "k").send(&standin).status(), 404);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_only_if_asked_also_behind_names() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let standin = builder(&one).forbid_private(true).start().await.unwrap();
    for host in ["127.0.0.1:1", "localhost:1", "10.1.2.3", "192.168.0.1", "169.254.1.1"] {
        let refused = call("PUT", "k").callback(&form(&format!("http://{host}/"))).send(&standin);
        assert_eq!((refused.status(), refused.element("EC").as_str()), (400, "0007-00000008"), "{host}");
        assert_eq!(refused.element("Message"), "Private address is forbidden to callback.");
    }
    assert_eq!(call("HEAD", "k").send(&standin).status(), 404);
    standin.stop().await;
    let standin = start(&two).await;
    let server = CallbackServer::answering(vec![ok("{}")]);
    assert_eq!(call("PUT", "k").callback(&form(&server.url("/"))).send(&standin).status(), 200);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_callback_is_203_in_the_words_of_oss_and_the_object_stays() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let answer = |head: &str, body: &str| vec![format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()];
    let cannot_connect = "Error status : -1.OSS can not connect to your callbackUrl, please check it.";
    for (number, (answers, message, ec)) in [
        (answer("500 No\r\nContent-Length: 2", "{}"), "Error status : 500.", "0007-00000203"),
        (answer("201 Created\r\nContent-Length: 2", "{}"), "Error status : 201.", "0007-00000203"),
        (answer("204 No Content", ""), "Error status : 204.", "0007-00000203"),
        (answer("301 Moved\r\nLocation: /other\r\nContent-Length: 2", "{}"), "Error status : 301.", "0007-00000203"),
        (answer("200 OK\r\nContent-Length: 2", "ok"), "Response body is not valid json format.", "0007-00000205"),
        (
            answer("200 OK\r\nContent-Length: 5", "\u{feff}{}"),
            "Response body is not valid json format.",
            "0007-00000205",
        ),
        (answer("200 OK", "{}"), "Error Status : 400.User server missing content-length.", "0007-00000204"),
        (
            answer("200 OK\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"),
            "Error Status : 400.User server missing content-length.",
            "0007-00000204",
        ),
        (
            answer("200 OK\r\nContent-Length: 0", ""),
            "Error Status : 400.User server return invalid conent-length value.",
            "0007-00000204",
        ),
        (
            answer("200 OK\r\nContent-Length: 9999999", ""),
            "Error Status : 400.User server return too long content-length value.",
            "0007-00000204",
        ),
        (answer("200 OK\r\nContent-Length: 9", "{}"), cannot_connect, "0007-00000203"),
        (vec![b"no http at all\r\n\r\n".to_vec()], cannot_connect, "0007-00000203"),
    ]
    .into_iter()
    .enumerate()
    {
        let server = CallbackServer::answering(answers);
        let key = format!("k{number}");
        let put = call("PUT", &key).body("x").callback(&form(&server.url("/cb"))).send(&standin);
        assert_eq!((put.status(), put.element("Message").as_str()), (203, message));
        assert_eq!((put.element("Code").as_str(), put.element("EC").as_str()), ("CallbackFailed", ec));
        assert_eq!(put.header("content-type"), "application/xml");
        assert_eq!(put.header("etag"), "\"9DD4E461268C8034F5C8564E155C67A6\"");
        assert!(!put.header("x-oss-hash-crc64ecma").is_empty());
        assert_eq!(call("GET", &key).send(&standin).text(), "x");
    }
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let put = call("PUT", "k").callback(&form(&format!("http://{unused}/"))).send(&standin);
    assert_eq!((put.status(), put.element("Message").as_str()), (203, cannot_connect));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_given_up_in_time() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).callback_time_limit(Duration::from_millis(300)).start().await.unwrap();
    let server = CallbackServer::answering(vec![Vec::new()]);
    let put = call("PUT", "k").callback(&form(&server.url("/"))).send(&standin);
    assert_eq!(put.status(), 203);
    assert_eq!(
        put.element("Message"),
        format!("Error status : -1 {} reply timeout, cost:300ms, timeout:300ms (err -4, errno115)", server.address)
    );
    assert_eq!(put.element("EC"), "0007-00000202");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_are_tried_in_order_until_one_succeeds() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let failing = CallbackServer::answering(vec![b"HTTP/1.1 503 No\r\n\r\n".to_vec()]);
    let right = CallbackServer::answering(vec![ok("{\"n\":2}")]);
    let spare = CallbackServer::answering(vec![ok("{\"n\":3}")]);
    let urls = [failing.url("/1"), right.url("/2"), spare.url("/3")].join(";");
    let put = call("PUT", "k").callback(&form(&urls)).send(&standin);
    assert_eq!((put.status(), put.text().as_str()), (200, "{\"n\":2}"));
    assert!(is_signed(&failing.request(), "/1", standin.public_key_pem()));
    assert!(is_signed(&right.request(), "/2", standin.public_key_pem()));
    assert!(spare.was_not_called());

    let failing =
        CallbackServer::answering(vec![b"HTTP/1.1 503 No\r\n\r\n".to_vec(), b"HTTP/1.1 404 No\r\n\r\n".to_vec()]);
    let put = call("PUT", "k").callback(&form(&format!("{};{}", failing.url("/"), failing.url("/")))).send(&standin);
    assert_eq!((put.status(), put.element("Message").as_str()), (203, "Error status : 404."));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_and_xml_are_understood() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 4\r\n\r\n<a/>and more";
    let server = CallbackServer::answering(vec![answer.as_bytes().to_vec()]);
    let put = call("PUT", "k").callback(&form(&server.url("/"))).send(&standin);
    assert_eq!((put.status(), put.text().as_str(), put.header("content-type")), (200, "<a/>", "application/xml"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn image_properties_come_from_the_content() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x03\x2a\0\0\x02\x1b\x08\x02\0\0\0".to_vec();
    let gif = b"GIF89a\x2a\x03\x1b\x02\0\0\0".to_vec();
    let jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\0\x11\x08\x02\x1b\x03\x2a\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9".to_vec();
    let webp = b"RIFF\x1a\0\0\0WEBPVP8 \x0e\0\0\0\x30\x01\0\x9d\x01\x2a\x2a\x03\x1b\x02\0\0\0\0".to_vec();
    for (content, expected) in [
        (png.clone(), "810 539 png"),
        (gif, "810 539 gif"),
        (jpeg, "810 539 jpg"),
        (webp, "810 539 webp"),
        (png[..12].to_vec(), "  "),
        (b"plain text".to_vec(), "  "),
        (Vec::new(), "  "),
    ] {
        let server = CallbackServer::answering(vec![ok("{}")]);
        let body = "${imageInfo.width} ${imageInfo.height} ${imageInfo.format}";
        let callback = json!({"callbackUrl": server.url("/"), "callbackBody": body});
        let put =
            call("PUT", "k").header("content-type", "text/plain").body(content).callback(&callback).send(&standin);
        assert_eq!(put.status(), 200);
        assert_eq!(server.request().text(), expected);
    }
    standin.stop().await;
}

/// A TLS server for localhost; returns its port and the server name that its client asks for.
async fn tls_server() -> (u16, tokio::task::JoinHandle<Option<String>>) {
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("tls/localhost.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let mut received = [0; 4096];
        assert!(stream.read(&mut received).await.unwrap() > 0);
        stream.write_all(&ok("{}")).await.unwrap();
        stream.shutdown().await.unwrap();
        name
    });
    (port, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_names_the_server_only_when_the_callback_asks_for_it() {
    let data = tempfile::tempdir().unwrap();
    let standin =
        builder(&data).callback_certificates(include_bytes!("tls/authority.pem").to_vec()).start().await.unwrap();
    for (sni, expected) in [(json!(true), Some("localhost".to_owned())), (json!(false), None)] {
        let (port, served) = tls_server().await;
        let callback = json!({
            "callbackUrl": format!("https://localhost:{port}/"), "callbackBody": "b=${bucket}", "callbackSNI": sni,
        });
        let put = call("PUT", "k").callback(&callback).send(&standin);
        assert_eq!(put.status(), 200, "{}", put.text());
        assert_eq!(served.await.unwrap(), expected);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_no_connection() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let (port, served) = tls_server().await;
    let put = call("PUT", "k").callback(&form(&format!("https://localhost:{port}/"))).send(&standin);
    assert_eq!((put.status(), put.element("EC").as_str()), (203, "0007-00000203"));
    assert!(served.await.is_err());
    standin.stop().await;
}
