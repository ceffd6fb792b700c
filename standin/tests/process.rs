//! Processing: what becomes of pictures and films, seen from outside.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use common::{Call, CallbackServer, Message, builder, call, eventually, ok, send_raw};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use md5::{Digest as _, Md5};
use oss_standin::Standin;
use serde_json::{Value, json};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const WHITE: [u8; 3] = [255, 255, 255];

async fn start(data: &tempfile::TempDir) -> Standin {
    builder(data).start().await.unwrap()
}

/// The left half red, the right half blue, and the lower right quarter green.
fn flag(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, _) => Rgb(RED),
        (false, true) => Rgb(BLUE),
        (false, false) => Rgb(GREEN),
    }))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG with Exif: an orientation, a title and a place.
fn photograph(picture: &DynamicImage, orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08".to_vec();
    tiff.extend_from_slice(&[0, 2]);
    tiff.extend_from_slice(&[0x01, 0x0e, 0, 2, 0, 0, 0, 4, b'a', b'b', b'c', 0]);
    tiff.extend_from_slice(&[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    tiff.extend_from_slice(&[0, 0, 0, 0]);
    let mut segment = b"\xff\xe1".to_vec();
    segment.extend_from_slice(&u16::try_from(tiff.len() + 8).unwrap().to_be_bytes());
    segment.extend_from_slice(b"Exif\0\0");
    segment.extend_from_slice(&tiff);
    let mut jpeg = encoded(picture, ImageFormat::Jpeg);
    jpeg.splice(2..2, segment);
    jpeg
}

fn put(standin: &Standin, key: &str, content: impl Into<Vec<u8>>) {
    assert_eq!(call("PUT", key).body(content).send(standin).status(), 200);
}

fn get(standin: &Standin, key: &str, process: &str) -> Message {
    call("GET", key).signed_query("x-oss-process", process).send(standin)
}

/// A request with its text in the body, as SDKs send it.
fn post(key: &str, name: &str, text: &str) -> Call {
    // The parameter stands in the query without a value, and is signed so.
    let body = format!("{name}={text}");
    call("POST", key)
        .bare_query(name)
        .header("content-md5", &STANDARD.encode(Md5::digest(&body)))
        .header("content-length", &body.len().to_string())
        .body(body)
}

fn picture(message: &Message) -> RgbImage {
    assert_eq!(message.status(), 200, "{}", String::from_utf8_lossy(&message.body));
    image::load_from_memory(&message.body).unwrap().into_rgb8()
}

#[track_caller]
fn assert_color(picture: &RgbImage, x: u32, y: u32, expected: [u8; 3]) {
    let found = picture.get_pixel(x, y).0;
    let close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) < 40);
    assert!(close, "{found:?} at {x}, {y} is not {expected:?}");
}

fn json_of(message: &Message) -> Value {
    assert_eq!((message.status(), message.header("content-type")), (200, "application/json"), "{}", message.text());
    serde_json::from_slice(&message.body).unwrap()
}

/// Nothing is left of what was worked on.
fn assert_tidy(data: &Path) {
    let left = std::fs::read_dir(data.join("films")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "left in the folder for films");
}

