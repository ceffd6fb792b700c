//! Uploads, reads, lists and deletes with ali-oss-rs, and reports what it tells.

mod objects;
mod uploads;

use ali_oss_rs::{Client, ClientBuilder, Result, error::Error, object::ObjectOperations, reqwest};
use program::{Report, Settings, Steps, digest};
use serde_json::{Value, json};

const PREFIX: &str = "ali-oss-rs";
const MADE_BUCKET: &str = "made-by-ali-oss-rs";
const MISSING_BUCKET: &str = "no-such-bucket";

/// What every step needs.
struct Program {
    settings: Settings,
    steps: Steps<Error>,
    http: reqwest::Client,
    client: Client,
    client_with_token: Client,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let program = Program::new(Settings::load());
    program.uploads().await;
    program.failures().await;
    program.objects().await;
    program.listings().await;
    program.buckets().await;
    program.bucket_info().await;
}

impl Program {
    fn new(settings: Settings) -> Self {
        let endpoint = format!("http://localhost:{}", settings.address().port());
        // This crate puts the bucket before the endpoint, whose name has to be one that can take it.
        let buckets = [settings.bucket.as_str(), MADE_BUCKET, MISSING_BUCKET];
        let mut hosts: Vec<_> = buckets.map(|bucket| format!("{bucket}.localhost")).into();
        hosts.push("localhost".to_owned());
        let http = settings.http_client(&hosts);
        let builder = || {
            ClientBuilder::new(&settings.access_key_id, &settings.access_key_secret, &endpoint)
                .region(&settings.region)
                .client(http.clone())
        };
        Self {
            client: builder().build().expect("a client"),
            client_with_token: builder().sts_token("any-token").build().expect("a client"),
            steps: Steps { describe },
            http,
            settings,
        }
    }

    /// Adds how the object is read back, or that it cannot be.
    async fn stored(&self, report: &mut Report, key: &str) {
        report.tell(json!({"key": key}));
        match self.read_back(key).await {
            Ok(stored) => report.tell(json!({"stored": stored})),
            Err(error) => report.tell(json!({"unreadable": error.to_string()})),
        }
    }

    async fn read_back(&self, key: &str) -> Result<Value> {
        let head = self.client.head_object(&self.settings.bucket, key, None).await?;
        let content = self.client.get_object_to_buffer(&self.settings.bucket, key, None).await?;
        Ok(digest(&content, head.raw_headers.get("content-type").map(String::as_str)))
    }
}

fn describe(error: &Error) -> Value {
    match error {
        Error::ApiError(response) => json!({
            "type": "ApiError",
            "code": response.code,
            "message": response.message,
            "ec": response.ec,
            "request_id": response.request_id,
        }),
        Error::StatusError(status) => {
            json!({"type": "StatusError", "status": status.as_u16(), "message": error.to_string()})
        }
        _ => json!({"type": "Error", "message": format!("{error:?}")}),
    }
}
