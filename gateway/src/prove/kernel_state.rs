//! What the kernel holds for whoever may change networks: firewall, links, addresses, routes and traffic control, with every name,
//! comment and label in them, byte for byte as the kernel lists it.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use nlink::netlink::{Connection, Nftables, Route, attr::get, nftables::Family};
use rustix::io::Errno;

use super::{
    ledger::{Ledger, Moment, PlaceKind},
    namespace::Namespace,
};
use crate::netlink::{Part, attributes, list, text_attribute};

/// A list of the kernel's: its name here, its part and kind, and the header of the request.
type List = (&'static str, Part, u16, &'static [u8]);

/// Kinds of lists that others depend on.
const GET_LINKS: u16 = 18;
const GET_ROUTES: u16 = 26;
const GET_NEIGHBOURS: u16 = 30;
const GET_SETS: u16 = nftables(10);
const GET_ELEMENTS: u16 = nftables(13);
/// Family numbers that have lists of their own.
const BRIDGE: u8 = libc::AF_BRIDGE as u8;

const fn nftables(kind: u16) -> u16 {
    const PART: u16 = 10;
    PART << 8 | kind
}

/// Every list that needs no more to be asked for.
const LISTS: [List; 20] = [
    ("links", Part::Route, GET_LINKS, &[0; 16]),
    ("addresses", Part::Route, 22, &[0; 8]),
    ("routes", Part::Route, GET_ROUTES, &[0; 12]),
    ("neighbours", Part::Route, GET_NEIGHBOURS, &[0; 12]),
    ("proxied neighbours", Part::Route, GET_NEIGHBOURS, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
    (
        "addresses that bridges know",
        Part::Route,
        GET_NEIGHBOURS,
        &[BRIDGE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("groups that bridges know", Part::Route, 86, &[BRIDGE, 0, 0, 0, 0, 0, 0, 0]),
    ("rules of routing", Part::Route, 34, &[0; 12]),
    ("queueing disciplines", Part::Route, 38, &[0; 20]),
    ("labels of addresses", Part::Route, 74, &[0; 12]),
    ("next hops", Part::Route, 106, &[0; 8]),
    ("tables", Part::Netfilter, nftables(1), &[0; 4]),
    ("chains", Part::Netfilter, nftables(4), &[0; 4]),
    ("rules", Part::Netfilter, nftables(7), &[0; 4]),
    ("sets", Part::Netfilter, GET_SETS, &[0; 4]),
    ("objects", Part::Netfilter, nftables(19), &[0; 4]),
    ("flow tables", Part::Netfilter, nftables(23), &[0; 4]),
    ("expected connections", Part::Netfilter, 2 << 8 | 1, &[0; 4]),
    ("named counters", Part::Netfilter, 7 << 8 | 1, &[0; 4]),
    // The version of its protocol is asked for.
    ("sets of ipset", Part::Netfilter, 6 << 8 | 7, &[0, 0, 0, 0, 5, 0, 1, 0, 7, 0, 0, 0]),
];

/// Searches all that the kernel lists of the gateway's network.
///
/// `laid` are the addresses that the experiment itself has the network reach: each has one route, and is a neighbour.
///
/// # Errors
/// If the kernel does not say which links there are.
pub(super) fn search(
    inside: &Namespace,
    laid: &BTreeSet<IpAddr>,
    ledger: &mut Ledger,
    moment: Moment,
) -> anyhow::Result<()> {
    inside.within(|| {
        let mut reader = Reader { laid, ledger, moment };
        for (name, part, kind, request) in LISTS {
            reader.read(name, part, kind, request);
        }
        for link in list(Part::Route, GET_LINKS, &[0; 16])? {
            reader.read_traffic_control(&link);
        }
        for set in list(Part::Netfilter, GET_SETS, &[0; 4]).unwrap_or_default() {
            reader.read_elements(&set);
        }
        Ok(())
    })
}

struct Reader<'a> {
    laid: &'a BTreeSet<IpAddr>,
    ledger: &'a mut Ledger,
    moment: Moment,
}

impl Reader<'_> {
    fn read(&mut self, name: &str, part: Part, kind: u16, request: &[u8]) {
        let mut messages = match list(part, kind, request) {
            Ok(messages) => messages,
            Err(error) if is_no_list(&error) => return,
            Err(error) => {
                let what = PlaceKind::KernelState.name();
                return self.ledger.unread.push(format!("{what}: {name}: {error}"));
            }
        };
        match (part, kind) {
            (Part::Route, GET_ROUTES) => cut_out_laid(&mut messages, self.laid),
            (Part::Route, GET_NEIGHBOURS) => messages.retain(|neighbour| !is_found_out(neighbour)),
            _ => {}
        }
        let bytes = messages.join(&b"\n"[..]);
        self.ledger.bytes(PlaceKind::KernelState, name, self.moment, &bytes);
    }

    /// Reads classes and filters of a link at its root and at both hooks of clsact.
    fn read_traffic_control(&mut self, link: &[u8]) {
        const INDEX_AT: usize = 4;
        const PARENTS: [u32; 3] = [0, 0xffff_fff2, 0xffff_fff3];
        let Some(index) = link.get(INDEX_AT..INDEX_AT + 4) else { return };
        for parent in PARENTS {
            let request = [&[0; 4], index, &[0; 4], &parent.to_ne_bytes(), &[0; 4]].concat();
            for (name, kind) in [("classes of traffic", 42), ("filters of traffic", 46)] {
                self.read(name, Part::Route, kind, &request);
            }
        }
    }

    fn read_elements(&mut self, set: &[u8]) {
        const HEADER_LEN: usize = 4;
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        let Some((header, rest)) = set.split_at_checked(HEADER_LEN) else { return };
        let text = |number| {
            let (_, text) = attributes(rest).find(|(kind, _)| *kind == number)?;
            get::string(text).ok()
        };
        let (Some(table), Some(name)) = (text(TABLE), text(NAME)) else { return };
        let request =
            [&[header[0], 0, 0, 0][..], &text_attribute(TABLE, table), &text_attribute(NAME, name)];
        self.read("elements of sets", Part::Netfilter, GET_ELEMENTS, &request.concat());
    }
}

/// Whether this kernel has no such list, or no such hook.
fn is_no_list(error: &io::Error) -> bool {
    let none = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOENT, Errno::PROTONOSUPPORT];
    error.raw_os_error().is_some_and(|errno| none.iter().any(|none| none.raw_os_error() == errno))
}

