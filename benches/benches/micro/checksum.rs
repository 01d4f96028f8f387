//! The Internet checksum.

use divan::{Bencher, black_box, counter::BytesCount};
use tacit_forwarder::packet;

/// Headers, short packets, full packets, super-packets.
#[divan::bench(args = [20, 64, 1_420, 65_535])]
fn sum(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = vec![0x5a; len];
    bencher.counter(BytesCount::new(len)).bench_local(|| packet::sum(black_box(&bytes), 0));
}
