//! What the evidence comes to.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Context;
use tacit_messages::UnixSeconds;

use super::{
    encoding::Encoding,
    experiment::Planted,
    ledger::{Found, Ledger, Moment, PlaceKind},
    mark::{Mark, Value},
    report::{
        Channel, Control, Finding, Report, SearchedFor, SearchedPlace, Sent, Traffic, Verdict,
    },
    target::Arrival,
    traffic::Exchange,
    watch::{Witness, is_expected_setting},
};
use crate::{admin::TotalsStatus, program::Program, rfc3339::Rfc3339};

/// What the experiment does not show.
const LIMITS: &[&str] = &[
    "It shows this program on this machine today. What runs elsewhere is shown by its hash and by `tacit audit`.",
    "Packets are in the memory of the process that carries them while they pass; it is sealed, and can write nothing down.",
    "The kernel tracks connections while they last, for NAT; the entries go when the session ends.",
    "Root, the kernel, a hypervisor or the network before and behind the gateway could watch; no gateway can prevent that.",
    "Two bytes of a port alone cannot be told from chance, so ports are searched for as text and with their address.",
];

/// All that the experiment brought to light.
pub(super) struct Evidence<'a> {
    /// When it began.
    pub(super) began_at: UnixSeconds,
    /// How long it took.
    pub(super) took: Duration,
    /// What the target saw.
    pub(super) arrivals: Vec<Arrival>,
    /// Files that were searched.
    pub(super) searched_files: BTreeSet<String>,
    /// The marks.
    pub(super) marks: &'a [Mark],
    /// Those that were planted.
    pub(super) planted: &'a Planted,
    /// What was said.
    pub(super) exchanges: Vec<&'a Exchange>,
    /// Addresses that clients connected from.
    pub(super) connected_from: Vec<IpAddr>,
    /// What was searched and found.
    pub(super) ledger: &'a Ledger,
    /// What strace saw.
    pub(super) witness: Witness,
    /// What it saw since the first mark was sent.
    pub(super) late: Witness,
    /// The gateway's counters.
    pub(super) totals: TotalsStatus,
    /// Connecting IPs of the sessions that the store has.
    pub(super) sessions: Vec<IpAddr>,
    /// Packets at the ends of the wires, and what came to the target, that were never said.
    pub(super) strays: BTreeSet<String>,
    /// Shared memory and message queues that need no file.
    pub(super) system_v: usize,
}

/// Judges the evidence.
///
/// # Errors
/// If the program's own file cannot be read.
pub(super) fn report(evidence: Evidence<'_>) -> anyhow::Result<Report> {
    let (sent, controls, findings) = (evidence.sent(), evidence.controls(), evidence.findings());
    let verdict = verdict(&sent, &controls, &findings);
    let ledger = evidence.ledger;
    let marks_arrived = sent.iter().filter(|sent| sent.arrived).count();
    Ok(Report {
        verdict,
        summary: summary(verdict, &sent, &controls, &findings),
        program: Program::running().context("reading this program")?,
        kernel: kernel(),
        began_at: Rfc3339(evidence.began_at),
        seconds: evidence.took.as_secs_f64(),
        traffic: evidence.traffic(marks_arrived),
        search: SearchedFor {
            marks: evidence.marks.len(),
            patterns: ledger.search.patterns(),
            encodings: Encoding::ALL.iter().map(|encoding| encoding.name()).collect(),
            bytes: ledger.places.values().map(|place| place.bytes).sum(),
            system_calls: evidence.witness.calls,
        },
        searched: searched(ledger),
        files_written: evidence.witness.files.iter().cloned().collect(),
        kernel_settings: evidence.witness.kernel_settings.iter().cloned().collect(),
        channels: evidence
            .witness
            .channels
            .iter()
            .map(|(name, writes)| Channel { name, writes: *writes })
            .collect(),
        unread: ledger.unread.clone(),
        limits: LIMITS.to_vec(),
        findings,
        sent,
        controls,
    })
}

