//! The host around the gateway: where memory could get to, and who could look.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{
    check::{Check, Finding, Verdict},
    forwarder::is_zero,
    process::{Process, limit},
    reading::{self, Reading},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "swap",
        meaning: "Memory is never written to a disk in the clear.",
        by_hand: "cat /proc/swaps; lsblk -o NAME,TYPE,MOUNTPOINT",
        judge: |evidence| {
            reading::judge(&evidence.host.swaps, |swaps, finding| judge_swaps(swaps, finding))
        },
    },
    Check {
        id: "core-pattern",
        meaning: "No process of the gateway would leave its memory to a core dump.",
        by_hand: "sysctl kernel.core_pattern; grep core /proc/{forwarder}/limits /proc/{control}/limits; ls -ld /proc/{forwarder}/maps /proc/{control}/maps",
        judge: |evidence| {
            reading::judge(&evidence.host.core_pattern, |pattern, finding| {
                for (name, process) in evidence.named_processes() {
                    judge_core(pattern.trim(), name, &Dumps::of(process), finding);
                }
            })
        },
    },
    Check {
        id: "ptrace-scope",
        meaning: "Programs cannot look into other programs of the same user.",
        by_hand: "sysctl kernel.yama.ptrace_scope",
        judge: |evidence| {
            reading::judge(&evidence.host.ptrace_scope, |scope, finding| {
                judge_ptrace_scope(scope.as_deref().map(str::trim), finding);
            })
        },
    },
    Check {
        id: "kernel-modules",
        meaning: "No module is loaded that is there to record traffic.",
        by_hand: "lsmod",
        judge: |evidence| {
            reading::judge(&evidence.host.modules, |modules, finding| {
                judge_modules(modules.as_deref(), finding);
            })
        },
    },
];

/// What was read of the host.
pub(super) struct Host {
    swaps: Reading<Vec<Swap>>,
    core_pattern: Reading<String>,
    ptrace_scope: Reading<Option<String>>,
    modules: Reading<Option<String>>,
}

impl Host {
    /// Reads `/proc` and `/sys`.
    pub(super) fn read() -> Self {
        let swaps = reading::text("/proc/swaps");
        Self {
            swaps: swaps.map(|table| table.lines().skip(1).filter_map(Swap::read).collect()),
            core_pattern: reading::text("/proc/sys/kernel/core_pattern"),
            ptrace_scope: reading::text_if_there("/proc/sys/kernel/yama/ptrace_scope"),
            modules: reading::text_if_there("/proc/modules"),
        }
    }
}

/// Memory's place when there is too little of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Swap {
    name: String,
    keeping: Keeping,
}

/// How a swap keeps what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// In memory, compressed.
    Memory,
    /// On a disk, encrypted.
    Encrypted,
    /// On a disk, in the clear.
    Clear,
}

impl Swap {
    fn read(line: &str) -> Option<Self> {
        let name = line.split_whitespace().next()?;
        let keeping = match block_device(Path::new(name)) {
            _ if name.starts_with("/dev/zram") => Keeping::Memory,
            Some(device) if is_encrypted(&device) => Keeping::Encrypted,
            _ => Keeping::Clear,
        };
        Some(Self { name: name.into(), keeping })
    }
}

/// The directory in `/sys` of a block device, or of the one that a file is on.
fn block_device(path: &Path) -> Option<PathBuf> {
    let file = fs::metadata(path).ok()?;
    let device = if file.file_type().is_block_device() { file.rdev() } else { file.dev() };
    let (major, minor) = (libc::major(device), libc::minor(device));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// Whether a block device is dm-crypt's, or stands on such devices only.
fn is_encrypted(device: &Path) -> bool {
    let uuid = fs::read_to_string(device.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-") {
        return true;
    }
    let below = reading::directory(device.join("slaves")).unwrap_or_default();
    let targets = below.iter().filter_map(|link| fs::canonicalize(link).ok());
    !below.is_empty()
        && targets.clone().count() == below.len()
        && targets.into_iter().all(|below| is_encrypted(&below))
}

fn judge_swaps(swaps: &[Swap], finding: &mut Finding) {
    for Swap { name, keeping } in swaps {
        match keeping {
            Keeping::Memory => finding.pass(format!("{name}: compressed memory")),
            Keeping::Encrypted => finding.pass(format!("{name}: encrypted")),
            Keeping::Clear => finding.fail(format!("{name}: a disk, not seen to be encrypted (the forwarder's memory is locked and gets to no swap)")),
        };
    }
    finding.pass(format!("{} swaps in /proc/swaps", swaps.len()));
}

/// What decides whether a process leaves a core dump.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dumps {
    /// Whether its memory may be dumped at all; of root's processes nobody can tell.
    is_dumpable: Option<bool>,
    /// Whether a dump would hold no memory.
    is_empty: bool,
    /// The limit on core files in force.
    limit: Option<String>,
}

