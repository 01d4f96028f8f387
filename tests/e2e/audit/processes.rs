use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::UdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Child, Command, Stdio},
};

use rustix::process::Resource;
use tacit_tests::{Gateway, Lab};

use super::{
    Audited, plants,
    stand_in::{Rights, StandIn},
};
use crate::seal::Process;

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

/// The number of control or the starter inside the gateway's namespace.
fn pid_of(gateway: &Gateway<'_>, name: &str) -> u64 {
    gateway.json(&["status"])[name]["pid"].as_u64().unwrap()
}

/// Has processes stand in for one of the gateway's: one with its limits, and one for each with that one raised.
///
/// What is lowered in a running process cannot be raised again in every container.
fn raised_limit_is_seen(audited: &Audited<'_>, id: &str, pid: u64, own: &[(Resource, u64)]) {
    let view = |limits: Vec<(Resource, u64)>| {
        let stand_in = StandIn::with_limits(&audited.lab.gateway, limits);
        (format!("mount --bind /proc/{}/limits /proc/{pid}/limits", stand_in.pid), stand_in)
    };
    let (same, _same) = view(own.to_vec());
    assert_eq!(audited.seen_through(&same), audited.clean, "{own:?} stand in unseen");
    for raised in 0..own.len() {
        let mut limits = own.to_vec();
        limits[raised].1 = 200;
        let (other, _other) = view(limits);
        audited.sees_through(id, "FAIL", &other);
    }
}

#[test]
fn hole_in_the_seal_around_the_forwarder_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let forwarder = audited.gateway.forwarder();
    let filter = |value: &str| format!("echo {value} > /proc/{forwarder}/coredump_filter");
    audited.sees_lines("forwarder-memory", &filter("0x33"), &filter("0"));
    audited.sees("forwarder-tracer", || trace(&lab, forwarder), end);
    let highest = Process::forwarder(&lab, &audited.gateway).descriptors().pop().unwrap().0;
    let none = [Resource::Core, Resource::Nproc, Resource::Fsize].map(|resource| (resource, 0));
    let limits = [&none[..], &[(Resource::Nofile, u64::from(highest) + 1)]].concat();
    raised_limit_is_seen(&audited, "forwarder-limits", forwarder, &limits);
}

#[test]
fn hole_in_the_seal_around_control_or_the_starter_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let [control, starter] = ["control", "starter"].map(|name| pid_of(&audited.gateway, name));
    audited.sees("control-tracer", || trace(&lab, control), end);
    for (id, pid) in [("control-memory", control), ("starter-memory", starter)] {
        raised_limit_is_seen(&audited, id, pid, &[(Resource::Core, 0)]);
    }
    let filter = |value: &str| format!("echo {value} > /proc/{control}/coredump_filter");
    audited.sees_lines("control-memory", &filter("0x33"), &filter("0"));
    audited.sees("starter-memory", || trace(&lab, starter), end);
}

/// A change that gives a process a right too many, and the check that must say so.
type Excess = (&'static str, fn(&mut Rights));

/// Has processes stand in for one of the gateway's: one with the same rights, and one for each of `planted`.
fn excess_is_seen(audited: &Audited<'_>, process: &Process, pid: u64, planted: &[Excess]) {
    let status = process.read(&format!("task/{pid}/status"));
    let own = Rights::of(&status);
    let view = |rights: Rights| {
        let stand_in = StandIn::with_rights(&audited.lab.gateway, rights);
        let thread = format!("/proc/{pid}/task/{pid}/status");
        (format!("mount --bind /proc/{}/status {thread}", stand_in.pid), stand_in)
    };
    let (same, _same) = view(own.clone());
    assert_eq!(audited.seen_through(&same), audited.clean, "{own:?} stands in unseen");
    for (id, exceed) in planted {
        let mut rights = own.clone();
        exceed(&mut rights);
        assert_ne!(rights, own, "{id}");
        let (other, _other) = view(rights);
        audited.sees_through(id, "FAIL", &other);
    }
}

const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;

#[test]
fn forwarder_with_a_right_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let process = Process::forwarder(&lab, &audited.gateway);
    let planted: [Excess; 8] = [
        ("forwarder-user", |rights| rights.user = 4711),
        ("forwarder-user", |rights| rights.group = 4711),
        ("forwarder-user", |rights| rights.other_groups.push(27)),
        ("forwarder-capabilities", |rights| rights.capabilities |= NET_RAW),
        ("forwarder-capabilities", |rights| rights.bounding |= NET_RAW),
        ("forwarder-capabilities", |rights| rights.no_new_privs = false),
        ("forwarder-system-calls", |rights| rights.filters = 0),
        // What an unsealed one has from the starter.
        ("forwarder-system-calls", |rights| rights.filters -= 1),
    ];
    excess_is_seen(&audited, &process, audited.gateway.forwarder(), &planted);
}

#[test]
fn control_with_a_right_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let process = Process::control(&lab, &audited.gateway);
    let planted: [Excess; 6] = [
        ("control-user", |rights| rights.group = 0),
        ("control-user", |rights| rights.other_groups.push(27)),
        ("control-capabilities", |rights| rights.capabilities |= NET_RAW),
        ("control-capabilities", |rights| rights.bounding |= SYS_PTRACE),
        ("control-capabilities", |rights| rights.no_new_privs = false),
        ("control-system-calls", |rights| rights.filters = 0),
    ];
    excess_is_seen(&audited, &process, pid_of(&audited.gateway, "control"), &planted);
}

