//! The directory that holds the store and the keys, and belongs to one gateway at a time.
//!
//! Root looks after it here, and another user may be able to write in it or above it. So it is opened once, each file in
//! it is opened from there, and what was opened is what is looked at and given away: a name can lead elsewhere by then.

use std::{
    ffi::{CStr, OsStr},
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, chownat, flock, fstat, open, openat,
        unlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};

use super::{
    unwritten,
    user::{NUMBER, User},
};

/// Beginnings of the names of what a gateway keeps in its data directory.
const OWN: [&str; 8] = [
    "lock",
    "gateway.key",
    "gateway.id",
    "data.key",
    "store.sqlite",
    "host-state.json",
    "site.",
    "sessions.",
];

/// Beginnings of the names of files that are being written.
const DRAFTS: [&[u8]; 5] =
    [b".gateway.key.", b".data.key.", b"site.draft", b".sessions.", b"store.sqlite.restoring"];

/// Names of what a gateway keeps in its data directory, each as a whole.
const KEPT: [&str; 13] = [
    "lock",
    "gateway.key",
    "gateway.id",
    "data.key",
    "store.sqlite",
    "store.sqlite-wal",
    "store.sqlite-shm",
    "store.sqlite-journal",
    "host-state.json",
    "host-state.json.new",
    "site.pem",
    "site.draft",
    "sessions.unwritten",
];

/// What a file system has in its uppermost directory.
const LOST_AND_FOUND: &CStr = c"lost+found";

/// Opens a file to look at it and to give it away, whatever it is; of a link the link itself.
const ONLY_THIS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another gateway has it.
    #[error("another gateway uses {0}; stop it or name another --data-dir")]
    InUse(PathBuf),
    /// It belongs to somebody else, who could change what is in it.
    #[error(
        "the data directory {0} belongs to another user; name another --data-dir, or take this one over with `chown -R root {0}`"
    )]
    ForeignOwner(PathBuf),
    /// It is a link, which could lead elsewhere at the next look.
    #[error("the data directory {0} is a link; name the directory that it leads to")]
    Link(PathBuf),
    /// It is not for the gateway alone, so it cannot be given to the user that control becomes.
    #[error("the data directory {0} holds other files; move them away or name an empty --data-dir")]
    Shared(PathBuf),
    /// A directory above it keeps the user away that control becomes.
    #[error(
        "{above} does not let user {user} through to the data directory; mend it with `chmod o+x {above}` or name another --data-dir"
    )]
    Unreachable {
        /// The directory above.
        above: PathBuf,
        /// The user's number.
        user: u32,
    },
    /// The file system refused.
    #[error("the data directory {0} cannot be used; make it writable or name another --data-dir")]
    Io(PathBuf, #[source] io::Error),
}

/// A data directory, taken for this process until dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    dir: OwnedFd,
    _lock: OwnedFd,
}

