//! What a forwarder may say and how often, checked where control hears it: the forwarder may have been taken over.
//!
//! It may speak only of devices that control told it of, begin a session only where none is open, end only one that
//! is, and each at no greater rate than an honest forwarder can come to ([`bounds`]). Whatever it says, what is
//! written down are rows about such devices with times that are nearly now. No IO; time is passed in.

use std::{collections::HashMap, time::Duration};

use tacit_messages::{
    DeviceId, FromForwarder, UnixSeconds,
    bounds::{self, Bucket},
    clock::Instant,
};

/// Messages that may have gathered in the socket and behind it while control was busy, besides the forwarder's own burst.
const LOOKUPS_AT_ONCE: u32 = 4 * bounds::LOOKUPS_PER_SECOND;
const TOTALS_AT_ONCE: u32 = 300;

/// Sessions of one device at once: a begin, a move, and as much again for delays on the way.
const SESSIONS_OF_DEVICE_AT_ONCE: u32 = 4;

/// Moves of one device that are told of at once, for delays on the way.
const MOVINGS_OF_DEVICE_AT_ONCE: u32 = 4;

/// Begins of all devices at once, in bursts of an honest forwarder: devices that it let in one after another may
/// prove themselves together.
const BURSTS_AT_ONCE: u32 = 2;

/// How long after the end of a session another may begin without a new look-up: a move takes no time.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);

/// How old the begin of a session can be when control hears of it.
const BEGIN_DELAY: Duration = Duration::from_secs(60);

/// How old the end of a session can be when control hears of it: it ends after 180 s of silence.
const END_DELAY: Duration = Duration::from_secs(240);

/// How long after the last `Leave` ends a forwarder may still be heard to speak of moves.
const MOVING_DELAY: Duration = Duration::from_secs(60);

/// Lines that a source file may have.
const LONGEST_FILE: u32 = u16::MAX as u32;

/// What a forwarder did that an honest one never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// It asked about too many keys.
    Lookups,
    /// It sent totals too often.
    Totals,
    /// It began too many sessions.
    Sessions,
    /// It began too many sessions of one device.
    SessionsOfDevice,
    /// It began a session of a device that it was not told of, or that has one.
    Begin,
    /// It ended a session that is not open.
    End,
    /// It told of a device that cannot move, or of too many.
    Moving,
    /// It said what is only said at the start.
    OutOfPlace,
}

impl Excess {
    /// What it did, in a few words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lookups => "too many questions about keys",
            Self::Totals => "totals too often",
            Self::Sessions => "too many sessions",
            Self::SessionsOfDevice => "too many sessions of one device",
            Self::Begin => "a session that cannot have begun",
            Self::End => "the end of a session that is not open",
            Self::Moving => "a device that cannot move, or too many",
            Self::OutOfPlace => "a message that belongs to the start",
        }
    }
}

/// What one forwarder has said so far.
#[derive(Debug)]
pub(crate) struct Limits {
    lookups: Bucket,
    totals: Bucket,
    sessions: Bucket,
    movings: Bucket,
    /// When it was last told that the gateway is drained.
    leave: Option<Instant>,
    devices: HashMap<DeviceId, Device>,
}

/// A device that the forwarder was told of.
#[derive(Debug)]
struct Device {
    /// How many sessions it may begin because the forwarder asked about it.
    told: u32,
    is_open: bool,
    ended: Option<Instant>,
    sessions: Bucket,
    movings: Bucket,
}

impl Limits {
    /// The limits of a new forwarder for tunnel networks with `addresses` addresses.
    pub(crate) fn new(addresses: u32, now: Instant) -> Self {
        let lookup = Duration::from_secs(1) / bounds::LOOKUPS_PER_SECOND;
        Self {
            lookups: Bucket::new(lookup, LOOKUPS_AT_ONCE, now),
            totals: Bucket::new(bounds::TOTALS_INTERVAL, TOTALS_AT_ONCE, now),
            sessions: Bucket::of_sessions(addresses, now).with_burst_times(BURSTS_AT_ONCE),
            movings: Bucket::of_movings(addresses, now).with_burst_times(BURSTS_AT_ONCE),
            leave: None,
            devices: HashMap::new(),
        }
    }

