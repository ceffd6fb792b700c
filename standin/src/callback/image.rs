//! The image properties of an object, read from its content.

use std::io::{BufReader, Read, Seek};

use imagesize::ImageType;

/// An image as the template's `imageInfo` variables describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Pixels, as stored (before any orientation is applied).
    pub(crate) width: u64,
    /// Pixels, as stored.
    pub(crate) height: u64,
    pub(crate) format: &'static str,
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
