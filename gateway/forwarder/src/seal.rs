//! Takes everything from the forwarder that packets do not need, before it reads the first one.
//!
//! 1. [`Seal::begin`]: memory for the forwarder's whole life, none of it in dumps; empty namespaces.
//! 2. [`Seal::without_rights`] starts the threads, which do what threads do once ([`settle`]) and wait. They never
//!    have a right: no capability, an unprivileged user, no file by Landlock.
//! 3. [`Seal::finish`]: all memory locked; the calling thread's rights dropped too; no process, file or descriptor
//!    more; and for every thread at once, the system calls of [`crate::syscalls`] alone.
//!
//! What cannot be applied is a [`Failure`], after which the forwarder must not go on.

use std::{
    ffi::c_void,
    fs::{self, File},
    hash::RandomState,
    hint::black_box,
    io::{self, Read},
    ops::RangeInclusive,
    os::fd::RawFd,
    ptr, thread,
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    Scope,
};
use rustix::{
    io::Errno,
    mm::{Advice, MlockAllFlags, madvise, mlockall},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    process::{
        DumpableBehavior, Resource, Rlimit, chdir, getrlimit, pivot_root, set_dumpable_behavior,
        setrlimit,
    },
    system::sysinfo,
    thread::{CapabilitySet, UnshareFlags, capabilities, set_no_new_privs, unshare_unsafe},
};
use tacit_messages::{SealPart, UnixSeconds, clock::Instant};
use tacit_seal::{Failure, apply, errno, landlock_error, rights};

use crate::syscalls::{self, Descriptors};

/// User and group of a sealed forwarder.
///
/// It needs no name, so that it is the same on every host and in every container; it lies outside of what Debian
/// and systemd give out, and is not `nobody`, whom others use.
pub const USER: u32 = 65_529;

/// A seal that has been begun.
pub struct Seal {
    /// Tells where memory is; it can no longer be opened.
    memory_map: File,
}

impl Seal {
    /// Takes what is the whole process's. To be called by its only thread.
    ///
    /// # Errors
    /// [`Failure`] with the first part that the kernel refused.
    pub fn begin() -> Result<Self, Failure> {
        let memory_map = apply(SealPart::Dumps, keep_out_of_dumps)?;
        if tacit_seal::is_left_out() {
            return Ok(Self { memory_map });
        }
        apply(SealPart::Memory, reserve_memory)?;
        apply(SealPart::Namespaces, enter_namespaces)?;
        Ok(Self { memory_map })
    }

    /// Does `work` on a thread without rights, which threads that it starts inherit.
    ///
    /// # Errors
    /// [`Failure`] with the first part that the kernel refused.
    pub fn without_rights<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let work = || drop_rights().map(|()| work());
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Takes what is left. No thread may have read from a TUN queue or UDP socket yet, and memory is what it is
    /// now: none can be had later but from the heap that was reserved.
    ///
    /// # Errors
    /// [`Failure`] with the first part that the kernel refused.
    pub fn finish(mut self, descriptors: &Descriptors) -> Result<(), Failure> {
        if tacit_seal::is_left_out() {
            return Ok(());
        }
        apply(SealPart::Memory, lock_memory)?;
        drop_rights()?;
        // A change of user sets it anew, so this comes after.
        apply(SealPart::Dumps, || set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
        apply(SealPart::Dumps, || mark_undumpable(&mut self.memory_map))?;
        drop(self);
        apply(SealPart::Descriptors, || close_all_but(descriptors))?;
        apply(SealPart::Limits, || limit(descriptors))?;
        apply(SealPart::SystemCalls, || syscalls::hold_to(descriptors).map_err(errno))
    }
}

/// Takes every right from the calling thread.
fn drop_rights() -> Result<(), Failure> {
    if tacit_seal::is_left_out() {
        return Ok(());
    }
    apply(SealPart::Capabilities, || set_no_new_privs(true))?;
    apply(SealPart::Capabilities, || rights::bound(CapabilitySet::empty()))?;
    apply(SealPart::User, || rights::become_user(USER, USER))?;
    apply(SealPart::Capabilities, || rights::keep_only(CapabilitySet::empty()))?;
    apply(SealPart::Landlock, deny_files_and_networks)
}

/// Does what libraries do once, and need system calls for that are about to be taken. For every thread.
pub fn settle() {
    // Reading a clock without a system call begins with looking for the code that does.
    let _ = (Instant::now(), UnixSeconds::now());
    // Randomness without a system call (glibc 2.41) sets memory up, for each thread.
    drop(RandomState::new());
}

/// Leaves no kind of memory, be it mapped now or later, to a core dump.
fn keep_out_of_dumps() -> rustix::io::Result<File> {
    setrlimit(Resource::Core, at_most(0))?;
    fs::write("/proc/self/coredump_filter", "0").map_err(errno)?;
    File::open("/proc/self/maps").map_err(errno)
}

/// The least heap that a forwarder can work with.
const LEAST_HEAP: usize = 64 << 20;
/// Stack that the calling thread may use later.
const STACK: usize = 512 << 10;

/// Makes heap and stack as large as they can become: memory that is locked cannot grow without rights.
///
/// The heap takes half of the machine's memory, in addresses; only what is used takes memory.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no safe binding")]
fn reserve_memory() -> rustix::io::Result<()> {
    reserve_stack();
    // SAFETY: these are settings of the allocator: one heap for all threads, for blocks of every size, which never
    // shrinks. Other heaps are mapped in time of need, and to shrink them a file is read.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
    let system = sysinfo();
    let mut heap = system.totalram as usize * system.mem_unit as usize / 2;
    while !has_room_for(heap) {
        if heap < LEAST_HEAP {
            return Err(Errno::NOMEM);
        }
        heap /= 2;
    }
    Ok(())
}

/// Not inlined, or all that the caller does later would lie below what is reserved here.
#[inline(never)]
fn reserve_stack() {
    black_box(&mut [0_u8; STACK]);
}

/// Whether the heap can grow by `size` bytes; it does, and keeps them.
///
/// The program's own allocator is not asked, which would overwrite all of it afterwards.
#[expect(unsafe_code, reason = "malloc has no safe binding")]
fn has_room_for(size: usize) -> bool {
    // SAFETY: the block is freed at once, and not used.
    unsafe {
        let room = black_box(libc::malloc(size));
        libc::free(room);
        !room.is_null()
    }
}

#[cfg(not(target_env = "gnu"))]
compile_error!("how to reserve a heap is known for glibc only");

/// Locks pages as they come into use, so that memory that is never touched costs nothing.
fn lock_memory() -> rustix::io::Result<()> {
    let maximum = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum })?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}

