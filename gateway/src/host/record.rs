//! What the gateway changed on the host, on disk before it is changed, so that it can be undone after `kill -9`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sysctls::Change;
use super::{HostError, HostSettings, firewall};

const FILE_NAME: &str = "host-state.json";
const OWNER_ONLY: u32 = 0o600;

/// One gateway's changes to one network namespace since one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Boot of the kernel; a reboot has undone everything.
    boot: String,
    /// Device and inode of the network namespace; another one was never changed.
    namespace: (u64, u64),
    /// TUN device.
    pub(super) interface: String,
    /// Firewall table.
    pub(super) table: String,
    /// Sysctls, in the order of putting them back.
    pub(super) changes: Vec<Change>,
}

impl Record {
    /// What is about to be changed here and now.
    ///
    /// # Errors
    /// [`HostError::Record`] if /proc is not mounted.
    pub(super) fn new(settings: &HostSettings, changes: Vec<Change>) -> Result<Self, HostError> {
        let (boot, namespace) = here().map_err(|source| refusal(&settings.state_dir, source))?;
        let interface = settings.interface.clone();
        let table = firewall::table_name(&interface);
        Ok(Self { boot, namespace, interface, table, changes })
    }

    /// Reads what a predecessor with this data directory left in this namespace; nothing if it stopped in order,
    /// or changed another namespace or before the last boot.
    pub(super) fn load(settings: &HostSettings) -> Option<Self> {
        let text = fs::read(path(&settings.state_dir)).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        let (boot, namespace) = here().ok()?;
        (record.boot == boot && record.namespace == namespace).then_some(record)
    }

    /// Writes the record through to the disk, in place of the one before.
    ///
    /// # Errors
    /// [`HostError::Record`].
    pub(super) fn store(&self, settings: &HostSettings) -> Result<(), HostError> {
        let path = path(&settings.state_dir);
        self.write(&settings.state_dir, &path).map_err(|source| refusal(&path, source))
    }

    fn write(&self, directory: &Path, path: &Path) -> io::Result<()> {
        let new_path = path.with_extension("json.new");
        // One left from a crash may have another mode.
        let _ = fs::remove_file(&new_path);
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(OWNER_ONLY).open(&new_path)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new_path, path)?;
        File::open(directory)?.sync_all()
    }

    /// Forgets the record: everything is as it was.
    pub(super) fn remove(settings: &HostSettings) {
        let _ = fs::remove_file(path(&settings.state_dir));
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}

fn here() -> io::Result<(String, (u64, u64))> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let namespace = fs::metadata("/proc/thread-self/ns/net")?;
    Ok((boot.trim().to_owned(), (namespace.dev(), namespace.ino())))
}

fn refusal(path: &Path, source: io::Error) -> HostError {
    HostError::Record { path: path.to_owned(), source }
}
