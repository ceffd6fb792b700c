//! Bytes and limits in, thumbnails out: pure, no IO, no async.
//!
//! The flow: the format is told by the first bytes ([`SourceFormat::detect`]), the headers are held against the limits,
//! and only then is the file decoded, once for all variants. Each variant is planned, resized, turned upright, brought to
//! sRGB and encoded. Metadata stays behind: only pixels get through.
//!
//! No input makes this panic: decoders that do are caught. What cannot be caught, running out of memory or of time, is
//! made unlikely by the limits and is the business of the process that this runs in.

mod colour;
mod decode;
mod encode;
mod error;
mod format;
mod gif;
mod inspect;
mod jpeg;
mod offsets;
mod orientation;
mod pixels;
mod plan;
mod png;
mod resize;
mod time;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::media::{Limits, Variant};
use colour::Profile;
use orientation::Orientation;
use plan::Plan;
use resize::Reduced;

pub use error::{ExceededLimit, ThumbnailError};
pub use format::SourceFormat;
pub use time::expected_time;

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnails {
    /// What the source is, whatever it was declared as.
    pub format: SourceFormat,
    /// Width of the source in pixels, after orientation.
    pub width: u32,
    /// Height of the source in pixels, after orientation.
    pub height: u32,
    /// The name of each variant in the order asked for, with its thumbnail or why there is none.
    pub made: Vec<(String, Result<Made, ThumbnailError>)>,
}

/// One thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Name of the variant.
    pub name: String,
    /// The encoded file.
    pub bytes: Vec<u8>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// MIME type of the file.
    pub mime: &'static str,
}

/// Makes the thumbnails that `variants` ask for of the file in `bytes`.
///
/// The result depends on nothing but the arguments. One variant that fails does not take the others with it.
///
/// # Errors
///
/// If the file exceeds a limit, is of a format that is not decoded, or is damaged. A JPEG without its end marker counts as
/// damaged, as it was cut short.
pub fn make(bytes: &[u8], variants: &[Variant], limits: &Limits) -> Result<Thumbnails, ThumbnailError> {
    let (format, header) = inspect::inspect(bytes, limits)?;
    let stored = (header.width, header.height);
    let plans: Vec<Plan> = variants.iter().map(|variant| Plan::new(variant, stored, header.orientation)).collect();
    let source = caught(ThumbnailError::undecodable("the decoder panicked"), || {
        let decoded = decode::decode(bytes, format, &header, limits)?;
        let reduced = Reduced::new(decoded.pixels, &plans)?;
        Ok(Source { reduced, profile: decoded.profile, orientation: header.orientation })
    })?;
    let made = variants.iter().zip(&plans).map(|(variant, plan)| {
        let made = caught(ThumbnailError::not_encodable("making it panicked"), || source.make(variant, plan));
        (variant.name.clone(), made)
    });
    let (width, height) = header.orientation.upright(stored);
    Ok(Thumbnails { format, width, height, made: made.collect() })
}

/// Does `work`, and gives `panicked` where it panics.
fn caught<T>(panicked: ThumbnailError, work: impl FnOnce() -> Result<T, ThumbnailError>) -> Result<T, ThumbnailError> {
    // Sound to assert: what the work was changing is dropped with it, and it borrows nothing that it can change.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(panicked))
}

/// What all thumbnails of one source share.
struct Source {
    reduced: Reduced,
    profile: Option<Profile>,
    orientation: Orientation,
}

impl Source {
    fn make(&self, variant: &Variant, plan: &Plan) -> Result<Made, ThumbnailError> {
        let resized = self.reduced.resize(plan)?;
        let upright = self.orientation.apply(resized);
        let pixels = match &self.profile {
            Some(profile) => profile.convert(upright),
            None => upright,
        };
        let (width, height) = (pixels.width, pixels.height);
        let bytes = encode::encode(pixels, variant)?;
        Ok(Made { name: variant.name.clone(), bytes, width, height, mime: variant.format.mime() })
    }
}
