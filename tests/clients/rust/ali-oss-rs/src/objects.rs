//! Objects and buckets without callbacks: reading, copying, lists, deletion.

use ali_oss_rs::{
    Result,
    bucket::BucketOperations,
    bucket_common::{ListBucketsOptions, ListObjectsOptionsBuilder},
    error::Error,
    multipart::MultipartUploadsOperations,
    multipart_common::UploadPartRequest,
    object::ObjectOperations,
    object_common::{DeleteMultipleObjectsConfig, GetObjectOptions, GetObjectOptionsBuilder, PutObjectOptionsBuilder},
    presign::SignedOssRequest,
    presign_common::PresignGetOptionsBuilder,
    request::{OssRequest, RequestMethod},
    reqwest::{Method, header::HeaderMap},
};
use program::{LISTED, Report, send};
use serde_json::json;

use crate::{MADE_BUCKET, MISSING_BUCKET, PREFIX, Program};

impl Program {
    pub(crate) async fn objects(&self) {
        let key = format!("{PREFIX}/object with headers ü&.txt");
        self.steps.run("headers", async |report| self.headers(report, &key).await).await;
        self.steps
            .run("range", async |report| {
                let content = self.get(&key, GetObjectOptionsBuilder::new().range("bytes=2-5")).await?;
                report.tell(json!({"text": String::from_utf8_lossy(&content)}));
                Ok(())
            })
            .await;
        self.steps
            .run("unchanged", async |_| {
                let head = self.client.head_object(&self.settings.bucket, &key, None).await?;
                self.get(&key, GetObjectOptionsBuilder::new().if_non_match(head.etag)).await.map(drop)
            })
            .await;
        self.steps
            .run("other version", async |_| {
                self.get(&key, GetObjectOptionsBuilder::new().if_match("\"0\"")).await.map(drop)
            })
            .await;
        let missing = format!("{PREFIX}/nothing");
        self.steps
            .run("missing object", async |_| self.get(&missing, GetObjectOptionsBuilder::new()).await.map(drop))
            .await;
        self.steps
            .run("missing bucket", async |_| {
                self.client.get_object_to_buffer(MISSING_BUCKET, &key, None).await.map(drop)
            })
            .await;
        self.steps
            .run("presigned get", async |report| {
                let options = PresignGetOptionsBuilder::new(600).build();
                let url = self.client.presign_url(&self.settings.bucket, &key, options);
                report.tell(send(&self.http, Method::GET, &url, HeaderMap::new(), Vec::new()).await);
                Ok(())
            })
            .await;
        self.steps.run("copying", async |report| self.copying(report, &key).await).await;
        self.steps.run("aborted upload", async |report| self.aborted_upload(report, &key).await).await;
    }

    async fn get(&self, key: &str, options: GetObjectOptionsBuilder) -> Result<Vec<u8>> {
        let options: GetObjectOptions = options.build();
        self.client.get_object_to_buffer(&self.settings.bucket, key, Some(options)).await
    }

    async fn headers(&self, report: &mut Report, key: &str) -> Result<()> {
        let options = PutObjectOptionsBuilder::new()
            .mime_type("text/markdown")
            .cache_control("no-cache")
            .content_disposition("attachment")
            .metadata("x-oss-meta-author", "a writer")
            .build();
        let text = self.settings.read("text.txt");
        self.client.put_object_from_buffer(&self.settings.bucket, key, text, Some(options)).await?;
        let head = self.client.head_object(&self.settings.bucket, key, None).await?;
        report.tell(json!({
            "mime": head.raw_headers.get("content-type"),
            "cache_control": head.raw_headers.get("cache-control"),
            "content_disposition": head.raw_headers.get("content-disposition"),
            "author": head.metadata.get("x-oss-meta-author"),
            "size": head.content_length,
        }));
        Ok(())
    }

    async fn copying(&self, report: &mut Report, key: &str) -> Result<()> {
        let (bucket, copy) = (&self.settings.bucket, format!("{PREFIX}/copy ü&.txt"));
        self.client.copy_object(bucket, key, bucket, &copy, None).await?;
        self.stored(report, &copy).await;
        Ok(())
    }

    async fn aborted_upload(&self, report: &mut Report, key: &str) -> Result<()> {
        let (client, bucket) = (&self.client, &self.settings.bucket);
        let upload_id = client.initiate_multipart_uploads(bucket, key, None).await?.upload_id;
        client.upload_part_from_buffer(bucket, key, "part", UploadPartRequest::new(1, &upload_id)).await?;
        let listed = client.list_parts(bucket, key, &upload_id, None).await?;
        report.tell(json!({"parts": listed.parts.len()}));
        client.abort_multipart_uploads(bucket, key, &upload_id).await?;
        client.list_parts(bucket, key, &upload_id, None).await.map(drop)
    }

