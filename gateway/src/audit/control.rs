//! The seals around the process that knows customers, and around the one that starts forwarders.

use super::{
    check::{Check, Finding},
    evidence::Evidence,
    forwarder::{expect_limit, expect_of_all, is_zero, judge_threads, judge_tracer},
    memory::judge_dumps,
    process::{Descriptor, Kinship, Process, inode_of},
    reading::{self, Reading},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "control-user",
        meaning: "The process that knows customers is not root, and is in no other group.",
        by_hand: "grep -E 'Uid|Gid|Groups' /proc/{control}/task/*/status",
        judge: |evidence| judge_threads(&evidence.control, judge_user),
    },
    Check {
        id: "control-capabilities",
        meaning: "It has CAP_NET_ADMIN alone, and CAP_NET_BIND_SERVICE for a port below 1024, and can get no more.",
        by_hand: "grep -E 'Cap|NoNewPrivs' /proc/{control}/task/*/status",
        judge: |evidence| judge_threads(&evidence.control, judge_capabilities),
    },
    Check {
        id: "control-system-calls",
        meaning: "Every thread of it is refused packet sockets, tracing, BPF and starting programs (seccomp).",
        by_hand: "grep Seccomp /proc/{control}/task/*/status",
        judge: |evidence| judge_threads(&evidence.control, judge_system_calls),
    },
    Check {
        id: "control-memory",
        meaning: "Nobody but root can look into its memory, and a core dump would hold none of it.",
        by_hand: "ls -l /proc/{control}/maps; cat /proc/{control}/coredump_filter; grep core /proc/{control}/limits",
        judge: |evidence| judge_memory(&evidence.control),
    },
    Check {
        id: "starter-capabilities",
        meaning: "The process that starts forwarders has the rights that this takes, and can get no more.",
        by_hand: "grep -E 'Cap|NoNewPrivs' /proc/{starter}/task/*/status",
        judge: |evidence| judge_threads(&evidence.starter, judge_starter_capabilities),
    },
    Check {
        id: "starter-system-calls",
        meaning: "It is refused every socket that could reach somebody (seccomp).",
        by_hand: "grep Seccomp /proc/{starter}/task/*/status",
        judge: |evidence| judge_threads(&evidence.starter, judge_system_calls),
    },
    Check {
        id: "starter-memory",
        meaning: "Its memory gets into no core dump, and nobody traces it.",
        by_hand: "cat /proc/{starter}/coredump_filter; grep core /proc/{starter}/limits; grep TracerPid /proc/{starter}/status",
        judge: |evidence| judge_starter_memory(&evidence.starter),
    },
    Check {
        id: "control-descriptors",
        meaning: "The process that knows customers has no TUN queue, no socket of the gateway's UDP port and no packet socket: it sees no packet.",
        by_hand: "ls -l /proc/{control}/fd; cat /proc/net/udp* /proc/net/packet",
        judge: |evidence| {
            reading::judge(&evidence.control.descriptors, |descriptors, finding| {
                judge_descriptors(descriptors, &Sockets::of(evidence), finding);
                expect_read(&evidence.network.udp, finding);
                expect_read(&evidence.network.packet, finding);
            })
        },
    },
    Check {
        id: "control-tracer",
        meaning: "No other process traces it.",
        by_hand: "grep TracerPid /proc/{control}/task/*/status",
        judge: |evidence| judge_threads(&evidence.control, judge_tracer),
    },
    Check {
        id: "gateway-processes",
        meaning: "The gateway's processes have started no others.",
        by_hand: "pstree -p {control}",
        judge: |evidence| {
            let known = evidence.processes().map(|process| process.pid).collect::<Vec<_>>();
            reading::judge(&evidence.kin, |kin, finding| judge_kin(kin, &known, finding))
        },
    },
];

fn judge_user(threads: &[String], finding: &mut Finding) {
    let is_somebody = |words: &[&str]| {
        words.len() == 4 && words.iter().all(|word| *word != "0" && *word == words[0])
    };
    expect_of_all(threads, "Uid", is_somebody, finding);
    expect_of_all(threads, "Gid", is_somebody, finding);
    expect_of_all(threads, "Groups", |words| words.is_empty(), finding);
}

/// Bits of capabilities (`CAP_…`).
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SETPCAP: u64 = 1 << 8;
const IPC_LOCK: u64 = 1 << 14;
pub(super) const SYS_ADMIN: u64 = 1 << 21;

/// What a set of capabilities says, in hexadecimal digits.
fn bits(words: &[&str]) -> Option<u64> {
    u64::from_str_radix(words.first()?, 16).ok()
}

