//! The table's chains and rules, in the order in which a packet meets them.
//!
//! 1. `prerouting`, before connection tracking: forged sources and outsiders who name tunnel addresses.
//! 2. `input`: what devices may reach on the gateway itself.
//! 3. `mss`: TCP's maximum segment size, both ways.
//! 4. `forward`: what devices may reach beyond the gateway, and who may answer them.
//! 5. `postrouting`: the gateway's address in place of a device's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nlink::netlink::nftables::{
    BaseChain, CtState, Family, Field, FilterHook, Match, NatHook, Policy, Priority, Rule, TcpFlags,
};

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
            self.rule_from_tunnel().match_saddr_not(own.addr(), own.prefix_len()).drop()
        });
        // Answers still bear the gateway's own address here: translation comes after.
        let named = networks
            .iter()
            .map(|own| self.rule_from_outside().match_daddr(own.addr(), own.prefix_len()).drop());
        let borrowed = networks
            .iter()
            .map(|own| self.rule_from_outside().match_saddr(own.addr(), own.prefix_len()).drop());
        forged.chain(named).chain(borrowed).collect()
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = vec![self.rule_from_tunnel().match_ct_state(answering()).accept()];
        for served in &self.settings.served_ports {
            for address in self.settings.gateway_addresses() {
                let host = if address.is_ipv4() { 32 } else { 128 };
                let rule = self.rule_from_tunnel().match_daddr(address, host);
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
            way(self.rule(), &self.settings.interface)
                .then(Match::eq(Field::NfProto, family))
                .match_tcp_flags(TcpFlags::SYN, TcpFlags::SYN | TcpFlags::RST)
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
            self.rule_from_tunnel().match_ct_state(answering()).accept(),
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
        rules.push(self.rule_to_tunnel().match_ct_state(answering()).accept());
        rules.push(self.rule_to_tunnel().drop());
        rules
    }

    fn postrouting(&self) -> Vec<Rule> {
        let networks = self.settings.tunnel_networks();
        let leaving =
            || self.rule().match_oif_not(&self.settings.interface).match_oif_not(LOOPBACK);
        networks
            .iter()
            .map(|own| leaving().match_saddr(own.addr(), own.prefix_len()).masquerade())
            .collect()
    }

    fn rule(&self) -> Rule {
        Rule::new(self.table, self.chain).family(Family::Inet)
    }

    fn rule_from_tunnel(&self) -> Rule {
        self.rule().match_iif(&self.settings.interface)
    }

    fn rule_to_tunnel(&self) -> Rule {
        self.rule().match_oif(&self.settings.interface)
    }

    fn rule_from_outside(&self) -> Rule {
        self.rule().match_iif_not(&self.settings.interface).match_iif_not(LOOPBACK)
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
