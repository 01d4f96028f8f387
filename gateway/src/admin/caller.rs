//! Who asks at the admin socket, and what they may: as the kernel vouches for it, not as they say.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
    sync::Arc,
};

use nix::unistd::Group;
use tokio::net::UnixStream;

/// The group whose members may disclose what is held about a customer, if it exists.
const LEGAL_GROUP: &str = "tacit-legal";

/// Groups that a process can be in (`NGROUPS_MAX` of Linux).
const MOST_GROUPS: usize = 65_536;

/// What a request takes to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// To be let in at the socket, which the file system sees to: root and the group tacit.
    Operator,
    /// Also to be root or in the group tacit-legal.
    Legal,
    /// To be root.
    Root,
}

impl Role {
    /// Why others are not answered.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Operator => "this is for root and members of the group tacit",
            Self::Legal => "disclosures are for root and members of the group tacit-legal",
            Self::Root => "this is for root",
        }
    }
}

/// The process at the other end of a connection (`SO_PEERCRED`, `SO_PEERGROUPS`).
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The Unix user that it runs as.
    pub(crate) uid: u32,
    groups: Arc<[u32]>,
}

impl Caller {
    /// The process that made `connection`.
    pub(super) fn of(connection: &UnixStream) -> Self {
        let Ok(credentials) = connection.peer_cred() else {
            return Self { uid: u32::MAX, groups: Arc::default() };
        };
        let mut groups = groups(connection.as_fd()).unwrap_or_default();
        groups.push(credentials.gid());
        Self { uid: credentials.uid(), groups: groups.into() }
    }
}

/// Which groups of this host have which role. Looked up at the start: sealed, control cannot read the host's lists.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Roles {
    legal: Option<u32>,
}

impl Roles {
    /// Reads them from the host.
    pub(crate) fn of_host() -> Self {
        let group = Group::from_name(LEGAL_GROUP).ok().flatten();
        Self { legal: group.map(|group| group.gid.as_raw()) }
    }

    /// Whether the caller has the role.
    pub(crate) fn has(self, caller: &Caller, role: Role) -> bool {
        match role {
            Role::Operator => true,
            Role::Legal => {
                caller.uid == 0 || self.legal.is_some_and(|legal| caller.groups.contains(&legal))
            }
            Role::Root => caller.uid == 0,
        }
    }
}

/// The supplementary groups of the process that connected.
#[expect(unsafe_code, reason = "no crate has SO_PEERGROUPS")]
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = (groups.len() * mem::size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to the buffer, which has as many, and what it needs to `len`.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                ptr::from_mut(&mut len),
            )
        };
        let needed = len as usize / mem::size_of::<u32>();
        if outcome == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed > MOST_GROUPS {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn groups_of_the_other_end_are_those_of_its_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut told = groups(ours.as_fd()).unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        told.sort_unstable();
        own.sort_unstable();
        assert_eq!(told, own);
    }

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid, groups: groups.into() }
    }

    #[test]
    fn only_root_says_what_came_of_an_audit() {
        let roles = Roles { legal: Some(77) };
        assert!(roles.has(&caller(0, &[]), Role::Root));
        assert!(!roles.has(&caller(1000, &[0, 77]), Role::Root));
        assert!(!roles.has(&caller(u32::MAX, &[0]), Role::Root));
    }

    #[test]
    fn only_root_and_the_legal_group_disclose() {
        let roles = Roles { legal: Some(77) };
        assert!(roles.has(&caller(1000, &[5, 77]), Role::Legal));
        assert!(roles.has(&caller(0, &[]), Role::Legal));
        assert!(!roles.has(&caller(1000, &[5]), Role::Legal));
        assert!(roles.has(&caller(1000, &[5]), Role::Operator));
        let nobody = Roles { legal: None };
        assert!(!nobody.has(&caller(1000, &[0]), Role::Legal));
        assert!(!nobody.has(&caller(u32::MAX, &[]), Role::Legal));
    }
}
