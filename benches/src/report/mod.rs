//! Medians as a Markdown table, as JSON and as pictures.

mod plot;

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tacit_messages::UnixSeconds;
use tacit_tests::gateway::target_dir;

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    date: String,
    machine: String,
    kernel: String,
    conditions: String,
    columns: Vec<String>,
    rows: Vec<Row>,
}

/// One figure of one load.
#[derive(Serialize)]
struct Row {
    load: String,
    unit: String,
    /// Each column's measurements, one per round.
    measured: BTreeMap<String, Vec<f64>>,
}

impl Row {
    fn median(&self, column: &str) -> Option<f64> {
        let mut sorted = self.measured.get(column)?.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

impl Report {
    /// Begins a report of today about this machine; `conditions` stands in its heading.
    pub(crate) fn new(conditions: String) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            date: today(),
            machine: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            conditions,
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds one measurement.
    pub(crate) fn note(&mut self, column: &str, load: &str, unit: &str, value: f64) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        let place = self.rows.iter().position(|row| row.load == load && row.unit == unit);
        let place = place.unwrap_or_else(|| {
            let measured = BTreeMap::new();
            self.rows.push(Row { load: load.to_owned(), unit: unit.to_owned(), measured });
            self.rows.len() - 1
        });
        self.rows[place].measured.entry(column.to_owned()).or_default().push(value);
    }

    fn heading(&self) -> String {
        let Self { date, machine, kernel, conditions, .. } = self;
        format!("{date}, {machine}, kernel {kernel}, {conditions}")
    }

    fn table(&self) -> String {
        let columns = self.columns.join(" | ");
        let alignment = "---:|".repeat(self.columns.len());
        let mut text =
            format!("{}\n\n| load | unit | {columns} |\n|---|---|{alignment}\n", self.heading());
        for row in &self.rows {
            let cell = |column: &String| row.median(column).map_or("–".into(), number);
            let cells: Vec<String> = self.columns.iter().map(cell).collect();
            text += &format!("| {} | {} | {} |\n", row.load, row.unit, cells.join(" | "));
        }
        text
    }

    /// Prints the table and writes it and the JSON as `name` to the directory `dir` in target/.
    pub(crate) fn write(&self, dir: &str, name: &str) -> Result<()> {
        let path = made(dir)?.join(name);
        let table = self.table();
        fs::write(path.with_extension("md"), &table)?;
        fs::write(path.with_extension("json"), serde_json::to_string_pretty(self)?)?;
        println!("{table}");
        Ok(())
    }

    /// Draws one picture per unit to the directory `dir` in target/, their names beginning with `name`.
    pub(crate) fn plot(&self, dir: &str, name: &str) -> Result<()> {
        let dir = made(dir)?;
        let mut units: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !units.contains(&row.unit.as_str()) {
                units.push(&row.unit);
            }
        }
        for unit in units {
            let path = dir.join(format!("{name}-{}.svg", file_name(unit)));
            plot::draw(&path, self, unit).with_context(|| format!("drawing {}", path.display()))?;
        }
        Ok(())
    }
}

fn made(dir: &str) -> Result<PathBuf> {
    let dir = target_dir().join(dir);
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

fn today() -> String {
    let seconds = i64::try_from(UnixSeconds::now().0).unwrap_or(0);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "no date".into(), |now| now.strftime("%Y-%m-%d").to_string())
}

/// A unit as part of a file's name: `CPU s/GB` is `cpu-s-gb`.
fn file_name(unit: &str) -> String {
    let plain = unit.to_lowercase().replace('µ', "u");
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The median, and the interval that has the true one with 95 % confidence, whatever the distribution (order statistics).
pub(crate) fn median_and_interval(values: &[f64]) -> (f64, [f64; 2]) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |rank: f64| {
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get(rank.round().clamp(0.0, last) as usize).copied().unwrap_or(f64::NAN)
    };
    let (middle, half) = ((sorted.len() as f64 - 1.0) / 2.0, 0.98 * (sorted.len() as f64).sqrt());
    (at(middle), [at(middle - half), at(middle + half)])
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
