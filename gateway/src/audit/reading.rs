//! Reading files, and what becomes of those that cannot be read.

use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
};

use super::check::Finding;

/// What was read, or why it was not.
pub(super) type Reading<T> = Result<T, Unread>;

/// Why something was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {why}")]
pub(super) struct Unread {
    what: String,
    why: String,
}

impl Unread {
    /// Says why `what` was not read.
    pub(super) fn new(what: impl Display, why: impl Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

/// Reads a text file.
pub(super) fn text(path: impl AsRef<Path>) -> Reading<String> {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(Unread::new(path.display(), error)),
    }
}

/// Reads a text file that need not exist.
pub(super) fn text_if_there(path: impl AsRef<Path>) -> Reading<Option<String>> {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unread::new(path.display(), error)),
    }
}

/// Lists a directory, by name; nothing if there is none.
pub(super) fn directory(path: impl AsRef<Path>) -> Reading<Vec<PathBuf>> {
    let path = path.as_ref();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Unread::new(path.display(), error)),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Judges what was read; what was not is no violation, but nothing was shown either.
pub(super) fn judge<T>(reading: &Reading<T>, judge: impl FnOnce(&T, &mut Finding)) -> Finding {
    let mut finding = Finding::default();
    add(reading, &mut finding, judge);
    finding
}

/// The same besides what was found already.
pub(super) fn add<T>(
    reading: &Reading<T>,
    finding: &mut Finding,
    judge: impl FnOnce(&T, &mut Finding),
) {
    match reading {
        Ok(read) => judge(read, finding),
        Err(unread) => drop(finding.warn(unread.to_string())),
    }
}
