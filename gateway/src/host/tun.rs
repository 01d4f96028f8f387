//! The TUN device and its queues.
#![expect(unsafe_code, reason = "tun-rs does not offer TUN_F_TSO_ECN, so one ioctl is made here")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{IntegerSetter, ioctl, opcode};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{HostError, HostSettings};

const DEVICE_PATH: &str = "/dev/net/tun";

/// Packets that the kernel holds per queue for a worker that is busy.
const QUEUE_LEN_PACKETS: u32 = 1000;

const TCP_OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
const UDP_OFFLOADS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// The queues of a TUN device, which is gone when the last of them is closed.
#[derive(Debug)]
pub(super) struct TunQueues {
    /// One descriptor per queue, non-blocking, each packet behind a `virtio_net_hdr`.
    pub(super) queues: Vec<OwnedFd>,
    /// Whether the device takes and gives UDP super-packets (Linux 6.2).
    pub(super) has_uso: bool,
}

/// Checks that the TUN driver can be opened.
///
/// # Errors
/// [`HostError::NoTunDevice`] or [`HostError::TunDeviceRefused`].
pub(super) fn probe() -> Result<(), HostError> {
    let Err(error) = File::options().read(true).write(true).open(DEVICE_PATH) else {
        return Ok(());
    };
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Err(HostError::NoTunDevice),
        _ => Err(HostError::TunDeviceRefused(error)),
    }
}

/// Makes the TUN device of `settings`, still down and without addresses, with one queue per worker.
///
/// # Errors
/// [`HostError::Tun`].
pub(super) fn open(settings: &HostSettings) -> Result<TunQueues, HostError> {
    build(settings)
        .map_err(|source| HostError::Tun { interface: settings.interface.clone(), source })
}

fn build(settings: &HostSettings) -> io::Result<TunQueues> {
    let first = DeviceBuilder::new()
        .name(&settings.interface)
        .mtu(settings.mtu)
        .with(|linux| {
            linux.offload(true).multi_queue(true).tx_queue_len(QUEUE_LEN_PACKETS);
        })
        .inherit_enable_state()
        .build_sync()?;
    let has_uso = first.udp_gso();
    let mut devices = vec![first];
    while devices.len() < settings.workers {
        devices.push(devices[0].try_clone()?);
    }
    offload_ecn(devices[0].as_fd(), has_uso);
    let queues = devices.iter().map(detach).collect::<io::Result<_>>()?;
    Ok(TunQueues { queues, has_uso })
}

/// Takes the queue out of the crate's hands: what happens to its packets is the forwarder's own.
fn detach(device: &SyncDevice) -> io::Result<OwnedFd> {
    device.set_nonblocking(true)?;
    device.as_fd().try_clone_to_owned()
}

/// Asks for TCP super-packets with congestion marks too, which the kernel would otherwise cut up before the queue.
fn offload_ecn(queue: BorrowedFd<'_>, has_uso: bool) {
    const SET_OFFLOAD: rustix::ioctl::Opcode = opcode::write::<libc::c_uint>(b'T', 208);
    let udp = if has_uso { UDP_OFFLOADS } else { 0 };
    let offloads = TCP_OFFLOADS | libc::TUN_F_TSO_ECN | udp;
    // SAFETY: TUNSETOFFLOAD takes its mask by value and touches no memory of ours.
    let set = unsafe { ioctl(queue, IntegerSetter::<SET_OFFLOAD>::new_usize(offloads as usize)) };
    // Refused, the device goes on with what tun-rs asked for.
    let _ = set;
}
