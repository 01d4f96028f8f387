//! The seal around the forwarder, as the kernel reports it from outside.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tacit_tests::{
    Client, Gateway, Implementation, Lab,
    clock::{wait_for, wait_until},
    gateway::program,
    lab::TARGET_V4,
    transfer::{Direction, transfer},
};

const EMAIL: &str = "someone@example.org";
/// Nobody's user number, the forwarder's.
const USER: &str = "65529";

/// A process as its directory in `/proc` shows it.
pub(crate) struct Process(pub(crate) PathBuf);

impl Process {
    pub(crate) fn forwarder(lab: &Lab, gateway: &Gateway<'_>) -> Self {
        Self(lab.gateway.path(&format!("/proc/{}", gateway.forwarder())))
    }

    pub(crate) fn control(lab: &Lab, gateway: &Gateway<'_>) -> Self {
        Self::named(lab, gateway, "control")
    }

    pub(crate) fn starter(lab: &Lab, gateway: &Gateway<'_>) -> Self {
        Self::named(lab, gateway, "starter")
    }

    fn named(lab: &Lab, gateway: &Gateway<'_>, name: &str) -> Self {
        let id = gateway.json(&["status"])[name]["pid"].as_u64().unwrap();
        Self(lab.gateway.path(&format!("/proc/{id}")))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// Whether it has ended, be it waited for or not.
    pub(crate) fn is_gone(&self) -> bool {
        fs::read(self.0.join("cmdline")).map_or(true, |line| line.is_empty())
    }

    /// The `status` of every thread.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(self.0.join("task")).unwrap();
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        fs::read_link(self.0.join("ns").join(kind)).unwrap()
    }

    /// What each descriptor leads to, by number.
    pub(crate) fn descriptors(&self) -> Vec<(u32, String)> {
        let entries = fs::read_dir(self.0.join("fd")).unwrap().map(|entry| entry.unwrap().path());
        let number = |path: &Path| path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let target = |path: &Path| fs::read_link(path).unwrap().to_string_lossy().into_owned();
        let mut descriptors: Vec<_> = entries.map(|path| (number(&path), target(&path))).collect();
        descriptors.sort();
        descriptors
    }
}

/// The words after a field's name in a `status`.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no field {name}")).split_whitespace().collect()
}

#[test]
fn every_thread_of_the_forwarder_is_without_rights() {
    let lab = Lab::new(0);
    let gateway = Gateway::start_with(&lab, &["--workers", "2"]);
    let threads = Process::forwarder(&lab, &gateway).threads();
    assert_eq!(threads.len(), 3);
    for status in threads {
        assert_eq!(field(&status, "Uid"), [USER; 4]);
        assert_eq!(field(&status, "Gid"), [USER; 4]);
        assert!(field(&status, "Groups").is_empty());
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), ["1"]);
        assert_eq!(field(&status, "Seccomp"), ["2"]);
    }
}

#[test]
fn forwarder_has_the_descriptors_it_was_given_and_no_more() {
    let lab = Lab::new(0);
    let gateway = Gateway::start_with(&lab, &["--workers", "2"]);
    let descriptors = Process::forwarder(&lab, &gateway).descriptors();
    let kinds: Vec<&str> = descriptors
        .iter()
        .map(|(_, target)| target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind))
        .collect();
    let worker = ["/dev/net/tun", "socket", "socket"];
    let expected = [&["socket"][..], &worker, &worker, &["anon_inode"]].concat();
    assert_eq!(kinds, expected);
    let numbers: Vec<u32> = descriptors.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (3..11).collect::<Vec<_>>());

    let limits = Process::forwarder(&lab, &gateway).read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max processes"), ["0", "0"]);
    assert_eq!(limit("Max file size"), ["0", "0"]);
    assert_eq!(limit("Max open files"), ["11", "11"]);
}

