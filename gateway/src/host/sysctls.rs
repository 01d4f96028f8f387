//! The kernel's forwarding switches: turning them on, and putting back all that turning them on changed.
//!
//! Each switch moves more than itself. `ip_forward` sets forwarding on every interface and flips
//! `accept_redirects`; IPv6 forwarding does the first and also ends router advertisements wherever `accept_ra` is
//! 1, so an uplink that lives by them would lose its default route. A [`Change`] is written down for each of these
//! before anything is touched.

use std::fs;

use nlink::netlink::sysctl;
use serde::{Deserialize, Serialize};

use super::HostError;

const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const IPV4_ACCEPT_REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";

/// `accept_ra`: take router advertisements only while not forwarding.
const RA_UNLESS_FORWARDING: &str = "1";
/// `accept_ra`: take router advertisements also while forwarding.
const RA_ALWAYS: &str = "2";

/// A sysctl that is changed while the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// Path below `/proc/sys`.
    pub(super) key: String,
    /// Its value before.
    pub(super) former: String,
    /// The value that the gateway writes; none if the kernel moves it along with a switch.
    pub(super) ours: Option<String>,
}

impl Change {
    fn written(key: impl Into<String>, former: &str, ours: &str) -> Self {
        Self { key: key.into(), former: former.into(), ours: Some(ours.into()) }
    }

    fn moved_along(key: impl Into<String>, former: impl Into<String>) -> Self {
        Self { key: key.into(), former: former.into(), ours: None }
    }

    /// Whether this is one of the forwarding switches themselves.
    pub(super) fn is_switch(&self) -> bool {
        [IPV4_FORWARDING, IPV6_FORWARDING].contains(&self.key.as_str())
    }

    /// Place in the order of putting back: a switch first, then what it moves along.
    fn rank(&self) -> u8 {
        match self.key.as_str() {
            IPV4_FORWARDING => 0,
            IPV4_ACCEPT_REDIRECTS => 1,
            key if key.starts_with("net/ipv4/") => 2,
            IPV6_FORWARDING => 3,
            key if key.ends_with("/accept_ra") => 4,
            _ => 5,
        }
    }
}

/// Whether this host has IPv6 and has not switched it off.
pub(super) fn ipv6_is_on() -> bool {
    sysctl::get("net/ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "0")
}

/// Checks that forwarding is on or can be switched on, and leaves it as it is.
///
/// # Errors
/// [`HostError::Forwarding`] names the sysctl to set from outside.
pub(super) fn check_forwarding() -> Result<(), HostError> {
    for key in switches() {
        if is_on(key) {
            continue;
        }
        let value = sysctl::get(key).unwrap_or_else(|_| "absent".into());
        sysctl::set(key, &value).map_err(|source| cannot_switch_on(key, source))?;
    }
    Ok(())
}

/// Lists what switching forwarding on changes on this host, in the order of putting it back.
///
/// `known` are changes that a killed predecessor or another gateway made: their former values count, not the
/// present ones.
pub(super) fn plan(known: Vec<Change>) -> Vec<Change> {
    let mut changes = known;
    for change in observe() {
        if changes.iter().all(|other| other.key != change.key) {
            changes.push(change);
        }
    }
    changes.sort_by_key(Change::rank);
    changes
}

/// Switches forwarding on.
///
/// # Errors
/// [`HostError::Forwarding`] names the sysctl to set from outside.
pub(super) fn apply(changes: &[Change]) -> Result<(), HostError> {
    // Backwards: an uplink must take router advertisements for good before forwarding would end them.
    for change in changes.iter().rev() {
        let Some(ours) = &change.ours else { continue };
        if sysctl::get(&change.key).is_ok_and(|value| value == *ours) {
            continue;
        }
        let written = sysctl::set(&change.key, ours);
        if change.is_switch() {
            written.map_err(|source| cannot_switch_on(&change.key, source))?;
        }
    }
    Ok(())
}

/// Puts back what [`apply`] changed, except what somebody else has changed since.
pub(super) fn restore(changes: &[Change]) {
    for change in changes {
        // A key that is gone went with its interface.
        let Ok(value) = sysctl::get(&change.key) else { continue };
        let is_foreign = change.ours.as_ref().is_some_and(|ours| *ours != value);
        if !is_foreign && value != change.former {
            let _ = sysctl::set(&change.key, &change.former);
        }
    }
}

/// Names the first switch that is off.
pub(super) fn first_off() -> Option<String> {
    switches().into_iter().find(|key| !is_on(key)).map(dotted)
}

/// Sets up the TUN device's own switches, which go with it.
pub(super) fn quiet_interface(interface: &str) {
    let settings = [
        // A container's default may be off while the host as a whole has IPv6.
        (sysctl::ipv6_conf_key(interface, "disable_ipv6"), "0"),
        (sysctl::ipv6_conf_key(interface, "accept_ra"), "0"),
        (sysctl::ipv6_conf_key(interface, "autoconf"), "0"),
        (sysctl::ipv4_conf_key(interface, "send_redirects"), "0"),
    ];
    for (key, value) in settings {
        // Only IPv6 being off would matter, and then adding the address says so.
        let _ = sysctl::set(&key, value);
    }
}

fn switches() -> Vec<&'static str> {
    if ipv6_is_on() { vec![IPV4_FORWARDING, IPV6_FORWARDING] } else { vec![IPV4_FORWARDING] }
}

