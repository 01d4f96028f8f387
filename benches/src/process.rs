//! What a process costs, as the kernel accounts it.

use std::{fs, path::PathBuf, time::Duration};

use tacit_tests::Namespace;

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
        let mut total = Duration::ZERO;
        for id in &self.ids {
            let Ok(tasks) = fs::read_dir(self.proc(*id, "task")) else { continue };
            for task in tasks.flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
                total += Duration::from_nanos(nanos.unwrap_or(0));
            }
        }
        total
    }

    /// Peak resident memory of all processes together in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let peak = |id: &u64| {
            let text = fs::read_to_string(self.proc(*id, "status")).unwrap_or_default();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .unwrap_or_default()
                .to_owned();
            line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0)
        };
        self.ids.iter().map(peak).sum::<f64>() / 1024.0
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
