//! Whoever could watch packets at the tunnel interface or where they lead out.

use super::{
    check::{Check, Finding, Verdict},
    evidence::Evidence,
    forwarder::is_queue,
    links::{Link, Links, Watched},
    process, reading,
};

/// The checks of this family.
pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "packet-sockets",
        meaning: "Nobody captures packets at the tunnel interface, the uplink or what their packets pass besides (a card below a VLAN, a bridge, its ports) with a packet socket, as tcpdump does.",
        by_hand: "ss -0 -p; cat /proc/net/packet",
        judge: |evidence| {
            with_links(evidence, |links, finding| {
                let judged = reading::judge(&evidence.network.packet, |table, finding| {
                    judge_packet_sockets(table, links, finding);
                });
                *finding = judged;
            })
        },
    },
    Check {
        id: "raw-sockets",
        meaning: "Nobody gets copies of clients' datagrams by a raw socket.",
        by_hand: "ss -w -a -p; cat /proc/net/raw /proc/net/raw6",
        judge: |evidence| {
            reading::judge(&evidence.network.raw, |table, finding| {
                judge_raw_sockets(table, finding);
            })
        },
    },
    Check {
        id: "tunnel-queues",
        meaning: "No process but the forwarder has a queue of the tunnel interface, out of which packets come.",
        by_hand: "ip -d link show {tunnel}; grep -l 'iff:.*{tunnel}' /proc/[0-9]*/fdinfo/*",
        judge: |evidence| {
            with_links(evidence, |links, finding| {
                let tunnel = evidence.facts.interface.as_str();
                *finding = reading::judge(&evidence.forwarder.descriptors, |all, finding| {
                    let own = all.iter().filter(|one| is_queue(one, tunnel)).count();
                    judge_queues(links.by_name(tunnel), own, finding);
                });
            })
        },
    },
    Check {
        id: "interface-programs",
        meaning: "No BPF program (XDP, tc, tcx) sees packets at the tunnel interface, the uplink or what their packets pass besides.",
        by_hand: "ip -d link; tc filter show dev {tunnel} ingress; tc filter show dev {tunnel} egress; bpftool net",
        judge: |evidence| with_links(evidence, judge_programs),
    },
    Check {
        id: "traffic-control",
        meaning: "No traffic control filter at the tunnel interface, the uplink or what their packets pass besides copies, samples or redirects packets.",
        by_hand: "tc -s filter show dev {tunnel} ingress; tc -s filter show dev {tunnel} egress; the same for {uplink}",
        judge: |evidence| with_links(evidence, judge_filters),
    },
    Check {
        id: "interface-mirrors",
        meaning: "No interface on top of the tunnel interface, the uplink or what their packets pass besides gets copies of packets, and none of them takes more than is sent to it.",
        by_hand: "ip -d link",
        judge: |evidence| with_links(evidence, judge_mirrors),
    },
];

fn with_links(evidence: &Evidence, judge: impl FnOnce(&Links, &mut Finding)) -> Finding {
    reading::judge(&evidence.links, |links, finding| {
        judge(links, finding);
        if !links.watched.iter().any(|watched| watched.link.name == evidence.facts.interface) {
            finding.warn(format!("there is no interface {}", evidence.facts.interface));
        }
    })
}

fn names(watched: &[Watched]) -> String {
    watched.iter().map(|watched| watched.link.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `ETH_P_…` of packets that devices send and receive.
const SEES_PACKETS: [u32; 3] =
    [libc::ETH_P_ALL as u32, libc::ETH_P_IP as u32, libc::ETH_P_IPV6 as u32];

fn judge_packet_sockets(table: &str, links: &Links, finding: &mut Finding) {
    let mut watching = 0;
    for socket in table.lines().skip(1).filter_map(PacketSocket::read) {
        let place = match socket.interface {
            0 => "all interfaces".into(),
            index => {
                links.by_index(index).map_or_else(|| index.to_string(), |link| link.name.clone())
            }
        };
        let is_watched = socket.interface == 0 || links.is_watched(socket.interface);
        let said = |sees| {
            let holder = process::holder_of_socket(socket.inode);
            format!(
                "packet socket of {holder} at {place}, protocol 0x{:04x}: {sees}",
                socket.protocol
            )
        };
        if is_watched && SEES_PACKETS.contains(&socket.protocol) {
            watching += 1;
            finding.fail(said(
                "it sees IP packets (if it is a DHCP client's: give the interface a fixed address)",
            ));
        } else if is_watched {
            finding.pass(said("it sees no IP packet"));
        }
    }
    finding.expect(
        watching == 0,
        format!("{watching} packet sockets see IP packets at {}", names(&links.watched)),
    );
}

/// A line of `/proc/net/packet`.
struct PacketSocket<'a> {
    protocol: u32,
    interface: u32,
    inode: &'a str,
}

impl<'a> PacketSocket<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Self {
            protocol: u32::from_str_radix(words.get(3)?, 16).ok()?,
            interface: words.get(4)?.parse().ok()?,
            inode: words.get(8)?,
        })
    }
}

