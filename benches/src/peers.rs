//! The servers that Tacit is measured beside, and installing those that crates.io has.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::subject::Subject;

/// A program on crates.io.
struct Published {
    name: &'static str,
    version: &'static str,
    program: &'static str,
    flags: &'static [&'static str],
}

const PUBLISHED: [Published; 2] = [
    Published {
        name: "boringtun-cli",
        version: "0.7.1",
        program: "boringtun-cli",
        flags: &["-f", "--disable-drop-privileges"],
    },
    Published {
        name: "gotatun-cli",
        version: "0.10.2",
        program: "gotatun",
        flags: &["-f", "--disable-drop-privileges"],
    },
];

/// The peers that are wanted: those on crates.io, wireguard-go if it is on PATH, and `given` ones as `name=command`.
///
/// # Errors
/// If one cannot be installed, or `given` is not understood.
pub(crate) fn peers(given: &[String], is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Subject>> {
    let target =
        tacit_tests::gateway::target_dir().canonicalize().context("the target directory")?;
    let mut peers = Vec::new();
    for published in PUBLISHED.iter().filter(|published| is_wanted(published.name)) {
        let program = install(published, &target)?;
        let command = command(&program, published.flags);
        peers.push(Subject::peer(published.name, command, Some(published.version.to_owned())));
    }
    if is_wanted("wireguard-go") {
        match on_path("wireguard-go") {
            Some(program) => {
                let version = version_of(&program);
                peers.push(Subject::peer("wireguard-go", command(&program, &["-f"]), version));
            }
            None => eprintln!("wireguard-go is left out: apt-get install wireguard-go"),
        }
    }
    for peer in given {
        let (name, command) = peer.split_once('=').context("--peer takes NAME=COMMAND")?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let program = command.first().context("--peer takes NAME=COMMAND")?;
        let version = version_of(Path::new(program));
        peers.push(Subject::peer(name, command, version));
    }
    Ok(peers)
}

/// Installs a program unless it is there; returns where it is.
fn install(published: &Published, target: &Path) -> Result<PathBuf> {
    let Published { name, version, program, .. } = published;
    let root = target.join("peers");
    let program = root.join("bin").join(program);
    if program.exists() {
        return Ok(program);
    }
    eprintln!("building {name} {version} from crates.io, once");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["install", "--quiet", "--locked", "--version", version, "--root"])
        .arg(&root)
        .arg(name)
        .env("CARGO_TARGET_DIR", target.join("peers-build"))
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "installing {name} {version} failed; `--only` leaves it out");
    Ok(program)
}

fn command(program: &Path, flags: &[&str]) -> Vec<String> {
    let program = program.to_string_lossy().into_owned();
    std::iter::once(program).chain(flags.iter().map(ToString::to_string)).collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.exists())
}

/// The first word with a digit that `--version` prints.
pub(crate) fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()))?;
    Some(word.trim_start_matches('v').to_owned())
}
