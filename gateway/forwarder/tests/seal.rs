//! What a sealed process can do, tried from inside: each attempt is made by a child process of its own.

#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "forbidden system calls are made by number")]

use std::{
    fs,
    hash::RandomState,
    io::IoSlice,
    mem::ManuallyDrop,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::Command,
    sync::Barrier,
    thread,
    time::Duration,
};

use libc::{c_int, c_long};
use rustix::{
    event::{EventfdFlags, eventfd},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    process::{Pid, WaitOptions, WaitStatus, waitpid},
};
use tacit_forwarder::{
    ecn::Ecn,
    seal::{Seal, USER, settle},
    syscalls::Descriptors,
    udp,
};
use tacit_messages::{UnixSeconds, clock::Instant};

/// What a child exits with if the kernel did what it was asked for.
const DONE: i32 = 0;
/// What a child exits with if it was refused.
const REFUSED: i32 = 1;
/// What a child exits with if it panicked.
const PANICKED: i32 = 101;

/// Stand-ins for what control hands to a forwarder, with their other ends.
struct Given {
    link: (OwnedFd, OwnedFd),
    tun: (OwnedFd, OwnedFd),
    udp: UdpSocket,
    wake: OwnedFd,
}

impl Given {
    fn new() -> Self {
        let pair = || {
            let flags = SocketFlags::CLOEXEC;
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair")
        };
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        udp::prepare(udp.as_fd()).expect("its options");
        let wake = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
        Self { link: pair(), tun: pair(), udp, wake }
    }

    fn descriptors(&self) -> Descriptors {
        Descriptors {
            link: self.link.0.as_raw_fd(),
            wake: self.wake.as_raw_fd(),
            tun: vec![self.tun.0.as_raw_fd()],
            udp: vec![self.udp.as_raw_fd()],
        }
    }
}

/// Runs `work` in a child process and returns how that ended.
fn in_child(work: impl FnOnce() -> i32) -> WaitStatus {
    assert!(rustix::process::geteuid().is_root(), "a seal takes root's rights: run this as root");
    // SAFETY: the child has this thread alone, does its work and ends without coming back.
    match unsafe { libc::fork() } {
        0 => {
            let work = std::panic::AssertUnwindSafe(work);
            let code = std::panic::catch_unwind(work).unwrap_or(PANICKED);
            // SAFETY: nothing of the parent's is to be flushed or dropped here.
            unsafe { libc::_exit(code) }
        }
        child => {
            let child = Pid::from_raw(child).expect("a child");
            waitpid(Some(child), WaitOptions::empty()).expect("waiting").expect("its end").1
        }
    }
}

/// Runs `work` in a child process that is sealed as a forwarder is.
fn sealed(work: impl FnOnce(&Given) -> i32) -> WaitStatus {
    in_child(|| {
        // Closing these is forbidden too, and would hide what became of `work`.
        let given = ManuallyDrop::new(Given::new());
        let seal = Seal::begin().expect("beginning the seal");
        settle();
        seal.without_rights(|| ()).expect("dropping a thread's rights");
        seal.finish(&given.descriptors()).expect("finishing the seal");
        work(&given)
    })
}

/// Makes a system call; the arguments that are missing are 0.
fn call(number: c_long, arguments: &[c_long]) -> i32 {
    let argument = |n: usize| arguments.get(n).copied().unwrap_or_default();
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(argument);
    // SAFETY: the caller gives arguments that cannot harm this child process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { REFUSED } else { DONE }
}

fn assert_killed(what: &str, status: WaitStatus) {
    assert_eq!(status.terminating_signal(), Some(libc::SIGSYS), "{what} ended with {status:?}");
}

const fn long(flag: c_int) -> c_long {
    flag as c_long
}

