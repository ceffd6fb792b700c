//! The whole way: an upload to the stand-in, its signed callback, HEAD, thumbnails, record, answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::io::Cursor;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http::{Method, Request};
use image::{ImageFormat, Rgba, RgbaImage};
use oss_standin::Standin;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aliyun_oss::{Credential, RequestSigner, SigningVersion};
use reqsign_core::{Context, SignRequest as _};
use serde_json::{Value, json};
use support::{Answer, Function, Signed, TEST_KEY_URL, repository, send};

const BUCKET: &str = "examplebucket";
const KEY: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const TEMPLATE: &str = "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}\
    &imageInfo.height=${imageInfo.height}&imageInfo.width=${imageInfo.width}&crc64=${crc64}&reqId=${reqId}&uid=${x:uid}";

/// The stand-in and the function beside it.
struct Loop {
    standin: Standin,
    function: Function,
    _data: tempfile::TempDir,
}

impl Loop {
    async fn start(more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let standin = Standin::builder()
            .bucket(BUCKET)
            .bucket("otherbucket")
            .credentials("id", "secret")
            .data(data.path().join("oss"))
            .listen("127.0.0.1:0")
            .start()
            .await
            .unwrap();
        let pem = data.path().join("standin.pem");
        std::fs::write(&pem, standin.public_key_pem()).unwrap();
        let test_pem = repository("tests/support/test-key.pub.pem");
        let keys = format!("{}={},{TEST_KEY_URL}={}", standin.key_url(), pem.display(), test_pem.display());
        let endpoint = standin.endpoint();
        let mut settings = vec![
            ("OSS_CALLBACK_KEYS", keys.as_str()),
            ("OSS_ENDPOINT", endpoint.as_str()),
            ("OSS_REGION", "cn-hangzhou"),
            ("OSS_ACCESS_KEY_ID", "id"),
            ("OSS_ACCESS_KEY_SECRET", "secret"),
        ];
        settings.extend(more);
        let function = Function::start(&settings).await;
        Self { standin, function, _data: data }
    }

    async fn oss(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        signed_request(self.standin.address(), method, path, headers, body).await
    }

    async fn upload(&self, key: &str, mime: &str, bytes: &[u8]) -> Answer {
        let callback = json!({
            "callbackUrl": format!("http://{}/callback", self.function.address), "callbackBody": TEMPLATE,
        });
        let headers = [
            ("content-type", mime),
            ("x-oss-callback", &STANDARD.encode(callback.to_string())),
            ("x-oss-callback-var", &STANDARD.encode(r#"{"x:uid":"7"}"#)),
        ];
        self.oss(Method::PUT, &path_of(key), &headers, bytes).await
    }

    async fn get(&self, key: &str) -> Answer {
        self.oss(Method::GET, &path_of(key), &[], b"").await
    }

    async fn record(&self, key: &str) -> Value {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
        self.function.read(&format!("/records/{BUCKET}/{key}")).await.json()
    }

    async fn callback(&self, body: &str) -> Answer {
        self.function.send(&Signed::form(body).bytes()).await
    }
}

fn path_of(key: &str) -> String {
    format!("/{BUCKET}/{}", utf8_percent_encode(key, &KEY))
}

async fn signed_request(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let credential = Credential {
        access_key_id: "id".to_owned(),
        access_key_secret: "secret".to_owned(),
        security_token: None,
        expires_in: None,
    };
    RequestSigner::new(BUCKET)
        .with_region("cn-hangzhou")
        .with_signing_version(SigningVersion::V4)
        .sign_request(&Context::new(), &mut parts, Some(&credential), None)
        .await
        .unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri.path_and_query().unwrap());
    if !parts.headers.contains_key("host") {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()));
    send(address, &[head.as_bytes(), body].concat()).await
}

/// A picture whose left half is red and whose right half is transparent blue.
fn picture(width: u32, height: u32) -> RgbaImage {
    RgbaImage::from_fn(width, height, |x, _| if x < width / 2 { Rgba([200, 0, 0, 255]) } else { Rgba([0, 0, 200, 0]) })
}

fn encoded(picture: &RgbaImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::DynamicImage::from(picture.clone());
    match format {
        ImageFormat::Jpeg => picture.to_rgb8().write_to(&mut bytes, format).unwrap(),
        _ => picture.write_to(&mut bytes, format).unwrap(),
    }
    bytes.into_inner()
}

