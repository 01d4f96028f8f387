//! A file that is sealed with a passphrase or for the holders of keys, in the format of age: the program `age` opens it too.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    iter,
    path::Path,
};

use age::{
    Decryptor, Encryptor, Identity, Recipient, scrypt,
    secrecy::SecretString,
    stream::{StreamReader, StreamWriter},
    x25519,
};
use anyhow::{Context, anyhow, bail, ensure};
use sha2::{Digest, Sha256};
use tacit_keys::private_file;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// Shortest passphrase in characters: whoever has a file can guess at it for years.
const MIN_PASSPHRASE: usize = 12;

/// What a guess costs: 2^17 rounds in 128 MiB (OWASP's least for scrypt).
const WORK_FACTOR: u8 = 17;

/// More than that is not done to open a file, which somebody else may have made: 256 MiB, as `age` itself asks for.
const MAX_WORK_FACTOR: u8 = 18;

/// Longest file of a passphrase or key, in bytes.
const MAX_SECRET: u64 = 4096;

/// What opens a file.
pub(super) enum Secret {
    /// A passphrase.
    Passphrase(SecretString),
    /// The key of whom it is for.
    Key(x25519::Identity),
}

/// Whom a file is sealed for.
pub(super) enum Seal {
    /// Whoever knows the passphrase.
    Passphrase(SecretString),
    /// The holders of these keys.
    Recipients(Vec<x25519::Recipient>),
}

/// Takes a passphrase that is not too short to seal with.
///
/// # Errors
/// If it is.
pub(super) fn passphrase(text: &str) -> anyhow::Result<SecretString> {
    ensure!(
        text.chars().count() >= MIN_PASSPHRASE,
        "a passphrase must have at least {MIN_PASSPHRASE} characters; some random words make a good one"
    );
    Ok(SecretString::from(text.to_owned()))
}

/// Reads a passphrase from a private file: its first line.
///
/// # Errors
/// If others can open the file, or the passphrase is too short.
pub(super) fn passphrase_in(path: &Path) -> anyhow::Result<SecretString> {
    passphrase(secret_text(path)?.lines().next().unwrap_or_default())
}

/// Reads the key of a file of age-keygen.
///
/// # Errors
/// If others can open the file, or there is no key in it.
pub(super) fn key_in(path: &Path) -> anyhow::Result<x25519::Identity> {
    let text = secret_text(path)?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let key = lines.find_map(|line| line.trim().parse().ok());
    key.with_context(|| format!("{} has no key; age-keygen makes one", path.display()))
}

fn secret_text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let reading = || format!("reading {}", path.display());
    private_file::check(path, &fs::symlink_metadata(path).with_context(reading)?)?;
    let file = File::open(path).with_context(reading)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET as usize));
    file.take(MAX_SECRET).read_to_string(&mut text).with_context(reading)?;
    Ok(text)
}