impl DataDir {
    /// Takes the directory at `path`, making it first if need be.
    ///
    /// # Errors
    /// [`DataDirError`] if another gateway has it or the file system refuses.
    pub(crate) fn take(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error: Errno| DataDirError::Io(path.into(), error.into());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| DataDirError::Io(path.into(), error))?;
        if fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink()) {
            return Err(DataDirError::Link(path.into()));
        }
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(path, how, Mode::empty()).map_err(failed)?;
        // Root opens what another user may have put there.
        let how = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let how = OFlags::WRONLY | OFlags::CREATE | how;
        let lock = openat(&dir, "lock", how, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                remove_drafts(&dir).map_err(failed)?;
                Ok(Self { path: path.into(), dir, _lock: lock })
            }
            Err(Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.into())),
            Err(error) => Err(failed(error)),
        }
    }

    /// Gives the directory, and what root keeps in it for a gateway, to `user`; also what the user without an account
    /// has, who was a gateway's before the host had one.
    ///
    /// # Errors
    /// [`DataDirError`] if it belongs to another user, or holds what is not the gateway's.
    pub(crate) fn give_to(&self, user: User) -> Result<(), DataDirError> {
        let failed = |error: Errno| DataDirError::Io(self.path.clone(), error.into());
        let owner = fstat(&self.dir).map_err(failed)?.st_uid;
        let is_given = |owner: u32| [0, NUMBER].contains(&owner);
        if !is_given(owner) && owner != user.user {
            return Err(DataDirError::ForeignOwner(self.path.clone()));
        }
        let entries = Dir::read_from(&self.dir).map_err(failed)?;
        let names: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
            .collect::<rustix::io::Result<_>>()
            .map_err(failed)?;
        let is_expected =
            |name: &CStr| [c".", c"..", LOST_AND_FOUND].contains(&name) || is_own(name);
        if owner == 0 && !names.iter().all(|name| is_expected(name)) {
            return Err(DataDirError::Shared(self.path.clone()));
        }
        for name in names.iter().filter(|name| is_kept(&name.to_string_lossy())) {
            let file = match openat(&self.dir, name, ONLY_THIS, Mode::empty()) {
                // A draft that is gone by now.
                Err(Errno::NOENT) => continue,
                opened => opened.map_err(failed)?,
            };
            // Another name of it is somebody else's, who should not get it.
            let status = fstat(&file).map_err(failed)?;
            let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
            if is_file && status.st_nlink == 1 && is_given(status.st_uid) {
                give(&file, user).map_err(failed)?;
            }
        }
        give(&self.dir, user).map_err(failed)
    }

    /// Checks that this process, which has become `user`, can still get to the directory.
    ///
    /// # Errors
    /// [`DataDirError::Unreachable`] with the directory that is in the way.
    pub(crate) fn check_reachable(&self, user: User) -> Result<(), DataDirError> {
        let failed = |error| DataDirError::Io(self.path.clone(), error);
        let Err(error) = fs::read_dir(&self.path) else { return Ok(()) };
        let path = std::path::absolute(&self.path).map_err(failed)?;
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        let is_in_the_way = |above: &&&Path| fs::metadata(above.join(".")).is_err();
        match above.iter().rev().find(is_in_the_way) {
            Some(above) => Err(DataDirError::Unreachable { above: above.into(), user: user.user }),
            None => Err(failed(error)),
        }
    }

    /// The gateway's key.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.path.join("gateway.key")
    }
}

/// Gives what is open to `user`.
fn give(file: impl AsFd, user: User) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(user.user), Gid::from_raw(user.group));
    chownat(file, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)
}

/// Whether a gateway may have made a file of that name.
fn is_own(name: &CStr) -> bool {
    let name = OsStr::from_bytes(name.to_bytes()).to_string_lossy();
    // A draft of a file has a dot before its name.
    let name = name.strip_prefix('.').unwrap_or(&name);
    OWN.iter().any(|own| name.starts_with(own))
}

/// Whether a gateway keeps a file of that name, writes one, or puts one aside. [`is_own`] is for what may be in a directory
/// that is to be a gateway's, which needs no more than a beginning.
pub(crate) fn is_kept(name: &str) -> bool {
    let is_draft = || {
        let (name, number) = name.strip_prefix('.')?.rsplit_once('.')?;
        let is_number = number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit());
        Some(KEPT.contains(&name) && is_number)
    };
    KEPT.contains(&name) || is_draft() == Some(true) || unwritten::aside_since(name).is_some()
}

