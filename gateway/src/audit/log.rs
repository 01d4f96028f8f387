//! The gateway's log: what it may say, where it goes, and what is in it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{
    check::{Check, Finding},
    process::Process,
    reading::{self, Reading, Unread},
};
use crate::{admin::AuditFacts, config::LogLevel, log};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "log-level",
        meaning: "The log tells what happened to the gateway, in fields of a fixed list, and no details.",
        by_hand: "tr '\\0' '\\n' < /proc/{control}/cmdline; tr '\\0' '\\n' < /proc/{control}/environ | grep TACIT_LOG; grep log {config}",
        judge: |evidence| {
            let mut finding = Finding::default();
            judge_level(evidence.facts.log, &mut finding);
            finding
        },
    },
    Check {
        id: "log-destination",
        meaning: "What the gateway logs is not kept for good, and is not sent on.",
        by_hand: "ls -l /proc/{control}/fd/2; systemd-analyze cat-config systemd/journald.conf; systemctl show -p LogNamespace tacit; ls -d /var/log/journal /run/systemd/journal/syslog",
        judge: |evidence| {
            let mut finding = Finding::default();
            judge_destination(&evidence.log.destination, &evidence.log.journal, &mut finding);
            finding
        },
    },
    Check {
        id: "log-content",
        meaning: "There is no address, e-mail address or key in what the gateway logged.",
        by_hand: "grep -E '([0-9]+\\.){3}[0-9]+|@|[A-Za-z0-9+/]{43}=' /proc/{control}/fd/2",
        judge: |evidence| {
            reading::judge(&evidence.log.text, |text, finding| {
                let Some(text) = text else {
                    judge_unread(&evidence.log.destination, finding);
                    return;
                };
                judge_content(text, &evidence.facts, finding);
            })
        },
    },
];

/// What was read of the log.
pub(super) struct LogFiles {
    destination: Destination,
    journal: Journal,
    /// What is in it, if it is a file.
    text: Reading<Option<String>>,
}

impl LogFiles {
    /// Looks where a process's stderr leads, and how this host's journal is set up.
    pub(super) fn read(control: &Process) -> Self {
        let destination = Destination::of(control);
        let text = match &destination {
            Destination::File(_) => tail(control.pid).map(Some),
            _ => Ok(None),
        };
        let groups = reading::text(format!("/proc/{}/cgroup", control.pid)).unwrap_or_default();
        Self { destination, journal: Journal::of_unit(Path::new("/"), unit(&groups)), text }
    }
}

fn judge_level(level: LogLevel, finding: &mut Finding) {
    let fields = log::FIELDS.join(", ");
    let name = serde_json::to_value(level).ok().and_then(|name| name.as_str().map(str::to_owned));
    let name = name.unwrap_or_default();
    match level {
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => finding.pass(format!("level {name}")),
        LogLevel::Debug | LogLevel::Trace => {
            finding.warn(format!("level {name}: meant for looking for faults; set `log` to info"))
        }
    };
    finding.pass(format!("an event with another field than these is not written: {fields}"));
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    Nowhere,
    Terminal,
    Journal,
    File(String),
    Other(String),
}

impl Destination {
    fn of(process: &Process) -> Self {
        const STDERR: u32 = 2;
        let descriptors = process.descriptors.as_deref().unwrap_or_default();
        let Some(stderr) = descriptors.iter().find(|descriptor| descriptor.number == STDERR) else {
            return Self::Nowhere;
        };
        let file = format!("/proc/{}/fd/{STDERR}", process.pid);
        let environment =
            reading::text(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        // How systemd tells a service that a descriptor is the journal's.
        let stream = environment.split('\0').find_map(|line| line.strip_prefix("JOURNAL_STREAM="));
        let identity =
            fs::metadata(&file).map(|file| format!("{}:{}", file.dev(), file.ino())).ok();
        if stream.is_some() && stream == identity.as_deref() {
            return Self::Journal;
        }
        match stderr.target.as_str() {
            "/dev/null" => Self::Nowhere,
            target if target.starts_with("/dev/pts/") || target.starts_with("/dev/tty") => {
                Self::Terminal
            }
            target if fs::metadata(&file).is_ok_and(|file| file.is_file()) => {
                Self::File(target.into())
            }
            target => Self::Other(target.into()),
        }
    }
}

/// How this host's journal is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Journal {
    /// `Storage=`, and what of it comes true.
    is_kept: bool,
    /// Where entries are sent on to.
    forwards_to: Vec<String>,
}

