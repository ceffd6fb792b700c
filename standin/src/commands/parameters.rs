//! The flags that say which callback is wanted and what the upload was.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use oss_standin::{BodyType, CallbackParameters, Image, UploadFacts};

/// The system variables of the default bodies, as `${name}`.
const VARIABLES: [&str; 12] = [
    "bucket",
    "object",
    "etag",
    "size",
    "mimeType",
    "imageInfo.height",
    "imageInfo.width",
    "imageInfo.format",
    "crc64",
    "contentMd5",
    "reqId",
    "operation",
];

/// What the callback is like.
#[derive(Args)]
pub(crate) struct Wanted {
    /// callbackBody, with ${variables} in it [default: every system variable, then the custom ones].
    #[arg(long, value_name = "TEMPLATE")]
    body: Option<String>,
    /// callbackBodyType; in JSON the variables bring their own quotes.
    #[arg(long, value_name = "TYPE", default_value = "form")]
    body_type: Type,
    /// callbackHost: the Host header, if it is not that of the URL.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// callbackSNI: name the host in the TLS handshake, which most gateways need.
    #[arg(long)]
    sni: bool,
    /// A custom variable; its name begins with x: (may be repeated).
    #[arg(long = "var", value_name = "x:NAME=VALUE", value_parser = name_and_value)]
    variables: Vec<(String, String)>,
    /// One of additionalHeaders (may be repeated).
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = name_and_value)]
    headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    Form,
    Json,
}

impl Wanted {
    pub(crate) fn parameters(&self, url: &str) -> CallbackParameters {
        let body = self.body.clone().unwrap_or_else(|| self.default_body());
        let mut parameters = CallbackParameters::new(url, body);
        if self.body_type == Type::Json {
            parameters = parameters.body_type(BodyType::Json);
        }
        if let Some(host) = &self.host {
            parameters = parameters.host(host);
        }
        if self.sni {
            parameters = parameters.sni(true);
        }
        for (name, value) in &self.headers {
            parameters = parameters.header(name, value);
        }
        for (name, value) in &self.variables {
            parameters = parameters.variable(name, value);
        }
        parameters
    }

    pub(crate) fn is_json(&self) -> bool {
        self.body_type == Type::Json
    }

    /// Custom variables are called in the body what they are called without `x:`.
    fn default_body(&self) -> String {
        let system = VARIABLES.iter().map(|name| (*name, (*name).to_owned()));
        let custom = self.variables.iter().map(|(name, _)| (name.strip_prefix("x:").unwrap_or(name), name.clone()));
        let fields = system.chain(custom);
        match self.body_type {
            Type::Form => fields.map(|(field, name)| format!("{field}=${{{name}}}")).collect::<Vec<_>>().join("&"),
            Type::Json => {
                let fields: Vec<String> = fields.map(|(field, name)| format!("\"{field}\":${{{name}}}")).collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }
}

/// What the callback says about the upload.
#[derive(Args)]
pub(crate) struct Facts {
    /// Bucket that was uploaded to.
    #[arg(long, value_name = "NAME", help_heading = "The upload")]
    bucket: Option<String>,
    /// Key of the object.
    #[arg(long, value_name = "KEY", help_heading = "The upload")]
    object: Option<String>,
    /// ETag, without quotes.
    #[arg(long, value_name = "ETAG", help_heading = "The upload")]
    etag: Option<String>,
    /// Size in bytes.
    #[arg(long, value_name = "BYTES", help_heading = "The upload")]
    size: Option<u64>,
    /// Content type.
    #[arg(long, value_name = "TYPE", help_heading = "The upload")]
    mime_type: Option<String>,
    /// The object is this image, such as 810x539:jpg [default: no image].
    #[arg(long, value_name = "WxH:FORMAT", help_heading = "The upload")]
    image: Option<Image>,
    /// CRC-64 of the content, decimal.
    #[arg(long, value_name = "NUMBER", help_heading = "The upload")]
    crc64: Option<u64>,
    /// MD5 of the content in Base64; empty as after a multipart upload.
    #[arg(long, value_name = "BASE64", help_heading = "The upload")]
    content_md5: Option<String>,
    /// Address of the uploader.
    #[arg(long, value_name = "ADDRESS", help_heading = "The upload")]
    client_ip: Option<IpAddr>,
    /// Request id of the upload [default: a new one for each callback].
    #[arg(long, value_name = "ID", help_heading = "The upload")]
    request_id: Option<String>,
    /// PutObject, PostObject or CompleteMultipartUpload.
    #[arg(long, value_name = "NAME", help_heading = "The upload")]
    operation: Option<String>,
}

impl Facts {
    /// What is not said is that of a short text.
    pub(crate) fn facts(&self) -> UploadFacts {
        let default = UploadFacts::default();
        let text = |given: &Option<String>, default| given.clone().unwrap_or(default);
        UploadFacts {
            bucket: text(&self.bucket, default.bucket),
            object: text(&self.object, default.object),
            etag: text(&self.etag, default.etag),
            size: self.size.unwrap_or(default.size),
            mime_type: text(&self.mime_type, default.mime_type),
            image: self.image,
            crc64: self.crc64.unwrap_or(default.crc64),
            content_md5: self.content_md5.clone().or(default.content_md5).filter(|md5| !md5.is_empty()),
            client: self.client_ip.unwrap_or(default.client),
            request_id: self.request_id.clone(),
            operation: text(&self.operation, default.operation),
        }
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("there is no = between name and value")?;
    Ok((name.to_owned(), value.to_owned()))
}
