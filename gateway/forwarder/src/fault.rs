//! Tells control where the forwarder panicked: a file and a line, nothing else.

use std::{os::fd::BorrowedFd, panic};

use rustix::net::{SendFlags, send};
use tacit_messages::FromForwarder;

/// This crate's files, by the number that a `Fault` message gives.
const SOURCE_FILES: &[&str] = &[
    "coalesce.rs",
    "coordinator.rs",
    "counters.rs",
    "destination.rs",
    "ecn.rs",
    "endpoint.rs",
    "expected.rs",
    "fault.rs",
    "handshakes.rs",
    "identity.rs",
    "inbound.rs",
    "inbox.rs",
    "indices.rs",
    "leak.rs",
    "lib.rs",
    "link.rs",
    "lookups.rs",
    "macs.rs",
    "misbehaviour.rs",
    "outbound.rs",
    "packet.rs",
    "peer.rs",
    "peers.rs",
    "seal.rs",
    "segment.rs",
    "session.rs",
    "settings.rs",
    "sources.rs",
    "state.rs",
    "syscalls.rs",
    "tun.rs",
    "tunnel.rs",
    "udp.rs",
    "wiping.rs",
    "wireguard.rs",
    "worker.rs",
];

/// The file that a `Fault` message names.
#[must_use]
pub fn source_file(index: u32) -> &'static str {
    SOURCE_FILES.get(index as usize).copied().unwrap_or("a dependency")
}

/// What a forwarder that panicked exits with, as every Rust program does.
const EXIT_CODE: i32 = 101;

/// From now on a panic sends its place to `link`, prints nothing and ends the process.
pub fn report_to(link: BorrowedFd<'static>) {
    panic::set_hook(Box::new(move |info| {
        let (file, line) =
            info.location().map_or((u32::MAX, 0), |place| (index(place.file()), place.line()));
        let frame = FromForwarder::Fault { file, line }.encode();
        let _ = send(link, &frame[..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        end_at_once();
    }));
}

/// Ends all threads without anything that a sealed process may not do, which `abort` would need.
#[expect(unsafe_code, reason = "the standard library runs exit handlers first")]
fn end_at_once() {
    // SAFETY: nothing is run any more, so nothing can be used after its end.
    unsafe { libc::_exit(EXIT_CODE) }
}

fn index(path: &str) -> u32 {
    let name = path.strip_prefix("gateway/forwarder/src/").unwrap_or_default();
    SOURCE_FILES.iter().position(|file| *file == name).map_or(u32::MAX, |index| index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_file_has_a_number() {
        let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
            .expect("source directory")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .collect();
        files.sort();
        assert_eq!(files, SOURCE_FILES);
    }

    #[test]
    fn numbers_lead_back_to_names() {
        assert_eq!(source_file(index(file!())), "fault.rs");
        assert_eq!(source_file(index("/elsewhere/lib.rs")), "a dependency");
    }
}
