//! Micro-benchmarks of the packet path, each step by itself. `cargo bench -p tacit-benches` runs them.
//!
//! Those with IO use a UDP socket on loopback, and a socket pair or /dev/null in the TUN device's place. An item is one packet.

mod checksum;
mod coalescing;
mod codec;
mod handshake;
mod inbound;
mod lookup;
mod outbound;
mod segmenting;
mod world;

fn main() {
    divan::main();
}
