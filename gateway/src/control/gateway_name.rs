//! Who this gateway is among those that share a database: a name for people, and a number that tells two of one name
//! apart. The number is in the data directory, which is one gateway's alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rand_core::{OsRng, RngCore};

use crate::config::Settings;

/// The number's file in the data directory.
const FILE_NAME: &str = "gateway.id";

/// What the operator calls the gateway, else what its host and its interface are called.
pub(super) fn name(settings: &Settings) -> String {
    settings.gateway_name.clone().unwrap_or_else(|| {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}/{}", host.trim(), settings.interface)
    })
}

/// Longest name that an operator gives, in bytes.
const MAX_NAME: usize = 64;

/// Whether an operator may call a gateway so: names stand in a database that others read, and in their terminals.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The gateway's number, made at the first start.
pub(super) fn identity(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) if is_identity(text.trim()) => return Ok(text.trim().to_owned()),
        // A crash may have left less than all of it.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    let identity: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{identity}")?;
    file.sync_all()?;
    Ok(identity)
}

fn is_identity(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_stays_and_is_nobody_elses() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = identity(one.path()).unwrap();
        assert!(is_identity(&first));
        assert_eq!(identity(one.path()).unwrap(), first);
        assert_ne!(identity(other.path()).unwrap(), first);
    }

    #[test]
    fn half_a_number_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "01234").unwrap();
        let made = identity(dir.path()).unwrap();
        assert_eq!(identity(dir.path()).unwrap(), made);
    }

    #[test]
    fn name_is_the_operators_or_tells_host_and_interface() {
        let settings = Settings { gateway_name: Some("oslo".into()), ..Settings::default() };
        assert_eq!(name(&settings), "oslo");
        let name = name(&Settings::default());
        assert!(name.len() > "/tacit0".len() && name.ends_with("/tacit0"), "{name}");
    }
}
