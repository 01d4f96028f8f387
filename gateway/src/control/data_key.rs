//! Where the data key is: in the file that the operator names, else in systemd's credential `data.key`, else in the data
//! directory, where the first start makes it.

use std::{
    env,
    path::{Path, PathBuf},
};

use tacit_accounts::Database;
use tacit_keys::{DataKeyError, DataKeys};

use crate::config::Settings;

/// The key's file, if the operator names none.
const FILE_NAME: &str = "data.key";

/// Where systemd puts the credentials of a unit.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Why the store cannot be unsealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    /// The store is there, but its key is not.
    #[error(
        "the data key {} is missing, and nothing else opens the store {}; restore it from a backup, or name it with \
         --data-key", .key_path.display(), .store_path.display()
    )]
    Missing {
        /// Where the key should be.
        key_path: PathBuf,
        /// The store that is sealed with it.
        store_path: PathBuf,
    },
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] DataKeyError),
}

/// The file that the data key is in, or will be.
pub(crate) fn path(settings: &Settings) -> PathBuf {
    choose(settings, env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from))
}

fn choose(settings: &Settings, credentials_dir: Option<PathBuf>) -> PathBuf {
    let credential = || credentials_dir.map(|dir| dir.join(FILE_NAME)).filter(|path| path.exists());
    let named = settings.data_key.clone().or_else(credential);
    named.unwrap_or_else(|| in_directory(&settings.data_dir))
}

/// The file in a data directory.
pub(crate) fn in_directory(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Loads the data key of the store in `database`, or makes one if there is no store yet. A server is not asked whether
/// there is one; it refuses the key later.
///
/// # Errors
/// [`UnsealError`] if the key is missing or its file cannot be used.
pub(crate) fn load_or_create(path: &Path, database: &Database) -> Result<DataKeys, UnsealError> {
    if let Some(keys) = DataKeys::load(path)? {
        return Ok(keys);
    }
    if let Database::Sqlite(store_path) = database
        && store_path.exists()
    {
        return Err(UnsealError::Missing {
            key_path: path.to_owned(),
            store_path: store_path.to_owned(),
        });
    }
    Ok(DataKeys::create(path)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn named_file_goes_before_credential_before_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Some(dir.path().to_path_buf());
        let mut settings = Settings { data_dir: "/data".into(), ..Settings::default() };
        assert_eq!(choose(&settings, None), Path::new("/data/data.key"));
        assert_eq!(choose(&settings, credentials.clone()), Path::new("/data/data.key"));
        fs::write(dir.path().join("data.key"), "").unwrap();
        assert_eq!(choose(&settings, credentials.clone()), dir.path().join("data.key"));
        settings.data_key = Some("/named".into());
        assert_eq!(choose(&settings, credentials), Path::new("/named"));
    }

    #[test]
    fn key_is_made_once_and_never_for_a_store_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, store_path) = (dir.path().join("data.key"), dir.path().join("store.sqlite"));
        let database = Database::Sqlite(store_path.clone());
        let made = load_or_create(&path, &database).unwrap();
        fs::write(&store_path, "").unwrap();
        assert_eq!(load_or_create(&path, &database).unwrap(), made);
        fs::remove_file(&path).unwrap();
        let error = load_or_create(&path, &database).unwrap_err();
        assert!(matches!(error, UnsealError::Missing { .. }), "{error}");
        assert!(!path.exists());
    }
}
