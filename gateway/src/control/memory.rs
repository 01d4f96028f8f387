//! Gives back to the system what control needs for a moment only, such as the memory that hashing a password takes.

/// Blocks from this size on are the system's own, and go back to it when they are freed.
const LARGE: i32 = 1 << 20;

/// Sets that up for the process. Without it the first large block that is freed would make all later ones stay.
#[expect(unsafe_code, reason = "mallopt has no safe binding")]
pub(super) fn give_back_large_blocks() {
    // SAFETY: it changes how blocks are taken from now on, and touches none.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}
