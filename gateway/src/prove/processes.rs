//! The processes of the private gateway, as the host numbers them.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::Context;
use rustix::process::Pid;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its number.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
}

impl Process {
    /// Where the kernel shows it.
    pub(super) fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// Whether it is the one that packets pass through.
    pub(super) fn is_forwarder(&self) -> bool {
        self.name.starts_with("tacit-forwarder")
    }

    /// What the report calls it.
    pub(super) fn role(&self) -> &str {
        match self.name.as_str() {
            "tacit" => "control",
            name => name.strip_prefix("tacit-").unwrap_or(name),
        }
    }

    /// The names of its threads, which the kernel keeps: short, but an address fits.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn thread_names(&self) -> io::Result<Vec<u8>> {
        let mut names = Vec::new();
        for thread in fs::read_dir(self.dir().join("task"))? {
            // One that has ended meanwhile has none.
            names.extend(fs::read(thread?.path().join("comm")).unwrap_or_default());
        }
        Ok(names)
    }

    /// Its number for signals.
    ///
    /// # Errors
    /// If it has none.
    pub(super) fn id(&self) -> anyhow::Result<Pid> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.context("a process has no number")
    }
}

/// The processes that descend from `ancestor`, parents first.
pub(super) fn below(ancestor: u32) -> Vec<Process> {
    let mut children = BTreeMap::<u32, Vec<Process>>::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(name), Some(parent)) = (field("Name:"), field("PPid:")) else { continue };
        let Ok(parent) = parent.parse() else { continue };
        children.entry(parent).or_default().push(Process { pid, name: name.to_owned() });
    }
    let mut found = children.remove(&ancestor).unwrap_or_default();
    let mut next = 0;
    while next < found.len() {
        let below = children.remove(&found[next].pid);
        found.extend(below.into_iter().flatten());
        next += 1;
    }
    found
}