impl Dumps {
    fn of(process: &Process) -> Self {
        let limits = process.limits.as_deref().unwrap_or_default();
        let filter = process.dump_filter.as_deref().unwrap_or("?");
        Self {
            is_dumpable: match (process.is_roots(), &process.files_owner) {
                (Some(false), Ok(owner)) => Some(*owner != 0),
                _ => None,
            },
            is_empty: is_zero(&[filter.trim()]),
            limit: limit(limits, "Max core file size").map(|(soft, _)| soft.into()),
        }
    }
}

fn judge_core(pattern: &str, name: &str, dumps: &Dumps, finding: &mut Finding) {
    let is_piped = pattern.starts_with('|');
    let limit = dumps.limit.as_deref().unwrap_or("unknown");
    let why = if dumps.is_dumpable == Some(false) {
        "not dumpable"
    } else if dumps.is_empty {
        "a dump would hold no memory"
    } else if pattern.is_empty() {
        "no dump is made"
    } else if !is_piped && limit == "0" {
        "the limit on core files is 0"
    } else {
        let to = if is_piped { "a program, whatever the limit" } else { "a file" };
        finding.fail(format!(
            "{name}: dumps go to {to} (kernel.core_pattern = {pattern}, limit {limit})"
        ));
        return;
    };
    finding.pass(format!("{name}: {why} (kernel.core_pattern = {pattern})"));
}

fn judge_ptrace_scope(scope: Option<&str>, finding: &mut Finding) {
    match scope {
        Some("0") => finding.warn("kernel.yama.ptrace_scope = 0: programs of one user can look into each other; the forwarder has a user of its own and is not dumpable"),
        Some(scope) => finding.pass(format!("kernel.yama.ptrace_scope = {scope}")),
        None => finding.warn("this kernel has no Yama: programs of one user can look into each other; the forwarder has a user of its own and is not dumpable"),
    };
}

/// Modules that record or export traffic.
const RECORDING_MODULES: [&str; 5] = ["ipt_NETFLOW", "pf_ring", "xt_ndpi", "nlmon", "psample"];

fn judge_modules(modules: Option<&str>, finding: &mut Finding) {
    let Some(modules) = modules else {
        finding.pass("this kernel loads no modules");
        return;
    };
    let names: Vec<_> = modules.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in names.iter().filter(|name| RECORDING_MODULES.contains(name)) {
        // These two are loaded for others' sake too; packets need more than them.
        let verdict =
            if ["nlmon", "psample"].contains(name) { Verdict::Warn } else { Verdict::Fail };
        finding.line(verdict, format!("{name} is loaded"));
    }
    finding.pass(format!("{} modules are loaded", names.len()));
}

#[cfg(test)]
mod tests {
    use super::{super::check::verdict, *};

    #[test]
    fn swap_in_the_clear_is_a_violation() {
        let swap = |keeping| [Swap { name: "/swapfile".into(), keeping }];
        assert_eq!(verdict(|finding| judge_swaps(&[], finding)), Verdict::Pass);
        assert_eq!(verdict(|finding| judge_swaps(&swap(Keeping::Memory), finding)), Verdict::Pass);
        assert_eq!(
            verdict(|finding| judge_swaps(&swap(Keeping::Encrypted), finding)),
            Verdict::Pass
        );
        assert_eq!(verdict(|finding| judge_swaps(&swap(Keeping::Clear), finding)), Verdict::Fail);
    }

