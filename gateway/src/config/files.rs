//! Whether the files that settings name are there, and closed to others.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{anyhow, ensure};
use tacit_keys::private_file::PrivateFileError;

use super::{
    Settings,
    limits::{Fault, heed},
};
use crate::database;

/// What a file's own user has alone: rights of the group and of others.
const OF_GROUP_AND_OTHERS: u32 = 0o077;
/// What others may not have.
const OF_OTHERS: u32 = 0o007;

impl Settings {
    /// The files that settings name and no start makes, but for the data key.
    pub(crate) fn named_files(&self) -> Vec<PathBuf> {
        let files = [
            &self.database_password_file,
            &self.fleet_key,
            &self.mail_password_file,
            &self.mail_ca,
            &self.site_certificate,
            &self.site_key,
        ];
        files.into_iter().flatten().cloned().collect()
    }

    /// Checks the files that settings name and no start makes, as far as that does not depend on the user that a gateway
    /// is started as.
    pub(super) fn check_files(&self) -> Result<(), Fault> {
        let files: [(&'static [&'static str], _, _); 6] = [
            (&["database-password-file"], &self.database_password_file, OF_GROUP_AND_OTHERS),
            (&["fleet-key"], &self.fleet_key, OF_GROUP_AND_OTHERS),
            (&["mail-password-file"], &self.mail_password_file, OF_GROUP_AND_OTHERS),
            (&["mail-ca"], &self.mail_ca, 0),
            (&["site-certificate"], &self.site_certificate, 0),
            (&["site-key"], &self.site_key, OF_OTHERS),
        ];
        for (keys, path, closed) in files {
            let Some(path) = path else { continue };
            heed(check_file(keys[0], path, closed), keys)?;
        }
        // The first start may make it.
        if let Some(path) = self.data_key.as_deref().filter(|path| path.exists()) {
            heed(check_file("data-key", path, OF_GROUP_AND_OTHERS), &["data-key"])?;
        }
        let Some(url) = &self.database else { return Ok(()) };
        heed(database::server(url, None).map(drop), &["database"])
    }
}

/// Checks that `path` is a plain file without the rights `closed`.
fn check_file(key: &str, path: &Path, closed: u32) -> anyhow::Result<()> {
    let shown = path.display();
    // A start reads what must be private through no link.
    let look = if closed == OF_GROUP_AND_OTHERS { fs::symlink_metadata } else { fs::metadata };
    let file = look(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!("`{key}` is {shown}, and there is no such file"),
        _ => anyhow!("`{key}` is {shown}, which cannot be looked at: {error}"),
    })?;
    ensure!(file.is_file(), "`{key}` is {shown}, which is not a plain file");
    let mode = file.permissions().mode();
    if mode & closed & OF_GROUP_AND_OTHERS != 0 {
        return Err(PrivateFileError::LooseMode(path.to_owned()).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn refusal(settings: &Settings) -> Option<String> {
        let fault = settings.check_files().err()?;
        Some(fault.at(&Default::default()).to_string())
    }

    #[test]
    fn files_that_settings_name_must_be_there_and_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let named = || Some(path.clone());
        let private = [
            Settings { fleet_key: named(), ..Settings::default() },
            Settings { mail_password_file: named(), ..Settings::default() },
            Settings { database_password_file: named(), ..Settings::default() },
        ];
        let open = [
            Settings { mail_ca: named(), ..Settings::default() },
            Settings { site_certificate: named(), ..Settings::default() },
        ];
        let key = Settings { site_key: named(), ..Settings::default() };
        let all = || private.iter().chain(&open).chain([&key]);
        for settings in all() {
            assert!(refusal(settings).unwrap().ends_with("and there is no such file"));
        }
        fs::create_dir(&path).unwrap();
        for settings in all() {
            assert!(refusal(settings).unwrap().ends_with("which is not a plain file"));
        }
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        let with_mode =
            |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        with_mode(0o644);
        for settings in private.iter().chain([&key]) {
            assert!(refusal(settings).unwrap().contains("chmod 600"));
        }
        assert!(open.iter().all(|settings| refusal(settings).is_none()));
        with_mode(0o640);
        assert_eq!(refusal(&key), None);
        with_mode(0o600);
        assert!(all().all(|settings| refusal(settings).is_none()));
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        for settings in &private {
            assert!(refusal(settings).unwrap().ends_with("which is not a plain file"));
        }
        assert!(open.iter().chain([&key]).all(|settings| refusal(settings).is_none()));
    }

    #[test]
    fn data_key_may_be_made_later_and_certificates_of_a_database_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut settings = Settings { data_key: Some(path.clone()), ..Settings::default() };
        assert_eq!(refusal(&settings), None);
        settings.database =
            Some(format!("postgres://tacit@10.0.0.7/tacit?sslrootcert={}", path.display()));
        assert!(refusal(&settings).unwrap().contains("`sslrootcert`"));
    }
}
