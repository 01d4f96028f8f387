//! The rules of this network namespace's firewalls, and which of them packets can meet.

use std::collections::{BTreeMap, BTreeSet};

use nlink::netlink::{
    AttrIter, Connection, Nftables,
    attr::get,
    nftables::{ChainInfo, Family, Register, RuleExpr, RuleInfo, Verdict},
};

use super::{
    reading::{Reading, Unread},
    sets::{self, KeepingSet},
};

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Packets that go through this host can come by.
    Through,
    /// Only packets to and from this host itself: clients' encrypted ones among them.
    Own,
}

/// A rule that packets can meet.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Table and chain, as `nft list ruleset` names them.
    pub(super) place: String,
    /// What packets can come by.
    pub(super) way: Way,
    /// What it does, in order.
    pub(super) expressions: Vec<RuleExpr>,
    /// What it does, as nft writes it; none if nlink cannot.
    pub(super) text: Option<String>,
}

/// The firewalls.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// How many tables there are.
    pub(super) tables: usize,
    /// The rules.
    pub(super) all: Vec<Rule>,
    /// The sets that keep something.
    pub(super) keeping_sets: Vec<KeepingSet>,
}

/// Families whose chains IP packets come by.
const FAMILIES: [Family; 5] =
    [Family::Ip, Family::Ip6, Family::Inet, Family::Netdev, Family::Bridge];

impl Rules {
    /// Reads all tables of this network namespace.
    pub(super) async fn read() -> Reading<Self> {
        let read = async {
            let nftables = Connection::<Nftables>::new()?;
            let chains = nftables.list_chains().await?;
            let mut rules = Self::default();
            for table in nftables.list_tables().await? {
                rules.tables += 1;
                if !FAMILIES.contains(&table.family) {
                    continue;
                }
                let of_table =
                    |chain: &&ChainInfo| chain.table == table.name && chain.family == table.family;
                let chains: Vec<&ChainInfo> = chains.iter().filter(of_table).collect();
                let listed = nftables.list_rules(&table.name, table.family).await?;
                rules.all.extend(met(&chains, &listed));
                for set in nftables.list_sets_in(&table.name, table.family).await? {
                    rules.keeping_sets.extend(sets::read(&set)?);
                }
            }
            Ok::<_, nlink::Error>(rules)
        };
        read.await.map_err(|error| Unread::new("the nftables rules", error))
    }
}

/// The rules of a table that a packet can get to, from the chains that the kernel calls.
fn met(chains: &[&ChainInfo], listed: &[RuleInfo]) -> Vec<Rule> {
    let mut ways: BTreeMap<&str, Way> = BTreeMap::new();
    let called = chains
        .iter()
        .filter_map(|chain| Some((chain.name.as_str(), way(chain.family, chain.hook?))));
    let mut waiting: Vec<(&str, Way)> = called.collect();
    let regular =
        || chains.iter().filter(|chain| chain.hook.is_none()).map(|chain| chain.name.as_str());
    while let Some((name, way)) = waiting.pop() {
        if ways.get(name).is_some_and(|known| *known <= way) {
            continue;
        }
        ways.insert(name, way);
        for rule in listed.iter().filter(|rule| rule.chain == name) {
            let expressions = rule.expressions();
            let named: BTreeSet<&str> = expressions.iter().filter_map(next_chain).collect();
            // A verdict map can lead anywhere in its table.
            let anywhere = expressions.iter().any(is_verdict_map);
            waiting.extend(
                regular()
                    .filter(|chain| anywhere || named.contains(chain))
                    .map(|chain| (chain, way)),
            );
        }
    }
    let rules = listed.iter().filter_map(|rule| {
        let way = *ways.get(rule.chain.as_str())?;
        Some(Rule {
            place: format!("{} {} {}", rule.family.name(), rule.table, rule.chain),
            way,
            expressions: rule.expressions(),
            text: rule.nft_syntax_stateless(),
        })
    });
    rules.collect()
}

/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT`, which bridges number alike.
const LOCAL_HOOKS: [u32; 2] = [1, 3];

fn way(family: Family, hook: u32) -> Way {
    let is_own = family != Family::Netdev && LOCAL_HOOKS.contains(&hook);
    if is_own { Way::Own } else { Way::Through }
}

fn next_chain(expression: &RuleExpr) -> Option<&str> {
    match expression {
        RuleExpr::Verdict(Verdict::JumpTo(chain) | Verdict::GotoTo(chain)) => Some(chain.as_str()),
        _ => None,
    }
}

fn is_verdict_map(expression: &RuleExpr) -> bool {
    matches!(expression, RuleExpr::Lookup { dreg: Some(Register::Verdict), .. })
}

/// The name of an extension of iptables (`NFTA_TARGET_NAME`, `NFTA_MATCH_NAME`) that a rule of nft holds.
pub(super) fn extension(expression: &RuleExpr) -> Option<&str> {
    const NAME: u16 = 1;
    match expression {
        RuleExpr::Unknown { name, data, .. } if ["target", "match"].contains(&name.as_str()) => {
            let (_, payload) = AttrIter::new(data).find(|(kind, _)| *kind == NAME)?;
            get::string(payload).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_packets_come_by_all_hooks_but_the_hosts_own() {
        assert_eq!(way(Family::Inet, 2), Way::Through);
        assert_eq!(way(Family::Inet, 1), Way::Own);
        assert_eq!(way(Family::Netdev, 1), Way::Through, "egress");
    }

    #[test]
    fn extension_of_iptables_is_named() {
        let data = [&[8_u8, 0, 1, 0][..], b"LOG\0"].concat();
        let expression = |name: &str| {
            let bytes = nft_expression(name, &data);
            nlink::netlink::nftables::parse_expressions(&bytes).remove(0)
        };
        assert_eq!(extension(&expression("target")), Some("LOG"));
        assert_eq!(extension(&expression("other")), None);
    }

    /// An expression as the kernel lists it.
    fn nft_expression(name: &str, data: &[u8]) -> Vec<u8> {
        let attribute = |kind: u16, payload: &[u8]| {
            let mut bytes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let name = [name.as_bytes(), b"\0"].concat();
        attribute(1, &[attribute(1, &name), attribute(2, data)].concat())
    }
}
