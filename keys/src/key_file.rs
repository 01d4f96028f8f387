//! Files that hold keys, or what is sealed with one: read only if private, written whole or not at all.

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

use crate::{private_file, private_file::PrivateFileError};

/// Why a private file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file's mode, owner or kind.
    #[error(transparent)]
    NotPrivate(#[from] PrivateFileError),
    /// What the system said.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads at most `max_len` bytes of the file, or tells that there is none.
///
/// # Errors
/// [`ReadError`] if others can open it, it belongs to another user, or the system refuses.
pub fn read(path: &Path, max_len: usize) -> Result<Option<Zeroizing<Vec<u8>>>, ReadError> {
    // Neither follows a link nor waits for a pipe's other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(PrivateFileError::NotAFile(path.to_owned()).into());
        }
        Err(error) => return Err(error.into()),
    };
    private_file::check(path, &file.metadata()?)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(max_len));
    file.take(max_len as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Makes the file with mode 0600; fails with [`io::ErrorKind::AlreadyExists`] if there is one.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft_path = draft_path(path);
    let made = write_draft(&draft_path, bytes).and_then(|()| fs::hard_link(&draft_path, path));
    let removed = fs::remove_file(&draft_path);
    made.and(removed)?;
    sync_parent(path)
}

/// Puts another content in the file's place, with mode 0600; after a crash there is the one or the other.
///
/// # Errors
/// What the system said; then the file is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft_path = draft_path(path);
    let moved = write_draft(&draft_path, bytes).and_then(|()| fs::rename(&draft_path, path));
    if moved.is_err() {
        let _ = fs::remove_file(&draft_path);
    }
    moved?;
    sync_parent(path)
}

fn write_draft(draft_path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft_path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?; // Whatever the umask took away.
    file.write_all(bytes)?;
    file.sync_all()
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", OsRng.next_u64()));
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
