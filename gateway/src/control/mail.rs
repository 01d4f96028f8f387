//! The way to the mail server, prepared while files can still be read and names looked up.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use tacit_accounts::post::{Credentials, Mail, Security, TlsTrust};
use tacit_keys::private_file;
use zeroize::Zeroizing;

use crate::{
    config::{MailTls, Settings},
    log,
};

/// How long the mail server may take for an answer (RFC 5321 section 4.5.3.2 has 5 minutes for most).
const PATIENCE: Duration = Duration::from_secs(300);

/// Longest password, in bytes.
const MAX_PASSWORD: usize = 1024;

/// Longest file of a certificate, in bytes.
const MAX_CERTIFICATE: u64 = 1024 * 1024;

/// Prepares sending; `None` if the settings name no mail server.
///
/// The server's name is looked up here, once: the sealed process cannot.
///
/// # Errors
/// If the password or the certificate cannot be read.
pub(crate) fn prepare(settings: &Settings) -> anyhow::Result<Option<Mail>> {
    let Some(server) = &settings.mail_server else { return Ok(None) };
    let (Some(sender), Some(contact), Some(site)) =
        (settings.mail_from.clone(), settings.contact.clone(), settings.site_url.clone())
    else {
        return Ok(None);
    };
    let trust = match &settings.mail_ca {
        Some(path) => TlsTrust::Certificate(certificate(path)?),
        None => TlsTrust::System,
    };
    let security = match settings.mail_tls {
        MailTls::None => Security::None,
        MailTls::Tls => Security::tls(server.host(), trust)?,
        MailTls::Starttls => Security::starttls(server.host(), trust)?,
    };
    Ok(Some(Mail {
        servers: look_up(&server.with_port(settings.mail_tls.port())),
        security,
        credentials: credentials(settings)?,
        sender,
        contact,
        site,
        pace: pace(settings),
        patience: PATIENCE,
    }))
}

/// The port of the mail server; `None` if there is none.
pub(crate) fn port(settings: &Settings) -> Option<u16> {
    let server = settings.mail_server.as_ref()?;
    Some(server.port().unwrap_or(settings.mail_tls.port()))
}

/// The least time from one letter to the next.
pub(crate) fn pace(settings: &Settings) -> Duration {
    Duration::from_secs(60) / settings.mails_per_minute
}

fn look_up(server: &str) -> Vec<SocketAddr> {
    match server.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            log::mail_server_unknown(&error);
            Vec::new()
        }
    }
}

fn certificate(path: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let file = fs::metadata(path).with_context(reading)?;
    ensure!(
        file.is_file() && file.len() <= MAX_CERTIFICATE,
        "{} is no file of a certificate (`mail-ca`)",
        path.display()
    );
    fs::read(path).with_context(reading)
}

fn credentials(settings: &Settings) -> anyhow::Result<Option<Credentials>> {
    let (Some(user), Some(path)) = (&settings.mail_user, &settings.mail_password_file) else {
        return Ok(None);
    };
    Ok(Some(Credentials::new(user.clone(), password(path)?.to_string())))
}

fn password(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let reading = || format!("reading {}", path.display());
    private_file::check(path, &fs::symlink_metadata(path).with_context(reading)?)?;
    let text = Zeroizing::new(fs::read_to_string(path).with_context(reading)?);
    let password = text.trim_end_matches(['\r', '\n']);
    let is_one_line = !password.is_empty() && !password.contains(char::is_control);
    ensure!(
        is_one_line && password.len() <= MAX_PASSWORD,
        "{} must hold the password in one line of at most {MAX_PASSWORD} bytes",
        path.display()
    );
    Ok(Zeroizing::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn password_is_one_line_of_a_private_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"se cret\n").unwrap();
        assert_eq!(*password(file.path()).unwrap(), "se cret");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = format!("{:#}", password(file.path()).unwrap_err());
        assert!(refusal.contains("can be opened by others") && !refusal.contains("se cret"));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\ntwo\n").unwrap();
        assert!(password(file.path()).is_err());
    }
}
