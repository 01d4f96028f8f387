//! What is in the data directory, and which files the process that knows customers has open.
//!
//! Landlock lets that process write there and nowhere else, so a log that it kept would be there, by a name or held open.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use rustix::fs::{PROC_SUPER_MAGIC, statfs};

use super::{
    check::{Check, Finding, Verdict},
    process::{Descriptor, Process},
    reading::{self, Reading},
};
use crate::{admin::AuditFacts, control::data_dir};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[Check {
    id: "data-directory",
    meaning: "The data directory holds what a gateway keeps there and nothing else, and the process that knows customers has no other file open to write.",
    by_hand: "ls -la {data}; ls -l /proc/{control}/fd; grep flags /proc/{control}/fdinfo/*",
    judge: |evidence| {
        let user = super::store::user_of(&evidence.control);
        let mut finding = Finding::default();
        reading::add(&evidence.data_dir.entries, &mut finding, |entries, finding| {
            judge_entries(entries, user, finding);
        });
        reading::add(&evidence.data_dir.open, &mut finding, |open, finding| {
            judge_open(open, finding);
        });
        finding
    },
}];

/// What was read of it.
pub(super) struct DataDir {
    entries: Reading<Vec<Entry>>,
    open: Reading<Vec<OpenFile>>,
}

/// Something in the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    owner: u32,
    /// Whether a gateway makes a file of that name.
    is_known: bool,
    /// Whether it is a plain file.
    is_file: bool,
    identity: Identity,
}

/// Device and number of a file.
type Identity = (u64, u64);

/// A file that control can write to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenFile {
    /// Its name, as the kernel says it.
    name: String,
    /// Where it stands.
    place: Place,
}

/// Where an open file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is one that a gateway keeps.
    Known,
    /// It has no name any longer, or never had one.
    Nameless,
    Elsewhere,
}

impl DataDir {
    /// Looks at the directory and the files, as control sees them.
    pub(super) fn read(facts: &AuditFacts, control: &Process) -> Self {
        let entries = entries(facts, control);
        let known = entries.as_deref().unwrap_or_default().iter().filter(|entry| entry.is_known);
        let known = known.map(|entry| entry.identity).collect();
        let open = control.descriptors.clone().map(|descriptors| {
            let open = descriptors.iter().filter_map(|found| open_file(control, found, &known));
            open.collect()
        });
        Self { entries, open }
    }
}

fn identity(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino())
}

fn entries(facts: &AuditFacts, control: &Process) -> Reading<Vec<Entry>> {
    let dir = &facts.data_dir;
    let inside = PathBuf::from(format!("/proc/{}/root", control.pid))
        .join(dir.strip_prefix("/").unwrap_or(dir));
    // What the operator has the gateway find there.
    let named: Vec<&PathBuf> = [&facts.socket, &facts.config]
        .into_iter()
        .chain(&facts.data_key)
        .chain(&facts.named_files)
        .collect();
    let look = |path: &PathBuf| {
        let name = path.file_name()?;
        // SQLite's own files come and go.
        let file = fs::symlink_metadata(path).ok()?;
        let path = dir.join(name);
        let is_file_systems = name == "lost+found" && file.uid() == 0;
        (!is_file_systems && !named.contains(&&path)).then(|| Entry {
            path,
            owner: file.uid(),
            is_known: data_dir::is_kept(&name.to_string_lossy()),
            is_file: file.is_file(),
            identity: identity(&file),
        })
    };
    Ok(reading::directory(inside)?.iter().filter_map(look).collect())
}

