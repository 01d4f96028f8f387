//! The admin socket's place in the file system.

use std::{
    fs, io, mem,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process,
};

use nix::unistd::Group;

/// The group whose members may use the socket, if it exists.
const GROUP: &str = "tacit";

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another gateway answers there.
    #[error("a running gateway already listens at {0}; stop it or name another --socket")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is not a socket; move it away or name another --socket")]
    NotSocket(PathBuf),
    /// The file system refused.
    #[error("making the admin socket {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// The admin socket; its file is removed when dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
    inode: u64,
}

impl AdminSocket {
    /// Binds the socket at `path` with mode 0660, in place of one whose process is gone.
    ///
    /// # Errors
    /// [`SocketError`] if another gateway answers there or the file system refuses.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let failed = |error| SocketError::Io(path.into(), error);
        refuse_if_taken(path)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
        }
        let (inode, listener) = bind_and_move(path).map_err(failed)?;
        Ok((Self { path: path.into(), inode }, listener))
    }

    /// The socket that another process bound at `path`, for this one to remove.
    pub(crate) fn of_control(path: PathBuf, inode: u64) -> Self {
        Self { path, inode }
    }

    /// The socket's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's inode: another one at the same path is not this socket.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Leaves the file where it is.
    pub(crate) fn leave(self) {
        mem::forget(self);
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds beside `path`, so that nobody can connect before the mode is set, then moves it there at once.
fn bind_and_move(path: &Path) -> io::Result<(u64, UnixListener)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", process::id()));
    let beside = path.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let moved = give_to_group(&beside).and_then(|()| {
        let inode = fs::symlink_metadata(&beside)?.ino();
        fs::rename(&beside, path)?;
        Ok(inode)
    });
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    listener.set_nonblocking(true)?;
    Ok((moved?, listener))
}

fn give_to_group(socket: &Path) -> io::Result<()> {
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(socket, None, Some(group.gid.as_raw()))?;
    }
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))
}

fn refuse_if_taken(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(SocketError::NotSocket(path.into()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::Io(path.into(), error)),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => Err(SocketError::InUse(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_in(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("run/admin.sock")
    }

    #[test]
    fn socket_is_for_owner_and_group_and_goes_with_its_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(&dir);
        let (socket, _listener) = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn socket_of_a_running_gateway_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(&dir);
        let first = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse(_))));
        drop(first);
    }

    #[test]
    fn socket_of_a_dead_gateway_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(&dir);
        let (stale, listener) = AdminSocket::bind(&path).unwrap();
        drop(listener);
        let (_socket, _listener) = AdminSocket::bind(&path).unwrap();
        drop(stale);
        assert!(UnixStream::connect(&path).is_ok(), "the new socket outlives the stale one");
    }

    #[test]
    fn file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::NotSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
