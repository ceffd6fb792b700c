//! Multipart uploads on disk: what was begun, and the parts of it that have arrived.
//!
//! ```text
//! DATA/buckets/BUCKET/uploads/ID/upload.json  one upload: key and metadata of the object that it is to become
//! DATA/buckets/BUCKET/uploads/ID/NUMBER.json  one part: its digests and the name of its file in `bodies/`
//! ```
//!
//! Completing copies nothing: the files of the parts become the pieces of the object. Everything that changes an
//! upload holds the writer of its bucket, so that of a completion, an abortion and a part that come at the same moment
//! each sees the upload as the one before left it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::body::{Body, Content, Piece, Received};
use super::bucket::{Bucket, Commit, Description, Kind, NewObject, read_json};
use super::{replace, sync_directory};

/// The file that makes a folder an upload.
const RECORD: &str = "upload.json";

/// An object in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MultipartUpload {
    /// 32 upper-case hex digits.
    pub(crate) id: String,
    pub(crate) description: Description,
    /// Unix time in milliseconds.
    pub(crate) initiated: i64,
}

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// 1 to 10,000.
    pub(crate) number: u32,
    piece: Piece,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
    /// Unix time in milliseconds.
    pub(crate) last_modified: i64,
}

impl Part {
    pub(crate) fn size(&self) -> u64 {
        self.piece.size
    }

    /// As in the header of that name.
    pub(crate) fn content_md5(&self) -> String {
        STANDARD.encode(self.md5)
    }
}

/// The identity of an object that is made of parts.
pub(crate) struct Whole {
    pub(crate) etag: String,
    pub(crate) crc64: u64,
}

/// What became of a completion.
#[derive(Debug)]
pub(crate) enum Completion {
    Committed(Commit),
    NoSuchUpload,
    /// A part was uploaded again since the list was judged.
    PartsChanged,
}

/// The uploads of one bucket that are neither completed nor aborted.
#[derive(Debug)]
pub(super) struct Uploads {
    directory: PathBuf,
    pending: Mutex<BTreeMap<String, Pending>>,
}

#[derive(Clone, Debug)]
struct Pending {
    upload: Arc<MultipartUpload>,
    parts: BTreeMap<u32, Part>,
}

impl Uploads {
    /// Reads what the last run left. `named` are the files that objects are made of, `present` those that are there.
    ///
    /// An upload one of whose files belongs to an object was completed, and one that lacks a file was completed or
    /// aborted; only its record was still to be removed when the last run ended. The files of such an upload are not
    /// touched here: an object has them, or nothing names them.
    pub(super) fn open(directory: &Path, named: &BTreeSet<String>, present: &BTreeSet<String>) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut pending = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match read_upload(&path)? {
                Some(found)
                    if found
                        .parts
                        .values()
                        .all(|part| present.contains(&part.piece.file) && !named.contains(&part.piece.file)) =>
                {
                    pending.insert(found.upload.id.clone(), found);
                }
                _ => fs::remove_dir_all(&path)?,
            }
        }
        Ok(Self { directory: directory.to_owned(), pending: Mutex::new(pending) })
    }

    /// The files that belong to parts.
    pub(super) fn files(&self) -> Vec<String> {
        let pending = self.pending();
        pending.values().flat_map(|pending| pending.parts.values()).map(|part| part.piece.file.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<String, Pending>> {
        // The map is changed by single calls only, so it is whole even after a panic elsewhere.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str, key: &str) -> Option<Pending> {
        self.pending().get(id).filter(|pending| pending.upload.description.key == key).cloned()
    }

    fn has(&self, id: &str, key: &str) -> bool {
        self.pending().get(id).is_some_and(|pending| pending.upload.description.key == key)
    }

    /// Ends an upload, durably: without its record nothing else in its folder counts. Were the folder removed at once,
    /// a crash could leave the record with some of the parts.
    fn end(&self, id: &str) -> io::Result<()> {
        let directory = self.directory.join(id);
        fs::remove_file(directory.join(RECORD))?;
        self.pending().remove(id);
        sync_directory(&directory)
    }

    /// Removes what is left of an upload that has ended. What cannot be removed now is removed at the next start.
    fn clear(&self, id: &str) {
        if let Err(cause) = fs::remove_dir_all(self.directory.join(id)) {
            tracing::warn!(%cause, id, "the folder of a multipart upload could not be removed");
        }
    }
}

/// `None` if this is the unfinished beginning of an upload.
fn read_upload(path: &Path) -> io::Result<Option<Pending>> {
    let record = path.join(RECORD);
    if !record.exists() {
        return Ok(None);
    }
    let upload: MultipartUpload = read_json(&record)?;
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let is_part = path.extension().is_some_and(|extension| extension == "json") && path != record;
        if is_part {
            let part: Part = read_json(&path)?;
            parts.insert(part.number, part);
        }
    }
    Ok(Some(Pending { upload: Arc::new(upload), parts }))
}

