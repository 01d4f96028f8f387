//! The file that holds the gateway's own private key, in the form that `wg genkey` prints, and below it the former one while
//! both are answered.

use std::{
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{KeyError, PrivateKey, key_file, key_file::ReadError, private_file::PrivateFileError};

/// As much of the file as tells two keys from something longer.
const MAX_LEN: usize = 128;

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
    /// The file holds too many keys.
    #[error("the gateway key {} holds more than two keys, or one twice; leave the one in client configs, and below it the former one", .0.display())]
    TooMany(PathBuf),
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

/// The gateway's own key, and the one before it while customers change their configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayKeys {
    current: PrivateKey,
    former: Option<PrivateKey>,
}

impl GatewayKeys {
    /// Loads the keys from `path`, or makes one there at the first start.
    ///
    /// # Errors
    /// [`GatewayKeyError`] if the file can be opened by others, belongs to another user, holds no key, or cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, GatewayKeyError> {
        if let Some(keys) = load(path)? {
            return Ok(keys);
        }
        let keys = Self { current: PrivateKey::generate(), former: None };
        match key_file::create(path, keys.render().as_bytes()) {
            Ok(()) => Ok(keys),
            // Another process was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                load(path)?.ok_or_else(|| io_error(path, io::ErrorKind::NotFound.into()))
            }
            Err(error) => Err(io_error(path, error)),
        }
    }

    /// Loads keys that several gateways share from `path`. One that is made would be this gateway's alone, so none is.
    ///
    /// # Errors
    /// [`GatewayKeyError`] if there is no file, it can be opened by others, belongs to another user or holds no key.
    pub fn load_shared(path: &Path) -> Result<Self, GatewayKeyError> {
        load(path)?.ok_or_else(|| GatewayKeyError::Missing(path.to_owned()))
    }

    /// A new key, and the one that was current as the former.
    #[must_use]
    pub fn with_new(&self) -> Self {
        Self { current: PrivateKey::generate(), former: Some(self.current.clone()) }
    }

    /// The current key alone.
    #[must_use]
    pub fn without_former(&self) -> Self {
        Self { current: self.current.clone(), former: None }
    }

    /// Puts these keys in the place of those in `path`; after a crash there are the ones or the others.
    ///
    /// # Errors
    /// [`GatewayKeyError::Io`]; then the file is as it was, or has these keys and may lose them in a crash.
    pub fn save(&self, path: &Path) -> Result<(), GatewayKeyError> {
        let saved = key_file::replace(path, self.render().as_bytes());
        saved.map_err(|source| io_error(path, source))
    }

    /// The key in client configs.
    #[must_use]
    pub const fn current(&self) -> &PrivateKey {
        &self.current
    }

    /// The key that was that before and is answered still.
    #[must_use]
    pub const fn former(&self) -> Option<&PrivateKey> {
        self.former.as_ref()
    }

    fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_LEN));
        for key in [Some(&self.current), self.former.as_ref()].into_iter().flatten() {
            text.push_str(&key.expose_base64());
            text.push('\n');
        }
        text
    }
}

/// Reads the keys, or tells that there is no file yet.
fn load(path: &Path) -> Result<Option<GatewayKeys>, GatewayKeyError> {
    let Some(text) = key_file::read(path, MAX_LEN).map_err(|error| read_error(path, error))? else {
        return Ok(None);
    };
    let invalid = |fault| GatewayKeyError::Invalid { path: path.to_owned(), fault };
    let text = std::str::from_utf8(&text).map_err(|_| invalid(KeyError::NotBase64))?;
    let mut keys = text.trim_ascii_end().lines().map(|line| line.parse().map_err(invalid));
    let current: PrivateKey = keys.next().unwrap_or_else(|| Err(invalid(KeyError::Length)))?;
    let former = keys.next().transpose()?;
    if keys.next().is_some() || former.as_ref() == Some(&current) {
        return Err(GatewayKeyError::TooMany(path.to_owned()));
    }
    Ok(Some(GatewayKeys { current, former }))
}

fn io_error(path: &Path, source: io::Error) -> GatewayKeyError {
    GatewayKeyError::Io { path: path.to_owned(), source }
}

fn read_error(path: &Path, error: ReadError) -> GatewayKeyError {
    match error {
        ReadError::NotPrivate(error) => error.into(),
        ReadError::Io(source) => io_error(path, source),
    }
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
        assert!(matches!(GatewayKeys::load_shared(&path), Err(GatewayKeyError::Missing(_))));
        assert!(!path.exists());
        let made = GatewayKeys::load_or_create(&path).unwrap();
        assert_eq!(
            GatewayKeys::load_shared(&path).unwrap().current().public_key(),
            made.current().public_key()
        );
    }

    #[test]
    fn first_start_makes_a_private_file_and_the_next_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let made = GatewayKeys::load_or_create(&path).unwrap();
        assert!(GatewayKeys::load_or_create(&path).unwrap() == made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", *made.current().expose_base64())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn key_written_by_wg_genkey_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        write(&path, "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n", 0o600);
        let public_key = GatewayKeys::load_or_create(&path).unwrap().current().public_key();
        assert_eq!(public_key.to_string(), "KB0EsYBXJQAuCygRsYlx3i2rq9p0RuuMELMD+OJhgDw=");
    }

    #[test]
    fn starts_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let keys: Vec<GatewayKeys> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| GatewayKeys::load_or_create(&path).unwrap()))
                .collect();
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
        let error = GatewayKeys::load_or_create(&path).unwrap_err().to_string();
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
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\nuFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnN=\n",
            "uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM= uFOudy1rBMIfkEJr74vf6OkYTBu23eUjjmMWZuEVDnM=\n",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        ];
        for text in no_keys {
            write(&path, text, 0o600);
            let error = GatewayKeys::load_or_create(&path).unwrap_err();
            assert!(matches!(error, GatewayKeyError::Invalid { .. }), "{error}");
            assert!(!error.to_string().contains("uFOu"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn file_holds_the_former_key_too_until_it_is_retired() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let first = GatewayKeys::load_or_create(&path).unwrap();
        let both = first.with_new();
        both.save(&path).unwrap();
        assert_eq!(GatewayKeys::load_or_create(&path).unwrap(), both);
        assert_eq!(both.former(), Some(first.current()));
        assert_ne!(both.current(), first.current());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        both.without_former().save(&path).unwrap();
        let one = GatewayKeys::load_shared(&path).unwrap();
        assert_eq!((one.current(), one.former()), (both.current(), None));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn three_keys_and_one_twice_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.key");
        let line = || format!("{}\n", *PrivateKey::generate().expose_base64());
        let (a, b, c) = (line(), line(), line());
        for text in [format!("{a}{b}{c}"), format!("{a}{a}")] {
            write(&path, &text, 0o600);
            let error = GatewayKeys::load_shared(&path).unwrap_err();
            assert!(matches!(error, GatewayKeyError::TooMany(_)), "{error}");
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
            let error = GatewayKeys::load_or_create(path).unwrap_err();
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
        let error = GatewayKeys::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