/// Writes a sealed file at `path`, where there must be none: `fill` gets what to write to. Then opens it as its reader
/// will, and compares.
///
/// # Errors
/// If it cannot be written, or does not read as it was written; then there is no file.
pub(super) async fn write<T>(
    path: &Path,
    seal: Seal,
    fill: impl AsyncFnOnce(&mut dyn Write) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    ensure!(
        fs::symlink_metadata(path).is_err(),
        "{} exists already; name another file or move it away",
        path.display()
    );
    let writing = || format!("writing {}", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    // Beside its place, which it gets in one step; only its owner can open it.
    let draft = tempfile::Builder::new().prefix(".tacit-").tempfile_in(directory);
    let draft = draft.with_context(writing)?;
    let (encryptor, opens) = encryptor(seal)?;
    let mut out = Hashing {
        out: encryptor.wrap_output(draft.as_file()).with_context(writing)?,
        hash: Sha256::new(),
    };
    let filled = fill(&mut out).await?;
    out.out.finish().with_context(writing)?;
    draft.as_file().sync_all().with_context(writing)?;
    check(&draft, &opens, &out.hash.finalize())?;
    draft.persist_noclobber(path).map_err(|error| error.error).with_context(writing)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(writing)?;
    Ok(filled)
}

/// Reads a file back and compares it with what was written.
fn check(draft: &NamedTempFile, opens: &Secret, hash: &[u8]) -> anyhow::Result<()> {
    let file = draft.reopen().context("reading the backup back")?;
    let mut again = Sha256::new();
    let read = unseal(file, opens).and_then(|mut plain| Ok(io::copy(&mut plain, &mut again)?));
    if read.is_err() || again.finalize()[..] != *hash {
        bail!("the backup does not read as it was written; is the disk broken?");
    }
    Ok(())
}

/// What is in the sealed file at `path`, and the file's length in bytes.
///
/// # Errors
/// If the secret is not the one, or the file is none.
pub(super) fn open<R: Read>(
    path: &Path,
    secret: &Secret,
    wrap: impl FnOnce(File, u64) -> R,
) -> anyhow::Result<StreamReader<BufReader<R>>> {
    let reading = || format!("reading {}", path.display());
    // A device has no end, and a pipe may have no other end.
    ensure!(
        fs::metadata(path).with_context(reading)?.is_file(),
        "{} is not a plain file",
        path.display()
    );
    let file = File::open(path).with_context(reading)?;
    let length = file.metadata().with_context(reading)?.len();
    unseal(wrap(file, length), secret).with_context(reading)
}

fn unseal<R: Read>(file: R, secret: &Secret) -> anyhow::Result<StreamReader<BufReader<R>>> {
    let decryptor = Decryptor::new_buffered(BufReader::new(file))
        .map_err(|_| anyhow!("it is no backup of tacit's, or was changed or cut off"))?;
    let by_passphrase;
    let identity: &dyn Identity = match secret {
        Secret::Passphrase(passphrase) => {
            let mut identity = scrypt::Identity::new(passphrase.clone());
            identity.set_max_work_factor(MAX_WORK_FACTOR);
            by_passphrase = identity;
            &by_passphrase
        }
        Secret::Key(key) => key,
    };
    decryptor
        .decrypt(iter::once(identity))
        .map_err(|_| anyhow!("the passphrase or key does not open it"))
}

/// What seals, and what opens again once: for recipients a key of the moment, which is gone then.
fn encryptor(seal: Seal) -> anyhow::Result<(Encryptor, Secret)> {
    let (recipients, opens): (Vec<Box<dyn Recipient>>, _) = match seal {
        Seal::Passphrase(passphrase) => {
            let mut recipient = scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK_FACTOR);
            (vec![Box::new(recipient)], Secret::Passphrase(passphrase))
        }
        Seal::Recipients(recipients) => {
            let own = x25519::Identity::generate();
            let all = recipients.into_iter().chain([own.to_public()]);
            (all.map(|recipient| Box::new(recipient) as _).collect(), Secret::Key(own))
        }
    };
    let recipients = recipients.iter().map(|recipient| &**recipient);
    Ok((Encryptor::with_recipients(recipients).context("sealing the backup")?, opens))
}

/// Passes bytes on, and hashes them.
struct Hashing<'a> {
    out: StreamWriter<&'a File>,
    hash: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.hash.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn write_text(path: &Path, seal: Seal, text: &str) -> anyhow::Result<()> {
        write(path, seal, async |out| Ok(out.write_all(text.as_bytes())?)).await
    }

    fn read_text(path: &Path, secret: &Secret) -> anyhow::Result<String> {
        let mut text = String::new();
        open(path, secret, |file, _| file)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[tokio::test]
    async fn only_its_key_opens_it_and_its_bytes_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let (key, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let seal = Seal::Recipients(vec![key.to_public()]);
        write_text(&path, seal, "ann@example.org").await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a draft is left");
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"example"));
        assert_eq!(read_text(&path, &Secret::Key(key)).unwrap(), "ann@example.org");
        assert!(read_text(&path, &Secret::Key(other)).is_err());
    }

    #[tokio::test]
    async fn every_changed_byte_and_every_end_too_early_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let key = x25519::Identity::generate();
        write_text(&path, Seal::Recipients(vec![key.to_public()]), "ann").await.unwrap();
        let (bytes, secret) = (fs::read(&path).unwrap(), Secret::Key(key));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(read_text(&path, &secret).is_err(), "byte {at}");
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(read_text(&path, &secret).is_err(), "cut off at {at}");
        }
    }

    #[tokio::test]
    async fn existing_file_is_not_overwritten_and_a_failure_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let seal = || Seal::Recipients(vec![x25519::Identity::generate().to_public()]);
        fs::write(&path, "mine").unwrap();
        let refused = write_text(&path, seal(), "x").await.unwrap_err();
        assert!(refused.to_string().contains("exists already"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        fs::remove_file(&path).unwrap();
        let failed = write(&path, seal(), async |_| Err::<(), _>(anyhow!("cut"))).await;
        assert_eq!(failed.unwrap_err().to_string(), "cut");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn passphrase_is_long_and_of_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        fs::write(&path, "correct horse battery\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(passphrase_in(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(passphrase_in(&path).is_ok());
        fs::write(&path, "short\n").unwrap();
        assert!(passphrase_in(&path).is_err());
    }
}
