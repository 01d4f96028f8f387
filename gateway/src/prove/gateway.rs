//! The private gateway: this program again, in namespaces of its own, as talkative as it can be, and watched by strace.

use std::{
    env, fs,
    io::{self, PipeReader, PipeWriter, Read, Write},
    net::IpAddr,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use parking_lot::Mutex;
use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
        move_mount, open_tree,
    },
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
};
use tacit_messages::clock::Instant;

use super::{namespace::Namespace, processes, watch::SYSTEM_CALLS, wires};
use crate::admin::{Request, ShowStatus, client};

/// Directories that programs write to; the gateway sees empty ones of its own.
pub(super) const PRIVATE_DIRS: [&str; 4] = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
/// Everything that belongs to the experiment, as the gateway sees it.
const HOME: &str = "/run/tacit-prove";
/// How long the gateway may take to start: everything takes longer when it is watched.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The running gateway. It ends with this process, however that ends.
pub(super) struct PrivateGateway {
    /// Its network and its files.
    pub(super) namespace: Namespace,
    output: Arc<Mutex<Vec<u8>>>,
    control_line: PipeWriter,
    reader: JoinHandle<()>,
    watcher: Watcher,
    ended: mpsc::Receiver<io::Result<ExitStatus>>,
}

impl PrivateGateway {
    /// Starts it, with `variable` in its environment, and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn start(strace: &Path, variable: (&str, &str)) -> anyhow::Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let namespace = Namespace::with_files(|| arrange_files(&program))?;
        let (reader, writer) = io::pipe().context("making a pipe")?;
        let command = command(strace, variable, &writer)?;
        let (pid, ended) = start_inside(&namespace, command)?;
        let watcher = Watcher(pid);
        let output = Arc::default();
        let reader = collect(reader, Arc::clone(&output));
        let gateway = Self { namespace, output, control_line: writer, reader, watcher, ended };
        gateway.wait_until_ready()?;
        Ok(gateway)
    }

    /// Where the store and the key are, as the gateway sees it.
    pub(super) fn data_dir() -> PathBuf {
        Path::new(HOME).join("data")
    }

    /// Where strace wrote down what it saw.
    pub(super) fn trace_path() -> PathBuf {
        Path::new(HOME).join("watch/trace")
    }

    /// How much strace wrote down so far, in bytes.
    ///
    /// # Errors
    /// If it wrote nothing yet.
    pub(super) fn traced(&self) -> anyhow::Result<usize> {
        let len = self.namespace.within(|| Ok(fs::metadata(Self::trace_path())?.len()))?;
        Ok(usize::try_from(len)?)
    }

    /// Asks it for something at its admin socket.
    ///
    /// # Errors
    /// If it refuses or does not answer.
    pub(super) fn ask<R: Request>(&self, request: R) -> anyhow::Result<R::Response> {
        let socket = socket_path();
        self.namespace.within_async(async || client::call(&socket, request).await)
    }

    /// Its processes, without the one that watches them.
    pub(super) fn processes(&self) -> Vec<processes::Process> {
        processes::below(self.watcher.0)
    }

    /// Everything that it wrote to stdout and stderr so far.
    pub(super) fn output(&self) -> Vec<u8> {
        self.output.lock().clone()
    }

    /// Writes a line where it writes its own.
    ///
    /// # Errors
    /// If the pipe is closed.
    pub(super) fn plant_in_output(&self, line: &str) -> io::Result<()> {
        writeln!(&self.control_line, "{line}")
    }

    /// Has it stop, and returns what remains to be searched.
    ///
    /// # Errors
    /// If it does not stop, or not well.
    pub(super) fn stop(self) -> anyhow::Result<Remains> {
        let control = self.processes().into_iter().next().context("the private gateway is gone")?;
        kill_process(control.id()?, Signal::TERM).context("stopping the private gateway")?;
        let Ok(status) = self.ended.recv_timeout(STOP_PATIENCE) else {
            bail!("the private gateway did not stop within {} s", STOP_PATIENCE.as_secs());
        };
        let Self { namespace, output, control_line, reader, watcher, .. } = self;
        // Its number may be another's by now.
        std::mem::forget(watcher);
        drop(control_line);
        let _ = reader.join();
        let output = std::mem::take(&mut *output.lock());
        let status = status.context("waiting for the private gateway")?;
        ensure!(
            status.success(),
            "the private gateway ended with {status}: {}",
            last_line(&output)
        );
        Ok(Remains { namespace, output })
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while Instant::now().since(began) < START_PATIENCE {
            if self.ended.try_recv().is_ok() {
                thread::sleep(Duration::from_millis(100));
                bail!("the private gateway did not start: {}", last_line(&self.output()));
            }
            if self.ask(ShowStatus { without_counts: true }).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the private gateway was not ready within {} s", START_PATIENCE.as_secs())
    }
}