    /// Notes that the forwarder is about to be told of `device`.
    pub(crate) fn told(&mut self, device: DeviceId, now: Instant) {
        self.devices.entry(device).or_insert_with(|| Device::new(now)).told = 1;
    }

    /// Notes that the forwarder is about to be told that the gateway is drained.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.leave = Some(now);
    }

    /// Notes that nothing was heard for `time` because control was busy, and that what was said then comes now.
    pub(crate) fn was_busy(&mut self, time: Duration) {
        let all = [&mut self.lookups, &mut self.totals, &mut self.sessions, &mut self.movings];
        let devices = self.devices.values_mut();
        let devices = devices.flat_map(|device| [&mut device.sessions, &mut device.movings]);
        all.into_iter().chain(devices).for_each(|bucket| bucket.grant(time));
        self.leave = self.leave.map(|said| said + time);
    }

    /// Checks what the forwarder said at `now`, and moves times that cannot be true to the nearest that can.
    ///
    /// # Errors
    /// [`Excess`] if it is more than sessions justify.
    pub(crate) fn check(
        &mut self,
        message: FromForwarder,
        now: Instant,
        wall: UnixSeconds,
    ) -> Result<FromForwarder, Excess> {
        match message {
            FromForwarder::Ready | FromForwarder::SealFailed { .. } => Err(Excess::OutOfPlace),
            FromForwarder::WhoIs { .. } => allow(&mut self.lookups, now, Excess::Lookups, message),
            FromForwarder::Totals(_) => {
                self.forget(now);
                allow(&mut self.totals, now, Excess::Totals, message)
            }
            FromForwarder::SessionBegan { device, connecting_ip, at } => {
                self.begin(device, now)?;
                let at = at.clamp(wall.minus(BEGIN_DELAY), wall);
                Ok(FromForwarder::SessionBegan { device, connecting_ip, at })
            }
            FromForwarder::SessionEnded { device, last_seen_at } => {
                self.end(device, now)?;
                let last_seen_at = last_seen_at.clamp(wall.minus(END_DELAY), wall);
                Ok(FromForwarder::SessionEnded { device, last_seen_at })
            }
            FromForwarder::Moving { device, .. } => {
                self.moving(device, now)?;
                Ok(message)
            }
            #[cfg(feature = "leaky")]
            FromForwarder::Leaked { .. } => Ok(message),
            // The last that is heard of a forwarder; it is in the log.
            FromForwarder::Fault { file, line } => {
                Ok(FromForwarder::Fault { file, line: line.min(LONGEST_FILE) })
            }
        }
    }

    fn begin(&mut self, device: DeviceId, now: Instant) -> Result<(), Excess> {
        let device = self.devices.get_mut(&device).ok_or(Excess::Begin)?;
        let has_moved = device.ended.is_some_and(|ended| now.since(ended) < MOVE_PATIENCE);
        if device.is_open || (device.told == 0 && !has_moved) {
            return Err(Excess::Begin);
        }
        if !device.sessions.take(now) {
            return Err(Excess::SessionsOfDevice);
        }
        if !self.sessions.take(now) {
            return Err(Excess::Sessions);
        }
        if !has_moved {
            device.told = 0;
        }
        device.is_open = true;
        Ok(())
    }

    fn end(&mut self, device: DeviceId, now: Instant) -> Result<(), Excess> {
        let device = self.devices.get_mut(&device).filter(|device| device.is_open);
        let device = device.ok_or(Excess::End)?;
        device.is_open = false;
        device.ended = Some(now);
        Ok(())
    }

    fn moving(&mut self, device: DeviceId, now: Instant) -> Result<(), Excess> {
        let patience = bounds::LEAVE_LIFETIME + MOVING_DELAY;
        let is_left = self.leave.is_some_and(|said| now.since(said) < patience);
        let device = self.devices.get_mut(&device).filter(|device| device.is_open && is_left);
        let is_allowed =
            device.is_some_and(|device| device.movings.take(now)) && self.movings.take(now);
        if is_allowed { Ok(()) } else { Err(Excess::Moving) }
    }

    /// Forgets the devices whose sessions are over.
    fn forget(&mut self, now: Instant) {
        self.devices.retain(|_, device| device.is_of_use(now));
    }
}

