//! One bucket: its settings and its objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::body::{Body, Content, Piece, Received, Receiving};
use super::parts::Uploads;
use super::settings::Settings;
use super::{replace, sync_directory};

/// One object without its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) key: String,
    /// The files that hold the content, in order.
    pieces: Vec<Piece>,
    pub(crate) size: u64,
    /// Upper-case, without quotes.
    pub(crate) etag: String,
    /// Base64, as in the header of that name; none for an object that was uploaded in parts.
    pub(crate) content_md5: Option<String>,
    pub(crate) crc64: u64,
    pub(crate) content_type: String,
    /// Unix time in milliseconds.
    pub(crate) last_modified: i64,
    /// Headers that are kept with the object and given back: `x-oss-meta-*` and the like.
    pub(crate) headers: BTreeMap<String, String>,
    /// How it was uploaded.
    pub(crate) kind: Kind,
}

/// protocol: `x-oss-object-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Normal,
    Multipart,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
        }
    }
}

/// What an upload says about an object beside its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) key: String,
    pub(crate) content_type: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether an object that exists may be replaced.
    pub(crate) overwrite: bool,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Commit {
    Stored(Arc<Object>),
    /// The object exists and may not be overwritten; nothing was changed.
    Exists,
}

/// An object that is about to appear; its files are on the disk.
pub(super) struct NewObject {
    pub(super) description: Description,
    pub(super) pieces: Vec<Piece>,
    pub(super) etag: String,
    pub(super) content_md5: Option<String>,
    pub(super) crc64: u64,
    pub(super) kind: Kind,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    directory: PathBuf,
    objects: PathBuf,
    pub(super) bodies: PathBuf,
    pub(super) uploads: Uploads,
    settings: RwLock<Arc<Settings>>,
    /// Held by one writer at a time, so that the disk and the index change in the same order. True once the bucket is
    /// deleted: nothing may be written any more.
    writer: Mutex<bool>,
    index: RwLock<BTreeMap<String, Entry>>,
}

/// An object and its content.
#[derive(Clone, Debug)]
struct Entry {
    object: Arc<Object>,
    body: Arc<Body>,
}

