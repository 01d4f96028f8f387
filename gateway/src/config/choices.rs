//! Settings that are one of a few words.

use serde::{Deserialize, Serialize};
use tracing::Level;

/// What the log shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what went wrong and was mended.
    Warn,
    /// Also what happened.
    Info,
    /// Also details.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How the way to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MailTls {
    /// By TLS after STARTTLS, without which nothing is sent.
    Starttls,
    /// By TLS from the first byte.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

impl MailTls {
    /// The port of mail servers that are reached so.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}
