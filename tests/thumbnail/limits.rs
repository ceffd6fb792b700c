//! What is refused before it is decoded.

use image::{GrayImage, ImageFormat};
use oss_callback::media::{Limits, Variant};
use oss_callback::record::Reason;
use oss_callback::thumbnail::{ExceededLimit, ThumbnailError, make};

use crate::refused;
use crate::sources::{corners, encoded, png_claiming, png_with_chunk, webp_chunk, webp_extended, webp_of};

fn refused_under(bytes: &[u8], limits: Limits) -> ThumbnailError {
    make(bytes, &[Variant::inside("small", 256)], &limits).expect_err("the source must be refused")
}

fn exceeded(error: &ThumbnailError) -> ExceededLimit {
    match error {
        ThumbnailError::TooManyPixels { limit, .. } => *limit,
        other => panic!("not too many pixels, but {other}"),
    }
}

/// A lossless WebP picture that is all header.
fn webp_claim(width: u32, height: u32) -> Vec<u8> {
    [&[0x2f][..], &((width - 1) | (height - 1) << 14).to_le_bytes(), &[0; 17]].concat()
}

#[test]
fn a_file_over_the_limit_of_bytes_is_refused_by_its_size_alone() {
    let bytes = vec![0; 1001];
    let error = refused_under(&bytes, Limits { max_bytes: 1000, ..Limits::default() });
    assert_eq!(error, ThumbnailError::TooManyBytes { bytes: 1001, limit: 1000 });
    assert_eq!(error.reason(), Reason::TooManyBytes);
    assert_eq!(error.to_string(), "the file has 1001 bytes; the limit is 1000");
}

#[test]
fn a_png_that_claims_a_huge_picture_is_refused() {
    let error = refused(&png_claiming(60_000, 60_000));
    assert_eq!(exceeded(&error), ExceededLimit::Side(16_384));
    assert_eq!(error.reason(), Reason::TooManyPixels);
    assert_eq!(error.to_string(), "the image is 60000 by 60000 pixels; the limit is 16384 pixels per side");
    assert_eq!(exceeded(&refused(&png_claiming(10_000, 10_000))), ExceededLimit::Pixels(50_000_000));
    assert_eq!(exceeded(&refused(&png_claiming(u32::MAX, u32::MAX))), ExceededLimit::Side(16_384));
}

#[test]
fn a_webp_of_a_few_bytes_that_claims_a_huge_picture_is_refused() {
    let bytes = webp_of(&[webp_chunk(b"VP8L", &webp_claim(16_383, 16_383))]);
    assert_eq!(bytes.len(), 42);
    assert_eq!(exceeded(&refused(&bytes)), ExceededLimit::Pixels(50_000_000));
}

#[test]
fn a_webp_whose_picture_is_larger_than_its_canvas_is_refused() {
    let huge = webp_chunk(b"VP8L", &webp_claim(16_383, 16_383));
    let still = webp_of(&[webp_extended(0, 10, 10), huge.clone()]);
    let frame_header = [0, 0, 0, 0, 0, 0, 9, 0, 0, 9, 0, 0, 100, 0, 0, 0];
    let frame = webp_chunk(b"ANMF", &[&frame_header[..], &huge].concat());
    let animated = webp_of(&[webp_extended(0b10, 10, 10), webp_chunk(b"ANIM", &[0; 6]), frame]);
    let wide_header = [0, 0, 0, 0, 0, 0, 99, 99, 0, 9, 0, 0, 100, 0, 0, 0];
    let wide = webp_chunk(b"ANMF", &[&wide_header[..], &webp_chunk(b"VP8L", &webp_claim(10, 10))].concat());
    let wide = webp_of(&[webp_extended(0b10, 10, 10), webp_chunk(b"ANIM", &[0; 6]), wide]);
    for bytes in [still, animated, wide] {
        assert_eq!(
            refused(&bytes).to_string(),
            "the content cannot be decoded: a picture in the WebP is larger than its canvas"
        );
    }
}

