//! Medians as a Markdown table and as JSON.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use serde::Serialize;
use tacit_tests::gateway::target_dir;

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: String,
    kernel: String,
    pinned: bool,
    rounds: usize,
    subjects: Vec<String>,
    rows: Vec<Row>,
}

/// One figure of one load.
#[derive(Serialize)]
struct Row {
    load: String,
    unit: String,
    /// Each server's measurements, one per round.
    measured: BTreeMap<String, Vec<f64>>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Report {
    pub(crate) fn new(unpinned: bool, rounds: usize) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            machine: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            pinned: !unpinned,
            rounds,
            subjects: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds one measurement.
    pub(crate) fn note(&mut self, subject: &str, load: &str, unit: &str, value: f64) {
        if !self.subjects.iter().any(|known| known == subject) {
            self.subjects.push(subject.to_owned());
        }
        let place = self.rows.iter().position(|row| row.load == load && row.unit == unit);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row {
                load: load.to_owned(),
                unit: unit.to_owned(),
                measured: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        self.rows[place].measured.entry(subject.to_owned()).or_default().push(value);
    }

    fn table(&self) -> String {
        let pinned = if self.pinned { "server on one core, load on the other" } else { "unpinned" };
        let mut text = format!(
            "{}, kernel {}, {pinned}, medians of {} rounds\n\n| load | unit | {} |\n|---|---|{}\n",
            self.machine,
            self.kernel,
            self.rounds,
            self.subjects.join(" | "),
            "---:|".repeat(self.subjects.len()),
        );
        for row in &self.rows {
            let cells: Vec<String> = self
                .subjects
                .iter()
                .map(|subject| {
                    row.measured.get(subject).map_or("–".into(), |values| number(median(values)))
                })
                .collect();
            text += &format!("| {} | {} | {} |\n", row.load, row.unit, cells.join(" | "));
        }
        text
    }

    /// Prints the table and writes it and the JSON to `target/compare/`.
    pub(crate) fn write(&self) -> Result<()> {
        let dir = target_dir().join("compare");
        fs::create_dir_all(&dir).context("making target/compare")?;
        let name = if self.pinned { "pinned" } else { "unpinned" };
        let table = self.table();
        fs::write(dir.join(format!("{name}.md")), &table)?;
        fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(self)?)?;
        print!("{table}");
        Ok(())
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
