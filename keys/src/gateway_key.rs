//! The file that holds the gateway's own private key, in the form that `wg genkey` prints.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{KeyError, PrivateKey, key_file, key_file::ReadError, private_file::PrivateFileError};

/// As much of the file as tells a key from something longer.
const MAX_LEN: usize = 64;

/// Why there is no gateway key.
#[derive(Debug, thiserror::Error)]
pub enum GatewayKeyError {
    /// The file's mode, owner or kind.
    #[error(transparent)]
    NotPrivate(#[from] PrivateFileError),
    /// The file holds something else than a key.
    #[error("the gateway key {} cannot be read: {fault}; restore it from a backup, or move it away for a new one", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyError,
    },
    /// There is no file for a key that is not to be made.
    #[error("the fleet key {} is missing; copy it from another gateway of the fleet, or make the first with `wg genkey`", .0.display())]
    Missing(PathBuf),
    /// The file could not be opened, read or made.
    #[error("the gateway key {}: {source}; the directory must exist and be writable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Loads the gateway's key from `path`, or makes one there at the first start.
///
/// # Errors
/// [`GatewayKeyError`] if the file can be opened by others, belongs to another user, holds no key, or cannot be made.
pub fn load_or_create(path: &Path) -> Result<PrivateKey, GatewayKeyError> {
    let io_error = |source| GatewayKeyError::Io { path: path.to_owned(), source };
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    let key = PrivateKey::generate();
    match create(path, &key) {
        Ok(()) => Ok(key),
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(path)?.ok_or_else(|| io_error(io::ErrorKind::NotFound.into()))
        }
        Err(error) => Err(io_error(error)),
    }
}

/// Loads a key that several gateways share from `path`. One that is made would be this gateway's alone, so none is.
///
/// # Errors
/// [`GatewayKeyError`] if there is no file, it can be opened by others, belongs to another user or holds no key.
pub fn load_shared(path: &Path) -> Result<PrivateKey, GatewayKeyError> {
    load(path)?.ok_or_else(|| GatewayKeyError::Missing(path.to_owned()))
}

/// Reads the key, or tells that there is no file yet.
fn load(path: &Path) -> Result<Option<PrivateKey>, GatewayKeyError> {
    let Some(text) = key_file::read(path, MAX_LEN).map_err(|error| read_error(path, error))? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).map_err(|_| KeyError::NotBase64);
    text.and_then(|text| text.trim_ascii_end().parse())
        .map(Some)
        .map_err(|fault| GatewayKeyError::Invalid { path: path.to_owned(), fault })
}

fn read_error(path: &Path, error: ReadError) -> GatewayKeyError {
    match error {
        ReadError::NotPrivate(error) => error.into(),
        ReadError::Io(source) => GatewayKeyError::Io { path: path.to_owned(), source },
    }
}

fn create(path: &Path, key: &PrivateKey) -> io::Result<()> {
    let mut text = key.expose_base64();
    text.push('\n');
    key_file::create(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn key_that_is_shared_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet.key");
        assert!(matches!(load_shared(&path), Err(GatewayKeyError::Missing(_))));
        assert!(!path.exists());
        let made = load_or_create(&path).unwrap();
        assert_eq!(load_shared(&path).unwrap().public_key(), made.public_key());
    }

    #[test]
    fn first_start_makes_a_private_file_and_the_next_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let made = load_or_create(&path).unwrap();
        assert!(load_or_create(&path).unwrap() == made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", *made.expose_base64()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn key_written_by_wg_genkey_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        write(&path, "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n", 0o600);
        let public_key = load_or_create(&path).unwrap().public_key();
        assert_eq!(public_key.to_string(), "KB0EsYBXJQAuCygRsYlx3i2rq9p0RuuMELMD+OJhgDw=");
    }

    #[test]
    fn starts_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let keys: Vec<PrivateKey> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..16).map(|_| scope.spawn(|| load_or_create(&path).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn looser_mode_is_refused_and_the_key_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let text = "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n";
        write(&path, text, 0o644);
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let no_keys = [
            "",
            "\n",
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnN=\n",
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\nuFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        ];
        for text in no_keys {
            write(&path, text, 0o600);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, GatewayKeyError::Invalid { .. }), "{error}");
            assert!(!error.to_string().contains("uFOu"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn link_and_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target_path = dir.path().join("target");
        write(&target_path, "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n", 0o600);
        let link_path = dir.path().join("link");
        symlink(&target_path, &link_path).unwrap();
        let dangling_path = dir.path().join("dangling");
        symlink(dir.path().join("nothing"), &dangling_path).unwrap();
        for path in [link_path.as_path(), dangling_path.as_path(), dir.path()] {
            let error = load_or_create(path).unwrap_err();
            assert!(
                matches!(error, GatewayKeyError::NotPrivate(PrivateFileError::NotAFile(_))),
                "{error}"
            );
        }
    }

    #[test]
    fn missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/gateway.key");
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