/// Where systemd's programs look for settings, the earlier ones going before.
const SETTINGS_DIRS: [&str; 4] =
    ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

/// Reads a program's settings below `root` as systemd does: the first main file, then all drop-ins in the order of
/// their names, wherever they are. Of those with the same name only the first counts.
fn settings(root: &Path, name: &str) -> String {
    let dirs = SETTINGS_DIRS.map(|dir| root.join(dir));
    let main = dirs.iter().find_map(|dir| reading::text(dir.join(name)).ok());
    let mut drop_ins = BTreeMap::new();
    for dir in &dirs {
        let files = reading::directory(dir.join(format!("{name}.d"))).unwrap_or_default();
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|it| it == "conf"))
        {
            drop_ins.entry(file.file_name().map(ToOwned::to_owned)).or_insert(file);
        }
    }
    // One that is /dev/null says nothing, and hides others of its name.
    let drop_ins = drop_ins.values().filter_map(|file| reading::text(file).ok());
    main.into_iter().chain(drop_ins).collect::<Vec<_>>().join("\n")
}

/// The service that a process belongs to, by the lines of its `cgroup`.
fn unit(groups: &str) -> Option<&str> {
    let mut words = groups.lines().flat_map(|line| line.rsplit('/'));
    words.find(|word| word.ends_with(".service"))
}

/// What settings say last of `key`.
fn last<'a>(settings: &'a str, key: &str) -> Option<&'a str> {
    let mut values =
        settings.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    values.next_back().map(str::trim).filter(|value| !value.is_empty())
}

impl Journal {
    /// Reads the settings below `root` of the journal that `unit` writes to: the host's, or one of its own.
    fn of_unit(root: &Path, unit: Option<&str>) -> Self {
        let unit = unit.map(|unit| settings(root, &format!("system/{unit}"))).unwrap_or_default();
        let Some(namespace) = last(&unit, "LogNamespace") else { return Self::read(root) };
        let text = settings(root, &format!("journald@{namespace}.conf"));
        let has_syslog = root.join(format!("run/systemd/journal.{namespace}/syslog")).exists();
        // Its directory is made with it.
        Self::of(&text, true, has_syslog)
    }

    /// Reads the settings of the host's journal below `root`.
    fn read(root: &Path) -> Self {
        let text = settings(root, "journald.conf");
        let has_syslog = root.join("run/systemd/journal/syslog").exists();
        Self::of(&text, root.join("var/log/journal").exists(), has_syslog)
    }

    /// Reads settings; where they are silent, it depends on what is on the disk and who listens.
    fn of(text: &str, has_directory: bool, has_syslog: bool) -> Self {
        let last = |key| last(text, key).map(str::to_lowercase);
        let is_kept = match last("Storage").as_deref() {
            Some("persistent") => true,
            Some("volatile" | "none") => false,
            _ => has_directory,
        };
        let is_yes = |value: &str| ["yes", "true", "on", "1"].contains(&value);
        let mut forwards_to = Vec::new();
        // Distributions differ in what silence means; nothing is sent where nobody listens.
        if has_syslog && last("ForwardToSyslog").is_none_or(|value| is_yes(&value)) {
            forwards_to.push("syslog".into());
        }
        for (key, name) in
            [("ForwardToKMsg", "the kernel's log"), ("ForwardToConsole", "the console")]
        {
            if last(key).is_some_and(|value| is_yes(&value)) {
                forwards_to.push(name.into());
            }
        }
        forwards_to.extend(last("ForwardToSocket"));
        Self { is_kept, forwards_to }
    }
}

