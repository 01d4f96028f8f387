//! The user that control becomes once it has what only root can have.

use std::io;

use nix::{errno::Errno, unistd::User as Account};
use rustix::{
    process::{getegid, geteuid},
    thread::{CapabilitySet, capabilities},
};

/// The account that is used if the host has it.
const NAME: &str = "tacit";

/// User and group without an account of that name: the same on every host, outside of what Debian and systemd give
/// out, and another than the forwarder's.
pub(super) const NUMBER: u32 = 65_528;

/// Why there is nobody to become.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// Only root, or who has some of root's rights, can make a forwarder another user.
    #[error(
        "start the gateway as root, which it stops being by itself, or as a user with CAP_NET_ADMIN, CAP_SETUID, \
         CAP_SETGID and CAP_SETPCAP"
    )]
    NotRoot,
    /// The account has root's number, or the forwarder's.
    #[error(
        "the user {NAME} must not be root or number {}; give it a number of its own",
        tacit_forwarder::seal::USER
    )]
    Shared,
    /// The list of accounts could not be read.
    #[error("looking for the user {NAME}")]
    Unknown(#[source] io::Error),
}

/// What a forwarder's seal takes that only root has, unless a service manager gives it to another user.
const RIGHTS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP);

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user's number.
    pub(crate) user: u32,
    /// The group's number.
    pub(crate) group: u32,
}

impl User {
    /// The user of this host's gateways; whoever runs this process if that is not root, but has the rights to start a
    /// forwarder.
    ///
    /// # Errors
    /// [`UserError`] if this process has no such rights, or the account cannot be used.
    pub(crate) fn dedicated() -> Result<Self, UserError> {
        if geteuid().is_root() {
            return Self::of_host()?.if_own();
        }
        let effective = capabilities(None).map(|sets| sets.effective);
        if !effective.is_ok_and(|effective| effective.contains(RIGHTS)) {
            return Err(UserError::NotRoot);
        }
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }.if_own()
    }

    fn of_host() -> Result<Self, UserError> {
        let account = match Account::from_name(NAME) {
            // An image may have no list of accounts.
            Err(Errno::ENOENT) => None,
            account => account.map_err(|error| UserError::Unknown(error.into()))?,
        };
        let (user, group) = account
            .map_or((NUMBER, NUMBER), |account| (account.uid.as_raw(), account.gid.as_raw()));
        Ok(Self { user, group })
    }

    fn if_own(self) -> Result<Self, UserError> {
        let shared = [0, tacit_forwarder::seal::USER];
        if shared.contains(&self.user) || shared.contains(&self.group) {
            return Err(UserError::Shared);
        }
        Ok(self)
    }
}
