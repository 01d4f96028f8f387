//! The file that holds the gateway's own private key, in the form that `wg genkey` prints.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rand_core::{OsRng, RngCore};
use rustix::{fs::OFlags, io::Errno};
use zeroize::Zeroizing;

use crate::{KeyError, PrivateKey, private_file, private_file::PrivateFileError};

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

/// Reads the key, or tells that there is no file yet.
fn load(path: &Path) -> Result<Option<PrivateKey>, GatewayKeyError> {
    let io_error = |source| GatewayKeyError::Io { path: path.to_owned(), source };
    // Neither follows a link nor waits for a pipe's other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(PrivateFileError::NotAFile(path.to_owned()).into());
        }
        Err(error) => return Err(io_error(error)),
    };
    private_file::check(path, &file.metadata().map_err(io_error)?)?;
    let text = read_text(&mut file).map_err(io_error)?;
    let text = std::str::from_utf8(&text).map_err(|_| KeyError::NotBase64);
    text.and_then(|text| text.trim_ascii_end().parse())
        .map(Some)
        .map_err(|fault| GatewayKeyError::Invalid { path: path.to_owned(), fault })
}

/// Reads as much as tells a key from something longer.
fn read_text(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(64));
    file.take(64).read_to_end(&mut text)?;
    Ok(text)
}

/// Makes the file whole or not at all: written under another name, then linked to `path` unless that exists.
fn create(path: &Path, key: &PrivateKey) -> io::Result<()> {
    let draft_path = draft_path(path);
    let made = write_draft(&draft_path, key).and_then(|()| fs::hard_link(&draft_path, path));
    let removed = fs::remove_file(&draft_path);
    made.and(removed)?;
    File::open(parent(path))?.sync_all()
}

fn write_draft(draft_path: &Path, key: &PrivateKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft_path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?; // Whatever the umask took away.
    let mut text = key.expose_base64();
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", OsRng.next_u64()));
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
