//! The metrics endpoint, as whoever collects metrics sees it.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    check::{Check, Finding},
    reading::{self, Reading, Unread},
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[Check {
    id: "metrics-labels",
    meaning: "No metric has a label that names a person, a key or an address.",
    by_hand: "curl -s http://{metrics}/metrics | grep '{'",
    judge: |evidence| {
        reading::judge(&evidence.metrics, |text, finding| judge(text.as_deref(), finding))
    },
}];

/// Labels whose values are lists in the program's source.
const KNOWN_LABELS: [&str; 3] = ["commit", "reason", "version"];

/// How long the endpoint may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The most that is read.
const MOST: u64 = 4 << 20;

/// Asks for all metrics; none if there are none to be had.
pub(super) fn read(address: Option<SocketAddr>) -> Reading<Option<String>> {
    let Some(address) = address else { return Ok(None) };
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(MOST).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask().map_err(|error| Unread::new("the metrics", error))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(Some(body.into())),
        _ => Err(Unread::new("the metrics", "the endpoint does not answer as it should")),
    }
}

fn judge(text: Option<&str>, finding: &mut Finding) {
    let Some(text) = text else {
        finding.pass("metrics are off");
        return;
    };
    let (mut series, mut seen) = (0, BTreeSet::new());
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        series += 1;
        for (label, value) in labels(line) {
            if !KNOWN_LABELS.contains(&label) {
                finding.fail(format!("the label {label} is not one that this program has"));
            } else if names_somebody(value) {
                finding.fail(format!(
                    "a value of the label {label} looks like an address, an e-mail address or a key"
                ));
            } else {
                seen.insert(label);
            }
        }
    }
    let seen: Vec<_> = seen.into_iter().collect();
    finding.pass(format!("{series} series, with the labels {}", seen.join(", ")));
}

/// The labels and values of a line such as `tacit_drops_total{reason="malformed"} 0`.
fn labels(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let pairs = inside.map(|(inside, _)| inside).unwrap_or_default().split("\",");
    pairs.filter_map(|pair| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.trim_matches([',', ' ']), value.trim_end_matches('"')))
    })
}

fn names_somebody(value: &str) -> bool {
    let is_address = value.parse::<IpAddr>().is_ok() || value.parse::<SocketAddr>().is_ok();
    is_address || value.contains('@') || (value.len() == 44 && value.ends_with('='))
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    fn verdict(text: &str) -> Verdict {
        let mut finding = Finding::default();
        judge(Some(text), &mut finding);
        finding.verdict()
    }

    #[test]
    fn label_that_names_somebody_is_a_violation() {
        assert_eq!(
            verdict("# HELP x\ntacit_sessions 3\ntacit_drops_total{reason=\"not_ip\"} 7\n"),
            Verdict::Pass
        );
        assert_eq!(
            verdict("tacit_build_info{version=\"0.1.0\",commit=\"c5bc09a\"} 1\n"),
            Verdict::Pass
        );
        assert_eq!(verdict("tacit_bytes{peer=\"laptop\"} 1\n"), Verdict::Fail);
        assert_eq!(verdict("tacit_drops{reason=\"203.0.113.9\"} 1\n"), Verdict::Fail);
        assert_eq!(verdict("tacit_drops{reason=\"ann@example.org\"} 1\n"), Verdict::Fail);
        assert_eq!(
            verdict("tacit_drops{version=\"1\",reason=\"[2001:db8::1]:443\"} 1\n"),
            Verdict::Fail
        );
    }
}
