//! Files for personal data: new ones, which only their owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// A file that was made for something and is removed again unless it gets it.
pub(super) struct PrivateOutput {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl PrivateOutput {
    /// Makes the file, before anything is changed or shown: one in the way is found in time.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => Ok(Self { path: path.into(), file, is_written: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} exists; move it away or name another --output", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("making {}", path.display())),
        }
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.with_context(|| format!("writing {}", self.path.display()))?;
        self.is_written = true;
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateOutput {
    fn drop(&mut self) {
        if !self.is_written {
            let _ = fs::remove_file(&self.path);
        }
    }
}
