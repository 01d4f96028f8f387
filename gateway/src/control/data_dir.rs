//! The directory that holds the store and the keys, and belongs to one gateway at a time.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another gateway has it.
    #[error("another gateway uses {0}; stop it or name another --data-dir")]
    InUse(PathBuf),
    /// The file system refused.
    #[error("the data directory {0} cannot be used; make it writable or name another --data-dir")]
    Io(PathBuf, #[source] io::Error),
}

/// A data directory, taken for this process until dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory at `path`, making it first if need be.
    ///
    /// # Errors
    /// [`DataDirError`] if another gateway has it or the file system refuses.
    pub(crate) fn take(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| DataDirError::Io(path.into(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.into())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The gateway's key.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.path.join("gateway.key")
    }

    /// The store.
    pub(crate) fn store_path(&self) -> PathBuf {
        store_path(&self.path)
    }
}

/// The store of a data directory that need not exist.
pub(crate) fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_belongs_to_one_gateway_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::take(&path).unwrap();
        assert!(matches!(DataDir::take(&path), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(DataDir::take(&path).is_ok());
    }
}
