//! Messages between control and forwarder.

use std::net::{Ipv4Addr, Ipv6Addr};

use divan::{Bencher, black_box};
use tacit_messages::{DeviceId, FromForwarder, SecretKey, ToForwarder};

fn device() -> ToForwarder {
    ToForwarder::Device {
        public_key: [1; 32],
        device: DeviceId(7),
        preshared_key: SecretKey::new([2; 32]),
        tunnel_v4: Ipv4Addr::new(10, 66, 0, 2),
        tunnel_v6: Ipv6Addr::LOCALHOST,
    }
}

#[divan::bench]
fn encode_device(bencher: Bencher<'_, '_>) {
    let message = device();
    bencher.bench_local(|| black_box(&message).encode());
}

#[divan::bench]
fn decode_device(bencher: Bencher<'_, '_>) {
    let frame = device().encode();
    bencher.bench_local(|| ToForwarder::decode(black_box(&frame[..])));
}

#[divan::bench]
fn encode_totals(bencher: Bencher<'_, '_>) {
    let message = FromForwarder::Totals(Box::default());
    bencher.bench_local(|| black_box(&message).encode());
}

#[divan::bench]
fn decode_totals(bencher: Bencher<'_, '_>) {
    let frame = FromForwarder::Totals(Box::default()).encode();
    bencher.bench_local(|| FromForwarder::decode(black_box(&frame[..])));
}
