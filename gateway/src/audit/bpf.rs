//! BPF programs that the kernel holds, by bpf(2). nlink has no such calls.
#![expect(unsafe_code, reason = "bpf(2) has no safe binding")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{
    check::{Check, Finding},
    reading::{self, Reading, Unread},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[Check {
    id: "bpf-programs",
    meaning: "No BPF program is loaded that could watch packets or the gateway anywhere in the kernel.",
    by_hand: "bpftool prog list",
    judge: |evidence| {
        reading::judge(&evidence.programs, |programs, finding| judge(programs, finding))
    },
}];

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    id: u32,
    kind: u32,
    name: String,
}

/// What a program of a kind can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Packets of all interfaces, or whatever the kernel does.
    Everything,
    /// Packets of sockets or processes that it is attached to.
    Some,
    /// Packets of an interface: `interface-programs` says whether of one of the gateway's.
    Interface,
    /// No packet.
    Nothing,
}

/// Kinds of programs (`enum bpf_prog_type`), their names and what they can see.
const KINDS: [(&str, Sight); 33] = [
    ("unspec", Sight::Everything),
    ("socket_filter", Sight::Some),
    ("kprobe", Sight::Everything),
    ("sched_cls", Sight::Interface),
    ("sched_act", Sight::Interface),
    ("tracepoint", Sight::Everything),
    ("xdp", Sight::Interface),
    ("perf_event", Sight::Everything),
    ("cgroup_skb", Sight::Some),
    ("cgroup_sock", Sight::Nothing),
    ("lwt_in", Sight::Everything),
    ("lwt_out", Sight::Everything),
    ("lwt_xmit", Sight::Everything),
    ("sock_ops", Sight::Some),
    ("sk_skb", Sight::Some),
    ("cgroup_device", Sight::Nothing),
    ("sk_msg", Sight::Some),
    ("raw_tracepoint", Sight::Everything),
    ("cgroup_sock_addr", Sight::Some),
    ("lwt_seg6local", Sight::Everything),
    ("lirc_mode2", Sight::Nothing),
    ("sk_reuseport", Sight::Some),
    ("flow_dissector", Sight::Everything),
    ("cgroup_sysctl", Sight::Nothing),
    ("raw_tracepoint_writable", Sight::Everything),
    ("cgroup_sockopt", Sight::Nothing),
    ("tracing", Sight::Everything),
    // One can be a queueing discipline, which sees all packets of its interfaces (Linux 6.16).
    ("struct_ops", Sight::Some),
    ("ext", Sight::Everything),
    ("lsm", Sight::Some),
    ("sk_lookup", Sight::Some),
    ("syscall", Sight::Nothing),
    ("netfilter", Sight::Everything),
];

fn judge(programs: &[Program], finding: &mut Finding) {
    finding.pass(format!("{} programs are loaded", programs.len()));
    for program in programs {
        let unknown = ("of a kind that this program does not know", Sight::Everything);
        let (kind, sight) = KINDS.get(program.kind as usize).copied().unwrap_or(unknown);
        let said = format!("program {} \"{}\", {kind}", program.id, program.name);
        match sight {
            Sight::Everything => {
                finding.fail(format!("{said}: it could watch the gateway's packets"))
            }
            Sight::Some => finding.warn(format!("{said}: it sees what it is attached to")),
            Sight::Interface | Sight::Nothing => finding.pass(said),
        };
    }
}

const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
const TCX_HOOKS: [u32; 2] = [46, 47];

/// Bytes of `struct bpf_prog_info` up to and with the name.
const INFO_LEN: usize = 80;

/// Lists the programs that the kernel holds.
pub(super) fn programs() -> Reading<Vec<Program>> {
    list().map_err(|error| Unread::new("the list of BPF programs", error))
}

fn list() -> io::Result<Vec<Program>> {
    let mut programs = Vec::new();
    let mut last = 0;
    loop {
        let mut request = Request::default();
        request.put(0, last);
        match request.call(PROG_GET_NEXT_ID) {
            Ok(_) => last = request.word(1),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(programs),
            Err(error) => return Err(error),
        }
        match program(last) {
            Ok(program) => programs.push(program),
            // It was unloaded meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}

fn program(id: u32) -> io::Result<Program> {
    let mut request = Request::default();
    request.put(0, id);
    let number = request.call(PROG_GET_FD_BY_ID)?;
    // SAFETY: the kernel just made this descriptor for this process.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };

    let mut info = [0_u8; INFO_LEN];
    let mut request = Request::default();
    request.put(0, descriptor.as_raw_fd().cast_unsigned());
    request.put(1, INFO_LEN as u32);
    request.put_pointer(2, info.as_mut_ptr());
    request.call(OBJ_GET_INFO_BY_FD)?;
    let kind = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
    let name = info[64..].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Program { id, kind, name: String::from_utf8_lossy(name).into_owned() })
}

/// How many programs the interface has at its tcx hooks; none where the kernel has no tcx (before Linux 6.6).
pub(super) fn tcx_programs(interface: u32) -> Reading<u32> {
    let mut count = 0;
    for hook in TCX_HOOKS {
        let mut request = Request::default();
        request.put(0, interface);
        request.put(1, hook);
        match request.call(PROG_QUERY) {
            Ok(_) => count += request.word(6),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(Unread::new("the interface's tcx programs", error)),
        }
    }
    Ok(count)
}

/// `union bpf_attr`, as much of it as these calls need.
#[derive(Default)]
#[repr(C, align(8))]
struct Request([u32; 16]);

impl Request {
    fn put(&mut self, word: usize, value: u32) {
        self.0[word] = value;
    }

    fn put_pointer(&mut self, word: usize, pointer: *mut u8) {
        let bytes = (pointer.expose_provenance() as u64).to_ne_bytes();
        for (half, bytes) in bytes.chunks_exact(4).enumerate() {
            self.0[word + half] = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }

    fn word(&self, word: usize) -> u32 {
        self.0[word]
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<i32> {
        // SAFETY: the request is as long as said; the one pointer that it may hold leads to INFO_LEN bytes that are
        // alive, which is what the request says.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut self.0, size_of::<Self>()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn verdict(kind: u32) -> Verdict {
        let mut finding = Finding::default();
        judge(&[Program { id: 7, kind, name: "spy".into() }], &mut finding);
        finding.verdict()
    }

    #[test]
    fn programs_that_trace_the_kernel_are_violations_and_those_for_devices_are_not() {
        let kind = |name| KINDS.iter().position(|(kind, _)| *kind == name).unwrap() as u32;
        for name in ["kprobe", "tracepoint", "perf_event", "raw_tracepoint", "tracing", "netfilter"]
        {
            assert_eq!(verdict(kind(name)), Verdict::Fail, "{name}");
        }
        for name in ["cgroup_skb", "struct_ops"] {
            assert_eq!(verdict(kind(name)), Verdict::Warn, "{name}");
        }
        assert_eq!(verdict(kind("cgroup_device")), Verdict::Pass);
        assert_eq!(verdict(4711), Verdict::Fail, "what nobody knows could be anything");
    }

    #[test]
    fn kinds_have_the_kernels_numbers() {
        assert_eq!(KINDS[6].0, "xdp");
        assert_eq!(KINDS[17].0, "raw_tracepoint");
        assert_eq!(KINDS[26].0, "tracing");
        assert_eq!(KINDS[32].0, "netfilter");
    }
}
