use std::process::Command;

use tacit_tests::{Gateway, Lab, gateway::program};

use super::{Audited, Verdicts, read, report_of, without_machine_wide};

/// Checks that need the host's own namespaces to be read, or that the lab shows something else.
const OF_THE_HOST: [&str; 4] = ["kernel-audit", "kernel-tracing", "perf-events", "swap"];

/// What each check says to somebody outside of the gateway's namespaces, whom the kernel's audit answers.
pub(super) fn verdicts_from_outside(gateway: &Gateway<'_>) -> Verdicts {
    let output = audit(gateway, &["--json"]).output().unwrap();
    let mut verdicts = without_machine_wide(read(&report_of(&output)));
    // Other tests plant there.
    verdicts.retain(|id, _| !["kernel-tracing", "perf-events"].contains(&id.as_str()));
    verdicts
}

fn audit(gateway: &Gateway<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.env_clear().arg("audit").args(arguments).arg("--socket").arg(gateway.socket());
    command
}

#[test]
fn audit_from_outside_of_the_gateways_namespaces_says_the_same() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let inside_and_outside = || {
        let mut verdicts = [audited.now(), verdicts_from_outside(&audited.gateway)];
        verdicts
            .iter_mut()
            .for_each(|verdicts| verdicts.retain(|id, _| !OF_THE_HOST.contains(&id.as_str())));
        verdicts
    };
    let [inside, outside] = inside_and_outside();
    assert_eq!(inside, outside);
    lab.gateway
        .sh("echo 1 > /proc/sys/net/netfilter/nf_conntrack_acct; ip link set uplink promisc on");
    let [inside, outside] = inside_and_outside();
    assert_eq!(inside, outside);
    assert_eq!(inside["conntrack-accounting"], "FAIL");
}

#[test]
fn audit_says_in_one_line_what_it_needs() {
    let lab = Lab::new(0);
    let mut gateway = Gateway::start(&lab);
    let refused = |command: &mut Command, reason: &str| {
        let output = lab.gateway.output(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.trim().lines().count() == 1, "{said}");
    };
    let mut nobody = Command::new("unshare");
    let command = audit(&gateway, &[]);
    nobody.arg("--user").arg(command.get_program()).args(command.get_args());
    refused(&mut nobody, "run it as root");
    refused(&mut audit(&gateway, &["--only", "swaps"]), "there is no check swaps");
    gateway.stop();
    refused(&mut audit(&gateway, &[]), "no gateway runs");
}

#[test]
fn checks_can_be_listed_and_chosen() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let listed = gateway.json(&["audit", "--list"]);
    assert!(listed.as_array().unwrap().iter().all(|check| check["meaning"].is_string()));
    let chosen =
        read(&gateway.json(&["audit", "--only", "firewall-log", "--only", "conntrack-accounting"]));
    assert_eq!(chosen.keys().collect::<Vec<_>>(), ["conntrack-accounting", "firewall-log"]);
    let text = gateway.text(&["audit", "--only", "forwarder-user"]);
    let by_hand = format!("grep -E 'Uid|Gid|Groups' /proc/{}/task/*/status", gateway.forwarder());
    assert!(text.starts_with("PASS forwarder-user\n") && text.contains(&by_hand), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours but on a terminal");
}
