//! Writes, reads, lists, deletes and presigns with OpenDAL's OSS service, and reports what it tells.

use std::time::Duration;

use opendal::{Entry, Error, HttpTransporter, Operator, Result, raw::PresignedRequest, services::Oss};
use opendal_http_transport_reqwest::ReqwestTransport;
use program::{LISTED, PART_SIZE, Report, Settings, Steps, digest, send};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What all paths are under, so that keys and paths differ.
const ROOT: &str = "opendal/ä root/";
const WITH_HEADERS: &str = "object with headers ü+&.txt";
/// More than a page of a list holds, and more than one request deletes.
const MANY: usize = 1010;
/// How many write them side by side.
const WRITERS: usize = 16;
const MISSING_BUCKET: &str = "no-such-bucket";
const PRESIGNED: Duration = Duration::from_secs(600);

/// What every step needs.
struct Program {
    settings: Settings,
    steps: Steps<Error>,
    operator: Operator,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let settings = Settings::load();
    HttpTransporter::install_default(ReqwestTransport::new(http_client(&settings)));
    let operator = operator(service(&settings));
    let program = Program { operator, steps: Steps { describe }, settings };
    program.writes().await;
    program.reads().await;
    program.refusals().await;
    program.presigned().await;
    program.listings().await;
}

/// Finds the names of buckets at the stand-in, whatever the name service says.
fn http_client(settings: &Settings) -> reqwest::Client {
    let pinned = [settings.bucket.as_str(), MISSING_BUCKET]
        .into_iter()
        .fold(reqwest::Client::builder(), |builder, bucket| builder.resolve(&host_of(bucket), settings.address()));
    pinned.no_proxy().build().expect("an HTTP client")
}

fn host_of(bucket: &str) -> String {
    format!("{bucket}.localhost")
}

/// The service as its documentation shows it, with buckets before the endpoint as in OSS.
fn service(settings: &Settings) -> Oss {
    Oss::default()
        .root(ROOT)
        .endpoint(&format!("http://localhost:{}", settings.address().port()))
        .addressing_style("virtual")
        .bucket(&settings.bucket)
        .access_key_id(&settings.access_key_id)
        .access_key_secret(&settings.access_key_secret)
}

fn operator(builder: Oss) -> Operator {
    Operator::new(builder).expect("an operator")
}

/// Its kinds are OpenDAL's own; what OSS said stands in the message.
fn describe(error: &Error) -> Value {
    json!({"type": error.kind().to_string(), "message": error.to_string()})
}

impl Program {
    /// Reports what `with` tells of its writing to the path, and how the object is read back.
    async fn write(&self, name: &str, path: &str, with: impl AsyncFnOnce(&str) -> Result<()>) {
        let step = async |report: &mut Report| {
            with(path).await?;
            let content = self.operator.read(path).await?.to_vec();
            let seen = self.operator.stat(path).await?;
            report.tell(json!({
                "key": format!("{ROOT}{path}"),
                "stored": digest(&content, seen.content_type()),
                "size": seen.content_length(),
                "md5": seen.content_md5(),
                "etag": seen.etag(),
                "dated": seen.last_modified().is_some(),
            }));
            Ok(())
        };
        self.steps.run(name, step).await;
    }

    async fn writes(&self) {
        let (text, picture) = (self.settings.read("text.txt"), self.settings.read("picture.png"));
        self.write("write text", "written ü+&.txt", async |path| {
            self.operator.write(path, text.clone()).await.map(drop)
        })
        .await;
        self.write("write picture", "written ü+&.png", async |path| {
            self.operator.write_with(path, picture).content_type("image/png").await.map(drop)
        })
        .await;
        self.write("write with a token", "token.txt", async |path| {
            let operator = operator(service(&self.settings).security_token("any-token"));
            operator.write(path, text.clone()).await.map(drop)
        })
        .await;
        self.write("write in path style", "path style ü+&.txt", async |path| {
            let service = service(&self.settings).endpoint(&self.settings.endpoint).addressing_style("path");
            operator(service).write(path, text.clone()).await.map(drop)
        })
        .await;
        for (name, path, concurrent) in
            [("write in parts", "parts ü+&.bin", 1), ("write in parts at once", "parts.bin", 3)]
        {
            self.write(name, path, async |path| self.write_in_parts(path, concurrent).await).await;
        }
        self.steps.run("aborted writing", async |report| self.aborted_writing(report, "aborted.bin").await).await;
        self.write("copying", "copy ü+&.txt", async |path| {
            self.operator.copy("written ü+&.txt", path).await.map(drop)
        })
        .await;
    }

