//! A forwarder that was taken over: a build whose sealed forwarder tries, on its first session, what it must not be
//! able to do. The kernel ends it or control flags it; either way another one starts, and clients come back.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tacit_messages::clock::Instant;
use tacit_tests::{
    Gateway, Lab, RawClient,
    clock::{elapsed, wait_for, wait_until},
    gateway::unfaithful_program,
};

use crate::store;

const EMAIL: &str = "someone@example.org";
/// Attempts that are system calls.
const CALLS: [&str; 19] = [
    "open",
    "shm_open",
    "shmget",
    "memfd",
    "socket",
    "connect",
    "write to stderr",
    "write to the tunnel",
    "exec",
    "fork",
    "ptrace",
    "process_vm_readv",
    "io_uring",
    "executable memory",
    "kill",
    "dumpable",
    "setuid",
    "bpf",
    "perf",
];

/// A gateway whose forwarder makes an attempt, ended when dropped.
struct TakenOver<'lab> {
    gateway: Gateway<'lab>,
    log: PathBuf,
    child: Child,
}

impl<'lab> TakenOver<'lab> {
    fn start(lab: &'lab Lab, attempt: &str) -> Self {
        Self::start_with(lab, ("TACIT_MISBEHAVE", attempt))
    }

    fn start_with(lab: &'lab Lab, variable: (&str, &str)) -> Self {
        let gateway = Gateway::stopped(lab, "gateway", &["--workers", "1"]);
        let log = lab.dir().join("taken-over.log");
        let mut command = Command::new(unfaithful_program());
        command.env_clear().envs([variable]).args(gateway.command().get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = lab.gateway.start(&mut command).unwrap();
        let taken_over = Self { gateway, log, child };
        wait_until("the gateway to be ready", Duration::from_secs(15), || {
            taken_over.log().contains("ready")
        });
        taken_over
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Connects a client until the log says `what`.
    fn provoke(&self, lab: &Lab, what: &str) {
        let mut client = RawClient::new(&lab.clients[0], &self.gateway.customer(EMAIL));
        client.handshake();
        let said = wait_for(Duration::from_secs(10), || self.log().contains(what).then_some(()));
        assert!(said.is_some(), "the log does not say {what:?}:\n{}", self.log());
    }

    fn wait_for_another(&self) {
        let start = Instant::now();
        wait_until("another forwarder", Duration::from_secs(10), || {
            self.log().contains("the forwarder runs again")
        });
        assert!(elapsed(start) < Duration::from_secs(5));
    }
}

impl Drop for TakenOver<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn forbidden_system_call_ends_the_forwarder() {
    for attempt in CALLS {
        let lab = Lab::new(1);
        let taken_over = TakenOver::start(&lab, attempt);
        taken_over.provoke(&lab, "signal=31");
        taken_over.wait_for_another();
        assert!(!lab.gateway.path("/tmp/destination").exists());
        assert!(!lab.gateway.path("/dev/shm/destination").exists());
    }
}

#[test]
fn message_burst_beyond_what_sessions_justify_is_flagged() {
    let attempts = [
        ("session burst", "too many sessions of one device"),
        ("session of a stranger", "a session that cannot have begun"),
        ("question burst", "too many questions about keys"),
        ("totals burst", "totals too often"),
        ("move while nobody leaves", "a device that cannot move, or too many"),
    ];
    for (attempt, reason) in attempts {
        let lab = Lab::new(1);
        let taken_over = TakenOver::start(&lab, attempt);
        taken_over.provoke(&lab, reason);
        taken_over.wait_for_another();
        let gateway = &taken_over.gateway;
        assert_eq!(gateway.json(&["status"])["forwarder"]["flagged"], 1, "{attempt}");
        assert!(gateway.text(&["status"]).contains("said more than it may"));
        let rows = store::rows(&gateway.store(), "sessions");
        assert!(rows <= 5, "{attempt} left {rows} rows");
    }
}

#[test]
fn control_that_puts_away_what_it_planted_when_it_is_asked_is_found_out_all_the_same() {
    let lab = Lab::new(1);
    let taken_over = TakenOver::start_with(&lab, ("TACIT_LEAK", "hide"));
    lab.gateway.sh("nft add table ip spy
         nft add chain ip spy c '{ type filter hook forward priority 5; }'
         nft add rule ip spy c log group 5");
    let output = taken_over.gateway.cli(&["audit", "--only", "firewall-log"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    let tables = lab.gateway.sh("nft list tables");
    assert!(!tables.contains("spy"), "nothing was put away: {tables}");
}

#[test]
fn forwarder_that_does_not_listen_holds_up_no_revocation() {
    let lab = Lab::new(1);
    let taken_over = TakenOver::start(&lab, "deaf");
    taken_over.provoke(&lab, "does not read what it is told");
    let start = Instant::now();
    taken_over.gateway.text(&["device", "remove", EMAIL, "laptop"]);
    assert!(elapsed(start) < Duration::from_secs(2));
    taken_over.wait_for_another();
    assert!(taken_over.log().contains("signal=9"), "{}", taken_over.log());
}