impl Bucket {
    /// Opens a bucket, or makes it.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let (objects, bodies) = (directory.join("objects"), directory.join("bodies"));
        fs::create_dir_all(&objects)?;
        fs::create_dir_all(&bodies)?;
        fs::create_dir_all(directory.join("uploads"))?;
        let settings_path = directory.join("settings.json");
        let settings = match settings_path.exists() {
            true => read_json(&settings_path)?,
            false => Settings::new(),
        };
        replace(&settings_path, &directory.join("settings.unfinished"), &serde_json::to_vec(&settings)?)?;
        // New folders are durable only once the folders that hold them are.
        for path in directory.ancestors().take(3).filter(|path| !path.as_os_str().is_empty()) {
            sync_directory(path)?;
        }
        let mut index = BTreeMap::new();
        let mut named = BTreeSet::new();
        for entry in fs::read_dir(&objects)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let object: Object = read_json(&path)?;
                named.extend(object.pieces.iter().map(|piece| piece.file.clone()));
                let body = Body::new(&bodies, object.pieces.clone());
                index.insert(object.key.clone(), Entry { object: Arc::new(object), body });
            } else {
                fs::remove_file(&path)?;
            }
        }
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&bodies)? {
            present.extend(entry?.file_name().into_string());
        }
        let uploads = Uploads::open(&directory.join("uploads"), &named, &present)?;
        named.extend(uploads.files());
        for stray in present.difference(&named) {
            fs::remove_file(bodies.join(stray))?;
        }
        Ok(Self {
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            directory: directory.to_owned(),
            objects,
            bodies,
            uploads,
            settings: RwLock::new(Arc::new(settings)),
            writer: Mutex::new(false),
            index: RwLock::new(index),
        })
    }

    /// Takes the bucket off the disk by `remove` and lets nothing more be written, if there is neither an object nor an
    /// upload in it; false if there is.
    pub(super) fn delete_itself(&self, remove: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let mut deleted = self.writing()?;
        if !self.index().is_empty() || !self.uploads.is_empty() {
            return Ok(false);
        }
        remove()?;
        *deleted = true;
        Ok(true)
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the settings, durably. Blocks on the disk.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> io::Result<()> {
        let _writing = self.writing()?;
        let mut settings = Settings::clone(&self.settings());
        change(&mut settings);
        let unfinished = self.directory.join("settings.unfinished");
        replace(&self.directory.join("settings.json"), &unfinished, &serde_json::to_vec(&settings)?)?;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        sync_directory(&self.directory)
    }

    /// Begins a body; it is removed again unless it is committed.
    pub(crate) async fn receive(&self) -> io::Result<Receiving> {
        let begun = Receiving::begin(&self.bodies).await;
        // Without a bucket there is no folder either, and that is what should be said. Nobody waits here for long: who
        // writes cannot find the folder gone.
        begun.or_else(|cause| self.writing().and(Err(cause)))
    }

    /// Makes a received body the content of an object, durably. Blocks on the disk.
    pub(crate) fn commit(&self, received: Received, description: Description) -> io::Result<Commit> {
        let object = NewObject {
            description,
            pieces: vec![received.piece()],
            etag: received.etag(),
            content_md5: Some(STANDARD.encode(received.md5)),
            crc64: received.crc64,
            kind: Kind::Normal,
        };
        self.commit_as(object, received)
    }

    /// Makes a copy of an object's content the content of another, durably. Blocks on the disk.
    ///
    /// not documented: that the copy of an object that was uploaded in parts keeps its ETag and its type.
    pub(crate) fn commit_copy(
        &self,
        source: &Object,
        received: Received,
        description: Description,
    ) -> io::Result<Commit> {
        let object = NewObject {
            description,
            pieces: vec![received.piece()],
            etag: source.etag.clone(),
            content_md5: source.content_md5.clone(),
            crc64: received.crc64,
            kind: source.kind,
        };
        self.commit_as(object, received)
    }

    fn commit_as(&self, object: NewObject, received: Received) -> io::Result<Commit> {
        let _writing = self.writing()?;
        if !object.description.overwrite && self.find(&object.description.key).is_some() {
            return Ok(Commit::Exists);
        }
        self.store(object, || received.keep()).map(Commit::Stored)
    }

    /// Puts an object in its place, durably, on disk and in the index; the caller holds the writer.
    ///
    /// `appeared` is called as soon as the object is there, whatever fails after that.
    pub(super) fn store(&self, new: NewObject, appeared: impl FnOnce()) -> io::Result<Arc<Object>> {
        sync_directory(&self.bodies)?;
        let object = Arc::new(Object {
            key: new.description.key,
            size: new.pieces.iter().map(|piece| piece.size).sum(),
            pieces: new.pieces,
            etag: new.etag,
            content_md5: new.content_md5,
            crc64: new.crc64,
            content_type: new.description.content_type,
            last_modified: jiff::Timestamp::now().as_millisecond(),
            headers: new.description.headers,
            kind: new.kind,
        });
        let path = self.metadata_path(&object.key);
        replace(&path, &path.with_extension("unfinished"), &serde_json::to_vec(&*object)?)?;
        appeared();
        let entry = Entry { object: Arc::clone(&object), body: Body::new(&self.bodies, object.pieces.clone()) };
        let previous = self.index.write().unwrap_or_else(PoisonError::into_inner).insert(object.key.clone(), entry);
        // Only then may the old content go: until here a power failure brings the old object back.
        sync_directory(&self.objects)?;
        if let Some(previous) = previous {
            previous.body.orphan();
        }
        Ok(object)
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<Object>> {
        self.entries().get(key).map(|entry| Arc::clone(&entry.object))
    }

    /// An object with its content; an overwrite that follows does not disturb the reader.
    pub(crate) fn read(&self, key: &str) -> Option<(Arc<Object>, Content)> {
        let entry = self.entries().get(key)?.clone();
        Some((entry.object, Content::new(entry.body)))
    }

    /// Removes objects, durably; no error for those that are not there. Blocks on the disk.
    pub(crate) fn delete(&self, keys: &[String]) -> io::Result<()> {
        let _writing = self.writing()?;
        let mut removed = Vec::new();
        for key in keys.iter().filter(|key| self.find(key).is_some()) {
            fs::remove_file(self.metadata_path(key))?;
            removed.extend(self.index.write().unwrap_or_else(PoisonError::into_inner).remove(key));
        }
        if !removed.is_empty() {
            sync_directory(&self.objects)?;
        }
        for entry in removed {
            entry.body.orphan();
        }
        Ok(())
    }

    /// The objects after (or at) a key, in the order of their keys' bytes.
    pub(crate) fn index(&self) -> Index<'_> {
        Index { entries: self.entries() }
    }

    fn entries(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        // The map is changed by single calls only, so it is whole even after a panic elsewhere.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever changes the bucket, one at a time. Fails once the bucket is deleted.
    pub(super) fn writing(&self) -> io::Result<MutexGuard<'_, bool>> {
        let deleted = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match *deleted {
            true => Err(io::Error::other(BucketDeleted { name: self.name.clone() })),
            false => Ok(deleted),
        }
    }

    fn metadata_path(&self, key: &str) -> PathBuf {
        let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        self.objects.join(format!("{digest}.json"))
    }
}

/// All objects of a bucket as they are at one moment; nothing is written while it is held.
pub(crate) struct Index<'a> {
    entries: RwLockReadGuard<'a, BTreeMap<String, Entry>>,
}

impl Index<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first object in a range of keys, in the order of their bytes.
    pub(crate) fn first_in(&self, range: impl std::ops::RangeBounds<String>) -> Option<&Arc<Object>> {
        self.entries.range(range).next().map(|(_, entry)| &entry.object)
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.entries.values().map(|entry| &entry.object)
    }
}

/// Why nothing more can be written to a bucket: it was deleted while a request was under way.
#[derive(Debug, thiserror::Error)]
#[error("the bucket {name} was deleted")]
pub(crate) struct BucketDeleted {
    pub(crate) name: String,
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {cause}", path.display())))
}

pub(crate) fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
