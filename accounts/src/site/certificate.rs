//! The site's certificate: the operator's files, which are read again when they change, or one that the gateway makes.
//!
//! An ACME client of the gateway's own would be a third [`Source`].

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use tacit_messages::UnixSeconds;
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use zeroize::Zeroizing;

use super::Surroundings;

/// Between two looks whether the files are others.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How long a certificate of the gateway's own is good for, and from what age on it makes another.
const VALID_DAYS: i64 = 398;
const RENEWED_AFTER: Duration = Duration::from_secs(300 * 24 * 60 * 60);

/// After a certificate of the gateway's own could not be made.
const MAKING_RETRY: Duration = Duration::from_secs(60 * 60);

/// Longest file that is read, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(
        "{} cannot be read by the user that the gateway becomes: {source}; give its group to that user, and let it through the directories above",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody on this machine can read the key.
    #[error("{0} can be read by everybody; mend it with `chmod o= {0}`")]
    Open(PathBuf),
    /// A file is not what it should be.
    #[error("{0} has no {1} in PEM's form")]
    NotPem(PathBuf, &'static str),
    /// Certificate and key do not go together, or cannot be used.
    #[error("the site's certificate and its key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
    /// None could be made.
    #[error("no certificate could be made for the site: {0}")]
    Making(#[from] rcgen::Error),
    /// The one that was made could not be kept.
    #[error("the site's certificate could not be written to {0}; make its directory writable")]
    Keeping(PathBuf, #[source] io::Error),
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From the operator.
    Files {
        /// The certificate, and those that sign it.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made by the gateway and signed by itself: browsers warn of it.
    SelfMade {
        /// Where it is kept, with its key.
        path: PathBuf,
        /// What it is for: names and addresses.
        names: Vec<String>,
    },
}

/// What tells a file from what was there before.
type Stamp = [Option<(u64, i64, i64, u64)>; 2];

/// The certificate in use.
#[derive(Debug)]
pub struct Certificates {
    source: Source,
    current: Mutex<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the certificate, or makes it.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn load(source: Source) -> Result<Arc<Self>, CertificateError> {
        let current = Mutex::new(config(&source)?);
        Ok(Arc::new(Self { source, current }))
    }

    /// What the next connection uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock())
    }

    /// Takes up renewed files, for as long as the certificate is in use.
    pub async fn watch(certificates: Weak<Self>, surroundings: Arc<dyn Surroundings>) {
        let Some(mut known) = certificates.upgrade().map(|these| these.source.stamp()) else {
            return;
        };
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let Some(these) = certificates.upgrade() else { return };
            let stamp = these.source.stamp();
            if stamp == known && !these.source.is_due() {
                continue;
            }
            match config(&these.source) {
                Ok(config) => {
                    *these.current.lock() = config;
                    surroundings.certificate_renewed();
                }
                Err(error) => {
                    surroundings.certificate_not_renewed(&error);
                    if these.source.is_due() {
                        tokio::time::sleep(MAKING_RETRY).await;
                    }
                }
            }
            // A file that changed while it was read is read again; one's own changed because it was made.
            known =
                if let Source::Files { .. } = these.source { stamp } else { these.source.stamp() };
        }
    }
}

impl Source {
    fn stamp(&self) -> Stamp {
        match self {
            Self::Files { certificate, key } => [stamp(certificate), stamp(key)],
            Self::SelfMade { path, .. } => [stamp(path), None],
        }
    }

    /// Whether another certificate is to be made.
    fn is_due(&self) -> bool {
        let Self::SelfMade { path, .. } = self else { return false };
        let made_at = fs::metadata(path).map_or(0, |file| file.mtime().unsigned_abs());
        UnixSeconds(made_at).plus(RENEWED_AFTER) <= UnixSeconds::now()
    }
}

fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

fn config(source: &Source) -> Result<Arc<ServerConfig>, CertificateError> {
    match source {
        Source::Files { certificate, key } => {
            let chain = read(certificate)?;
            let is_open =
                fs::metadata(key).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
            if is_open {
                return Err(CertificateError::Open(key.clone()));
            }
            parse(certificate, &chain, key, &read(key)?)
        }
        Source::SelfMade { path, names } => {
            if source.is_due() {
                make(path, names)?;
            }
            let both = read(path)?;
            parse(path, &both, path, &both)
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let failed = |source| CertificateError::Unreadable { path: path.into(), source };
    let file = fs::metadata(path).map_err(failed)?;
    // A device has no end.
    if !file.is_file() || file.len() > LONGEST_FILE {
        return Err(CertificateError::NotPem(path.into(), "certificate or key"));
    }
    fs::read(path).map(Zeroizing::new).map_err(failed)
}

fn parse(
    certificate_path: &Path,
    chain: &[u8],
    key_path: &Path,
    key: &[u8],
) -> Result<Arc<ServerConfig>, CertificateError> {
    let no_chain = || CertificateError::NotPem(certificate_path.into(), "certificate");
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| no_chain())?;
    if chain.is_empty() {
        return Err(no_chain());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| CertificateError::NotPem(key_path.into(), "private key"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nothing is kept of a visitor by which the next connection would be known again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Makes a certificate and puts it where the former one was.
fn make(path: &Path, names: &[String]) -> Result<(), CertificateError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Tacit");
    let [(year, month, day), (last_year, last_month, last_day)] = [-1, VALID_DAYS].map(day_in);
    params.not_before = date_time_ymd(year, month, day);
    params.not_after = date_time_ymd(last_year, last_month, last_day);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let mut text = pem("CERTIFICATE", certificate.der());
    text.push_str(&pem("PRIVATE KEY", &Zeroizing::new(key.serialize_der())));
    keep(path, text.as_bytes()).map_err(|error| CertificateError::Keeping(path.into(), error))
}

/// Year, month and day so many days from now.
fn day_in(days: i64) -> (i32, u8, u8) {
    let now = i64::try_from(UnixSeconds::now().0).unwrap_or(i64::MAX);
    let at = Timestamp::from_second(now.saturating_add(days * 24 * 60 * 60));
    let date = at.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC).date();
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn pem(kind: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() * 2 + 100));
    text.push_str(&format!("-----BEGIN {kind}-----\n"));
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {kind}-----\n"));
    text
}

/// Writes a private file and then gives it its name, so that there is always a whole one.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// What a certificate of the gateway's own is for: names that certificates can have.
#[must_use]
pub fn certificate_names<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names = Vec::new();
    for name in wanted {
        let name = name.trim_matches(['[', ']']);
        let is_plain = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        let is_address = name.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified());
        let is_name = is_plain && name.parse::<IpAddr>().is_err();
        if (is_address || is_name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_made(dir: &tempfile::TempDir) -> Source {
        let names = certificate_names(["vpn.example.org", "192.0.2.1", "[2001:db8::1]"]);
        Source::SelfMade { path: dir.path().join("site.pem"), names }
    }

    #[test]
    fn certificate_that_the_gateway_makes_is_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let source = self_made(&dir);
        Certificates::load(source.clone()).unwrap();
        let path = dir.path().join("site.pem");
        let first = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Certificates::load(source).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "another one was made");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn certificate_of_the_gateways_own_is_made_anew_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let source = self_made(&dir);
        Certificates::load(source.clone()).unwrap();
        let path = dir.path().join("site.pem");
        let first = fs::read(&path).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert!(source.is_due());
        Certificates::load(source).unwrap();
        assert_ne!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn files_that_do_not_go_together_are_refused() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for dir in [&one, &other] {
            Certificates::load(self_made(dir)).unwrap();
        }
        let [one, other] = [&one, &other].map(|dir| dir.path().join("site.pem"));
        let files = |key: &Path| Source::Files { certificate: one.clone(), key: key.into() };
        Certificates::load(files(&one)).unwrap();
        let error = Certificates::load(files(&other)).unwrap_err();
        assert!(matches!(error, CertificateError::Unusable(_)), "{error}");
    }

    #[test]
    fn key_that_everybody_can_read_and_what_is_no_certificate_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        Certificates::load(self_made(&dir)).unwrap();
        let (good, other) = (dir.path().join("site.pem"), dir.path().join("other"));
        fs::write(&other, "hello").unwrap();
        let load = |certificate: &Path, key: &Path| {
            Certificates::load(Source::Files { certificate: certificate.into(), key: key.into() })
        };
        assert!(matches!(load(&other, &good), Err(CertificateError::NotPem(..))));
        assert!(matches!(load(&good, &other), Err(CertificateError::Open(_))));
        fs::set_permissions(&other, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&good, &other), Err(CertificateError::NotPem(..))));
        fs::remove_file(&other).unwrap();
        assert!(matches!(load(&good, &other), Err(CertificateError::Unreadable { .. })));
    }

    #[test]
    fn names_are_those_that_certificates_can_have() {
        let names = certificate_names(["a.example", "[::1]", "0.0.0.0", "a b", "", "a.example"]);
        assert_eq!(names, ["a.example", "::1"]);
    }
}
