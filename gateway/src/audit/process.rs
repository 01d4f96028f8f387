//! A process as the kernel reports it in `/proc`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::reading::{self, Reading, Unread};

/// Kinds of namespaces that are compared.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// What the kernel says of a process.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Process {
    /// Its number, as this process sees it.
    pub(super) pid: u32,
    /// `status` of every thread.
    pub(super) threads: Reading<Vec<String>>,
    /// `limits`.
    pub(super) limits: Reading<String>,
    /// `smaps`: every piece of its memory.
    pub(super) memory: Reading<String>,
    /// `coredump_filter`: which kinds of memory a core dump holds.
    pub(super) dump_filter: Reading<String>,
    /// Whom its files in `/proc` belong to: root, if its memory may not be dumped.
    pub(super) files_owner: Reading<u32>,
    /// What each descriptor leads to.
    pub(super) descriptors: Reading<Vec<Descriptor>>,
    /// Its namespaces by kind.
    pub(super) namespaces: Reading<BTreeMap<&'static str, String>>,
    /// The names in its root directory.
    pub(super) root: Reading<Vec<PathBuf>>,
}

/// An open descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Its number.
    pub(super) number: u32,
    /// What it leads to: a path, or a kind with an inode in brackets.
    pub(super) target: String,
    /// `fdinfo`: what its driver says of it.
    pub(super) info: String,
}

impl Process {
    /// Reads what the kernel says of `pid`.
    pub(super) fn read(pid: u32) -> Self {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let owner = fs::metadata(proc.join("maps")).map(|file| file.uid());
        Self {
            pid,
            threads: threads(&proc),
            limits: reading::text(proc.join("limits")),
            memory: reading::text(proc.join("smaps")),
            dump_filter: reading::text(proc.join("coredump_filter")),
            files_owner: owner.map_err(|error| Unread::new(proc.join("maps").display(), error)),
            descriptors: descriptors(&proc),
            namespaces: namespaces(&proc),
            root: root(&proc),
        }
    }

    /// Whether it is root's; unknown of one that cannot be read.
    pub(super) fn is_roots(&self) -> Option<bool> {
        let status = self.threads.as_ref().ok()?.first()?;
        Some(*field(status, "Uid")?.get(1)? == "0")
    }

    /// Whether a thread of it has a capability, by its bit; unknown of one that cannot be read.
    pub(super) fn may(&self, capability: u64) -> Option<bool> {
        let threads = self.threads.as_ref().ok()?;
        let effective =
            |status: &String| u64::from_str_radix(field(status, "CapEff")?.first()?, 16).ok();
        let sets: Option<Vec<u64>> = threads.iter().map(effective).collect();
        Some(sets?.iter().any(|bits| bits & capability != 0))
    }

    /// How many lists of system calls hold the thread that has most; unknown of one that cannot be read.
    pub(super) fn filters(&self) -> Option<u64> {
        let threads = self.threads.as_ref().ok()?.iter();
        threads.filter_map(|status| field(status, "Seccomp_filters")?.first()?.parse().ok()).max()
    }

    /// A process without rights of `user`, sealed, as the kernel reports it.
    #[cfg(test)]
    pub(super) fn sealed(user: u32, files_owner: u32) -> Self {
        let status = format!(
            "TracerPid:\t0\nUid:\t{user}\t{user}\t{user}\t{user}\nCapEff:\t0000000000000000\n"
        );
        let limits = "Max core file size        0                    0                    bytes\n";
        let namespace = |kind| (kind, format!("{kind}:[{user}]"));
        Self {
            pid: 70,
            threads: Ok(vec![status]),
            limits: Ok(limits.into()),
            memory: Ok(String::new()),
            dump_filter: Ok("00000000\n".into()),
            files_owner: Ok(files_owner),
            descriptors: Ok(Vec::new()),
            namespaces: Ok(NAMESPACES.into_iter().map(namespace).collect()),
            root: Ok(Vec::new()),
        }
    }
}

/// The words after a field's name in a `status`; none if the kernel does not have the field.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect())
}

/// The soft and the hard limit of that name in a `limits`.
pub(super) fn limit<'a>(limits: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let mut words = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    Some((words.next()?, words.next()?))
}

/// The inode of a descriptor's target such as `socket:[17]`.
pub(super) fn inode_of<'a>(target: &'a str, kind: &str) -> Option<&'a str> {
    target.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')
}

fn threads(proc: &Path) -> Reading<Vec<String>> {
    let tasks = reading::directory(proc.join("task"))?;
    if tasks.is_empty() {
        return Err(Unread::new(proc.display(), "there is no such process"));
    }
    tasks.iter().map(|task| reading::text(task.join("status"))).collect()
}

fn descriptors(proc: &Path) -> Reading<Vec<Descriptor>> {
    let fd_dir = proc.join("fd");
    let entries = fs::read_dir(&fd_dir).map_err(|error| Unread::new(fd_dir.display(), error))?;
    let mut descriptors: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            // One that was closed meanwhile is none.
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            let info = fs::read_to_string(proc.join(format!("fdinfo/{number}")));
            Some(Descriptor { number, target, info: info.unwrap_or_default() })
        })
        .collect();
    descriptors.sort_by_key(|descriptor| descriptor.number);
    Ok(descriptors)
}