#[test]
fn starter_with_a_right_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let process = Process::starter(&lab, &audited.gateway);
    let planted: [Excess; 4] = [
        ("starter-capabilities", |rights| rights.capabilities |= NET_RAW),
        ("starter-capabilities", |rights| rights.bounding |= SYS_PTRACE),
        ("starter-capabilities", |rights| rights.no_new_privs = false),
        ("starter-system-calls", |rights| rights.filters = 0),
    ];
    excess_is_seen(&audited, &process, pid_of(&audited.gateway, "starter"), &planted);
}

/// Has processes stand in that hold what one of the gateway's holds: one just that, and one for each of `more`.
fn descriptor_too_many_is_seen(
    audited: &Audited<'_>,
    (id, process, pid): (&str, &Process, u64),
    place: i32,
    more: impl IntoIterator<Item = OwnedFd>,
) {
    let numbers: Vec<i32> =
        process.descriptors().iter().map(|(number, _)| number.cast_signed()).collect();
    let view = |more: Option<OwnedFd>| {
        let more = more.map(|more| (more, place));
        let namespace = &audited.lab.gateway;
        let stand_in = StandIn::with_descriptors_of(namespace, pid, numbers.clone(), more);
        let mount = |dir| format!("mount --bind /proc/{}/{dir} /proc/{pid}/{dir}", stand_in.pid);
        (["fd", "fdinfo"].map(mount).join("\n"), stand_in)
    };
    let (same, _same) = view(None);
    assert_eq!(audited.seen_through(&same), audited.clean, "{numbers:?} stand in unseen");
    for one in more {
        let (other, _other) = view(Some(one));
        audited.sees_through(id, "FAIL", &other);
    }
}

#[test]
fn forwarder_with_a_descriptor_too_many_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let file = File::create(lab.dir().join("traffic")).unwrap();
    let socket = lab.gateway.within(|| UdpSocket::bind("127.0.0.1:514").unwrap());
    let (pair, _other_end) = UnixDatagram::pair().unwrap();
    let process = Process::forwarder(&lab, &audited.gateway);
    let judged = ("forwarder-descriptors", &process, audited.gateway.forwarder());
    // The forwarder has nothing under this number, nor above its highest.
    descriptor_too_many_is_seen(&audited, judged, 0, [file.into(), socket.into(), pair.into()]);
}

#[test]
fn control_with_a_descriptor_that_sees_packets_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let tunnel = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // At an interface that the audit does not watch.
    let packets = plants::packet_socket(&lab.gateway, "lo");
    let process = Process::control(&lab, &audited.gateway);
    let judged = ("control-descriptors", &process, pid_of(&audited.gateway, "control"));
    descriptor_too_many_is_seen(&audited, judged, 600, [tunnel.into(), packets]);
}

#[test]
fn control_with_a_file_open_that_no_gateway_keeps_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let file = File::create(lab.dir().join("traffic")).unwrap();
    let process = Process::control(&lab, &audited.gateway);
    let judged = ("data-directory", &process, pid_of(&audited.gateway, "control"));
    descriptor_too_many_is_seen(&audited, judged, 600, [file.into()]);
}

#[test]
fn program_that_has_events_written_down_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let hold = || {
        let mut sleep = Command::new("sleep");
        lab.gateway.start(sleep.arg("60").stdin(plants::perf_event())).unwrap()
    };
    audited.sees("perf-events", hold, end);
}

/// Kinds of namespaces, by the flags of `unshare`.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mount", "net", "pid", "uts"];

#[test]
fn forwarder_that_shares_a_namespace_is_seen() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let forwarder = audited.gateway.forwarder();
    let apart_but = |shared: Option<&str>| {
        let own = NAMESPACES.iter().filter(|kind| Some(**kind) != shared);
        let own = own.map(|kind| format!("--{kind}"));
        let mut command = Command::new("unshare");
        command.args(own).args(["--fork", "--kill-child", "sleep", "60"]);
        let child = lab.gateway.start(&mut command).unwrap();
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        let asleep = || {
            let children = fs::read_to_string(&path).unwrap();
            let status = format!("/proc/{}/status", children.split_whitespace().next()?);
            let status = fs::read_to_string(status).ok()?;
            let numbers = crate::seal::field(&status, "NSpid");
            status.starts_with("Name:\tsleep").then(|| numbers[1].to_owned())
        };
        let pid = tacit_tests::clock::wait_for(std::time::Duration::from_secs(5), asleep).unwrap();
        (format!("mount --bind /proc/{pid}/ns /proc/{forwarder}/ns"), child)
    };
    let (same, child) = apart_but(None);
    assert_eq!(audited.seen_through(&same), audited.clean, "one of its own stands in unseen");
    end(child);
    for kind in NAMESPACES {
        let (view, child) = apart_but(Some(kind));
        audited.sees_through("forwarder-namespaces", "FAIL", &view);
        end(child);
    }
}
