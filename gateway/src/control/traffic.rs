//! How much traffic there is, as far as anybody may know.
//!
//! What few sessions send is what somebody sends. To leave it out only while there are few would not do: whoever looks
//! before and after sees the difference. So it is never counted here.

use tacit_messages::Totals;

/// Traffic of times with many sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Packets from devices.
    pub(crate) inbound_packets: u64,
    /// Their bytes.
    pub(crate) inbound_bytes: u64,
    /// Packets to devices.
    pub(crate) outbound_packets: u64,
    /// Their bytes.
    pub(crate) outbound_bytes: u64,
}

impl Traffic {
    /// Adds what came between two counts of one forwarder, if there were at least `least_sessions` at both.
    pub(super) fn count(&mut self, before: &Totals, now: &Totals, least_sessions: u64) {
        if before.sessions.min(now.sessions) < least_sessions {
            return;
        }
        let counters = [
            (&mut self.inbound_packets, before.inbound_packets, now.inbound_packets),
            (&mut self.inbound_bytes, before.inbound_bytes, now.inbound_bytes),
            (&mut self.outbound_packets, before.outbound_packets, now.outbound_packets),
            (&mut self.outbound_bytes, before.outbound_bytes, now.outbound_bytes),
        ];
        for (sum, before, now) in counters {
            *sum = sum.saturating_add(now.saturating_sub(before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(sessions: u64, bytes: u64) -> Totals {
        Totals { sessions, inbound_bytes: bytes, outbound_bytes: 2 * bytes, ..Totals::default() }
    }

    /// What is told after each of these counts.
    fn told(counts: &[(u64, u64)]) -> Vec<u64> {
        let mut traffic = Traffic::default();
        let counts: Vec<Totals> =
            counts.iter().map(|(sessions, bytes)| totals(*sessions, *bytes)).collect();
        let step = |pair: &[Totals]| {
            traffic.count(&pair[0], &pair[1], 5);
            assert_eq!(traffic.outbound_bytes, 2 * traffic.inbound_bytes);
            traffic.inbound_bytes
        };
        counts.windows(2).map(step).collect()
    }

    #[test]
    fn traffic_of_few_sessions_shows_in_no_difference() {
        // Many, then one alone who sends 1,000, then many again.
        let counts = [(5, 10), (6, 30), (1, 35), (1, 1_035), (5, 1_040), (5, 1_050)];
        assert_eq!(told(&counts), [20, 20, 20, 20, 30]);
    }

    #[test]
    fn second_in_which_sessions_become_few_or_many_does_not_count() {
        assert_eq!(told(&[(4, 0), (5, 100), (4, 200), (5, 300)]), [0, 0, 0]);
    }

    #[test]
    fn counters_that_run_backwards_take_nothing_away() {
        assert_eq!(told(&[(5, 0), (5, 100), (5, 50), (5, 60)]), [100, 100, 110]);
    }
}