    /// In pieces that are no parts.
    async fn write_in_parts(&self, path: &str, concurrent: usize) -> Result<()> {
        let mut writer = self.operator.writer_with(path).chunk(PART_SIZE).concurrent(concurrent).await?;
        for piece in self.settings.read("large.bin").chunks(100_000) {
            writer.write(piece.to_vec()).await?;
        }
        writer.close().await.map(drop)
    }

    async fn aborted_writing(&self, report: &mut Report, path: &str) -> Result<()> {
        let mut writer = self.operator.writer_with(path).chunk(PART_SIZE).await?;
        writer.write(self.settings.read("large.bin")).await?;
        writer.abort().await?;
        report.tell(json!({"left": self.operator.exists(path).await?}));
        Ok(())
    }

    async fn reads(&self) {
        self.steps
            .run("headers", async |report| {
                self.operator
                    .write_with(WITH_HEADERS, self.settings.read("text.txt"))
                    .content_type("text/markdown")
                    .cache_control("no-cache")
                    .content_disposition("attachment")
                    .user_metadata([("author".to_owned(), "a writer".to_owned())])
                    .await?;
                let seen = self.operator.stat(WITH_HEADERS).await?;
                report.tell(json!({
                    "mime": seen.content_type(),
                    "cache_control": seen.cache_control(),
                    "content_disposition": seen.content_disposition(),
                    "author": seen.user_metadata().and_then(|metadata| metadata.get("author").map(str::to_owned)),
                    "size": seen.content_length(),
                }));
                Ok(())
            })
            .await;
        for (name, range) in [("range", 2..6), ("range at the end", 12..17)] {
            self.steps
                .run(name, async |report| {
                    let content = self.operator.read_with(WITH_HEADERS).range(range).await?.to_vec();
                    report.tell(json!({"text": String::from_utf8_lossy(&content)}));
                    Ok(())
                })
                .await;
        }
        self.write("read in chunks", "parts ü+&.bin", async |path| {
            let reader = self.operator.reader_with(path).chunk(PART_SIZE).concurrent(3).await?;
            let content = reader.read(..).await?.to_vec();
            self.operator.write(path, content).await.map(drop)
        })
        .await;
        self.steps
            .run("same version", async |report| {
                let etag = self.etag().await?;
                let content = self.operator.read_with(WITH_HEADERS).if_match(&etag).await?.to_vec();
                report.tell(json!({"stored": digest(&content, None), "key": WITH_HEADERS}));
                Ok(())
            })
            .await;
    }

    async fn etag(&self) -> Result<String> {
        Ok(self.operator.stat(WITH_HEADERS).await?.etag().unwrap_or_default().to_owned())
    }

    async fn refusals(&self) {
        let read = async |operator: &Operator, path: &str| operator.read(path).await.map(drop);
        let other_bucket = operator(service(&self.settings).bucket(MISSING_BUCKET));
        let other_secret = operator(service(&self.settings).access_key_secret("another"));
        let other_id = operator(service(&self.settings).access_key_id("another"));
        self.steps.run("missing object", async |_| read(&self.operator, "nothing").await).await;
        self.steps.run("missing object's head", async |_| self.operator.stat("nothing").await.map(drop)).await;
        self.steps.run("missing bucket", async |_| read(&other_bucket, "nothing").await).await;
        self.steps.run("other secret", async |_| read(&other_secret, WITH_HEADERS).await).await;
        self.steps.run("other key id", async |_| read(&other_id, WITH_HEADERS).await).await;
        self.steps
            .run("unchanged", async |_| {
                let etag = self.etag().await?;
                self.operator.read_with(WITH_HEADERS).if_none_match(&etag).await.map(drop)
            })
            .await;
        self.steps
            .run("other version", async |_| self.operator.read_with(WITH_HEADERS).if_match("\"0\"").await.map(drop))
            .await;
        self.steps
            .run("not to be overwritten", async |_| {
                self.operator.write_with(WITH_HEADERS, "text").if_not_exists(true).await.map(drop)
            })
            .await;
    }

