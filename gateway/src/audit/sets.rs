//! What the sets of firewalls keep with their elements. nlink reads of an element no more than a counter and a quota.

use std::{collections::BTreeMap, io};

use nlink::netlink::{
    attr::get,
    nftables::{Family, SetInfo},
};

use crate::netlink::{self, Part, attributes};

/// A set that keeps something with its elements: one of a name, or one that stands in a rule, maps of verdicts too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeepingSet {
    /// Family, table and set.
    pub(super) place: String,
    /// With how many of its elements, by what is kept; none if it is to be with every element that comes.
    pub(super) kept: BTreeMap<String, usize>,
}

/// `NFT_MSG_GETSETELEM`.
const GET_ELEMENTS: u16 = 10 << 8 | 13;
/// Attributes of the request (`NFTA_SET_ELEM_LIST_…`).
const TABLE: u16 = 1;
const SET: u16 = 2;
/// The attribute of the answer that holds the elements, each in one of the number [`ONE`].
const ELEMENTS: u16 = 3;
const ONE: u16 = 1;
/// Attributes of an element with one expression, or with several (`NFTA_SET_ELEM_EXPR`, `NFTA_SET_ELEM_EXPRESSIONS`).
const EXPRESSION: u16 = 7;
const EXPRESSIONS: u16 = 11;
/// `NFTA_EXPR_NAME`.
const NAME: u16 = 1;

/// Reads a set's elements; none of a set that keeps nothing.
///
/// # Errors
/// If the kernel does not list them.
pub(super) fn read(set: &SetInfo) -> io::Result<Option<KeepingSet>> {
    let place = format!("{} {} @{}", set.family.name(), set.table, set.name);
    let request = request(set.family, &set.table, &set.name);
    let mut kept = BTreeMap::new();
    let listed = match netlink::list(Part::Netfilter, GET_ELEMENTS, &request) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed?,
    };
    for name in listed.iter().flat_map(|message| kept_in(message)) {
        *kept.entry(name).or_default() += 1;
    }
    let keeps = !kept.is_empty() || !set.statements.is_empty();
    Ok(keeps.then_some(KeepingSet { place, kept }))
}

fn request(family: Family, table: &str, set: &str) -> Vec<u8> {
    let header = [family as u8, 0, 0, 0];
    [&header[..], &netlink::text_attribute(TABLE, table), &netlink::text_attribute(SET, set)]
        .concat()
}

/// The names of all expressions that the elements in a message have.
fn kept_in(message: &[u8]) -> Vec<String> {
    const HEADER_LEN: usize = 4;
    let lists = attributes(message.get(HEADER_LEN..).unwrap_or_default())
        .filter(|(kind, _)| *kind == ELEMENTS);
    let elements = lists.flat_map(|(_, list)| attributes(list)).filter(|(kind, _)| *kind == ONE);
    let parts = elements.flat_map(|(_, element)| attributes(element));
    let mut names = Vec::new();
    for (kind, payload) in parts {
        match kind {
            EXPRESSION => names.extend(name(payload)),
            EXPRESSIONS => {
                let expressions = attributes(payload).filter(|(kind, _)| *kind == ONE);
                names.extend(expressions.filter_map(|(_, expression)| name(expression)));
            }
            _ => {}
        }
    }
    names
}

fn name(expression: &[u8]) -> Option<String> {
    let (_, name) = attributes(expression).find(|(kind, _)| *kind == NAME)?;
    get::string(name).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    #[test]
    fn everything_that_an_element_keeps_is_named() {
        const KEY: u16 = 1;
        let named = |name: &str| netlink::text_attribute(NAME, name);
        let several = [attribute(ONE, &named("last")), attribute(ONE, &named("quota"))].concat();
        let elements = [
            attribute(ONE, &attribute(KEY, &[203, 0, 113, 9])),
            attribute(ONE, &attribute(EXPRESSION, &named("counter"))),
            attribute(ONE, &attribute(EXPRESSIONS, &several)),
        ];
        let message = [&[0; 4][..], &attribute(ELEMENTS, &elements.concat())].concat();
        assert_eq!(kept_in(&message), ["counter", "last", "quota"]);
        assert!(kept_in(&message[..6]).is_empty());
    }
}