#[test]
fn forwarder_has_an_empty_root_and_namespaces_of_its_own() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let (forwarder, control) =
        (Process::forwarder(&lab, &gateway), Process::control(&lab, &gateway));
    for kind in ["mnt", "net", "ipc", "pid", "uts", "cgroup"] {
        assert_ne!(forwarder.namespace(kind), control.namespace(kind), "{kind}");
    }
    assert_eq!(fs::read_dir(forwarder.0.join("root")).unwrap().count(), 0);
    assert_eq!(forwarder.read("mountinfo").lines().count(), 1);
    assert_eq!(field(&forwarder.read("status"), "NSpid").last(), Some(&"1"));
    let interfaces: BTreeSet<String> = forwarder
        .read("net/dev")
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()))
        .collect();
    assert_eq!(interfaces, BTreeSet::from(["lo".to_owned()]));
}

#[test]
fn forwarder_memory_is_locked_kept_out_of_dumps_and_never_both_writable_and_executable() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let forwarder = Process::forwarder(&lab, &gateway);
    for process in [&forwarder, &Process::control(&lab, &gateway)] {
        assert_eq!(process.read("coredump_filter").trim(), "00000000");
    }
    // The files of a process that cannot be dumped belong to root.
    assert_eq!(fs::metadata(forwarder.0.join("maps")).unwrap().uid(), 0);
    let maps = forwarder.read("maps");
    let rights = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    assert!(maps.lines().map(rights).all(|rights| !(rights.contains('w') && rights.contains('x'))));
    assert!(maps.lines().map(rights).all(|rights| !(rights.contains('w') && rights.contains('s'))));

    // Its heap is as large as it can become: nothing can be mapped later.
    let heap = maps.lines().find(|line| line.ends_with("[heap]")).unwrap();
    let (from, to) = heap.split_whitespace().next().unwrap().split_once('-').unwrap();
    let address = |text: &str| u64::from_str_radix(text, 16).unwrap();
    assert!(address(to) - address(from) >= 64 << 20, "{heap}");

    let smaps = forwarder.read("smaps");
    let flags = smaps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    for flags in flags.filter(|flags| flags.contains(" wr ")) {
        assert!(flags.contains(" lo ") && flags.contains(" dd "), "{flags}");
    }
}

/// `tacit run` with fewer rights than root's.
fn restricted(gateway: &Gateway<'_>, wrapper: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(&wrapper[1..]).arg(program()).args(gateway.command().get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn does_not_start(wrapper: &[&str], reason: &str) {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let output = lab.gateway.output(&mut restricted(&gateway, wrapper));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be sealed") && said.contains(reason), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(!lab.gateway.sh("ip link").contains("tacit0"));
}

#[test]
fn gateway_whose_forwarder_cannot_lock_memory_does_not_start() {
    does_not_start(
        &["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock,-sys_resource"],
        "locking memory",
    );
}

#[test]
fn gateway_whose_forwarder_keeps_capabilities_does_not_start() {
    does_not_start(&["setpriv", "--bounding-set=-setpcap"], "dropping capabilities");
}

#[test]
fn gateway_whose_forwarder_stays_root_does_not_start() {
    does_not_start(&["setpriv", "--bounding-set=-setuid"], "becoming an unprivileged user");
}

#[test]
fn gateway_without_the_right_to_namespaces_starts_sealed_in_those_of_its_container() {
    let lab = Lab::new(1);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let mut command = restricted(&gateway, &["setpriv", "--bounding-set=-sys_admin"]);
    let mut child = lab.gateway.start(command.stderr(Stdio::null())).unwrap();
    let answers = || gateway.cli(&["status"]).status.success().then_some(());
    assert!(wait_for(Duration::from_secs(15), answers).is_some());

    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    transfer(client.namespace, Direction::Up, TARGET_V4.into(), 1, 1_000_000).unwrap();
    for status in Process::forwarder(&lab, &gateway).threads() {
        assert_eq!(field(&status, "Uid"), [USER; 4]);
        assert_eq!(field(&status, "CapBnd"), ["0000000000000000"]);
        assert_eq!(field(&status, "Seccomp"), ["2"]);
    }
    // What only the starter can do, it can do without that right too, which leaves it few files.
    gateway.kill_forwarder();
    wait_until("a new forwarder", Duration::from_secs(5), || {
        gateway.json(&["status"])["forwarder"]["restarts"] == 1
    });
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the socket to be gone", Duration::from_secs(3), || !gateway.socket().exists());
}
