//! The seal around the forwarder, as the kernel reports it from outside.

use std::collections::{BTreeMap, BTreeSet};

use tacit_forwarder::seal::USER;

use super::{
    check::{Check, Finding, Verdict},
    control::SYS_ADMIN,
    evidence::Evidence,
    memory::{judge_dumps, judge_memory},
    process::{Descriptor, Process, field, inode_of, limit},
    reading,
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "forwarder-user",
        meaning: "The process that sees packets is a user and a group that own nothing.",
        by_hand: "grep -E 'Uid|Gid|Groups' /proc/{forwarder}/task/*/status",
        judge: |evidence| of_threads(evidence, judge_user),
    },
    Check {
        id: "forwarder-capabilities",
        meaning: "It has no capability and can get none.",
        by_hand: "grep -E 'Cap|NoNewPrivs' /proc/{forwarder}/task/*/status",
        judge: |evidence| of_threads(evidence, judge_capabilities),
    },
    Check {
        id: "forwarder-system-calls",
        meaning: "Every thread of it is held to a list of system calls of its own (seccomp), besides what it inherits from the starter.",
        by_hand: "grep Seccomp /proc/{forwarder}/task/*/status /proc/{starter}/status",
        judge: |evidence| {
            let inherited = evidence.starter.filters();
            judge_threads(&evidence.forwarder, |threads, finding| {
                judge_system_calls(threads, inherited, finding);
            })
        },
    },
    Check {
        id: "forwarder-descriptors",
        meaning: "It has TUN queues, UDP sockets, one socket to control and one eventfd, and nothing else to write to.",
        by_hand: "ls -l /proc/{forwarder}/fd; grep -H iff /proc/{forwarder}/fdinfo/*; cat /proc/net/unix /proc/net/udp*",
        judge: |evidence| {
            reading::judge(&evidence.forwarder.descriptors, |descriptors, finding| {
                judge_descriptors(
                    descriptors,
                    &Sockets::of(evidence),
                    &evidence.facts.interface,
                    finding,
                );
            })
        },
    },
    Check {
        id: "forwarder-limits",
        meaning: "It can make no core file, no process, no file content and no further descriptor.",
        by_hand: "cat /proc/{forwarder}/limits",
        judge: |evidence| {
            reading::judge(&evidence.forwarder.limits, |limits, finding| {
                let highest =
                    evidence.forwarder.descriptors.as_ref().ok().and_then(|all| all.last());
                judge_limits(limits, highest.map(|descriptor| descriptor.number), finding);
            })
        },
    },
    Check {
        id: "forwarder-memory",
        meaning: "Its memory gets to no swap and into no dump, and none of it is writable and executable at once.",
        by_hand: "grep -E '^[0-9a-f]+-|VmFlags' /proc/{forwarder}/smaps; cat /proc/{forwarder}/coredump_filter",
        judge: |evidence| {
            let mut finding = reading::judge(&evidence.forwarder.memory, |smaps, finding| {
                judge_memory(smaps, finding)
            });
            judge_dumps(&evidence.forwarder, &mut finding);
            finding
        },
    },
    Check {
        id: "forwarder-namespaces",
        meaning: "It has an empty root directory, and a network, processes and shared memory of its own.",
        by_hand: "ls -l /proc/{forwarder}/ns /proc/{control}/ns; ls /proc/{forwarder}/root; cat /proc/{forwarder}/net/dev",
        judge: |evidence| {
            let mut finding = Finding::default();
            judge_namespaces(
                &evidence.forwarder,
                &evidence.control,
                &evidence.starter,
                &mut finding,
            );
            finding
        },
    },
    Check {
        id: "forwarder-tracer",
        meaning: "No other process traces it.",
        by_hand: "grep TracerPid /proc/{forwarder}/task/*/status",
        judge: |evidence| of_threads(evidence, judge_tracer),
    },
];

fn of_threads(evidence: &Evidence, judge: fn(&[String], &mut Finding)) -> Finding {
    judge_threads(&evidence.forwarder, judge)
}

