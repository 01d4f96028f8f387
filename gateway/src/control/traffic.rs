//! What the forwarder counted, as far as anybody may know.
//!
//! What few sessions send is what somebody sends. To leave it out only while there are few would not do: whoever looks
//! before and after sees the difference. So it is never counted here. And whoever collects metrics keeps them, so what a
//! forwarder counts gets there only if control itself knows of enough sessions, whatever the forwarder says of them.

use tacit_messages::Totals;

/// How many sessions there were at two counts, as control knows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    /// At the first.
    pub(super) before: u64,
    /// At the second.
    pub(super) now: u64,
}

/// Adds to `of_many` what came between two counts of one forwarder, if there were at least `least_sessions` at both.
pub(super) fn count(
    of_many: &mut Totals,
    (before, now): (&Totals, &Totals),
    sessions: Sessions,
    least_sessions: u64,
) {
    if sessions.before.min(sessions.now) < least_sessions {
        return;
    }
    let counters = [
        (&mut of_many.inbound_packets, before.inbound_packets, now.inbound_packets),
        (&mut of_many.inbound_bytes, before.inbound_bytes, now.inbound_bytes),
        (&mut of_many.outbound_packets, before.outbound_packets, now.outbound_packets),
        (&mut of_many.outbound_bytes, before.outbound_bytes, now.outbound_bytes),
        (&mut of_many.handshakes, before.handshakes, now.handshakes),
    ];
    let drops = of_many.drops.iter_mut().zip(before.drops).zip(now.drops);
    let drops = drops.map(|((sum, before), now)| (sum, before, now));
    for (sum, before, now) in counters.into_iter().chain(drops) {
        *sum = sum.saturating_add(now.saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use tacit_messages::DropReason;

    use super::*;

    fn totals(count: u64) -> Totals {
        let mut totals = Totals {
            // What the forwarder says of sessions counts for nothing.
            sessions: 1_000,
            inbound_bytes: count,
            outbound_bytes: 2 * count,
            handshakes: 3 * count,
            ..Totals::default()
        };
        totals.drops[DropReason::NotIp as usize] = 4 * count;
        totals
    }

    /// What is told after each of these counts, of which each has the sessions at the time and what was counted.
    fn told(counts: &[(u64, u64)]) -> Vec<u64> {
        let mut of_many = Totals::default();
        let step = |pair: &[(u64, u64)]| {
            let sessions = Sessions { before: pair[0].0, now: pair[1].0 };
            count(&mut of_many, (&totals(pair[0].1), &totals(pair[1].1)), sessions, 5);
            let told = of_many.inbound_bytes;
            assert_eq!(of_many.outbound_bytes, 2 * told);
            assert_eq!(of_many.handshakes, 3 * told);
            assert_eq!(of_many.dropped(DropReason::NotIp), 4 * told);
            told
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