fn judge_destination(destination: &Destination, journal: &Journal, finding: &mut Finding) {
    match destination {
        Destination::Nowhere => finding.pass("the log goes nowhere"),
        Destination::Terminal => finding.pass("the log goes to a terminal"),
        Destination::File(path) => finding
            .warn(format!("the log goes to {path} and stays there until somebody removes it")),
        Destination::Other(target) => finding
            .warn(format!("the log goes to {target}; who reads it decides what becomes of it")),
        Destination::Journal => {
            if journal.is_kept {
                finding.warn("the journal is kept on the disk (Storage=)");
            } else {
                finding.pass("the journal is gone with the next start of the machine");
            }
            for receiver in &journal.forwards_to {
                finding.warn(format!("the journal is sent on to {receiver}"));
            }
            finding.pass(format!("the journal is sent on to {} others", journal.forwards_to.len()))
        }
    };
}

/// How much of a log is read, from its end.
const TAIL: u64 = 16 << 20;

fn tail(pid: u32) -> Reading<String> {
    let read = || {
        let mut file = File::open(format!("/proc/{pid}/fd/2"))?;
        let start = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|error| Unread::new("the log", error))
}

/// Judges a log that is no file, so that this program did not read it.
fn judge_unread(destination: &Destination, finding: &mut Finding) {
    match destination {
        Destination::Nowhere => finding.pass("there is no log to read"),
        _ => finding.warn("the log is no file, so it was not read; its fields are a fixed list"),
    };
}

fn judge_content(text: &str, facts: &AuditFacts, finding: &mut Finding) {
    let own: Vec<IpAddr> = facts.listen.iter().map(std::net::SocketAddr::ip).collect();
    let lines = text.lines().count();
    finding.pass(format!("{lines} lines were read"));
    for (what, count) in telling(text, &own) {
        finding.expect(count == 0, format!("{count} {what}"));
    }
}

