use std::{
    fs,
    path::{Path, PathBuf},
};

use tacit_tests::{Gateway, Lab};

use super::Audited;

/// Has a file of the kernel say something else to everybody in the gateway's namespace; returns what it says it by.
pub(super) fn falsify(lab: &Lab, path: &str, text: &str) -> PathBuf {
    let false_file = lab.dir().join(path.replace('/', "-"));
    fs::write(&false_file, text).unwrap();
    lab.gateway.sh(&format!("mount --bind {} {path}", false_file.display()));
    false_file
}

#[test]
fn swap_in_the_clear_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let path = lab.dir().join("-proc-swaps"); // Made at the start.
    let none = fs::read_to_string(&path).unwrap();
    let swap = format!("{none}/nowhere/swapfile file 1048572 0 -2\n");
    audited.sees("swap", || fs::write(&path, swap).unwrap(), |()| fs::write(&path, &none).unwrap());
}

#[test]
fn module_that_exports_flows_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let path = "/proc/modules";
    let line = "ipt_NETFLOW 65536 0 - Live 0x0000000000000000\n";
    // A kernel without modules has no such file.
    if Path::new(path).exists() {
        audited.sees(
            "kernel-modules",
            || falsify(&lab, path, line),
            |_| {
                lab.gateway.sh(&format!("umount {path}"));
            },
        );
    }
}

#[test]
fn scope_of_ptrace_is_told() {
    let lab = Lab::new(0);
    let path = "/proc/sys/kernel/yama/ptrace_scope";
    // A kernel without Yama has no such file.
    if !Path::new(path).exists() {
        return;
    }
    let scope = falsify(&lab, path, "1\n");
    let say = |value: &str| fs::write(&scope, value).unwrap();
    let audited = Audited::start(&lab);
    audited.sees_as("ptrace-scope", "WARN", || say("0\n"), |()| say("1\n"));
}

#[test]
fn core_dumps_that_go_to_a_program_hold_no_memory_of_the_gateway() {
    let lab = Lab::new(0);
    let piped = "|/usr/lib/systemd/systemd-coredump %P\n";
    let pattern = falsify(&lab, "/proc/sys/kernel/core_pattern", piped);
    let audited = Audited::start(&lab);
    assert_eq!(audited.clean["core-pattern"], "PASS");
    let filter = |value: &str| {
        let starter = starter(&audited.gateway);
        lab.gateway.sh(&format!("echo {value} > /proc/{starter}/coredump_filter"));
    };
    filter("0x33");
    let mut expected = audited.clean.clone();
    for id in ["core-pattern", "starter-memory"] {
        expected.insert(id.into(), "FAIL".into());
    }
    assert_eq!(audited.now(), expected);
    fs::write(&pattern, "core\n").unwrap();
    expected.insert("core-pattern".into(), "PASS".into());
    assert_eq!(audited.now(), expected, "the limit on core files holds for files");
    fs::write(&pattern, piped).unwrap();
    filter("0");
    assert_eq!(audited.now(), audited.clean);
}

fn starter(gateway: &Gateway<'_>) -> u64 {
    gateway.json(&["status"])["starter"]["pid"].as_u64().unwrap()
}