fn judge_raw_sockets(table: &str, finding: &mut Finding) {
    let mut sockets = 0;
    for RawSocket { protocol, inode } in table.lines().filter_map(RawSocket::read) {
        sockets += 1;
        if protocol == libc::IPPROTO_UDP as u32 {
            let holder = process::holder_of_socket(inode);
            finding.fail(format!("raw socket of {holder}: it sees clients' datagrams"));
        }
    }
    finding.pass(format!("{sockets} raw sockets; those of other protocols see no UDP"));
}

/// A line of `/proc/net/raw` or `/proc/net/raw6`, where the protocol stands for the local port.
struct RawSocket<'a> {
    protocol: u32,
    inode: &'a str,
}

impl<'a> RawSocket<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, protocol) = words.get(1)?.rsplit_once(':')?;
        Some(Self { protocol: u32::from_str_radix(protocol, 16).ok()?, inode: words.get(9)? })
    }
}

/// Judges whether the tunnel interface has more queues than the forwarder's `own`.
fn judge_queues(tunnel: Option<&Link>, own: usize, finding: &mut Finding) {
    match tunnel.map(|tunnel| tunnel.queues) {
        Some(Some(queues)) => finding.expect(
            queues as usize == own,
            format!("{queues} queues of the interface, {own} of them the forwarder's"),
        ),
        _ => finding.warn("this kernel does not say how many queues the interface has"),
    };
}

fn judge_programs(links: &Links, finding: &mut Finding) {
    for Watched { link, filters, tcx_programs } in &links.watched {
        let name = &link.name;
        finding.expect(
            !link.has_xdp,
            format!("{name}: {} XDP program", if link.has_xdp { "an" } else { "no" }),
        );
        let classifiers = filters.iter().filter(|filter| filter.kind == "bpf").count();
        finding.expect(
            classifiers == 0,
            format!("{name}: {classifiers} BPF filters in traffic control"),
        );
        match tcx_programs {
            Ok(count) => finding.expect(*count == 0, format!("{name}: {count} tcx programs")),
            Err(unread) => finding.warn(format!("{name}: {unread}")),
        };
    }
}

/// Actions that give packets, or what is in them, to somebody else.
const TELLING_ACTIONS: [&str; 5] = ["mirred", "sample", "bpf", "ife", "simple"];

fn judge_filters(links: &Links, finding: &mut Finding) {
    for Watched { link, filters, .. } in &links.watched {
        // BPF filters are the matter of `interface-programs`.
        let filters: Vec<_> = filters.iter().filter(|filter| filter.kind != "bpf").collect();
        if filters.is_empty() {
            finding.pass(format!("{}: no filter", link.name));
        }
        for filter in filters {
            let said = |what: &str| format!("{}: a {} filter {what}", link.name, filter.kind);
            match &filter.actions {
                None => finding.warn(said("whose actions this program cannot read")),
                Some(actions) => {
                    match actions.iter().find(|action| TELLING_ACTIONS.contains(&action.as_str())) {
                        Some(action) => finding.fail(said(&format!("with the action {action}"))),
                        None => finding
                            .warn(said("without such an action; it may count what it matches")),
                    }
                }
            };
        }
    }
}

/// Kinds of interfaces that share another one and can see its packets.
const SHARING_KINDS: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];

fn judge_mirrors(links: &Links, finding: &mut Finding) {
    for Watched { link, .. } in &links.watched {
        judge_sharing(link, links, finding);
        judge_ports(link, links, finding);
        judge_promiscuity(link, links, finding);
    }
}

