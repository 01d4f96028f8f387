use std::{fs, path::PathBuf};

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

/// Has the audit see a `/proc` that has the kernel's files and one more, whether this kernel has such a file or not.
fn with_file_in_proc(lab: &Lab, name: &str, text: &str) -> String {
    let dir = lab.dir().join("proc");
    let dir = dir.display();
    format!(
        "mkdir -p {dir}; mount -t tmpfs none {dir}; mkdir {dir}/kernels {dir}/all
         mount --rbind /proc {dir}/kernels
         for file in /proc/*; do ln -s {dir}/kernels/${{file#/proc/}} {dir}/all/; done
         rm -f {dir}/all/{name}; echo '{text}' > {dir}/all/{name}
         mount --bind {dir}/all /proc"
    )
}

#[test]
fn module_that_exports_flows_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let module =
        |name: &str| with_file_in_proc(&lab, "modules", &format!("{name} 65536 0 - Live 0x0"));
    assert_eq!(audited.seen_through(&module("nf_tables")), audited.clean);
    audited.sees_through("kernel-modules", "FAIL", &module("ipt_NETFLOW"));
}

/// Has the audit see settings of the kernel that are its own, but for the scope of ptrace.
fn with_scope_of_ptrace(lab: &Lab, scope: u8) -> String {
    let dir = lab.dir().join("settings");
    let dir = dir.display();
    format!(
        "mkdir -p {dir}; mount -t tmpfs none {dir}
         cp -a /proc/sys/kernel/. {dir} 2>/dev/null || true
         rm -rf {dir}/yama; mkdir {dir}/yama; echo {scope} > {dir}/yama/ptrace_scope
         mount --bind {dir} /proc/sys/kernel"
    )
}

#[test]
fn scope_of_ptrace_is_told() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    for (scope, verdict) in [(0, "WARN"), (1, "PASS"), (2, "PASS")] {
        let mut expected = audited.clean.clone();
        expected.insert("ptrace-scope".into(), verdict.into());
        assert_eq!(audited.seen_through(&with_scope_of_ptrace(&lab, scope)), expected, "{scope}");
    }
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
