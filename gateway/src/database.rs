//! Where the store is, as the operator says it: the data directory's file, or a PostgreSQL server's database.

use std::{fs, io, path::Path, path::PathBuf};

use tacit_accounts::{
    Database,
    database::postgres::{self, Server, ServerError},
};
use tacit_keys::private_file::{self, PrivateFileError};

use crate::{config::Settings, control::data_dir};

/// Why the database cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// Its address.
    #[error("`database`: {0}")]
    Address(#[from] ServerError),
    /// The file with its password is not private.
    #[error(transparent)]
    LoosePassword(#[from] PrivateFileError),
    /// The file with its password cannot be read.
    #[error("the database's password {} cannot be read: {source}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the store of a gateway with `settings` is; reads what that takes from files.
///
/// # Errors
/// [`DatabaseError`], one line that says what to do.
pub(crate) fn of(settings: &Settings) -> Result<Database, DatabaseError> {
    let Some(url) = &settings.database else {
        return Ok(Database::Sqlite(data_dir::store_path(&settings.data_dir)));
    };
    server(url, settings.database_password_file.as_deref()).map(Database::Postgres)
}

/// Checks that `url` names a database, without a look at any file.
///
/// # Errors
/// [`DatabaseError::Address`]
pub(crate) fn check_address(url: &str) -> Result<(), DatabaseError> {
    Ok(postgres::check_address(url)?)
}

/// The server's database that `url` names, with the password in a file.
///
/// # Errors
/// [`DatabaseError`]
pub(crate) fn server(url: &str, password_path: Option<&Path>) -> Result<Server, DatabaseError> {
    let server: Server = url.parse()?;
    let Some(path) = password_path else { return Ok(server) };
    let unreadable = |source| DatabaseError::Password { path: path.into(), source };
    private_file::check(path, &fs::symlink_metadata(path).map_err(unreadable)?)?;
    let password = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    Ok(server.with_password(password.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn store_is_a_file_unless_a_server_is_named() {
        let mut settings = Settings { data_dir: "/data".into(), ..Settings::default() };
        assert_eq!(of(&settings).unwrap(), Database::Sqlite("/data/store.sqlite".into()));
        settings.database = Some("postgres://tacit@10.0.0.7/tacit".into());
        assert!(matches!(of(&settings).unwrap(), Database::Postgres(_)));
    }

    #[test]
    fn password_is_in_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let url = "postgres://tacit@10.0.0.7/tacit";
        assert!(matches!(server(url, Some(&path)), Err(DatabaseError::Password { .. })));
        fs::write(&path, "secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(server(url, Some(&path)), Err(DatabaseError::LoosePassword(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let with = server(url, Some(&path)).unwrap();
        assert_eq!(with, url.parse::<Server>().unwrap().with_password("secret"));
    }
}
