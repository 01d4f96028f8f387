//! Namespaces without a name: they are held by descriptors, and go with this process however it ends.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    panic::resume_unwind,
    thread,
};

use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime;

/// A network, and for the gateway also a view of the file system and shared memory.
#[derive(Debug)]
pub(super) struct Namespace {
    network: File,
    files: Option<[File; 2]>,
}

impl Namespace {
    /// Makes a network of its own, without an interface.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn network() -> anyhow::Result<Self> {
        let made = on_own_thread(|| -> io::Result<Self> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self { network: own("net")?, files: None })
        });
        made.context("making a network namespace; this needs root")
    }

    /// Makes a network, a view of the file system that `arrange` changes, and shared memory of its own.
    ///
    /// # Errors
    /// If the kernel refuses or `arrange` fails.
    pub(super) fn with_files(
        arrange: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Self> {
        on_own_thread(|| {
            let all = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
            unshare(all).context("making namespaces; this needs root")?;
            arrange()?;
            Ok(Self { network: own("net")?, files: Some([own("mnt")?, own("ipc")?]) })
        })
    }

    /// Another handle of the same namespaces.
    ///
    /// # Errors
    /// If there are too many descriptors.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        let files = match &self.files {
            Some([files, memory]) => Some([files.try_clone()?, memory.try_clone()?]),
            None => None,
        };
        Ok(Self { network: self.network.try_clone()?, files })
    }

    /// Does `work` inside, on a thread of its own.
    pub(super) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        on_own_thread(|| {
            self.enter().context("entering a namespace")?;
            work()
        })
    }

    /// Does `work` inside, where it can wait for the kernel or the gateway.
    pub(super) fn within_async<T: Send>(
        &self,
        work: impl AsyncFnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        self.within(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        })
    }

    /// Moves the calling thread inside, for good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn enter(&self) -> io::Result<()> {
        setns(&self.network, CloneFlags::CLONE_NEWNET)?;
        if let Some([files, memory]) = &self.files {
            // Other threads keep their root and working directory.
            unshare(CloneFlags::CLONE_FS)?;
            setns(files, CloneFlags::CLONE_NEWNS)?;
            setns(memory, CloneFlags::CLONE_NEWIPC)?;
        }
        Ok(())
    }
}

impl AsFd for Namespace {
    /// The network.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }
}

fn own(kind: &str) -> io::Result<File> {
    File::open(format!("/proc/thread-self/ns/{kind}"))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
