//! What the kernel's connection tracking remembers of tunnel addresses.
//!
//! An entry names a device's address and where it connected to. It outlives neither the session nor the gateway.
//! The kernel cannot be told to delete all entries of an IPv6 address, so the entries are read to be deleted. What is
//! read names destinations, which this process must not know: it stays in one buffer, which is wiped.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rustix::{
    fd::AsFd,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::netlink::{ANSWER_LEN, DONE, DUMP, ERROR, HEADER_LEN, Part, REQUEST, messages, open};

/// Length of `struct nfgenmsg`, in bytes, and of `struct nlmsghdr` before it with it.
const FAMILY_LEN: usize = 4;
const HEADERS_LEN: usize = HEADER_LEN + FAMILY_LEN;
/// Longer than a tuple, a zone and an id.
const REQUEST_LEN: usize = 512;

/// Messages of connection tracking (`linux/netfilter/nfnetlink_conntrack.h`).
const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// Attributes of an entry.
const TUPLE_ORIG: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// The attribute of a tuple that holds its addresses, which are attributes with these numbers.
const TUPLE_IP: u16 = 1;
const IP_ADDRESSES: std::ops::RangeInclusive<u16> = 1..=4;
/// The bits of an attribute's number that are no flags.
const NUMBER: u16 = 0x3fff;

/// Deletes the kernel's entries of devices' tunnel addresses, as far as the kernel lets it.
///
/// # Errors
/// If this process or the kernel lacks something for a moment: then entries may be left, and a later try helps.
pub(crate) async fn forget(devices: Vec<(Ipv4Addr, Ipv6Addr)>) -> rustix::io::Result<()> {
    let octets = |(v4, v6): (Ipv4Addr, Ipv6Addr)| [v4.octets().to_vec(), v6.octets().to_vec()];
    let ours: HashSet<Vec<u8>> = devices.into_iter().flat_map(octets).collect();
    forget_where(move |end| ours.contains(end)).await
}

/// Deletes the kernel's entries of all tunnel addresses, as far as the kernel lets it.
pub(super) async fn forget_networks(networks: &[IpNet]) {
    let networks = networks.to_vec();
    let ours = move |end: &[u8]| networks.iter().any(|network| is_within(end, network));
    // The gateway goes or comes: what stays runs out by itself.
    let _ = forget_where(ours).await;
}

async fn forget_where(ours: impl Fn(&[u8]) -> bool + Send + 'static) -> rustix::io::Result<()> {
    let deleted = spawn_blocking(move || {
        let families = [libc::AF_INET, libc::AF_INET6];
        families
            .map(|family| delete(family as u8, &ours))
            .into_iter()
            .find(|done| is_passing(*done))
    });
    deleted.await.ok().flatten().unwrap_or(Ok(()))
}

/// Whether a try failed for want of something that there may be again; a kernel that tracks nothing never will.
fn is_passing(done: rustix::io::Result<()>) -> bool {
    const WANTS: [Errno; 5] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INTR];
    done.is_err_and(|errno| WANTS.contains(&errno))
}

/// Reads all entries of a family, and deletes those with one of our addresses.
fn delete(family: u8, ours: &impl Fn(&[u8]) -> bool) -> rustix::io::Result<()> {
    let (reader, deleter) = (open(Part::Netfilter)?, open(Part::Netfilter)?);
    send(&reader, &headers(HEADERS_LEN, GET, REQUEST | DUMP, family), SendFlags::empty())?;
    let mut answer = Zeroizing::new([0; ANSWER_LEN]);
    loop {
        let (len, _) = recv(&reader, &mut answer[..], RecvFlags::empty())?;
        for message in messages(&answer[..len]) {
            match message.kind {
                NEW => {
                    let entry = message.rest.get(FAMILY_LEN..).unwrap_or_default();
                    if is_ours(entry, ours) {
                        request_deletion(&deleter, family, entry)?;
                    }
                }
                DONE => return Ok(()),
                ERROR => return Err(Errno::IO),
                _ => {}
            }
        }
    }
}

/// Asks for the deletion of an entry; the kernel answers only if there is none.
fn request_deletion(socket: impl AsFd, family: u8, entry: &[u8]) -> rustix::io::Result<()> {
    let mut request = Zeroizing::new([0; REQUEST_LEN]);
    let mut len = HEADERS_LEN;
    for attribute in
        attributes(entry).filter(|found| [TUPLE_ORIG, ID, ZONE].contains(&found.number))
    {
        let Some(place) = request.get_mut(len..len + attribute.whole.len()) else {
            return Err(Errno::MSGSIZE);
        };
        place.copy_from_slice(attribute.whole);
        len = (len + attribute.whole.len()).next_multiple_of(4);
    }
    request[..HEADERS_LEN].copy_from_slice(&headers(len, DELETE, REQUEST, family));
    send(socket, &request[..len], SendFlags::empty()).map(drop)
}

/// The headers of a request that is `len` bytes long with them.
fn headers(len: usize, kind: u16, flags: u16, family: u8) -> [u8; HEADERS_LEN] {
    let mut headers = [0; HEADERS_LEN];
    headers[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    headers[4..6].copy_from_slice(&kind.to_ne_bytes());
    headers[6..8].copy_from_slice(&flags.to_ne_bytes());
    headers[HEADER_LEN] = family;
    headers
}

/// An attribute of a message.
struct Attribute<'a> {
    number: u16,
    value: &'a [u8],
    /// With its header.
    whole: &'a [u8],
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let number = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & NUMBER;
        let whole = rest.get(..len).filter(|_| len >= 4)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { number, value: &whole[4..], whole })
    })
}

fn find(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find(|attribute| attribute.number == number).map(|found| found.value)
}

/// Whether the connection of an entry began at one of our addresses, or went to one.
fn is_ours(entry: &[u8], ours: &impl Fn(&[u8]) -> bool) -> bool {
    let addresses = find(entry, TUPLE_ORIG).and_then(|tuple| find(tuple, TUPLE_IP));
    let ends = attributes(addresses.unwrap_or_default())
        .filter(|attribute| IP_ADDRESSES.contains(&attribute.number));
    ends.map(|end| end.value).any(ours)
}

/// Whether the address with these octets is in `network`. It is looked at where it stands, and not copied.
fn is_within(octets: &[u8], network: &IpNet) -> bool {
    let (v4, v6);
    let prefix: &[u8] = match network {
        IpNet::V4(network) => {
            v4 = network.addr().octets();
            &v4
        }
        IpNet::V6(network) => {
            v6 = network.addr().octets();
            &v6
        }
    };
    let bits = usize::from(network.prefix_len());
    let (whole, rest) = (bits / 8, bits % 8);
    octets.len() == prefix.len()
        && octets[..whole] == prefix[..whole]
        && (rest == 0 || (octets[whole] ^ prefix[whole]) >> (8 - rest) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_within_its_network_only() {
        let network: IpNet = "10.66.0.0/15".parse().unwrap();
        assert!(is_within(&[10, 67, 255, 255], &network));
        assert!(!is_within(&[10, 68, 0, 0], &network));
        assert!(!is_within(&[10, 67], &network));
        let network: IpNet = "fd66:7ac1:7::/64".parse().unwrap();
        assert!(is_within(&"fd66:7ac1:7::2".parse::<Ipv6Addr>().unwrap().octets(), &network));
        assert!(!is_within(&"fd66:7ac1:8::2".parse::<Ipv6Addr>().unwrap().octets(), &network));
    }

    #[test]
    fn broken_attributes_end_the_reading() {
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 0]).count(), 0);
    }
}