/// Moves to an empty root directory and a network without interfaces; open sockets and TUN queues stay theirs.
///
/// Only with CAP_SYS_ADMIN: a container that does not have it has namespaces of its own already, and nothing in
/// them can be reached through the rest of the seal.
#[expect(unsafe_code, reason = "rustix marks every unshare unsafe")]
fn enter_namespaces() -> rustix::io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: descriptors stay shared, and there is no other thread yet.
    unsafe { unshare_unsafe(namespaces) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // A directory that is there on every host; this mount is in the new namespace only.
    mount("tmpfs", "/proc", "tmpfs", flags, c"size=4k,nr_inodes=1,mode=0555")?;
    chdir("/proc")?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// Denies every path, TCP, other processes' abstract sockets and signals to them, as far as the kernel can.
///
/// A kernel without Landlock is refused. UDP is left out, which sockets that are open already need.
fn deny_files_and_networks() -> rustix::io::Result<()> {
    let ruleset = || -> Result<(), RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V9))?
            .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()?
            .restrict_self()?;
        Ok(())
    };
    ruleset().map_err(|error| landlock_error::errno(&error))
}

/// Marks what can be written to, as it is mapped now: for who dumps from outside.
fn mark_undumpable(memory_map: &mut File) -> rustix::io::Result<()> {
    let mut text = String::new();
    memory_map.read_to_string(&mut text).map_err(errno)?;
    text.lines().filter_map(writable).try_for_each(|range| exclude_from_dumps(&range))
}

/// The addresses of a line of `/proc/PID/maps`, if what is there can be written to.
fn writable(line: &str) -> Option<RangeInclusive<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    words.next()?.contains('w').then_some(address(from)?..=address(to)? - 1)
}

#[expect(unsafe_code, reason = "madvise takes a pointer")]
fn exclude_from_dumps(range: &RangeInclusive<usize>) -> rustix::io::Result<()> {
    let start: *mut c_void = ptr::with_exposed_provenance_mut(*range.start());
    let len = range.end() - range.start() + 1;
    // SAFETY: this advice changes what a dump holds, never the memory.
    match unsafe { madvise(start, len, Advice::LinuxDontDump) } {
        // What was unmapped since needs no mark.
        Err(Errno::NOMEM) => Ok(()),
        result => result,
    }
}

fn close_all_but(descriptors: &Descriptors) -> rustix::io::Result<()> {
    let mut kept: Vec<RawFd> = descriptors.all().collect();
    kept.sort_unstable();
    let mut first = 0;
    for descriptor in kept {
        if first < descriptor {
            close_range(first.cast_unsigned(), descriptor.cast_unsigned() - 1)?;
        }
        first = descriptor + 1;
    }
    close_range(first.cast_unsigned(), u32::MAX)
}

#[expect(unsafe_code, reason = "nothing safe closes descriptors that it does not own")]
fn close_range(first: u32, last: u32) -> rustix::io::Result<()> {
    // SAFETY: nothing in this process uses a descriptor that is not in `Descriptors`.
    match unsafe { libc::close_range(first, last, 0) } {
        0 => Ok(()),
        _ => Err(errno(io::Error::last_os_error())),
    }
}

/// Allows no process, no file content and no descriptor but those that are open.
fn limit(descriptors: &Descriptors) -> rustix::io::Result<()> {
    let descriptors = descriptors.all().max().map_or(0, |highest| highest + 1);
    setrlimit(Resource::Nproc, at_most(0))?;
    setrlimit(Resource::Fsize, at_most(0))?;
    setrlimit(Resource::Nofile, at_most(u64::from(descriptors.cast_unsigned())))
}

const fn at_most(limit: u64) -> Rlimit {
    Rlimit { current: Some(limit), maximum: Some(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_memory_is_marked() {
        assert_eq!(writable("1000-3000 rw-p 00000000 00:00 0  [heap]"), Some(0x1000..=0x2fff));
        assert_eq!(writable("1000-3000 r-xp 00000000 fe:01 9  /usr/bin/tacit"), None);
        assert_eq!(writable(""), None);
    }
}
