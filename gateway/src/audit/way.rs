//! Which interfaces packets pass on their way through one of them.

use std::collections::BTreeSet;

use super::links::Link;

/// The interfaces that packets of `first` pass, these among them.
///
/// They pass what an interface stands on (the card below a VLAN or a macvlan, the other end of a cable), what it belongs
/// to (a bridge, a bond, a VRF) and what belongs to it (the ports of a bridge, the cards of a bond).
pub(super) fn passed(all: &[Link], first: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut passed = BTreeSet::new();
    let mut waiting: Vec<u32> = first.iter().copied().collect();
    while let Some(index) = waiting.pop() {
        let Some(link) = all.iter().find(|link| link.index == index) else { continue };
        if !passed.insert(index) {
            continue;
        }
        waiting.extend(link.lower);
        waiting.extend(link.master);
        // Interfaces share a VRF as they share a table of routes: each has its own packets.
        if link.kind != "vrf" || first.contains(&index) {
            let ports = all.iter().filter(|port| port.master == Some(index));
            waiting.extend(ports.map(|port| port.index));
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces by name and kind, with what they stand on and what they belong to, by number from 1.
    fn links(described: &[(&str, Option<u32>, Option<u32>)]) -> Vec<Link> {
        let link =
            |(index, (kind, lower, master)): (usize, &(&str, Option<u32>, Option<u32>))| Link {
                index: index as u32 + 1,
                kind: (*kind).into(),
                lower: *lower,
                master: *master,
                ..Link::default()
            };
        described.iter().enumerate().map(link).collect()
    }

    fn passed_from(first: u32, described: &[(&str, Option<u32>, Option<u32>)]) -> Vec<u32> {
        passed(&links(described), &BTreeSet::from([first])).into_iter().collect()
    }

    #[test]
    fn card_below_a_vlan_or_a_macvlan_is_passed() {
        assert_eq!(passed_from(1, &[("vlan", Some(2), None), ("", None, None)]), [1, 2]);
        assert_eq!(passed_from(1, &[("macvlan", Some(2), None), ("", None, None)]), [1, 2]);
        let others = [("", None, None), ("vlan", Some(1), None)];
        assert_eq!(passed_from(1, &others), [1], "what stands on it has its own packets");
    }

    #[test]
    fn ports_of_a_bridge_and_what_they_stand_on_are_passed() {
        let bridge = [
            ("bridge", None, None),
            ("vlan", Some(3), Some(1)),
            ("", None, None),
            ("", None, None),
        ];
        assert_eq!(passed_from(1, &bridge), [1, 2, 3]);
    }

    #[test]
    fn cards_of_a_bond_are_passed_also_below_a_vlan() {
        let bond = [
            ("vlan", Some(2), None),
            ("bond", None, None),
            ("", None, Some(2)),
            ("", None, Some(2)),
        ];
        assert_eq!(passed_from(1, &bond), [1, 2, 3, 4]);
    }

    #[test]
    fn vrf_is_passed_but_not_what_else_belongs_to_it() {
        let vrf = [("", None, Some(2)), ("vrf", None, None), ("", None, Some(2))];
        assert_eq!(passed_from(1, &vrf), [1, 2]);
        assert_eq!(passed_from(2, &vrf), [1, 2, 3], "when the VRF itself leads out");
    }

    #[test]
    fn cable_to_a_bridge_leads_to_its_ports() {
        let cable = [
            ("veth", Some(2), None),
            ("veth", Some(1), Some(3)),
            ("bridge", None, None),
            ("", None, Some(3)),
        ];
        assert_eq!(passed_from(1, &cable), [1, 2, 3, 4]);
    }
}
