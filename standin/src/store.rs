//! Buckets and objects on disk.
//!
//! ```text
//! DATA/lock                              held while a stand-in uses the folder
//! DATA/buckets/BUCKET/settings.json      the bucket itself
//! DATA/buckets/BUCKET/objects/HASH.json  one object: key, metadata and the names of its body's files; HASH is SHA-256 of the key
//! DATA/buckets/BUCKET/uploads/ID/...     one multipart upload; see `parts`
//! DATA/buckets/BUCKET/bodies/ID          a piece of a body, written once, never changed
//! DATA/buckets/BUCKET.deleted            what is left of a bucket that was deleted
//! ```
//!
//! A body is complete and synced before the file in `objects/` that names it is renamed into place, so metadata and
//! content change together, in one rename, and a crash leaves either the old object or the new one. No file name is
//! ever made of a key. What a crash leaves behind (bodies that nothing names, unfinished metadata) is removed at start.
//!
//! The metadata of all objects is also held in memory, in key order, for lists; the memory needed grows with the
//! number of objects, not with their sizes.

mod body;
mod bucket;
mod parts;
mod settings;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(crate) use body::{Content, Received};
pub(crate) use bucket::{Bucket, BucketDeleted, Commit, Description, Index, Object, upper_hex};
pub(crate) use parts::{Completion, MultipartUpload, Part, Whole};
pub(crate) use settings::{Acl, CallbackPolicy, Cors, CorsRule, Settings};

use crate::StartError;
use crate::error::Error;

/// The extension of the folders of deleted buckets; no bucket has a dot in its name.
const DELETED: &str = "deleted";

/// All buckets.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    /// Held while the set of buckets changes on disk.
    changing: Mutex<()>,
    /// Unlocked by the system when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// Opens the folder with every bucket in it, and makes those of `names` that are not there yet.
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
        let directory = data.join("buckets");
        fs::create_dir_all(&directory).map_err(|cause| fail(&directory, cause))?;
        let mut present: Vec<String> = names.to_vec();
        for entry in fs::read_dir(&directory).map_err(|cause| fail(&directory, cause))? {
            let path = entry.map_err(|cause| fail(&directory, cause))?.path();
            if path.extension().is_some_and(|extension| extension == DELETED) {
                fs::remove_dir_all(&path).map_err(|cause| fail(&path, cause))?;
            } else if let Some(name) =
                path.file_name().and_then(|name| name.to_str()).filter(|name| is_bucket_name(name))
            {
                present.push(name.to_owned());
            }
        }
        let mut buckets = BTreeMap::new();
        for name in present {
            let path = directory.join(&name);
            let bucket = Bucket::open(&path).map_err(|cause| fail(&path, cause))?;
            buckets.insert(name, Arc::new(bucket));
        }
        Ok(Self { directory, buckets: RwLock::new(buckets), changing: Mutex::new(()), _lock: lock })
    }

    pub(crate) fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// All buckets in the order of their names.
    pub(crate) fn buckets(&self) -> Vec<(String, Arc<Bucket>)> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.iter().map(|(name, bucket)| (name.clone(), Arc::clone(bucket))).collect()
    }

    /// Makes a bucket, durably; one that exists stays as it is. The name must be a bucket name. Blocks on the disk.
    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<Arc<Bucket>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = self.bucket(name) {
            return Ok(bucket);
        }
        let bucket = Arc::new(Bucket::open(&self.directory.join(name))?);
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Removes a bucket that holds nothing; false if it still does. Blocks on the disk.
    pub(crate) fn delete_bucket(&self, name: &str) -> io::Result<bool> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = self.bucket(name) else { return Ok(true) };
        let (path, remains) = (self.directory.join(name), self.directory.join(format!("{name}.{DELETED}")));
        let deleted = bucket.delete_itself(|| {
            if remains.try_exists()? {
                fs::remove_dir_all(&remains)?;
            }
            fs::rename(&path, &remains)?;
            sync_directory(&self.directory)
        })?;
        if deleted {
            self.buckets.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            // An upload under way may still put a file into it; what stays is removed by the next start.
            if let Err(cause) = fs::remove_dir_all(&remains) {
                tracing::warn!(%cause, bucket = name, "the remains of a deleted bucket could not be removed");
            }
        }
        Ok(deleted)
    }
}

/// Does work that blocks on the disk off the async threads; it is done to its end even if the client hangs up.
pub(crate) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?.map_err(Error::disk)
}

/// protocol: 3 to 63 lower-case letters, digits and hyphens, no hyphen at either end.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Replaces a file as a whole and durably: a crash leaves the old content or the new one.
fn replace(path: &Path, unfinished: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// A rename or a new file is durable only once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