#[tokio::test(flavor = "multi_thread")]
async fn info_has_the_shape_of_oss_and_the_figures_of_the_stored_picture() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let png = encoded(&flag(40, 20), ImageFormat::Png);
    put(&standin, "a.txt", png.clone());
    assert_eq!(
        json_of(&get(&standin, "a.txt", "image/info")),
        json!({
            "FileSize": {"value": png.len().to_string()},
            "Format": {"value": "png"},
            "FrameCount": {"value": "1"},
            "ImageHeight": {"value": "20"},
            "ImageWidth": {"value": "40"},
        })
    );
    put(&standin, "b", photograph(&flag(40, 20), 6));
    let info = json_of(&get(&standin, "b", "image/info"));
    for (name, value) in [
        ("Format", "jpg"),
        ("Orientation", "6"),
        ("ImageDescription", "abc"),
        ("ImageWidth", "40"),
        ("ImageHeight", "20"),
    ] {
        assert_eq!(info[name], json!({"value": value}), "{name}");
    }
    for (format, name) in
        [(ImageFormat::Gif, "gif"), (ImageFormat::Bmp, "bmp"), (ImageFormat::Tiff, "tiff"), (ImageFormat::WebP, "webp")]
    {
        put(&standin, name, encoded(&flag(8, 6), format));
        let info = json_of(&get(&standin, name, "image/info"));
        assert_eq!((&info["Format"]["value"], &info["ImageWidth"]["value"]), (&json!(name), &json!("8")));
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_resized_cut_and_turned() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    put(&standin, "k", encoded(&flag(200, 100), ImageFormat::Png));

    let small = get(&standin, "k", "image/resize,w_100");
    assert_eq!(small.header("content-type"), "image/png");
    assert_eq!(small.header("etag"), call("HEAD", "k").send(&standin).header("etag"));
    let small = picture(&small);
    assert_eq!(small.dimensions(), (100, 50));
    assert_color(&small, 25, 40, RED);
    assert_color(&small, 75, 10, BLUE);
    assert_color(&small, 75, 40, GREEN);

    let padded = picture(&get(&standin, "k", "image/resize,m_pad,w_100,h_100,color_00ff00"));
    assert_eq!(padded.dimensions(), (100, 100));
    assert_color(&padded, 25, 10, GREEN);
    assert_color(&padded, 25, 90, GREEN);
    assert_color(&padded, 25, 50, RED);

    let filled = picture(&get(&standin, "k", "image/resize,m_fill,w_50,h_50"));
    assert_eq!(filled.dimensions(), (50, 50));
    assert_color(&filled, 10, 25, RED);
    assert_color(&filled, 40, 40, GREEN);

    assert_eq!(picture(&get(&standin, "k", "image/resize,w_400")).dimensions(), (200, 100));
    assert_eq!(picture(&get(&standin, "k", "image/resize,w_400,limit_0")).dimensions(), (400, 200));

    let corner = picture(&get(&standin, "k", "image/crop,g_se,w_40,h_30"));
    assert_eq!(corner.dimensions(), (40, 30));
    assert!(corner.pixels().all(|pixel| pixel.0 == GREEN));

    // Clockwise: what was on the left is now above.
    let turned = picture(&get(&standin, "k", "image/rotate,90"));
    assert_eq!(turned.dimensions(), (100, 200));
    assert_color(&turned, 50, 50, RED);
    assert_color(&turned, 80, 150, BLUE);
    assert_color(&turned, 20, 150, GREEN);

    let askew = picture(&get(&standin, "k", "image/rotate,45"));
    assert_eq!(askew.dimensions(), (212, 212));
    assert_color(&askew, 2, 2, WHITE);
    assert_color(&askew, 70, 70, RED);
    assert_color(&askew, 160, 130, BLUE);
    assert_color(&askew, 130, 160, GREEN);

    // The order counts.
    assert_eq!(picture(&get(&standin, "k", "image/resize,w_100/rotate,90/format,png")).dimensions(), (50, 100));
    assert_eq!(picture(&get(&standin, "k", "image/rotate,90/resize,w_50")).dimensions(), (50, 100));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_converted_to_every_format_and_keep_their_own_unasked() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    for (format, name, content_type) in [
        (ImageFormat::Jpeg, "jpg", "image/jpeg"),
        (ImageFormat::Png, "png", "image/png"),
        (ImageFormat::WebP, "webp", "image/webp"),
        (ImageFormat::Bmp, "bmp", "image/bmp"),
        (ImageFormat::Gif, "gif", "image/gif"),
        (ImageFormat::Tiff, "tiff", "image/tiff"),
    ] {
        put(&standin, name, encoded(&flag(64, 32), format));
        for (key, process) in
            [(name, "image/resize,w_32".to_owned()), ("jpg", format!("image/resize,w_32/format,{name}"))]
        {
            let made = get(&standin, key, &process);
            assert_eq!(made.header("content-type"), content_type, "{process}");
            assert_eq!(image::guess_format(&made.body).unwrap(), format, "{process}");
            let made = picture(&made);
            assert_eq!(made.dimensions(), (32, 16));
            assert_color(&made, 8, 8, RED);
        }
    }
    // What is transparent becomes white where nothing can be transparent.
    let glass = DynamicImage::ImageRgba8(RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])));
    put(&standin, "glass", encoded(&glass, ImageFormat::Png));
    assert_color(&picture(&get(&standin, "glass", "image/format,jpg")), 4, 4, WHITE);
    let kept = image::load_from_memory(&get(&standin, "glass", "image/resize,w_4").body).unwrap();
    assert_eq!(kept.into_rgba8().get_pixel(2, 2).0[3], 0);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn less_quality_makes_a_smaller_picture_and_never_a_better_one() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let noise = DynamicImage::ImageRgb8(RgbImage::from_fn(128, 128, |x, y| {
        let value = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(97) >> 8;
        Rgb([value as u8, (value >> 4) as u8, (value >> 8) as u8])
    }));
    let mut jpeg = Vec::new();
    noise.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 60)).unwrap();
    put(&standin, "k", jpeg);
    let size = |process: &str| get(&standin, "k", process).body.len();
    assert!(size("image/quality,Q_30") < size("image/quality,Q_50"));
    assert_eq!(size("image/quality,Q_90"), size("image/quality,q_100"));
    assert!(size("image/quality,q_50") < size("image/quality,Q_50"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orientation_is_applied_only_if_asked_and_then_first() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    // Orientation 6: to be turned clockwise by a quarter.
    put(&standin, "k", photograph(&flag(200, 100), 6));
    let unasked = picture(&get(&standin, "k", "image/resize,w_100"));
    assert_eq!(unasked.dimensions(), (100, 50));
    assert_color(&unasked, 25, 25, RED);
    assert_eq!(picture(&get(&standin, "k", "image/resize,w_100/auto-orient,0")).dimensions(), (100, 50));
    for process in ["image/auto-orient,1/resize,w_50", "image/resize,w_50/auto-orient,1"] {
        let upright = picture(&get(&standin, "k", process));
        assert_eq!(upright.dimensions(), (50, 100), "{process}");
        assert_color(&upright, 25, 25, RED);
        assert_color(&upright, 38, 75, BLUE);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_as_oss_does() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let png = encoded(&flag(200, 100), ImageFormat::Png);
    put(&standin, "png", png.clone());
    put(&standin, "text", "no picture at all");
    put(&standin, "torn", png[..png.len() / 2].to_vec());
    put(
        &standin,
        "torn.webp",
        b"RIFF\x1a\0\0\0WEBPVP8 \x0e\0\0\0\x30\x01\0\x9d\x01\x2a\x2a\x03\x1b\x02\0\0\0\0".to_vec(),
    );
    put(&standin, "heavy", vec![0; 20 * 1024 * 1024 + 1]);
    // Headers that promise more than may be decoded.
    let promise = |width: u32, height: u32| {
        let mut bmp = encoded(&flag(2, 2), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&width.to_le_bytes());
        bmp[22..26].copy_from_slice(&height.to_le_bytes());
        bmp
    };
    put(&standin, "long", promise(30_001, 1));
    put(&standin, "large", promise(30_000, 30_000));
    put(&standin, "wide", encoded(&DynamicImage::new_rgb8(4097, 1), ImageFormat::Png));
    for (key, process, status, code, message, ec) in [
        ("none", "image/info", 404, "NoSuchKey", "The specified key does not exist.", "0040-00000024"),
        ("text", "image/info", 400, "BadRequest", "This image format is not supported.", "0040-00000005"),
        ("text", "image/resize,w_1", 400, "BadRequest", "This image format is not supported.", "0040-00000005"),
        ("torn", "image/resize,w_1", 400, "BadRequest", "The image file may be damaged.", ""),
        ("torn.webp", "image/resize,w_1", 400, "BadWebPImage", "The webp image file may be damaged.", "0040-00000010"),
        ("heavy", "image/info", 400, "ImageTooLarge", "", "0040-00000001"),
        ("long", "image/resize,w_1", 400, "ImageTooLarge", "", "0040-00000017"),
        ("large", "image/resize,w_1", 400, "ImageTooLarge", "", "0040-00000012"),
        (
            "png",
            "image/resize,w_0",
            400,
            "InvalidArgument",
            "The value: 0 of parameter: w is invalid.",
            "0040-00000312",
        ),
        ("png", "image/resize,w_5000,h_5000,m_fixed,limit_0", 400, "InvalidArgument", "", "0040-00000007"),
        ("png", "image/crop,x_200", 400, "BadRequest", "Advance cut&apos;s position is out of image.", ""),
        ("wide", "image/rotate,90", 400, "BadRequest", "Picture exceed the maximum allowable rotation range", ""),
        ("png", "image/watermark,text_YQ", 501, "NotImplemented", "", ""),
        ("png", "style/small", 404, "NoSuchStyle", "The specified style does not exist.", ""),
        ("png", "image/resize,w_1|sys/saveas,o_YQ", 400, "InvalidArgument", "", ""),
        ("png", "trigger/callback,callback_e30=", 400, "InvalidArgument", "", ""),
    ] {
        let refused = get(&standin, key, process);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (status, code), "{key} {process}");
        assert_eq!(refused.element("EC"), ec, "{key} {process}");
        assert!(message.is_empty() || refused.element("Message") == message, "{}", refused.text());
    }
    // The stand-in is none the worse for it, and info is given of what is too large to be decoded.
    assert_eq!(json_of(&get(&standin, "large", "image/info"))["ImageWidth"]["value"], "30000");
    let unsigned = common::send_raw(
        standin.address(),
        b"GET /examplebucket/png?x-oss-process=image/info HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(unsigned.status(), 403);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_picture_is_not_made_again() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    put(&standin, "k", encoded(&flag(20, 10), ImageFormat::Png));
    let etag = get(&standin, "k", "image/info").header("etag").to_owned();
    let again = call("GET", "k").signed_query("x-oss-process", "image/info").header("if-none-match", &etag);
    assert_eq!(again.send(&standin).status(), 304);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_stored_where_the_request_says() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).bucket("other").start().await.unwrap();
    put(&standin, "k", encoded(&flag(200, 100), ImageFormat::Jpeg));
    let bucket = URL_SAFE.encode("examplebucket");
    for (key, destination) in [
        ("folder/padded", format!("o_{},b_{bucket}", URL_SAFE.encode("folder/padded"))),
        ("folder/bare", format!("o_{}", URL_SAFE_NO_PAD.encode("folder/bare"))),
        ("folder/standard", format!("b_{bucket},o_{}", STANDARD.encode("folder/standard"))),
    ] {
        let text = format!("image/resize,w_100/format,png|sys/saveas,{destination}");
        let answer = json_of(&post("k", "x-oss-process", &text).send(&standin));
        let saved = call("GET", key).send(&standin);
        assert_eq!(saved.header("content-type"), "image/png");
        assert_eq!(picture(&saved).dimensions(), (100, 50));
        let expected = json!({"bucket": "examplebucket", "fileSize": saved.body.len(), "object": key, "status": "OK"});
        assert_eq!(answer, expected);
    }
    let text = format!("image/info|sys/saveas,o_{},b_{}", URL_SAFE.encode("k"), URL_SAFE.encode("other"));
    assert_eq!(json_of(&post("k", "x-oss-process", &text).send(&standin))["bucket"], "other");
    // Without a destination the result is the answer.
    assert_eq!(picture(&post("k", "x-oss-process", "image/resize,w_10").send(&standin)).dimensions(), (10, 5));

    for (text, status, code) in [
        (format!("image/resize,w_1|sys/saveas,o_YQ,b_{}", URL_SAFE.encode("absent")), 404, "NoSuchBucket"),
        (format!("image/resize,w_1|sys/saveas,o_YQ,b_{}", URL_SAFE.encode("../up")), 400, "InvalidBucketName"),
        ("image/resize,w_1|sys/saveas,o_%%".to_owned(), 400, "BadRequest"),
        ("image/resize,w_1|sys/saveas,b_YQ".to_owned(), 400, "MissingArgument"),
    ] {
        let refused = post("k", "x-oss-process", &text).send(&standin);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (status, code), "{text}");
    }
    let digest = STANDARD.encode(Md5::digest("another body"));
    let refused = post("k", "x-oss-process", "image/info").header("content-md5", &digest).send(&standin);
    assert_eq!((refused.status(), refused.element("Code").as_str()), (400, "InvalidDigest"));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_fired_for_an_object_that_exists() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    put(&standin, "a/k.png", encoded(&flag(20, 10), ImageFormat::Png));
    let server = CallbackServer::answering(vec![ok("{\"Status\": \"OK\"}"), b"HTTP/1.1 500 No\r\n\r\n".to_vec()]);
    let body = "${object} ${size} ${imageInfo.width} ${operation} ${x:me}";
    let callback = STANDARD.encode(json!({"callbackUrl": server.url("/cb"), "callbackBody": body}).to_string());
    let variables = STANDARD.encode(json!({"x:me": "I???>>>"}).to_string());
    let text = format!("trigger/callback,callback_{callback},callback-var_{variables}");
    let answer = post("a/k.png", "x-oss-process", &text).send(&standin);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{\"Status\": \"OK\"}"));
    assert_eq!(answer.header("content-type"), "application/json");
    let request = server.request();
    assert_eq!(request.start, "POST /cb HTTP/1.1");
    assert_eq!(request.header("x-oss-request-id"), answer.header("x-oss-request-id"));
    let size = call("HEAD", "a/k.png").send(&standin).header("content-length").to_owned();
    assert_eq!(request.text(), format!("a%2Fk.png {size} 20 PostProcessTask I%3F%3F%3F%3E%3E%3E"));

    let failed = post("a/k.png", "x-oss-process", &text).send(&standin);
    assert_eq!((failed.status(), failed.element("Code").as_str()), (203, "CallbackFailed"));

    for (key, text, status, code) in [
        ("a/k.png", "trigger/callback,callback_,callback-var_".to_owned(), 400, "InvalidArgument"),
        ("a/k.png", format!("trigger/callback,callback_{}", STANDARD.encode("{}")), 400, "InvalidArgument"),
        ("a/k.png", "trigger/callback,callback_e30".to_owned(), 400, "InvalidArgument"),
        ("absent", text, 404, "NoSuchKey"),
    ] {
        let refused = post(key, "x-oss-process", &text).send(&standin);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (status, code), "{text}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_its_parameter_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    put(&standin, "k", "x");
    for name in ["x-oss-process", "x-oss-async-process"] {
        let refused = call("POST", "k").bare_query(name).header("content-length", "3").body("a=b").send(&standin);
        assert_eq!((refused.status(), refused.element("Code").as_str()), (400, "InvalidRequest"));
        assert_eq!(refused.element("Message"), format!("no {name} parameter found"));
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn films_are_refused_where_there_is_no_ffmpeg() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).ffmpeg("/no/such/program").start().await.unwrap();
    put(&standin, "k", "a film");
    let refused = get(&standin, "k", "video/snapshot,t_0,f_jpg");
    assert_eq!((refused.status(), refused.element("Message").as_str()), (400, "not supported format"));
    assert!(refused.element("Reason").contains("ffmpeg"));
    let text = format!("video/convert,f_avi|sys/saveas,o_{}", URL_SAFE.encode("k.avi"));
    let refused = post("k", "x-oss-async-process", &text).send(&standin);
    assert_eq!((refused.status(), refused.element("Code").as_str()), (501, "NotImplemented"));
    assert_tidy(data.path());
    standin.stop().await;
}

