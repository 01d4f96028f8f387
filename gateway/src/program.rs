//! What this program is: its version, the commit it was built from, and the hash of the file that runs.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, `-dirty` after it if its sources differ, or `unknown`.
pub(crate) const COMMIT: &str = env!("TACIT_COMMIT");

/// The file that this process runs, even if it was moved or replaced since.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// A program and the file that it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Program {
    /// Its version.
    pub(crate) version: String,
    /// The commit it was built from, `-dirty` after it if its sources differ, or `unknown`.
    pub(crate) commit: String,
    /// SHA-256 of its executable, in hexadecimal digits.
    pub(crate) sha256: String,
}

impl Program {
    /// This program, whose executable is read now.
    ///
    /// # Errors
    /// If the executable cannot be read.
    pub(crate) fn running() -> io::Result<Self> {
        let sha256 = sha256_of_file(Path::new(OWN_EXECUTABLE))?;
        Ok(Self { version: VERSION.into(), commit: COMMIT.into(), sha256 })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, commit, sha256 } = self;
        write!(f, "tacit {version} (commit {commit}, sha256 of the executable {sha256})")
    }
}

/// SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// SHA-256 of a file, `/proc/PID/exe` for example, in hexadecimal digits.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(format!("{:x}", hash.finalize())),
            Ok(len) => hash.update(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_that_sha256sum_prints() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of_file(&path).unwrap(), expected);
    }

    #[test]
    fn program_names_its_commit() {
        let hash = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        assert!(COMMIT == "unknown" || hash.len() >= 40, "{COMMIT}");
        assert!(Program::running().unwrap().to_string().contains(COMMIT));
    }
}