fn judge_capabilities(threads: &[String], finding: &mut Finding) {
    expect_within(threads, NET_ADMIN | NET_BIND_SERVICE, finding);
}

fn judge_starter_capabilities(threads: &[String], finding: &mut Finding) {
    let needed = KILL | SETGID | SETUID | SETPCAP | IPC_LOCK | SYS_ADMIN;
    expect_within(threads, needed, finding);
}

fn expect_within(threads: &[String], allowed: u64, finding: &mut Finding) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let is_within = |words: &[&str]| bits(words).is_some_and(|bits| bits & !allowed == 0);
        expect_of_all(threads, set, is_within, finding);
    }
    expect_of_all(threads, "NoNewPrivs", |words| words == ["1"], finding);
}

fn judge_system_calls(threads: &[String], finding: &mut Finding) {
    expect_of_all(threads, "Seccomp", |words| words == ["2"], finding);
    let is_some = |words: &[&str]| words.len() == 1 && !is_zero(words);
    expect_of_all(threads, "Seccomp_filters", is_some, finding);
}

fn judge_memory(process: &Process) -> Finding {
    let mut finding = Finding::default();
    judge_dumps(process, &mut finding);
    match &process.limits {
        Ok(limits) => expect_limit(limits, "Max core file size", "0", &mut finding),
        Err(unread) => {
            finding.fail(unread.to_string());
        }
    }
    finding
}

fn judge_starter_memory(starter: &Process) -> Finding {
    let mut finding = judge_memory(starter);
    match &starter.threads {
        Ok(threads) => judge_tracer(threads, &mut finding),
        Err(unread) => {
            finding.warn(unread.to_string());
        }
    }
    finding
}

/// Says of a table that it was not read, without which nobody knows what a socket is.
fn expect_read(table: &Reading<String>, finding: &mut Finding) {
    if let Err(unread) = table {
        finding.warn(unread.to_string());
    }
}

/// Inodes of the sockets that see packets.
struct Sockets<'a> {
    udp: Vec<&'a str>,
    packet: Vec<&'a str>,
}

impl<'a> Sockets<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let last = |line: &'a str| line.split_whitespace().nth(8);
        let packet = evidence.network.packet.as_deref().unwrap_or_default();
        Self {
            udp: super::forwarder::inodes_of_ports(evidence),
            packet: packet.lines().skip(1).filter_map(last).collect(),
        }
    }
}

fn judge_descriptors(descriptors: &[Descriptor], sockets: &Sockets<'_>, finding: &mut Finding) {
    let mut sees = 0;
    for Descriptor { number, target, .. } in descriptors {
        let inode = inode_of(target, "socket").unwrap_or_default();
        let what = if target.ends_with("/net/tun") {
            "a TUN queue"
        } else if sockets.udp.contains(&inode) {
            "a UDP socket of the gateway's port"
        } else if sockets.packet.contains(&inode) {
            "a packet socket"
        } else {
            continue;
        };
        sees += 1;
        finding.fail(format!("descriptor {number} is {what}"));
    }
    finding.pass(format!("{sees} of {} descriptors could see packets", descriptors.len()));
}

