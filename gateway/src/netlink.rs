//! What the kernel lists over netlink, message by message: also what nlink does not read of it.

use std::io;

use nlink::netlink::AttrIter;
use rustix::{
    fd::{AsFd, OwnedFd},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::NETFILTER, recv,
        send, socket_with,
    },
};

/// A part of the kernel that lists things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Links, addresses, routes, neighbours, rules of routing and traffic control (rtnetlink(7)).
    Route,
    /// Firewall and connection tracking.
    Netfilter,
}

/// Length of `struct nlmsghdr`, in bytes.
pub(crate) const HEADER_LEN: usize = 16;
/// Longer than any datagram that the kernel answers a list with.
pub(crate) const ANSWER_LEN: usize = 1 << 16;
/// How often a list is asked for again that changed while it was read.
const ATTEMPTS: usize = 10;

/// Flags and messages of netlink (`linux/netlink.h`).
pub(crate) const REQUEST: u16 = 1;
pub(crate) const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

/// Asks for the list of `kind`, narrowed by `request` (the family's header and attributes), and returns what follows
/// the header of each of its messages. The calling thread's network namespace answers.
///
/// # Errors
/// If the kernel has no such list, refuses, or changes it all the time.
pub(crate) fn list(part: Part, kind: u16, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..ATTEMPTS {
        match list_once(part, kind, request) {
            Err(Errno::INTR) => {}
            listed => return Ok(listed?),
        }
    }
    Err(Errno::INTR.into())
}

fn list_once(part: Part, kind: u16, request: &[u8]) -> rustix::io::Result<Vec<Vec<u8>>> {
    let socket = open(part)?;
    send(&socket, &message(kind, request), SendFlags::empty())?;
    read(socket)
}

/// A socket that talks with a part of the kernel.
pub(crate) fn open(part: Part) -> rustix::io::Result<OwnedFd> {
    let protocol = match part {
        // NETLINK_ROUTE is 0, which stands for none.
        Part::Route => None,
        Part::Netfilter => Some(NETFILTER),
    };
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
}

fn message(kind: u16, request: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER_LEN + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | DUMP).to_ne_bytes());
    // Nobody else uses the socket, so neither number nor port is needed.
    message.resize(HEADER_LEN, 0);
    message.extend(request);
    message
}

fn read(socket: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let (mut listed, mut answer) = (Vec::new(), vec![0; ANSWER_LEN]);
    loop {
        let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        for Message { kind, flags, rest } in messages(&answer[..len]) {
            if flags & DUMP_INTERRUPTED != 0 {
                return Err(Errno::INTR);
            }
            match kind {
                DONE | ERROR => {
                    let errno = rest.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
                    return if errno == 0 {
                        Ok(listed)
                    } else {
                        Err(Errno::from_raw_os_error(-errno))
                    };
                }
                _ => listed.push(rest.to_vec()),
            }
        }
    }
}

/// A message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    /// What follows its header.
    pub(crate) rest: &'a [u8],
}

/// The messages of a datagram, where they stand.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut left = datagram;
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*left.first_chunk()?) as usize;
        let number = |at: usize| Some(u16::from_ne_bytes(*left.get(at..)?.first_chunk()?));
        let (kind, flags) = (number(4)?, number(6)?);
        let rest = left.get(HEADER_LEN..len)?;
        left = left.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, rest })
    })
}

/// The attributes in `bytes`, by their numbers.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    AttrIter::new(bytes)
}

/// An attribute with a text in it, as requests have them.
pub(crate) fn text_attribute(number: u16, text: &str) -> Vec<u8> {
    attribute(number, &[text.as_bytes(), b"\0"].concat())
}

/// An attribute, as requests have them.
pub(crate) fn attribute(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + payload.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(number.to_ne_bytes());
    attribute.extend(payload);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_this_network_are_listed_with_their_names() {
        const GET_LINK: u16 = 18;
        let listed = list(Part::Route, GET_LINK, &[0; 16]).unwrap();
        let named = |message: &Vec<u8>| message.windows(3).any(|window| window == b"lo\0");
        assert!(listed.iter().any(named));
    }

    #[test]
    fn list_that_the_kernel_does_not_have_is_an_error() {
        const NOTHING: u16 = 0x7fff;
        assert!(list(Part::Netfilter, NOTHING, &[0; 4]).is_err());
    }

    #[test]
    fn broken_messages_end_the_reading() {
        let whole = message(7, &[1, 2, 3, 4]);
        let read = |bytes: &[u8]| messages(bytes).filter(|message| message.kind == 7).count();
        assert_eq!(read(&[&whole[..], &whole[..]].concat()), 2);
        assert_eq!(read(&[&whole[..], &whole[..whole.len() - 1]].concat()), 1);
        assert_eq!(messages(&[0; 40]).count(), 0, "messages without their own header");
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(messages(&[8, 0, 0, 0, 0, 1, 0, 0]).count(), 0);
    }
}
