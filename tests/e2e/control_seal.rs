//! The seals around control and the starter, as the kernel reports them from outside, and what they must not break.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        net::UnixStream,
    },
    process::{Command, Stdio},
    time::Duration,
};

use tacit_messages::clock::Instant;
use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::{elapsed, wait_until},
    lab::TARGET_V4,
    target::ECHO_PORT,
};

use crate::seal::{Process, field};

const EMAIL: &str = "someone@example.org";
/// Nobody's user number, control's.
const USER: u32 = 65_528;
const USER_TEXT: &str = "65528";
const NONE: &str = "0000000000000000";
/// CAP_NET_ADMIN.
const NET_ADMIN: &str = "0000000000001000";
/// CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_IPC_LOCK and CAP_SYS_ADMIN.
const STARTERS: &str = "00000000002041e0";

fn assert_capabilities(status: &str, sets: [(&str, &str); 5]) {
    for (set, expected) in sets {
        assert_eq!(field(status, set), [expected], "{set}");
    }
}

#[test]
fn every_thread_of_control_is_nobody_with_cap_net_admin() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let control = Process::control(&lab, &gateway);
    let threads = control.threads();
    assert!(threads.len() > 1, "control has threads");
    for status in threads {
        assert_eq!(field(&status, "Uid"), [USER_TEXT; 4]);
        assert_eq!(field(&status, "Gid"), [USER_TEXT; 4]);
        assert!(field(&status, "Groups").is_empty());
        let (none, kept) = (NONE, NET_ADMIN);
        let sets = [("CapInh", none), ("CapPrm", kept), ("CapEff", kept)];
        assert_capabilities(
            &status,
            [sets[0], sets[1], sets[2], ("CapBnd", none), ("CapAmb", none)],
        );
        assert_eq!(field(&status, "NoNewPrivs"), ["1"]);
        assert_eq!(field(&status, "Seccomp"), ["2"]);
    }
    assert!(control.read("limits").lines().any(|line| {
        line.starts_with("Max core file size") && line.split_whitespace().nth(4) == Some("0")
    }));
    // The files of a process that cannot be dumped belong to root.
    assert_eq!(fs::metadata(control.0.join("maps")).unwrap().uid(), 0);
    let devices = control.descriptors();
    assert!(devices.iter().all(|(_, target)| target != "/dev/net/tun"), "{devices:?}");
}

#[test]
fn starter_keeps_what_starting_a_forwarder_takes() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let starter = Process::starter(&lab, &gateway);
    let threads = starter.threads();
    assert_eq!(threads.len(), 1);
    let status = &threads[0];
    assert_eq!(field(status, "Name"), ["tacit-starter"]);
    assert!(field(status, "Groups").is_empty());
    let (none, kept) = (NONE, STARTERS);
    let sets = [("CapInh", none), ("CapPrm", kept), ("CapEff", kept)];
    assert_capabilities(status, [sets[0], sets[1], sets[2], ("CapBnd", kept), ("CapAmb", none)]);
    assert_eq!(field(status, "NoNewPrivs"), ["1"]);
    assert_eq!(field(status, "Seccomp"), ["2"]);
    assert_eq!(starter.read("coredump_filter").trim(), "00000000");
    let kinds: Vec<String> = starter
        .descriptors()
        .into_iter()
        .map(|(_, target)| target.split(":[").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds[..4], ["/dev/null", "/dev/null", "/dev/null", "socket"]);
    // The forwarder's end is heard of through one more.
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert!(!starter.read("cmdline").contains("forwarder"));
    assert!(gateway.text(&["status"]).contains("starter"));
}

#[test]
fn killed_forwarder_is_replaced_by_the_starter() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let mut client = RawClient::new(&lab.clients[0], &gateway.customer(EMAIL));
    // As a service manager does that tells all of a service's processes to stop.
    lab.gateway.sh(&format!("kill -TERM {}", gateway.json(&["status"])["starter"]["pid"]));
    for restarts in 1..=2 {
        let killed = gateway.forwarder();
        gateway.kill_forwarder();
        wait_until("a new forwarder", Duration::from_secs(5), || {
            gateway.json(&["status"])["forwarder"]["restarts"] == restarts
        });
        assert_ne!(gateway.forwarder(), killed);
        let parent = field(&Process::forwarder(&lab, &gateway).read("status"), "PPid").join("");
        assert_eq!(parent, gateway.json(&["status"])["starter"]["pid"].to_string());
        client.handshake();
        assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"through the next one"));
    }
    assert!(gateway.log().contains("signal=9"), "{}", gateway.log());
}