fn judge_kin(kin: &[Kinship], known: &[u32], finding: &mut Finding) {
    for process in kin {
        let Kinship { pid, name, .. } = process;
        let is_known = known.contains(pid);
        let whose = if is_known { "one of its own" } else { "none of its own" };
        finding.expect(is_known, format!("started {name} (pid {pid}), {whose}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check::Verdict, reading::Unread},
        *,
    };

    const SEALED: &str = "TracerPid:\t0\nUid:\t65528\t65528\t65528\t65528\nGid:\t65528\t65528\t65528\t65528\n\
        Groups:\t \nCapInh:\t0000000000000000\nCapPrm:\t0000000000001000\nCapEff:\t0000000000001000\n\
        CapBnd:\t0000000000001000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    type Judge = fn(&[String], &mut Finding);

    fn verdict(judge: Judge, status: &str) -> Verdict {
        let mut finding = Finding::default();
        judge(&[SEALED.into(), status.into()], &mut finding);
        finding.verdict()
    }

    #[test]
    fn thread_with_more_rights_than_control_needs_is_a_violation() {
        let planted: [(Judge, &str, &str); 7] = [
            (judge_user, "Uid:\t65528", "Uid:\t0"),
            (judge_user, "Gid:\t65528\t65528\t65528\t65528", "Gid:\t0\t0\t0\t0"),
            (judge_user, "Groups:\t ", "Groups:\t4 "),
            (judge_capabilities, "CapEff:\t0000000000001000", "CapEff:\t0000000000003000"),
            (judge_capabilities, "CapBnd:\t0000000000001000", "CapBnd:\t000001ffffffffff"),
            (judge_capabilities, "NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            (judge_system_calls, "Seccomp:\t2", "Seccomp:\t0"),
        ];
        for (judge, is, planted) in planted {
            let loose = SEALED.replace(is, planted);
            assert_ne!(loose, SEALED, "{is}");
            assert_eq!(verdict(judge, SEALED), Verdict::Pass, "{is}");
            assert_eq!(verdict(judge, &loose), Verdict::Fail, "{planted}");
        }
    }

    #[test]
    fn starter_with_network_rights_is_a_violation() {
        let of = |bits: &str| {
            format!(
                "CapInh:\t0\nCapPrm:\t{bits}\nCapEff:\t{bits}\nCapBnd:\t{bits}\nCapAmb:\t0\nNoNewPrivs:\t1\n"
            )
        };
        let verdict = |bits: &str| {
            let mut finding = Finding::default();
            judge_starter_capabilities(&[of(bits)], &mut finding);
            finding.verdict()
        };
        assert_eq!(verdict("00000000002041e0"), Verdict::Pass);
        assert_eq!(verdict("00000000002051e0"), Verdict::Fail, "CAP_NET_ADMIN");
        assert_eq!(verdict("00000000002861e0"), Verdict::Fail, "CAP_NET_RAW and CAP_SYS_PTRACE");
    }

    #[test]
    fn descriptor_that_sees_packets_is_a_violation() {
        let judged = |target: &str| {
            let descriptor = Descriptor { number: 9, target: target.into(), info: String::new() };
            let mut finding = Finding::default();
            let sockets = Sockets { udp: vec!["21"], packet: vec!["31"] };
            judge_descriptors(&[descriptor], &sockets, &mut finding);
            finding.verdict()
        };
        assert_eq!(judged("/var/lib/tacit/store.sqlite"), Verdict::Pass);
        assert_eq!(judged("socket:[11]"), Verdict::Pass);
        for target in ["/dev/net/tun", "socket:[21]", "socket:[31]"] {
            assert_eq!(judged(target), Verdict::Fail, "{target}");
        }
    }

    #[test]
    fn table_that_was_not_read_is_told() {
        let judged = |table| {
            let mut finding = Finding::default();
            expect_read(&table, &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(Ok(String::new())), Verdict::Pass);
        assert_eq!(judged(Err(Unread::new("/proc/net/udp", "planted"))), Verdict::Warn);
    }

    #[test]
    fn memory_of_control_that_could_be_dumped_is_a_violation() {
        let sealed = Process::sealed(65_528, 0);
        assert_eq!(judge_memory(&sealed).verdict(), Verdict::Pass);
        assert_eq!(judge_memory(&Process::sealed(65_528, 65_528)).verdict(), Verdict::Fail);
        let raised = "Max core file size        0                    unlimited            bytes\n";
        let limits = Ok(raised.into());
        assert_eq!(judge_memory(&Process { limits, ..sealed.clone() }).verdict(), Verdict::Fail);
        let dump_filter = Ok("00000033\n".into());
        assert_eq!(judge_memory(&Process { dump_filter, ..sealed }).verdict(), Verdict::Fail);
    }

    #[test]
    fn memory_of_the_starter_that_could_be_dumped_or_is_traced_is_a_violation() {
        let sealed = Process::sealed(0, 0);
        assert_eq!(judge_starter_memory(&sealed).verdict(), Verdict::Pass);
        let dump_filter = Ok("00000033\n".into());
        let dumped = Process { dump_filter, ..sealed.clone() };
        assert_eq!(judge_starter_memory(&dumped).verdict(), Verdict::Fail);
        let status = sealed.threads.as_ref().unwrap()[0].replace("TracerPid:\t0", "TracerPid:\t9");
        let traced = Process { threads: Ok(vec![status]), ..sealed.clone() };
        assert_eq!(judge_starter_memory(&traced).verdict(), Verdict::Fail);
        let threads = Err(Unread::new("the threads", "planted"));
        assert_eq!(judge_starter_memory(&Process { threads, ..sealed }).verdict(), Verdict::Warn);
    }

    #[test]
    fn process_that_the_gateway_does_not_know_is_a_violation() {
        let judged = |pid| {
            let kin = [Kinship { pid, parent: 70, numbers: vec![pid], name: "sh".into() }];
            let mut finding = Finding::default();
            judge_kin(&kin, &[70, 71, 72], &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(71), Verdict::Pass);
        assert_eq!(judged(73), Verdict::Fail);
    }
}