/// Puts an EXIF segment with an orientation behind the start of a JPEG.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_every_kind_comes_back_ready_with_both_thumbnails() {
    let running = Loop::start(&[]).await;
    let source = picture(1200, 900);
    let cases = [
        ("a/photo.jpg", "image/jpeg", encoded(&source, ImageFormat::Jpeg), (256, 192), (800, 600)),
        ("turned.jpg", "image/jpeg", with_orientation(&encoded(&source, ImageFormat::Jpeg), 6), (192, 256), (600, 800)),
        ("alpha.png", "image/png", encoded(&source, ImageFormat::Png), (256, 192), (800, 600)),
        ("picture.webp", "image/webp", encoded(&source, ImageFormat::WebP), (256, 192), (800, 600)),
        ("picture.gif", "image/gif", encoded(&source, ImageFormat::Gif), (256, 192), (800, 600)),
        ("no type.PNG", "application/octet-stream", encoded(&source, ImageFormat::Png), (256, 192), (800, 600)),
        ("small ü+&%.png", "image/png", encoded(&picture(100, 300), ImageFormat::Png), (85, 256), (100, 300)),
    ];
    for (key, mime, bytes, small, large) in cases {
        let answer = running.upload(key, mime, &bytes).await;
        assert_eq!(answer.status, 200, "{key}: {}", String::from_utf8_lossy(&answer.body));
        let json = answer.json();
        assert_eq!(
            (json["status"].as_str(), json["confirmed"].as_bool()),
            (Some("ready"), Some(true)),
            "{key}: {json}"
        );
        assert_eq!(json["object"], key);
        assert_eq!(json["size"], bytes.len());
        for (name, (width, height)) in [("small", small), ("large", large)] {
            let thumbnail = json["thumbnails"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
            let stored = running.get(thumbnail["key"].as_str().unwrap()).await;
            assert_eq!(stored.headers["content-type"], "image/jpeg");
            assert_eq!(thumbnail["size"], stored.body.len());
            let decoded = image::load_from_memory(&stored.body).unwrap().to_rgb8();
            assert_eq!(decoded.dimensions(), (width, height), "{key} {name}");
            assert_eq!(
                (thumbnail["width"].as_u64(), thumbnail["height"].as_u64()),
                (Some(width.into()), Some(height.into()))
            );
            // Upright, red lies left, or above where the camera was turned.
            let red = decoded.get_pixel(width / 8, height / 8).0;
            assert!(red[0] > 150 && red[2] < 60, "{key} {name} {red:?}");
        }
        let record = running.record(key).await;
        assert_eq!((record["state"].as_str(), record["generation"].as_u64()), (Some("ready"), Some(1)), "{record}");
        assert_eq!(record["custom"], json!({"uid": "7"}));
        assert_eq!(record["request_id"], answer.headers["x-oss-request-id"]);
        assert_eq!(record["etag"], answer.headers["etag"].trim_matches('"'));
        assert!(record["last_modified"].is_string() && record["crc64"].is_u64());
    }
}

#[tokio::test]
async fn what_is_no_picture_is_recorded() {
    let running = Loop::start(&[]).await;
    let answer = running.upload("notes.txt", "text/plain", b"hello").await.json();
    assert_eq!((answer["status"].as_str(), &answer["thumbnails"]), (Some("recorded"), &json!([])));
    assert_eq!(running.record("notes.txt").await["mime"], "text/plain");
}

#[tokio::test]
async fn what_cannot_be_made_says_why() {
    let running = Loop::start(&[]).await;
    let png = encoded(&picture(300, 300), ImageFormat::Png);
    for (key, mime, bytes, status, reason) in [
        ("broken.jpg", "image/jpeg", b"no picture at all".to_vec(), "failed", "undecodable"),
        ("cut.png", "image/png", png[..png.len() / 2].to_vec(), "failed", "undecodable"),
        ("empty.png", "image/png", Vec::new(), "failed", "undecodable"),
        ("document.jpg", "image/jpeg", b"%PDF-1.7 and so on".to_vec(), "skipped", "unsupported_format"),
        ("thumbnails/own.png", "image/png", png.clone(), "skipped", "own_output"),
        ("lies.jpg", "image/jpeg", png, "ready", "type_mismatch"),
    ] {
        let answer = running.upload(key, mime, &bytes).await.json();
        assert_eq!(
            (answer["status"].as_str(), answer["reason"].as_str()),
            (Some(status), Some(reason)),
            "{key}: {answer}"
        );
        assert_eq!(running.record(key).await["state"], status);
    }
}

