//! Has the kernel run a program before each system call.

use std::io;

use crate::bpf::Instruction;

/// Has the kernel hold every thread of this process, and all that they start, to `program`, for good.
///
/// The kernel's guard against speculation across a filter (before Linux 5.16) is not asked for: it protects
/// programs that run foreign code, which this one does not, and costs dearly.
///
/// # Errors
/// What the kernel said; then no thread is held.
#[expect(unsafe_code, reason = "there is no safe binding")]
pub fn hold_to(mut program: Vec<Instruction>) -> io::Result<()> {
    if crate::is_left_out() {
        return Ok(());
    }
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program and its code are alive; the kernel copies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
