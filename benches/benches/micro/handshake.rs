//! What a handshake initiation costs the coordinator.

use std::cell::RefCell;

use divan::Bencher;
use tacit_forwarder::{
    handshakes::Outcome, inbox::HandshakeMessage, lookups::Lookups, sources::Sources,
};
use tacit_messages::{PublicKey, clock::Instant};

use crate::world::{SLOT, World};

/// Fewer than make the gateway ask for cookies.
const SAMPLES: u32 = 200;
/// More than make the gateway ask for cookies.
const MANY: usize = 600;

/// A live device's initiation: check its macs, find the device, make the response and a session.
#[divan::bench(sample_size = 1, sample_count = SAMPLES)]
fn initiation_to_response(bencher: Bencher<'_, '_>) {
    let world = RefCell::new(World::new());
    bencher.with_inputs(|| world.borrow_mut().initiation()).bench_local_values(|message| {
        let outcome = handle(&world.borrow(), message, |_| Some(SLOT));
        assert!(matches!(outcome, Outcome::Reply(reply) if reply.len() == 92));
    });
}

/// An initiation with a wrong mac1.
#[divan::bench]
fn wrong_mac1(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let mut message = world.initiation();
    message.bytes_mut()[120] ^= 1;
    bencher.with_inputs(|| message.clone()).bench_local_values(|message| {
        let outcome = handle(&world, message, |_| None);
        assert!(matches!(outcome, Outcome::Dropped(_)));
    });
}

/// An initiation that is answered with a cookie, because there are too many.
#[divan::bench]
fn initiation_to_cookie(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let message = world.initiation();
    for _ in 0..MANY {
        handle(&world, message.clone(), |_| None);
    }
    bencher.with_inputs(|| message.clone()).bench_local_values(|message| {
        let outcome = handle(&world, message, |_| None);
        assert!(matches!(outcome, Outcome::Reply(reply) if reply.len() == 64));
    });
}

fn handle(
    world: &World,
    message: HandshakeMessage,
    live: impl Fn(&PublicKey) -> Option<u32>,
) -> Outcome {
    let (mut lookups, mut sources) = (Lookups::new(Instant::now()), Sources::default());
    world.handshakes().handle(message, live, &mut lookups, &mut sources)
}
