//! A variant: one thumbnail that a rule asks for.

use std::fmt;

/// One thumbnail that a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Name in the ledger and in the key: 1 to 64 of `a-z`, `0-9`, `_` and `-`; unique within a rule.
    pub name: String,
    /// Width of the box in pixels, 1 to [`Variant::MAX_SIDE`].
    pub width: u32,
    /// Height of the box in pixels, 1 to [`Variant::MAX_SIDE`].
    pub height: u32,
    /// How the source is fitted to the box.
    pub fit: Fit,
    /// What it is encoded as.
    pub format: Format,
    /// Quality of the encoding, 1 to 100. Without effect on PNG, and on WebP as long as that is written lossless.
    pub quality: u8,
    /// Whether a source that is smaller than the box is enlarged.
    pub enlarge: bool,
    /// Red, green and blue behind transparent pixels, where the format has no transparency.
    pub background: [u8; 3],
}

impl Variant {
    /// The longest side that can be asked for, in pixels.
    pub const MAX_SIDE: u32 = 8192;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 64;
    /// The quality where none is given.
    pub const DEFAULT_QUALITY: u8 = 80;
    /// The background where none is given: white.
    pub const DEFAULT_BACKGROUND: [u8; 3] = [255; 3];

    /// A JPEG that fits into a square of `side` pixels, with all else as by default.
    pub fn inside(name: impl Into<String>, side: u32) -> Self {
        Self {
            name: name.into(),
            width: side,
            height: side,
            fit: Fit::Inside,
            format: Format::Jpeg,
            quality: Self::DEFAULT_QUALITY,
            enlarge: false,
            background: Self::DEFAULT_BACKGROUND,
        }
    }

    /// Everything that changes the bytes of the thumbnail, as one stable text: variants with the same text are the same
    /// picture. The leading number goes up when the same parameters come to mean other bytes.
    pub(super) fn canonical(&self) -> String {
        let Self { name: _, width, height, fit, format, quality, enlarge, background: [red, green, blue] } = self;
        let mut text = format!("1 {width}x{height} {fit} {format} enlarge={enlarge}");
        if matches!(format, Format::Jpeg | Format::Webp) {
            text.push_str(&format!(" quality={quality}"));
        }
        if !format.has_transparency() {
            text.push_str(&format!(" background={red:02x}{green:02x}{blue:02x}"));
        }
        text
    }
}

/// How a source is fitted to the box of a variant.
///
/// Unless the variant says `enlarge`, no pixel of the result stands for less than one pixel of the source: a box that is
/// too large for the source is made smaller, as said with each way to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// As large as fits into the box, keeping the ratio; at least one pixel wide and high.
    Inside,
    /// Fills the box, keeping the ratio; what juts out is cut off evenly on both sides. A box that is too large is made
    /// smaller in its own ratio.
    Cover,
    /// Stretched to the box. A side of the box that is too long becomes as long as that of the source.
    Exact,
}

impl Fit {
    /// All ways to fit.
    pub const ALL: [Self; 3] = [Self::Inside, Self::Cover, Self::Exact];

    /// The name in rules files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Cover => "cover",
            Self::Exact => "exact",
        }
    }

    /// The way to fit that rules files call `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fit| fit.as_str() == name)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a thumbnail is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Baseline JPEG.
    Jpeg,
    /// PNG of 8 bits per sample.
    Png,
    /// WebP, lossless.
    Webp,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Webp];

    /// The name in rules files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// The format that rules files call `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The MIME type.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    /// The extension of keys, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// Whether pixels can be transparent.
    pub const fn has_transparency(self) -> bool {
        !matches!(self, Self::Jpeg)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
