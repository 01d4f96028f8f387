//! Events that the kernel counts or writes down for programs, by perf_event_open(2). An event of the network writes down each
//! packet, and neither the kernel's tracer nor a BPF program tells of it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    check::{Check, Finding},
    process,
    reading::{self, Reading},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[Check {
    id: "perf-events",
    meaning: "No program has the kernel count or write down events for it (perf), which could be of packets or system calls.",
    by_hand: "ls -l /proc/[0-9]*/task/*/fd 2>/dev/null | grep perf_event; grep -l perf_event /proc/[0-9]*/maps",
    judge: |evidence| reading::judge(&evidence.perf_events, judge),
}];

/// What was seen of such events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PerfEvents {
    /// Who has some: name and number of each process.
    holders: BTreeSet<String>,
    /// How many processes were looked into.
    seen: usize,
    /// How many could not be.
    unseen: usize,
    /// Whether there are processes that cannot even be listed from here.
    is_in_a_namespace: bool,
}

impl PerfEvents {
    /// Looks into everything that runs.
    pub(super) fn read() -> Reading<Self> {
        let mut events =
            Self { is_in_a_namespace: is_in_a_namespace("/proc/self/ns/pid"), ..Self::default() };
        for proc in reading::directory("/proc")?.iter().filter(|proc| process::is_numbered(proc)) {
            match has_events(proc) {
                Ok(true) => drop(events.holders.insert(process::name_of(proc))),
                Ok(false) => events.seen += 1,
                // It has ended.
                Err(error) if !proc.exists() || is_gone(&error) => {}
                Err(_) => events.unseen += 1,
            }
        }
        Ok(events)
    }
}

/// Whether the process namespace at `path` is another than the machine's first, whose number is the same on every machine
/// (`PROC_PID_INIT_INO`).
fn is_in_a_namespace(path: &str) -> bool {
    const FIRST: u64 = 0xefff_fffc;
    fs::metadata(path).map_or(true, |namespace| namespace.ino() != FIRST)
}

fn is_gone(error: &io::Error) -> bool {
    const ESRCH: i32 = libc::ESRCH;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// What a descriptor of an event leads to, and what a piece of memory is called that an event is written to.
const EVENT: &str = "anon_inode:[perf_event]";

/// Whether a process has an event, in memory even if it has closed the descriptor.
fn has_events(proc: &Path) -> io::Result<bool> {
    // A thread can have descriptors of its own.
    let threads: Vec<PathBuf> =
        fs::read_dir(proc.join("task"))?.flatten().map(|thread| thread.path()).collect();
    for thread in threads {
        let entries = match fs::read_dir(thread.join("fd")) {
            // It has ended, and others may not have.
            Err(error) if is_gone(&error) => continue,
            entries => entries?,
        };
        for entry in entries.flatten() {
            if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(EVENT)) {
                return Ok(true);
            }
        }
    }
    let maps = fs::read(proc.join("maps"))?;
    Ok(maps.windows(EVENT.len()).any(|window| window == EVENT.as_bytes()))
}

fn judge(events: &PerfEvents, finding: &mut Finding) {
    let PerfEvents { holders, seen, unseen, is_in_a_namespace } = events;
    for holder in holders {
        finding.fail(format!("{holder} has the kernel count or write down events for it"));
    }
    finding.pass(format!("{seen} other processes were looked into"));
    if *unseen > 0 {
        finding.warn(format!("{unseen} processes could not be looked into"));
    }
    if *is_in_a_namespace {
        finding.warn("processes outside of this process namespace cannot be seen from here");
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn judged(events: PerfEvents) -> Verdict {
        let mut finding = Finding::default();
        judge(&events, &mut finding);
        finding.verdict()
    }

    #[test]
    fn program_with_an_event_is_a_violation() {
        let nobody = PerfEvents { seen: 9, ..PerfEvents::default() };
        let holders = BTreeSet::from(["spy (pid 70)".to_owned()]);
        assert_eq!(judged(nobody.clone()), Verdict::Pass);
        assert_eq!(judged(PerfEvents { holders, ..nobody.clone() }), Verdict::Fail);
        assert_eq!(judged(PerfEvents { unseen: 1, ..nobody.clone() }), Verdict::Warn);
        assert_eq!(judged(PerfEvents { is_in_a_namespace: true, ..nobody }), Verdict::Warn);
    }

    #[test]
    fn process_without_an_event_is_seen_to_have_none() {
        assert!(!has_events(Path::new("/proc/self")).unwrap());
    }
}
