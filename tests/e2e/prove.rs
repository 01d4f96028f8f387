//! `tacit prove`: what it finds, what it says, and what it leaves alone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tacit_tests::{
    Gateway, Lab,
    clock::wait_until,
    gateway::{program, unfaithful_program},
};

/// Nothing of the traffic was kept.
const NOTHING_KEPT: i32 = 0;
/// The experiment could not be made.
const FAILED: i32 = 1;
/// Something of the traffic was kept.
const KEPT: i32 = 3;

fn prove(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("prove").args(arguments).stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn list<'a>(report: &'a Value, name: &str) -> &'a Vec<Value> {
    report[name].as_array().unwrap_or_else(|| panic!("no list {name}: {report}"))
}

fn texts(report: &Value, name: &str, field: &str) -> BTreeSet<String> {
    list(report, name).iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn clause_4_nothing_of_the_traffic_is_kept_and_the_report_says_what_that_rests_on() {
    let dir = tempfile::tempdir().unwrap();
    let reports = dir.path().join("proof");
    let output =
        prove(&program(), &["--json", "--report", reports.to_str().unwrap()]).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(NOTHING_KEPT),
        "{}{}",
        stderr(&output),
        json(&output)["findings"]
    );
    let report = json(&output);
    assert_eq!(report["verdict"], "nothing-kept");
    assert!(list(&report, "findings").is_empty());

    // All traffic arrived: names, requests, payloads in every form, to addresses of both families.
    let sent = list(&report, "sent");
    assert!(sent.len() > 40, "{}", sent.len());
    assert!(sent.iter().all(|sent| sent["arrived"] == true), "{sent:?}");
    let what: Vec<String> = texts(&report, "sent", "what").into_iter().collect();
    for kind in [
        "DNS name",
        "SNI",
        "HTTP path",
        "compressed",
        "base64",
        "hexadecimal",
        "UTF-16",
        "reversed",
        "split across packets",
        "destination",
        "later address of client A",
        "address of client B",
    ] {
        assert!(what.iter().any(|what| what.contains(kind)), "no {kind} in {what:?}");
    }
    assert!(report["traffic"]["inbound_packets"].as_u64().unwrap() > 40);
    assert_eq!(report["traffic"]["sessions_recorded"], 3);

    // The search finds what is there to be found.
    let controls = list(&report, "controls");
    assert!(
        controls.len() >= 9 && controls.iter().all(|control| control["found"] == true),
        "{controls:?}"
    );

    // Everything was searched.
    let searched = texts(&report, "searched", "kind");
    for kind in [
        "database",
        "stdout and stderr",
        "temporary files",
        "shared memory",
        "names of files",
        "names of processes and threads",
        "held open",
        "memory of processes that know customers",
        "connection tracking",
        "firewall, routes, links and traffic control",
        "logs and journal",
    ] {
        assert!(
            searched.iter().any(|searched| searched.contains(kind)),
            "no {kind} in {searched:?}"
        );
    }
    assert!(report["search"]["system_calls"].as_u64().unwrap() > 100);
    assert!(
        list(&report, "files_written")
            .iter()
            .any(|file| file.as_str().unwrap().ends_with("sqlite-wal"))
    );

    let text = fs::read_to_string(reports.join("report.txt")).unwrap();
    assert!(text.starts_with("Nothing of the traffic was kept"), "{text}");
    let again: Value =
        serde_json::from_slice(&fs::read(reports.join("report.json")).unwrap()).unwrap();
    assert_eq!(again, report);
    let page = fs::read_to_string(reports.join("report.html")).unwrap();
    assert!(
        page.contains("No traffic log")
            && page.contains(report["program"]["sha256"].as_str().unwrap())
    );
    assert!(!page.contains("src=") && !page.contains("href="), "the page needs something else");
}

/// A leak, and the words by which the report names where it is.
const LEAKS: [(&str, &str); 7] = [
    ("log", "stdout and stderr"),
    ("row", "database"),
    ("memory", "memory of processes that know customers"),
    ("thread", "names of processes and threads"),
    ("route", "firewall, routes, links and traffic control in the kernel"),
    ("/run/tacit-prove/data/traffic.tmp", "data directory"),
    // Each file is removed as soon as it is made, and has nothing in it.
    ("name:/run/tacit-prove/data", "names of files"),
];

/// The findings whose text in `field` starts with `start`.
fn findings<'a>(report: &'a Value, field: &str, start: &str) -> Vec<&'a Value> {
    let starts = |finding: &&Value| finding[field].as_str().unwrap().starts_with(start);
    list(report, "findings").iter().filter(starts).collect()
}

