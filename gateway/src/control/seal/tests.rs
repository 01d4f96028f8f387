//! What a sealed control can do, tried from inside: each attempt is made by a child process that seals itself.

use std::{
    fs::{self, File},
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::chown,
    path::Path,
};

use libc::{c_int, c_long};
use rustix::{
    process::{Pid, WaitOptions, getgid, getgroups, getuid, waitpid},
    thread::capabilities,
};

use super::*;
use crate::host;

const USER: User = User { user: 65_528, group: 65_527 };

/// Runs `work` in a child process that is sealed as control is, with a data directory; `work` must not panic.
fn sealed(listen: &str, work: impl FnOnce(&Path)) {
    sealed_with_ports(listen, &[], work);
}

/// The same, with TCP ports that can be reached.
fn sealed_with_ports(listen: &str, ports: &[u16], work: impl FnOnce(&Path)) {
    sealed_with(listen, ports, &Database::Sqlite("store.sqlite".into()), work);
}

/// The same with a store in `database`.
fn sealed_with(listen: &str, ports: &[u16], database: &Database, work: impl FnOnce(&Path)) {
    let data_dir = tempfile::tempdir().unwrap();
    fs::write(data_dir.path().join("gateway.key"), "key").unwrap();
    for path in [data_dir.path(), &data_dir.path().join("gateway.key")] {
        chown(path, Some(USER.user), Some(USER.group)).unwrap();
    }
    in_child(|| {
        let listen = [listen.parse().unwrap()];
        let _seal = Seal::apply(USER, data_dir.path(), &listen, ports, database, &[]).unwrap();
        work(data_dir.path());
    });
}

#[expect(unsafe_code, reason = "a seal is for good, so it takes a process of its own")]
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child has this thread alone, does its work and ends without coming back.
    match unsafe { libc::fork() } {
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: nothing of the parent's is to be flushed or dropped here.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) }
        }
        child => {
            let child = Pid::from_raw(child).unwrap();
            let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0), "{status:?}");
        }
    }
}

