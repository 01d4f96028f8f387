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
    /// A column holds what the program never writes.
    #[error("the store holds a value in {0} that tacit cannot have written; restore a backup")]
    Corrupt(&'static str),
    /// The database failed.
    #[error("the store could not be read or written: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(_) => Self::NewerSchema,
            error => Self::Migration(error),
        }
    }
}
