//! Parts of the kernel that watch and record what programs or the network do: its tracer and its audit.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use nlink::netlink::{Audit, Connection};
use tokio::time::timeout;

use super::{
    check::{Check, Finding, Verdict},
    reading::{self, Reading, Unread},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "kernel-tracing",
        meaning: "The kernel's tracer records nothing of the network or of system calls.",
        by_hand: "cd /sys/kernel/tracing && cat current_tracer set_event dynamic_events; cat instances/*/{current_tracer,set_event}",
        judge: |evidence| {
            reading::judge(&evidence.watchers.tracer, |tracer, finding| {
                judge_tracer(tracer.as_ref(), finding);
            })
        },
    },
    Check {
        id: "kernel-audit",
        meaning: "The kernel's audit records no system call.",
        by_hand: "auditctl -s; auditctl -l",
        judge: |evidence| reading::judge(&evidence.watchers.audit, judge_audit),
    },
];

/// What was read of them.
pub(super) struct Watchers {
    tracer: Reading<Option<Tracer>>,
    audit: Reading<KernelAudit>,
}

impl Watchers {
    /// Reads what the kernel watches.
    pub(super) async fn read() -> Self {
        Self { tracer: Tracer::read(), audit: KernelAudit::read().await }
    }
}

/// The kernel's tracer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tracer {
    /// The first is the kernel's own; who wants one for himself makes another.
    instances: Vec<Instance>,
    probes: String,
}

/// A buffer that the kernel traces into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Instance {
    /// Its name and a slash; nothing for the kernel's own.
    name: String,
    current: String,
    events: String,
}

/// Where it can be read.
const TRACER_DIRS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

impl Tracer {
    /// Reads the tracer; none if its file system is not mounted here.
    fn read() -> Reading<Option<Self>> {
        let mounted = |dir: &&str| Path::new(dir).join("current_tracer").exists();
        let Some(dir) = TRACER_DIRS.into_iter().find(mounted).map(Path::new) else {
            return Ok(None);
        };
        let others = reading::directory(dir.join("instances"))?;
        let instances = std::iter::once(Instance::read(dir, String::new()));
        let named = |other: &PathBuf| {
            let name = other.file_name().unwrap_or_default().to_string_lossy();
            Instance::read(other, format!("{name}/"))
        };
        Ok(Some(Self {
            instances: instances.chain(others.iter().map(named)).collect::<Reading<_>>()?,
            probes: probes(dir)?,
        }))
    }
}

/// What probes are set; older kernels list them by kind.
fn probes(dir: &Path) -> Reading<String> {
    let list = |name| reading::text_if_there(dir.join(name));
    if let Some(all) = list("dynamic_events")? {
        return Ok(all);
    }
    Ok(list("kprobe_events")?.unwrap_or_default() + &list("uprobe_events")?.unwrap_or_default())
}

/// The group that somebody named a probe by, as in `p:GROUP/NAME PLACE`.
fn group_of_probe(line: &str) -> Option<&str> {
    Some(line.split_once(':')?.1.split_once('/')?.0)
}

impl Instance {
    fn read(dir: &Path, name: String) -> Reading<Self> {
        let (current, events) = (dir.join("current_tracer"), dir.join("set_event"));
        Ok(Self { name, current: reading::text(current)?, events: reading::text(events)? })
    }
}

/// Groups of events that tell of packets, sockets or system calls.
const TELLING_GROUPS: [&str; 15] = [
    "bpf_trace",
    "fib",
    "fib6",
    "kprobes",
    "napi",
    "neigh",
    "net",
    "qdisc",
    "raw_syscalls",
    "skb",
    "sock",
    "syscalls",
    "tcp",
    "udp",
    "uprobes",
];

fn judge_tracer(tracer: Option<&Tracer>, finding: &mut Finding) {
    let Some(Tracer { instances, probes }) = tracer else {
        finding.warn("tracefs is not mounted here, so nobody can read what is traced: mount -t tracefs none /sys/kernel/tracing");
        return;
    };
    let groups: Vec<&str> = probes.lines().filter_map(group_of_probe).collect();
    for instance in instances {
        judge_instance(instance, &groups, finding);
    }
    let probes = probes.lines().filter(|line| !line.trim().is_empty()).count();
    finding.line(
        if probes == 0 { Verdict::Pass } else { Verdict::Warn },
        format!("{probes} probes are set"),
    );
}

/// Judges what an instance records; a probe of one of `groups` can be anywhere in the kernel or a program.
fn judge_instance(
    Instance { name, current, events }: &Instance,
    groups: &[&str],
    finding: &mut Finding,
) {
    let current = current.trim();
    finding.line(
        if current == "nop" { Verdict::Pass } else { Verdict::Fail },
        format!("{name}current_tracer: {current}"),
    );
    let events: Vec<&str> = events.lines().filter(|line| !line.trim().is_empty()).collect();
    let tells = |event: &&&str| {
        let group = event.split(':').next().unwrap_or_default();
        TELLING_GROUPS.contains(&group) || groups.contains(&group)
    };
    for event in events.iter().filter(tells) {
        finding.fail(format!("{name}set_event: {event}"));
    }
    let others = events.iter().filter(|event| !tells(event)).count();
    finding.line(
        if others == 0 { Verdict::Pass } else { Verdict::Warn },
        format!("{name}set_event: {others} events of other groups"),
    );
}

