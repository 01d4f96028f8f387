//! Files that only the gateway's own user may read.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why a file is not private. Each says the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Group or others may use the file.
    #[error("{} can be opened by others; mend it with `chmod 600 {}`", .0.display(), quoted(.0))]
    LooseMode(PathBuf),
    /// The file belongs to another user, who could change it.
    #[error(
        "{} belongs to another user; mend it with `chown {} {}`", path.display(), user(*.owner), quoted(path)
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Who must own it: the user that the program runs as.
        owner: u32,
    },
    /// A directory, symbolic link, device or pipe.
    #[error("{} is not a plain file; move it away or name another path", .0.display())]
    NotAFile(PathBuf),
}

/// Checks that `path`, whose own (not a link's) metadata is given, is a plain file of this user that no other can open.
///
/// # Errors
/// [`PrivateFileError`] with the command that mends it.
pub fn check(path: &Path, metadata: &Metadata) -> Result<(), PrivateFileError> {
    check_for(rustix::process::geteuid().as_raw(), path, metadata)
}

fn check_for(owner: u32, path: &Path, metadata: &Metadata) -> Result<(), PrivateFileError> {
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile(path.to_owned()));
    }
    if metadata.uid() != owner {
        return Err(PrivateFileError::ForeignOwner { path: path.to_owned(), owner });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(PrivateFileError::LooseMode(path.to_owned()));
    }
    Ok(())
}

fn user(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { uid.to_string() }
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        return path.into_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}
