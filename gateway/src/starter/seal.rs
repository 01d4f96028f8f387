//! Takes everything from the starter that starting a forwarder does not need, before it hears from control.
//!
//! A forwarder inherits what is taken here, so its own seal must still find what it needs: capabilities, and with
//! CAP_SYS_ADMIN the right to mount. A process that Landlock denies a single file may not mount, so files are denied
//! only where there is no CAP_SYS_ADMIN, which is to say nothing is mounted.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
};
use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities, set_no_new_privs, set_thread_groups},
};
use tacit_messages::SealPart;
use tacit_seal::{Failure, apply as part, bpf, errno, filter, landlock_error, rights};

use crate::seal::{self, calls};

/// What starting and ending a forwarder takes, and the forwarder's own seal.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::KILL);

/// Seals this process, whose only thread is the calling one.
///
/// # Errors
/// [`Failure`] with the first part that the kernel refused.
pub(super) fn apply(admin_socket: &Path) -> Result<(), Failure> {
    part(SealPart::Capabilities, || set_no_new_privs(true))?;
    let kept = part(SealPart::Capabilities, || Ok(capabilities(None)?.permitted & KEPT))?;
    part(SealPart::Capabilities, || rights::bound(kept))?;
    part(SealPart::User, || set_thread_groups(&[]))?;
    // What a forwarder is started with, root has without being told.
    let keep = if geteuid().is_root() { rights::keep_only } else { rights::keep_and_pass_on };
    part(SealPart::Capabilities, || keep(kept))?;
    part(SealPart::Dumps, seal::empty_dumps)?;
    part(SealPart::Dumps, seal::keep_out_of_dumps)?;
    part(SealPart::Landlock, || deny(kept, admin_socket))?;
    let program = bpf::refusing(calls::refused_to_starter());
    part(SealPart::SystemCalls, || filter::hold_to(program).map_err(errno))
}

fn deny(kept: CapabilitySet, admin_socket: &Path) -> rustix::io::Result<()> {
    let own = own_files().map_err(errno)?;
    let denied = || -> Result<(), RulesetError> {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
        let ruleset = seal::without_networks(ruleset)?;
        if kept.contains(CapabilitySet::SYS_ADMIN) {
            ruleset.create()?.restrict_self()?;
        } else {
            let ruleset = ruleset.handle_access(AccessFs::from_all(ABI::V9))?.create()?;
            allow(ruleset, &own, admin_socket)?.restrict_self()?;
        }
        Ok(())
    };
    denied().map_err(|error| landlock_error::errno(&error))
}

/// The files that this program is made of: itself and its libraries.
fn own_files() -> std::io::Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    Ok(maps.lines().filter_map(path).collect())
}

/// Allows what a forwarder is started from and with, and to remove the admin socket.
fn allow(
    ruleset: RulesetCreated,
    own: &BTreeSet<PathBuf>,
    admin_socket: &Path,
) -> Result<RulesetCreated, RulesetError> {
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = vec![
        (Path::new("/proc/self/exe"), AccessFs::Execute | AccessFs::ReadFile),
        (Path::new("/etc/ld.so.cache"), AccessFs::ReadFile.into()),
        // The forwarder looks up its own memory, and keeps it out of dumps.
        (Path::new("/proc"), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate),
        (Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile),
        (Path::new("/dev/net/tun"), device),
    ];
    rules.extend(own.iter().map(|path| (path.as_path(), AccessFs::Execute | AccessFs::ReadFile)));
    rules.extend(admin_socket.parent().map(|dir| (dir, AccessFs::RemoveFile.into())));
    // What is not there needs no rule.
    let there =
        rules.into_iter().filter_map(|(path, access)| Some((PathFd::new(path).ok()?, access)));
    ruleset.add_rules(
        there.map(|(path, access)| Ok::<_, RulesetError>(PathBeneath::new(path, access))),
    )
}
