//! The file in the data directory in which changes of sessions wait, sealed, that the store did not take before the gateway
//! stopped.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tacit_accounts::{Store, Unwritten, UnwrittenError};
use tacit_keys::private_file;
use tacit_messages::UnixSeconds;

use crate::log;

/// The file.
const NAME: &str = "sessions.unwritten";

/// Begins the names of those that could not be read, which go on with the time.
const ASIDE: &str = "sessions.unread.";

/// Longer than the changes that a gateway lets wait.
const LONGEST: usize = 4 * 1024 * 1024;

/// Has what is sealed wait for the next start.
pub(super) fn keep(data_dir: &Path, sealed: &[u8]) -> io::Result<()> {
    private_file::replace(&data_dir.join(NAME), sealed)
}

/// What errors at the file are about.
const WAITING: &str = "changes of sessions that wait in the data directory";

/// What waits to be written to the store, if anything does. A file that cannot be read is put aside.
pub(super) async fn waiting(data_dir: &Path, store: &Store) -> anyhow::Result<Option<Unwritten>> {
    let path = data_dir.join(NAME);
    let Some(sealed) = private_file::read(&path, LONGEST).context(WAITING)? else {
        return Ok(None);
    };
    match store.open_unwritten(&sealed).await {
        Ok(unwritten) => Ok(Some(unwritten)),
        Err(UnwrittenError::Store(error)) => Err(error.into()),
        Err(why) => {
            let aside = data_dir.join(format!("{ASIDE}{}", UnixSeconds::now().0));
            fs::rename(&path, aside).context(WAITING)?;
            log::unwritten_put_aside(&why);
            Ok(None)
        }
    }
}

/// Removes the file of what waited: so many changes of it are written now.
pub(super) fn taken_up(data_dir: &Path, rows: usize) -> anyhow::Result<()> {
    remove(&data_dir.join(NAME)).context(WAITING)?;
    log::unwritten_taken_up(rows);
    Ok(())
}

/// Removes those put aside that are older than sessions may be.
pub(super) fn remove_past(data_dir: &Path, kept: Duration, now: UnixSeconds) -> io::Result<()> {
    let latest = now.minus(kept);
    for (path, since) in put_aside(data_dir)? {
        if since <= latest {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Those put aside in `data_dir`, and when that was.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) fn put_aside(data_dir: &Path) -> io::Result<Vec<(PathBuf, UnixSeconds)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let since = entry.file_name().to_str().and_then(aside_since);
        found.extend(since.map(|since| (entry.path(), since)));
    }
    Ok(found)
}

/// Since when a file of that name was put aside; none of another's.
pub(super) fn aside_since(name: &str) -> Option<UnixSeconds> {
    name.strip_prefix(ASIDE)?.parse().ok().map(UnixSeconds)
}

