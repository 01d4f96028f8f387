//! How a service manager starts the gateway, and what it is told, in systemd's protocol.

use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixDatagram,
    },
    time::Duration,
};

use serde_json::Value;
use tacit_tests::{
    Client, Gateway, Implementation, Lab,
    lab::{TARGET_V4, TARGET_V6},
    transfer::{Direction, transfer},
};

const EMAIL: &str = "someone@example.org";

/// The next thing that the service manager is told, signs of life aside.
fn told(socket: &UnixDatagram) -> String {
    loop {
        let text = heard(socket);
        if text != "WATCHDOG=1" {
            return text;
        }
    }
}

fn heard(socket: &UnixDatagram) -> String {
    let mut message = [0; 64];
    let len = socket.recv(&mut message).expect("a message to the service manager");
    String::from_utf8(message[..len].to_vec()).unwrap()
}

#[test]
fn service_manager_is_told_how_the_gateway_is() {
    let lab = Lab::new(0);
    let path = lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    let gateway = gateway.with_variable("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut gateway = gateway.with_variable("WATCHDOG_USEC", "300000");
    gateway.run();
    assert_eq!(told(&socket), "READY=1");
    let signs: Vec<String> = (0..3).map(|_| heard(&socket)).collect();
    assert_eq!(signs, ["WATCHDOG=1"; 3]);

    gateway.reload();
    assert_eq!([told(&socket), told(&socket)], ["RELOADING=1", "READY=1"]);
    gateway.stop();
    assert_eq!(told(&socket), "STOPPING=1");
}

/// What deploy/tacit.service gives its user, and IPC_LOCK for the memory that it lets a process lock: to lift that limit
/// takes a right which not every machine's root has.
const RIGHTS: &str = "+net_admin,+setuid,+setgid,+setpcap,+ipc_lock";
/// Somebody who is neither root nor one of the gateway's own users.
const USER: u32 = 64_321;

#[test]
fn gateway_that_is_started_as_a_user_with_the_rights_of_the_unit_forwards_and_passes_the_audit() {
    let lab = Lab::new(1);
    // As udev has it.
    lab.gateway.sh("mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun");
    let [inherited, ambient, bounding] =
        [("inh-caps", ""), ("ambient-caps", ""), ("bounding-set", "-all,")]
            .map(|(set, before)| format!("--{set}={before}{RIGHTS}"));
    let user = USER.to_string();
    let gateway = Gateway::stopped(&lab, "gateway", &[]).launched_by(&[
        "setpriv",
        "--no-new-privs",
        "--clear-groups",
        "--reuid",
        &user,
        "--regid",
        &user,
        &inherited,
        &ambient,
        &bounding,
    ]);
    for dir in [lab.dir(), gateway.data_dir()] {
        chown(dir, Some(USER), Some(USER)).unwrap();
    }
    let mut gateway = gateway.with_variable("PATH", "/usr/bin:/bin");
    gateway.run();
    let config = gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    for target in [TARGET_V4.into(), TARGET_V6.into()] {
        for direction in [Direction::Up, Direction::Down] {
            transfer(client.namespace, direction, target, 1, 1_000_000).unwrap();
        }
    }
    let status = lab.gateway.sh(&format!("cat /proc/{}/status", gateway.forwarder()));
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(line("Uid:"), "Uid:\t65529\t65529\t65529\t65529");
    assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000");

    let output = gateway.cli(&["audit", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let failing: Vec<_> = checks
        .filter(|check| {
            let id = check["id"].as_str().unwrap();
            let is_of_a_process = ["control-", "starter-", "forwarder-"];
            is_of_a_process.iter().any(|beginning| id.starts_with(beginning))
                && check["verdict"] == "FAIL"
        })
        .collect();
    assert!(failing.is_empty(), "{failing:?}");
    gateway.stop();
}
