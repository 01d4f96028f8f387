//! What somebody would try who has taken the forwarder over. Only in a test build (feature `misbehave`), which shows
//! that each attempt is refused, ends the process, or is flagged by control.
//!
//! The attempt is named by the variable `TACIT_MISBEHAVE` and made by the sealed process once a session has begun.

#![expect(unsafe_code, reason = "forbidden system calls are made by number")]

use std::net::Ipv4Addr;

use libc::c_long;
use tacit_messages::{ConnectingIp, DeviceId, FromForwarder, Totals, UnixSeconds};

/// The attempt after which the forwarder goes on, but reads nothing that control tells it.
pub const DEAF: &str = "deaf";

/// What is to be smuggled out.
const LOG: [u8; 32] = *b"198.51.100.7:443 for 4711 bytes.";

/// The attempt that the variable names, read while the process may still read it.
#[must_use]
pub fn attempt() -> Option<String> {
    std::env::var("TACIT_MISBEHAVE").ok()
}

/// Makes an attempt with system calls, or returns the messages of one that needs none.
///
/// # Panics
/// If there is no such attempt.
#[must_use]
pub fn make(attempt: &str, device: DeviceId) -> Vec<FromForwarder> {
    match attempt {
        "session burst" => (0..50).flat_map(|n| session(device, n)).collect(),
        "session of a stranger" => session(DeviceId(device.0 + 1), 1)[1..].to_vec(),
        "question burst" => vec![FromForwarder::WhoIs { public_key: LOG }; 10_000],
        // Control answers each, which the coordinator leaves unread.
        DEAF => vec![FromForwarder::WhoIs { public_key: LOG }; 3_000],
        "move while nobody leaves" => {
            let receiver_index = u32::from_be_bytes([198, 51, 100, 7]);
            vec![FromForwarder::Moving {
                device,
                receiver_index,
                silent_seconds: 0,
                by_former_key: false,
            }]
        }
        "totals burst" => vec![FromForwarder::Totals(Box::new(counters())); 1_000],
        _ => {
            let (number, arguments) = call(attempt);
            let [a, b, c, d] = arguments;
            // SAFETY: the arguments lead to constants only, and the process does not outlive the call.
            unsafe { libc::syscall(number, a, b, c, d) };
            Vec::new()
        }
    }
}

/// A session that says something by the address it is from.
fn session(device: DeviceId, octet: u8) -> [FromForwarder; 2] {
    let connecting_ip = ConnectingIp::new(Ipv4Addr::new(198, 51, 100, octet).into());
    [
        FromForwarder::SessionEnded { device, last_seen_at: UnixSeconds::now() },
        FromForwarder::SessionBegan { device, connecting_ip, at: UnixSeconds::now() },
    ]
}

/// Counters that are no counters.
fn counters() -> Totals {
    Totals { inbound_bytes: u64::from_be_bytes(*b"destinat"), ..Totals::default() }
}

/// The system call of an attempt.
fn call(attempt: &str) -> (c_long, [c_long; 4]) {
    let file = c"/tmp/destination".as_ptr() as c_long;
    let shared = c"/dev/shm/destination".as_ptr() as c_long;
    let word = LOG.as_ptr() as c_long;
    let create = c_long::from(libc::O_CREAT | libc::O_WRONLY);
    let here = c_long::from(libc::AT_FDCWD);
    match attempt {
        "open" => (libc::SYS_openat, [here, file, create, 0o600]),
        "shm_open" => (libc::SYS_openat, [here, shared, create, 0o600]),
        "shmget" => (libc::SYS_shmget, [0, 4096, 0o1666, 0]),
        "memfd" => (libc::SYS_memfd_create, [file, 0, 0, 0]),
        "socket" => (libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0]),
        "connect" => (libc::SYS_connect, [3, word, 16, 0]),
        "write to stderr" => (libc::SYS_write, [2, word, 32, 0]),
        "write to the tunnel" => (libc::SYS_write, [4, word, 32, 0]),
        "exec" => (libc::SYS_execve, [file, 0, 0, 0]),
        "fork" => (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]),
        "ptrace" => (libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0]),
        "process_vm_readv" => (libc::SYS_process_vm_readv, [1, word, 1, word]),
        "io_uring" => (libc::SYS_io_uring_setup, [8, word, 0, 0]),
        "executable memory" => (libc::SYS_mmap, [0, 4096, 7, 0x22]),
        "kill" => (libc::SYS_kill, [1, libc::SIGKILL.into(), 0, 0]),
        "dumpable" => (libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]),
        "setuid" => (libc::SYS_setuid, [0, 0, 0, 0]),
        "bpf" => (libc::SYS_bpf, [0, word, 32, 0]),
        "perf" => (libc::SYS_perf_event_open, [word, 0, -1, -1]),
        _ => panic!("there is no such attempt"),
    }
}