    pub(crate) async fn listings(&self) {
        let (client, bucket) = (&self.client, &self.settings.bucket);
        let in_folder = || ListObjectsOptionsBuilder::new().prefix("list/").max_keys(2);
        self.steps
            .run("listing", async |report| {
                for key in LISTED {
                    if key.contains('+') {
                        self.put_escaped(key).await;
                    } else {
                        client.put_object_from_buffer(bucket, key, key, None).await?;
                    }
                }
                self.list(report, || in_folder().delimiter('/')).await
            })
            .await;
        self.steps
            .run("listing v2", async |report| self.list(report, || in_folder().start_after(LISTED[0])).await)
            .await;
        self.steps
            .run("deleting", async |report| {
                let before = client.exists(bucket, LISTED[0], None).await?;
                client.delete_object(bucket, LISTED[0], None).await?;
                report.tell(json!({"before": before, "after": client.exists(bucket, LISTED[0], None).await?}));
                Ok(())
            })
            .await;
        self.steps
            .run("batch deleting", async |report| {
                let keys = DeleteMultipleObjectsConfig::FromKeys(&LISTED[1..]);
                let result = client.delete_multiple_objects(bucket, keys).await?;
                let deleted: Vec<_> = result.items.into_iter().map(|item| item.key).collect();
                report.tell(json!({"deleted": deleted, "left": client.exists(bucket, LISTED[1], None).await?}));
                Ok(())
            })
            .await;
    }

    /// This crate leaves a plus in the path as it is, where it stands for a space.
    async fn put_escaped(&self, key: &str) {
        let request = OssRequest::new().method(RequestMethod::Put).bucket(&self.settings.bucket).object(key);
        let SignedOssRequest { url, headers } = self.client.presign_raw_request(request);
        let headers = HeaderMap::try_from(&headers).expect("headers");
        let told = send(&self.http, Method::PUT, &url.replace('+', "%2B"), headers, key.into()).await;
        assert_eq!(told["status"], 200, "{told}");
    }

    /// All pages. This crate lists in version 2 alone.
    async fn list(&self, report: &mut Report, options: impl Fn() -> ListObjectsOptionsBuilder) -> Result<()> {
        let (mut keys, mut sizes, mut prefixes, mut pages) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut position = None;
        loop {
            let options = match position.take() {
                Some(token) => options().continuation_token::<String>(token),
                None => options(),
            };
            let page = self.client.list_objects(&self.settings.bucket, Some(options.build())).await?;
            for object in page.contents {
                keys.push(object.key);
                sizes.push(object.size);
            }
            prefixes.extend(page.common_prefixes);
            pages += 1;
            position = page.next_continuation_token;
            if !page.is_truncated {
                break;
            }
        }
        report.tell(json!({"keys": keys, "sizes": sizes, "prefixes": prefixes, "pages": pages}));
        Ok(())
    }

    pub(crate) async fn buckets(&self) {
        self.steps
            .run("buckets", async |report| {
                let client = &self.client;
                client.put_bucket(MADE_BUCKET, Default::default(), None).await?;
                let names = self.bucket_names().await?;
                let options = ListBucketsOptions { prefix: Some(MADE_BUCKET.to_owned()), ..Default::default() };
                let found = client.list_buckets(Some(options)).await?.buckets;
                let location = client.get_bucket_location(MADE_BUCKET).await?;
                client.delete_bucket(MADE_BUCKET).await?;
                let left = match client.get_bucket_location(MADE_BUCKET).await {
                    Err(Error::ApiError(response)) if response.code == "NoSuchBucket" => false,
                    other => other.map(|_| true)?,
                };
                report.tell(json!({
                    "made": MADE_BUCKET, "names": names, "info": found.first().map(|bucket| &bucket.name), "location": location, "left": left,
                }));
                Ok(())
            })
            .await;
    }

    /// This crate reads no description of a bucket that says nothing of its encryption.
    pub(crate) async fn bucket_info(&self) {
        self.steps
            .run("bucket info", async |report| {
                let info = self.client.get_bucket_info(&self.settings.bucket).await?;
                report.tell(json!({"name": info.name, "location": info.location}));
                Ok(())
            })
            .await;
    }

    async fn bucket_names(&self) -> Result<Vec<String>> {
        let (mut names, mut marker) = (Vec::new(), None);
        loop {
            let options = ListBucketsOptions { max_keys: Some(1), marker, ..Default::default() };
            let page = self.client.list_buckets(Some(options)).await?;
            names.extend(page.buckets.into_iter().map(|bucket| bucket.name));
            if !page.is_truncated {
                return Ok(names);
            }
            marker = page.next_marker;
        }
    }
}
