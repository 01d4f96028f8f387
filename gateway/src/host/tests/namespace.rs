//! A network namespace per test, and a look at all of it.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::host::HostSettings;

/// Runs `test` in a new network and mount namespace, with a directory of its own.
pub(super) fn in_namespace(test: impl AsyncFnOnce(&Path) + Send + 'static) {
    let body = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests need root");
        run("mount", "--make-rprivate /");
        run("ip", "link set lo up");
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(directory.path()));
    };
    // A thread has its own namespaces, and its panic is the test's.
    let result = std::thread::spawn(body).join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Settings for a gateway that keeps its state in a directory of that name.
pub(super) fn settings(directory: &Path, name: &str) -> HostSettings {
    let state_dir = directory.join(name);
    fs::create_dir_all(&state_dir).unwrap();
    HostSettings {
        interface: "tacit0".into(),
        mtu: 1420,
        tunnel_v4: "10.66.0.0/16".parse().unwrap(),
        tunnel_v6: "fd66:7ac1:7::/64".parse().unwrap(),
        routed_v6: false,
        listen: vec![address("0.0.0.0:51820"), address("[::]:51820")],
        workers: 2,
        allow_device_to_device: false,
        allow_private: Vec::new(),
        served_ports: Vec::new(),
        state_dir,
    }
}

/// One blank device for each worker.
pub(super) fn blank_devices() -> Vec<OwnedFd> {
    crate::host::blank_tun_devices(2).unwrap()
}

/// Settings for a second gateway beside the first.
pub(super) fn second_settings(directory: &Path) -> HostSettings {
    HostSettings {
        interface: "tacit1".into(),
        tunnel_v4: "10.67.0.0/16".parse().unwrap(),
        tunnel_v6: "fd67:7ac1:7::/64".parse().unwrap(),
        listen: vec![address("0.0.0.0:51821"), address("[::]:51821")],
        ..settings(directory, "second")
    }
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs a program that must succeed, and returns what it prints.
pub(super) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a sysctl by its path below `/proc/sys/net`.
pub(super) fn sysctl(key: &str) -> String {
    fs::read_to_string(Path::new("/proc/sys/net").join(key)).unwrap().trim().to_owned()
}

pub(super) fn set_sysctl(key: &str, value: &str) {
    fs::write(Path::new("/proc/sys/net").join(key), value).unwrap();
}

/// Everything that the gateway could change: rules, links, addresses, routes and sysctls.
pub(super) fn snapshot() -> String {
    let mut lines = vec![
        run("nft", "-s list ruleset"),
        run("ip", "-o address"),
        run("ip", "-o -4 route show table all"),
        run("ip", "-o -6 route show table all"),
    ];
    let mut paths = Vec::new();
    for directory in ["ipv4/conf", "ipv6/conf"] {
        collect(&Path::new("/proc/sys/net").join(directory), &mut paths);
    }
    paths.push("/proc/sys/net/ipv4/ip_forward".into());
    paths.sort();
    for path in paths {
        let value = fs::read_to_string(&path).unwrap_or_default();
        lines.push(format!("{} = {}", path.display(), value.trim()));
    }
    lines.join("\n")
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// Names what differs between two snapshots.
pub(super) fn assert_same(before: &str, after: &str) {
    let missing = |from: &str, of: &str| {
        let lines: Vec<_> = of.lines().filter(|line| !from.lines().any(|l| l == *line)).collect();
        lines.join("\n")
    };
    assert!(before == after, "gone:\n{}\nnew:\n{}", missing(after, before), missing(before, after));
}