#[test]
fn forbidden_calls_end_the_process() {
    let path = c"/dev/null".as_ptr() as c_long;
    let word = c"destination".as_ptr() as c_long;
    let shared = c"/dev/shm/destination".as_ptr() as c_long;
    let create = long(libc::O_CREAT | libc::O_RDWR);
    let memory = [0_u8; 64].as_ptr() as c_long;
    let parent = c_long::from(rustix::process::getpid().as_raw_nonzero().get());
    let write = long(libc::PROT_READ | libc::PROT_WRITE);
    let calls: &[(&str, c_long, &[c_long])] = &[
        ("open", libc::SYS_open, &[path, long(libc::O_WRONLY)]),
        ("openat", libc::SYS_openat, &[long(libc::AT_FDCWD), path]),
        ("openat2", libc::SYS_openat2, &[long(libc::AT_FDCWD), path, memory, 24]),
        ("creat", libc::SYS_creat, &[path]),
        ("mkdir", libc::SYS_mkdir, &[word]),
        ("symlink", libc::SYS_symlink, &[word, path]),
        ("rename", libc::SYS_rename, &[path, word]),
        ("unlink", libc::SYS_unlink, &[path]),
        ("truncate", libc::SYS_truncate, &[path, 11]),
        ("setxattr", libc::SYS_setxattr, &[path, word, word, 11]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, &[long(libc::AT_FDCWD), memory]),
        ("inotify_init1", libc::SYS_inotify_init1, &[]),
        ("eventfd2", libc::SYS_eventfd2, &[11]),
        ("epoll_create1", libc::SYS_epoll_create1, &[]),
        ("timerfd_create", libc::SYS_timerfd_create, &[]),
        ("socket", libc::SYS_socket, &[long(libc::AF_INET), long(libc::SOCK_STREAM)]),
        ("packet socket", libc::SYS_socket, &[long(libc::AF_PACKET), long(libc::SOCK_RAW)]),
        ("socketpair", libc::SYS_socketpair, &[long(libc::AF_UNIX), long(libc::SOCK_STREAM)]),
        ("connect", libc::SYS_connect, &[3, memory, 16]),
        ("bind", libc::SYS_bind, &[3, memory, 16]),
        ("listen", libc::SYS_listen, &[3]),
        ("setsockopt", libc::SYS_setsockopt, &[3]),
        ("ioctl", libc::SYS_ioctl, &[3]),
        ("dup", libc::SYS_dup, &[3]),
        ("dup2", libc::SYS_dup2, &[3, 1]),
        ("fcntl", libc::SYS_fcntl, &[3, long(libc::F_DUPFD)]),
        ("pipe", libc::SYS_pipe, &[memory]),
        ("execve", libc::SYS_execve, &[path]),
        ("execveat", libc::SYS_execveat, &[long(libc::AT_FDCWD), path]),
        ("fork", libc::SYS_fork, &[]),
        ("vfork", libc::SYS_vfork, &[]),
        ("clone", libc::SYS_clone, &[long(libc::SIGCHLD)]),
        ("clone3", libc::SYS_clone3, &[memory, 64]),
        ("ptrace", libc::SYS_ptrace, &[long(libc::PTRACE_TRACEME as c_int)]),
        ("ptrace of control", libc::SYS_ptrace, &[long(libc::PTRACE_ATTACH as c_int), parent]),
        ("process_madvise", libc::SYS_process_madvise, &[3, memory, 1, 4]),
        ("process_vm_readv", libc::SYS_process_vm_readv, &[parent]),
        ("process_vm_writev", libc::SYS_process_vm_writev, &[parent]),
        ("pidfd_open", libc::SYS_pidfd_open, &[parent]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, &[3, 1]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[3, long(libc::SIGUSR1)]),
        ("kill", libc::SYS_kill, &[parent]),
        ("tgkill", libc::SYS_tgkill, &[parent, parent]),
        ("io_uring_setup", libc::SYS_io_uring_setup, &[8, memory]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &[3]),
        ("memfd_create", libc::SYS_memfd_create, &[word]),
        ("memfd_secret", libc::SYS_memfd_secret, &[]),
        ("shm_open", libc::SYS_openat, &[long(libc::AT_FDCWD), shared, create, 0o600]),
        ("shmget", libc::SYS_shmget, &[0, 4096, 0o1666]),
        ("shmat", libc::SYS_shmat, &[0]),
        ("msgget", libc::SYS_msgget, &[0, 0o1666]),
        ("msgsnd", libc::SYS_msgsnd, &[0, memory, 11]),
        ("semget", libc::SYS_semget, &[0, 1, 0o1666]),
        ("mq_open", libc::SYS_mq_open, &[word, long(libc::O_CREAT | libc::O_WRONLY)]),
        (
            "shared memory",
            libc::SYS_mmap,
            &[0, 4096, write, long(libc::MAP_SHARED | libc::MAP_ANONYMOUS)],
        ),
        (
            "executable memory",
            libc::SYS_mmap,
            &[0, 4096, 7, long(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)],
        ),
        ("mprotect", libc::SYS_mprotect, &[0, 0, 7]),
        ("mremap", libc::SYS_mremap, &[memory, 64, 4096, 1]),
        ("splice", libc::SYS_splice, &[3]),
        ("vmsplice", libc::SYS_vmsplice, &[3, memory, 1]),
        ("sendfile", libc::SYS_sendfile, &[3, 3]),
        ("pwrite64", libc::SYS_pwrite64, &[3, word, 11]),
        ("sendmmsg", libc::SYS_sendmmsg, &[3]),
        ("recvmsg", libc::SYS_recvmsg, &[3]),
        ("bpf", libc::SYS_bpf, &[]),
        ("perf_event_open", libc::SYS_perf_event_open, &[memory]),
        ("userfaultfd", libc::SYS_userfaultfd, &[]),
        ("add_key", libc::SYS_add_key, &[word, word, word, 11, -3]),
        ("keyctl", libc::SYS_keyctl, &[1, word]),
        ("syslog", libc::SYS_syslog, &[]),
        ("unshare", libc::SYS_unshare, &[long(libc::CLONE_NEWUSER)]),
        ("mount", libc::SYS_mount, &[path, path]),
        ("chroot", libc::SYS_chroot, &[path]),
        ("setuid", libc::SYS_setuid, &[0]),
        ("prctl", libc::SYS_prctl, &[long(libc::PR_SET_DUMPABLE), 1]),
        ("its name", libc::SYS_prctl, &[long(libc::PR_SET_NAME), word]),
        ("setpriority", libc::SYS_setpriority, &[0, 0, 11]),
        ("sched_setaffinity", libc::SYS_sched_setaffinity, &[0, 8, memory]),
        ("sethostname", libc::SYS_sethostname, &[word, 11]),
        ("clock_settime", libc::SYS_clock_settime, &[0, memory]),
        ("setrlimit", libc::SYS_setrlimit, &[4, memory]),
        ("prlimit64", libc::SYS_prlimit64, &[parent, 4]),
        ("seccomp", libc::SYS_seccomp, &[]),
        ("init_module", libc::SYS_init_module, &[memory, 64, word]),
        ("a number that no call has", 4_000, &[]),
    ];
    for (name, number, arguments) in calls {
        assert_killed(name, sealed(|_| call(*number, arguments)));
    }
}