fn namespaces(proc: &Path) -> Reading<BTreeMap<&'static str, String>> {
    let read = |kind: &'static str| {
        let path = proc.join("ns").join(kind);
        let target = fs::read_link(&path).map_err(|error| Unread::new(path.display(), error))?;
        Ok((kind, target.to_string_lossy().into_owned()))
    };
    NAMESPACES.into_iter().map(read).collect()
}

fn root(proc: &Path) -> Reading<Vec<PathBuf>> {
    let path = proc.join("root");
    let entries = fs::read_dir(&path).map_err(|error| Unread::new(path.display(), error))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// A process and its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kinship {
    /// Its number here.
    pub(super) pid: u32,
    /// Its parent's number here.
    pub(super) parent: u32,
    /// Its number in each process namespace that it is in, the outermost first.
    pub(super) numbers: Vec<u32>,
    /// Its name.
    pub(super) name: String,
}

impl Kinship {
    /// Reads a `status`; one that has ended and was not waited for does nothing any longer.
    fn read(status: &str) -> Option<Self> {
        if field(status, "State")?.first() == Some(&"Z") {
            return None;
        }
        let number = |name| field(status, name)?.first()?.parse().ok();
        let numbers = field(status, "NSpid")?.iter().filter_map(|word| word.parse().ok()).collect();
        let name = field(status, "Name")?.join(" ");
        Some(Self { pid: number("Pid")?, parent: number("PPid")?, numbers, name })
    }

    /// Whether the process calls itself, or is called by its parent, `number`.
    pub(super) fn is_called(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }
}

/// Everything that runs.
pub(super) fn everybody() -> Reading<Vec<Kinship>> {
    let processes = reading::directory("/proc")?;
    let statuses = processes.iter().filter_map(|proc| {
        proc.file_name()?.to_str()?.parse::<u32>().ok()?;
        fs::read_to_string(proc.join("status")).ok()
    });
    Ok(statuses.filter_map(|status| Kinship::read(&status)).collect())
}

/// The children of `ancestor`, and theirs.
pub(super) fn descendants(everybody: &[Kinship], ancestor: u32) -> Vec<Kinship> {
    let mut found: Vec<Kinship> = Vec::new();
    let mut ancestors = vec![ancestor];
    while let Some(parent) = ancestors.pop() {
        for child in everybody.iter().filter(|process| process.parent == parent) {
            ancestors.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Who holds the socket with this inode: name and number of the process, as far as it can be seen from here.
pub(super) fn holder_of_socket(inode: &str) -> String {
    let holds = |proc: &Path| {
        let descriptors = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
            target.to_str().and_then(|target| inode_of(target, "socket")) == Some(inode)
        })
    };
    let processes = reading::directory("/proc").unwrap_or_default();
    let holder = processes.iter().filter(|path| is_numbered(path)).find(|proc| holds(proc));
    holder.map_or_else(|| "a process that cannot be seen from here".into(), |proc| name_of(proc))
}

/// Whether a path in `/proc` is a process's.
pub(super) fn is_numbered(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
}

/// Name and number of a process, by its directory in `/proc`.
pub(super) fn name_of(proc: &Path) -> String {
    let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
    let pid = proc.file_name().unwrap_or_default().to_string_lossy();
    format!("{} (pid {pid})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\ttacit\nState:\tS (sleeping)\nPid:\t70\nPPid:\t60\nGroups:\t \nNSpid:\t70\t5\t1\n";

    #[test]
    fn fields_are_read_by_their_whole_name() {
        assert_eq!(field(STATUS, "Pid"), Some(vec!["70"]));
        assert_eq!(field(STATUS, "Groups"), Some(vec![]));
        assert_eq!(field(STATUS, "Seccomp"), None);
    }

    #[test]
    fn process_is_found_by_its_number_in_its_own_namespace() {
        let process = Kinship::read(STATUS).unwrap();
        assert!(process.is_called(5) && process.is_called(70) && !process.is_called(60));
    }

    #[test]
    fn process_that_has_ended_is_none() {
        assert!(Kinship::read(&STATUS.replace("S (sleeping)", "Z (zombie)")).is_none());
    }

    #[test]
    fn descendants_are_children_and_theirs() {
        let process = |pid, parent| Kinship { pid, parent, numbers: vec![pid], name: "x".into() };
        let everybody = [process(2, 1), process(3, 2), process(4, 3), process(5, 1)];
        let mut found: Vec<_> = descendants(&everybody, 2).iter().map(|found| found.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn limits_are_soft_and_hard() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max core file size        0                    unlimited            bytes\n";
        assert_eq!(limit(limits, "Max core file size"), Some(("0", "unlimited")));
        assert_eq!(limit(limits, "Max processes"), None);
    }

    #[test]
    fn socket_that_nobody_seems_to_hold_is_said_to_be_so() {
        assert!(holder_of_socket("none").contains("cannot be seen"));
    }
}
