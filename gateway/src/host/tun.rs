//! The TUN device and its queues.
//!
//! The driver's file may be root's alone, which control is no longer when it makes the device for the next forwarder.
//! So it is given descriptors of the driver, and turns them into a device with its CAP_NET_ADMIN; no library does this
//! with a descriptor that it did not open itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl, opcode};

use super::{HostError, HostSettings};

const DEVICE_PATH: &str = "/dev/net/tun";

/// Packets that the kernel holds per queue for a worker that is busy.
pub(super) const QUEUE_LEN_PACKETS: u32 = 1000;

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

/// Opens the TUN driver `count` times; each descriptor can become a queue of a device.
///
/// # Errors
/// What the kernel said.
pub(crate) fn blank_devices(count: u32) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let open = |_| File::options().read(true).write(true).custom_flags(flags).open(DEVICE_PATH);
    (0..count).map(open).map(|device| device.map(OwnedFd::from)).collect()
}

/// Makes the TUN device of `settings`, still down and without addresses, of blank devices: one queue of each.
///
/// # Errors
/// [`HostError::Tun`].
pub(super) fn make(settings: &HostSettings, blank: Vec<OwnedFd>) -> Result<TunQueues, HostError> {
    build(settings, blank)
        .map_err(|source| HostError::Tun { interface: settings.interface.clone(), source })
}

fn build(settings: &HostSettings, blank: Vec<OwnedFd>) -> io::Result<TunQueues> {
    for queue in &blank {
        attach(queue.as_fd(), &settings.interface)?;
    }
    let first = blank.first().ok_or(io::ErrorKind::InvalidInput)?.as_fd();
    offload(first, TCP_OFFLOADS)?;
    let has_uso = offload(first, TCP_OFFLOADS | UDP_OFFLOADS).is_ok();
    // TCP super-packets with congestion marks too, which the kernel would otherwise cut up before the queue. Refused,
    // the device goes on with what it has.
    let udp = if has_uso { UDP_OFFLOADS } else { 0 };
    let _ = offload(first, TCP_OFFLOADS | libc::TUN_F_TSO_ECN | udp);
    Ok(TunQueues { queues: blank, has_uso })
}

/// Makes a blank device a queue of `interface`.
#[expect(unsafe_code, reason = "there is no safe binding for this ioctl")]
fn attach(blank: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    const SET_INTERFACE: Opcode = opcode::write::<libc::c_int>(b'T', 202);
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short },
    };
    let name = interface.bytes().take(libc::IFNAMSIZ - 1);
    for (place, byte) in request.ifr_name.iter_mut().zip(name) {
        *place = byte as libc::c_char;
    }
    // SAFETY: TUNSETIFF reads an `ifreq` and writes the device's name into it.
    unsafe { ioctl(blank, Updater::<SET_INTERFACE, libc::ifreq>::new(&mut request)) }?;
    Ok(())
}

/// Tells the kernel which super-packets the device takes and gives.
#[expect(unsafe_code, reason = "there is no safe binding for this ioctl")]
fn offload(queue: BorrowedFd<'_>, offloads: libc::c_uint) -> io::Result<()> {
    const SET_OFFLOAD: Opcode = opcode::write::<libc::c_uint>(b'T', 208);
    // SAFETY: TUNSETOFFLOAD takes its mask by value and touches no memory of ours.
    unsafe { ioctl(queue, IntegerSetter::<SET_OFFLOAD>::new_usize(offloads as usize)) }?;
    Ok(())
}
