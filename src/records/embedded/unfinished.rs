//! A database whose making was broken off: its process died before the file was one, so that nothing was ever stored in it.

use std::fs::{OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;

use redb::Database;

use super::configured;

/// The length of the magic number, which the library writes last.
const MAGIC: usize = 9;

/// Where the library's description of the file ends and its pages begin.
const PAGES: usize = 4096;

/// More than a new database has before its first transaction.
const LONGEST: u64 = 1024 * 1024;

/// Opens the database, or makes it where there is none, or none yet.
pub(super) fn open_or_make(path: &Path) -> Result<Database, redb::Error> {
    match configured().create(path) {
        Err(redb::DatabaseError::Storage(redb::StorageError::Io(error)))
            if error.kind() == io::ErrorKind::InvalidData && empty(path)? =>
        {
            tracing::warn!(path = %path.display(), "the making of the record store was broken off; it is made anew");
            Ok(configured().create(path)?)
        }
        outcome => Ok(outcome?),
    }
}

/// Empties the file if it is such a one. Whatever else it is, it stays as it is.
fn empty(path: &Path) -> io::Result<bool> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        // Somebody was faster and is making it now.
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut content = Vec::new();
    if file.by_ref().take(LONGEST.saturating_add(1)).read_to_end(&mut content)? as u64 > LONGEST {
        return Ok(false);
    }
    let blank = content.iter().take(MAGIC).chain(content.iter().skip(PAGES)).all(|byte| *byte == 0);
    if blank {
        file.set_len(0)?;
    }
    Ok(blank)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;

    use tempfile::TempDir;

    use super::super::{Embedded, FILE, OpenError};
    use super::*;

    /// A database as it is on disk, new and empty.
    fn made() -> Vec<u8> {
        let directory = TempDir::new().unwrap();
        drop(Embedded::open(directory.path()).unwrap());
        fs::read(directory.path().join(FILE)).unwrap()
    }

    fn open(content: &[u8]) -> (Result<Embedded, OpenError>, Vec<u8>) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, content).unwrap();
        (Embedded::open(directory.path()), fs::read(&path).unwrap())
    }

    #[test]
    fn a_database_whose_making_was_broken_off_is_made_anew() {
        let mut content = made();
        content[..MAGIC].fill(0);
        content[PAGES..].fill(0);
        open(&content).0.unwrap();
        content.fill(0);
        open(&content).0.unwrap();
    }

    #[test]
    fn a_file_that_has_anything_in_it_is_refused_and_left_alone() {
        let mut damaged = made();
        damaged[..MAGIC].fill(0);
        let mut long = vec![0; usize::try_from(LONGEST).unwrap() + 1];
        long[PAGES - 1] = 1;
        for content in [b"somebody's notes".to_vec(), damaged, long] {
            let (opened, left) = open(&content);
            assert!(matches!(opened, Err(OpenError::Database { .. })), "{opened:?}");
            assert!(left == content, "it was changed");
        }
    }
}
