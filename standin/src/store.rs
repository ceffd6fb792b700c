//! Objects on disk.
//!
//! ```text
//! DATA/lock                              held while a stand-in uses the folder
//! DATA/buckets/BUCKET/objects/HASH.json  one object: key, metadata and the name of its body; HASH is SHA-256 of the key
//! DATA/buckets/BUCKET/bodies/ID          one body, written once, never changed
//! ```
//!
//! A body is complete and synced before the file in `objects/` that names it is renamed into place, so metadata and
//! content change together, in one rename, and a crash leaves either the old object or the new one. No file name is
//! ever made of a key. What a crash leaves behind (bodies that nothing names, unfinished metadata) is removed at start.
//!
//! The metadata of all objects is also held in memory, in key order, for lists; the memory needed grows with the
//! number of objects, not with their sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::AsyncWriteExt as _;

use crate::StartError;

/// One object without its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) key: String,
    /// The file in `bodies/` that holds the content.
    body: String,
    pub(crate) size: u64,
    /// Upper-case hex, without quotes.
    pub(crate) etag: String,
    /// Base64, as in the header of that name.
    pub(crate) content_md5: String,
    pub(crate) crc64: u64,
    pub(crate) content_type: String,
    /// Unix time in milliseconds.
    pub(crate) last_modified: i64,
    /// Headers that are kept with the object and given back: `x-oss-meta-*` and the like.
    pub(crate) headers: BTreeMap<String, String>,
}

/// What an upload says about an object beside its content.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) key: String,
    pub(crate) content_type: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Commit {
    Stored(Arc<Object>),
    /// The object exists and may not be overwritten; nothing was changed.
    Exists,
}

/// All buckets.
#[derive(Debug)]
pub(crate) struct Store {
    buckets: BTreeMap<String, Arc<Bucket>>,
    /// Unlocked by the system when the process ends, however it ends.
    _lock: File,
}

impl Store {
    pub(crate) fn open(data: &Path, names: &[String]) -> Result<Self, StartError> {
        let fail = |path: &Path, cause| StartError::Data { path: path.to_owned(), cause };
        fs::create_dir_all(data).map_err(|cause| fail(data, cause))?;
        let lock_path = data.join("lock");
        let lock = File::create(&lock_path).map_err(|cause| fail(&lock_path, cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StartError::DataInUse { path: data.to_owned() }),
            Err(fs::TryLockError::Error(cause)) => return Err(fail(&lock_path, cause)),
        }
        let mut buckets = BTreeMap::new();
        for name in names {
            let directory = data.join("buckets").join(name);
            let bucket = Bucket::open(&directory).map_err(|cause| fail(&directory, cause))?;
            buckets.insert(name.clone(), Arc::new(bucket));
        }
        Ok(Self { buckets, _lock: lock })
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.buckets.get(name).map(Arc::clone)
    }
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    objects: PathBuf,
    bodies: PathBuf,
    /// Held by one writer at a time, so that the disk and the index change in the same order.
    writer: Mutex<()>,
    /// Held for reading while a body is opened: the writer removes a body only after it has taken it out of here.
    index: RwLock<BTreeMap<String, Arc<Object>>>,
}

