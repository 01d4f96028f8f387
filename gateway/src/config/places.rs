//! Where the settings file and the running gateway are.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use figment::{
    Figment,
    providers::{Format, Toml},
};

use super::{
    explain::{explain, explain_syntax},
    lines,
    lines::Lines,
};
use crate::program;

/// Where `tacit.toml` is looked for unless told otherwise.
pub(crate) const CONFIG_PATH: &str = "/etc/tacit/tacit.toml";

/// Where the admin socket is unless told otherwise.
pub(crate) const SOCKET_PATH: &str = "/run/tacit/admin.sock";

/// The longest settings file, in bytes.
const MAX_FILE_LEN: u64 = 1 << 20;

/// Where to find the gateway and its settings; taken by every verb.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Places {
    /// Settings file [default: /etc/tacit/tacit.toml, if it exists].
    #[arg(long, env = "TACIT_CONFIG", value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,

    /// The running gateway's admin socket [default: /run/tacit/admin.sock].
    #[arg(long, env = "TACIT_SOCKET", value_name = "FILE", global = true)]
    pub(super) socket: Option<PathBuf>,
}

impl Places {
    /// The same, wherever this process may go.
    pub(super) fn absolute(&self) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self { config: self.config.as_ref().map(absolute), socket: self.socket.clone() }
    }

    /// The admin socket: from flag, variable, a readable settings file, or the default.
    ///
    /// # Errors
    /// If a settings file was named and cannot be read.
    pub(crate) fn socket_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let Some(file) = self.read_config(Unreadable::Passed)? else {
            return Ok(SOCKET_PATH.into());
        };
        match Figment::from(Toml::string(&file.text)).extract_inner("socket") {
            Ok(path) => Ok(path),
            Err(error) if error.missing() => Ok(SOCKET_PATH.into()),
            Err(error) => bail!(explain(&error, &file)),
        }
    }

    /// The settings file, and its hash if it exists.
    pub(crate) fn config_file(&self) -> (PathBuf, Option<String>) {
        let path = self.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
        let path = std::path::absolute(&path).unwrap_or(path);
        let sha256 = std::fs::read(&path).ok().map(|text| program::sha256_of(&text));
        (path, sha256)
    }

    /// What has to be readable for the settings file to be read again, also once another takes its place: its directory,
    /// but never the whole file system.
    pub(crate) fn readable(&self) -> Vec<PathBuf> {
        let (path, _) = self.config_file();
        match path.parent() {
            Some(dir) if dir.parent().is_some() => vec![dir.to_owned()],
            _ => vec![path],
        }
    }

    /// Reads the settings file, if there is one.
    ///
    /// # Errors
    /// If it was named, or its errors are not passed, and it cannot be read. Or that it is not TOML.
    pub(super) fn read_config(&self, unreadable: Unreadable) -> anyhow::Result<Option<ConfigFile>> {
        let path = self.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
        match read_text(path) {
            Ok(text) => match lines::lines(&text) {
                Ok(lines) => Ok(Some(ConfigFile { path: path.into(), text, lines })),
                Err(error) => bail!(explain_syntax(&error, path)),
            },
            Err(_) if self.config.is_none() && unreadable == Unreadable::Passed => Ok(None),
            Err(error) if self.config.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}

/// Reads a text file, which may be anything that somebody named by mistake.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_LEN + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for settings"));
    }
    Ok(text)
}

/// What becomes of a default settings file that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It counts as none.
    Passed,
    /// It is an error.
    Refused,
}

/// A settings file that was read.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) lines: Lines,
}

impl ConfigFile {
    /// The file and, if it has the setting `key`, the line.
    pub(super) fn place(&self, key: &str) -> String {
        let path = self.path.display();
        self.lines.get(key).map_or_else(|| path.to_string(), |line| format!("{path}:{line}"))
    }
}
