//! Takes everything from control that it does not need once it has started the starter. Control stays root only until
//! then: the store, the keys, the host's network and every request are handled by what is left.
//!
//! CAP_NET_ADMIN stays for as long as control lives: with it, control makes the TUN device for the next forwarder,
//! sets the firewall and the forwarding switches up and puts them back, and deletes connection-tracking entries.
//! CAP_NET_BIND_SERVICE stays only if the gateway listens on a port that asks for it, for the next forwarder's sockets.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
};
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    thread::{CapabilitySet, set_no_new_privs},
};
use tacit_accounts::{Database, database::postgres::Address};
use tacit_messages::SealPart;
use tacit_seal::{Failure, apply as part, errno, filter, landlock_error, rights};

use super::user::User;
use crate::seal::{self, SealError, calls};

/// A seal around this process.
pub(crate) struct Seal {
    /// The directories and files that are left. A file of `/proc` counts as another one once nobody has it open.
    _places: Vec<OwnedFd>,
}

impl Seal {
    /// Seals this process, whose only thread must be the calling one, or become so within a moment. By TCP it can
    /// connect to `ports` alone, and besides its own files it can read those in the directories `readable`.
    ///
    /// # Errors
    /// [`SealError`] with the first part that the kernel refused; the process must not go on then.
    pub(crate) fn apply(
        user: User,
        data_dir: &Path,
        listen: &[SocketAddr],
        ports: &[u16],
        database: &Database,
        readable: &[PathBuf],
    ) -> Result<Self, SealError> {
        apply(user, data_dir, listen, ports, database, readable)
            .map_err(|failure| SealError::new("control", failure))
    }
}

fn apply(
    user: User,
    data_dir: &Path,
    listen: &[SocketAddr],
    ports: &[u16],
    database: &Database,
    readable: &[PathBuf],
) -> Result<Seal, Failure> {
    part(SealPart::Limits, seal::be_alone)?;
    let places = part(SealPart::Landlock, || places(data_dir, database, readable))?;
    let kept = kept(listen);
    part(SealPart::Capabilities, || set_no_new_privs(true))?;
    part(SealPart::Capabilities, || rights::bound(CapabilitySet::empty()))?;
    part(SealPart::Dumps, seal::empty_dumps)?;
    part(SealPart::User, || rights::become_user(user.user, user.group))?;
    part(SealPart::Capabilities, || rights::keep_only(kept))?;
    part(SealPart::Dumps, seal::keep_out_of_dumps)?;
    part(SealPart::Landlock, || deny_all_but(&places, ports))?;
    for program in calls::programs_for_control() {
        part(SealPart::SystemCalls, || filter::hold_to(program).map_err(errno))?;
    }
    Ok(Seal { _places: places.into_iter().map(|(place, _)| place).collect() })
}

fn kept(listen: &[SocketAddr]) -> CapabilitySet {
    let free_from = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let free_from = free_from.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if listen.iter().any(|address| address.port() < free_from) {
        CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE
    } else {
        CapabilitySet::NET_ADMIN
    }
}

/// What control may still open, and for what.
fn places(
    data_dir: &Path,
    database: &Database,
    readable: &[PathBuf],
) -> rustix::io::Result<Vec<(OwnedFd, BitFlags<AccessFs>)>> {
    let read = BitFlags::from(AccessFs::ReadFile);
    let write = AccessFs::ReadFile | AccessFs::WriteFile;
    let make = AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::ReadDir | AccessFs::Truncate;
    let switch = write | AccessFs::ReadDir | AccessFs::Truncate;
    let mut wanted = vec![
        (data_dir, write | make),
        // The forwarding switches and the TUN device's own.
        (Path::new("/proc/sys/net"), switch),
        // Tells what was changed before a reboot.
        (Path::new("/proc/sys/kernel/random/boot_id"), read),
        // Stands in for the socket of a family that is not listened on.
        (Path::new("/dev/null"), write),
        (Path::new("/dev/urandom"), read),
    ];
    wanted.extend(readable.iter().map(|directory| (&**directory, read)));
    match server_address(database) {
        Some(Address::Directory(directory, _)) => {
            wanted.push((directory, AccessFs::ResolveUnix.into()));
        }
        Some(Address::Host(host, _)) if host.parse::<IpAddr>().is_err() => {
            wanted.extend(NAME_FILES.map(|path| (Path::new(path), read)));
        }
        _ => {}
    }
    let opened = wanted.into_iter().map(|(path, access)| {
        let place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        place.map(|place| (place, access))
    });
    // Without IPv6, or with a /proc of a container's own making, something may be missing; nothing uses it then.
    opened.filter(|place| !matches!(place, Err(Errno::NOENT))).collect()
}

/// What says which address a host's name has.
const NAME_FILES: [&str; 5] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

fn server_address(database: &Database) -> Option<&Address> {
    match database {
        Database::Sqlite(_) => None,
        Database::Postgres(server) => Some(server.address()),
    }
}

/// The TCP port of the server that has the store, if it is reached by one.
pub(super) fn port_of(database: &Database) -> Option<u16> {
    match server_address(database) {
        Some(Address::Host(_, port)) => Some(*port),
        _ => None,
    }
}

fn deny_all_but(places: &[(OwnedFd, BitFlags<AccessFs>)], ports: &[u16]) -> rustix::io::Result<()> {
    let reachable =
        ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let rules = places
        .iter()
        .map(|(place, access)| Ok::<_, RulesetError>(PathBeneath::new(place.as_fd(), *access)));
    let denied = || -> Result<(), RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V9))?;
        seal::without_networks(ruleset)?
            .create()?
            .add_rules(rules)?
            .add_rules(reachable)?
            .restrict_self()?;
        Ok(())
    };
    denied().map_err(|error| landlock_error::errno(&error))
}

#[cfg(test)]
mod tests;
