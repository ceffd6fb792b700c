//! Bodies: bytes on their way to the disk, and read back from it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::bucket::upper_hex;

/// How much of a body waits in memory for the disk.
const WRITE_BUFFER: usize = 128 * 1024;

/// One file of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Its name in `bodies/`.
    pub(crate) file: String,
    pub(crate) size: u64,
}

/// The content of one object: one piece, or as many as it was uploaded in. Joining them would write every byte of a
/// large object a second time, while its uploader waits.
#[derive(Debug)]
pub(crate) struct Body {
    directory: PathBuf,
    pub(crate) pieces: Vec<Piece>,
    /// Whether no object has this content any more. Its files go when the last reader has.
    orphaned: AtomicBool,
}

impl Body {
    pub(crate) fn new(directory: &Path, pieces: Vec<Piece>) -> Arc<Self> {
        Arc::new(Self { directory: directory.to_owned(), pieces, orphaned: AtomicBool::new(false) })
    }

    pub(crate) fn orphan(&self) {
        self.orphaned.store(true, Ordering::Release);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !*self.orphaned.get_mut() {
            return;
        }
        for piece in &self.pieces {
            if let Err(cause) = fs::remove_file(self.directory.join(&piece.file)) {
                // Nothing names it any more; the next start removes it.
                tracing::warn!(%cause, body = piece.file, "an old body could not be removed");
            }
        }
    }
}

/// A body being read. What happens to the object meanwhile does not disturb the reader. Reading blocks on the disk.
#[derive(Debug)]
pub(crate) struct Content {
    body: Arc<Body>,
    position: u64,
    /// The piece that is open, by its index, at the position.
    open: Option<(usize, File)>,
}

impl Content {
    pub(crate) fn new(body: Arc<Body>) -> Self {
        Self { body, position: 0, open: None }
    }

    pub(crate) fn size(&self) -> u64 {
        self.body.pieces.iter().map(|piece| piece.size).sum()
    }

    /// The piece that holds a position, and where it begins; none at the end.
    fn piece_at(&self, position: u64) -> Option<(usize, u64, &Piece)> {
        let mut begin = 0;
        for (index, piece) in self.body.pieces.iter().enumerate() {
            if position < begin + piece.size {
                return Some((index, begin, piece));
            }
            begin += piece.size;
        }
        None
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let open = self.open.take();
        let Some((index, begin, piece)) = self.piece_at(self.position) else { return Ok(0) };
        let left = piece.size - (self.position - begin);
        let mut file = match open {
            Some((opened, file)) if opened == index => file,
            _ => {
                let mut file = File::open(self.body.directory.join(&piece.file))?;
                file.seek(SeekFrom::Start(self.position - begin))?;
                file
            }
        };
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if count == 0 && wanted > 0 {
            // The file is shorter than it was when it was written.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.open = Some((index, file));
        Ok(count)
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        if position != self.position {
            self.position = position;
            self.open = None;
        }
        Ok(position)
    }
}

/// A file in `bodies/` that is removed when it is dropped, unless it was kept.
#[derive(Debug)]
struct Uncommitted {
    path: Option<PathBuf>,
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// A body on its way to the disk; its digests are computed as it passes.
pub(crate) struct Receiving {
    file: tokio::fs::File,
    uncommitted: Uncommitted,
    directory: PathBuf,
    name: String,
    md5: Md5,
    crc64: crc_fast::Digest,
    size: u64,
}

impl Receiving {
    /// Begins a body; it is removed again unless it is kept.
    pub(crate) async fn begin(directory: &Path) -> io::Result<Self> {
        let name = format!("{:032x}", rand::random::<u128>());
        let path = directory.join(&name);
        let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        file.set_max_buf_size(WRITE_BUFFER);
        Ok(Self {
            file,
            uncommitted: Uncommitted { path: Some(path) },
            directory: directory.to_owned(),
            name,
            md5: Md5::new(),
            crc64: crc_fast::Digest::new(CrcAlgorithm::Crc64Xz),
            size: 0,
        })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.crc64.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).await
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns once the content is on the disk.
    pub(crate) async fn finish(mut self) -> io::Result<Received> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(Received {
            uncommitted: self.uncommitted,
            directory: self.directory,
            name: self.name,
            md5: self.md5.finalize().into(),
            crc64: self.crc64.finalize(),
            size: self.size,
            etag_is_md5: true,
        })
    }
}

/// A complete body on the disk that nothing names yet; removed when dropped.
#[derive(Debug)]
pub(crate) struct Received {
    uncommitted: Uncommitted,
    directory: PathBuf,
    name: String,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
    pub(crate) size: u64,
    etag_is_md5: bool,
}

impl Received {
    /// Gives the object another ETag than its MD5.
    pub(crate) fn etag_is_not_md5(&mut self) {
        self.etag_is_md5 = false;
    }

    /// Upper-case, without quotes; the same for the same content.
    pub(super) fn etag(&self) -> String {
        match self.etag_is_md5 {
            true => upper_hex(&self.md5),
            // Not documented: how OSS makes such an ETag. It looks like an MD5.
            false => upper_hex(&Md5::digest(self.md5)),
        }
    }

    /// The content, before anybody else can see it.
    pub(crate) fn content(&self) -> Content {
        Content::new(Body::new(&self.directory, vec![self.piece()]))
    }

    pub(crate) fn piece(&self) -> Piece {
        Piece { file: self.name.clone(), size: self.size }
    }

    /// Keeps the file: from now on something durable names it.
    pub(crate) fn keep(mut self) {
        self.uncommitted.path = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_body_in_pieces_reads_as_the_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6), from in 0_u64..200, step in 1_usize..40) {
            let directory = tempfile::tempdir().unwrap();
            let mut listed = Vec::new();
            for (index, bytes) in pieces.iter().enumerate() {
                fs::write(directory.path().join(index.to_string()), bytes).unwrap();
                listed.push(Piece { file: index.to_string(), size: bytes.len() as u64 });
            }
            let whole: Vec<u8> = pieces.concat();
            let mut content = Content::new(Body::new(directory.path(), listed));
            content.seek(SeekFrom::Start(from)).unwrap();
            let mut read = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                let count = content.read(&mut buffer).unwrap();
                if count == 0 { break; }
                read.extend_from_slice(buffer.get(..count).unwrap());
            }
            let expected = whole.get(usize::try_from(from).unwrap()..).unwrap_or_default();
            prop_assert_eq!(read, expected);
        }
    }
}