/// A descriptor as an open file; none of what is no plain file, cannot be written to, or is a standard stream, which the
/// checks of the log are about.
fn open_file(
    control: &Process,
    Descriptor { number, target, info }: &Descriptor,
    known: &BTreeSet<Identity>,
) -> Option<OpenFile> {
    let path_of = |number| format!("/proc/{}/fd/{number}", control.pid);
    let path = path_of(*number);
    let file = fs::metadata(&path).ok()?;
    if fs::read_link(&path).ok()?.to_string_lossy() != target.as_str() {
        // Closed since it was listed: the number is another file's now.
        return None;
    }
    let identity = identity(&file);
    let streams = (0..=2).filter_map(|stream| fs::metadata(path_of(stream)).ok());
    let is_stream = || streams.map(|stream| self::identity(&stream)).any(|own| own == identity);
    // A switch of the kernel's is no file that keeps anything.
    let is_kernels = || statfs(&path).is_ok_and(|mount| mount.f_type == PROC_SUPER_MAGIC);
    if !file.is_file() || !is_writable(info) || is_stream() || is_kernels() {
        return None;
    }
    let place = match file.nlink() {
        _ if known.contains(&identity) => Place::Known,
        0 => Place::Nameless,
        _ => Place::Elsewhere,
    };
    Some(OpenFile { name: target.clone(), place })
}

/// Whether a descriptor can be written to, by its `fdinfo`.
fn is_writable(info: &str) -> bool {
    const ACCESS: u32 = libc::O_ACCMODE.cast_unsigned();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & ACCESS != libc::O_RDONLY.cast_unsigned())
}

fn judge_entries(entries: &[Entry], user: Option<u32>, finding: &mut Finding) {
    let is_right = |entry: &&Entry| entry.is_known && entry.is_file;
    finding.pass(format!(
        "{} of {} files are what a gateway keeps",
        entries.iter().filter(is_right).count(),
        entries.len()
    ));
    for Entry { path, owner, .. } in entries.iter().filter(|entry| !is_right(entry)) {
        // What somebody else put there the gateway did not write.
        let is_gateways = user.is_none_or(|user| user == *owner);
        let verdict = if is_gateways { Verdict::Fail } else { Verdict::Warn };
        finding.line(verdict, format!("{}: no gateway keeps this, owner {owner}", path.display()));
    }
}

fn judge_open(open: &[OpenFile], finding: &mut Finding) {
    for OpenFile { name, place } in open {
        match place {
            Place::Known => finding.pass(format!("{name} is open to write")),
            // A purge has one while it writes the store anew.
            Place::Nameless => finding.warn(format!("{name} is open to write and has no name")),
            Place::Elsewhere => {
                finding.fail(format!("{name} is open to write, and no gateway keeps it"))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 65_528;

    #[test]
    fn file_that_no_gateway_keeps_is_a_violation_if_the_gateway_wrote_it() {
        let judged = |owner, is_known, is_file| {
            let path = "/data/x".into();
            let entry = Entry { path, owner, is_known, is_file, identity: (1, 2) };
            let mut finding = Finding::default();
            judge_entries(&[entry], Some(USER), &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(USER, true, true), Verdict::Pass);
        assert_eq!(judged(USER, false, true), Verdict::Fail);
        assert_eq!(judged(USER, true, false), Verdict::Fail, "a directory of that name");
        assert_eq!(judged(0, false, true), Verdict::Warn);
    }

    #[test]
    fn file_that_is_open_and_stands_elsewhere_is_a_violation() {
        let judged = |place| {
            let mut finding = Finding::default();
            judge_open(&[OpenFile { name: "/data/x".into(), place }], &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(Place::Known), Verdict::Pass);
        assert_eq!(judged(Place::Nameless), Verdict::Warn);
        assert_eq!(judged(Place::Elsewhere), Verdict::Fail);
    }

    #[test]
    fn file_that_can_only_be_read_is_none_to_write() {
        assert!(!is_writable("pos:\t0\nflags:\t0100000\n"));
        assert!(is_writable("pos:\t0\nflags:\t0100001\n"));
        assert!(is_writable("pos:\t0\nflags:\t0100002\n"));
        assert!(is_writable(""), "what was not read");
    }
}