/// Makes a system call; the arguments that are missing are 0.
#[expect(unsafe_code, reason = "forbidden system calls are made by number")]
fn call(number: c_long, arguments: &[c_long]) -> io::Result<c_long> {
    let argument = |n: usize| arguments.get(n).copied().unwrap_or_default();
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(argument);
    // SAFETY: the arguments below cannot harm this child process, even if the call were made.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[track_caller]
fn assert_refused<T>(what: &str, result: io::Result<T>, errno: c_int) {
    let error = result.err().unwrap_or_else(|| panic!("{what} was allowed"));
    assert_eq!(error.raw_os_error(), Some(errno), "{what}: {error}");
}

const fn long(flag: c_int) -> c_long {
    flag as c_long
}

#[test]
fn calls_that_watch_or_change_the_machine_are_refused() {
    let nowhere = c"/nonexistent".as_ptr() as c_long;
    let memory = [0_u8; 128].as_ptr() as c_long;
    let calls: &[(&str, c_long, &[c_long])] = &[
        ("ptrace", libc::SYS_ptrace, &[long(libc::PTRACE_TRACEME as c_int)]),
        ("process_vm_readv", libc::SYS_process_vm_readv, &[1]),
        ("process_vm_writev", libc::SYS_process_vm_writev, &[1]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, &[-1]),
        ("bpf", libc::SYS_bpf, &[-1]),
        ("perf_event_open", libc::SYS_perf_event_open, &[]),
        ("userfaultfd", libc::SYS_userfaultfd, &[1]),
        ("io_uring_setup", libc::SYS_io_uring_setup, &[1, memory]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &[-1]),
        ("add_key", libc::SYS_add_key, &[]),
        ("keyctl", libc::SYS_keyctl, &[]),
        ("init_module", libc::SYS_init_module, &[]),
        ("finit_module", libc::SYS_finit_module, &[-1]),
        ("delete_module", libc::SYS_delete_module, &[]),
        ("kexec_load", libc::SYS_kexec_load, &[]),
        ("execve", libc::SYS_execve, &[nowhere]),
        ("execveat", libc::SYS_execveat, &[-1, nowhere]),
        ("mount", libc::SYS_mount, &[]),
        ("umount2", libc::SYS_umount2, &[nowhere]),
        ("pivot_root", libc::SYS_pivot_root, &[nowhere, nowhere]),
        ("open_tree", libc::SYS_open_tree, &[-1, nowhere]),
        ("fsopen", libc::SYS_fsopen, &[nowhere]),
        ("chroot", libc::SYS_chroot, &[nowhere]),
        ("unshare", libc::SYS_unshare, &[long(libc::CLONE_NEWUSER)]),
        ("setns", libc::SYS_setns, &[-1]),
        ("syslog", libc::SYS_syslog, &[10]),
    ];
    sealed("0.0.0.0:51820", |_| {
        for (name, number, arguments) in calls {
            assert_refused(name, call(*number, arguments), libc::EPERM);
        }
    });
}

#[test]
fn sockets_that_show_packets_are_refused_and_those_that_control_uses_are_not() {
    let (cloexec, raw) = (libc::SOCK_CLOEXEC, libc::SOCK_RAW);
    let refused = [
        ("packet", libc::AF_PACKET, raw | cloexec),
        ("packet without its header", libc::AF_PACKET, libc::SOCK_DGRAM),
        ("raw IPv4", libc::AF_INET, raw),
        ("raw IPv4 that waits for nothing", libc::AF_INET, raw | cloexec | libc::SOCK_NONBLOCK),
        ("raw IPv6", libc::AF_INET6, raw | cloexec),
        ("XDP", libc::AF_XDP, raw),
        ("cipher", libc::AF_ALG, libc::SOCK_SEQPACKET),
        ("hypervisor", libc::AF_VSOCK, libc::SOCK_STREAM),
        // It has no name in libc.
        ("SMC", 43, libc::SOCK_STREAM),
    ];
    let allowed = [
        ("netlink", libc::AF_NETLINK, raw | cloexec),
        ("UDP", libc::AF_INET, libc::SOCK_DGRAM | cloexec),
        ("UDP over IPv6", libc::AF_INET6, libc::SOCK_DGRAM),
        ("Unix", libc::AF_UNIX, libc::SOCK_SEQPACKET | cloexec),
    ];
    let socket = |family, kind| call(libc::SYS_socket, &[long(family), long(kind)]);
    sealed("0.0.0.0:51820", |_| {
        for (name, family, kind) in refused {
            assert_refused(name, socket(family, kind), libc::EPERM);
        }
        for (name, family, kind) in allowed {
            assert!(socket(family, kind).is_ok(), "{name}");
        }
    });
}

#[test]
fn no_protocol_connects_that_landlock_does_not_know() {
    let (tcp, udp) = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::SOCK_DGRAM);
    // SMC over the internet's families has no name yet (Linux 6.11).
    let refused = [
        ("MPTCP", tcp, libc::IPPROTO_MPTCP),
        ("SCTP", tcp, libc::IPPROTO_SCTP),
        ("SCTP in packets", libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
        ("SMC", tcp, 256),
        ("DCCP", libc::SOCK_DCCP, libc::IPPROTO_DCCP),
        ("UDP-Lite", udp, libc::IPPROTO_UDPLITE),
        ("echo requests", udp, libc::IPPROTO_ICMP),
    ];
    let allowed = [(tcp, 0), (tcp, libc::IPPROTO_TCP), (udp, 0), (udp, libc::IPPROTO_UDP)];
    let socket = |family, kind, protocol| {
        call(libc::SYS_socket, &[long(family), long(kind), long(protocol)])
    };
    sealed("0.0.0.0:51820", |_| {
        for family in [libc::AF_INET, libc::AF_INET6] {
            for (name, kind, protocol) in refused {
                assert_refused(name, socket(family, kind, protocol), libc::EPERM);
            }
            for (kind, protocol) in allowed {
                assert!(socket(family, kind, protocol).is_ok(), "{kind} {protocol}");
            }
        }
        // Its protocols are the kernel's subsystems.
        let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER);
        assert!(netlink.is_ok());
    });
}

