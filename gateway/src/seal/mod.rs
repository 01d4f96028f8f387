//! The seals of the two processes that see no packet, as far as they are alike. What each of them may still do stands
//! with the process: `control/seal.rs` and `starter/seal.rs`; the forwarder's is in the forwarder's crate.

pub(crate) mod calls;

use std::{fs, io, thread, time::Duration};

use landlock::{AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
};
use tacit_messages::SealPart;
use tacit_seal::Failure;

/// A process that could not be sealed, so that the gateway must not start.
#[derive(Debug, thiserror::Error)]
#[error("{process} cannot be sealed: {} failed: {error}; {}", part.name(), remedy(*part))]
pub(crate) struct SealError {
    /// The process.
    pub(crate) process: &'static str,
    /// The part that could not be applied.
    pub(crate) part: SealPart,
    /// What the kernel said.
    pub(crate) error: io::Error,
}

impl SealError {
    /// The failure of `process`.
    pub(crate) fn new(process: &'static str, failure: Failure) -> Self {
        Self { process, part: failure.part, error: failure.errno.into() }
    }
}

/// What an operator can do about a part of a seal that could not be applied.
fn remedy(part: SealPart) -> &'static str {
    match part {
        SealPart::Memory => {
            "lift the limit on locked memory (systemd: LimitMEMLOCK=infinity, Docker: --ulimit memlock=-1)"
        }
        SealPart::Landlock => {
            "use Linux 5.13 or later with Landlock on (the kernel's `lsm=` parameter must name it)"
        }
        SealPart::Capabilities => "let the gateway have CAP_SETPCAP",
        SealPart::User => "let the gateway have CAP_SETUID, CAP_SETGID and 65536 user numbers",
        SealPart::Namespaces => {
            "let the gateway unshare and mount, or take CAP_SYS_ADMIN from it altogether"
        }
        SealPart::Dumps | SealPart::Limits | SealPart::Descriptors => {
            "mount /proc, use Linux 5.11 or later"
        }
        SealPart::SystemCalls => "use a kernel with seccomp filters",
    }
}

/// Leaves no memory of this process to a core dump, not even to one that a pipe takes whatever the limit.
///
/// The kernel says so by a file in `/proc`, which another user than the present one cannot write, nor Landlock's.
pub(crate) fn empty_dumps() -> rustix::io::Result<()> {
    fs::write("/proc/self/coredump_filter", "0").map_err(tacit_seal::errno)
}

/// Makes no core file of this process, and lets nobody of the same user look into it.
pub(crate) fn keep_out_of_dumps() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A change of user sets it anew, so this comes after.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// How long a thread whose work is done may take to be gone.
const THREADS_GO_WITHIN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(1);

/// Waits until the calling thread is the only one: rights are a thread's own, so another one would keep its own.
pub(crate) fn be_alone() -> rustix::io::Result<()> {
    for _ in 0..THREADS_GO_WITHIN.as_millis() / POLL.as_millis() {
        if fs::read_dir("/proc/self/task").map_err(tacit_seal::errno)?.count() == 1 {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Err(Errno::BUSY)
}

/// A ruleset that takes TCP, other processes' abstract sockets and signals to them, as far as the kernel can.
///
/// UDP is left out, which a gateway needs.
pub(crate) fn without_networks(ruleset: Ruleset) -> Result<Ruleset, RulesetError> {
    ruleset
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
}