/// Nothing is shown unless everything arrived and everything planted was found.
fn verdict(sent: &[Sent], controls: &[Control], findings: &[Finding]) -> Verdict {
    if !findings.is_empty() {
        Verdict::Kept
    } else if sent.iter().all(|sent| sent.arrived) && controls.iter().all(|control| control.found) {
        Verdict::NothingKept
    } else {
        Verdict::Void
    }
}

fn summary(verdict: Verdict, sent: &[Sent], controls: &[Control], findings: &[Finding]) -> String {
    match verdict {
        Verdict::NothingKept => format!(
            "Nothing of the traffic was kept: {} marks were sent and arrived, and none of them is in anything that \
             the gateway wrote or holds.",
            sent.len()
        ),
        Verdict::Kept => {
            let places: BTreeSet<&str> = findings.iter().map(|found| found.kind.as_str()).collect();
            let places: Vec<&str> = places.into_iter().collect();
            format!("The gateway kept something that it must not keep: see {}.", places.join("; "))
        }
        Verdict::Void => {
            let lost = sent.iter().filter(|sent| !sent.arrived).count();
            let missed = controls.iter().filter(|control| !control.found).count();
            format!(
                "The experiment shows nothing: {lost} marks did not arrive, and the search missed {missed} of what \
                 was planted."
            )
        }
    }
}

fn kernel() -> String {
    let system = rustix::system::uname();
    let words = [system.sysname(), system.release(), system.machine()];
    words.map(|word| word.to_string_lossy()).join(" ")
}

fn searched(ledger: &Ledger) -> Vec<SearchedPlace> {
    let places = ledger.places.iter().map(|((kind, name), place)| SearchedPlace {
        kind: kind.name(),
        place: name.clone(),
        bytes: place.bytes,
        moments: place.moments.iter().map(|moment| moment.name()).collect(),
    });
    places.collect()
}

