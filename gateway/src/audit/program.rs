//! Which program runs, and whether it runs as it was started.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    check::{Check, Finding},
    evidence::Evidence,
    process::Process,
    reading::{self, Reading, Unread},
};
use crate::{
    admin::AuditFacts,
    host,
    program::{sha256_of, sha256_of_file},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "executable",
        meaning: "The gateway's processes run one program, which is the file on the disk and the one that makes this audit.",
        by_hand: "sha256sum /proc/{control}/exe /proc/{starter}/exe /proc/{forwarder}/exe",
        judge: |evidence| {
            let mut finding = Finding::default();
            for (name, executable) in &evidence.program.executables {
                judge_executable(name, executable, &evidence.program.own, &mut finding);
            }
            finding
        },
    },
    Check {
        id: "build-id",
        meaning: "The program says which commit it was built from, so that its hash can be compared with a build of your own.",
        by_hand: "tacit --version; deploy/build; sha256sum target/release/tacit",
        judge: |evidence| {
            let mut finding = Finding::default();
            judge_commit(&evidence.facts.commit, &evidence.program.own, &mut finding);
            finding
        },
    },
    Check {
        id: "config-drift",
        meaning: "The settings file is the one that the gateway was started with.",
        by_hand: "sha256sum {config}; tr '\\0' ' ' < /proc/{control}/cmdline; tr '\\0' '\\n' < /proc/{control}/environ | grep TACIT_",
        judge: |evidence| {
            reading::judge(&evidence.program.config_sha256, |now, finding| {
                judge_config(&evidence.facts, now.as_deref(), finding);
            })
        },
    },
    Check {
        id: "network-drift",
        meaning: "Firewall table and forwarding are as the gateway set them up.",
        by_hand: "nft list tables; nft list table inet {table}; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding",
        judge: judge_network,
    },
];

/// What was read of the program.
pub(super) struct ProgramFiles {
    /// The program that makes this audit.
    own: String,
    executables: Vec<(&'static str, Reading<Executable>)>,
    /// Hash of the settings file now; none if there is none.
    config_sha256: Reading<Option<String>>,
    /// Fingerprint of the firewall table now; none if there is none.
    firewall: Reading<Option<String>>,
}

impl ProgramFiles {
    /// Reads the program's files.
    pub(super) async fn read<'a>(
        facts: &AuditFacts,
        control: &Process,
        processes: impl IntoIterator<Item = (&'static str, &'a Process)>,
    ) -> Self {
        let root = PathBuf::from(format!("/proc/{}/root", control.pid));
        let read = |(name, process): (&'static str, &Process)| {
            (name, Executable::read(process.pid, &root))
        };
        let firewall = host::firewall_fingerprint(&facts.interface).await;
        Self {
            own: sha256_of_file(Path::new("/proc/self/exe")).unwrap_or_default(),
            executables: processes.into_iter().map(read).collect(),
            config_sha256: config_sha256(&root, &facts.config),
            firewall: firewall.map_err(|error| Unread::new("the firewall table", error)),
        }
    }
}

/// The file that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Executable {
    path: String,
    /// Of what runs.
    sha256: String,
    /// Of what is at the path now.
    sha256_on_disk: Option<String>,
}

impl Executable {
    fn read(pid: u32, root: &Path) -> Reading<Self> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let unread = |error| Unread::new(link.display(), error);
        let path = fs::read_link(&link).map_err(unread)?.to_string_lossy().into_owned();
        let sha256 = sha256_of_file(&link).map_err(unread)?;
        let on_disk = root.join(path.trim_start_matches('/').trim_end_matches(DELETED));
        Ok(Self { path, sha256, sha256_on_disk: sha256_of_file(&on_disk).ok() })
    }
}

/// What the kernel puts after the name of a file that is gone.
const DELETED: &str = " (deleted)";

fn judge_executable(
    name: &str,
    executable: &Reading<Executable>,
    own: &str,
    finding: &mut Finding,
) {
    let Executable { path, sha256, sha256_on_disk } = match executable {
        Ok(executable) => executable,
        Err(unread) => {
            finding.fail(unread.to_string());
            return;
        }
    };
    finding.pass(format!("{name} runs {path}, sha256 {sha256}"));
    if sha256_on_disk.as_ref() != Some(sha256) {
        finding.fail(format!("{name}: the file there now is another one; restart the gateway"));
    }
    if sha256 != own {
        finding.fail(format!("{name}: this audit is made by another program, sha256 {own}"));
    }
}

/// Digits of the shorter kind of Git's hashes.
const SHA1_DIGITS: usize = 40;

