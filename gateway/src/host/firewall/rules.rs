//! The table's chains and rules, in the order in which a packet meets them.
//!
//! 1. `prerouting`, before connection tracking: forged sources and outsiders who name tunnel addresses; clients'
//!    datagrams to the gateway are not tracked.
//! 2. `input`: what devices may reach on the gateway itself.
//! 3. `mss`: TCP's maximum segment size, both ways.
//! 4. `forward`: what devices may reach beyond the gateway, and who may answer them.
//! 5. `output`, before connection tracking: the gateway's datagrams to clients are not tracked.
//! 6. `postrouting`: the gateway's address in place of a device's, and never the port that clients send to; not for a
//!    network that is routed here.
//!
//! Every packet pays for every comparison, and interface names are the dearest: addresses and ports are compared
//! first, and answers are let through before anything else is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nlink::netlink::nftables::{
    BaseChain, CtState, Family, FibFlags, Field, FilterHook, Match, NatHook, NatStatement, Policy,
    Priority, Rule, TcpFlags,
};
use nlink::netlink::types::route::RouteType;

use super::HostSettings;
use crate::host::{Protocol, ServedPort};

/// Networks that no device reaches unless the operator allows it, as the forwarder has them: RFC 6890, RFC 5771.
const PRIVATE: &[(IpAddr, u8)] = &[
    (IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    // Unspecified, loopback, IPv4-mapped and NAT64.
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    // Link-local and site-local.
    (IpAddr::V6(Ipv6Addr::new(0xfe00, 0, 0, 0, 0, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

const LOOPBACK: &str = "lo";

/// `meta nfproto`.
const NFPROTO_IPV4: u8 = libc::NFPROTO_IPV4 as u8;
const NFPROTO_IPV6: u8 = libc::NFPROTO_IPV6 as u8;

/// Bytes of an IPv4 and a TCP header.
const HEADERS_V4: u16 = 20 + 20;
/// Bytes of an IPv6 and a TCP header.
const HEADERS_V6: u16 = 40 + 20;

/// First port that needs no privilege.
const UNPRIVILEGED: u16 = 1024;

/// A chain with its rules.
pub(super) struct ChainOfRules {
    /// Its name.
    pub(super) name: &'static str,
    /// Where the kernel calls it.
    pub(super) base: BaseChain,
    /// In order.
    pub(super) rules: Vec<Rule>,
}

/// All chains of `table`.
pub(super) fn chains<'a>(table: &'a str, settings: &'a HostSettings) -> Vec<ChainOfRules> {
    let filter = |hook, priority| BaseChain::filter(hook, priority).policy(Policy::Accept);
    let nat = BaseChain::nat(NatHook::Postrouting, Priority::SrcNat).policy(Policy::Accept);
    let chain = |name, base, rules: fn(&Draft<'a>) -> Vec<Rule>| ChainOfRules {
        name,
        base,
        rules: rules(&Draft { table, chain: name, settings }),
    };
    vec![
        chain("prerouting", filter(FilterHook::Prerouting, Priority::Raw), Draft::prerouting),
        chain("input", filter(FilterHook::Input, Priority::Filter), Draft::input),
        chain("mss", filter(FilterHook::Forward, Priority::Mangle), Draft::mss),
        chain("forward", filter(FilterHook::Forward, Priority::Filter), Draft::forward),
        chain("output", filter(FilterHook::Output, Priority::Raw), Draft::output),
        chain("postrouting", nat, Draft::postrouting),
    ]
}

/// The rules of one chain, being written.
struct Draft<'a> {
    table: &'a str,
    chain: &'a str,
    settings: &'a HostSettings,
}

impl Draft<'_> {
    fn prerouting(&self) -> Vec<Rule> {
        let networks = self.settings.tunnel_networks();
        let forged = networks.iter().map(|own| {
            let rule = self.rule().match_saddr_not(own.addr(), own.prefix_len());
            rule.match_iif(&self.settings.interface).drop()
        });
        // Answers still bear the gateway's own address here: translation comes after.
        let named = self.settings.masqueraded().map(|own| {
            self.only_outside(self.rule().match_daddr(own.addr(), own.prefix_len())).drop()
        });
        let borrowed = networks.iter().map(|own| {
            self.only_outside(self.rule().match_saddr(own.addr(), own.prefix_len())).drop()
        });
        let from_clients = self.settings.listen.iter().map(|listen| {
            // What is only forwarded must be tracked, or it could not be translated.
            let rule = self.rule().match_udp_dport(listen.port());
            let rule = match listen.ip() {
                ip if ip.is_unspecified() => rule
                    .then(Match::eq(Field::NfProto, nfproto(ip)))
                    .match_fib_type(FibFlags::DADDR, RouteType::Local),
                ip => rule.match_daddr(ip, host_prefix(ip)),
            };
            rule.match_iif_not(&self.settings.interface).notrack()
        });
        forged.chain(named).chain(borrowed).chain(from_clients).collect()
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = vec![self.rule_from_tunnel().match_ct_state(answering()).accept()];
        for served in &self.settings.served_ports {
            for address in self.settings.gateway_addresses() {
                let rule = self.rule_from_tunnel().match_daddr(address, host_prefix(address));
                rules.push(serve(rule, *served).accept());
            }
        }
        rules.push(self.rule_from_tunnel().drop());
        rules
    }

    fn mss(&self) -> Vec<Rule> {
        let families = [(NFPROTO_IPV4, HEADERS_V4), (NFPROTO_IPV6, HEADERS_V6)];
        let ways = [Rule::match_iif, Rule::match_oif];
        let clamp = |way: fn(Rule, &str) -> Rule, (family, headers): (u8, u16)| {
            // The kernel lowers the option and never raises it.
            let syn = self.rule().match_tcp_flags(TcpFlags::SYN, TcpFlags::SYN | TcpFlags::RST);
            way(syn.then(Match::eq(Field::NfProto, family)), &self.settings.interface)
                .clamp_tcp_mss(self.settings.mtu.saturating_sub(headers))
        };
        ways.iter().flat_map(|way| families.map(|family| clamp(*way, family))).collect()
    }

    fn forward(&self) -> Vec<Rule> {
        let between_devices = self.rule_from_tunnel().match_oif(&self.settings.interface);
        let mut rules = vec![
            if self.settings.allow_device_to_device {
                between_devices.accept()
            } else {
                between_devices.drop()
            },
            self.rule().match_ct_state(answering()).accept(),
            // Translation passes over these, so they would show tunnel addresses outside.
            self.rule_from_tunnel().match_ct_state(CtState::INVALID).drop(),
        ];
        for allowed in &self.settings.allow_private {
            let rule = self.rule_from_tunnel().match_daddr(allowed.network(), allowed.prefix_len());
            rules.push(rule.accept());
        }
        for (network, prefix) in PRIVATE {
            rules.push(self.rule_from_tunnel().match_daddr(*network, *prefix).drop());
        }
        rules.push(self.rule().match_oif(&self.settings.interface).drop());
        rules
    }

    fn output(&self) -> Vec<Rule> {
        let to_clients = self.settings.listen.iter().map(|listen| {
            let rule = match listen.ip() {
                ip if ip.is_unspecified() => {
                    self.rule().then(Match::eq(Field::NfProto, nfproto(ip)))
                }
                ip => self.rule().match_saddr(ip, host_prefix(ip)),
            };
            rule.match_udp_sport(listen.port()).notrack()
        });
        to_clients.collect()
    }

    fn postrouting(&self) -> Vec<Rule> {
        let networks: Vec<IpNet> = self.settings.masqueraded().collect();
        let leaving = |own: &IpNet| {
            let rule = self.rule().match_oif_not(&self.settings.interface).match_oif_not(LOOPBACK);
            rule.match_saddr(own.addr(), own.prefix_len())
        };
        // Answers to that port are not tracked: they would reach the gateway in place of the device.
        let moved = self.settings.listen.iter().flat_map(|listen| {
            let of_family = networks.iter().filter(|own| own.addr().is_ipv4() == listen.is_ipv4());
            of_family.map(|own| {
                let (first, last) = ports_without(listen.port());
                let other_port = NatStatement::masquerade().ports(first, last);
                leaving(own).match_udp_sport(listen.port()).nat(other_port)
            })
        });
        moved.chain(networks.iter().map(|own| leaving(own).masquerade())).collect()
    }

    fn rule(&self) -> Rule {
        Rule::new(self.table, self.chain).family(Family::Inet)
    }

    fn rule_from_tunnel(&self) -> Rule {
        self.rule().match_iif(&self.settings.interface)
    }

    fn only_outside(&self, rule: Rule) -> Rule {
        rule.match_iif_not(&self.settings.interface).match_iif_not(LOOPBACK)
    }
}

fn nfproto(address: IpAddr) -> u8 {
    if address.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 }
}

/// Prefix length of a single address.
fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first and the last of the unprivileged ports on the longer side of `port`.
fn ports_without(port: u16) -> (u16, u16) {
    if port > u16::MAX / 2 {
        (UNPRIVILEGED, port - 1)
    } else {
        (UNPRIVILEGED.max(port + 1), u16::MAX)
    }
}

/// Packets of a connection that was let through, and errors about one.
fn answering() -> CtState {
    CtState::ESTABLISHED | CtState::RELATED
}

fn serve(rule: Rule, served: ServedPort) -> Rule {
    match served.protocol {
        Protocol::Tcp => rule.match_tcp_dport(served.port),
        Protocol::Udp => rule.match_udp_dport(served.port),
    }
}