impl Bucket {
    /// Begins an upload, durably; `None` if the object exists and may not be overwritten. Blocks on the disk.
    pub(crate) fn begin_upload(&self, description: Description) -> io::Result<Option<Arc<MultipartUpload>>> {
        let _writing = self.writing()?;
        if !description.overwrite && self.find(&description.key).is_some() {
            return Ok(None);
        }
        let id = format!("{:032X}", rand::random::<u128>());
        let upload = MultipartUpload { id, description, initiated: jiff::Timestamp::now().as_millisecond() };
        let directory = self.uploads.directory.join(&upload.id);
        fs::create_dir(&directory)?;
        replace(&directory.join(RECORD), &directory.join("upload.unfinished"), &serde_json::to_vec(&upload)?)?;
        sync_directory(&directory)?;
        sync_directory(&self.uploads.directory)?;
        let upload = Arc::new(upload);
        let pending = Pending { upload: Arc::clone(&upload), parts: BTreeMap::new() };
        self.uploads.pending().insert(upload.id.clone(), pending);
        Ok(Some(upload))
    }

    /// Makes a received body a part, durably, in place of a former one with its number; `None` if there is no such
    /// upload. Blocks on the disk.
    pub(crate) fn add_part(&self, id: &str, key: &str, number: u32, received: Received) -> io::Result<Option<Part>> {
        let _writing = self.writing()?;
        if !self.uploads.has(id, key) {
            return Ok(None);
        }
        let part = Part {
            number,
            piece: received.piece(),
            md5: received.md5,
            crc64: received.crc64,
            last_modified: jiff::Timestamp::now().as_millisecond(),
        };
        sync_directory(&self.bodies)?;
        let directory = self.uploads.directory.join(id);
        let path = directory.join(format!("{number}.json"));
        replace(&path, &path.with_extension("unfinished"), &serde_json::to_vec(&part)?)?;
        // From here on the part is there, whatever else fails.
        received.keep();
        let former = self.uploads.pending().get_mut(id).and_then(|pending| pending.parts.insert(number, part.clone()));
        sync_directory(&directory)?;
        if let Some(former) = former {
            self.remove_file(&former.piece);
        }
        Ok(Some(part))
    }

    /// Whether there is such an upload, of an object with this key.
    pub(crate) fn has_upload(&self, id: &str, key: &str) -> bool {
        self.uploads.has(id, key)
    }

    /// An upload and its parts in the order of their numbers.
    pub(crate) fn upload(&self, id: &str, key: &str) -> Option<(Arc<MultipartUpload>, Vec<Part>)> {
        let found = self.uploads.find(id, key)?;
        Some((found.upload, found.parts.into_values().collect()))
    }

    /// All uploads in the order of their keys, and of their ids where keys are the same.
    pub(crate) fn uploads(&self) -> Vec<Arc<MultipartUpload>> {
        let mut uploads: Vec<_> = self.uploads.pending().values().map(|pending| Arc::clone(&pending.upload)).collect();
        uploads.sort_by(|left, right| (&left.description.key, &left.id).cmp(&(&right.description.key, &right.id)));
        uploads
    }

    /// Makes an object of these parts, which are in the order of their numbers, durably; the upload is gone then.
    /// `overwrite` must be allowed here and by what the upload was begun with. Blocks on the disk.
    pub(crate) fn complete_upload(
        &self,
        id: &str,
        key: &str,
        parts: &[Part],
        whole: Whole,
        overwrite: bool,
    ) -> io::Result<Completion> {
        let _writing = self.writing()?;
        let Some(pending) = self.uploads.find(id, key) else { return Ok(Completion::NoSuchUpload) };
        if parts.iter().any(|part| pending.parts.get(&part.number) != Some(part)) {
            return Ok(Completion::PartsChanged);
        }
        let description = &pending.upload.description;
        if !(overwrite && description.overwrite) && self.find(key).is_some() {
            return Ok(Completion::Committed(Commit::Exists));
        }
        let object = NewObject {
            description: description.clone(),
            pieces: parts.iter().map(|part| part.piece.clone()).collect(),
            etag: whole.etag,
            content_md5: None,
            crc64: whole.crc64,
            kind: Kind::Multipart,
        };
        // Once the files are the object's, nobody may abort the upload. Its record goes only when the object is durable.
        let stored = self.store(object, || drop(self.uploads.pending().remove(id)))?;
        match self.uploads.end(id) {
            Ok(()) => self.uploads.clear(id),
            // The object is there; the next start finds its files in this record and removes it.
            Err(cause) => tracing::warn!(%cause, id, "the record of a completed upload could not be removed"),
        }
        let is_used = |part: &Part| parts.binary_search_by_key(&part.number, |used| used.number).is_ok();
        for left in pending.parts.values().filter(|part| !is_used(part)) {
            self.remove_file(&left.piece);
        }
        Ok(Completion::Committed(Commit::Stored(stored)))
    }

    /// Removes an upload with all its parts; false if there is none. Blocks on the disk.
    pub(crate) fn abort_upload(&self, id: &str, key: &str) -> io::Result<bool> {
        let _writing = self.writing()?;
        let Some(pending) = self.uploads.find(id, key) else { return Ok(false) };
        self.uploads.end(id)?;
        self.uploads.clear(id);
        for part in pending.parts.values() {
            self.remove_file(&part.piece);
        }
        Ok(true)
    }

    /// The content that these parts make together.
    pub(crate) fn content_of(&self, parts: &[Part]) -> Content {
        Content::new(Body::new(&self.bodies, parts.iter().map(|part| part.piece.clone()).collect()))
    }

    fn remove_file(&self, piece: &Piece) {
        if let Err(cause) = fs::remove_file(self.bodies.join(&piece.file)) {
            // Nothing names it any more; the next start removes it.
            tracing::warn!(%cause, body = piece.file, "an old part could not be removed");
        }
    }
}
