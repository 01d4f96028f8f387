//! Files that only the gateway's own user may read.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub use crate::key_file::{ReadError, read, replace};

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
/// For root it may also be the file of the directory's owner, who could put another one in its place anyway.
///
/// # Errors
/// [`PrivateFileError`] with the command that mends it.
pub fn check(path: &Path, metadata: &Metadata) -> Result<(), PrivateFileError> {
    let user = rustix::process::geteuid();
    let owner = metadata.uid();
    let is_directorys = || fs::metadata(directory(path)).is_ok_and(|dir| dir.uid() == owner);
    let expected = if user.is_root() && is_directorys() { owner } else { user.as_raw() };
    check_for(expected, path, metadata)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, chown},
    };

    use super::*;

    fn file_with_mode(mode: u32) -> (tempfile::NamedTempFile, Metadata) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        let metadata = fs::symlink_metadata(file.path()).unwrap();
        (file, metadata)
    }

    #[test]
    fn own_private_file_passes() {
        for mode in [0o600, 0o400] {
            let (file, metadata) = file_with_mode(mode);
            check(file.path(), &metadata).unwrap();
        }
    }

    #[test]
    fn looser_mode_is_refused_with_the_command_that_mends_it() {
        for mode in [0o640, 0o604, 0o620, 0o610, 0o777] {
            let (file, metadata) = file_with_mode(mode);
            let error = check(file.path(), &metadata).unwrap_err().to_string();
            let command = format!("`chmod 600 {}`", file.path().display());
            assert!(error.ends_with(&command), "{error}");
        }
    }

    #[test]
    fn foreign_owner_is_refused_with_the_command_that_mends_it() {
        let (file, metadata) = file_with_mode(0o600);
        let path = file.path();
        let owner = metadata.uid() + 1;
        let error = check_for(owner, path, &metadata).unwrap_err().to_string();
        assert!(error.ends_with(&format!("`chown {owner} {}`", path.display())), "{error}");
    }

    #[test]
    fn root_takes_the_file_of_the_directorys_owner_and_of_nobody_else() {
        assert!(rustix::process::geteuid().is_root(), "only root can give files away");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(1000), None).unwrap();
        let checked = || check(&path, &fs::symlink_metadata(&path).unwrap());
        assert!(matches!(checked(), Err(PrivateFileError::ForeignOwner { owner: 0, .. })));
        chown(dir.path(), Some(1000), None).unwrap();
        checked().unwrap();
        chown(&path, Some(1001), None).unwrap();
        assert!(matches!(checked(), Err(PrivateFileError::ForeignOwner { .. })));
    }

    #[test]
    fn root_is_named_in_the_command() {
        let error = PrivateFileError::ForeignOwner { path: "/var/lib/tacit/key".into(), owner: 0 };
        assert!(error.to_string().ends_with("`chown root /var/lib/tacit/key`"));
    }

    #[test]
    fn directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = fs::symlink_metadata(dir.path()).unwrap();
        assert!(matches!(check(dir.path(), &metadata), Err(PrivateFileError::NotAFile(_))));
    }

    #[test]
    fn command_survives_a_shell() {
        assert_eq!(quoted(Path::new("/var/lib/tacit/gateway.key")), "/var/lib/tacit/gateway.key");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
