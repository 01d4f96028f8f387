//! The gateway and the machine it runs on.

use std::{
    net::UdpSocket,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tacit_messages::clock::Instant;
use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::elapsed,
    lab::{PORT, TARGET_V4, TARGET_V6},
    target::ECHO_PORT,
};

const EMAIL: &str = "someone@example.org";

/// Everything about the gateway's network that a gateway might change.
fn snapshot(lab: &Lab) -> Vec<String> {
    let text = lab.gateway.sh(
        "nft list ruleset; ip -o link; ip -o addr; ip route show table all; ip -6 route show table all
         ip rule; ip -6 rule
         cd /proc/sys/net; find . -type f -perm -u=rw | sort | while read -r file; do
             echo \"$file = $(tr '\\n\\t' '  ' < \"$file\" 2>/dev/null)\"
         done",
    );
    text.lines()
        .filter(|line| !line.contains("expires") && !line.contains("conntrack"))
        .map(str::to_owned)
        .collect()
}

/// What stands in one snapshot and not in the other.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let gone =
        before.iter().filter(|line| !after.contains(line)).map(|line| format!("gone: {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("new: {line}"));
    gone.chain(new).collect()
}

fn connect(lab: &Lab, gateway: &Gateway<'_>, client: usize) -> RawClient {
    let mut client = RawClient::new(&lab.clients[client], &gateway.customer(EMAIL));
    client.handshake();
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"v4"));
    assert!(client.echo((TARGET_V6, ECHO_PORT).into(), b"v6"));
    client
}

#[test]
fn everything_is_as_before_after_sigterm() {
    leaves_everything_as_before(Signal::TERM);
}

#[test]
fn everything_is_as_before_after_sigint() {
    leaves_everything_as_before(Signal::INT);
}

fn leaves_everything_as_before(signal: Signal) {
    let lab = Lab::new(1);
    lab.gateway.sh("nft add table inet mine; nft add chain inet mine forward");
    std::thread::sleep(Duration::from_secs(3));
    let before = snapshot(&lab);
    let mut gateway = Gateway::start(&lab);
    connect(&lab, &gateway, 0);
    assert_ne!(difference(&before, &snapshot(&lab)), Vec::<String>::new());

    gateway.stop_by(signal);

    assert_eq!(difference(&before, &snapshot(&lab)), Vec::<String>::new());
}

#[test]
fn everything_is_as_before_after_a_kill_and_another_run() {
    let lab = Lab::new(1);
    std::thread::sleep(Duration::from_secs(3));
    let before = snapshot(&lab);
    let mut gateway = Gateway::start(&lab);
    gateway.kill();
    gateway.run();
    connect(&lab, &gateway, 0);
    gateway.stop();
    assert_eq!(difference(&before, &snapshot(&lab)), Vec::<String>::new());
}

#[test]
fn two_gateways_run_side_by_side() {
    let lab = Lab::new(2);
    let mut first = Gateway::start(&lab);
    let other =
        [["--interface", "tacit1"], ["--listen", "0.0.0.0:51821"], ["--listen", "[::]:51821"]];
    let mut second = Gateway::stopped(&lab, "second", &other.concat());
    second.run();
    assert_eq!(networks(&first), ["10.66.0.0/16", "fd66:7ac1:7::/64"]);
    assert_eq!(networks(&second), ["10.67.0.0/16", "fd66:7ac1:8::/64"]);

    let mut one = connect(&lab, &first, 0);
    let mut two = connect(&lab, &second, 1);
    assert_eq!((one.gateway.port(), two.gateway.port()), (PORT, 51821));
    first.stop();
    assert!(two.echo((TARGET_V4, ECHO_PORT).into(), b"the second goes on"));
    assert!(!one.echo((TARGET_V4, ECHO_PORT).into(), b"the first does not"));
    assert_eq!(
        lab.gateway.sh("cat /proc/sys/net/ipv4/ip_forward").trim(),
        "1",
        "the second forwards no longer"
    );
    second.stop();
    assert_eq!(lab.gateway.sh("nft list ruleset"), "");

    // Both keep their networks, whichever is first next time.
    second.run();
    two.handshake();
    assert!(two.echo((TARGET_V4, ECHO_PORT).into(), b"the second starts alone"));
    first.run();
    one.handshake();
    assert!(one.echo((TARGET_V6, ECHO_PORT).into(), b"the first comes back"));
    assert_eq!(networks(&second), ["10.67.0.0/16", "fd66:7ac1:8::/64"]);
}

/// The tunnel networks that `status` shows.
fn networks(gateway: &Gateway<'_>) -> [String; 2] {
    let status = gateway.json(&["status"]);
    ["tunnel_v4", "tunnel_v6"].map(|key| status[key].as_str().expect("a network").to_owned())
}