#[test]
fn killed_control_takes_forwarder_and_starter_and_socket_with_it() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let others = [Process::forwarder(&lab, &gateway), Process::starter(&lab, &gateway)];
    gateway.kill();
    let all_gone = || others.iter().all(Process::is_gone);
    wait_until("both to be gone", Duration::from_secs(3), all_gone);
    wait_until("the socket to be gone", Duration::from_secs(1), || !gateway.socket().exists());
    gateway.run();
    gateway.stop();
    assert!(!gateway.socket().exists());
}

#[test]
fn gateway_without_its_starter_stops_in_good_order() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let forwarder = Process::forwarder(&lab, &gateway);
    lab.gateway.sh(&format!("kill -9 {}", gateway.json(&["status"])["starter"]["pid"]));
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(1));
    assert!(gateway.log().contains("the starter died"), "{}", gateway.log());
    wait_until("the forwarder to be gone", Duration::from_secs(2), || forwarder.is_gone());
    assert_eq!(lab.gateway.sh("nft list ruleset"), "");
    gateway.run();
}

#[test]
fn data_directory_of_a_gateway_that_stayed_root_is_taken_over() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    let files = || {
        let entries = fs::read_dir(gateway.data_dir()).unwrap().map(|entry| entry.unwrap().path());
        entries.chain([gateway.data_dir().to_owned()]).collect::<Vec<_>>()
    };
    let owners = |files: &[std::path::PathBuf]| -> Vec<u32> {
        files.iter().map(|path| fs::metadata(path).unwrap().uid()).collect()
    };
    let made = files();
    assert!(made.len() > 4, "{made:?}");
    assert!(owners(&made).iter().all(|owner| *owner == USER), "{made:?}");
    let rest = files();
    gateway.stop();
    for path in rest.iter().filter(|path| path.exists()) {
        chown(path, Some(0), Some(0)).unwrap();
    }
    gateway.run();
    assert!(gateway.text(&["account", "list"]).contains(EMAIL));
}

#[test]
fn control_becomes_the_user_tacit_of_a_host_that_has_one() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.add_account(EMAIL);
    gateway.stop();
    lab.gateway.sh("echo 'tacit:x:4711:4712::/nonexistent:/bin/false' >> /etc/passwd");
    gateway.run();
    let status = Process::control(&lab, &gateway).read("status");
    assert_eq!(field(&status, "Uid"), ["4711"; 4]);
    assert_eq!(field(&status, "Gid"), ["4712"; 4]);
    assert_eq!(fs::metadata(gateway.store()).unwrap().uid(), 4711);
    assert!(gateway.text(&["account", "list"]).contains(EMAIL));
}

#[test]
fn low_port_is_listened_on_again_after_a_forwarder_died() {
    let lab = Lab::new(0);
    let gateway = Gateway::start_with(&lab, &["--listen", "0.0.0.0:443"]);
    gateway.kill_forwarder();
    wait_until("a new forwarder", Duration::from_secs(5), || {
        gateway.json(&["status"])["forwarder"]["restarts"] == 1
    });
    let status = Process::control(&lab, &gateway).read("status");
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN.
    assert_eq!(field(&status, "CapEff"), ["0000000000001400"]);
}

#[test]
fn idle_connections_to_the_admin_socket_use_up_no_descriptors_and_keep_nobody_out() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let control = Process::control(&lab, &gateway);
    let before = control.descriptors().len();
    let connect = |_| UnixStream::connect(gateway.socket()).unwrap();
    let idle: Vec<UnixStream> = (0..100).map(connect).collect();
    std::thread::sleep(Duration::from_millis(500));
    let held = control.descriptors().len();
    assert!(held < before + 40, "{held} descriptors, {before} before");

    // Those before it, and those that wait for a place with it, have their time one after another.
    let start = Instant::now();
    assert!(gateway.cli(&["status"]).status.success());
    assert!(elapsed(start) < Duration::from_secs(20));
    drop(idle);
}

/// What a start says that must fail, in one line.
fn refusal(lab: &Lab, command: &mut Command) -> String {
    let output = lab.gateway.output(command.stdin(Stdio::null()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(!lab.gateway.sh("ip link").contains("tacit0"));
    said
}

#[test]
fn directory_that_control_cannot_get_to_is_named() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let said = refusal(&lab, &mut gateway.command());
    assert!(said.contains(&format!("chmod o+x {}", lab.dir().display())), "{said}");
    assert!(!gateway.socket().exists());
}

#[test]
fn gateway_that_is_not_root_says_so() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.arg("--user").arg(gateway.command().get_program()).args(gateway.command().get_args());
    let said = refusal(&lab, &mut command);
    assert!(said.contains("root"), "{said}");
}

#[test]
fn hanging_forwarder_is_killed_by_the_starter() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let forwarder = Process::forwarder(&lab, &gateway);
    lab.gateway.sh(&format!("kill -STOP {}", gateway.forwarder()));
    gateway.stop();
    assert!(forwarder.is_gone());
}
