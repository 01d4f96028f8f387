//! Who may depend on what. These bans are the promise that the two processes are what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// The workspace's resolved dependencies, without those of tests and build scripts.
struct Graph {
    packages: BTreeMap<String, Value>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn load() -> Self {
        let arguments =
            ["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"];
        let metadata: Value = serde_json::from_str(&cargo(&arguments)).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
        let packages = list(&metadata["packages"])
            .into_iter()
            .map(|package| (id(&package), package))
            .collect();
        let edges = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| (id(node), normal_edges(node)))
            .collect();
        Self { packages, edges }
    }

    fn name(&self, id: &str) -> &str {
        self.packages[id]["name"].as_str().unwrap()
    }

    fn find(&self, name: &str) -> Vec<&str> {
        self.packages.keys().filter(|id| self.name(id) == name).map(String::as_str).collect()
    }

    /// Everything that ends up in the program.
    fn reach(&self) -> BTreeSet<&str> {
        let mut waiting = self.find("tacit");
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.edges[id].iter().map(String::as_str));
            }
        }
        seen
    }

    /// The crates of this workspace that a crate names itself.
    fn own(&self, name: &str) -> BTreeSet<&str> {
        let id = self.find(name)[0];
        self.edges[id]
            .iter()
            .map(|id| self.name(id))
            .filter(|name| name.starts_with("tacit"))
            .collect()
    }
}

fn normal_edges(node: &Value) -> Vec<String> {
    let normal = |edge: &&Value| {
        edge["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
    };
    let edges = node["deps"].as_array().unwrap().iter();
    edges.filter(normal).map(|edge| edge["pkg"].as_str().unwrap().to_owned()).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that nothing whose name starts with one of `banned` is compiled for a crate with its own features.
fn assert_without(name: &str, banned: &[&str]) {
    let tree = cargo(&[
        "tree",
        "--package",
        name,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let found: BTreeSet<&str> =
        tree.lines().filter(|line| banned.iter().any(|ban| line.starts_with(ban))).collect();
    assert!(found.is_empty(), "{name} depends on {found:?}");
}

#[test]
fn forwarder_has_no_database_no_http_no_text_and_no_log() {
    let databases =
        ["sqlx", "libsqlite3", "rusqlite", "postgres", "tokio-postgres", "redis", "sled"];
    let http =
        ["hyper", "http", "axum", "reqwest", "h2", "tower", "rustls", "native-tls", "lettre"];
    let text =
        ["serde", "toml", "figment", "clap", "anyhow", "csv", "bincode", "prost", "comfy-table"];
    let logs = [
        "tracing-subscriber",
        "tracing-appender",
        "tracing-log",
        "env_logger",
        "syslog",
        "slog",
        "sentry",
    ];
    let networks = ["tokio", "nlink", "tun-rs", "hickory", "quinn"];
    for banned in [&databases[..], &http, &text, &logs, &networks] {
        assert_without("tacit-forwarder", banned);
    }
}

#[test]
fn accounts_has_no_wireguard_and_no_tun() {
    assert_without("tacit-accounts", &["boringtun", "tun-rs", "nlink", "tacit-forwarder"]);
    assert_without("tacit-keys", &["boringtun", "tun-rs", "nlink", "sqlx", "tokio", "hyper"]);
    assert_without("tacit-messages", &["boringtun", "tun-rs", "serde", "sqlx", "tokio", "hyper"]);
}

#[test]
fn there_is_one_x25519() {
    assert_eq!(Graph::load().find("x25519-dalek").len(), 1);
}

#[test]
fn boringtun_is_used_for_noise_only() {
    let graph = Graph::load();
    for id in graph.find("boringtun") {
        assert!(graph.packages[id]["version"] == "0.7.1");
        let names: Vec<&str> = graph.edges[id].iter().map(|id| graph.name(id)).collect();
        assert!(!names.contains(&"socket2") && !names.contains(&"jni"), "{names:?}");
    }
}

#[test]
fn dependencies_point_one_way() {
    let graph = Graph::load();
    let (below, forwarder) = (["tacit-messages", "tacit-keys"], ["tacit-messages", "tacit-seal"]);
    let all = [&below[..], &["tacit-seal", "tacit-forwarder", "tacit-accounts"]].concat();
    let allowed: [(&str, &[&str]); 6] = [
        ("tacit-messages", &[]),
        ("tacit-keys", &[]),
        ("tacit-seal", &["tacit-messages"]),
        ("tacit-forwarder", &forwarder),
        ("tacit-accounts", &below),
        ("tacit", &all),
    ];
    for (name, allowed) in allowed {
        let more: Vec<_> =
            graph.own(name).into_iter().filter(|own| !allowed.contains(own)).collect();
        assert!(more.is_empty(), "{name} depends on {more:?}");
    }
}

#[test]
fn commit_is_marked_dirty_by_a_change_in_any_crate_of_the_program() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let root = std::fs::canonicalize(root).unwrap();
    let build_script = std::fs::read_to_string(root.join("gateway/build.rs")).unwrap();
    let graph = Graph::load();
    for id in graph.reach() {
        let manifest = Path::new(graph.packages[id]["manifest_path"].as_str().unwrap());
        let Ok(manifest) = manifest.strip_prefix(&root) else { continue };
        let sources = manifest.with_file_name("src");
        for path in [manifest, &sources] {
            let quoted = format!("\"{}\"", path.display());
            assert!(build_script.contains(&quoted), "gateway/build.rs does not know {quoted}");
        }
    }
}

#[test]
fn every_licence_is_permissive() {
    let graph = Graph::load();
    let allowed = [
        "MIT",
        "MIT-0",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "CC0-1.0",
        "0BSD",
        "Unlicense",
        "BSL-1.0",
        // Of data: the list of certificate authorities.
        "CDLA-Permissive-2.0",
    ];
    let permissive = |licence: &str| {
        let alternatives = licence.replace('/', " OR ").replace(['(', ')'], "");
        alternatives
            .split(" OR ")
            .any(|one| one.split(" AND ").all(|part| allowed.contains(&part.trim())))
    };
    for id in graph.reach() {
        let licence = graph.packages[id]["license"].as_str().unwrap_or("none");
        assert!(permissive(licence), "{} has the licence {licence}", graph.name(id));
    }
}