/// Interfaces on top of `link` that share it.
fn sharing<'a>(link: &Link, links: &'a Links) -> impl Iterator<Item = &'a Link> {
    let index = link.index;
    links.all.iter().filter(move |other| {
        other.lower == Some(index) && SHARING_KINDS.contains(&other.kind.as_str())
    })
}

fn judge_sharing(link: &Link, links: &Links, finding: &mut Finding) {
    // One that leads out itself gets its own packets.
    for other in sharing(link, links).filter(|other| !links.is_watched(other.index)) {
        finding.fail(format!("{}: {} {} on top of it", link.name, other.kind, other.name));
    }
}

fn judge_ports(link: &Link, links: &Links, finding: &mut Finding) {
    let is_port = |port: &&Link| port.master == Some(link.index) && link.kind == "bridge";
    for port in links.all.iter().filter(is_port) {
        let verdict = if port.kind == "tun" { Verdict::Fail } else { Verdict::Warn };
        let kind = if port.kind.is_empty() { "card" } else { &port.kind };
        finding.line(
            verdict,
            format!("{}: a bridge with the {kind} {} as a port", link.name, port.name),
        );
    }
}

fn judge_promiscuity(link: &Link, links: &Links, finding: &mut Finding) {
    let is_port = link
        .master
        .and_then(|master| links.by_index(master))
        .is_some_and(|master| master.kind == "bridge");
    // A card may be told to take all, so that the one on top of it gets what is for its own address.
    let carries = sharing(link, links).find(|other| links.is_watched(other.index));
    let name = &link.name;
    match (link.promiscuity, carries) {
        (0, _) => finding.pass(format!("{name}: takes what is sent to it only")),
        (_, _) if is_port => finding.warn(format!("{name}: promiscuous, as a port of a bridge is")),
        (1, Some(other)) => {
            finding.warn(format!("{name}: promiscuous, as what carries {} may be", other.name))
        }
        (count, _) => finding.fail(format!("{name}: promiscuous, asked for {count} times")),
    };
}

#[cfg(test)]
mod tests {
    use super::{super::links::Filter, *};

    fn links() -> Links {
        let link = |index, name: &str, kind: &str| Link {
            index,
            name: name.into(),
            kind: kind.into(),
            ..Link::default()
        };
        let all = vec![
            link(1, "lo", ""),
            link(2, "eth0", ""),
            link(3, "docker0", "bridge"),
            link(9, "tacit0", "tun"),
        ];
        let watched =
            |link: &Link| Watched { link: link.clone(), filters: Vec::new(), tcx_programs: Ok(0) };
        let watched = vec![watched(&all[1]), watched(&all[3])];
        Links { all, watched }
    }

    fn verdict(
        judge: impl FnOnce(&Links, &mut Finding),
        change: impl FnOnce(&mut Links),
    ) -> Verdict {
        let (mut links, mut finding) = (links(), Finding::default());
        change(&mut links);
        judge(&links, &mut finding);
        finding.verdict()
    }

    fn packet_socket(protocol: &str, interface: u32) -> Verdict {
        let table = format!(
            "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
             00000000aaaa1111 3      3    {protocol}   {interface}     1 0      0      4711\n"
        );
        verdict(|links, finding| judge_packet_sockets(&table, links, finding), |_| {})
    }

    #[test]
    fn packet_socket_that_sees_packets_of_the_tunnel_or_the_uplink_is_a_violation() {
        for protocol in ["0003", "0800", "86dd"] {
            for interface in [0, 2, 9] {
                assert_eq!(
                    packet_socket(protocol, interface),
                    Verdict::Fail,
                    "{protocol} {interface}"
                );
            }
            assert_eq!(packet_socket(protocol, 3), Verdict::Pass, "{protocol}");
        }
        assert_eq!(packet_socket("88cc", 2), Verdict::Pass, "neighbours are no customers");
    }