#[test]
fn gateway_that_leaks_is_found_out_wherever_it_leaks_to() {
    let program = unfaithful_program();
    for (leak, place) in LEAKS {
        let output = prove(&program, &["--json"]).env("TACIT_LEAK", leak).output().unwrap();
        assert_eq!(output.status.code(), Some(KEPT), "{leak}: {}", stderr(&output));
        let report = json(&output);
        assert_eq!(report["verdict"], "kept", "{leak}");
        let destinations = findings(&report, "what", "destination of");
        let named = |finding: &&Value| finding["kind"].as_str().unwrap().contains(place);
        assert!(destinations.iter().any(named), "{leak}: {}", report["findings"]);
        // The forwarder of such a program also sends destinations out of the gateway's own port, to nobody's.
        let sent = findings(&report, "place", "sendmsg(");
        assert!(!sent.is_empty(), "{leak}: {}", report["findings"]);
        for call in sent {
            assert!(call["place"].as_str().unwrap().contains("htons(514)"), "{call}");
        }
        // And as if a device had sent them, through the tunnel to an address where nobody is.
        let stray = findings(&report, "place", "UDP to 198.51.100.77:514");
        assert_eq!(stray.len(), 1, "{leak}: {}", report["findings"]);
        assert_eq!(stray[0]["kind"], "packets out of the gateway");
    }
}

#[test]
fn gateway_that_leaks_into_the_kernel_is_found_out() {
    let setting = "/proc/sys/net/ipv4/conf/all/tag";
    let output =
        prove(&unfaithful_program(), &["--json"]).env("TACIT_LEAK", setting).output().unwrap();
    assert_eq!(output.status.code(), Some(KEPT), "{}", stderr(&output));
    let report = json(&output);
    let found = findings(&report, "what", "a file of the kernel that a gateway has no use for");
    assert_eq!(found.len(), 1, "{}", report["findings"]);
    assert_eq!(found[0]["place"], setting);
}

#[test]
fn gateway_that_has_connected_to_somebody_before_it_leaks_is_found_out() {
    let output =
        prove(&unfaithful_program(), &["--json"]).env("TACIT_LEAK", "socket").output().unwrap();
    assert_eq!(output.status.code(), Some(KEPT), "{}", stderr(&output));
    let report = json(&output);
    let found = findings(&report, "place", "connect(");
    assert_eq!(found.len(), 1, "{}", report["findings"]);
    assert!(found[0]["place"].as_str().unwrap().contains("@\"leak\""), "{}", found[0]);
}

#[test]
fn program_that_is_shipped_cannot_leak() {
    let knows = |program: PathBuf| {
        let bytes = fs::read(program).unwrap();
        bytes.windows(10).any(|window| window == b"TACIT_LEAK")
    };
    assert!(!knows(program()));
    assert!(
        knows(unfaithful_program()),
        "the name of the variable is to be found in a program that has it"
    );
}

#[test]
fn running_gateway_is_left_alone() {
    let lab = Lab::new(0);
    let gateway = Gateway::start(&lab);
    let _ = gateway.customer("ann@example.org");
    let look = || {
        let mut status = gateway.json(&["status"]);
        status.as_object_mut().unwrap().remove("totals");
        let links =
            lab.gateway.sh("ip -o address | sed 's/ tentative//'; nft -s list ruleset; ls -l /run");
        (status, links, gateway.log())
    };
    let before = look();
    let output = lab.gateway.output(&mut prove(&program(), &[]));
    assert_eq!(output.status.code(), Some(NOTHING_KEPT), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("Nothing of the traffic was kept"));
    let steps = stderr(&output);
    assert!(steps.lines().count() >= 8 && steps.contains("sending marked traffic"), "{steps}");
    assert_eq!(look(), before);
}

#[test]
fn missing_strace_is_said_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let output = prove(&program(), &[]).env("PATH", dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(FAILED));
    let said = stderr(&output);
    assert!(said.trim().lines().count() == 1 && said.contains("apt-get install strace"), "{said}");
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let mut running =
        prove(&program(), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut private = BTreeSet::new();
    wait_until("a private gateway with its forwarder", Duration::from_secs(20), || {
        private = below(running.id());
        private.iter().any(|pid| command_line(*pid).contains("forwarder"))
    });
    running.kill().unwrap();
    running.wait().unwrap();
    wait_until("the end of all its processes", Duration::from_secs(5), || {
        private.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The processes that descend from `ancestor`.
fn below(ancestor: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((pid, parent.trim().parse().ok()?))
        })
        .collect();
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            found.remove(&ancestor);
            return found;
        }
        found.extend(more);
    }
}
