//! What a process costs, as the kernel accounts it.

use std::{fs, path::PathBuf, time::Duration};

use tacit_tests::Namespace;

/// Where a pinned server runs.
pub(crate) const SERVER_CPU: usize = 0;
/// Where everything else runs then.
pub(crate) const LOAD_CPU: usize = 1;

/// Processes of one server under test, by their numbers inside its namespace.
pub(crate) struct Processes<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) ids: Vec<u64>,
}

impl Processes<'_> {
    fn proc(&self, id: u64, file: &str) -> PathBuf {
        self.namespace.path(&format!("/proc/{id}/{file}"))
    }

    /// CPU time of all threads of all processes, in nanosecond resolution.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu_of_threads("")
    }

    /// CPU time of the threads whose names begin so.
    pub(crate) fn cpu_of_threads(&self, name: &str) -> Duration {
        let mut total = Duration::ZERO;
        for id in &self.ids {
            let Ok(tasks) = fs::read_dir(self.proc(*id, "task")) else { continue };
            for task in tasks.flatten() {
                let is_called = |own: String| own.starts_with(name);
                if !fs::read_to_string(task.path().join("comm")).is_ok_and(is_called) {
                    continue;
                }
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
                total += Duration::from_nanos(nanos.unwrap_or(0));
            }
        }
        total
    }

    /// Peak resident memory of all processes together in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// Resident memory of all processes together in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> f64 {
        let kib = |id: &u64| {
            let text = fs::read_to_string(self.proc(*id, "status")).unwrap_or_default();
            let value =
                text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
            value.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0)
        };
        self.ids.iter().map(kib).sum::<f64>() / 1024.0
    }

    /// Confines all threads to `cpu`.
    pub(crate) fn pin(&self, cpu: usize) {
        for id in &self.ids {
            self.namespace.sh(&format!("taskset -a -p -c {cpu} {id} >/dev/null"));
        }
    }
}

/// Confines the calling thread to `cpu`.
pub(crate) fn pin_thread(cpu: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Lets the calling thread go before others, or after them if `niceness` is above 0.
pub(crate) fn set_niceness(niceness: i32) -> anyhow::Result<()> {
    Ok(rustix::process::setpriority_process(None, niceness)?)
}