#[test]
fn bytes_leave_by_the_calls_meant_for_a_descriptor_only() {
    type Choice = fn(&Given) -> &OwnedFd;
    let (bytes, len) = (c"destination".as_ptr() as c_long, 11);
    let link: Choice = |given| &given.link.0;
    let tun: Choice = |given| &given.tun.0;
    let attempts: &[(&str, c_long, Choice)] = &[
        ("write to the link", libc::SYS_write, link),
        ("writev to the link", libc::SYS_writev, link),
        ("sendmsg to the link", libc::SYS_sendmsg, link),
        ("write to the tunnel", libc::SYS_write, tun),
        ("sendto on the tunnel", libc::SYS_sendto, tun),
        ("sendmsg on the tunnel", libc::SYS_sendmsg, tun),
        ("close the tunnel", libc::SYS_close, tun),
        ("writev to the eventfd", libc::SYS_writev, |given| &given.wake),
    ];
    for (name, number, choice) in attempts {
        let attempt = |given: &Given| {
            let descriptor = c_long::from(choice(given).as_raw_fd());
            call(*number, &[descriptor, bytes, len])
        };
        assert_killed(name, sealed(attempt));
    }
    for descriptor in [0, 1, 2, 100, -1] {
        for number in [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg] {
            let what = format!("call {number} on descriptor {descriptor}");
            assert_killed(&what, sealed(|_| call(number, &[descriptor, bytes, len])));
        }
    }
    assert_killed(
        "write to UDP",
        sealed(|given| call(libc::SYS_write, &[given.udp.as_raw_fd().into()])),
    );
}

#[test]
fn link_to_control_can_be_closed_at_the_end() {
    let status = sealed(|given| {
        // SAFETY: nobody closes it again.
        drop(unsafe { OwnedFd::from_raw_fd(given.link.0.as_raw_fd()) });
        DONE
    });
    assert_eq!(status.exit_status(), Some(DONE), "{status:?}");
}

#[test]
fn other_threads_are_held_too() {
    let status = in_child(|| {
        let given = ManuallyDrop::new(Given::new());
        let seal = Seal::begin().expect("beginning the seal");
        let gate: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
        let thread = move || {
            // A thread that starts needs memory, which cannot be had later.
            gate.wait();
            gate.wait();
            call(libc::SYS_getuid, &[]);
            gate.wait();
        };
        seal.without_rights(|| thread::spawn(thread)).expect("dropping a thread's rights");
        gate.wait();
        seal.finish(&given.descriptors()).expect("finishing the seal");
        gate.wait();
        gate.wait();
        DONE
    });
    assert_killed("a thread's call", status);
}

