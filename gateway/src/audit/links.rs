//! The interfaces of the gateway's network namespace, what is attached to them, and which lead out.

use std::collections::BTreeSet;

use nlink::{
    TcHandle,
    netlink::{
        AttrIter, Connection, FromNetlink, NlMsgType, Route, attr::get, messages::TcMessage,
        parse::PResult,
    },
};

use super::{
    bpf,
    reading::{Reading, Unread},
    way,
};

/// `IFLA_…`: what the kernel says of an interface.
mod ifla {
    pub(super) const IFNAME: u16 = 3;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const PROMISCUITY: u16 = 30;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const XDP: u16 = 43;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    /// `IFLA_TUN_NUM_QUEUES` and `IFLA_TUN_NUM_DISABLED_QUEUES`.
    pub(super) const TUN_QUEUES: [u16; 2] = [8, 9];
    pub(super) const XDP_ATTACHED: u16 = 2;
}

/// An interface. nlink's own type leaves XDP out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// What it is, if it is no plain card.
    pub(super) kind: String,
    /// The interface of this namespace that it stands on.
    pub(super) lower: Option<u32>,
    /// The bridge, bond or the like that it belongs to.
    pub(super) master: Option<u32>,
    /// How many asked it to take packets that are not for this host.
    pub(super) promiscuity: u32,
    /// Whether an XDP program is attached.
    pub(super) has_xdp: bool,
    /// How many queues programs have open, if it is a TUN device with more than one.
    pub(super) queues: Option<u32>,
}

impl FromNetlink for Link {
    fn parse(input: &mut &[u8]) -> PResult<Self> {
        let message = std::mem::take(input);
        let (header, attributes) = message.split_at_checked(HEADER_LEN).unwrap_or_default();
        let mut link =
            Self { index: number(header.get(4..8).unwrap_or_default()), ..Self::default() };
        let mut is_elsewhere = false;
        for (kind, payload) in AttrIter::new(attributes) {
            match kind {
                ifla::IFNAME => link.name = get::string(payload).unwrap_or_default().into(),
                ifla::LINK => link.lower = Some(number(payload)),
                ifla::LINK_NETNSID => is_elsewhere = true,
                ifla::MASTER => link.master = Some(number(payload)),
                ifla::PROMISCUITY => link.promiscuity = number(payload),
                ifla::LINKINFO => {
                    let found = attribute(payload, ifla::INFO_KIND).map(get::string);
                    link.kind = found.and_then(Result::ok).unwrap_or_default().into();
                    link.queues = queues(&link.kind, payload);
                }
                ifla::XDP => {
                    let attached = attribute(payload, ifla::XDP_ATTACHED);
                    link.has_xdp = attached.and_then(<[u8]>::first).is_some_and(|mode| *mode != 0);
                }
                _ => {}
            }
        }
        // The other end of a veth, perhaps; its number means nothing here.
        link.lower =
            link.lower.filter(|lower| !is_elsewhere && *lower != link.index && *lower != 0);
        Ok(link)
    }

    fn write_dump_header(buf: &mut Vec<u8>) {
        buf.extend_from_slice(&[0; HEADER_LEN]);
    }
}

/// Bytes of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;

/// How many queues an interface's `IFLA_LINKINFO` tells of; only the TUN driver's are programs' own.
fn queues(kind: &str, info: &[u8]) -> Option<u32> {
    let data = attribute(info, ifla::INFO_DATA).filter(|_| kind == "tun")?;
    let counts: Option<Vec<u32>> =
        ifla::TUN_QUEUES.iter().map(|count| attribute(data, *count).map(number)).collect();
    Some(counts?.iter().sum())
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    AttrIter::new(attributes).find(|(other, _)| *other == kind).map(|(_, payload)| payload)
}

/// A filter of the kernel's traffic control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Its classifier, such as `u32` or `bpf`.
    pub(super) kind: String,
    /// What it does with packets, such as `mirred`; none if this program cannot read it.
    pub(super) actions: Option<Vec<String>>,
}

/// What of packets' ways can be watched at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The interface.
    pub(super) link: Link,
    /// Its traffic control filters.
    pub(super) filters: Vec<Filter>,
    /// How many BPF programs are at its tcx hooks.
    pub(super) tcx_programs: Reading<u32>,
}

/// The interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// All.
    pub(super) all: Vec<Link>,
    /// The tunnel's, those that lead out, and what their packets pass besides.
    pub(super) watched: Vec<Watched>,
}