/// Takes the destination out of one route to each address that the experiment laid a way to.
fn cut_out_laid(routes: &mut [Vec<u8>], laid: &BTreeSet<IpAddr>) {
    const HEADER_LEN: usize = 12;
    const DESTINATION: u16 = 1;
    let mut seen = BTreeSet::new();
    for route in routes {
        let Some(rest) = route.get(HEADER_LEN..) else { continue };
        let Some((_, octets)) = attributes(rest).find(|(kind, _)| *kind == DESTINATION) else {
            continue;
        };
        let Some(ip) = address(octets).filter(|ip| laid.contains(ip)) else { continue };
        if seen.insert(ip) {
            let at = octets.as_ptr().addr() - route.as_ptr().addr();
            let len = octets.len();
            route[at..at + len].fill(0);
        }
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(*octets.first_chunk()?).into()),
        _ => Some(Ipv6Addr::from(*octets.first_chunk()?).into()),
    }
}

/// Whether the kernel found a neighbour out by itself, as it does of whomever it sends a packet to. What somebody has it
/// remember is permanent, asks nobody, or has a flag.
fn is_found_out(neighbour: &[u8]) -> bool {
    const STATE_AT: usize = 8;
    const FLAGS_AT: usize = 10;
    const KEPT: u16 = 0x40 | 0x80;
    let state = neighbour.get(STATE_AT..).and_then(<[u8]>::first_chunk);
    let state = state.map_or(KEPT, |state| u16::from_ne_bytes(*state));
    state & KEPT == 0 && neighbour.get(FLAGS_AT) == Some(&0)
}

/// Has the kernel hold a mark as another name of an interface, and one as the comment of a firewall's table.
///
/// # Errors
/// If the kernel refuses.
pub(super) async fn plant(alias: &str, comment: &str) -> anyhow::Result<()> {
    const TABLE: &str = "planted";
    Connection::<Route>::new()?.set_link_alias("lo", alias).await?;
    let nftables = Connection::<Nftables>::new()?;
    Ok(nftables.add_table_with_comment(TABLE, Family::Inet, 0, Some(comment)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_an_address_was_laid_and_any_other_is_searched() {
        let to = |octets: [u8; 4]| [&[0; 12][..], &[8, 0, 1, 0], &octets].concat();
        let ours = [203, 0, 113, 9];
        let mut routes = [to(ours), to(ours), to([203, 0, 113, 8])];
        cut_out_laid(&mut routes, &BTreeSet::from([IpAddr::from(ours)]));
        assert_eq!(routes, [to([0; 4]), to(ours), to([203, 0, 113, 8])]);
    }

    #[test]
    fn neighbour_that_is_kept_is_searched() {
        let neighbour = |state: u8, flags: u8| [0, 0, 0, 0, 0, 0, 0, 0, state, 0, flags, 0];
        assert!(is_found_out(&neighbour(4, 0)), "stale");
        assert!(!is_found_out(&neighbour(0x80, 0)), "permanent");
        assert!(!is_found_out(&neighbour(4, 0x10)), "learned elsewhere");
        assert!(!is_found_out(&[]));
    }
}