/// Does what a worker and the coordinator do: carries something over every descriptor, waits, reads clocks.
///
/// It does not need memory: here, unlike in a forwarder, the test's threads have heaps of their own.
fn work(given: &Given, to: SocketAddr, batch: &mut udp::Batch) -> i32 {
    let (tun, udp) = (given.tun.0.as_fd(), given.udp.as_fd());
    tacit_forwarder::tun::write(tun, &[IoSlice::new(b"head"), IoSlice::new(b"er")])
        .expect("writev");
    assert!(tacit_forwarder::tun::read(tun, &mut [0; 9]).is_err());
    udp::send_train(udp, to, Ecn::Ect0, 2, b"abcd").expect("sendmsg");
    batch.receive(udp).expect("recvmmsg");
    send(&given.link.0, b"message", SendFlags::NOSIGNAL).expect("sendto");
    assert!(recv(&given.link.0, &mut [0; 9][..], RecvFlags::DONTWAIT).is_err());
    rustix::io::write(&given.wake, &1_u64.to_ne_bytes()).expect("write");
    rustix::io::read(&given.wake, &mut [0; 8]).expect("read");

    thread::sleep(Duration::from_micros(50));
    let _ = (Instant::now(), UnixSeconds::now(), RandomState::new());
    DONE
}

/// Seals the process and has another thread do its work and end the process.
fn carry(given: &'static Given, to: SocketAddr) -> ! {
    let seal = Seal::begin().expect("beginning the seal");
    settle();
    let gate: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    let mut batch = udp::Batch::default();
    let worker = move || {
        settle();
        gate.wait();
        gate.wait();
        let code = work(given, to, &mut batch);
        // SAFETY: the process is over, with nothing left to do.
        unsafe { libc::_exit(code) }
    };
    seal.without_rights(|| thread::spawn(worker)).expect("dropping a thread's rights");
    gate.wait();
    seal.finish(&given.descriptors()).expect("finishing the seal");
    gate.wait();
    loop {
        thread::park();
    }
}

#[test]
fn what_packets_need_still_works() {
    // The other ends stay open here.
    let given: &'static Given = Box::leak(Box::new(Given::new()));
    rustix::io::ioctl_fionbio(&given.tun.0, true).expect("not to wait");
    let to = given.udp.local_addr().expect("an address");
    let status = in_child(|| carry(given, to));
    assert_eq!(status.exit_status(), Some(DONE), "{status:?}");
    for (end, bytes) in [(&given.tun.1, "header"), (&given.link.1, "message")] {
        let mut received = [0; 9];
        let (len, _) = recv(end, &mut received[..], RecvFlags::DONTWAIT).expect("what was sent");
        assert_eq!(&received[..len], bytes.as_bytes());
    }
}

#[test]
fn rights_are_gone_even_without_the_filter() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let parent = rustix::process::getpid();
    let status = in_child(|| {
        let seal = Seal::begin().expect("beginning the seal");
        let refused = seal.without_rights(|| {
            assert_eq!(rustix::process::getuid().as_raw(), USER);
            assert_eq!(rustix::process::getgid().as_raw(), USER);
            assert!(rustix::process::getgroups().expect("groups").is_empty());
            assert!(fs::File::open("/etc/passwd").is_err());
            assert!(fs::read_dir("/").is_err(), "Landlock denies even the empty root");
            assert!(!Path::new("/proc/self").exists());
            assert!(TcpStream::connect(address).is_err());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
            assert!(rustix::process::test_kill_process(parent).is_err());
            assert!(Command::new("/bin/true").status().is_err());
            assert!(fs::write("/trace", "destination").is_err());
            REFUSED
        });
        refused.expect("dropping a thread's rights")
    });
    assert_eq!(status.exit_status(), Some(REFUSED), "{status:?}");
}

#[test]
fn part_that_cannot_be_applied_is_named() {
    let status = in_child(|| {
        let given = Given::new();
        let seal = Seal::begin().expect("beginning the seal");
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Memlock, none).expect("a limit");
        let mut sets = rustix::thread::capabilities(None).expect("capabilities");
        sets.effective -= rustix::thread::CapabilitySet::IPC_LOCK;
        rustix::thread::set_capabilities(None, sets).expect("one capability less");
        let failure = seal.finish(&given.descriptors()).expect_err("memory that cannot be locked");
        assert_eq!(failure.part, tacit_messages::SealPart::Memory);
        REFUSED
    });
    assert_eq!(status.exit_status(), Some(REFUSED), "{status:?}");
}
