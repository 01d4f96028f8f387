//! System calls that a gateway never makes. They are refused as if a right were lacking; everything else is allowed.

use std::ops::RangeInclusive;

use tacit_seal::bpf::{self, Demand, Instruction, Rule, Values, ranges};

/// Calls that look into other processes or watch the machine.
const WATCHING: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_syslog,
    libc::SYS_lookup_dcookie,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];

/// Calls that change the machine or its kernel.
const RULING: &[libc::c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Calls that do other calls' work out of a filter's sight, or keep bytes in the kernel.
const EVADING: &[libc::c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// Calls that make a socket or use one by a name. Descriptors that are there already still carry, and a process that is
/// started tells its parent by a pair of sockets without a name that it could not be.
const CONNECTING: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Calls that start another program, or change what a path leads to.
const LEAVING: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
];

/// What a packet socket was called before it had a family of its own.
const SOCK_PACKET: libc::c_int = 10;

/// What the starter never does. A forwarder inherits this and needs a little more than control, for its own seal.
pub(crate) fn refused_to_starter() -> Vec<Rule> {
    [WATCHING, RULING, EVADING, CONNECTING].concat().into_iter().map(any).collect()
}

/// The programs that keep control from what it never does. A program knows one rule for each call, and of sockets there
/// is more to say.
pub(crate) fn programs_for_control() -> Vec<Vec<Instruction>> {
    let refused = [refused_to_control(), vec![raw_sockets()], vec![foreign_protocols()]];
    let mut programs: Vec<_> = refused.into_iter().map(bpf::refusing).collect();
    // Its arguments are in memory, which no program can see. Who is told that there is no such call uses `clone`.
    programs.push(bpf::failing(vec![any(libc::SYS_clone3)], libc::ENOSYS));
    programs
}

/// What control never does.
fn refused_to_control() -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        [WATCHING, RULING, EVADING, LEAVING].concat().into_iter().map(any).collect();
    rules.extend([foreign_sockets(), new_namespaces()]);
    rules
}

/// Processes in namespaces of their own, in which they could have more rights than control.
fn new_namespaces() -> Rule {
    let kinds = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let bits = kinds.into_iter().fold(0, |bits, kind| bits | kind.cast_unsigned());
    let demands = vec![Demand { argument: 0, values: Values::WithAnyBit(bits) }];
    Rule { number: libc::SYS_clone as u32, demands }
}

/// Sockets that would show packets: all of the families that control has no use for, `AF_PACKET` among them.
fn foreign_sockets() -> Rule {
    let used = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    on_socket(vec![Demand { argument: 0, values: Values::Within(all_but(used)) }])
}

/// Raw sockets of the internet's families; a netlink socket may be called so too.
fn raw_sockets() -> Rule {
    let flags =
        [0, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK];
    let types = [libc::SOCK_RAW, SOCK_PACKET];
    let values = types.into_iter().flat_map(|kind| flags.map(|flag| (kind | flag).cast_unsigned()));
    on_socket(vec![
        of_the_internet(),
        Demand { argument: 1, values: Values::Within(ranges(values)) },
    ])
}

/// Sockets of the internet's families that carry something else than UDP or plain TCP, which alone Landlock knows:
/// MPTCP, SCTP and SMC connect as well.
fn foreign_protocols() -> Rule {
    let used = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
    on_socket(vec![
        of_the_internet(),
        Demand { argument: 2, values: Values::Within(all_but(used)) },
    ])
}

fn of_the_internet() -> Demand {
    let families = ranges([libc::AF_INET, libc::AF_INET6].map(i32::cast_unsigned));
    Demand { argument: 0, values: Values::Within(families) }
}

/// All values but these, which ascend.
fn all_but<const COUNT: usize>(used: [libc::c_int; COUNT]) -> Vec<RangeInclusive<u32>> {
    let (mut others, mut next) = (Vec::new(), 0);
    for value in used.map(i32::cast_unsigned) {
        if next < value {
            others.push(next..=value - 1);
        }
        next = value + 1;
    }
    others.push(next..=u32::MAX);
    others
}

fn on_socket(demands: Vec<Demand>) -> Rule {
    Rule { number: libc::SYS_socket as u32, demands }
}

fn any(call: libc::c_long) -> Rule {
    Rule { number: call as u32, demands: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        for mut rules in [refused_to_starter(), refused_to_control()] {
            rules.sort_by_key(|rule| rule.number);
            assert!(rules.windows(2).all(|pair| pair[0].number != pair[1].number));
        }
    }

    #[test]
    fn all_but_some_values_are_the_ranges_between_them() {
        assert_eq!(all_but([0, 6, 7]), [1..=5, 8..=u32::MAX]);
        assert_eq!(all_but([2]), [0..=1, 3..=u32::MAX]);
    }

    #[test]
    fn families_that_control_uses_are_no_foreign_ones() {
        let Values::Within(foreign) = &foreign_sockets().demands[0].values else { panic!() };
        let is_foreign =
            |family: i32| foreign.iter().any(|range| range.contains(&family.cast_unsigned()));
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
            assert!(!is_foreign(family), "{family}");
        }
        for family in
            [libc::AF_PACKET, libc::AF_UNSPEC, libc::AF_VSOCK, libc::AF_XDP, libc::AF_ALG, -1]
        {
            assert!(is_foreign(family), "{family}");
        }
    }
}