/// Judges the threads of a process that must be there.
pub(super) fn judge_threads(
    process: &Process,
    judge: impl FnOnce(&[String], &mut Finding),
) -> Finding {
    let mut finding = Finding::default();
    match &process.threads {
        Ok(threads) => judge(threads, &mut finding),
        Err(unread) => {
            finding.fail(unread.to_string());
        }
    }
    finding
}

/// Adds what all threads say of a field, once for each different thing.
pub(super) fn expect_of_all(
    threads: &[String],
    name: &str,
    is_right: impl Fn(&[&str]) -> bool,
    finding: &mut Finding,
) {
    let mut said: BTreeMap<Option<Vec<&str>>, usize> = BTreeMap::new();
    for status in threads {
        *said.entry(field(status, name)).or_default() += 1;
    }
    for (words, threads) in said {
        let of = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
        match words {
            Some(words) => {
                finding.expect(is_right(&words), format!("{name}: {} ({of})", words.join(" ")))
            }
            None => finding.warn(format!("this kernel does not say {name} ({of})")),
        };
    }
}

fn judge_user(threads: &[String], finding: &mut Finding) {
    let user = USER.to_string();
    for name in ["Uid", "Gid"] {
        let is_user = |words: &[&str]| words.len() == 4 && words.iter().all(|word| *word == user);
        expect_of_all(threads, name, is_user, finding);
    }
    expect_of_all(threads, "Groups", |words| words.is_empty(), finding);
}

fn judge_capabilities(threads: &[String], finding: &mut Finding) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        expect_of_all(threads, set, is_zero, finding);
    }
    expect_of_all(threads, "NoNewPrivs", |words| words == ["1"], finding);
}

/// Judges the filters of the forwarder's threads, `inherited` of which are the starter's.
fn judge_system_calls(threads: &[String], inherited: Option<u64>, finding: &mut Finding) {
    expect_of_all(threads, "Seccomp", |words| words == ["2"], finding);
    let is_more = |words: &[&str]| number(words).is_some_and(|filters| Some(filters) > inherited);
    expect_of_all(threads, "Seccomp_filters", is_more, finding);
    match inherited {
        Some(inherited) => finding.pass(format!("{inherited} of them from the starter")),
        None => finding.warn("nobody says how many of them are the starter's"),
    };
}

/// The only word, if it is a decimal number.
fn number(words: &[&str]) -> Option<u64> {
    let [word] = words else { return None };
    word.parse().ok()
}

/// Judges whether somebody traces the threads.
pub(super) fn judge_tracer(threads: &[String], finding: &mut Finding) {
    expect_of_all(threads, "TracerPid", is_zero, finding);
}

/// Whether a hexadecimal or decimal number is 0.
pub(super) fn is_zero(words: &[&str]) -> bool {
    words.len() == 1 && words[0].bytes().all(|digit| digit == b'0')
}

/// Sockets of the gateway's network namespace by inode.
pub(super) struct Sockets<'a> {
    udp: BTreeMap<&'a str, u16>,
    sequenced: BTreeSet<&'a str>,
    ports: BTreeSet<u16>,
}

impl<'a> Sockets<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let network = &evidence.network;
        Self {
            // One that is not known is none of the gateway's: the forwarder may not have it.
            udp: network.udp.as_deref().map(|table| udp_ports(table).collect()).unwrap_or_default(),
            sequenced: network.unix.as_ref().map(|table| sequenced(table)).unwrap_or_default(),
            ports: evidence.facts.listen.iter().map(std::net::SocketAddr::port).collect(),
        }
    }
}

/// Inodes of the UDP sockets of the gateway's ports.
pub(super) fn inodes_of_ports(evidence: &Evidence) -> Vec<&str> {
    let Sockets { udp, ports, .. } = Sockets::of(evidence);
    udp.into_iter().filter(|(_, port)| ports.contains(port)).map(|(inode, _)| inode).collect()
}