    async fn presigned(&self) {
        self.steps
            .run("presigned read", async |report| {
                let presigned = self.operator.presign_read_with(WITH_HEADERS, PRESIGNED);
                let presigned = presigned.override_content_disposition("inline; filename=\"ü.txt\"").await?;
                report.tell(self.send(&presigned, Vec::new()).await);
                Ok(())
            })
            .await;
        self.steps
            .run("presigned stat", async |report| {
                let presigned = self.operator.presign_stat(WITH_HEADERS, PRESIGNED).await?;
                report.tell(self.send(&presigned, Vec::new()).await);
                Ok(())
            })
            .await;
        self.write("presigned write", "presigned ü+&.txt", async |path| {
            let presigned = self.operator.presign_write_with(path, PRESIGNED).content_type("text/plain").await?;
            let told = self.send(&presigned, self.settings.read("text.txt")).await;
            assert_eq!(told["status"], 200, "{told}");
            Ok(())
        })
        .await;
    }

    /// As a client does that knows nothing of OSS.
    async fn send(&self, presigned: &PresignedRequest, content: Vec<u8>) -> Value {
        let mut headers = presigned.header().clone();
        // OpenDAL says 0 where it does not know the length.
        headers.remove("content-length");
        let client = self.settings.http_client(&[host_of(&self.settings.bucket)]);
        send(&client, presigned.method().clone(), &presigned.uri().to_string(), headers, content).await
    }

    async fn listings(&self) {
        self.steps
            .run("listing", async |report| {
                for path in LISTED {
                    self.operator.write(path, path).await?;
                }
                report.tell(told(self.operator.list_with("list/").limit(2).await?));
                Ok(())
            })
            .await;
        self.steps
            .run("listing all", async |report| {
                report.tell(told(self.operator.list_with("list/").recursive(true).limit(2).await?));
                Ok(())
            })
            .await;
        // OpenDAL signs the bucket without the slash that ends it elsewhere, as it asks for it.
        let in_path_style = service(&self.settings).endpoint(&self.settings.endpoint).addressing_style("path");
        self.steps
            .run("listing in path style", async |report| {
                report.tell(told(operator(in_path_style).list_with("list/").recursive(true).await?));
                Ok(())
            })
            .await;
        self.steps
            .run("listing from a position", async |report| {
                let listed = self.operator.list_with("list/").recursive(true).start_after(LISTED[2]).limit(1);
                report.tell(told(listed.await?));
                Ok(())
            })
            .await;
        self.steps
            .run("deleting", async |report| {
                let before = self.operator.exists(LISTED[0]).await?;
                self.operator.delete(LISTED[0]).await?;
                self.operator.delete(LISTED[0]).await?; // what is gone may be deleted again
                report.tell(json!({"before": before, "after": self.operator.exists(LISTED[0]).await?}));
                Ok(())
            })
            .await;
        self.steps
            .run("batch deleting", async |report| {
                let mut deleter = self.operator.deleter().await?;
                for path in &LISTED[1..] {
                    deleter.delete(*path).await?;
                }
                deleter.close().await?;
                report.tell(told(self.operator.list_with("list/").recursive(true).await?));
                Ok(())
            })
            .await;
        self.steps.run("many", async |report| self.many(report).await).await;
    }

    /// More than the default size of a page, made, listed and deleted.
    async fn many(&self, report: &mut Report) -> Result<()> {
        let count = async || -> Result<usize> {
            let entries = self.operator.list_with("many/").recursive(true).await?;
            Ok(entries.iter().filter(|entry| entry.metadata().is_file()).count())
        };
        let mut writing = JoinSet::new();
        for first in 0..WRITERS {
            let operator = self.operator.clone();
            writing.spawn(async move {
                for number in (first..MANY).step_by(WRITERS) {
                    operator.write(&format!("many/{number:04}"), "").await?;
                }
                Ok::<_, Error>(())
            });
        }
        for written in writing.join_all().await {
            written?;
        }
        let before = count().await?;
        self.operator.delete_iter((0..MANY).map(|number| format!("many/{number:04}"))).await?;
        report.tell(json!({"made": MANY, "listed": before, "left": count().await?}));
        Ok(())
    }
}

/// Paths and sizes, in the order in which they came; folders have no size.
fn told(entries: Vec<Entry>) -> Value {
    let described = entries.iter().map(|entry| {
        let size = entry.metadata().is_file().then(|| entry.metadata().content_length());
        json!([entry.path(), size])
    });
    json!({"entries": described.collect::<Vec<_>>()})
}