fn is_on(key: &str) -> bool {
    sysctl::get(key).is_ok_and(|value| value != "0")
}

fn observe() -> Vec<Change> {
    let mut changes = Vec::new();
    if !is_on(IPV4_FORWARDING) {
        changes.push(Change::written(IPV4_FORWARDING, "0", "1"));
        if let Ok(former) = sysctl::get(IPV4_ACCEPT_REDIRECTS) {
            changes.push(Change::moved_along(IPV4_ACCEPT_REDIRECTS, former));
        }
        changes.extend(forwarding_interfaces("ipv4"));
    }
    if ipv6_is_on() && !is_on(IPV6_FORWARDING) {
        changes.push(Change::written(IPV6_FORWARDING, "0", "1"));
        changes.extend(forwarding_interfaces("ipv6"));
        changes.extend(advertised_interfaces());
    }
    changes
}

/// Interfaces that forward although the host as a whole does not.
fn forwarding_interfaces(family: &str) -> Vec<Change> {
    configured(family)
        .iter()
        .map(|name| format!("net/{family}/conf/{name}/forwarding"))
        .filter_map(|key| Some((sysctl::get(&key).ok()?, key)))
        .filter(|(former, _)| former != "0")
        .map(|(former, key)| Change::moved_along(key, former))
        .collect()
}

/// Interfaces that take router advertisements as long as they do not forward.
fn advertised_interfaces() -> Vec<Change> {
    let value = |name: &str, setting| sysctl::get(&sysctl::ipv6_conf_key(name, setting));
    configured("ipv6")
        .iter()
        .filter(|name| *name != "default" && *name != "lo")
        .filter(|name| value(name, "forwarding").is_ok_and(|value| value == "0"))
        .filter(|name| value(name, "accept_ra").is_ok_and(|value| value == RA_UNLESS_FORWARDING))
        .map(|name| sysctl::ipv6_conf_key(name, "accept_ra"))
        .map(|key| Change::written(key, RA_UNLESS_FORWARDING, RA_ALWAYS))
        .collect()
}

/// Names of the interfaces with settings of `family`, and `default`.
fn configured(family: &str) -> Vec<String> {
    let Ok(directory) = fs::read_dir(format!("/proc/sys/net/{family}/conf")) else {
        return Vec::new();
    };
    let names = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name != "all").collect()
}

fn cannot_switch_on(key: &str, source: nlink::Error) -> HostError {
    let value = sysctl::get(key).unwrap_or_else(|_| "absent".into());
    HostError::Forwarding { key: dotted(key), value, source }
}

fn dotted(key: &str) -> String {
    key.replace('/', ".")
}
