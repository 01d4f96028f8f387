//! The file of the data key, and the keys in it: one, or while values are sealed anew with a new one, two or more.
//!
//! The file has a key a line, in base64 as `wg genkey` prints one. The first seals and opens, the others only open.

use std::{
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    DataKey, KeyError, KeyId,
    data_key::{OpenError, Place, sealing_key},
    key_file,
    key_file::ReadError,
    private_file::PrivateFileError,
};

/// More than a file of keys can have: a rotation begun anew before the last was done leaves one key more.
const MAX_LEN: usize = 4096;

/// Why there is no data key.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// The file's mode, owner or kind.
    #[error(transparent)]
    NotPrivate(#[from] PrivateFileError),
    /// The file holds something else than keys.
    #[error("the data key {} cannot be read: {fault}; restore it from a backup", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyError,
    },
    /// The file could not be opened, read or written.
    #[error("the data key {}: {source}; its directory must exist and be writable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The data keys of a store: the current one, and former ones of which there still may be values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeys {
    current: DataKey,
    former: Vec<DataKey>,
}

impl DataKeys {
    /// A single key.
    #[must_use]
    pub const fn new(current: DataKey) -> Self {
        Self { current, former: Vec::new() }
    }

    /// Loads the keys from `path`, or tells that there is no file.
    ///
    /// # Errors
    /// [`DataKeyError`] if the file can be opened by others, belongs to another user, or holds no key.
    pub fn load(path: &Path) -> Result<Option<Self>, DataKeyError> {
        let text = key_file::read(path, MAX_LEN).map_err(|error| match error {
            ReadError::NotPrivate(error) => error.into(),
            ReadError::Io(source) => DataKeyError::Io { path: path.to_owned(), source },
        })?;
        let Some(text) = text else { return Ok(None) };
        parse(&text)
            .map(Some)
            .map_err(|fault| DataKeyError::Invalid { path: path.to_owned(), fault })
    }

    /// Makes a new key and the file `path` for it, or loads what another process made there meanwhile.
    ///
    /// # Errors
    /// [`DataKeyError`] if the file cannot be made or read.
    pub fn create(path: &Path) -> Result<Self, DataKeyError> {
        let io_error = |source| DataKeyError::Io { path: path.to_owned(), source };
        let keys = Self::new(DataKey::generate());
        match key_file::create(path, keys.render().as_bytes()) {
            Ok(()) => Ok(keys),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or_else(|| io_error(io::ErrorKind::NotFound.into()))
            }
            Err(error) => Err(io_error(error)),
        }
    }

    /// A new key before these.
    #[must_use]
    pub fn with_new(&self) -> Self {
        Self { current: DataKey::generate(), former: self.iter().cloned().collect() }
    }

    /// The current key alone.
    #[must_use]
    pub fn without_former(&self) -> Self {
        Self::new(self.current.clone())
    }

    /// Whether there are former keys.
    #[must_use]
    pub const fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    /// Puts these keys in the place of those in `path`; after a crash there are the ones or the others.
    ///
    /// # Errors
    /// [`DataKeyError::Io`]
    pub fn save(&self, path: &Path) -> Result<(), DataKeyError> {
        key_file::replace(path, self.render().as_bytes())
            .map_err(|source| DataKeyError::Io { path: path.to_owned(), source })
    }

    /// The key that new values are sealed with.
    #[must_use]
    pub const fn current(&self) -> &DataKey {
        &self.current
    }

    /// All keys, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &DataKey> {
        std::iter::once(&self.current).chain(&self.former)
    }

    /// Opens a value with the key that it was sealed with.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let id = sealing_key(sealed).ok_or(OpenError::NotSealed)?;
        self.find(id).ok_or(OpenError::OtherKey(id))?.open(place, sealed)
    }

    /// The key of this number, if it is one of these.
    #[must_use]
    pub fn find(&self, id: KeyId) -> Option<&DataKey> {
        self.iter().find(|key| key.id() == id)
    }

    fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_LEN));
        for key in self.iter() {
            text.push_str(&key.expose_base64());
            text.push('\n');
        }
        text
    }
}

fn parse(text: &[u8]) -> Result<DataKeys, KeyError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyError::NotBase64)?;
    let mut keys = text.trim_ascii_end().lines().map(|line| line.parse().map(DataKey::new));
    let current = keys.next().unwrap_or(Err(KeyError::Length))?;
    Ok(DataKeys { current, former: keys.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const PLACE: Place = Place { table: "accounts", column: "email", row: 7 };

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn new_key_is_in_a_private_file_and_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.key");
        assert_eq!(DataKeys::load(&path).unwrap(), None);
        let made = DataKeys::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(DataKeys::load(&path).unwrap(), Some(made.clone()));
        assert_eq!(DataKeys::create(&path).unwrap(), made, "a key was lost");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn first_key_seals_and_all_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.key");
        let (old, new) = (DataKey::generate(), DataKey::generate());
        write(&path, &format!("{}\n{}\n", *new.expose_base64(), *old.expose_base64()), 0o600);
        let keys = DataKeys::load(&path).unwrap().unwrap();
        assert_eq!(keys.current().id(), new.id());
        for key in [&old, &new] {
            assert_eq!(**keys.open(PLACE, &key.seal(PLACE, b"ann")).unwrap(), *b"ann");
        }
        let other = DataKey::generate();
        let error = keys.open(PLACE, &other.seal(PLACE, b"ann")).unwrap_err();
        assert_eq!(error, OpenError::OtherKey(other.id()));
    }

    #[test]
    fn new_key_goes_before_the_others_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.key");
        let old = DataKeys::create(&path).unwrap();
        assert!(!old.has_former());
        let both = old.with_new();
        both.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(DataKeys::load(&path).unwrap(), Some(both.clone()));
        assert!(both.has_former() && both.find(old.current().id()).is_some());
        assert_ne!(both.current().id(), old.current().id());
        both.without_former().save(&path).unwrap();
        let new = DataKeys::load(&path).unwrap().unwrap();
        assert_eq!(new.iter().map(DataKey::id).collect::<Vec<_>>(), [both.current().id()]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn looser_mode_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.key");
        write(&path, &format!("{}\n", *DataKey::generate().expose_base64()), 0o640);
        let error = DataKeys::load(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.key");
        let key = "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=";
        for text in ["", "\n", "x", &format!("{key}\n\n{key}\n"), &format!("{key} {key}\n")] {
            write(&path, text, 0o600);
            let error = DataKeys::load(&path).unwrap_err();
            assert!(matches!(error, DataKeyError::Invalid { .. }), "{error}");
            assert!(!error.to_string().contains("uFOu"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
