//! Finds out which commit the program is built from, and leaves it to the compiler as `TACIT_COMMIT`; and says how the
//! program is linked.
//!
//! It comes from git; without git, from the variable `TACIT_COMMIT`; in an archive that git made, from the file
//! `commit` beside this one. `-dirty` follows it if something that the program is made of differs from the commit.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the program is made of, from the workspace's root.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "accounts/Cargo.toml",
    "accounts/build.rs",
    "accounts/inventory.toml",
    "accounts/letters",
    "accounts/migrations",
    "accounts/rules",
    "accounts/site",
    "accounts/src",
    "accounts/templates",
    "gateway/Cargo.toml",
    "gateway/build.rs",
    "gateway/forwarder/Cargo.toml",
    "gateway/forwarder/src",
    "gateway/messages/Cargo.toml",
    "gateway/messages/src",
    "gateway/seal/Cargo.toml",
    "gateway/seal/src",
    "gateway/src",
    "keys/Cargo.toml",
    "keys/src",
];

/// What git puts into [`ARCHIVED`] when it makes an archive.
const ARCHIVED: &str = "gateway/commit";

/// Has the linker write relocations in their short form (`DT_RELR`, glibc 2.36), of which each process reads all at its
/// start: 1 MiB less for each to keep in memory.
const SHORT_RELOCATIONS: &str = "-Wl,-z,pack-relative-relocs";

fn main() {
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|name| name == "gnu") {
        println!("cargo:rustc-link-arg-bins={SHORT_RELOCATIONS}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().expect("the workspace's root");
    println!("cargo:rerun-if-env-changed=TACIT_COMMIT");
    // What is not there, cargo would look for at each build.
    let watched = SOURCES.iter().chain([&ARCHIVED]).map(|path| root.join(path));
    watched.filter(|path| path.exists()).for_each(|path| watch(&path));
    let commit = from_git(&root).or_else(from_environment).or_else(|| from_archive(&root));
    println!("cargo:rustc-env=TACIT_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}

/// The commit that is checked out, unless another project's repository surrounds these files.
fn from_git(root: &Path) -> Option<String> {
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root {
        return None;
    }
    watch_head(root);
    let commit = git(root, &["rev-parse", "HEAD"])?;
    let status = ["status", "--porcelain", "--untracked-files=all", "--"];
    let changes = git(root, &[&status, SOURCES].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// Has this run again when another commit is checked out, and not when another branch moves.
///
/// Git writes each of HEAD's moves to a file of its own; where that is turned off, HEAD and what it leads to is watched.
fn watch_head(root: &Path) {
    let place = |name: &str| Some(root.join(git(root, &["rev-parse", "--git-path", name])?));
    let moves = place("logs/HEAD").filter(|path| path.exists());
    let branch = || git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let places = match moves {
        Some(moves) => vec![moves],
        None => [Some("HEAD".to_owned()), branch(), Some("packed-refs".to_owned())]
            .into_iter()
            .flatten()
            .filter_map(|name| place(&name))
            .collect(),
    };
    places.iter().filter(|path| path.exists()).for_each(|path| watch(path));
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        // Root builds what a user checked out, as in containers.
        .args(["--no-optional-locks", "-c", "safe.directory=*", "-C"])
        .arg(root)
        .args(arguments)
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn from_environment() -> Option<String> {
    let commit = env::var("TACIT_COMMIT").ok()?;
    assert!(
        is_commit(commit.strip_suffix("-dirty").unwrap_or(&commit)),
        "TACIT_COMMIT must be a full commit hash, with `-dirty` after it if the sources were changed"
    );
    Some(commit)
}

fn from_archive(root: &Path) -> Option<String> {
    let commit = fs::read_to_string(root.join(ARCHIVED)).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
}

fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