/// The interfaces before it is known which of them is the tunnel's, so that nobody has to be asked first.
pub(super) struct EveryLink {
    /// All, as if packets passed each.
    all: Vec<Watched>,
    /// The interfaces of routes that lead out through somebody else.
    leading: BTreeSet<u32>,
}

impl EveryLink {
    /// Reads the interfaces of this network namespace.
    pub(super) async fn read() -> Reading<Self> {
        let read = async {
            let route = Connection::<Route>::new()?;
            let mut all = Vec::new();
            for link in route.dump_typed::<Link>(NlMsgType::RTM_GETLINK).await? {
                let filters = match filters(&route, link.index).await {
                    // It is gone since.
                    Err(error) if error.errno() == Some(libc::ENODEV) => continue,
                    filters => filters?,
                };
                let tcx_programs = bpf::tcx_programs(link.index);
                all.push(Watched { link, filters, tcx_programs });
            }
            Ok::<_, nlink::Error>(Self { all, leading: leading(&route).await? })
        };
        read.await.map_err(|error| Unread::new("the interfaces", error))
    }

    /// The interfaces that packets of `tunnel` pass, and all others.
    pub(super) fn around(self, tunnel: &str) -> Links {
        let all: Vec<Link> = self.all.iter().map(|watched| watched.link.clone()).collect();
        let mut first = uplinks(&self.leading, &all, tunnel);
        first.extend(all.iter().filter(|link| link.name == tunnel).map(|link| link.index));
        let passed = way::passed(&all, &first);
        let is_passed = |watched: &Watched| passed.contains(&watched.link.index);
        Links { watched: self.all.into_iter().filter(is_passed).collect(), all }
    }
}

impl Links {
    /// The names of the watched interfaces but `tunnel`.
    pub(super) fn uplinks(&self, tunnel: &str) -> Vec<&str> {
        let names = self.watched.iter().map(|watched| watched.link.name.as_str());
        names.filter(|name| *name != tunnel).collect()
    }

    /// Whether packets pass the interface with that number.
    pub(super) fn is_watched(&self, index: u32) -> bool {
        self.watched.iter().any(|watched| watched.link.index == index)
    }

    /// The interface with that name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.all.iter().find(|link| link.name == name)
    }

    /// The interface with that number.
    pub(super) fn by_index(&self, index: u32) -> Option<&Link> {
        self.all.iter().find(|link| link.index == index)
    }
}

/// The interfaces with a route that leads out through somebody else.
async fn leading(route: &Connection<Route>) -> nlink::Result<BTreeSet<u32>> {
    let mut leading = BTreeSet::new();
    for found in route.get_routes().await? {
        let hops = found.multipath().unwrap_or_default();
        if found.has_gateway() || found.is_default() || !hops.is_empty() {
            leading.extend(found.oif());
            leading.extend(hops.iter().map(|hop| hop.ifindex));
        }
    }
    Ok(leading)
}

/// Those of `leading` that are neither the tunnel's nor this host's own; all others if there is none.
fn uplinks(leading: &BTreeSet<u32>, all: &[Link], tunnel: &str) -> BTreeSet<u32> {
    let others = |link: &&Link| link.name != tunnel && link.name != "lo";
    let uplinks: BTreeSet<u32> = all.iter().filter(others).map(|link| link.index).collect();
    let leading: BTreeSet<u32> = leading.intersection(&uplinks).copied().collect();
    if leading.is_empty() { uplinks } else { leading }
}