/// The kernel's audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KernelAudit {
    is_on: bool,
    rules: Vec<AuditRule>,
}

/// A rule of the kernel's audit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AuditRule {
    /// When the kernel asks it (`AUDIT_FILTER_…`).
    list: u32,
    /// Whether it records (`AUDIT_ALWAYS`).
    records: bool,
    /// Bit by bit, the system calls that it is about.
    calls: Vec<u32>,
}

/// How long the kernel may take to list its rules.
const PATIENCE: Duration = Duration::from_secs(2);

/// `AUDIT_LIST_RULES`.
const LIST_RULES: u16 = 1013;

impl KernelAudit {
    async fn read() -> Reading<Self> {
        let read = async {
            let audit = Connection::<Audit>::new()?;
            let is_on = audit.get_status().await?.enabled != 0;
            Ok::<_, nlink::Error>(Self { is_on, rules: list_rules(&audit).await? })
        };
        let unread = |why: &dyn Display| {
            Unread::new("the kernel's audit, which answers the host's root only,", why)
        };
        match timeout(PATIENCE, read).await {
            Ok(read) => read.map_err(|error| unread(&error)),
            Err(late) => Err(unread(&late)),
        }
    }
}

/// Lists the rules, which nlink does not.
async fn list_rules(audit: &Connection<Audit>) -> nlink::Result<Vec<AuditRule>> {
    const HEADER_LEN: usize = 16;
    const REQUEST_AND_ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let socket = audit.socket();
    let mut request = Vec::with_capacity(HEADER_LEN);
    request.extend((HEADER_LEN as u32).to_ne_bytes());
    request.extend(LIST_RULES.to_ne_bytes());
    request.extend(REQUEST_AND_ACK.to_ne_bytes());
    request.extend(socket.next_seq().to_ne_bytes());
    request.extend(socket.pid().to_ne_bytes());
    socket.send(&request).await?;

    let mut rules = Vec::new();
    loop {
        let received = socket.recv_msg().await?;
        let mut rest = &received[..];
        while let Some((kind, payload)) = next_message(&mut rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(rules),
                libc::NLMSG_ERROR => {
                    let errno = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    if errno != 0 {
                        return Err(nlink::Error::from_errno(errno));
                    }
                }
                _ if kind == LIST_RULES => rules.extend(AuditRule::read(payload)),
                _ => {}
            }
        }
    }
}

/// Takes the kind and the payload of the first message.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let len = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
    let message = rest.get(..len).filter(|message| message.len() >= 16)?;
    *rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([message[4], message[5]]), &message[16..]))
}

impl AuditRule {
    /// Reads `struct audit_rule_data`: list, action, field count, then 64 words of system calls.
    fn read(payload: &[u8]) -> Option<Self> {
        const CALL_WORDS: usize = 64;
        const NEVER: u32 = 0;
        let mut words = payload
            .chunks_exact(4)
            .map(|word| word.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word)));
        let (list, action, _fields) = (words.next()?, words.next()?, words.next()?);
        let calls: Vec<u32> = words.take(CALL_WORDS).collect();
        (calls.len() == CALL_WORDS).then_some(Self { list, records: action != NEVER, calls })
    }

    fn is_about(&self, call: libc::c_long) -> bool {
        self.calls.get(call as usize / 32).is_some_and(|word| word >> (call % 32) & 1 == 1)
    }
}

/// `AUDIT_FILTER_TASK`, `AUDIT_FILTER_ENTRY` and `AUDIT_FILTER_EXIT`: those that are asked at system calls.
const CALL_LISTS: [u32; 3] = [1, 2, 4];

/// System calls that the gateway moves bytes with, or that tell where to.
const NETWORK_CALLS: [(&str, libc::c_long); 19] = [
    ("socket", libc::SYS_socket),
    ("connect", libc::SYS_connect),
    ("accept", libc::SYS_accept),
    ("accept4", libc::SYS_accept4),
    ("bind", libc::SYS_bind),
    ("sendto", libc::SYS_sendto),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendmmsg", libc::SYS_sendmmsg),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmsg", libc::SYS_recvmsg),
    ("recvmmsg", libc::SYS_recvmmsg),
    ("getpeername", libc::SYS_getpeername),
    ("getsockname", libc::SYS_getsockname),
    ("read", libc::SYS_read),
    ("readv", libc::SYS_readv),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
    ("setsockopt", libc::SYS_setsockopt),
    ("socketpair", libc::SYS_socketpair),
];

