//! Why the store did not do something.

use std::{io, path::PathBuf};

use sqlx::migrate::MigrateError;
use tacit_keys::private_file::PrivateFileError;

/// Why the store did not do something. Never contains an e-mail address, address, key or name.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's file has a wrong mode, owner or kind.
    #[error(transparent)]
    NotPrivate(#[from] PrivateFileError),
    /// The store's file could not be made.
    #[error("making the store {}: {source}; its directory must exist and be writable", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server that has the store cannot be reached.
    #[error("the database cannot be reached: {0}; check `database` and that its server runs")]
    Unreachable(#[source] sqlx::Error),
    /// A newer program has changed the store's tables.
    #[error(
        "the store was last used by a newer tacit; start that one, or restore a backup made by this one"
    )]
    NewerSchema,
    /// The data key is not the one that the store's values are sealed with.
    #[error(
        "the store is sealed with another data key; put the right key back in its file, or name it with `--data-key`"
    )]
    WrongDataKey,
    /// The store's tables could not be brought up to date.
    #[error("bringing the store's tables up to date: {0}")]
    Migration(#[source] MigrateError),
    /// Devices have addresses that the given networks do not contain.
    #[error(
        "devices have addresses of other tunnel networks; set `tunnel-v4` and `tunnel-v6` back, give the same first \
         addresses shorter prefixes, or remove the devices first"
    )]
    PoolChanged,
    /// No address is free.
    #[error(
        "all addresses of the tunnel network are taken or were within the last 24 hours; give `{setting}` a shorter \
         prefix, or remove devices"
    )]
    PoolFull {
        /// The setting to change.
        setting: &'static str,
    },
    /// The account has as many devices as it may.
    #[error("the account has all of its {limit} devices; remove one, or raise `device-limit`")]
    DeviceLimit {
        /// How many devices an account may have.
        limit: u32,
    },
    /// There is an account with this e-mail address.
    #[error("there is an account with this e-mail address already")]
    EmailTaken,
    /// The account has a device with this name.
    #[error(
        "the account has a device with this name already; choose another name, or rotate the device's key"
    )]
    NameTaken,
    /// A device has this public key.
    #[error("a device has this public key already; make a new key")]
    KeyTaken,
    /// No account is selected.
    #[error("there is no such account; `tacit account list` shows all")]
    NoSuchAccount,
    /// The account has no device of this name, or no device has this number.
    #[error("there is no such device; `tacit device list` shows the account's devices")]
    NoSuchDevice,
    /// The service runs without end.
    #[error("the service runs without end, so no days can be added to it")]
    WithoutEnd,
    /// No link of a letter has this token, or it was followed before, or is too old.
    #[error("this link was used before or is too old; ask for a new one")]
    NoSuchLink,
    /// No unused activation code is this.
    #[error("there is no such activation code, or it was used before")]
    NoSuchCode,
    /// The customer has not agreed to this disclosure.
    #[error(
        "the customer has not consented to a disclosure to this recipient, or has withdrawn it; `tacit account show` \
         shows to whom they have"
    )]
    NoConsent,
    /// The staff log and the register must say who did it.
    #[error("only a member of the staff can do this")]
    StaffOnly,
    /// No letter in doubt has this number.
    #[error("there is no letter in doubt with this number; `tacit notice list` shows all")]
    NoSuchLetter,
    /// Others read the store all the time, so what was removed may still be in the bytes of its files.
    #[error(
        "what was removed is out of the store's tables, but may still be in the bytes of its files: it is being read all \
         the time; the next purge tries again"
    )]
    NotScrubbed,
    /// Whoever runs with this name is somebody else.
    #[error(
        "another gateway of this name runs on this database, or did a moment ago; give each its own `gateway-name`"
    )]
    GatewayNameTaken,
    /// The gateway was silent for so long that its row went to another, or went.
    #[error(
        "this gateway could not reach the database for so long that another took its name, or an operator removed it"
    )]
    GatewayReplaced,
    /// No gateway has this name.
    #[error("there is no gateway of this name; `tacit gateway list` shows all")]
    NoSuchGateway,
    /// The gateway would be there again in a moment.
    #[error("this gateway runs, or did three minutes ago; stop it first")]
    GatewayRuns,
    /// Other gateways would go on with what is being changed.
    #[error("other gateways run on this database; stop them first")]
    OtherGatewaysRun,
    /// A column holds what the program never writes.
    #[error("the store holds a value in {0} that tacit cannot have written; restore a backup")]
    Corrupt(&'static str),
    /// The database failed.
    #[error("the store could not be read or written: {0}")]
    Database(#[from] sqlx::Error),
}

impl StoreError {
    /// Whether a gateway that gets this when it writes must end: it is taken for dead, and others have gone on without it.
    #[must_use]
    pub const fn ends_gateway(&self) -> bool {
        matches!(self, Self::GatewayReplaced | Self::WrongDataKey)
    }

    /// Whether the database could not be asked, so that it may work later without anybody's doing.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Database(error) => is_away(error),
            _ => false,
        }
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_code_of_away(&code)),
        _ => false,
    }
}

fn is_code_of_away(code: &str) -> bool {
    if code.len() == 5 {
        // Connections, resources, a server that is told to stop, one that takes no writes, and a lock that somebody keeps
        // (PostgreSQL, appendix A).
        let is_of = |class: &&str| code.starts_with(class);
        return ["08", "53", "57", "25006", "55P03"].iter().any(is_of);
    }
    // Busy, locked, read-only, a disk that fails or is full, and a file that cannot be opened (SQLite's result codes).
    code.parse().is_ok_and(|code: u32| [5, 6, 8, 10, 13, 14].contains(&(code & 0xff)))
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(_) => Self::NewerSchema,
            error => Self::Migration(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_a_database_that_is_away_from_one_that_refuses() {
        for code in ["57P01", "57P03", "08006", "53300", "25006", "5", "517", "8", "1032", "13"] {
            assert!(is_code_of_away(code), "{code}");
        }
        for code in ["23505", "42P01", "40001", "19", "2067", "1", ""] {
            assert!(!is_code_of_away(code), "{code}");
        }
    }
}