/// Inode and local port of each line of `/proc/net/udp` and `/proc/net/udp6`, whose head lines have none.
fn udp_ports(table: &str) -> impl Iterator<Item = (&str, u16)> {
    table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        Some((*words.get(9)?, u16::from_str_radix(port, 16).ok()?))
    })
}

/// Inodes of the SOCK_SEQPACKET sockets in `/proc/net/unix`.
fn sequenced(table: &str) -> BTreeSet<&str> {
    const SEQPACKET: &str = "0005";
    let sequenced = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(4) == Some(&SEQPACKET)).then(|| words.get(6).copied())?
    });
    sequenced.collect()
}

fn judge_descriptors(
    descriptors: &[Descriptor],
    sockets: &Sockets<'_>,
    interface: &str,
    finding: &mut Finding,
) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for descriptor in descriptors {
        match kind(descriptor, sockets, interface) {
            Some(kind) => *counts.entry(kind).or_default() += 1,
            None => {
                let Descriptor { number, target, .. } = descriptor;
                finding
                    .fail(format!("descriptor {number} leads to {target}, which is none of these"));
            }
        }
    }
    for (kind, count) in &counts {
        let is_right = !matches!(*kind, LINK | WAKE) || *count == 1;
        finding.expect(is_right, format!("{count} × {kind}"));
    }
    for kind in [LINK, QUEUE, UDP, WAKE].iter().filter(|kind| !counts.contains_key(*kind)) {
        finding.fail(format!("no {kind}"));
    }
}

const LINK: &str = "socket to control";
const QUEUE: &str = "TUN queue";
const UDP: &str = "UDP socket of the gateway's port";
const WAKE: &str = "eventfd";

/// Whether a descriptor is a queue of the tunnel interface.
pub(super) fn is_queue(descriptor: &Descriptor, interface: &str) -> bool {
    descriptor.target.ends_with("/net/tun")
        && field(&descriptor.info, "iff") == Some(vec![interface])
}