    #[test]
    fn raw_socket_of_udp_is_a_violation() {
        let judged = |protocol: &str| {
            let table = format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                 1: 00000000:{protocol} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4711 2 00000000aaaa 0\n"
            );
            verdict(|_, finding| judge_raw_sockets(&table, finding), |_| {})
        };
        assert_eq!(judged("0011"), Verdict::Fail);
        assert_eq!(judged("0001"), Verdict::Pass, "pings");
        assert_eq!(judged("00FF"), Verdict::Pass, "one that only sends");
    }

    #[test]
    fn queue_that_is_not_the_forwarders_is_a_violation() {
        let judged = |queues, own| {
            let link = Link { queues, ..Link::default() };
            verdict(|_, finding| judge_queues(Some(&link), own, finding), |_| {})
        };
        assert_eq!(judged(Some(2), 2), Verdict::Pass);
        assert_eq!(judged(Some(3), 2), Verdict::Fail);
        assert_eq!(judged(None, 2), Verdict::Warn);
    }

    #[test]
    fn program_at_an_interface_is_a_violation() {
        assert_eq!(verdict(judge_programs, |_| {}), Verdict::Pass);
        assert_eq!(
            verdict(judge_programs, |links| links.watched[1].link.has_xdp = true),
            Verdict::Fail
        );
        assert_eq!(
            verdict(judge_programs, |links| links.watched[0].tcx_programs = Ok(1)),
            Verdict::Fail
        );
        let filter = Filter { kind: "bpf".into(), actions: Some(Vec::new()) };
        assert_eq!(
            verdict(judge_programs, |links| links.watched[0].filters.push(filter.clone())),
            Verdict::Fail
        );
        assert_eq!(
            verdict(judge_filters, |links| links.watched[0].filters.push(filter)),
            Verdict::Pass
        );
    }

    #[test]
    fn filter_that_gives_packets_away_is_a_violation() {
        let with = |actions: Option<&[&str]>| {
            let actions = actions.map(|actions| actions.iter().map(ToString::to_string).collect());
            let filter = Filter { kind: "u32".into(), actions };
            verdict(judge_filters, |links| links.watched[1].filters.push(filter))
        };
        assert_eq!(with(Some(&["gact", "mirred"])), Verdict::Fail);
        assert_eq!(with(Some(&["gact"])), Verdict::Warn);
        assert_eq!(with(None), Verdict::Warn);
        assert_eq!(verdict(judge_filters, |_| {}), Verdict::Pass);
    }

    #[test]
    fn interface_that_shares_the_uplink_is_a_violation() {
        let on_top = |kind: &str, lower| Link {
            index: 20,
            name: "x0".into(),
            kind: kind.into(),
            lower: Some(lower),
            ..Link::default()
        };
        assert_eq!(verdict(judge_mirrors, |_| {}), Verdict::Pass);
        assert_eq!(
            verdict(judge_mirrors, |links| links.all.push(on_top("macvtap", 2))),
            Verdict::Fail
        );
        assert_eq!(
            verdict(judge_mirrors, |links| links.all.push(on_top("macvtap", 3))),
            Verdict::Pass
        );
        assert_eq!(
            verdict(judge_mirrors, |links| links.all.push(on_top("vlan", 2))),
            Verdict::Pass
        );
        assert_eq!(
            verdict(judge_mirrors, |links| links.watched[0].link.promiscuity = 1),
            Verdict::Fail
        );
    }

    #[test]
    fn uplink_that_shares_a_card_is_no_violation_but_another_on_that_card_is() {
        let on_card = |index, name: &str| Link {
            index,
            name: name.into(),
            kind: "macvlan".into(),
            lower: Some(2),
            ..Link::default()
        };
        let judged = |promiscuity, others: &[Link]| {
            verdict(judge_mirrors, |links| {
                links.all.push(on_card(20, "mv0"));
                links.all.extend(others.iter().cloned());
                links.watched[0].link.promiscuity = promiscuity;
                let watched =
                    Watched { link: on_card(20, "mv0"), filters: Vec::new(), tcx_programs: Ok(0) };
                links.watched.push(watched);
            })
        };
        assert_eq!(judged(0, &[]), Verdict::Pass);
        assert_eq!(judged(1, &[]), Verdict::Warn);
        assert_eq!(judged(2, &[]), Verdict::Fail);
        assert_eq!(judged(0, &[on_card(21, "spy0")]), Verdict::Fail);
    }

    #[test]
    fn tap_in_the_bridge_that_leads_out_is_a_violation() {
        let tap = Link {
            index: 21,
            name: "tap0".into(),
            kind: "tun".into(),
            master: Some(2),
            ..Link::default()
        };
        let judged = verdict(judge_mirrors, |links| {
            links.watched[0].link.kind = "bridge".into();
            links.all.push(tap);
        });
        assert_eq!(judged, Verdict::Fail);
    }
}
