//! The commands of the program, one file each; beside them, the flags and the output that some of them share.

mod answer;
pub(crate) mod callback;
mod parameters;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod trigger;
pub(crate) mod watch;

use std::path::Path;

use clap::ValueEnum;
use oss_standin::KeyBits;

/// What ends a command: one sentence for the person who gave it.
pub(crate) type Failed = Box<dyn std::error::Error>;

/// The size of a key, as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Bits {
    #[value(name = "512")]
    Bits512,
    #[value(name = "2048")]
    Bits2048,
}

impl From<Bits> for KeyBits {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::Bits512 => Self::Bits512,
            Bits::Bits2048 => Self::Bits2048,
        }
    }
}

/// A small file that was named in a flag.
fn read(path: &Path) -> Result<Vec<u8>, Failed> {
    std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()).into())
}
