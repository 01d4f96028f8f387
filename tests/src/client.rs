//! Real WireGuard clients, brought up by `wg-quick` with the printed config unchanged.

use std::{fs, path::PathBuf, process::Command};

use crate::{config::Config, namespace::Namespace};

/// A userspace WireGuard program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// Debian's wireguard-go.
    WireguardGo,
    /// boringtun-cli from crates.io.
    Boringtun,
    /// gotatun-cli from crates.io.
    Gotatun,
}

impl Implementation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WireguardGo, Self::Boringtun, Self::Gotatun];

    /// Where the program is.
    ///
    /// # Panics
    /// If it has not been installed.
    #[must_use]
    pub fn program(self) -> PathBuf {
        let name = match self {
            Self::WireguardGo => return PathBuf::from("wireguard-go"),
            Self::Boringtun => "boringtun-cli",
            Self::Gotatun => "gotatun",
        };
        let path = crate::gateway::target_dir().join("peers/bin").join(name);
        assert!(path.exists(), "{} is missing: tests/run installs it", path.display());
        path
    }
}

/// A client whose interface `wg0` is up in a namespace. It goes down with the namespace.
pub struct Client<'lab> {
    /// Where it runs.
    pub namespace: &'lab Namespace,
    config_path: PathBuf,
    implementation: Implementation,
}

impl<'lab> Client<'lab> {
    /// Runs `wg-quick up` with `config`.
    ///
    /// # Panics
    /// If `wg-quick` fails.
    #[must_use]
    pub fn up(namespace: &'lab Namespace, implementation: Implementation, config: &Config) -> Self {
        let config_path = PathBuf::from("/run/wg0.conf");
        fs::write(namespace.path("/run/wg0.conf"), &config.text).expect("writing the config");
        namespace.sh("chmod 600 /run/wg0.conf");
        let client = Self { namespace, config_path, implementation };
        client.wg_quick("up");
        client
    }

    /// The program that it runs.
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// Runs `wg-quick down`.
    ///
    /// # Panics
    /// If `wg-quick` fails.
    pub fn down(&self) {
        self.wg_quick("down");
    }

    /// When the last handshake was, in Unix seconds; zero if never.
    #[must_use]
    pub fn latest_handshake(&self) -> u64 {
        let text = self.namespace.sh("wg show wg0 latest-handshakes");
        text.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Its output goes to a file: the daemons that it starts would hold a pipe open.
    fn wg_quick(&self, verb: &str) {
        let done = self.namespace.output(
            Command::new("sh")
                .args(["-c", "exec wg-quick \"$@\" >/run/wg-quick.log 2>&1", "sh", verb])
                .arg(&self.config_path)
                .env("WG_QUICK_USERSPACE_IMPLEMENTATION", self.implementation.program())
                .env("WG_SUDO", "true")
                .env("WG_LOG_FILE", "/run/wireguard.log"),
        );
        let log = fs::read_to_string(self.namespace.path("/run/wg-quick.log")).unwrap_or_default();
        assert!(done.status.success(), "wg-quick {verb} failed: {log}");
    }
}
