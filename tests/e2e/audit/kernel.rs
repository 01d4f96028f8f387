//! Parts of the kernel that the whole machine has once. What is planted there records nothing, and concerns nobody.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use nlink::netlink::{Audit, Connection};
use tacit_tests::Lab;

use super::{Audited, outsiders::verdicts_from_outside};

/// A buffer of its own of the kernel's tracer, in which nothing is recorded. It goes when dropped.
struct Instance {
    tracer: PathBuf,
    name: String,
}

impl Instance {
    fn make(lab: &Lab) -> Self {
        let tracer = lab.gateway.path("/sys/kernel/tracing");
        let name = format!("tacit_audit_{}", std::process::id());
        let made = Self { tracer, name };
        fs::create_dir(made.dir()).unwrap();
        made.write("tracing_on", "0");
        made
    }

    fn dir(&self) -> PathBuf {
        self.tracer.join("instances").join(&self.name)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.dir().join(file), text).unwrap();
    }

    /// Sets a probe at a place in a program, for all instances to enable.
    fn set_probe(&self, program: &Path) {
        self.probe(&format!("p:{}/spy {}:0x1000", self.name, program.display())).unwrap();
    }

    fn remove_probe(&self) {
        let _ = self.probe(&format!("-:{}/spy", self.name));
    }

    fn probe(&self, line: &str) -> std::io::Result<()> {
        let events = self.tracer.join("uprobe_events");
        OpenOptions::new().append(true).open(events)?.write_all(line.as_bytes())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::write(self.dir().join("set_event"), "");
        self.remove_probe();
        let _ = fs::remove_dir(self.dir());
    }
}

#[test]
fn kernel_that_traces_the_network_or_a_program_is_seen() {
    let lab = Lab::new(0);
    lab.gateway.sh("mount -t tracefs none /sys/kernel/tracing");
    let audited = Audited::start(&lab);
    let program = lab.dir().join("nobodys");
    fs::copy("/bin/true", &program).unwrap();
    let instance = Instance::make(&lab);
    let id = "kernel-tracing";
    for event in ["net:net_dev_xmit", "sock:inet_sock_set_state"] {
        audited.sees(
            id,
            || instance.write("set_event", event),
            |()| instance.write("set_event", ""),
        );
    }
    audited.sees_as(id, "WARN", || instance.set_probe(&program), |()| instance.remove_probe());
    let enable = || {
        instance.set_probe(&program);
        instance.write("set_event", &format!("{}:spy", instance.name));
    };
    let disable = |()| {
        instance.write("set_event", "");
        instance.remove_probe();
    };
    audited.sees(id, enable, disable);
}

/// The kernel's audit, as it was found. It is so again when dropped.
struct KernelAudit {
    was_on: bool,
}

/// What can be asked of it, by number.
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;

impl KernelAudit {
    /// None if it does not answer here.
    fn find() -> Option<Self> {
        let status = within_runtime(async || Connection::<Audit>::new()?.get_status().await);
        Some(Self { was_on: status.ok()?.enabled != 0 })
    }

    /// Switches it on or off.
    fn switch(&self, on: bool) {
        const ENABLED: u32 = 1;
        let words = [ENABLED, u32::from(on), 0, 0, 0, 0, 0, 0, 0, 0, 0];
        say(SET, &words).unwrap();
    }

    fn add_rule(&self) {
        say(ADD_RULE, &rule()).unwrap();
    }

    fn delete_rule(&self) {
        let _ = say(DELETE_RULE, &rule());
    }
}

impl Drop for KernelAudit {
    fn drop(&mut self) {
        self.delete_rule();
        self.switch(self.was_on);
    }
}

/// `struct audit_rule_data`: whenever a user whom nobody is connects, that is recorded.
fn rule() -> Vec<u32> {
    const EXIT: u32 = 4;
    const ALWAYS: u32 = 2;
    const UID: u32 = 1;
    const EQUAL: u32 = 0x4000_0000;
    const NOBODY: u32 = 0xffff_fff0;
    const MOST: usize = 64;
    let only = |value: u32| (0..MOST).map(move |place| if place == 0 { value } else { 0 });
    let mut calls = [0_u32; MOST];
    let connect = libc::SYS_connect as usize;
    calls[connect / 32] = 1 << (connect % 32);
    let mut words = vec![EXIT, ALWAYS, 1];
    words.extend(calls);
    words.extend(only(UID).chain(only(NOBODY)).chain(only(EQUAL)));
    // There is no text.
    words.push(0);
    words
}

/// Sends a request and waits for its answer.
fn say(kind: u16, words: &[u32]) -> nlink::Result<()> {
    const HEADER_LEN: usize = 16;
    const REQUEST_AND_ACK: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    within_runtime(async || {
        let audit = Connection::<Audit>::new()?;
        let socket = audit.socket();
        let mut request = ((HEADER_LEN + words.len() * 4) as u32).to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(REQUEST_AND_ACK.to_ne_bytes());
        request.extend(socket.next_seq().to_ne_bytes());
        request.extend(socket.pid().to_ne_bytes());
        request.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        socket.send(&request).await?;
        let answer = socket.recv_msg().await?;
        let errno = answer.get(HEADER_LEN..).and_then(<[u8]>::first_chunk);
        match errno.map_or(0, |errno| i32::from_ne_bytes(*errno)) {
            0 => Ok(()),
            errno => Err(nlink::Error::from_errno(errno)),
        }
    })
}

fn within_runtime<T>(work: impl AsyncFnOnce() -> T) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
}

#[test]
fn kernel_that_audits_network_calls_is_seen_where_it_can_be_asked() {
    let lab = Lab::new(0);
    let audited = Audited::start(&lab);
    let Some(kernel) = KernelAudit::find() else {
        eprintln!("DID NOT RUN: this kernel's audit answers nobody here; the judge has unit tests");
        return;
    };
    let clean = verdicts_from_outside(&audited.gateway);
    assert_eq!(clean["kernel-audit"], "PASS");
    let expected = |verdict: &str| {
        let mut expected = clean.clone();
        expected.insert("kernel-audit".into(), verdict.into());
        expected
    };
    kernel.switch(false);
    kernel.add_rule();
    assert_eq!(verdicts_from_outside(&audited.gateway), expected("WARN"), "one switch away");
    kernel.switch(true);
    assert_eq!(verdicts_from_outside(&audited.gateway), expected("FAIL"));
    drop(kernel);
    assert_eq!(verdicts_from_outside(&audited.gateway), clean);
}