impl Device {
    fn new(now: Instant) -> Self {
        let sessions = Bucket::new(bounds::ROAM_INTERVAL, SESSIONS_OF_DEVICE_AT_ONCE, now);
        let movings = Bucket::new(bounds::MOVING_INTERVAL, MOVINGS_OF_DEVICE_AT_ONCE, now);
        Self { told: 0, is_open: false, ended: None, sessions, movings }
    }

    fn is_of_use(&mut self, now: Instant) -> bool {
        let is_counted = !self.sessions.is_full(now) || !self.movings.is_full(now);
        self.is_open || self.told > 0 || is_counted
    }
}

fn allow(
    bucket: &mut Bucket,
    now: Instant,
    excess: Excess,
    message: FromForwarder,
) -> Result<FromForwarder, Excess> {
    if bucket.take(now) { Ok(message) } else { Err(excess) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tacit_messages::{ConnectingIp, SealPart, Totals};

    use super::*;

    const ADDRESSES: u32 = 65_536;
    const WALL: UnixSeconds = UnixSeconds(1_800_000_000);
    const DEVICE: DeviceId = DeviceId(7);

    fn began(device: DeviceId) -> FromForwarder {
        let connecting_ip = ConnectingIp::new(Ipv4Addr::new(192, 0, 2, 1).into());
        FromForwarder::SessionBegan { device, connecting_ip, at: WALL }
    }

    fn ended(device: DeviceId) -> FromForwarder {
        FromForwarder::SessionEnded { device, last_seen_at: WALL }
    }

    fn who_is() -> FromForwarder {
        FromForwarder::WhoIs { public_key: [7; 32] }
    }

    fn totals() -> FromForwarder {
        FromForwarder::Totals(Box::default())
    }

    fn moving(device: DeviceId) -> FromForwarder {
        FromForwarder::Moving { device, receiver_index: 7, silent_seconds: 3, by_former_key: false }
    }

    /// A forwarder that is checked, and the simulated time.
    struct Forwarder {
        limits: Limits,
        now: Instant,
    }

    impl Forwarder {
        fn new() -> Self {
            let now = Instant::now();
            Self { limits: Limits::new(ADDRESSES, now), now }
        }

        fn says(&mut self, message: FromForwarder) -> Result<(), Excess> {
            self.limits.check(message, self.now, WALL).map(drop)
        }

        fn wait(&mut self, time: Duration) {
            self.now = self.now + time;
        }

        fn told(&mut self, device: DeviceId) {
            self.limits.told(device, self.now);
        }

        /// How many of the messages it can say, one per `pause`, before it is found out.
        fn gets_away_with(
            &mut self,
            messages: impl IntoIterator<Item = FromForwarder>,
            pause: Duration,
        ) -> (usize, Option<Excess>) {
            for (count, message) in messages.into_iter().enumerate() {
                if let Err(excess) = self.says(message) {
                    return (count, Some(excess));
                }
                self.wait(pause);
            }
            (usize::MAX, None)
        }
    }

    fn moves(device: DeviceId) -> impl Iterator<Item = FromForwarder> {
        std::iter::repeat_with(move || [ended(device), began(device)]).flatten()
    }

    #[test]
    fn ten_thousand_clients_may_come_back_at_once() {
        let mut forwarder = Forwarder::new();
        for second in 0..10 {
            for n in 0..1_000 {
                let device = DeviceId(second * 1_000 + n);
                assert_eq!(forwarder.says(who_is()), Ok(()));
                forwarder.told(device);
                assert_eq!(forwarder.says(began(device)), Ok(()));
            }
            assert_eq!(forwarder.says(totals()), Ok(()));
            forwarder.wait(Duration::from_secs(1));
        }
        assert!((0..10_000).all(|n| forwarder.says(ended(DeviceId(n))) == Ok(())));
    }

    #[test]
    fn flood_of_questions_that_an_honest_forwarder_passes_on_is_allowed_for_ever() {
        let mut forwarder = Forwarder::new();
        let questions = std::iter::repeat_with(who_is).take(3_600_000);
        assert_eq!(forwarder.gets_away_with(questions, Duration::from_millis(1)).1, None);
    }

    #[test]
    fn twice_as_many_questions_are_found_out_within_seconds() {
        let mut forwarder = Forwarder::new();
        let questions = std::iter::repeat_with(who_is);
        let (said, excess) = forwarder.gets_away_with(questions, Duration::from_micros(500));
        assert_eq!(excess, Some(Excess::Lookups));
        assert!(said < 8_001, "{said}");
    }

    #[test]
    fn device_that_moves_every_ten_seconds_is_allowed_for_ever() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        for _ in 0..10_000 {
            assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
            assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
            assert_eq!(forwarder.says(totals()), Ok(()));
            forwarder.wait(bounds::ROAM_INTERVAL);
        }
    }

    #[test]
    fn burst_of_moves_that_no_client_makes_is_found_out() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        let (said, excess) = forwarder.gets_away_with(moves(DEVICE), Duration::from_millis(10));
        assert_eq!((said, excess), (7, Some(Excess::SessionsOfDevice)));
    }

    #[test]
    fn moves_of_many_devices_come_to_no_more_than_their_addresses_an_hour() {
        let mut forwarder = Forwarder::new();
        let start = forwarder.now;
        let devices: Vec<DeviceId> = (0..2_000).map(DeviceId).collect();
        for device in &devices {
            forwarder.told(*device);
            assert_eq!(forwarder.says(began(*device)), Ok(()));
        }
        let mut rows = devices.len();
        let found_out = loop {
            forwarder.wait(bounds::ROAM_INTERVAL);
            let each = devices.iter().try_for_each(|device| {
                forwarder.says(ended(*device))?;
                forwarder.says(began(*device)).inspect(|()| rows += 1)
            });
            if let Err(excess) = each {
                break excess;
            }
        };
        assert_eq!(found_out, Excess::Sessions);
        let hours = forwarder.now.since(start).as_secs_f64() / 3_600.0;
        let most = f64::from(ADDRESSES) * (f64::from(BURSTS_AT_ONCE) + hours);
        assert!(rows as f64 <= most, "{rows} rows, {most} allowed");
    }

    #[test]
    fn it_may_speak_only_of_devices_that_it_was_told_of() {
        let mut forwarder = Forwarder::new();
        assert_eq!(forwarder.says(began(DEVICE)), Err(Excess::Begin));
        assert_eq!(forwarder.says(ended(DEVICE)), Err(Excess::End));
    }

    #[test]
    fn session_begins_once_and_ends_once() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(began(DEVICE)), Err(Excess::Begin));
        assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(ended(DEVICE)), Err(Excess::End));
    }

    #[test]
    fn device_whose_session_is_over_must_be_asked_about_again() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
        forwarder.wait(MOVE_PATIENCE);
        assert_eq!(forwarder.says(began(DEVICE)), Err(Excess::Begin));
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
    }

    #[test]
    fn device_that_was_told_twice_may_begin_anew() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
        forwarder.wait(Duration::from_secs(60));
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
    }

    #[test]
    fn move_is_told_of_only_while_the_gateway_is_left_and_of_a_device_that_is_there() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(moving(DEVICE)), Err(Excess::Moving));
        forwarder.limits.leave(forwarder.now);
        assert_eq!(forwarder.says(moving(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(moving(DeviceId(8))), Err(Excess::Moving));
        forwarder.wait(bounds::LEAVE_LIFETIME + MOVING_DELAY);
        assert_eq!(forwarder.says(moving(DEVICE)), Err(Excess::Moving));
        forwarder.limits.leave(forwarder.now);
        forwarder.wait(bounds::LEAVE_LIFETIME + MOVING_DELAY);
        forwarder.limits.was_busy(MOVING_DELAY);
        assert_eq!(forwarder.says(moving(DEVICE)), Ok(()), "it was said when it was left");
        assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(moving(DEVICE)), Err(Excess::Moving));
    }

    #[test]
    fn all_devices_may_be_told_of_again_and_again_and_each_at_most_every_ten_seconds() {
        let devices = || (0..ADDRESSES / 2).map(|n| DeviceId(n.into()));
        let mut forwarder = Forwarder::new();
        for device in devices() {
            forwarder.told(device);
            assert_eq!(forwarder.says(began(device)), Ok(()));
        }
        for _ in 0..20 {
            forwarder.limits.leave(forwarder.now);
            for device in devices() {
                assert_eq!(forwarder.says(moving(device)), Ok(()));
            }
            forwarder.wait(bounds::MOVING_AGAIN / 4);
        }
        forwarder.wait(bounds::MOVING_AGAIN);
        forwarder.limits.leave(forwarder.now);
        let often = std::iter::repeat_with(|| moving(DEVICE));
        let (said, excess) = forwarder.gets_away_with(often, Duration::from_millis(100));
        assert_eq!((said, excess), (4, Some(Excess::Moving)));
    }

    #[test]
    fn totals_are_allowed_once_a_second_and_no_oftener() {
        let mut forwarder = Forwarder::new();
        let hours = std::iter::repeat_with(totals).take(10_000);
        assert_eq!(forwarder.gets_away_with(hours, Duration::from_secs(1)).1, None);
        let flood = std::iter::repeat_with(totals);
        let (said, excess) = forwarder.gets_away_with(flood, Duration::from_millis(1));
        assert_eq!(excess, Some(Excess::Totals));
        assert!(said <= TOTALS_AT_ONCE as usize + 1, "{said}");
    }

    #[test]
    fn what_belongs_to_the_start_is_not_said_later() {
        let mut forwarder = Forwarder::new();
        let failed = FromForwarder::SealFailed { part: SealPart::Dumps, errno: 77 };
        assert_eq!(forwarder.says(FromForwarder::Ready), Err(Excess::OutOfPlace));
        assert_eq!(forwarder.says(failed), Err(Excess::OutOfPlace));
    }

    #[test]
    fn what_gathered_while_control_was_busy_is_allowed() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        let outage = Duration::from_secs(3_600);
        forwarder.wait(outage);
        forwarder.limits.was_busy(outage);
        let gathered =
            moves(DEVICE).take(2 * 360).chain(std::iter::repeat_with(totals).take(3_600));
        assert_eq!(forwarder.gets_away_with(gathered, Duration::ZERO).1, None);
    }

    #[test]
    fn times_carry_no_more_than_a_delay() {
        let mut limits = Forwarder::new().limits;
        let now = Instant::now();
        let mut at = |at| {
            limits.told(DEVICE, now);
            let connecting_ip = ConnectingIp::new(Ipv4Addr::LOCALHOST.into());
            let message = FromForwarder::SessionBegan { device: DEVICE, connecting_ip, at };
            let Ok(FromForwarder::SessionBegan { at, .. }) = limits.check(message, now, WALL)
            else {
                panic!("refused")
            };
            let last_seen_at = UnixSeconds(0);
            let message = FromForwarder::SessionEnded { device: DEVICE, last_seen_at };
            let Ok(FromForwarder::SessionEnded { last_seen_at, .. }) =
                limits.check(message, now, WALL)
            else {
                panic!("refused")
            };
            assert_eq!(last_seen_at, WALL.minus(END_DELAY));
            at
        };
        assert_eq!(at(UnixSeconds(0xfeed_beef)), WALL);
        assert_eq!(at(UnixSeconds(1)), WALL.minus(BEGIN_DELAY));
        assert_eq!(at(WALL.minus(Duration::from_secs(3))), WALL.minus(Duration::from_secs(3)));
    }

    #[test]
    fn device_is_forgotten_when_there_is_nothing_to_count() {
        let mut forwarder = Forwarder::new();
        forwarder.told(DEVICE);
        assert_eq!(forwarder.says(began(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(ended(DEVICE)), Ok(()));
        assert_eq!(forwarder.says(totals()), Ok(()));
        assert_eq!(forwarder.limits.devices.len(), 1);
        forwarder.wait(bounds::ROAM_INTERVAL);
        assert_eq!(forwarder.says(totals()), Ok(()));
        assert!(forwarder.limits.devices.is_empty());
    }

    #[test]
    fn whole_gateway_counters_are_left_as_they_are() {
        let now = Instant::now();
        let counters = Totals { inbound_packets: 3, ..Totals::default() };
        let message = FromForwarder::Totals(Box::new(counters));
        let checked = Limits::new(ADDRESSES, now).check(message.clone(), now, WALL);
        assert_eq!(checked, Ok(message));
    }
}
