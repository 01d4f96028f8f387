//! What the experiment came to, as data and as text; [`html`] shows it to a customer.

mod html;

use std::{fs, io, path::Path};

use serde::Serialize;

use crate::{program::Program, rfc3339::Rfc3339};

/// What the experiment shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// All traffic arrived, the search works, and nothing of the traffic was kept.
    NothingKept,
    /// Something of the traffic was kept.
    Kept,
    /// The experiment shows nothing: traffic did not arrive, or the search missed what was planted.
    Void,
}

/// Everything that the experiment did and found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What it shows.
    pub(crate) verdict: Verdict,
    /// The same in one sentence.
    pub(crate) summary: String,
    /// The program that was examined.
    pub(crate) program: Program,
    /// The kernel that it ran on.
    pub(crate) kernel: String,
    /// When it began.
    pub(crate) began_at: Rfc3339,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// What was kept, and where.
    pub(crate) findings: Vec<Finding>,
    /// What passed the gateway.
    pub(crate) traffic: Traffic,
    /// What was sent, mark by mark.
    pub(crate) sent: Vec<Sent>,
    /// What the search was tried on.
    pub(crate) controls: Vec<Control>,
    /// How marks were searched for.
    pub(crate) search: SearchedFor,
    /// What was searched.
    pub(crate) searched: Vec<SearchedPlace>,
    /// Files that the gateway wrote to, as strace saw it.
    pub(crate) files_written: Vec<String>,
    /// Settings of the kernel that the gateway changed, as strace saw it.
    pub(crate) kernel_settings: Vec<String>,
    /// What else the gateway wrote to, as strace saw it, and how often.
    pub(crate) channels: Vec<Channel>,
    /// What could not be searched, and why.
    pub(crate) unread: Vec<String>,
    /// What the experiment does not show.
    pub(crate) limits: Vec<&'static str>,
}

/// Something of the traffic that was kept.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// What was kept.
    pub(crate) what: String,
    /// Its mark.
    pub(crate) mark: String,
    /// How it is written there.
    pub(crate) encoding: String,
    /// In what kind of place.
    pub(crate) kind: String,
    /// Where.
    pub(crate) place: String,
    /// How many bytes from its beginning.
    pub(crate) offset: u64,
    /// When it was seen last.
    pub(crate) moment: String,
}

/// What passed the gateway.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Traffic {
    /// Packets from the clients.
    pub(crate) inbound_packets: u64,
    /// Their bytes.
    pub(crate) inbound_bytes: u64,
    /// Packets to the clients.
    pub(crate) outbound_packets: u64,
    /// Their bytes.
    pub(crate) outbound_bytes: u64,
    /// Handshakes.
    pub(crate) handshakes: u64,
    /// Sessions that the store has a row for.
    pub(crate) sessions_recorded: usize,
    /// Marks that arrived at where they were sent.
    pub(crate) marks_arrived: usize,
    /// Bytes that arrived there.
    pub(crate) bytes_arrived: usize,
}

/// A mark that was sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sent {
    /// What it stands for.
    pub(crate) what: String,
    /// The mark.
    pub(crate) mark: String,
    /// Where to, and by which protocol; none for an address.
    pub(crate) to: Option<String>,
    /// Whether it arrived there, as the target saw it.
    pub(crate) arrived: bool,
}

/// Something that was planted, and must be found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Control {
    /// What and where.
    pub(crate) what: String,
    /// Whether it was found.
    pub(crate) found: bool,
}

/// How marks were searched for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SearchedFor {
    /// Marks.
    pub(crate) marks: usize,
    /// Strings of bytes that they could be written as.
    pub(crate) patterns: usize,
    /// The encodings.
    pub(crate) encodings: Vec<&'static str>,
    /// Bytes that were searched.
    pub(crate) bytes: u64,
    /// System calls that strace saw.
    pub(crate) system_calls: u64,
}

/// A place that was searched.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SearchedPlace {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) place: String,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// When.
    pub(crate) moments: Vec<&'static str>,
}

/// Something that bytes went to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Channel {
    /// What.
    pub(crate) name: &'static str,
    /// How often.
    pub(crate) writes: u64,
}

impl Report {
    /// The report for people at a terminal.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.summary.clone(), String::new()];
        let Program { version, commit, sha256 } = &self.program;
        lines.push(format!("program    tacit {version}, commit {commit}, SHA-256 {sha256}"));
        lines.push(format!("kernel     {}", self.kernel));
        lines.push(format!("date       {}, {:.0} s", self.began_at, self.seconds));
        lines.push(String::new());
        lines.extend(self.findings_text());
        lines.extend(self.sent_text());
        lines.extend(self.searched_text());
        lines.extend(self.strace_text());
        lines.push("Limits".into());
        lines.extend(self.unread.iter().map(|what| format!("  not searched: {what}")));
        lines.extend(self.limits.iter().map(|limit| format!("  {limit}")));
        lines.join("\n")
    }

    fn findings_text(&self) -> Vec<String> {
        if self.findings.is_empty() {
            return Vec::new();
        }
        let mut lines = vec!["Found".to_owned()];
        for finding in &self.findings {
            let Finding { what, mark, encoding, kind, place, offset, moment } = finding;
            lines.push(format!("  {what} ({mark})"));
            lines.push(format!("      {encoding}, in {kind}: {place}, at byte {offset}, {moment}"));
        }
        lines.push(String::new());
        lines
    }

    fn sent_text(&self) -> Vec<String> {
        let Traffic { inbound_packets, outbound_packets, marks_arrived, bytes_arrived, .. } =
            self.traffic;
        let mut lines = vec![format!(
            "Sent: {marks_arrived} of {} marks arrived, {bytes_arrived} bytes; {inbound_packets} packets in, \
             {outbound_packets} out, {} sessions",
            self.sent.len(),
            self.traffic.sessions_recorded
        )];
        for Sent { what, mark, to, arrived } in &self.sent {
            let to = to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
            let lost = if *arrived { "" } else { "  NOT ARRIVED" };
            lines.push(format!("  {what}: {mark}{to}{lost}"));
        }
        lines.push(String::new());
        lines
    }

    fn searched_text(&self) -> Vec<String> {
        let SearchedFor { marks, patterns, encodings, bytes, .. } = &self.search;
        let mut lines = vec![format!(
            "Searched: {bytes} bytes for {marks} marks in {} encodings, {patterns} strings of bytes",
            encodings.len()
        )];
        for SearchedPlace { kind, place, bytes, moments } in &self.searched {
            lines.push(format!("  {kind}: {place}, {bytes} bytes, {}", moments.join(", ")));
        }
        lines.push(String::new());
        lines.push("Tried on what was planted".into());
        for Control { what, found } in &self.controls {
            lines.push(format!("  {}  {what}", if *found { "found " } else { "MISSED" }));
        }
        lines.push(String::new());
        lines
    }

    fn strace_text(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "Written to, by {} system calls that strace saw",
            self.search.system_calls
        )];
        let channels = self.channels.iter();
        lines.extend(
            channels.map(|channel| format!("  {}, {} times", channel.name, channel.writes)),
        );
        lines.extend(self.files_written.iter().map(|path| format!("  {path}")));
        lines.extend(self.kernel_settings.iter().map(|path| format!("  {path}")));
        lines.push(String::new());
        lines
    }

    /// Writes `report.txt`, `report.json` and `report.html` into `dir`.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("report.txt"), self.text() + "\n")?;
        fs::write(dir.join("report.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(dir.join("report.html"), html::page(self))
    }
}