fn judge_commit(commit: &str, own: &str, finding: &mut Finding) {
    let said = format!("commit {commit}, sha256 {own}");
    let is_exact =
        commit.len() >= SHA1_DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_exact {
        finding.pass(said);
    } else {
        finding.warn(format!("{said}: nobody else can build these bytes"));
    }
}

fn config_sha256(root: &Path, path: &Path) -> Reading<Option<String>> {
    let mut text = Vec::new();
    match File::open(root.join(path.strip_prefix("/").unwrap_or(path))) {
        Ok(mut file) => {
            file.read_to_end(&mut text).map_err(|error| Unread::new(path.display(), error))?;
            Ok(Some(sha256_of(&text)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unread::new(path.display(), error)),
    }
}

fn judge_config(facts: &AuditFacts, now: Option<&str>, finding: &mut Finding) {
    let path = facts.config.display();
    match (facts.config_sha256.as_deref(), now) {
        (None, None) => finding.pass(format!("{path}: none at the start, none now")),
        (Some(before), Some(now)) if before == now => {
            finding.pass(format!("{path}: sha256 {now}, as at the start"))
        }
        (Some(_), Some(_)) => finding.fail(format!(
            "{path} was changed since the start; restart the gateway to have it in force"
        )),
        (Some(_), None) => finding.fail(format!("{path} is gone since the start")),
        (None, Some(_)) => finding.fail(format!(
            "{path} was made since the start; restart the gateway to have it in force"
        )),
    };
}

fn judge_network(evidence: &Evidence) -> Finding {
    let mut finding = reading::judge(&evidence.program.firewall, |now, finding| {
        judge_firewall(evidence.facts.firewall.as_deref(), now.as_deref(), finding);
    });
    let switch = |key: &str| match evidence.network.switches.get(key) {
        Some(Ok(value)) => value.clone(),
        _ => None,
    };
    let has_ipv6 = switch("net/ipv6/conf/all/disable_ipv6").is_some_and(|value| value == "0");
    let keys = [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", has_ipv6)];
    for (key, _) in keys.iter().filter(|(_, is_needed)| *is_needed) {
        let value = switch(key).unwrap_or_else(|| "unknown".into());
        let is_on = !["0", "unknown"].contains(&value.as_str());
        finding.expect(is_on, format!("{} = {value}", key.replace('/', ".")));
    }
    finding
}

fn judge_firewall(at_start: Option<&str>, now: Option<&str>, finding: &mut Finding) {
    let is_same = now.is_some() && now == at_start;
    let now = now.unwrap_or("none");
    finding.expect(is_same, format!("fingerprint of the firewall table: {now}"));
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn executable(sha256: &str, sha256_on_disk: Option<&str>) -> Verdict {
        let mut finding = Finding::default();
        let executable = Executable {
            path: "/usr/bin/tacit".into(),
            sha256: sha256.into(),
            sha256_on_disk: sha256_on_disk.map(str::to_owned),
        };
        judge_executable("control", &Ok(executable), "aa", &mut finding);
        finding.verdict()
    }

    #[test]
    fn program_that_was_replaced_is_a_violation() {
        assert_eq!(executable("aa", Some("aa")), Verdict::Pass);
        assert_eq!(executable("aa", Some("bb")), Verdict::Fail);
        assert_eq!(executable("aa", None), Verdict::Fail);
        assert_eq!(executable("bb", Some("bb")), Verdict::Fail, "not the one that audits");
    }

    #[test]
    fn program_of_no_commit_is_told() {
        let judged = |commit: &str| {
            let mut finding = Finding::default();
            judge_commit(commit, "aa", &mut finding);
            finding.verdict()
        };
        assert_eq!(judged("unknown"), Verdict::Warn);
        assert_eq!(judged(&format!("{}-dirty", "0".repeat(40))), Verdict::Warn);
        assert_eq!(judged("c0ffee"), Verdict::Warn);
        assert_eq!(judged(&"c0ffee77".repeat(5)), Verdict::Pass);
    }

    #[test]
    fn firewall_table_that_is_another_one_or_gone_is_a_violation() {
        let judged = |at_start, now| {
            let mut finding = Finding::default();
            judge_firewall(at_start, now, &mut finding);
            finding.verdict()
        };
        assert_eq!(judged(Some("aa"), Some("aa")), Verdict::Pass);
        assert_eq!(judged(Some("aa"), Some("bb")), Verdict::Fail);
        assert_eq!(judged(Some("aa"), None), Verdict::Fail);
        assert_eq!(judged(None, None), Verdict::Fail);
    }
}