#[tokio::test]
async fn the_record_follows_the_object_and_not_the_callback() {
    let running = Loop::start(&[]).await;
    running.upload("o.txt", "text/plain", b"one").await;
    let second = running.upload("o.txt", "text/plain", b"second").await;
    assert_eq!(second.json()["generation"], 2);
    // The first upload's callback comes again, late; and one that claims what is not so.
    for stale in ["etag=F97C5D29941BFB1B2FDAB0874906AB82&size=3&reqId=LATE", "size=999&mimeType=image%2Fpng&uid=evil"] {
        let answer = running.callback(&format!("bucket={BUCKET}&object=o.txt&{stale}")).await.json();
        assert_eq!(answer["etag"], second.headers["etag"].trim_matches('"'));
        assert_eq!((answer["size"].as_u64(), answer["generation"].as_u64()), (Some(6), Some(2)));
    }
    let record = running.record("o.txt").await;
    assert_eq!((&record["mime"], &record["custom"]), (&json!("text/plain"), &json!({"uid": "7"})));
    assert_eq!(record["revision"], 2);
}

#[tokio::test]
async fn an_object_that_oss_does_not_have_is_ignored_and_a_known_one_becomes_a_tombstone() {
    let running = Loop::start(&[]).await;
    let answer = running.callback(&format!("bucket={BUCKET}&object=never")).await;
    assert_eq!((answer.status, answer.outcome().as_str()), (200, "ignored"));
    assert_eq!(running.function.read(&format!("/records/{BUCKET}/never")).await.status, 404);

    running.upload("gone.txt", "text/plain", b"x").await;
    running.oss(Method::DELETE, &path_of("gone.txt"), &[], b"").await;
    assert_eq!(running.callback(&format!("bucket={BUCKET}&object=gone.txt")).await.outcome(), "ignored");
    assert_eq!(running.record("gone.txt").await["state"], "deleted");
    assert_eq!(running.upload("gone.txt", "text/plain", b"x").await.json()["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_at_the_same_time_get_the_same_answer_and_one_piece_of_work() {
    // All the time there is: what is not at its end by then is answered as it stands.
    let running = Loop::start(&[("OSS_CALLBACK_BUDGET_MS", "4900")]).await;
    let bytes = encoded(&picture(900, 900), ImageFormat::Png);
    running.oss(Method::PUT, &path_of("o.png"), &[("content-type", "image/png")], &bytes).await;
    let body = format!("bucket={BUCKET}&object=o.png&reqId=R");
    let answers = join_all((0..8).map(|_| running.callback(&body))).await;
    for answer in &answers {
        assert_eq!(answer.json()["status"], "ready", "{}", answer.json());
        assert_eq!(answer.body, answers[0].body);
    }
    let record = running.record("o.png").await;
    assert_eq!((record["generation"].as_u64(), record["attempts"].as_u64()), (Some(1), Some(1)), "{record}");
}

#[tokio::test]
async fn a_foreign_bucket_causes_no_question_to_oss_and_no_record() {
    let oss = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", oss.local_addr().unwrap());
    let running = Loop::start(&[("OSS_ENDPOINT", &endpoint)]).await;
    for bucket in ["otherbucket", "EXAMPLEBUCKET", "examplebucket.evil", "../examplebucket"] {
        let answer = running.callback(&format!("bucket={bucket}&object=o")).await;
        assert_eq!((answer.status, answer.outcome().as_str()), (403, "bucket_not_allowed"), "{bucket}");
    }
    let asked = tokio::time::timeout(Duration::from_millis(200), oss.accept()).await;
    assert!(asked.is_err(), "OSS is not asked");
    assert_eq!(running.function.read("/records").await.json()["records"], json!([]));
}

#[tokio::test]
async fn without_an_answer_of_oss_the_claims_are_kept_as_unverified_until_it_answers() {
    for hangs in [false, true] {
        let oss = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", oss.local_addr().unwrap());
        // One that is not listened to refuses at once; one that is never accepted from hangs.
        let _oss = if hangs {
            Some(oss)
        } else {
            drop(oss);
            None
        };
        let running = Loop::start(&[("OSS_ENDPOINT", &endpoint), ("OSS_CALLBACK_BUDGET_MS", "3000")]).await;
        let answer = running.callback(&format!("bucket={BUCKET}&object=o&etag=AA&size=1&mimeType=image%2Fpng")).await;
        let json = answer.json();
        assert_eq!((answer.status, json["status"].as_str()), (200, Some("unverified")), "{json}");
        assert_eq!((json["reason"].as_str(), json["confirmed"].as_bool()), (Some("oss_unavailable"), Some(false)));
        assert_eq!(running.record("o").await["state"], "unverified");
    }
}

#[tokio::test]
async fn wrong_credentials_are_not_taken_for_a_missing_object() {
    let running = Loop::start(&[("OSS_ACCESS_KEY_SECRET", "wrong")]).await;
    let answer = running.upload("o.txt", "text/plain", b"x").await.json();
    assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("unverified"), Some("oss_forbidden")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_uploads_of_one_key_at_once_end_with_the_object_as_it_is() {
    let running = Loop::start(&[]).await;
    let uploads = (0..16).map(|number| {
        let running = &running;
        async move { running.upload("contended.txt", "text/plain", format!("version {number}").as_bytes()).await }
    });
    for answer in join_all(uploads).await {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    let record = running.record("contended.txt").await;
    let object = running.get("contended.txt").await;
    assert_eq!(record["etag"], object.headers["etag"].trim_matches('"'));
}

#[tokio::test]
async fn rules_choose_sizes_formats_and_what_is_left_alone() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        rules.path(),
        r#"
        [[rule]]
        mime = "image/*"
        prefix = "photos/"
        thumbnails = [
          { name = "square", width = 64, height = 64, fit = "cover", format = "webp" },
          { name = "clear", width = 100, height = 50, fit = "exact", format = "png" },
        ]
        [[rule]]
        mime = "*/*"
        prefix = "private/"
        skip = true
        [output]
        prefix = "made/"
        "#,
    )
    .unwrap();
    let running = Loop::start(&[("OSS_CALLBACK_RULES", rules.path().to_str().unwrap())]).await;
    let bytes = encoded(&picture(400, 300), ImageFormat::Png);
    let answer = running.upload("photos/a.png", "image/png", &bytes).await.json();
    assert_eq!(answer["status"], "ready", "{answer}");
    for (at, (mime, size)) in [("image/webp", (64, 64)), ("image/png", (100, 50))].into_iter().enumerate() {
        let thumbnail = &answer["thumbnails"][at];
        assert_eq!(thumbnail["mime"], mime);
        assert!(thumbnail["key"].as_str().unwrap().starts_with("made/"));
        let stored = running.get(thumbnail["key"].as_str().unwrap()).await;
        let decoded = image::load_from_memory(&stored.body).unwrap();
        assert_eq!((decoded.width(), decoded.height()), size);
        assert_eq!(decoded.to_rgba8().get_pixel(size.0 - 2, 10).0[3], 0, "transparency is kept");
    }
    assert_eq!(running.upload("private/a.png", "image/png", &bytes).await.json()["status"], "skipped");
    assert_eq!(running.upload("other/a.png", "image/png", &bytes).await.json()["status"], "recorded");
}

#[tokio::test]
async fn json_bodies_come_the_same_way() {
    let running = Loop::start(&[]).await;
    let callback = json!({
        "callbackUrl": format!("http://{}/callback", running.function.address),
        "callbackBody": r#"{"bucket":${bucket},"object":${object},"etag":${etag},"size":${size},"mimeType":${mimeType},"imageInfo":{"height":${imageInfo.height},"width":${imageInfo.width}},"crc64":${crc64},"contentMd5":${contentMd5},"vpcId":${vpcId},"clientIp":${clientIp},"reqId":${reqId},"operation":${operation},"note":${x:note}}"#,
        "callbackBodyType": "application/json",
    });
    let note = r#"{"x:note":"a \"quoted\" \\ note\n\u4f60"}"#;
    let headers = [
        ("content-type", "image/png"),
        ("x-oss-callback", &STANDARD.encode(callback.to_string())),
        ("x-oss-callback-var", &STANDARD.encode(note)),
    ];
    let bytes = encoded(&picture(300, 200), ImageFormat::Png);
    let answer = running.oss(Method::PUT, &path_of("\"quoted\"\\.png"), &headers, &bytes).await.json();
    assert_eq!(answer["status"], "ready", "{answer}");
    let record = running.record("\"quoted\"\\.png").await;
    assert_eq!(record["custom"]["note"], "a \"quoted\" \\ note\n你");
    assert_eq!((record["width"].as_u64(), record["height"].as_u64()), (Some(300), Some(200)));
}