#[test]
fn no_process_gets_a_namespace_of_its_own_and_threads_start_as_before() {
    let memory = [0_u64; 11].as_ptr() as c_long;
    let namespaces = [
        ("mount", libc::CLONE_NEWNS),
        ("control group", libc::CLONE_NEWCGROUP),
        ("host name", libc::CLONE_NEWUTS),
        ("message", libc::CLONE_NEWIPC),
        ("user", libc::CLONE_NEWUSER),
        ("process", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("user and network", libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
    ];
    sealed("0.0.0.0:51820", |_| {
        for (name, flags) in namespaces {
            // A flag that does not go with it, so that no process would come of it.
            let flags = long(flags | libc::CLONE_SIGHAND);
            assert_refused(name, call(libc::SYS_clone, &[flags]), libc::EPERM);
        }
        assert_refused("clone3", call(libc::SYS_clone3, &[memory, 88]), libc::ENOSYS);
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    });
}

#[test]
fn files_are_the_data_directorys_and_the_hosts_network_switches() {
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    sealed("0.0.0.0:51820", |data_dir| {
        let (new, key) = (data_dir.join("host-state.json.new"), data_dir.join("gateway.key"));
        assert_eq!(fs::read_to_string(key).unwrap(), "key");
        fs::write(&new, "{}").unwrap();
        fs::rename(&new, data_dir.join("host-state.json")).unwrap();
        File::open(data_dir).unwrap().sync_all().unwrap();
        fs::remove_file(data_dir.join("host-state.json")).unwrap();
        let switch = "/proc/sys/net/ipv4/ip_forward";
        let value = fs::read_to_string(switch).unwrap();
        fs::write(switch, value).unwrap();
        assert!(fs::read_dir("/proc/sys/net/ipv4/conf").is_ok());

        assert_refused("reading", File::open("/etc/passwd"), libc::EACCES);
        assert_refused("reading itself", File::open("/proc/self/maps"), libc::EACCES);
        assert_refused("listing", fs::read_dir("/"), libc::EACCES);
        assert_refused("making", File::create(outside.path().join("log")), libc::EACCES);
        assert_refused("a switch", fs::write("/proc/sys/kernel/core_pattern", "|x"), libc::EACCES);
        let socket = std::os::unix::net::UnixListener::bind(data_dir.join("socket"));
        assert_refused("a socket's file", socket, libc::EACCES);
        let link = std::os::unix::fs::symlink("/etc", data_dir.join("link"));
        assert_refused("a link", link, libc::EACCES);
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn networks_are_udp_and_sockets_that_are_there_already() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    sealed("0.0.0.0:51820", |_| {
        assert_refused("TCP", TcpStream::connect(address), libc::EACCES);
        assert_refused("TCP", TcpListener::bind("127.0.0.1:0"), libc::EACCES);
        assert_eq!(listener.local_addr().unwrap(), address);
        UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_refused("a low port", UdpSocket::bind("127.0.0.1:443"), libc::EACCES);
        let parent = rustix::process::getppid().unwrap();
        assert!(rustix::process::test_kill_process(parent).is_err());
        assert!(host::blank_tun_devices(1).is_err(), "only the starter opens the driver");
    });
}

#[test]
fn tcp_reaches_the_ports_of_the_settings_and_no_other() {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [mail, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    sealed_with_ports("0.0.0.0:51820", &[mail.port()], |_| {
        TcpStream::connect(mail).unwrap();
        assert_refused("another port", TcpStream::connect(other), libc::EACCES);
        assert_refused("listening", TcpListener::bind("127.0.0.1:0"), libc::EACCES);
        assert_refused("names", fs::read("/etc/hosts"), libc::EACCES);
    });
}

#[test]
fn files_with_the_addresses_of_names_are_for_a_database_that_has_one() {
    let server = "postgres://tacit@db.example.org/tacit".parse().unwrap();
    let database = Database::Postgres(server);
    sealed_with("0.0.0.0:51820", &[], &database, |_| {
        assert!(fs::read("/etc/hosts").is_ok());
        assert_refused("reading", File::open("/etc/passwd"), libc::EACCES);
    });
}

#[test]
fn user_is_the_dedicated_one_with_one_capability() {
    sealed("0.0.0.0:51820", |_| {
        assert_eq!((getuid().as_raw(), getgid().as_raw()), (USER.user, USER.group));
        assert!(getgroups().unwrap().is_empty());
        let sets = capabilities(None).unwrap();
        assert_eq!(sets.effective, CapabilitySet::NET_ADMIN);
        assert_eq!(sets.permitted, CapabilitySet::NET_ADMIN);
        assert_eq!(sets.inheritable, CapabilitySet::empty());
        assert!(rights::become_user(0, 0).is_err());
    });
}

#[test]
fn low_port_takes_one_capability_more() {
    sealed("0.0.0.0:443", |_| {
        let sets = capabilities(None).unwrap();
        assert_eq!(sets.permitted, CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE);
        UdpSocket::bind("127.0.0.1:443").unwrap();
    });
}

#[test]
fn process_with_another_thread_is_not_sealed() {
    let data_dir = tempfile::tempdir().unwrap();
    in_child(|| {
        let _thread = std::thread::spawn(|| {
            loop {
                std::thread::park()
            }
        });
        let database = Database::Sqlite("store.sqlite".into());
        let error = Seal::apply(USER, data_dir.path(), &[], &[], &database, &[]).err().unwrap();
        assert_eq!(error.part, SealPart::Limits);
        assert!(getuid().is_root());
    });
}
