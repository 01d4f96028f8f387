//! How many rules the older iptables has. It speaks through socket options, for which there is no library.
#![expect(unsafe_code, reason = "getsockopt of iptables has no safe binding")]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use super::reading::{self, Reading, Unread};

/// A table of the older iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LegacyTable {
    /// Program and table.
    pub(super) name: String,
    /// Its rules besides each chain's policy.
    pub(super) rules: u32,
}

/// A program, the file that names its tables, and how its socket options are reached.
const PROGRAMS: [(&str, &str, AddressFamily, libc::c_int); 2] = [
    ("iptables", "/proc/net/ip_tables_names", AddressFamily::INET, libc::IPPROTO_IP),
    ("ip6tables", "/proc/net/ip6_tables_names", AddressFamily::INET6, libc::IPPROTO_IPV6),
];

/// Lists the tables that are in use in this network namespace.
pub(super) fn tables() -> Reading<Vec<LegacyTable>> {
    let mut tables = Vec::new();
    for (program, path, family, level) in PROGRAMS {
        let names = reading::text_if_there(path)?.unwrap_or_default();
        for table in names.lines() {
            let name = format!("{program} {table}");
            let rules = rules(family, level, table).map_err(|error| Unread::new(&name, error))?;
            tables.push(LegacyTable { name, rules });
        }
    }
    Ok(tables)
}

fn rules(family: AddressFamily, level: libc::c_int, table: &str) -> io::Result<u32> {
    let socket = socket(family, SocketType::RAW, Some(ipproto::RAW))?;
    Ok(ask(&socket, level, table)?.rules())
}

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo` too.
#[derive(Default)]
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

impl Info {
    /// Entries that are no chain's policy and not the one that ends the table.
    fn rules(&self) -> u32 {
        self.num_entries.saturating_sub(self.valid_hooks.count_ones() + 1)
    }
}

fn ask(socket: &OwnedFd, level: libc::c_int, table: &str) -> io::Result<Info> {
    let mut info = Info::default();
    let len = table.len().min(info.name.len() - 1);
    info.name[..len].copy_from_slice(&table.as_bytes()[..len]);
    let mut size = size_of::<Info>() as libc::socklen_t;
    // SAFETY: the kernel reads and fills `size` bytes of `info`, which is made of integers.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, (&raw mut info).cast(), &raw mut size)
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_the_end_are_no_rules() {
        let filter = Info { valid_hooks: 0b1110, num_entries: 4, ..Info::default() };
        assert_eq!(filter.rules(), 0);
        assert_eq!(Info { num_entries: 6, ..filter }.rules(), 2);
    }
}