/// How many words of a log name somebody.
fn telling(text: &str, own: &[IpAddr]) -> [(&'static str, usize); 3] {
    let is_address = |word: &&str| {
        word.parse::<IpAddr>().is_ok_and(|ip| !own.contains(&ip) && !ip.is_loopback())
    };
    let of_address = |letter: char| letter.is_ascii_hexdigit() || letter == ':' || letter == '.';
    let addresses = text.split(|letter| !of_address(letter)).map(|word| word.trim_matches('.'));
    let is_email = |word: &&str| {
        word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
    };
    let of_key = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    let is_key = |word: &&str| {
        word.strip_suffix('=')
            .is_some_and(|word| word.rsplit('=').next().is_some_and(|key| key.len() == 43))
    };
    [
        ("IP addresses", addresses.filter(is_address).count()),
        ("e-mail addresses", text.split_whitespace().filter(is_email).count()),
        ("keys", text.split(|letter| !of_key(letter)).filter(is_key).count()),
    ]
}

#[cfg(test)]
mod tests {
    use super::{
        super::check::{Verdict, verdict},
        *,
    };

    #[test]
    fn talkative_log_is_told() {
        assert_eq!(verdict(|finding| judge_level(LogLevel::Info, finding)), Verdict::Pass);
        assert_eq!(verdict(|finding| judge_level(LogLevel::Debug, finding)), Verdict::Warn);
        assert_eq!(verdict(|finding| judge_level(LogLevel::Trace, finding)), Verdict::Warn);
    }

    #[test]
    fn journal_that_is_kept_or_sent_on_is_told() {
        let judged = |journal: Journal| {
            verdict(|finding| judge_destination(&Destination::Journal, &journal, finding))
        };
        assert_eq!(judged(Journal::of("", false, false)), Verdict::Pass);
        assert_eq!(judged(Journal::of("", true, false)), Verdict::Warn);
        assert_eq!(judged(Journal::of("", false, true)), Verdict::Warn);
        assert_eq!(
            judged(Journal::of("[Journal]\nStorage=volatile\nForwardToSyslog=no", true, true)),
            Verdict::Pass
        );
        assert_eq!(
            judged(Journal::of(
                "Storage=volatile\n#Storage=auto\nStorage=persistent",
                false,
                false
            )),
            Verdict::Warn
        );
        assert_eq!(judged(Journal::of("ForwardToConsole=yes", false, false)), Verdict::Warn);
    }

    #[test]
    fn settings_of_the_journal_are_read_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let is_kept_with = |path: &str, storage: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Journal]\nStorage={storage}\n")).unwrap();
            Journal::read(root.path()).is_kept
        };
        assert!(is_kept_with("usr/lib/systemd/journald.conf", "persistent"));
        assert!(!is_kept_with("etc/systemd/journald.conf", "volatile"), "the first main file");
        let (vendors, own) = ("usr/lib/systemd/journald.conf.d", "etc/systemd/journald.conf.d");
        assert!(is_kept_with(&format!("{vendors}/50-x.conf"), "persistent"), "before a main file");
        assert!(!is_kept_with(&format!("{own}/50-x.conf"), "none"), "instead of the vendor's");
        assert!(is_kept_with(&format!("{vendors}/60-x.conf"), "persistent"), "the later name");
        assert!(!is_kept_with("run/systemd/journald.conf.d/70-x.conf", "volatile"));
        assert!(!is_kept_with(&format!("{own}/80-x.disabled"), "persistent"), "no .conf");
    }

    #[test]
    fn journal_of_its_own_is_the_one_that_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let is_kept = || Journal::of_unit(root.path(), Some("tacit.service")).is_kept;
        write("etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n");
        write("etc/systemd/system/tacit.service", "[Service]\nExecStart=/usr/bin/tacit run\n");
        assert!(!is_kept());
        write("etc/systemd/system/tacit.service.d/log.conf", "[Service]\nLogNamespace=vpn\n");
        assert!(is_kept(), "unless told, it is");
        write("etc/systemd/journald@vpn.conf", "[Journal]\nStorage=none\n");
        assert!(!is_kept());
        assert!(!Journal::of_unit(root.path(), Some("other.service")).is_kept);
    }

    #[test]
    fn service_is_known_by_its_control_group() {
        assert_eq!(unit("0::/system.slice/tacit.service\n"), Some("tacit.service"));
        assert_eq!(unit("1:name=systemd:/system.slice/tacit.service\n"), Some("tacit.service"));
        assert_eq!(unit("0::/user.slice/session-1.scope\n"), None);
    }

    #[test]
    fn log_that_was_not_read_is_told() {
        let judged = |destination| verdict(|finding| judge_unread(&destination, finding));
        assert_eq!(judged(Destination::Journal), Verdict::Warn);
        assert_eq!(judged(Destination::Terminal), Verdict::Warn);
        assert_eq!(judged(Destination::Other("pipe:[7]".into())), Verdict::Warn);
        assert_eq!(judged(Destination::Nowhere), Verdict::Pass);
    }

    #[test]
    fn log_in_a_file_is_told() {
        let judged = |destination| {
            verdict(|finding| judge_destination(&destination, &Journal::default(), finding))
        };
        assert_eq!(judged(Destination::File("/var/log/tacit".into())), Verdict::Warn);
        assert_eq!(judged(Destination::Other("pipe:[7]".into())), Verdict::Warn);
        assert_eq!(judged(Destination::Terminal), Verdict::Pass);
        assert_eq!(judged(Destination::Nowhere), Verdict::Pass);
    }

    #[test]
    fn words_that_name_somebody_are_found() {
        let own = ["192.0.2.1".parse().unwrap()];
        let counts = |text| telling(text, &own).map(|(_, count)| count);
        let ready = "2026-11-25T16:15:14.288761Z  INFO ready version=\"0.1.0\" commit=\"c5bc09a76493813d2fc025dc98bc418fbab5634e\" workers=2 pid=24";
        assert_eq!(counts(ready), [0, 0, 0]);
        assert_eq!(counts("bound 192.0.2.1:51820"), [0, 0, 0]);
        assert_eq!(counts("to 203.0.113.9."), [1, 0, 0]);
        assert_eq!(counts("to 2001:db8::1 and fd66:7ac1:7::2"), [2, 0, 0]);
        assert_eq!(counts("of ann@example.org"), [0, 1, 0]);
        assert_eq!(counts("key=xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg= x"), [0, 0, 1]);
    }
}