/// A program in the place of ffmpeg: it notes its arguments and environment, then does what this says.
#[cfg(unix)]
fn pretender(folder: &tempfile::TempDir, action: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join("pretender");
    let notes = folder.path().join("notes");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -version ] && exit 0\nfor last; do :; done\n\
         printf '%s\\n' \"$*\" \"$(cat source)\" \"${{SECRET_OF_THE_TEST-none}}\" > {}\n{action}\n",
        notes.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_gets_the_film_in_a_folder_that_goes_with_it() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = pretender(&folder, "printf result > \"${last#file:}\"");
    let standin = builder(&data).ffmpeg(program).start().await.unwrap();
    put(&standin, "k", "a film; $(touch broken)");
    let made = get(&standin, "k", "video/snapshot,t_7010,f_png,w_800,h_0,m_fast,ar_auto");
    assert_eq!((made.status(), made.text().as_str()), (200, "result"));
    assert_eq!(made.header("content-type"), "image/png");
    let notes = std::fs::read_to_string(folder.path().join("notes")).unwrap();
    for part in ["-ss 7.010", "-noaccurate_seek", "scale=800:-1", "file:source", "a film; $(touch broken)\nnone"] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    assert!(!notes.contains("-noautorotate"));
    assert_tidy(data.path());

    let text =
        format!("video/convert,f_avi,vcodec_h265,s_1920x1080,fps_30|sys/saveas,o_{}", URL_SAFE.encode("a.{autoext}"));
    let answer = json_of(&post("k", "x-oss-async-process", &text).send(&standin));
    assert!(answer["TaskId"].as_str().unwrap().starts_with("MediaConvert-"));
    assert!(!answer["EventId"].as_str().unwrap().is_empty() && !answer["RequestId"].as_str().unwrap().is_empty());
    eventually("the conversion", || call("HEAD", "a.avi").send(&standin).status() == 200);
    let converted = call("GET", "a.avi").send(&standin);
    assert_eq!((converted.text().as_str(), converted.header("content-type")), ("result", "video/x-msvideo"));
    let notes = std::fs::read_to_string(folder.path().join("notes")).unwrap();
    assert!(notes.contains("-c:v libx265 -vf scale=1920:1080 -r 30"), "{notes}");
    eventually("tidying up", || std::fs::read_dir(data.path().join("films")).map_or(0, Iterator::count) == 0);
    standin.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_the_stand_in_does_not_wait_for_a_conversion() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let standin = builder(&data).ffmpeg(pretender(&folder, "exec sleep 600")).start().await.unwrap();
    put(&standin, "k", "a film");
    let text = format!("video/convert,f_avi|sys/saveas,o_{}", URL_SAFE.encode("k.avi"));
    assert_eq!(post("k", "x-oss-async-process", &text).send(&standin).status(), 200);
    eventually("the conversion has begun", || folder.path().join("notes").exists());
    standin.stop().await;
    let standin = builder(&data).start().await.unwrap();
    assert_eq!(call("HEAD", "k.avi").send(&standin).status(), 404);
    standin.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_ffmpeg_cannot_read_is_not_supported() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = pretender(&folder, "echo 'Invalid data' >&2; exit 1");
    let standin = builder(&data).ffmpeg(program).start().await.unwrap();
    put(&standin, "k", "no film");
    let refused = get(&standin, "k", "video/snapshot,t_0");
    assert_eq!((refused.status(), refused.element("Message").as_str()), (400, "not supported format"));
    assert_eq!(refused.element("Reason"), "Invalid data");
    assert_tidy(data.path());
    standin.stop().await;
}