/// The filters at all hooks of an interface.
async fn filters(route: &Connection<Route>, interface: u32) -> nlink::Result<Vec<Filter>> {
    let mut parents = BTreeSet::from([TcHandle::UNSPEC.as_raw()]);
    for qdisc in route.get_qdiscs_by_index(interface).await? {
        parents.insert(qdisc.handle_raw());
        if matches!(qdisc.kind(), Some("clsact" | "ingress")) {
            parents.insert(TcHandle::CLSACT_INGRESS.as_raw());
            parents.insert(TcHandle::CLSACT_EGRESS.as_raw());
        }
    }
    parents.extend(route.get_classes_by_index(interface).await?.iter().map(TcMessage::handle_raw));
    let mut filters = Vec::new();
    for parent in parents {
        let parent = TcHandle::from_raw(parent);
        match route.get_filters_by_parent_index(interface, parent).await {
            Ok(found) => filters.extend(found.iter().filter_map(read_filter)),
            Err(refused) if has_no_filters(&refused) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filters)
}

/// Whether the kernel refused to list filters because there is no such hook or class, or it can have none.
fn has_no_filters(refused: &nlink::Error) -> bool {
    refused.is_not_found() || refused.is_invalid_argument() || refused.is_not_supported()
}

/// Reads a filter; one without options, or with a hash table's size, is only the head of a list.
fn read_filter(message: &TcMessage) -> Option<Filter> {
    const U32_DIVISOR: u16 = 4;
    let (kind, options) = (message.kind()?, message.raw_options()?);
    let is_head = kind == "u32" && attribute(options, U32_DIVISOR).is_some();
    (!is_head).then(|| Filter { kind: kind.into(), actions: actions(kind, options) })
}

/// The actions in a filter's options (`TCA_…_ACT`, whose number is each classifier's own).
fn actions(kind: &str, options: &[u8]) -> Option<Vec<String>> {
    const ACT_KIND: u16 = 1;
    let number = match kind {
        "bpf" => 1,
        "matchall" | "cgroup" | "fw2" => 2,
        "flower" | "basic" => 3,
        "fw" => 4,
        "route" => 6,
        "u32" => 7,
        "flow" => 9,
        _ => return None,
    };
    let listed = attribute(options, number).unwrap_or_default();
    let kinds = AttrIter::new(listed).filter_map(|(_, action)| {
        get::string(attribute(action, ACT_KIND)?).ok().map(str::to_owned)
    });
    Some(kinds.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute as nested;

    #[test]
    fn interface_is_read_with_its_xdp_program() {
        let mut message = vec![0; HEADER_LEN];
        message[4] = 9;
        message.extend(nested(ifla::IFNAME, b"tacit0\0"));
        message.extend(nested(ifla::PROMISCUITY, &1_u32.to_ne_bytes()));
        message.extend(nested(ifla::LINKINFO, &nested(ifla::INFO_KIND, b"tun\0")));
        message.extend(nested(ifla::XDP, &nested(ifla::XDP_ATTACHED, &[2])));
        let link = Link::parse(&mut &message[..]).unwrap();
        let expected = Link {
            index: 9,
            name: "tacit0".into(),
            kind: "tun".into(),
            promiscuity: 1,
            has_xdp: true,
            ..Link::default()
        };
        assert_eq!(link, expected);
    }

    #[test]
    fn queues_of_a_tun_device_are_counted_with_those_at_rest() {
        let counts = [nested(8, &2_u32.to_ne_bytes()), nested(9, &1_u32.to_ne_bytes())].concat();
        let data = nested(ifla::INFO_DATA, &counts);
        assert_eq!(queues("tun", &data), Some(3));
        assert_eq!(queues("vxlan", &data), None);
        assert_eq!(queues("tun", &nested(ifla::INFO_DATA, &nested(3, &[1]))), None);
    }

    #[test]
    fn lower_interface_of_another_namespace_is_none() {
        let mut message = vec![0; HEADER_LEN];
        message.extend(nested(ifla::LINK, &5_u32.to_ne_bytes()));
        assert_eq!(Link::parse(&mut &message[..]).unwrap().lower, Some(5));
        message.extend(nested(ifla::LINK_NETNSID, &0_u32.to_ne_bytes()));
        assert_eq!(Link::parse(&mut &message[..]).unwrap().lower, None);
    }

    #[test]
    fn filters_that_could_not_be_listed_are_not_none() {
        for errno in [libc::ENOENT, libc::EINVAL, libc::EOPNOTSUPP] {
            assert!(has_no_filters(&nlink::Error::from_errno(-errno)), "{errno}");
        }
        for errno in [libc::EPERM, libc::ENOBUFS, libc::ENOMEM] {
            assert!(!has_no_filters(&nlink::Error::from_errno(-errno)), "{errno}");
        }
    }

    #[test]
    fn action_of_a_filter_is_named() {
        let action = nested(1, &nested(1, b"mirred\0"));
        let options = [nested(1, &[0; 4]), nested(7, &action)].concat();
        assert_eq!(actions("u32", &options), Some(vec!["mirred".into()]));
        assert_eq!(actions("u32", &nested(1, &[0; 4])), Some(vec![]));
        assert_eq!(actions("unheard-of", &options), None);
    }
}
