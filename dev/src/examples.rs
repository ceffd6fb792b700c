//! How to try it: uploads for curl, Python and Node that work as printed, pasted into a shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ImageBuffer, ImageFormat, Rgb};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aliyun_oss::{Credential, RequestSigner, SigningVersion};
use reqsign_core::{Context, SignRequest as _};
use serde_json::json;

use crate::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, BUCKET, Failed, REGION, Ready};

/// The body template: every variable that the function uses, in form type.
const CALLBACK_BODY: &str = "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}\
    &imageInfo.height=${imageInfo.height}&imageInfo.width=${imageInfo.width}&crc64=${crc64}&reqId=${reqId}";

/// As long as OSS lets a presigned URL of version 4 live: 7 days.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Makes a picture to upload, unless it is there already.
pub(crate) fn sample_picture(directory: &Path) -> Result<PathBuf, Failed> {
    let file = std::path::absolute(directory.join("sample.jpg"))?;
    if !file.exists() {
        let picture = ImageBuffer::from_fn(1600, 1200, |x, y| {
            let (across, down) = ((x * 255 / 1599) as u8, (y * 255 / 1199) as u8);
            Rgb([across, down, across.wrapping_mul(3) ^ down])
        });
        picture.save_with_format(&file, ImageFormat::Jpeg)?;
    }
    Ok(file)
}

/// The examples, each headed by its tool and ended by an empty line.
pub(crate) async fn text(ready: &Ready, picture: &Path) -> Result<String, Failed> {
    let Ready { listen, standin, callback_url, api_token } = ready;
    let picture = picture.display();
    let presigned = presigned_url(standin, "demo/curl.jpg", callback_url).await?;
    Ok(format!(
        r#"
The function listens on {listen}, the stand-in for OSS on {standin}. Paste one of these into a shell to
upload a picture; the answer is the function's, passed on by OSS.

# curl
curl --silent --show-error --header 'Content-Type: image/jpeg' --upload-file '{picture}' \
  '{presigned}'

# Python, with the package alibabacloud-oss-v2
python3 - <<'END'
import base64, json
import alibabacloud_oss_v2 as oss
config = oss.config.load_default()
config.region, config.endpoint = "{REGION}", "{standin}"
config.credentials_provider = oss.credentials.StaticCredentialsProvider("{ACCESS_KEY_ID}", "{ACCESS_KEY_SECRET}")
callback = json.dumps({{"callbackUrl": "{callback_url}", "callbackBody": "{CALLBACK_BODY}"}})
with open("{picture}", "rb") as picture:
    result = oss.Client(config).put_object(oss.PutObjectRequest(
        bucket="{BUCKET}", key="demo/python.jpg", body=picture, headers={{"Content-Type": "image/jpeg"}},
        callback=base64.b64encode(callback.encode()).decode()))
print(result.callback_result)
END

# Node, with the package ali-oss
node --input-type=module - <<'END'
import OSS from "ali-oss";
const client = new OSS({{ endpoint: "{standin}", region: "oss-{REGION}", bucket: "{BUCKET}",
  accessKeyId: "{ACCESS_KEY_ID}", accessKeySecret: "{ACCESS_KEY_SECRET}" }});
const callback = {{ url: "{callback_url}", body: "{CALLBACK_BODY}" }};
const result = await client.put("demo/node.jpg", "{picture}", {{ mime: "image/jpeg", callback }});
console.log(JSON.stringify(result.data));
END

Read the record:

  curl --header 'Authorization: Bearer {api_token}' {listen}/records/{BUCKET}/demo/curl.jpg

Ctrl-C stops both.
"#
    ))
}

/// A URL that may be PUT to without credentials, its callback pinned in the signed query.
async fn presigned_url(endpoint: &str, key: &str, callback_url: &str) -> Result<String, Failed> {
    let callback = STANDARD.encode(json!({"callbackUrl": callback_url, "callbackBody": CALLBACK_BODY}).to_string());
    let query = utf8_percent_encode(&callback, NON_ALPHANUMERIC);
    let request = http::Request::put(format!("{endpoint}/{BUCKET}/{key}?callback={query}"))
        .header(http::header::CONTENT_TYPE, "image/jpeg")
        .body(())?;
    let (mut parts, ()) = request.into_parts();
    let credential = Credential {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        access_key_secret: ACCESS_KEY_SECRET.to_owned(),
        security_token: None,
        expires_in: None,
    };
    RequestSigner::new(BUCKET)
        .with_region(REGION)
        .with_signing_version(SigningVersion::V4)
        .sign_request(&Context::new(), &mut parts, Some(&credential), Some(EXPIRY))
        .await?;
    Ok(parts.uri.to_string())
}
