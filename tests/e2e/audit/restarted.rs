//! What only another start of the gateway changes: its program, where its log goes, and what the log tells.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tacit_tests::{Gateway, Lab, clock::wait_for, gateway::program};

use super::{Verdicts, verdicts, without_machine_wide};

/// A gateway that ends with its test, started with less talk than others.
struct Running<'lab> {
    gateway: Gateway<'lab>,
    child: Child,
}

impl<'lab> Running<'lab> {
    /// Starts `program`, whose log of a level goes to `stderr`; `wrapper` goes before it on the command line.
    fn start(
        lab: &'lab Lab,
        program: &Path,
        level: &str,
        stderr: impl Into<Stdio>,
        wrapper: &[&str],
    ) -> Self {
        let gateway = Gateway::stopped(lab, "gateway", &[]).built_as(program);
        let talkative = gateway.command();
        let arguments =
            talkative.get_args().map(|word| if word == "trace" { level.as_ref() } else { word });
        let line: Vec<_> = wrapper.iter().map(AsRef::as_ref).chain([program.as_os_str()]).collect();
        let mut command = Command::new(line[0]);
        command.env_clear().args(&line[1..]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = lab.gateway.start(&mut command).unwrap();
        let started = Self { gateway, child };
        let answers = || started.gateway.cli(&["status"]).status.success().then_some(());
        assert!(wait_for(Duration::from_secs(15), answers).is_some());
        started
    }

    fn verdicts(&self) -> Verdicts {
        without_machine_wide(verdicts(&self.gateway))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The next start waits until everything of this one is gone.
        let is_gone = || (!self.gateway.socket().exists()).then_some(());
        let _ = wait_for(Duration::from_secs(5), is_gone);
    }
}

fn but(mut verdicts: Verdicts, id: &str, verdict: &str) -> Verdicts {
    let before = verdicts.insert(id.into(), verdict.into());
    assert_eq!(before.as_deref(), Some("PASS"), "{id}");
    verdicts
}

#[test]
fn talkative_log_and_one_that_is_kept_are_told() {
    let lab = Lab::new(0);
    let run = |level: &str, stderr: Stdio| {
        Running::start(&lab, &program(), level, stderr, &[]).verdicts()
    };
    let clean = run("info", Stdio::null());
    for level in ["debug", "trace"] {
        assert_eq!(run(level, Stdio::null()), but(clean.clone(), "log-level", "WARN"), "{level}");
    }
    let kept = File::create(lab.dir().join("kept.log")).unwrap();
    assert_eq!(run("info", kept.into()), but(clean.clone(), "log-destination", "WARN"));
    assert_eq!(run("info", Stdio::null()), clean);
}

#[test]
fn program_that_is_no_longer_on_the_disk_is_seen() {
    let lab = Lab::new(0);
    let (copy, away) = (lab.dir().join("tacit"), lab.dir().join("away"));
    fs::copy(program(), &copy).unwrap();
    let running = Running::start(&lab, &copy, "info", Stdio::null(), &[]);
    // The audit is made by a program that stays.
    let verdicts = || without_machine_wide(verdicts(&Gateway::stopped(&lab, "gateway", &[])));
    let clean = running.verdicts();
    assert_eq!(verdicts(), clean);

    let other = lab.dir().join("other");
    fs::hard_link(&copy, &away).unwrap();
    fs::write(&other, "another program").unwrap();
    fs::rename(&other, &copy).unwrap();
    assert_eq!(verdicts(), but(clean.clone(), "executable", "FAIL"));
    fs::remove_file(&copy).unwrap();
    assert_eq!(verdicts(), but(clean.clone(), "executable", "FAIL"));
    fs::rename(&away, &copy).unwrap();
    assert_eq!(verdicts(), clean);
}

/// A copy of the program that says that it was built from another commit, of a name as long.
fn built_from(lab: &Lab, commit: &str) -> PathBuf {
    let own = program_commit();
    let other: String =
        commit.chars().chain("0".repeat(own.len()).chars()).take(own.len()).collect();
    let mut bytes = fs::read(program()).unwrap();
    let places: Vec<usize> = memchr::memmem::find_iter(&bytes, own.as_bytes()).collect();
    assert!(!places.is_empty(), "the program names its commit");
    for place in places {
        bytes[place..place + own.len()].copy_from_slice(other.as_bytes());
    }
    let path = lab.dir().join(format!("tacit-of-{commit}"));
    fs::copy(program(), &path).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn program_commit() -> String {
    let output = Command::new(program()).args(["--version"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let is_commit = |word: &&str| word.len() >= 40 && !word.bytes().all(|byte| byte == b'0');
    let mut words = said.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    words.find(is_commit).unwrap_or_else(|| panic!("no commit in {said}")).to_owned()
}

#[test]
fn program_that_nobody_else_can_build_is_told() {
    let lab = Lab::new(0);
    let run = |commit: &str| {
        let program = built_from(&lab, commit);
        Running::start(&lab, &program, "info", Stdio::null(), &[]).verdicts()
    };
    let clean = run("c0ffee");
    assert_eq!(run("c0ffee-dirty"), but(clean, "build-id", "WARN"));
}

#[test]
fn process_that_is_not_the_gateways_own_is_seen() {
    let lab = Lab::new(0);
    // As in a container, where control is the first process and becomes the parent of those that lost theirs.
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
    let running = Running::start(&lab, &program(), "info", Stdio::null(), &wrapper);
    let clean = running.verdicts();
    let status = running.gateway.json(&["status"]);
    assert_eq!(status["control"]["pid"], 1, "{status}");
    let unshare = lab_number(&running.child);
    let asleep = lab.gateway.sh(&format!(
        "nsenter --target $(cat /proc/{unshare}/task/{unshare}/children) --pid sh -c 'sleep 60 >&- 2>&- & true'
         pgrep -f '^sleep 60$'"
    ));
    assert_eq!(running.verdicts(), but(clean.clone(), "gateway-processes", "FAIL"));
    lab.gateway.sh(&format!("kill {asleep}"));
    let is_clean = || (running.verdicts() == clean).then_some(());
    assert!(wait_for(Duration::from_secs(5), is_clean).is_some(), "{:?}", running.verdicts());
}

/// A process's number inside the lab's namespace.
fn lab_number(child: &Child) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    crate::seal::field(&status, "NSpid").last().unwrap().to_string()
}
