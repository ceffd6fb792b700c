//! Requests from web pages: what a browser is told before and after them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{CallbackServer, Message, builder, call, send_raw};
use oss_standin::Standin;
use serde_json::json;

const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>http://*.example.com</AllowedOrigin>\
    <AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-oss-*</AllowedHeader>\
    <AllowedHeader>content-type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds>\
    </CORSRule></CORSConfiguration>";

fn preflight(standin: &Standin, origin: &str, method: &str, headers: &str) -> Message {
    let request = format!(
        "OPTIONS /examplebucket/k HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: {headers}\r\nAccess-Control-Request-Private-Network: true\r\n\r\n"
    );
    send_raw(standin.address(), request.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_every_page_may_upload_and_read_the_digests() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let allowed = preflight(&standin, "http://localhost:3000", "PUT", "authorization, content-type,x-oss-date");
    assert_eq!((allowed.status(), allowed.header("access-control-allow-origin")), (200, "*"));
    assert!(allowed.header("access-control-allow-methods").contains("PUT"));
    assert_eq!(allowed.header("access-control-allow-headers"), "authorization, content-type,x-oss-date");
    assert_eq!(allowed.header("access-control-allow-private-network"), "true");

    let put = call("PUT", "k").body("x").header("origin", "http://localhost:3000").send(&standin);
    let missing = call("GET", "none").header("origin", "http://localhost:3000").send(&standin);
    for answer in [&put, &missing] {
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.header("access-control-expose-headers").contains("ETag"));
        assert!(answer.header("access-control-expose-headers").contains("x-oss-request-id"));
    }
    assert_eq!(call("GET", "k").send(&standin).header("access-control-allow-origin"), "");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_callback_can_be_read_by_the_page_too() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let server = CallbackServer::answering(vec![b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()]);
    let failed = call("PUT", "k")
        .body("x")
        .header("origin", "http://localhost")
        .callback(&json!({"callbackUrl": server.url("/"), "callbackBody": "b"}))
        .send(&standin);
    assert_eq!((failed.status(), failed.header("access-control-allow-origin")), (203, "*"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_bucket_decide_alone() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("GET", "").resource("cors").send(&standin).element("Code"), "NoSuchCORSConfiguration");
    assert_eq!(call("PUT", "").resource("cors").body(RULES).send(&standin).status(), 200);
    let stored = call("GET", "").resource("cors").send(&standin);
    assert_eq!(
        (stored.element("AllowedOrigin"), stored.element("MaxAgeSeconds")),
        ("http://*.example.com".into(), "60".into())
    );
    assert_eq!(call("PUT", "").resource("cors").body("<CORS/>").send(&standin).element("Code"), "MalformedXML");
    // Rules survive a restart.
    standin.stop().await;
    let standin = builder(&data).start().await.unwrap();

    let allowed = preflight(&standin, "http://a.example.com", "PUT", "X-OSS-Date,Content-Type");
    for (name, value) in [
        ("access-control-allow-origin", "http://a.example.com"),
        ("access-control-allow-methods", "PUT, GET"),
        ("access-control-allow-headers", "X-OSS-Date,Content-Type"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(allowed.header(name), value, "{name}");
    }
    for (origin, method, headers) in [
        ("http://example.com", "PUT", ""),
        ("http://a.example.com", "DELETE", ""),
        ("http://a.example.com", "PUT", "x-oss-date,authorization"),
    ] {
        let refused = preflight(&standin, origin, method, headers);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (403, "AccessForbidden"), "{origin} {method}");
        assert!(refused.element("Message").starts_with("CORSResponse: "));
        assert_eq!(refused.header("access-control-allow-origin"), "");
    }
    let put = call("PUT", "k").body("x").header("origin", "http://a.example.com").send(&standin);
    assert_eq!(put.header("access-control-allow-origin"), "http://a.example.com");
    // The request itself is carried out; it is the browser that keeps the answer from the page.
    let foreign = call("PUT", "k").body("x").header("origin", "http://elsewhere").send(&standin);
    assert_eq!((foreign.status(), foreign.header("access-control-allow-origin")), (200, ""));

    assert_eq!(call("DELETE", "").resource("cors").send(&standin).status(), 204);
    assert_eq!(preflight(&standin, "http://example.com", "DELETE", "").status(), 200);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_stand_in_lets_no_page_in_without_rules() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).strict_cors(true).start().await.unwrap();
    let refused = preflight(&standin, "http://a.example.com", "PUT", "");
    assert_eq!((refused.status(), refused.element("Code").as_str()), (403, "AccessForbidden"));
    let put = call("PUT", "k").body("x").header("origin", "http://a.example.com").send(&standin);
    assert_eq!((put.status(), put.header("access-control-allow-origin")), (200, ""));
    assert_eq!(call("PUT", "").resource("cors").body(RULES).send(&standin).status(), 200);
    assert_eq!(preflight(&standin, "http://a.example.com", "PUT", "").status(), 200);
    standin.stop().await;
}
