//! What `status` and metrics say of the forwarder: which process it is, and whole-gateway totals.

use parking_lot::Mutex;
use tacit_messages::{DropReason, Totals, UnixSeconds};

use super::traffic::{self, Sessions};
use crate::admin::{ForwarderStatus, TotalsStatus};

/// The forwarder as control last heard of it.
#[derive(Debug)]
pub(crate) struct ForwarderState {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    pid: Option<u32>,
    restarts: u64,
    flagged: u64,
    since: UnixSeconds,
    /// Counters of the forwarders before this one.
    before: Totals,
    now: Totals,
    /// Sessions now, as control knows them.
    sessions: u64,
    /// What of the counters may be told to anybody.
    of_many: Totals,
    /// How many sessions are many.
    least_sessions: u64,
}

impl ForwarderState {
    /// The state before the first forwarder. Metrics tell what was counted of `least_sessions` sessions and more.
    pub(crate) fn new(since: UnixSeconds, least_sessions: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                pid: None,
                restarts: 0,
                flagged: 0,
                since,
                before: Totals::default(),
                now: Totals::default(),
                sessions: 0,
                of_many: Totals::default(),
                least_sessions: least_sessions.into(),
            }),
        }
    }

    /// Has metrics tell what is counted of `least_sessions` sessions and more from now on.
    pub(crate) fn set_least_sessions(&self, least_sessions: u32) {
        self.inner.lock().least_sessions = least_sessions.into();
    }

    /// Notes that the first forwarder runs.
    pub(crate) fn started(&self, pid: Option<u32>, since: UnixSeconds) {
        let mut inner = self.inner.lock();
        (inner.pid, inner.since) = (pid, since);
    }

    /// Notes that another forwarder runs; returns how many restarts there were.
    pub(crate) fn restarted(&self, pid: Option<u32>, since: UnixSeconds) -> u64 {
        let mut inner = self.inner.lock();
        (inner.pid, inner.since) = (pid, since);
        inner.restarts += 1;
        inner.restarts
    }

    /// Notes that the forwarder said more than it may.
    pub(crate) fn flagged(&self) {
        self.inner.lock().flagged += 1;
    }

    /// Notes that the forwarder is gone; its counters are kept.
    pub(crate) fn died(&self) {
        let mut inner = self.inner.lock();
        inner.pid = None;
        inner.before = sum(&inner.before, &inner.now);
        inner.now = Totals::default();
        inner.sessions = 0;
    }

    /// Takes the forwarder's counters; `sessions` is how many control knows of.
    pub(crate) fn counted(&self, totals: Totals, sessions: u64) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let before = std::mem::replace(&mut inner.now, totals);
        let at_both = Sessions { before: inner.sessions, now: sessions };
        inner.sessions = sessions;
        traffic::count(&mut inner.of_many, (&before, &inner.now), at_both, inner.least_sessions);
    }

    /// What was counted at times with many sessions, since the gateway started.
    pub(crate) fn counted_of_many(&self) -> TotalsStatus {
        told(&self.inner.lock().of_many)
    }

    /// Sessions now, as control knows them.
    pub(crate) fn sessions(&self) -> u64 {
        self.inner.lock().sessions
    }

    /// Handshake messages that wait now, no more than can.
    pub(crate) fn handshakes_waiting(&self) -> u64 {
        self.inner.lock().now.handshakes_waiting.min(tacit_forwarder::inbox::MAX_WAITING as u64)
    }

    /// Sessions now with the gateway's former key, no more than there are.
    pub(crate) fn former_key_sessions(&self) -> u64 {
        let inner = self.inner.lock();
        inner.now.former_key_sessions.min(inner.sessions)
    }

    /// Which process the forwarder is.
    pub(crate) fn status(&self) -> ForwarderStatus {
        let inner = self.inner.lock();
        ForwarderStatus {
            pid: inner.pid,
            restarts: inner.restarts,
            flagged: inner.flagged,
            since: inner.since.into(),
        }
    }

    /// Counters since the gateway started.
    pub(crate) fn totals(&self) -> TotalsStatus {
        let inner = self.inner.lock();
        told(&sum(&inner.before, &inner.now))
    }
}

