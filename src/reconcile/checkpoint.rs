//! How far a run came, in a file, so that the next one goes on from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Request;
use crate::media::Rules;

/// A run goes on from where an earlier one stopped only so long: what that one saw may have changed since.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Where a run stands. What lies before has been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// In the listing, behind this key.
    Listing(Option<String>),
    /// In the records, at this cursor of the store.
    Records(Option<String>),
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What was asked for, without caps: they are about one run.
    pub request: Request,
    /// The rules that it went by: what other rules saw is to be seen again.
    pub rules: String,
    /// Where it stands.
    pub position: Position,
    /// When that was written.
    pub saved: Timestamp,
}

/// A file that holds a checkpoint, or will.
#[derive(Debug, Clone)]
pub struct File(PathBuf);

impl File {
    /// Names the file.
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file in `directory` for this request on this store: different ones do not get into each other's way.
    pub fn in_directory(directory: &Path, store: &str, request: &Request) -> Self {
        let request = request.without_caps();
        let mut identity = Sha256::new();
        for part in [store, &request.bucket, &request.prefix] {
            identity.update(part);
            identity.update([0]);
        }
        identity.update([u8::from(request.failed), u8::from(request.rules_changed)]);
        let name: String = identity.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self(directory.join(format!("oss-callback-reconcile-{name}.json")))
    }

    /// The name of these rules in a checkpoint.
    pub(super) fn name_of(rules: &Rules) -> String {
        Sha256::digest(format!("{rules:?}")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What an earlier run for the same request left, if that is not too long ago.
    pub(super) fn read(&self, request: &Request, rules: &str) -> Option<Checkpoint> {
        let text = fs::read_to_string(&self.0).ok()?;
        let left: Checkpoint = serde_json::from_str(&text).ok()?;
        let age = Duration::try_from(Timestamp::now().duration_since(left.saved)).ok()?;
        (age < FRESH && left.request == request.without_caps() && left.rules == rules).then_some(left)
    }

    /// Writes down how far a run has come. If that fails the run goes on; only its successor would begin anew.
    pub(super) fn write(&self, request: &Request, rules: &str, position: Position) {
        let checkpoint =
            Checkpoint { request: request.without_caps(), rules: rules.to_owned(), position, saved: Timestamp::now() };
        let written = serde_json::to_vec(&checkpoint).map_err(io::Error::other).and_then(|text| {
            // Whole or not at all.
            let new = self.0.with_extension("json.new");
            fs::write(&new, text)?;
            fs::rename(new, &self.0)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.0.display(), "the checkpoint cannot be written");
        }
    }

    /// There is nothing to go on from.
    pub fn remove(&self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "the checkpoint cannot be removed");
            }
            _ => {}
        }
    }
}
