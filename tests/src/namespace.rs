//! Network namespaces that cannot outlive the test.
//!
//! A namespace here is a network, mount and process namespace whose process number 1 reads a pipe from the test
//! process. When the test drops it, panics or is killed, the pipe closes, process 1 ends, and the kernel
//! kills whatever still runs inside and removes interfaces, addresses and mounts. Nothing has a name on the
//! machine, so tests cannot meet and nothing is left to sweep. `/run`, `/etc` and `/sys` inside are its own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// One network, mount and process namespace.
pub struct Namespace {
    holder: Child,
    network: File,
    mounts: File,
    processes: File,
}

impl Namespace {
    /// Makes a namespace with nothing but a loopback interface.
    ///
    /// # Panics
    /// Without root, or if the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "the end-to-end tests make network namespaces: run them as root"
        );
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--propagation"])
            .args(["private", "sh", "-c", include_str!("namespace.sh")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting unshare (Debian package util-linux)");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("stdout was piped");
        BufReader::new(stdout).read_line(&mut line).expect("reading from the holder");
        assert_eq!(line, "made\n", "the namespace could not be made");

        let proc = PathBuf::from(format!("/proc/{}/ns", holder.id()));
        let open = |name: &str| File::open(proc.join(name)).expect("opening the namespace");
        let (network, mounts) = (open("net"), open("mnt"));
        Self { network, mounts, processes: open("pid_for_children"), holder }
    }

    /// The holder's process number, as `ip link … netns` wants it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// Where a path inside the namespace is seen from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder.id()))
    }

    /// Runs `work` on a thread in this network; sockets opened there stay in it.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(&self.network, LinkNameSpaceType::Network);
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on a thread of its own in this network.
    pub fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let network = self.network.try_clone().expect("copying a descriptor");
        thread::spawn(move || {
            enter(&network, LinkNameSpaceType::Network);
            drop(network);
            work()
        })
    }

    /// Starts a program inside: its network, its files, its process numbers.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(&self, command: &mut Command) -> io::Result<Child> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter_all();
                    command.spawn()
                })
                .join()
                .expect("starting a program in the namespace")
        })
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn output(&self, command: &mut Command) -> Output {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.start(command).expect("starting a program in the namespace");
        child.wait_with_output().expect("waiting for the program")
    }

    /// Runs a shell line inside and returns its standard output.
    ///
    /// # Panics
    /// If it fails; the message has its standard error.
    pub fn sh(&self, line: &str) -> String {
        let output = self.output(Command::new("sh").args(["-ec", line]));
        assert!(
            output.status.success(),
            "{line:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn enter_all(&self) {
        enter(&self.network, LinkNameSpaceType::Network);
        enter(&self.processes, LinkNameSpaceType::ProcessID);
        leave_shared_root();
        enter(&self.mounts, LinkNameSpaceType::Mount);
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn enter(namespace: &File, kind: LinkNameSpaceType) {
    move_into_link_name_space(namespace.as_fd(), Some(kind)).expect("entering the namespace");
}

/// Gives the calling thread its own root and working directory, without which it may not change mounts.
#[expect(unsafe_code, reason = "rustix marks every unshare unsafe")]
fn leave_shared_root() {
    // SAFETY: only the file-system attributes of this short-lived thread stop being shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.expect("unsharing the root");
}