/// Removes a file and, as far as the file system lets, what was in it.
fn remove(path: &Path) -> io::Result<()> {
    let len = usize::try_from(fs::symlink_metadata(path)?.len()).unwrap_or(LONGEST).min(LONGEST);
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&vec![0; len])?;
    file.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tacit_accounts::{AccountId, Confirmation, SessionChange, TunnelPool};
    use tacit_keys::{DataKey, DataKeys, PresharedKey, PrivateKey};
    use tacit_messages::{ConnectingIp, DeviceId};

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

    /// A store with a device.
    struct Scene {
        dir: tempfile::TempDir,
        store: Store,
        account: AccountId,
        device: DeviceId,
    }

    impl Scene {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let pool = "10.66.0.0/16".parse().unwrap();
            let pool = TunnelPool::new(pool, "fd66::/64".parse().unwrap()).unwrap();
            let keys = DataKeys::new(DataKey::from_bytes([7; 32]));
            let store = Store::open(&dir.path().join("store.sqlite"), pool, keys).await.unwrap();
            let email = "ann@example.org".parse().unwrap();
            let account =
                store.add_account(&email, Confirmation::OfAge, None, NOW).await.unwrap().id;
            let (name, key) = ("phone".parse().unwrap(), PrivateKey::generate().public_key());
            let preshared = PresharedKey::generate();
            let device = store.add_device(account, &name, key, &preshared, NOW).await.unwrap().id;
            Self { dir, store, account, device }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join(NAME)
        }

        fn began(&self, at: UnixSeconds) -> SessionChange {
            let connecting_ip = ConnectingIp::new([192, 0, 2, 7].into());
            SessionChange::Began { device: self.device, connecting_ip, at }
        }

        fn ended(&self, at: UnixSeconds) -> SessionChange {
            SessionChange::Ended { device: self.device, last_seen_at: at }
        }

        /// Keeps a session that ended and one that began.
        async fn keep(&self) {
            let recorder = self.store.session_recorder().await.unwrap();
            let tried = [self.began(NOW)];
            let after = [self.ended(UnixSeconds(NOW.0 + 5)), self.began(UnixSeconds(NOW.0 + 9))];
            keep(self.dir.path(), &recorder.seal_unwritten(&tried, &after)).unwrap();
        }

        async fn take_up(&self) {
            let waiting = waiting(self.dir.path(), &self.store).await.unwrap();
            let Some(waiting) = waiting else { return };
            taken_up(self.dir.path(), self.store.take_up(&waiting).await.unwrap()).unwrap();
        }

        /// Begin and end of each session, after the begin.
        async fn times(&self) -> Vec<(u64, Option<u64>)> {
            let sessions = self.store.sessions(self.account).await.unwrap();
            let after = |at: UnixSeconds| at.0 - NOW.0;
            let times = |began, ended: Option<UnixSeconds>| (after(began), ended.map(after));
            sessions.iter().map(|session| times(session.began_at, session.ended_at)).collect()
        }

        fn aside(&self) -> Vec<PathBuf> {
            put_aside(self.dir.path()).unwrap().into_iter().map(|(path, _)| path).collect()
        }
    }

    const BOTH: [(u64, Option<u64>); 2] = [(0, Some(5)), (9, None)];

    #[tokio::test]
    async fn what_waits_is_private_sealed_written_once_and_gone() {
        let scene = Scene::new().await;
        scene.keep().await;
        let sealed = fs::read(scene.path()).unwrap();
        let mode = fs::metadata(scene.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        for plain in [&[192, 0, 2, 7][..], b"192.0.2.7"] {
            assert!(!sealed.windows(plain.len()).any(|bytes| bytes == plain));
        }
        scene.take_up().await;
        assert_eq!(scene.times().await, BOTH);
        assert!(!scene.path().exists());
        // The process died before the file was removed.
        fs::write(scene.path(), &sealed).unwrap();
        fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o600)).unwrap();
        scene.take_up().await;
        assert_eq!(scene.times().await, BOTH);
        assert!(!scene.path().exists() && scene.aside().is_empty());
    }

    #[tokio::test]
    async fn group_that_was_written_although_nobody_heard_is_not_written_again() {
        let scene = Scene::new().await;
        scene.keep().await;
        let mut recorder = scene.store.session_recorder().await.unwrap();
        recorder.record(&[scene.began(NOW)], NOW).await.unwrap();
        scene.take_up().await;
        assert_eq!(scene.times().await, BOTH);
        // The recorder of this start goes on where that leaves off.
        let mut recorder = scene.store.session_recorder().await.unwrap();
        recorder.record(&[scene.ended(UnixSeconds(NOW.0 + 20))], NOW).await.unwrap();
        assert_eq!(scene.times().await[1], (9, Some(20)));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_put_aside_and_goes_when_sessions_would() {
        let scene = Scene::new().await;
        let other = Scene::new().await;
        other.keep().await;
        let of_another_store = fs::read(other.path()).unwrap();
        scene.keep().await;
        let whole = fs::read(scene.path()).unwrap();
        let keys = DataKeys::new(DataKey::from_bytes([8; 32]));
        let of_another_key = keys
            .current()
            .seal(tacit_keys::data_key::Place { table: "x", column: "y", row: 0 }, &whole);
        fs::remove_file(scene.path()).unwrap();
        for bytes in [&whole[..whole.len() - 1], &of_another_store, &of_another_key, b""] {
            keep(scene.dir.path(), bytes).unwrap();
            scene.take_up().await;
            assert!(!scene.path().exists());
            assert_eq!(scene.aside().len(), 1);
            assert_eq!(fs::read(&scene.aside()[0]).unwrap(), bytes);
            let (now, month) = (UnixSeconds::now(), Duration::from_secs(30 * 24 * 60 * 60));
            remove_past(scene.dir.path(), month, now).unwrap();
            assert_eq!(scene.aside().len(), 1);
            remove_past(scene.dir.path(), month, now.plus(month)).unwrap();
            assert!(scene.aside().is_empty());
        }
        assert_eq!(scene.times().await, []);
    }
}