fn kind(descriptor: &Descriptor, sockets: &Sockets<'_>, interface: &str) -> Option<&'static str> {
    if is_queue(descriptor, interface) {
        return Some(QUEUE);
    }
    if descriptor.target == "anon_inode:[eventfd]" {
        return Some(WAKE);
    }
    let inode = inode_of(&descriptor.target, "socket")?;
    if sockets.udp.get(inode).is_some_and(|port| sockets.ports.contains(port)) {
        return Some(UDP);
    }
    sockets.sequenced.contains(inode).then_some(LINK)
}

fn judge_limits(limits: &str, highest: Option<u32>, finding: &mut Finding) {
    for name in ["Max core file size", "Max processes", "Max file size"] {
        expect_limit(limits, name, "0", finding);
    }
    if let Some(highest) = highest {
        expect_limit(limits, "Max open files", &(highest + 1).to_string(), finding);
    }
}

/// Adds a limit that must be exactly `expected`, soft and hard.
pub(super) fn expect_limit(limits: &str, name: &str, expected: &str, finding: &mut Finding) {
    match limit(limits, name) {
        Some((soft, hard)) => finding.expect(
            soft == expected && hard == expected,
            format!("{name}: {soft}, at most {hard}"),
        ),
        None => finding.warn(format!("this kernel does not say {name}")),
    };
}

/// Judges what the forwarder shares with control; the starter is who could have made it namespaces of its own.
fn judge_namespaces(
    forwarder: &Process,
    control: &Process,
    starter: &Process,
    finding: &mut Finding,
) {
    // A container without CAP_SYS_ADMIN lends it its own: the rest of the seal holds there too.
    let sharing = if starter.may(SYS_ADMIN) == Some(true) { Verdict::Fail } else { Verdict::Warn };
    match (&forwarder.namespaces, &control.namespaces) {
        (Ok(own), Ok(controls)) => {
            for (kind, own) in own {
                let is_apart = controls.get(kind) != Some(own);
                let than = if is_apart { "its own" } else { "the same as control's" };
                let verdict = if is_apart { Verdict::Pass } else { sharing };
                finding.line(verdict, format!("{own}, {than}"));
            }
        }
        (Err(unread), _) | (_, Err(unread)) => {
            finding.fail(unread.to_string());
        }
    }
    match &forwarder.root {
        Ok(names) if names.is_empty() => finding.pass("its root directory is empty"),
        Ok(names) => {
            finding.line(sharing, format!("its root directory has {} entries", names.len()))
        }
        Err(unread) => finding.warn(unread.to_string()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: &str = "Name:\tworker-0\nTracerPid:\t0\nUid:\t65529\t65529\t65529\t65529\n\
        Gid:\t65529\t65529\t65529\t65529\nGroups:\t \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n\
        Seccomp:\t2\nSeccomp_filters:\t2\n";

    type Judge = fn(&[String], &mut Finding);

    fn judge_own_system_calls(threads: &[String], finding: &mut Finding) {
        judge_system_calls(threads, Some(1), finding);
    }

    fn verdict(judge: Judge, threads: &[&str]) -> Verdict {
        let mut finding = Finding::default();
        judge(&threads.iter().map(ToString::to_string).collect::<Vec<_>>(), &mut finding);
        finding.verdict()
    }

    #[test]
    fn one_thread_with_a_right_is_a_violation() {
        let judges: [Judge; 4] =
            [judge_user, judge_capabilities, judge_own_system_calls, judge_tracer];
        for judge in judges {
            assert_eq!(verdict(judge, &[SEALED, SEALED]), Verdict::Pass);
        }
        let planted: [(Judge, &str, &str); 13] = [
            (judge_user, "Uid:\t65529\t65529", "Uid:\t65529\t0"),
            (judge_user, "Gid:\t65529\t65529\t65529\t65529", "Gid:\t0\t0\t0\t0"),
            (judge_user, "Groups:\t ", "Groups:\t27 "),
            (judge_capabilities, "CapInh:\t0", "CapInh:\t8"),
            (judge_capabilities, "CapPrm:\t0", "CapPrm:\t8"),
            (judge_capabilities, "CapEff:\t0", "CapEff:\t8"),
            (judge_capabilities, "CapBnd:\t0", "CapBnd:\t8"),
            (judge_capabilities, "CapAmb:\t0", "CapAmb:\t8"),
            (judge_capabilities, "NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            (judge_own_system_calls, "Seccomp:\t2", "Seccomp:\t0"),
            (judge_own_system_calls, "Seccomp_filters:\t2", "Seccomp_filters:\t0"),
            (judge_own_system_calls, "Seccomp_filters:\t2", "Seccomp_filters:\t1"),
            (judge_tracer, "TracerPid:\t0", "TracerPid:\t4711"),
        ];
        for (judge, is, planted) in planted {
            let loose = SEALED.replace(is, planted);
            assert_ne!(loose, SEALED, "{is}");
            assert_eq!(verdict(judge, &[SEALED, &loose]), Verdict::Fail, "{planted}");
        }
    }

    #[test]
    fn field_that_the_kernel_does_not_have_is_no_proof() {
        let older = SEALED.replace("Seccomp_filters:\t2\n", "");
        assert_eq!(verdict(judge_own_system_calls, &[&older]), Verdict::Warn);
        let mut finding = Finding::default();
        judge_system_calls(&[SEALED.into()], None, &mut finding);
        assert_eq!(finding.verdict(), Verdict::Warn, "unknown of the starter");
    }

    const UDP_TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
        100: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 21 2 00000000aaaa 0\n\
        101: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 22 2 00000000aaaa 0\n";
    const UNIX_TABLE: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000003 00000000 00000000 0005 03 11\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 12 /run/x.sock\n";

    fn judged(targets: &[(&str, &str)]) -> Finding {
        let number = |(number, (target, info)): (usize, &(&str, &str))| Descriptor {
            number: number as u32 + 3,
            target: (*target).into(),
            info: (*info).into(),
        };
        let descriptors: Vec<_> = targets.iter().enumerate().map(number).collect();
        let sockets = Sockets {
            udp: udp_ports(UDP_TABLE).collect(),
            sequenced: sequenced(UNIX_TABLE),
            ports: BTreeSet::from([51820]),
        };
        let mut finding = Finding::default();
        judge_descriptors(&descriptors, &sockets, "tacit0", &mut finding);
        finding
    }

    const EXPECTED: [(&str, &str); 4] = [
        ("socket:[11]", ""),
        ("/dev/net/tun", "pos:\t0\niff:\ttacit0\n"),
        ("socket:[21]", ""),
        ("anon_inode:[eventfd]", ""),
    ];

    #[test]
    fn any_other_descriptor_is_a_violation() {
        assert_eq!(judged(&EXPECTED).verdict(), Verdict::Pass);
        let more = [
            ("/var/log/traffic", ""),
            ("/dev/null", ""),
            ("socket:[11]", ""),
            ("socket:[12]", ""),
            ("socket:[22]", ""),
            ("socket:[99]", ""),
            ("pipe:[5]", ""),
            ("anon_inode:[eventfd]", ""),
            ("/dev/net/tun", "iff:\ttap7\n"),
        ];
        for one in more {
            let finding = judged(&[&EXPECTED[..], &[one]].concat());
            assert_eq!(finding.verdict(), Verdict::Fail, "{one:?}");
        }
        for missing in 0..EXPECTED.len() {
            let mut fewer = EXPECTED.to_vec();
            fewer.remove(missing);
            assert_eq!(judged(&fewer).verdict(), Verdict::Fail, "{missing}");
        }
    }

    #[test]
    fn raised_limit_is_a_violation() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max file size             0                    0                    bytes     \n\
            Max core file size        0                    0                    bytes     \n\
            Max processes             0                    0                    processes \n\
            Max open files            11                   11                   files     \n";
        let verdict = |limits: &str| {
            let mut finding = Finding::default();
            judge_limits(limits, Some(10), &mut finding);
            finding.verdict()
        };
        assert_eq!(verdict(limits), Verdict::Pass);
        for name in ["Max file size", "Max core file size", "Max processes"] {
            let raised = limits.lines().map(|line| {
                if line.starts_with(name) {
                    format!("{name} 0 unlimited bytes\n")
                } else {
                    format!("{line}\n")
                }
            });
            assert_eq!(verdict(&raised.collect::<String>()), Verdict::Fail, "{name}");
        }
        assert_eq!(verdict(&limits.replace("11", "1024")), Verdict::Fail);
    }

    fn status(capabilities: &str) -> super::super::reading::Reading<Vec<String>> {
        Ok(vec![format!("Uid:\t0\t0\t0\t0\nCapEff:\t{capabilities}\n")])
    }

    #[test]
    fn shared_namespace_is_a_violation_where_the_starter_could_have_made_one() {
        let (sealed, control) = (Process::sealed(USER, 0), Process::sealed(65_528, 0));
        let starter =
            |capabilities| Process { threads: status(capabilities), ..Process::sealed(0, 0) };
        let judged = |forwarder: &Process, starter: &Process| {
            let mut finding = Finding::default();
            judge_namespaces(forwarder, &control, starter, &mut finding);
            finding.verdict()
        };
        let (able, unable) = (starter("00000000002041e0"), starter("00000000000041e0"));
        assert_eq!(judged(&sealed, &able), Verdict::Pass);
        assert_eq!(judged(&sealed, &unable), Verdict::Pass);
        for kind in sealed.namespaces.as_ref().unwrap().keys() {
            let mut sharing = sealed.clone();
            let theirs = control.namespaces.as_ref().unwrap()[kind].clone();
            sharing.namespaces.as_mut().unwrap().insert(kind, theirs);
            assert_eq!(judged(&sharing, &able), Verdict::Fail, "{kind}");
            assert_eq!(judged(&sharing, &unable), Verdict::Warn, "{kind}");
        }
        let mut rooted = sealed.clone();
        rooted.root = Ok(vec!["/etc".into()]);
        assert_eq!(judged(&rooted, &able), Verdict::Fail);
        assert_eq!(judged(&rooted, &unable), Verdict::Warn);
    }
}