    #[test]
    fn swap_is_read_from_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("{}   file  1048572 0 -2", file.path().display());
        assert_eq!(Swap::read(&line).unwrap().name, file.path().display().to_string());
        let zram = Swap::read("/dev/zram0                              partition\t4194300\t0\t100")
            .unwrap();
        assert_eq!(zram.keeping, Keeping::Memory);
    }

    #[test]
    fn device_on_an_encrypted_one_is_encrypted() {
        let sys = tempfile::tempdir().unwrap();
        let (crypt, lvm, plain) =
            (sys.path().join("dm-0"), sys.path().join("dm-1"), sys.path().join("sda"));
        for (device, uuid) in [(&crypt, "CRYPT-LUKS2-aa"), (&lvm, "LVM-bb"), (&plain, "")] {
            fs::create_dir_all(device.join("dm")).unwrap();
            fs::create_dir_all(device.join("slaves")).unwrap();
            fs::write(device.join("dm/uuid"), uuid).unwrap();
        }
        assert!(is_encrypted(&crypt) && !is_encrypted(&lvm) && !is_encrypted(&plain));
        std::os::unix::fs::symlink(&crypt, lvm.join("slaves/dm-0")).unwrap();
        assert!(is_encrypted(&lvm));
        std::os::unix::fs::symlink(&plain, lvm.join("slaves/sda")).unwrap();
        assert!(!is_encrypted(&lvm));
    }

    #[test]
    fn process_that_would_be_dumped_is_a_violation() {
        let loose = Dumps { is_dumpable: Some(true), is_empty: false, limit: Some("0".into()) };
        let judged = |pattern: &str, dumps: &Dumps| {
            verdict(|finding| judge_core(pattern, "control", dumps, finding))
        };
        assert_eq!(judged("core", &loose), Verdict::Pass);
        assert_eq!(judged("|/usr/lib/systemd/systemd-coredump %P", &loose), Verdict::Fail);
        let unlimited = Dumps { limit: Some("unlimited".into()), ..loose.clone() };
        assert_eq!(judged("/var/crash/core.%p", &unlimited), Verdict::Fail);
        assert_eq!(judged("", &unlimited), Verdict::Pass);
        let sealed = Dumps { is_dumpable: Some(false), ..unlimited.clone() };
        assert_eq!(judged("|/usr/lib/systemd/systemd-coredump %P", &sealed), Verdict::Pass);
        let root = Dumps { is_dumpable: None, ..unlimited };
        assert_eq!(judged("core", &root), Verdict::Fail, "of root's processes nobody can tell");
    }

    #[test]
    fn dump_of_root_that_would_hold_no_memory_is_no_violation() {
        let judged = |process: &Process| {
            let pattern = "|/usr/lib/systemd/systemd-coredump %P";
            verdict(|finding| judge_core(pattern, "starter", &Dumps::of(process), finding))
        };
        let starter = Process::sealed(0, 0);
        assert_eq!(judged(&starter), Verdict::Pass);
        let dump_filter = Ok("00000033\n".into());
        assert_eq!(judged(&Process { dump_filter, ..starter.clone() }), Verdict::Fail);
        let dump_filter = Err(reading::Unread::new("coredump_filter", "planted"));
        assert_eq!(judged(&Process { dump_filter, ..starter }), Verdict::Fail);
    }

    #[test]
    fn ptrace_scope_that_lets_programs_look_is_told() {
        let judged = |scope| verdict(|finding| judge_ptrace_scope(scope, finding));
        assert_eq!(judged(Some("0")), Verdict::Warn);
        assert_eq!(judged(None), Verdict::Warn);
        assert_eq!(judged(Some("1")), Verdict::Pass);
        assert_eq!(judged(Some("3")), Verdict::Pass);
    }

    #[test]
    fn module_that_exports_flows_is_a_violation() {
        let judged = |modules| verdict(|finding| judge_modules(modules, finding));
        assert_eq!(judged(None), Verdict::Pass);
        assert_eq!(judged(Some("nf_tables 1 0 - Live 0x0\n")), Verdict::Pass);
        assert_eq!(judged(Some("ipt_NETFLOW 1 0 - Live 0x0\n")), Verdict::Fail);
    }
}