/// Counters by their names.
fn told(totals: &Totals) -> TotalsStatus {
    TotalsStatus {
        inbound_packets: totals.inbound_packets,
        inbound_bytes: totals.inbound_bytes,
        outbound_packets: totals.outbound_packets,
        outbound_bytes: totals.outbound_bytes,
        handshakes: totals.handshakes,
        drops: DropReason::ALL
            .iter()
            .map(|reason| (reason.name().into(), totals.dropped(*reason)))
            .collect(),
    }
}

/// Adds the counters of two forwarders; what there is at a time is that of `now`.
fn sum(before: &Totals, now: &Totals) -> Totals {
    let mut sum = now.clone();
    let counters = [
        (&mut sum.inbound_packets, before.inbound_packets),
        (&mut sum.inbound_bytes, before.inbound_bytes),
        (&mut sum.outbound_packets, before.outbound_packets),
        (&mut sum.outbound_bytes, before.outbound_bytes),
        (&mut sum.handshakes, before.handshakes),
    ];
    let drops = sum.drops.iter_mut().zip(before.drops);
    for (sum, before) in counters.into_iter().chain(drops) {
        *sum = sum.saturating_add(before);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(inbound_packets: u64, malformed: u64) -> Totals {
        let (sessions, handshakes_waiting) = (1_000, 5);
        let mut totals =
            Totals { inbound_packets, sessions, handshakes_waiting, ..Totals::default() };
        totals.drops[DropReason::Malformed as usize] = malformed;
        totals
    }

    #[test]
    fn counters_outlive_the_forwarder_and_sessions_do_not() {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        state.started(Some(1), UnixSeconds(1));
        state.counted(totals(10, 2), 3);
        assert_eq!((state.sessions(), state.handshakes_waiting()), (3, 5));
        state.died();
        assert_eq!((state.sessions(), state.handshakes_waiting()), (0, 0));
        assert_eq!(state.status().pid, None);
        assert_eq!(state.restarted(Some(2), UnixSeconds(2)), 1);
        state.counted(totals(5, 1), 3);
        assert_eq!(state.totals().inbound_packets, 15);
        assert_eq!(state.totals().drops["malformed"], 3);
        assert_eq!(state.sessions(), 3);
    }

    #[test]
    fn traffic_of_many_sessions_outlives_the_forwarder_and_begins_with_the_next_ones_second_count()
    {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        state.counted(totals(10, 0), 3);
        assert_eq!(state.counted_of_many().inbound_packets, 0);
        state.counted(totals(14, 0), 3);
        state.died();
        state.counted(totals(7, 0), 3);
        assert_eq!(state.counted_of_many().inbound_packets, 4);
        state.counted(totals(8, 0), 3);
        assert_eq!(state.counted_of_many().inbound_packets, 5);
    }

    #[test]
    fn what_there_is_now_is_no_more_than_can_be_whatever_the_forwarder_says() {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        let lie = u64::MAX - 7;
        let former_key_sessions = lie;
        let lies = Totals { handshakes_waiting: lie, former_key_sessions, ..totals(0, 0) };
        state.counted(lies, 2);
        assert_eq!((state.sessions(), state.former_key_sessions()), (2, 2));
        assert_eq!(state.handshakes_waiting(), 2_048);
    }

    #[test]
    fn forwarder_that_makes_sessions_up_has_nothing_told() {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        for count in 1..=3 {
            state.counted(totals(count, count), 2);
        }
        let told = state.counted_of_many();
        assert_eq!((told.inbound_packets, told.drops["malformed"]), (0, 0));
        assert_eq!(state.totals().inbound_packets, 3, "for who may ask for the status");
    }

    #[test]
    fn counters_of_a_lying_forwarder_do_no_harm() {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        for _ in 0..2 {
            state.counted(totals(u64::MAX, u64::MAX), 3);
            state.died();
        }
        assert_eq!(state.totals().inbound_packets, u64::MAX);
    }

    #[test]
    fn every_reason_has_its_name() {
        let state = ForwarderState::new(UnixSeconds(0), 3);
        assert_eq!(state.totals().drops.len(), DropReason::ALL.len());
    }
}