/// Removes what a crash left of private files that were being written: a former key would outlive its rotation there.
fn remove_drafts(dir: impl AsFd) -> rustix::io::Result<()> {
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if DRAFTS.iter().any(|draft| name.to_bytes().starts_with(draft)) {
            unlinkat(&dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// The store of a data directory that need not exist.
pub(crate) fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store.sqlite")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, lchown, symlink};

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

    #[test]
    fn drafts_of_key_files_go_at_the_start() {
        let parent = tempfile::tempdir().unwrap();
        let names = [".data.key.0123456789abcdef", "store.sqlite.restoring-wal", "data.key"];
        let paths = names.map(|name| parent.path().join(name));
        paths.iter().for_each(|path| fs::write(path, "secret").unwrap());
        let _dir = DataDir::take(parent.path()).unwrap();
        assert_eq!(paths.map(|path| path.exists()), [false, false, true]);
    }

    #[test]
    fn what_a_gateway_keeps_is_known_by_its_whole_name() {
        for kept in ["store.sqlite-wal", ".gateway.key.0123456789abcdef", "sessions.unread.17"] {
            assert!(is_kept(kept), "{kept}");
        }
        for other in ["traffic.log", "store.sqlite.log", "sessions.unread.x", ".gateway.key.log"] {
            assert!(!is_kept(other), "{other}");
        }
    }

    #[test]
    fn lock_is_not_taken_through_a_link() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = parent.path().join("elsewhere");
        let dir = parent.path().join("data");
        fs::create_dir(&dir).unwrap();
        symlink(&elsewhere, dir.join("lock")).unwrap();
        assert!(matches!(DataDir::take(&dir), Err(DataDirError::Io(..))));
        assert!(!elsewhere.exists());
    }

    const USER: User = User { user: 65_528, group: 65_528 };

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn what_root_kept_for_a_gateway_is_given_away_with_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::take(&parent.path().join("data")).unwrap();
        let wal_path = dir.path.join("store.sqlite-wal");
        let copy_path = dir.path.join("store.sqlite.bak");
        [&wal_path, &copy_path].into_iter().for_each(|path| fs::write(path, "").unwrap());
        dir.give_to(USER).unwrap();
        for path in [&dir.path, &dir.path.join("lock"), &wal_path] {
            assert_eq!(owner(path), USER.user);
        }
        assert_eq!(owner(&copy_path), 0, "that is root's own");
        // The next start, which finds it as it should be.
        dir.give_to(USER).unwrap();
    }

    #[test]
    fn directory_with_other_files_and_somebody_elses_are_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::take(&parent.path().join("data")).unwrap();
        let other = dir.path.join("passwd");
        fs::write(&other, "").unwrap();
        assert!(matches!(dir.give_to(USER), Err(DataDirError::Shared(_))));
        assert_eq!([owner(&dir.path), owner(&other)], [0, 0]);
        fs::remove_file(&other).unwrap();
        lchown(&dir.path, Some(1000), None).unwrap();
        assert!(matches!(dir.give_to(USER), Err(DataDirError::ForeignOwner(_))));
    }

    #[test]
    fn links_in_the_directory_give_nothing_away() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::take(&parent.path().join("data")).unwrap();
        let [secret, other] = ["secret", "other"].map(|name| parent.path().join(name));
        fs::write(&secret, "").unwrap();
        fs::write(&other, "").unwrap();
        symlink(&secret, dir.path.join("store.sqlite")).unwrap();
        fs::hard_link(&other, dir.path.join("gateway.key")).unwrap();
        dir.give_to(USER).unwrap();
        assert_eq!([owner(&secret), owner(&other)], [0, 0]);
    }

    #[test]
    fn directory_that_is_a_link_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let [elsewhere, link] = ["elsewhere", "data"].map(|name| parent.path().join(name));
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        assert!(matches!(DataDir::take(&link), Err(DataDirError::Link(_))));
        assert_eq!([owner(&elsewhere), owner(&link)], [0, 0]);
        assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn link_that_takes_the_directorys_place_gives_nothing_away() {
        let parent = tempfile::tempdir().unwrap();
        let [path, away, elsewhere] =
            ["data", "away", "elsewhere"].map(|name| parent.path().join(name));
        let dir = DataDir::take(&path).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("data.key"), "somebody else's").unwrap();
        fs::rename(&path, &away).unwrap();
        symlink(&elsewhere, &path).unwrap();

        dir.give_to(USER).unwrap();

        assert_eq!([owner(&away), owner(&away.join("lock"))], [USER.user; 2]);
        let others = [&path, &elsewhere, &elsewhere.join("data.key")];
        assert_eq!(others.map(|path| owner(path)), [0; 3]);
    }
}