impl Evidence<'_> {
    fn traffic(&self, marks_arrived: usize) -> Traffic {
        Traffic {
            inbound_packets: self.totals.inbound_packets,
            inbound_bytes: self.totals.inbound_bytes,
            outbound_packets: self.totals.outbound_packets,
            outbound_bytes: self.totals.outbound_bytes,
            handshakes: self.totals.handshakes,
            sessions_recorded: self.sessions.len(),
            marks_arrived,
            bytes_arrived: self.arrivals.iter().map(|arrival| arrival.bytes.len()).sum(),
        }
    }

    /// What was sent, and whether it arrived: an address arrives with what is sent to it, or from it.
    fn sent(&self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for exchange in &self.exchanges {
            let arrived = exchange.arrived(self.marks, &self.arrivals);
            let to =
                exchange.to(self.marks).map(|to| format!("{to} by {}", exchange.transport.name()));
            let mark = &self.marks[exchange.mark];
            sent.push(Sent { what: mark.what.clone(), mark: mark.shown(), to, arrived });
            let mark = &self.marks[exchange.destination];
            sent.push(Sent { what: mark.what.clone(), mark: mark.shown(), to: None, arrived });
        }
        let addresses = self.marks.iter().filter_map(|mark| match mark.value {
            Value::ConnectingIp(ip) => Some((mark, ip)),
            _ => None,
        });
        sent.extend(addresses.map(|(mark, ip)| Sent {
            what: mark.what.clone(),
            mark: mark.shown(),
            to: None,
            // The store's row says that the gateway saw it.
            arrived: self.connected_from.contains(&ip) && self.sessions.contains(&ip),
        }));
        sent
    }

    fn controls(&self) -> Vec<Control> {
        let planted = self.planted;
        let expected = [
            (planted.file, PlaceKind::TemporaryFiles),
            (planted.shared_memory, PlaceKind::SharedMemory),
            (planted.output, PlaceKind::Output),
            (planted.store, PlaceKind::Database),
            (planted.memory, PlaceKind::Memory),
            (planted.alias, PlaceKind::KernelState),
            (planted.comment, PlaceKind::KernelState),
        ];
        let is_found = |mark: usize, kind| {
            self.ledger.found.iter().any(|found| found.mark == mark && found.kind == kind)
        };
        let mut controls: Vec<Control> = expected
            .into_iter()
            .map(|(mark, kind)| Control {
                what: self.marks[mark].what.clone(),
                found: is_found(mark, kind),
            })
            .collect();
        let tracked = self
            .ledger
            .found
            .iter()
            .any(|found| found.kind == PlaceKind::Conntrack && self.is_traffic(found.mark));
        controls.push(Control {
            what:
                "destinations in connection tracking while clients are connected, which NAT needs"
                    .into(),
            found: tracked,
        });
        controls.push(Control {
            what: format!(
                "each of the {} strings of bytes, by itself",
                self.ledger.search.patterns()
            ),
            found: self.marks.iter().enumerate().all(|(number, mark)| {
                mark.forms().iter().all(|form| {
                    let hits = self.ledger.search.bytes(&form.bytes).hits;
                    hits.iter().any(|hit| hit.mark == number)
                })
            }),
        });
        controls
    }

    fn is_traffic(&self, mark: usize) -> bool {
        mark >= self.planted.count
    }

    fn findings(&self) -> Vec<Finding> {
        let found = self.ledger.found.iter().filter(|found| self.is_forbidden(found));
        let mut findings: Vec<Finding> = found.map(|found| self.finding(found)).collect();
        // A socket can be made and connected long before it is used.
        findings.extend(
            self.witness
                .strange
                .iter()
                .map(|call| watched("a system call that the gateway has no use for", call.clone())),
        );
        let settings = self.witness.kernel_settings.iter();
        findings.extend(settings.filter(|path| !is_expected_setting(path)).map(|path| {
            watched("a file of the kernel that a gateway has no use for writing to", path.clone())
        }));
        let unsearched = self.late.files.iter().filter(|path| !self.was_searched(path));
        findings.extend(unsearched.map(|path| {
            watched("a file that was written and could not be searched", path.clone())
        }));
        findings.extend(self.strays.iter().map(|stray| Finding {
            kind: "packets out of the gateway".into(),
            encoding: "as it came".into(),
            ..watched("a packet that belongs to nothing that a client said", stray.clone())
        }));
        if self.system_v > 0 {
            findings.push(watched(
                "shared memory or message queues of System V",
                format!("{} of them", self.system_v),
            ));
        }
        findings
    }

    /// The forwarder has packets in memory while they pass, and the kernel connections while they last.
    fn is_forbidden(&self, found: &Found) -> bool {
        let is_passing = match found.kind {
            PlaceKind::ForwarderMemory => true,
            PlaceKind::Conntrack => found.moment == Moment::Live,
            _ => false,
        };
        self.is_traffic(found.mark) && !is_passing
    }

    /// Whether a file that strace saw was searched, be it under a name that it got later.
    fn was_searched(&self, path: &str) -> bool {
        [path, self.late.last_name(path)].iter().any(|path| self.searched_files.contains(*path))
    }

    fn finding(&self, found: &Found) -> Finding {
        let mark = &self.marks[found.mark];
        Finding {
            what: mark.what.clone(),
            mark: mark.shown(),
            encoding: found.encoding.name().into(),
            kind: found.kind.name().into(),
            place: found.place.clone(),
            offset: found.offset,
            moment: found.moment.name().into(),
        }
    }
}

fn watched(what: &str, place: String) -> Finding {
    Finding {
        what: what.into(),
        mark: String::new(),
        encoding: "system call".into(),
        kind: "what strace saw".into(),
        place,
        offset: 0,
        moment: "while it ran".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(arrived: bool) -> Sent {
        Sent { what: "x".into(), mark: "y".into(), to: None, arrived }
    }

    fn control(found: bool) -> Control {
        Control { what: "x".into(), found }
    }

    #[test]
    fn nothing_is_shown_unless_all_arrived_and_all_planted_was_found() {
        let finding = watched("x", "y".into());
        assert_eq!(verdict(&[sent(true)], &[control(true)], &[]), Verdict::NothingKept);
        assert_eq!(verdict(&[sent(false)], &[control(true)], &[]), Verdict::Void);
        assert_eq!(verdict(&[sent(true)], &[control(false)], &[]), Verdict::Void);
        assert_eq!(verdict(&[sent(false)], &[control(false)], &[finding]), Verdict::Kept);
    }
}
