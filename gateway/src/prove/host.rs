//! What the machine itself wrote meanwhile: logs, journal, temporary files, the kernel's log and connection tracking.

use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nlink::netlink::{Connection, Netfilter};
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, statfs};
use tacit_messages::UnixSeconds;

use super::{
    files,
    ledger::{Ledger, Moment, PlaceKind},
    namespace::Namespace,
    search::Searched,
};

/// Where this machine writes logs and temporary files.
const DIRS: [(&str, PlaceKind); 5] = [
    ("/var/log", PlaceKind::HostLogs),
    ("/run/log", PlaceKind::HostLogs),
    ("/tmp", PlaceKind::HostFiles),
    ("/var/tmp", PlaceKind::HostFiles),
    ("/dev/shm", PlaceKind::HostFiles),
];
/// Of a larger file only the end is searched: what is new stands there.
const LARGEST: u64 = 64 << 20;
/// Kinds of file systems that keep nothing: procfs and sysfs, by their numbers (statfs(2)).
const KERNELS_OWN: [FsWord; 2] = [PROC_SUPER_MAGIC, 0x6265_6572];
/// More files than that are not looked at in one directory tree.
const MOST_FILES: usize = 50_000;

/// Searches what changed on this machine since `began`.
pub(super) fn search_changed(began: UnixSeconds, ledger: &mut Ledger, moment: Moment) {
    for (dir, kind) in DIRS {
        let mut changed = Changed { began, seen: 0, files: Vec::new() };
        changed.collect(Path::new(dir));
        if changed.seen > MOST_FILES {
            ledger
                .unread
                .push(format!("{dir} has more than {MOST_FILES} files; the rest was not searched"));
        }
        let (mut count, mut all) = (0, Searched::default());
        for path in changed.files {
            match read_end(&path).and_then(|end| ledger.search.read(end)) {
                Ok(searched) if searched.hits.is_empty() => {
                    count += 1;
                    all.merge(searched);
                }
                // A file that is gone by now was another program's.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                searched => {
                    ledger.outcome(kind, &path.display().to_string(), moment, searched);
                }
            }
        }
        let place = format!("{count} files below {dir} that changed meanwhile");
        ledger.outcome(kind, &place, moment, Ok(all));
    }
}

struct Changed {
    began: UnixSeconds,
    seen: usize,
    files: Vec<PathBuf>,
}

impl Changed {
    fn collect(&mut self, dir: &Path) {
        // What the kernel tells where somebody mounted it, as in the root directory of a container, nobody wrote.
        if statfs(dir).is_ok_and(|mount| KERNELS_OWN.contains(&mount.f_type)) {
            return;
        }
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            self.seen += 1;
            if self.seen > MOST_FILES {
                return;
            }
            let changed_at = u64::try_from(metadata.mtime().max(metadata.ctime())).unwrap_or(0);
            if metadata.is_dir() {
                self.collect(&entry.path());
            } else if metadata.is_file() && changed_at >= self.began.0 {
                self.files.push(entry.path());
            }
        }
    }
}

fn read_end(path: &Path) -> io::Result<impl Read> {
    let mut file = files::open(path)?;
    let len = file.metadata()?.len();
    io::Seek::seek(&mut file, io::SeekFrom::Start(len.saturating_sub(LARGEST)))?;
    Ok(file.take(LARGEST))
}

/// Searches the kernel's log, where it can be read.
pub(super) fn search_kernel_log(ledger: &mut Ledger, moment: Moment) {
    match read_kernel_log() {
        Ok(log) => ledger.bytes(PlaceKind::KernelLog, "/dev/kmsg", moment, &log),
        Err(error) => ledger
            .unread
            .push(format!("the kernel's log, which this machine does not show: {error}")),
    }
}

fn read_kernel_log() -> io::Result<Vec<u8>> {
    let mut file = files::open(Path::new("/dev/kmsg"))?;
    let (mut log, mut record) = (Vec::new(), vec![0; 8192]);
    loop {
        match file.read(&mut record) {
            Ok(0) => return Ok(log),
            Ok(len) => log.extend(&record[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(log),
            // It was overwritten before it could be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
}

/// Searches what the kernel tracks of connections through the gateway.
///
/// # Errors
/// If the kernel does not say.
pub(super) fn search_conntrack(
    inside: &Namespace,
    ledger: &mut Ledger,
    moment: Moment,
) -> anyhow::Result<()> {
    let entries = inside.within_async(async || {
        let netfilter = Connection::<Netfilter>::new()?;
        let mut entries = netfilter.get_conntrack().await?;
        entries.extend(netfilter.get_conntrack_v6().await?);
        Ok(entries)
    })?;
    let mut text = String::new();
    for entry in entries {
        for tuple in [&entry.orig, &entry.reply] {
            for ip in [tuple.src_ip, tuple.dst_ip].into_iter().flatten() {
                let _ = writeln!(text, "{ip}");
            }
        }
    }
    ledger.bytes(PlaceKind::Conntrack, "of the gateway's network", moment, text.as_bytes());
    Ok(())
}

/// Shared memory and message queues of System V, which the gateway must not have: they need no file.
///
/// # Errors
/// If the kernel does not say.
pub(super) fn count_system_v(inside: &Namespace) -> anyhow::Result<usize> {
    inside.within(|| {
        let lists =
            ["shm", "msg", "sem"].map(|kind| fs::read_to_string(format!("/proc/sysvipc/{kind}")));
        // Each list has a line of heads.
        Ok(lists.iter().flatten().map(|list| list.lines().skip(1).count()).sum())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_below(dir: &str) -> usize {
        let mut changed = Changed { began: UnixSeconds(0), seen: 0, files: Vec::new() };
        changed.collect(Path::new(dir));
        changed.files.len()
    }

    #[test]
    fn what_the_kernel_tells_is_no_file_that_somebody_wrote() {
        assert_eq!(found_below("/proc/self"), 0);
        assert_eq!(found_below("/sys/kernel"), 0);
        assert!(found_below(concat!(env!("CARGO_MANIFEST_DIR"), "/src/prove")) > 0);
    }
}
