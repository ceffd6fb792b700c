//! Uploads with callbacks, and what is shown of those that fail.

use ali_oss_rs::{
    Client, Result,
    multipart::MultipartUploadsOperations,
    multipart_common::{
        CompleteMultipartUploadOptions, CompleteMultipartUploadRequest, CompleteMultipartUploadResult,
        UploadPartRequest,
    },
    object::ObjectOperations,
    object_common::{
        Callback, CallbackBodyParameter, CallbackBodyType, CallbackBuilder, PutObjectOptions, PutObjectOptionsBuilder,
        PutObjectResult,
    },
    presign::SignedOssRequest,
    request::{OssRequest, RequestMethod},
    reqwest::{Method, header::HeaderMap},
};
use program::{FAILURES, JSON, KINDS, PART_SIZE, Report, encode, send};
use serde_json::{Value, json};

use crate::{PREFIX, Program};

impl Program {
    pub(crate) async fn uploads(&self) {
        for (kind, body_type) in KINDS {
            let upload = Uploading { program: self, body_type, mode: "ok" };
            let name_key = |name: &str, extension: &str| {
                (format!("{name} {kind}"), format!("{PREFIX}/{name} ü&{kind}{extension}"))
            };
            let (client, with_token) = (&self.client, &self.client_with_token);
            self.upload(name_key("put-bytes", ".txt"), async |key| upload.put(client, key).await).await;
            self.upload(name_key("put-file", ".png"), async |key| upload.put_file(key).await).await;
            self.upload(name_key("put-token", ".txt"), async |key| upload.put(with_token, key).await).await;
            self.upload(name_key("multipart", ".bin"), async |key| upload.multipart(key).await).await;
            self.upload(name_key("presigned-v4", ".txt"), async |key| Ok(upload.signed_headers(key).await)).await;
            self.upload(name_key("presigned-token", ".txt"), async |key| Ok(upload.signed_query(key).await)).await;
        }
    }

    pub(crate) async fn failures(&self) {
        let failing = |mode| Uploading { program: self, body_type: JSON, mode };
        let name_key =
            |name: &str, extension: &str| (format!("failed {name}"), format!("{PREFIX}/failed-{name}{extension}"));
        for mode in FAILURES {
            let put = async |key: &str| failing(mode).put(&self.client, key).await;
            self.upload(name_key(&format!("put {mode}"), ".txt"), put).await;
        }
        self.upload(name_key("multipart 500", ".bin"), async |key| failing("500").multipart(key).await).await;
        let signed_headers = async |key: &str| Ok(failing("500").signed_headers(key).await);
        self.upload(name_key("presigned-v4 500", ".txt"), signed_headers).await;
        self.upload(name_key("put refused", ".txt"), async |key| {
            let options = PutObjectOptionsBuilder::new().parameter("callback", "this is not Base64").build();
            let put = self.client.put_object_from_buffer(&self.settings.bucket, key, "text", Some(options));
            put.await.map(shown)
        })
        .await;
    }

    /// Reports what `with` shows of its upload to the key, and how the object is read back.
    async fn upload(&self, (name, key): (String, String), with: impl AsyncFnOnce(&str) -> Result<Value>) {
        let step = async |report: &mut Report| {
            let uploaded = with(&key).await;
            self.stored(report, &key).await;
            report.tell(uploaded?);
            Ok(())
        };
        self.steps.run(&name, step).await;
    }
}

/// Uploads with a callback of that media type to the server that answers in that mode.
struct Uploading<'a> {
    program: &'a Program,
    body_type: &'a str,
    mode: &'a str,
}

