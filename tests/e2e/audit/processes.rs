use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use tacit_tests::Lab;

use super::Audited;

/// Traces a process as a debugger does, until it is killed.
fn trace(lab: &Lab, pid: u64) -> Child {
    let mut strace = Command::new("strace");
    strace.args(["-e", "trace=none", "-p", &pid.to_string()]);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut strace =
        lab.gateway.start(&mut strace).expect("starting strace (Debian package strace)");
    let mut said = String::new();
    BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("attached"), "{said}");
    strace
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn hole_in_the_seal_around_the_forwarder_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let forwarder = audited.gateway.forwarder();
    let filter = |value: &str| format!("echo {value} > /proc/{forwarder}/coredump_filter");
    audited.sees_lines("forwarder-memory", &filter("0x33"), &filter("0"));
    audited.sees("forwarder-tracer", || trace(&lab, forwarder), end);
}

#[test]
fn whoever_traces_control_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let control = audited.gateway.json(&["status"])["control"]["pid"].as_u64().unwrap();
    audited.sees("control-tracer", || trace(&lab, control), end);
}