/// What is left of a gateway that has stopped.
pub(super) struct Remains {
    /// Its files.
    pub(super) namespace: Namespace,
    /// Everything that it wrote to stdout and stderr.
    pub(super) output: Vec<u8>,
}

fn socket_path() -> PathBuf {
    Path::new(HOME).join("admin.sock")
}

/// Hides every directory that programs write to behind an empty one. Called inside.
fn arrange_files(program: &Path) -> anyhow::Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making mounts private")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, program, flags)
        .with_context(|| format!("{} was replaced since it started", program.display()))?;
    for dir in PRIVATE_DIRS.iter().filter(|dir| Path::new(dir).is_dir()) {
        mount_empty(dir)?;
    }
    let home = Path::new(HOME);
    for dir in [home, &home.join("watch")] {
        fs::DirBuilder::new().mode(0o755).create(dir).context("making a directory")?;
    }
    // What is mounted here is no part of what the gateway wrote, so the search does not enter it.
    mount_empty(&format!("{HOME}/watch"))?;
    fs::write(home.join("tacit"), "").context("making a file")?;
    fs::write(home.join("tacit.toml"), "").context("making a file")?;
    move_mount(&program, "", CWD, home.join("tacit"), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("mounting the program")
}

fn mount_empty(dir: &str) -> anyhow::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", dir, "tmpfs", flags, c"mode=1777")
        .with_context(|| format!("mounting an empty {dir}"))
}

fn command(strace: &Path, variable: (&str, &str), output: &PipeWriter) -> anyhow::Result<Command> {
    let home = Path::new(HOME);
    let mut command = Command::new(strace);
    command
        .env_clear()
        .envs([("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full"), variable])
        .current_dir("/")
        .args(["-f", "--seccomp-bpf", "-qq", "-yy", "-s", "0", "-e", SYSTEM_CALLS, "-o"])
        .arg(PrivateGateway::trace_path())
        .arg("--")
        .arg(home.join("tacit"))
        .args(["run", "--log", "trace", "--workers", "2", "--config"])
        .arg(home.join("tacit.toml"))
        .arg("--data-dir")
        .arg(PrivateGateway::data_dir())
        .arg("--socket")
        .arg(socket_path())
        .args(["--endpoint", &IpAddr::from(wires::GATEWAY_V4).to_string()])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        // Ctrl-C ends this process, and the kernel then ends the gateway.
        .process_group(0);
    #[cfg(feature = "leaky")]
    command.envs(env::vars_os().filter(|(name, _)| name == crate::control::LEAK_VARIABLE));
    become_first_process(&mut command);
    Ok(command)
}

#[expect(unsafe_code, reason = "nothing safe does work between fork and exec")]
fn become_first_process(command: &mut Command) {
    let work = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Process numbers inside are the gateway's own.
        Ok(mount("proc", "/proc", "proc", MountFlags::empty(), None)?)
    };
    // SAFETY: two system calls, no memory is allocated.
    unsafe { command.pre_exec(work) };
}

type Ended = mpsc::Receiver<io::Result<ExitStatus>>;

/// Starts `command` as the first process of a process namespace: when it ends, all in it do.
///
/// It is killed when the thread that started it ends, so that thread stays.
fn start_inside(namespace: &Namespace, mut command: Command) -> anyhow::Result<(u32, Ended)> {
    let (started, pid) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    let network = namespace.duplicate()?;
    thread::spawn(move || {
        let child = network.enter().and_then(|()| spawn_first(&mut command));
        // Its ends of the pipe would keep the pipe open.
        drop(command);
        match child {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                let _ = ended.send(child.wait());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    let pid = pid.recv().context("starting strace")?.context("starting strace")?;
    Ok((pid, end))
}

fn spawn_first(command: &mut Command) -> io::Result<Child> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    command.spawn()
}

fn collect(mut reader: PipeReader, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len) = reader.read(&mut buffer)
            && len > 0
        {
            output.lock().extend(&buffer[..len]);
        }
    })
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

/// strace, the first process of the gateway's: without it there is none. Killed when dropped.
struct Watcher(u32);

impl Drop for Watcher {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.0).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process(pid, Signal::KILL);
    }
}
