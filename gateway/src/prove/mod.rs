//! `tacit prove`: an experiment on live traffic that anybody can repeat.
//!
//! 1. A private gateway starts in namespaces of its own, as talkative as it can be, and strace watches it.
//! 2. [`mark`]s are drawn: random names, payloads and addresses that occur nowhere yet.
//! 3. Clients send traffic that carries them to a target, which says what arrived. One of them moves meanwhile.
//! 4. Whatever the gateway wrote or holds is searched for every mark in every encoding: while the clients are
//!    connected, after their sessions ended, and after the gateway stopped.
//! 5. What was planted to try the search must have been found, and nothing of the traffic may have been.
//!
//! A running gateway is not touched, and nothing is left on the machine: namespaces, files and processes end with
//! this process, however it ends.

mod capture;
mod client;
mod encoding;
mod experiment;
mod files;
mod gateway;
mod host;
mod judge;
mod kernel_state;
mod ledger;
mod mark;
mod memory;
mod namespace;
mod processes;
mod progress;
mod report;
mod search;
mod strace;
mod target;
mod traffic;
mod watch;
mod wires;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure};

pub(crate) use progress::Progress;
pub(crate) use report::{Report, Verdict};

/// Makes the experiment and returns what it came to.
///
/// # Errors
/// What this machine lacks, or what kept the experiment from being made.
pub(crate) fn run(progress: &Progress) -> anyhow::Result<Report> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "`tacit prove` makes namespaces and reads memory: run it as root"
    );
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing: modprobe tun, or give the container the device"
    );
    experiment::run(&find_strace()?, progress)
}

/// The program that watches system calls.
fn find_strace() -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = env::split_paths(&path).map(|dir| dir.join("strace")).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("strace is missing, which watches the gateway: apt-get install strace"),
    }
}