#[test]
fn a_gif_with_a_huge_canvas_is_refused() {
    let gif = [&b"GIF89a\xff\xff\xff\xff\0\0\0"[..], b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;"].concat();
    assert_eq!(exceeded(&refused(&gif)), ExceededLimit::Side(16_384));
}

#[test]
fn a_gif_frame_that_is_huge_beside_its_canvas_is_refused() {
    let gif =
        [&b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff"[..], b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"];
    assert_eq!(refused(&gif.concat()).reason(), Reason::Undecodable);
}

#[test]
fn a_jpeg_that_claims_a_huge_picture_is_refused() {
    let mut jpeg = encoded(corners(16, 16), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|window| window == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert_eq!(exceeded(&refused(&jpeg)), ExceededLimit::Side(16_384));
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
    assert_eq!(exceeded(&refused(&jpeg)), ExceededLimit::Pixels(50_000_000));
}

#[test]
fn a_jpeg_with_very_many_scans_is_refused() {
    let jpeg = encoded(GrayImage::new(16, 16), ImageFormat::Jpeg);
    let scan = jpeg.windows(2).position(|window| window == [0xff, 0xda]).unwrap();
    let end = jpeg.len() - 2;
    let mut many = [&jpeg[..end], &jpeg[scan..end].repeat(500), &jpeg[end..]].concat();
    let frame = many.windows(2).position(|window| window == [0xff, 0xc0]).unwrap();
    many[frame + 5..frame + 9].copy_from_slice(&[0x08, 0, 0x08, 0]);
    assert_eq!(exceeded(&refused(&many)), ExceededLimit::Scans(501));
}

#[test]
fn memory_that_decoding_would_take_is_estimated_and_limited() {
    let limits = Limits { max_memory: 64 * 64 * 4, ..Limits::default() };
    make(&encoded(corners(64, 64), ImageFormat::Png), &[], &limits).unwrap();
    let error = refused_under(&encoded(corners(64, 65), ImageFormat::Png), limits);
    assert_eq!(exceeded(&error), ExceededLimit::Memory { needed: 64 * 65 * 4, limit: 64 * 64 * 4 });
}

#[test]
fn limits_are_inclusive() {
    let limits = Limits { max_pixels: 64 * 32, max_side: 64, ..Limits::default() };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let bytes = encoded(corners(64, 32), format);
        let limits = Limits { max_bytes: bytes.len() as u64, ..limits };
        make(&bytes, &[], &limits).unwrap();
        let error = refused_under(&bytes, Limits { max_side: 63, ..limits });
        assert_eq!(exceeded(&error), ExceededLimit::Side(63), "{format:?}");
        let error = refused_under(&bytes, Limits { max_pixels: 64 * 32 - 1, ..limits });
        assert_eq!(exceeded(&error), ExceededLimit::Pixels(64 * 32 - 1), "{format:?}");
    }
}

#[test]
fn a_colour_profile_that_inflates_far_is_left_out() {
    // Name and method, then zeros: no profile, but the length is what matters.
    let bomb = [b"x\0\0".to_vec(), zeros_deflated(16 << 20)].concat();
    assert!(bomb.len() < 1 << 18);
    let png = png_with_chunk(&encoded(corners(16, 16), ImageFormat::Png), b"iCCP", &bomb);
    assert_eq!(crate::open(&crate::one(&png, &crate::png(16))).width(), 16);
}

/// A zlib stream of this many zeros: what a PNG of zeros holds.
fn zeros_deflated(length: u32) -> Vec<u8> {
    let side = 8192;
    let png = encoded(GrayImage::new(side, length / side), ImageFormat::Png);
    let mut data = Vec::new();
    let mut at = 8;
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    data
}

#[test]
fn a_huge_unknown_chunk_does_no_harm() {
    let plain = encoded(corners(16, 16), ImageFormat::Png);
    let png = png_with_chunk(&plain, b"prVt", &vec![0; 9 << 20]);
    assert_eq!(crate::open(&crate::one(&png, &crate::png(16))).width(), 16);
}