fn judge_audit(audit: &KernelAudit, finding: &mut Finding) {
    finding.pass(format!(
        "audit is {}, with {} rules",
        if audit.is_on { "on" } else { "off" },
        audit.rules.len()
    ));
    for rule in audit.rules.iter().filter(|rule| rule.records && CALL_LISTS.contains(&rule.list)) {
        let calls = NETWORK_CALLS.iter().filter(|(_, call)| rule.is_about(*call));
        let calls: Vec<&str> = calls.map(|(name, _)| *name).collect();
        if !calls.is_empty() {
            // A rule that is there is one switch from being in force.
            let verdict = if audit.is_on { Verdict::Fail } else { Verdict::Warn };
            finding.line(verdict, format!("a rule records {}", calls.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(current: &str, events: &str, probes: &str) -> Verdict {
        let own = Instance { name: String::new(), current: current.into(), events: events.into() };
        let mut finding = Finding::default();
        let tracer = Tracer { instances: vec![own], probes: probes.into() };
        judge_tracer(Some(&tracer), &mut finding);
        finding.verdict()
    }

    #[test]
    fn packets_traced_in_an_instance_of_its_own_are_a_violation() {
        let judged = |current: &str, events: &str| {
            let quiet = Instance { current: "nop\n".into(), ..Instance::default() };
            let own =
                Instance { name: "spy/".into(), current: current.into(), events: events.into() };
            let mut finding = Finding::default();
            let tracer = Tracer { instances: vec![quiet, own], probes: String::new() };
            judge_tracer(Some(&tracer), &mut finding);
            finding.verdict()
        };
        assert_eq!(judged("nop\n", ""), Verdict::Pass);
        assert_eq!(judged("function\n", ""), Verdict::Fail);
        assert_eq!(judged("nop\n", "net:net_dev_xmit\n"), Verdict::Fail);
    }

    #[test]
    fn traced_packets_are_a_violation() {
        assert_eq!(tracer("nop\n", "", ""), Verdict::Pass);
        assert_eq!(tracer("function\n", "", ""), Verdict::Fail);
        assert_eq!(tracer("nop\n", "net:netif_receive_skb\n", ""), Verdict::Fail);
        assert_eq!(tracer("nop\n", "syscalls:sys_enter_sendmsg\n", ""), Verdict::Fail);
        assert_eq!(tracer("nop\n", "block:block_rq_issue\n", ""), Verdict::Warn);
        assert_eq!(tracer("nop\n", "", "p:kprobes/spy tun_get_user\n"), Verdict::Warn);
        let probe = "p:harmless/spy /usr/bin/tacit:0x4000\n";
        assert_eq!(tracer("nop\n", "", probe), Verdict::Warn);
        assert_eq!(tracer("nop\n", "harmless:spy\n", probe), Verdict::Fail);
    }

    #[test]
    fn tracer_that_cannot_be_read_is_told() {
        let mut finding = Finding::default();
        judge_tracer(None, &mut finding);
        assert_eq!(finding.verdict(), Verdict::Warn);
    }

    /// A rule as the kernel lists it.
    fn rule(list: u32, action: u32, call: libc::c_long) -> AuditRule {
        let mut calls = [0_u32; 64];
        calls[call as usize / 32] = 1 << (call % 32);
        let words = [list, action, 0].into_iter().chain(calls);
        AuditRule::read(&words.flat_map(u32::to_ne_bytes).collect::<Vec<_>>()).unwrap()
    }

    fn audit(is_on: bool, rule: AuditRule) -> Verdict {
        let mut finding = Finding::default();
        judge_audit(&KernelAudit { is_on, rules: vec![rule] }, &mut finding);
        finding.verdict()
    }

    #[test]
    fn audit_rule_on_network_calls_is_a_violation() {
        const EXIT: u32 = 4;
        const ALWAYS: u32 = 2;
        const NEVER: u32 = 0;
        assert_eq!(audit(true, rule(EXIT, ALWAYS, libc::SYS_connect)), Verdict::Fail);
        assert_eq!(audit(true, rule(EXIT, ALWAYS, libc::SYS_writev)), Verdict::Fail);
        assert_eq!(audit(false, rule(EXIT, ALWAYS, libc::SYS_connect)), Verdict::Warn);
        assert_eq!(audit(true, rule(EXIT, NEVER, libc::SYS_connect)), Verdict::Pass);
        assert_eq!(audit(true, rule(EXIT, ALWAYS, libc::SYS_mount)), Verdict::Pass);
    }

    #[test]
    fn messages_are_taken_one_by_one() {
        let message = |kind: u16, payload: &[u8]| {
            let mut bytes = ((16 + payload.len()) as u32).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(16, 0);
            bytes.extend(payload);
            bytes
        };
        let both = [message(LIST_RULES, &[7; 4]), message(3, &[])].concat();
        let mut rest = &both[..];
        assert_eq!(next_message(&mut rest), Some((LIST_RULES, &[7_u8; 4][..])));
        assert_eq!(next_message(&mut rest), Some((3, &[][..])));
        assert_eq!(next_message(&mut rest), None);
    }
}
