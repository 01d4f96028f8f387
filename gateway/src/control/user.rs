//! The user that control becomes once it has what only root can have.

use std::io;

use nix::unistd::User as Account;
use rustix::process::geteuid;

/// The account that is used if the host has it.
const NAME: &str = "tacit";

/// User and group without an account of that name: the same on every host, outside of what Debian and systemd give
/// out, and another than the forwarder's.
pub(super) const NUMBER: u32 = 65_528;

/// Why there is nobody to become.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// Only root can make a forwarder another user.
    #[error("start the gateway as root, which it stops being by itself")]
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

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user's number.
    pub(crate) user: u32,
    /// The group's number.
    pub(crate) group: u32,
}

impl User {
    /// The user of this host's gateways.
    ///
    /// # Errors
    /// [`UserError`] if this process is not root, or the account cannot be used.
    pub(crate) fn dedicated() -> Result<Self, UserError> {
        if !geteuid().is_root() {
            return Err(UserError::NotRoot);
        }
        let account = Account::from_name(NAME).map_err(|error| UserError::Unknown(error.into()))?;
        let (user, group) = account
            .map_or((NUMBER, NUMBER), |account| (account.uid.as_raw(), account.gid.as_raw()));
        let shared = [0, tacit_forwarder::seal::USER];
        if shared.contains(&user) || shared.contains(&group) {
            return Err(UserError::Shared);
        }
        Ok(Self { user, group })
    }
}
