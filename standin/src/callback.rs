//! Upload callbacks, in the order in which they happen: [`parameters`] are read and judged before anything is stored,
//! [`template`] is filled with the facts of the upload, [`compose`] writes and signs the request, [`fire`] sends it, and
//! [`verdict`] judges the answer as OSS does. Beside that, [`uploader`] writes the parameters that [`parameters`] reads,
//! and [`trigger`] fires a callback without any upload.

mod address;
mod compose;
mod fire;
mod image;
mod parameters;
mod policy;
mod template;
mod trigger;
mod uploader;
mod verdict;

use std::net::IpAddr;

pub(crate) use address::CallbackUrl;
pub(crate) use compose::ACCOUNT;
pub(crate) use fire::{Callbacks, Connection, Tls, parse_head, resolve};
pub use image::Image;
pub(crate) use image::image_in;
pub(crate) use parameters::Callback;
pub(crate) use policy::{delete_callback_policy, get_callback_policy, put_callback_policy};
pub use template::{BodyType, EmptyValue};
pub use trigger::{Fired, Relayed, Trigger, TriggerError, UploadFacts};
pub use uploader::{CallbackParameters, Refusal};

/// The facts of one upload: the system variables of the template.
#[derive(Clone, Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) object: &'a str,
    pub(crate) etag: &'a str,
    pub(crate) size: u64,
    /// protocol: what the uploader declared, not what the content is.
    pub(crate) mime_type: &'a str,
    /// protocol: what the content is, not what the uploader declared.
    pub(crate) image: Option<Image>,
    pub(crate) crc64: u64,
    /// protocol: absent for multipart uploads.
    pub(crate) content_md5: Option<&'a str>,
    pub(crate) client: IpAddr,
    pub(crate) request_id: &'a str,
    pub(crate) operation: &'a str,
}