/// A film of two seconds, 64 by 48: red, then blue. None without an ffmpeg that can make it.
fn film(folder: &tempfile::TempDir) -> Option<Vec<u8>> {
    let path = folder.path().join("film.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "color=red:s=64x48:d=1:r=10"])
        .args(["-f", "lavfi", "-i", "color=blue:s=64x48:d=1:r=10", "-filter_complex", "[0][1]concat"])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "100", "-sc_threshold", "0"])
        .arg(&path)
        .status();
    matches!(made, Ok(status) if status.success()).then(|| std::fs::read(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_ffmpeg_takes_snapshots_and_converts_where_it_is_installed() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(film) = film(&folder) else { return };
    let standin = start(&data).await;
    put(&standin, "k.mp4", film);
    for (process, size, color) in [
        ("video/snapshot,t_200,f_jpg,w_32,h_24", (32, 24), [254, 0, 0]),
        ("video/snapshot,t_1700,f_png,w_0,h_24", (32, 24), [0, 0, 254]),
        ("video/snapshot,t_1700,f_png,m_fast,ar_auto", (64, 48), [254, 0, 0]),
        ("video/snapshot,t_99000,f_jpg", (64, 48), [0, 0, 254]),
        ("video/snapshot,t_0,f_png,ar_h", (48, 64), [254, 0, 0]),
    ] {
        let made = picture(&get(&standin, "k.mp4", process));
        assert_eq!(made.dimensions(), size, "{process}");
        assert_color(&made, 10, 10, color);
    }
    let text = format!("video/convert,f_mov,vcodec_h264,s_32x24,an_1|sys/saveas,o_{}", URL_SAFE.encode("k.mov"));
    json_of(&post("k.mp4", "x-oss-async-process", &text).send(&standin));
    eventually("the conversion", || call("HEAD", "k.mov").send(&standin).status() == 200);
    assert_eq!(call("HEAD", "k.mov").send(&standin).header("content-type"), "video/quicktime");
    assert_eq!(picture(&get(&standin, "k.mov", "video/snapshot,t_0")).dimensions(), (32, 24));

    // A list of files to be read is no film, nor is a picture, nor a film in another codec.
    let secret = folder.path().join("film.mp4");
    put(&standin, "list", format!("ffconcat version 1.0\nfile {}\n", secret.display()));
    put(&standin, "playlist", format!("#EXTM3U\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n", secret.display()));
    put(&standin, "picture", encoded(&flag(20, 10), ImageFormat::Png));
    let text = format!("video/convert,f_avi,vcodec_mpeg4|sys/saveas,o_{}", URL_SAFE.encode("old.avi"));
    json_of(&post("k.mp4", "x-oss-async-process", &text).send(&standin));
    eventually("the conversion", || call("HEAD", "old.avi").send(&standin).status() == 200);
    for key in ["list", "playlist", "picture", "old.avi"] {
        let refused = get(&standin, key, "video/snapshot,t_0");
        assert_eq!((refused.status(), refused.element("Message").as_str()), (400, "not supported format"), "{key}");
    }
    assert_tidy(data.path());
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_cannot_have_its_result_saved_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).bucket("private").start().await.unwrap();
    call("PUT", "").bare_query("acl").header("x-oss-acl", "public-read-write").send(&standin);
    call("PUT", "a.png").body("x").send(&standin);
    let body = "x-oss-process=image/resize,w_1|sys/saveas,o_a2V5,b_cHJpdmF0ZQ";
    let request = format!(
        "POST /examplebucket/a.png?x-oss-process HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let refused = send_raw(standin.address(), request.as_bytes());
    assert_eq!((refused.status(), refused.element("Code").as_str()), (403, "AccessDenied"));
    standin.stop().await;
}