impl Bucket {
    fn open(directory: &Path) -> io::Result<Self> {
        let (objects, bodies) = (directory.join("objects"), directory.join("bodies"));
        fs::create_dir_all(&objects)?;
        fs::create_dir_all(&bodies)?;
        // New folders are durable only once the folders that hold them are.
        for path in directory.ancestors().take(3).filter(|path| !path.as_os_str().is_empty()) {
            sync_directory(path)?;
        }
        let mut index = BTreeMap::new();
        let mut named = BTreeSet::new();
        for entry in fs::read_dir(&objects)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let object: Object = serde_json::from_slice(&fs::read(&path)?).map_err(|cause| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {cause}", path.display()))
                })?;
                named.insert(object.body.clone());
                index.insert(object.key.clone(), Arc::new(object));
            } else {
                fs::remove_file(&path)?;
            }
        }
        for entry in fs::read_dir(&bodies)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { objects, bodies, writer: Mutex::new(()), index: RwLock::new(index) })
    }

    /// Begins a body; it is removed again unless it is committed.
    pub(crate) async fn receive(&self) -> io::Result<Receiving> {
        let name = format!("{:032x}", rand::random::<u128>());
        let path = self.bodies.join(&name);
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        Ok(Receiving {
            file,
            body: Uncommitted { path: Some(path), name },
            md5: Md5::new(),
            crc64: crc64fast::Digest::new(),
            size: 0,
        })
    }

    /// Makes a received body the content of an object, durably. Blocks on the disk.
    pub(crate) fn commit(&self, received: Received, description: Description, overwrite: bool) -> io::Result<Commit> {
        let Received { mut body, md5, crc64, size } = received;
        let object = Arc::new(Object {
            key: description.key,
            body: body.name.clone(),
            size,
            etag: md5.iter().map(|byte| format!("{byte:02X}")).collect(),
            content_md5: STANDARD.encode(md5),
            crc64,
            content_type: description.content_type,
            last_modified: jiff::Timestamp::now().as_millisecond(),
            headers: description.headers,
        });
        let _writing = self.writing();
        let previous = self.find(&object.key);
        if previous.is_some() && !overwrite {
            return Ok(Commit::Exists);
        }
        sync_directory(&self.bodies)?;
        let unfinished = self.objects.join(format!("{}.unfinished", object.body));
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(&*object)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.metadata_path(&object.key))?;
        // From here on the object is there, whatever else fails.
        body.path = None;
        self.index.write().unwrap_or_else(PoisonError::into_inner).insert(object.key.clone(), Arc::clone(&object));
        sync_directory(&self.objects)?;
        if let Some(previous) = previous {
            self.remove_body(&previous);
        }
        Ok(Commit::Stored(object))
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<Object>> {
        self.index().get(key).map(Arc::clone)
    }

    /// An object with its content; an overwrite that follows does not disturb the reader. Blocks on the disk.
    pub(crate) fn read(&self, key: &str) -> io::Result<Option<(Arc<Object>, File)>> {
        let index = self.index();
        let Some(object) = index.get(key) else { return Ok(None) };
        let file = File::open(self.bodies.join(&object.body))?;
        Ok(Some((Arc::clone(object), file)))
    }

    /// Removes an object, durably; no error if there is none. Blocks on the disk.
    pub(crate) fn delete(&self, key: &str) -> io::Result<()> {
        let _writing = self.writing();
        let Some(object) = self.find(key) else { return Ok(()) };
        fs::remove_file(self.metadata_path(key))?;
        self.index.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        sync_directory(&self.objects)?;
        self.remove_body(&object);
        Ok(())
    }

    /// All objects in the order of their keys' bytes.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Object>>> {
        // The map is changed by single calls only, so it is whole even after a panic elsewhere.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metadata_path(&self, key: &str) -> PathBuf {
        let digest: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        self.objects.join(format!("{digest}.json"))
    }

    fn remove_body(&self, object: &Object) {
        if let Err(cause) = fs::remove_file(self.bodies.join(&object.body)) {
            // Nothing names it any more; the next start removes it.
            tracing::warn!(%cause, body = object.body, "an old body could not be removed");
        }
    }
}

/// A body that is removed when it is dropped.
#[derive(Debug)]
struct Uncommitted {
    path: Option<PathBuf>,
    name: String,
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
    body: Uncommitted,
    md5: Md5,
    crc64: crc64fast::Digest,
    size: u64,
}

impl Receiving {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.crc64.write(bytes);
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
        Ok(Received { body: self.body, md5: self.md5.finalize().into(), crc64: self.crc64.sum64(), size: self.size })
    }
}

/// A complete body on the disk that no object names yet.
#[derive(Debug)]
pub(crate) struct Received {
    body: Uncommitted,
    pub(crate) md5: [u8; 16],
    crc64: u64,
    size: u64,
}

impl Received {
    /// The content, before anybody else can see it.
    pub(crate) fn open(&self) -> io::Result<File> {
        let path = self.body.path.as_ref().ok_or(io::ErrorKind::NotFound)?;
        File::open(path)
    }
}

/// A rename or a new file is durable only once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