impl Uploading<'_> {
    /// In a form by the crate's own builder, in JSON as a template.
    fn callback(&self) -> Callback {
        let settings = &self.program.settings;
        let url = settings.callback_urls[self.mode].clone();
        if self.body_type == JSON {
            return Callback {
                url,
                host: None,
                body: settings.templates[JSON].clone(),
                sni: None,
                body_type: Some(CallbackBodyType::Json),
                custom_variables: settings.variables.clone(),
            };
        }
        let builder = CallbackBuilder::new(url).body_type(CallbackBodyType::FormUrlEncoded);
        let with_system = SYSTEM_VARIABLES.into_iter().fold(builder, CallbackBuilder::body_parameter);
        let with_all = settings.variables.iter().fold(with_system, |builder, (name, value)| {
            let name = name.trim_start_matches("x:");
            builder.body_parameter(CallbackBodyParameter::Custom(name, name, value.clone()))
        });
        with_all.build()
    }

    fn options(&self) -> PutObjectOptions {
        PutObjectOptionsBuilder::new().callback(self.callback()).build()
    }

    async fn put(&self, client: &Client, key: &str) -> Result<Value> {
        let settings = &self.program.settings;
        let text = settings.read("text.txt");
        client.put_object_from_buffer(&settings.bucket, key, text, Some(self.options())).await.map(shown)
    }

    async fn put_file(&self, key: &str) -> Result<Value> {
        let (settings, client) = (&self.program.settings, &self.program.client);
        let path = settings.file("picture.png");
        client.put_object_from_file(&settings.bucket, key, path, Some(self.options())).await.map(shown)
    }

    /// Some parts from the file, some from memory.
    async fn multipart(&self, key: &str) -> Result<Value> {
        let (settings, client) = (&self.program.settings, &self.program.client);
        let (bucket, path, content) = (&settings.bucket, settings.file("large.bin"), settings.read("large.bin"));
        let upload_id = client.initiate_multipart_uploads(bucket, key, None).await?.upload_id;
        let mut parts = Vec::new();
        let mut start = 0;
        for (number, part) in (1..).zip(content.chunks(PART_SIZE)) {
            let request = UploadPartRequest::new(number, &upload_id);
            let end = start + part.len() as u64;
            let uploaded = if number % 2 == 0 {
                client.upload_part_from_buffer(bucket, key, part, request).await?
            } else {
                client.upload_part_from_file(bucket, key, &path, start..end, request).await?
            };
            parts.push((number, uploaded.etag));
            start = end;
        }
        let request = CompleteMultipartUploadRequest { upload_id, parts };
        let options = CompleteMultipartUploadOptions { callback: Some(self.callback()) };
        Ok(match client.complete_multipart_uploads(bucket, key, request, Some(options)).await? {
            CompleteMultipartUploadResult::CallbackResponse(answer) => json!({"answer": answer}),
            CompleteMultipartUploadResult::ApiResponse(response) => json!({"etag": response.etag}),
        })
    }

    /// This crate signs for others in headers, which it hands out beside the URL. The callback is one of them.
    async fn signed_headers(&self, key: &str) -> Value {
        let request = self
            .request(key)
            .add_header("x-oss-callback", encode(&self.callback()))
            .add_header("x-oss-callback-var", encode(&self.program.settings.variables));
        self.send(self.program.client.presign_raw_request(request)).await
    }

    /// The same with a security token and the callback in the URL's query.
    async fn signed_query(&self, key: &str) -> Value {
        let request = self
            .request(key)
            .add_query("callback", encode(&self.callback()))
            .add_query("callback-var", encode(&self.program.settings.variables));
        self.send(self.program.client_with_token.presign_raw_request(request)).await
    }

    fn request(&self, key: &str) -> OssRequest {
        let request = OssRequest::new().method(RequestMethod::Put).bucket(&self.program.settings.bucket).object(key);
        request.content_type("text/plain")
    }

    async fn send(&self, SignedOssRequest { url, headers }: SignedOssRequest) -> Value {
        let headers = HeaderMap::try_from(&headers).expect("headers");
        let content = self.program.settings.read("text.txt");
        send(&self.program.http, Method::PUT, &url, headers, content).await
    }
}

const SYSTEM_VARIABLES: [CallbackBodyParameter<'static>; 14] = [
    CallbackBodyParameter::OssBucket("bucket"),
    CallbackBodyParameter::OssObject("object"),
    CallbackBodyParameter::OssETag("etag"),
    CallbackBodyParameter::OssSize("size"),
    CallbackBodyParameter::OssMimeType("mimeType"),
    CallbackBodyParameter::OssImageHeight("imageInfo.height"),
    CallbackBodyParameter::OssImageWidth("imageInfo.width"),
    CallbackBodyParameter::OssImageFormat("imageInfo.format"),
    CallbackBodyParameter::OssCrc64("crc64"),
    CallbackBodyParameter::OssContentMd5("contentMd5"),
    CallbackBodyParameter::OssVpcId("vpcId"),
    CallbackBodyParameter::OssClientIp("clientIp"),
    CallbackBodyParameter::OssRequestId("reqId"),
    CallbackBodyParameter::OssOperation("operation"),
];

/// The callback's answer, or what is shown instead of one.
fn shown(result: PutObjectResult) -> Value {
    match result {
        PutObjectResult::CallbackResponse(answer) => json!({"answer": answer}),
        PutObjectResult::ApiResponse(response) => json!({"etag": response.etag, "crc64": response.hash_crc64ecma}),
    }
}
