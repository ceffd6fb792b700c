//! The image properties of an object, read from its content.

use std::io::{BufReader, Read, Seek};
use std::str::FromStr;

use imagesize::ImageType;

/// The formats that OSS names in `imageInfo.format`.
const FORMATS: [&str; 7] = ["jpg", "png", "gif", "webp", "bmp", "tiff", "heic"];

/// An image as the template's `imageInfo` variables describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels, as stored (before any orientation is applied).
    pub width: u64,
    /// Pixels, as stored.
    pub height: u64,
    /// The content's format in OSS's short form, such as `jpg`.
    pub format: &'static str,
}

impl FromStr for Image {
    type Err = String;

    /// Reads `WIDTHxHEIGHT:FORMAT`, such as `810x539:jpg`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (size, format) = text.split_once(':')?;
            let (width, height) = size.split_once('x')?;
            let format = FORMATS.into_iter().find(|known| *known == format)?;
            Some(Self { width: width.parse().ok()?, height: height.parse().ok()?, format })
        };
        parse().ok_or_else(|| format!("{text:?} is not WIDTHxHEIGHT:FORMAT with one of {}", FORMATS.join(", ")))
    }
}

/// Looks at the first bytes of a content; `None` if it is no image.
///
/// protocol: detected from the content, whatever Content-Type the uploader declared. Blocks on the disk.
pub(crate) fn image_in(content: impl Read + Seek) -> Option<Image> {
    let mut reader = BufReader::new(content);
    let format = match imagesize::reader_type(&mut reader).ok()? {
        ImageType::Jpeg => "jpg",
        ImageType::Png => "png",
        ImageType::Gif => "gif",
        ImageType::Webp => "webp",
        ImageType::Bmp => "bmp",
        ImageType::Tiff => "tiff",
        ImageType::Heif(_) => "heic",
        _ => return None,
    };
    reader.rewind().ok()?;
    let size = imagesize::reader_size(&mut reader).ok()?;
    Some(Image { width: u64::try_from(size.width).ok()?, height: u64::try_from(size.height).ok()?, format })
}
