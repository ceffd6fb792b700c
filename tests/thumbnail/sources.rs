//! Source files, made byte by byte where no encoder writes them.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// What the corners of [`corners`] look like: red, green, blue and white, clockwise from the top left.
pub(crate) const CORNERS: [[u8; 3]; 4] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];

/// A picture whose quarters have the colours of [`CORNERS`].
pub(crate) fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let [top_left, top_right, bottom_right, bottom_left] = CORNERS;
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => top_left,
            (false, true) => top_right,
            (false, false) => bottom_right,
            (true, false) => bottom_left,
        })
    })
}

pub(crate) fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// An EXIF block that says nothing but the orientation, behind another tag.
pub(crate) fn exif(orientation: u8, little_endian: bool) -> Vec<u8> {
    let short = |value: u16| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let long = |value: u32| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut block = if little_endian { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
    block.extend(long(8));
    block.extend(short(2));
    for (tag, value) in [(0x0100, 640), (0x0112, u16::from(orientation))] {
        block.extend(short(tag));
        block.extend(short(3));
        block.extend(long(1));
        block.extend(short(value));
        block.extend(short(0));
    }
    block.extend(long(0));
    block
}

/// Puts EXIF into a JPEG, behind the start marker.
pub(crate) fn jpeg_with_exif(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let content = [b"Exif\0\0", exif].concat();
    jpeg_with_segment(jpeg, 0xe1, &content)
}

pub(crate) fn jpeg_with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// One chunk of a PNG, with its checksum.
pub(crate) fn png_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let checksum = crc32(&[name, content].concat()).to_be_bytes();
    [&length, &name[..], content, &checksum].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ table[usize::from(crc as u8 ^ byte)])
}

/// Bytes of a PNG up to the end of its header chunk.
const PNG_HEAD: usize = 33;
/// Bytes of a PNG's end chunk.
const PNG_TAIL: usize = 12;

/// Puts a chunk behind the header of a PNG.
pub(crate) fn png_with_chunk(png: &[u8], name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&png[..PNG_HEAD], &png_chunk(name, content), &png[PNG_HEAD..]].concat()
}

/// Puts a chunk behind the pixels of a PNG.
pub(crate) fn png_with_late_chunk(png: &[u8], name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let end = png.len() - PNG_TAIL;
    [&png[..end], &png_chunk(name, content), &png[end..]].concat()
}

/// A PNG that is nothing but a header with this claim, and a few bytes of pixels.
pub(crate) fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    let chunks =
        [png_chunk(b"IHDR", &header), png_chunk(b"IDAT", &[0x78, 1, 3, 0, 0, 0, 0, 1]), png_chunk(b"IEND", &[])];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat()].concat()
}

/// A PNG written by the `png` crate, for kinds that `image` does not write. `lines` are packed and without filter bytes.
pub(crate) fn png_of(
    (width, height): (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    palette: Option<(&[u8], &[u8])>,
    lines: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if let Some((colors, alphas)) = palette {
        encoder.set_palette(colors);
        encoder.set_trns(alphas);
    }
    encoder.write_header().unwrap().write_image_data(lines).unwrap();
    bytes
}

/// One chunk of a WebP, padded.
pub(crate) fn webp_chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    let padding = if content.len() % 2 == 1 { vec![0] } else { Vec::new() };
    [&name[..], &length, content, &padding].concat()
}

pub(crate) fn webp_of(chunks: &[Vec<u8>]) -> Vec<u8> {
    let content = chunks.concat();
    let length = u32::try_from(content.len() + 4).unwrap().to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &content].concat()
}

/// Where the content of a simple WebP's only chunk begins.
const WEBP_CONTENT: usize = 20;

/// The lossless picture in a simple WebP.
pub(crate) fn webp_picture(webp: &[u8]) -> Vec<u8> {
    let length = usize::try_from(u32::from_le_bytes(webp[16..20].try_into().unwrap())).unwrap();
    webp[WEBP_CONTENT..WEBP_CONTENT + length].to_vec()
}

/// The chunk that announces what an extended WebP holds.
pub(crate) fn webp_extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    webp_chunk(b"VP8X", &[vec![flags, 0, 0, 0], side(width), side(height)].concat())
}

/// A WebP with EXIF.
pub(crate) fn webp_with_exif(webp: &[u8], (width, height): (u32, u32), exif: &[u8]) -> Vec<u8> {
    let picture = webp_chunk(b"VP8L", &webp_picture(webp));
    webp_of(&[webp_extended(0b1000, width, height), picture, webp_chunk(b"EXIF", exif)])
}

/// A baseline JPEG of 8 by 8 pixels with four inks, stored inverted as Adobe does; only the constant part is coded.
pub(crate) fn cmyk_jpeg(inverted_inks: [u8; 4]) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    };
    let components: Vec<u8> = (1..=4).flat_map(|id| [id, 0x11, 0]).collect();
    let frame = [&[8, 0, 8, 0, 8, 4], &components[..]].concat();
    // Twelve constant-part categories in four bits each; for the rest, one code of one bit: end of block.
    let constant =
        [&[0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &(0..12).collect::<Vec<u8>>()].concat();
    let rest = [&[0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0]].concat();
    let scan: Vec<u8> = [4].into_iter().chain((1..=4).flat_map(|id| [id, 0])).chain([0, 63, 0]).collect();
    let mut bits = String::new();
    for ink in inverted_inks {
        // With all quantisers at 8, the constant part of a block is its value itself.
        let value = i32::from(ink) - 128;
        let category = 32 - value.unsigned_abs().leading_zeros();
        bits.push_str(&format!("{category:04b}"));
        if category > 0 {
            let coded = if value > 0 { value } else { value + (1 << category) - 1 };
            bits.push_str(&format!("{coded:0width$b}", width = category as usize));
        }
        bits.push('0');
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let mut data = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        data.push(byte);
        if byte == 0xff {
            data.push(0);
        }
    }
    [
        vec![0xff, 0xd8],
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0"),
        segment(0xdb, &[&[0][..], &[8; 64]].concat()),
        segment(0xc0, &frame),
        segment(0xc4, &constant),
        segment(0xc4, &rest),
        segment(0xda, &scan),
        data,
        vec![0xff, 0xd9],
    ]
    .concat()
}
