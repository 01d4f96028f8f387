//! `tacit audit`: each violation is planted, seen by exactly its check, and gone when it is removed.
//!
//! What the whole machine has once is planted into the files that tell of it, as the lab sees them. What cannot be
//! planted without a hole in the seal is planted into what was read: in the unit tests of the checks.

mod files;
mod firewall;
mod host;
mod network;
mod outsiders;
mod plants;
mod processes;

use std::collections::BTreeMap;

use serde_json::Value;
use tacit_tests::{
    Client, Gateway, Implementation, Lab,
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
        assert_eq!(self.clean[id], "PASS", "{id}");
        let planted = plant();
        let mut expected = self.clean.clone();
        expected.insert(id.into(), verdict.into());
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
    let output = gateway.cli(&["audit", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let expected = if report["verdict"] == "FAIL" { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{report:#}");
    read(&report)
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
