//! No gateway without its seals: the kernel refuses one call that a seal is made of, to one of the processes, and the
//! gateway does not start, says which part that was and why, and leaves nothing behind.

use libc::{EOPNOTSUPP, EPERM, c_int, c_long};
use tacit_tests::{Gateway, Lab, refusal::Refusal};

/// A call, the argument that tells it from harmless ones, and the part of the seal that it belongs to.
type Case = (c_long, Option<(usize, u64)>, &'static str);

const DUMPS: &str = "keeping memory out of dumps";
const MEMORY: &str = "locking memory";
const NAMESPACES: &str = "entering empty namespaces";
const CAPABILITIES: &str = "dropping capabilities";
const BECOMING: &str = "becoming an unprivileged user";
const LANDLOCK: &str = "denying files and networks with Landlock";
const LIMITS: &str = "setting resource limits";
const DESCRIPTORS: &str = "closing other descriptors";
const SYSTEM_CALLS: &str = "filtering system calls";

/// A call with any arguments.
const fn any(call: c_long, part: &'static str) -> Case {
    (call, None, part)
}

/// What `prctl` sets.
const fn setting(option: c_int, part: &'static str) -> Case {
    (libc::SYS_prctl, Some((0, option as u64)), part)
}

/// A limit that is set.
const fn limit(resource: u32, part: &'static str) -> Case {
    (libc::SYS_prlimit64, Some((1, resource as u64)), part)
}

/// What all three processes do to themselves.
const OF_ALL: [Case; 9] = [
    setting(libc::PR_SET_NO_NEW_PRIVS, CAPABILITIES),
    setting(libc::PR_CAPBSET_DROP, CAPABILITIES),
    setting(libc::PR_CAP_AMBIENT, CAPABILITIES),
    any(libc::SYS_capset, CAPABILITIES),
    any(libc::SYS_setgroups, BECOMING),
    limit(libc::RLIMIT_CORE, DUMPS),
    setting(libc::PR_SET_DUMPABLE, DUMPS),
    any(libc::SYS_landlock_restrict_self, LANDLOCK),
    any(libc::SYS_seccomp, SYSTEM_CALLS),
];

/// What control and the forwarder do, which the starter does not: it stays root, and has files.
const OF_THE_UNPRIVILEGED: [Case; 4] = [
    any(libc::SYS_setresgid, BECOMING),
    any(libc::SYS_setresuid, BECOMING),
    setting(libc::PR_SET_KEEPCAPS, BECOMING),
    any(libc::SYS_landlock_create_ruleset, LANDLOCK),
];

/// What the forwarder alone does.
const OF_THE_FORWARDER: [Case; 11] = [
    (libc::SYS_madvise, Some((2, libc::MADV_DONTDUMP as u64)), DUMPS),
    any(libc::SYS_mlockall, MEMORY),
    any(libc::SYS_unshare, NAMESPACES),
    any(libc::SYS_mount, NAMESPACES),
    any(libc::SYS_pivot_root, NAMESPACES),
    any(libc::SYS_umount2, NAMESPACES),
    any(libc::SYS_chdir, NAMESPACES),
    any(libc::SYS_close_range, DESCRIPTORS),
    limit(libc::RLIMIT_NPROC, LIMITS),
    limit(libc::RLIMIT_FSIZE, LIMITS),
    limit(libc::RLIMIT_NOFILE, LIMITS),
];

/// Starts a gateway with each case refused to the process of that name, which the error calls `called`.
fn none_starts_without(process: &'static str, called: &str, cases: &[Case]) {
    let lab = Lab::new(0);
    let gateway = Gateway::stopped(&lab, "gateway", &[]);
    for (call, argument, part) in cases {
        let refusal = Refusal { process, call: *call, argument: *argument, errno: EPERM };
        let (output, times) = refusal.run(&lab.gateway, gateway.command());
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{refusal:?}: {said}");
        assert!(times > 0, "{what}");
        assert_eq!(output.status.code(), Some(1), "{what}");
        // Without its first call Landlock counts as missing.
        let without = [libc::SYS_landlock_create_ruleset].contains(call);
        let why = std::io::Error::from_raw_os_error(if without { EOPNOTSUPP } else { EPERM });
        assert!(
            said.contains(&format!("{called} cannot be sealed: {part} failed: {why}")),
            "{what}"
        );
        assert_eq!(said.trim().lines().count(), 1, "{what}");
        assert!(!lab.gateway.sh("ip link").contains("tacit0"), "{what}");
        assert!(!gateway.socket().exists(), "{what}");
        assert_eq!(lab.gateway.sh("nft list ruleset"), "", "{what}");
    }
}

#[test]
fn gateway_does_not_start_without_any_part_of_the_forwarders_seal() {
    let cases = [&OF_ALL[..], &OF_THE_UNPRIVILEGED, &OF_THE_FORWARDER].concat();
    none_starts_without("tacit-forwarder", "the forwarder", &cases);
}

#[test]
fn gateway_does_not_start_without_a_process_namespace_for_the_forwarder() {
    none_starts_without("tacit-starter", "the forwarder", &[any(libc::SYS_unshare, NAMESPACES)]);
}

#[test]
fn gateway_does_not_start_without_any_part_of_controls_seal() {
    none_starts_without("tacit", "control", &[&OF_ALL[..], &OF_THE_UNPRIVILEGED].concat());
}

#[test]
fn gateway_does_not_start_without_any_part_of_the_starters_seal() {
    none_starts_without("tacit-starter", "the starter", &OF_ALL);
}
