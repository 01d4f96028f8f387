//! Debian's ping.

use std::{net::IpAddr, process::Command};

use crate::namespace::Namespace;

/// What `ping` printed.
pub struct Ping {
    /// Everything it said.
    pub text: String,
    /// How many were sent.
    pub sent: usize,
    /// The sequence numbers that were answered.
    pub answered: Vec<usize>,
}

impl Ping {
    /// Runs ping in a namespace, once per `interval` seconds.
    #[must_use]
    pub fn run(
        client: &Namespace,
        ip: IpAddr,
        count: usize,
        interval: &str,
        options: &[&str],
    ) -> Self {
        let mut command = Command::new("ping");
        command.env("LC_ALL", "C").args([
            "-n",
            "-c",
            &count.to_string(),
            "-i",
            interval,
            "-W",
            "2",
        ]);
        let output = client.output(command.args(options).arg(ip.to_string()));
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let answered =
            text.lines().filter(|line| line.contains("bytes from")).filter_map(sequence).collect();
        Self { text, sent: count, answered }
    }

    /// The longest run of pings without an answer.
    #[must_use]
    pub fn longest_gap(&self) -> usize {
        let mut answered = self.answered.clone();
        answered.push(0);
        answered.push(self.sent + 1);
        answered.sort_unstable();
        answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1).saturating_sub(1)
    }
}

fn sequence(line: &str) -> Option<usize> {
    let number = line.split("icmp_seq=").nth(1)?;
    number.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_gap_counts_both_ends() {
        let ping =
            |answered: &[usize]| Ping { text: String::new(), sent: 6, answered: answered.to_vec() };
        assert_eq!(ping(&[1, 2, 3, 4, 5, 6]).longest_gap(), 0);
        assert_eq!(ping(&[1, 4, 5, 6]).longest_gap(), 2);
        assert_eq!(ping(&[1, 2, 3]).longest_gap(), 3);
        assert_eq!(ping(&[]).longest_gap(), 6);
    }
}