#[test]
fn start_fails_clearly_if_a_named_network_is_in_use() {
    let lab = Lab::new(0);
    let first = Gateway::start(&lab);
    for (v4, v6, flag) in [
        ("10.66.0.0/16", "fd66:7ac1:8::/64", "--tunnel-v4"),
        ("10.67.0.0/16", "fd66:7ac1:7::/64", "--tunnel-v6"),
    ] {
        let flags = ["--interface", "tacit1", "--listen", "0.0.0.0:51821"];
        let networks = ["--tunnel-v4", v4, "--tunnel-v6", v6];
        let second = Gateway::stopped(&lab, "second", &[flags, networks].concat());
        assert_fails(&lab, quiet(&second, &[]), &["in use", "tacit0", flag]);
    }
    assert_eq!(networks(&first), ["10.66.0.0/16", "fd66:7ac1:7::/64"]);
}

/// Asserts that a start fails within a second with one line that has every one of `words`.
fn assert_fails(lab: &Lab, mut command: Command, words: &[&str]) {
    let start = Instant::now();
    let output = lab.gateway.output(command.stdin(Stdio::null()));
    let took = elapsed(start);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(took < Duration::from_millis(1500), "failing took {took:?}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "more or less than one line: {stderr}");
    for word in words {
        assert!(stderr.to_lowercase().contains(word), "{word:?} is not in: {stderr}");
    }
}

/// The gateway's own command line behind another program.
fn behind(gateway: &Gateway<'_>, program: &[&str]) -> Command {
    let command = gateway.command();
    let mut outer = Command::new(program[0]);
    outer.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    outer.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    outer
}

/// Like [`Gateway::command`], as quiet as it is by default.
fn quiet(gateway: &Gateway<'_>, program: &[&str]) -> Command {
    let loud = behind(gateway, if program.is_empty() { &["env"] } else { program });
    let mut quiet = Command::new(loud.get_program());
    quiet.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    quiet.args(loud.get_args().filter(|argument| *argument != "--log" && *argument != "trace"));
    quiet
}

#[test]
fn start_fails_clearly_without_cap_net_admin() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let setpriv = ["setpriv", "--bounding-set=-net_admin"];
    assert_fails(&lab, quiet(&gateway, &setpriv), &["net_admin"]);
}

#[test]
fn start_fails_clearly_without_the_tun_device() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let shell = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net; exec \"$@\"", "sh"];
    assert_fails(&lab, quiet(&gateway, &shell), &["/dev/net/tun"]);
}

#[test]
fn start_fails_clearly_if_the_port_is_taken() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let _taken = lab.gateway.within(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    assert_fails(&lab, quiet(&gateway, &[]), &["51820", "--listen"]);
    assert_eq!(lab.gateway.sh("nft list ruleset"), "", "a failed start left something");
}

#[test]
fn start_waits_a_moment_for_a_killed_gateways_port() {
    let lab = Lab::new(1);
    let mut gateway = Gateway::stopped(&lab, "gateway", &[]);
    let held = lab.gateway.within(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        drop(held);
    });
    gateway.run();
    letting_go.join().unwrap();
    connect(&lab, &gateway, 0);
}

#[test]
fn start_fails_clearly_if_the_interface_exists() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    lab.gateway.sh("ip link add tacit0 type veth peer name other");
    assert_fails(&lab, quiet(&gateway, &[]), &["tacit0", "--interface"]);
    lab.gateway.sh("ip link show tacit0");
}

#[test]
fn start_fails_clearly_if_forwarding_cannot_be_enabled() {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let script =
        "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec \"$@\"";
    assert_fails(&lab, quiet(&gateway, &["unshare", "-m", "sh", "-c", script, "sh"]), &["forward"]);
}

#[test]
fn start_fails_clearly_on_a_key_file_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    gateway.stop();
    let key = std::fs::read_dir(gateway.data_dir()).unwrap().flatten().map(|entry| entry.path());
    let key =
        key.into_iter().find(|path| path.to_string_lossy().contains("key")).expect("a key file");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    assert_fails(&lab, quiet(&gateway, &[]), &["chmod", "600"]);
}

#[test]
fn second_start_of_the_same_gateway_fails_and_leaves_the_first_alone() {
    let lab = Lab::new(1);
    let gateway = Gateway::start(&lab);
    let mut client = connect(&lab, &gateway, 0);
    assert_fails(&lab, quiet(&gateway, &[]), &[]);
    assert!(client.echo((TARGET_V4, ECHO_PORT).into(), b"still here"));
    gateway.wait_for_live(1);
}
