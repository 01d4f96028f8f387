//! `tacit audit`: each violation is planted, seen by exactly its check, and gone when it is removed.
//!
//! What the whole machine has once, or what this kernel may lack, is planted into the files that tell of it, as the lab or
//! the audit alone sees them. Nothing can be planted into a sealed process: a real one with a right too many stands in
//! for it. [`table`] has every check, and the test that plants against it.

mod collector;
mod files;
mod firewall;
mod host;
mod kernel;
mod network;
mod outsiders;
mod plants;
mod processes;
mod restarted;
mod stand_in;
mod table;
mod uplinks;

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use serde_json::Value;
use tacit_tests::{
    Client, Gateway, Implementation, Lab,
    gateway::program,
    lab::TARGET_V4,
    transfer::{Direction, transfer},
};

const EMAIL: &str = "someone@example.org";

/// Checks of things that the whole machine has once, so that other tests' plants show in them.
const MACHINE_WIDE: [&str; 1] = ["bpf-programs"];

/// Verdicts by check.
type Verdicts = BTreeMap<String, String>;

/// A gateway that was audited while nothing was wrong.
struct Audited<'lab> {
    lab: &'lab Lab,
    gateway: Gateway<'lab>,
    clean: Verdicts,
}

impl<'lab> Audited<'lab> {
    fn start(lab: &'lab Lab) -> Self {
        Self::start_with(lab, &[])
    }

    fn start_with(lab: &'lab Lab, extra: &[&str]) -> Self {
        // Whatever this machine swaps to.
        host::falsify(lab, "/proc/swaps", "Filename Type Size Used Priority\n");
        let gateway = Gateway::start_with(lab, extra);
        let clean = without_machine_wide(verdicts(&gateway));
        let failing: Vec<_> = clean.iter().filter(|(_, verdict)| *verdict == "FAIL").collect();
        assert!(failing.is_empty(), "{failing:?}");
        Self { lab, gateway, clean }
    }

    /// Asserts that `id` alone says `verdict` while what `plant` made lasts.
    fn sees_as<T>(
        &self,
        id: &str,
        verdict: &str,
        plant: impl FnOnce() -> T,
        remove: impl FnOnce(T),
    ) {
        let expected = self.clean_but(id, verdict);
        let planted = plant();
        assert_eq!(self.now(), expected, "{id} while planted");
        remove(planted);
        assert_eq!(self.now(), self.clean, "{id} after it was removed");
    }

    /// Asserts that `id` alone fails while what `plant` made lasts.
    fn sees<T>(&self, id: &str, plant: impl FnOnce() -> T, remove: impl FnOnce(T)) {
        self.sees_as(id, "FAIL", plant, remove);
    }

    /// The same with shell lines in the gateway's namespace.
    fn sees_lines(&self, id: &str, plant: &str, remove: &str) {
        self.sees(id, || self.lab.gateway.sh(plant), |_| drop(self.lab.gateway.sh(remove)));
    }

    /// Asserts that whoever reads or copies what passes an interface is seen, and nothing else.
    fn sees_who_watches(&self, interface: &str) {
        self.sees("packet-sockets", || plants::packet_socket(&self.lab.gateway, interface), drop);
        self.sees_lines(
            "traffic-control",
            &format!(
                "tc qdisc add dev {interface} clsact
                 tc filter add dev {interface} egress u32 match u32 0 0 action mirred egress mirror dev lo"
            ),
            &format!("tc qdisc del dev {interface} clsact"),
        );
        self.sees_lines(
            "interface-programs",
            &format!(
                "tc qdisc add dev {interface} clsact
                 tc filter add dev {interface} ingress bpf bytecode '1,6 0 0 0,'"
            ),
            &format!("tc qdisc del dev {interface} clsact"),
        );
    }

    /// Asserts that `id` alone says `verdict` to an audit that sees the machine as `view` makes it look.
    fn sees_through(&self, id: &str, verdict: &str, view: &str) {
        let expected = self.clean_but(id, verdict);
        assert_eq!(self.seen_through(view), expected, "{id} while planted");
        assert_eq!(self.now(), self.clean, "{id} after it was removed");
    }

    /// What each check says to an audit that alone sees what `view`, shell lines, mounts.
    fn seen_through(&self, view: &str) -> Verdicts {
        let mut command = Command::new("unshare");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg(format!("{view}\nexec \"$@\"")).arg("sh").arg(program());
        command.args(["audit", "--json", "--socket"]).arg(self.gateway.socket());
        let output = self.lab.gateway.output(&mut command);
        without_machine_wide(read(&report_of(&output)))
    }

    /// What was said while nothing was wrong, but of one check.
    fn clean_but(&self, id: &str, verdict: &str) -> Verdicts {
        let mut expected = self.clean.clone();
        let before = expected.insert(id.into(), verdict.into());
        assert!(before.is_some_and(|before| before != verdict && before != "FAIL"), "{id}");
        expected
    }

    fn now(&self) -> Verdicts {
        without_machine_wide(verdicts(&self.gateway))
    }
}

fn without_machine_wide(mut verdicts: Verdicts) -> Verdicts {
    verdicts.retain(|id, _| !MACHINE_WIDE.contains(&id.as_str()));
    verdicts
}

/// What each check says now.
fn verdicts(gateway: &Gateway<'_>) -> Verdicts {
    read(&report_of(&gateway.cli(&["audit", "--json"])))
}

/// The report that an audit printed, with the exit code that goes with it.
fn report_of(output: &Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let expected = if report["verdict"] == "FAIL" { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    report
}

fn read(report: &Value) -> Verdicts {
    let word = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| (word(check, "id"), word(check, "verdict"))).collect()
}

#[test]
fn connections_of_a_live_session_are_no_violation() {
    let lab = Lab::new(1);
    let audited = Audited::start(&lab);
    let config = audited.gateway.customer(EMAIL);
    let client = Client::up(&lab.clients[0], Implementation::WireguardGo, &config);
    transfer(client.namespace, Direction::Up, TARGET_V4.into(), 1, 100_000).unwrap();
    let entries = lab.gateway.sh("cat /proc/net/nf_conntrack");
    assert!(entries.contains(&config.tunnel_v4.to_string()), "{entries}");
    assert_eq!(audited.now(), audited.clean);
}
