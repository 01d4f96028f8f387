//! The map of a test: clients, gateway, target, each in its own [`Namespace`].
//!
//! ```text
//! client 0  192.0.2.2/28   2001:db8:c0::2/64 ─┐
//! client 1  192.0.2.18/28  2001:db8:c1::2/64 ─┼─ gateway ── 198.51.100.0/24, 2001:db8:100::/64 ── target
//! client n  …                                 ─┘  .1, ::1                                         .2, ::2
//! ```
//!
//! The target also has the addresses of the name servers and private ones that no client may reach, and
//! the gateway's default route leads to it. Transmit checksum offload is off between these two: veth would
//! otherwise let wrong checksums pass unseen.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::TempDir;

use crate::{namespace::Namespace, target::Target};

/// The gateway's address towards the target, and what clients call their endpoint.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The same for IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1);
/// The web server and whatever else clients want.
pub const TARGET_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The same for IPv6.
pub const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2);
/// The name server.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The same for IPv6.
pub const DNS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53);
/// Addresses that exist behind the gateway and that no client may reach.
pub const PRIVATE: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(172, 16, 5, 5)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 7, 1)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 64, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xdead, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfc00, 0xdead, 0, 0, 0, 0, 0, 1)),
];
/// The WireGuard port.
pub const PORT: u16 = 51820;

/// Begins the name of every lab's directory; the number of the process that made it follows.
const DIR_PREFIX: &str = "tacit-lab-";

/// Namespaces, wires and the target's servers of one test.
pub struct Lab {
    /// What the target counts.
    pub target: Target,
    /// Where clients run.
    pub clients: Vec<Namespace>,
    /// Where the gateway runs.
    pub gateway: Namespace,
    /// Where the target's servers run.
    pub target_namespace: Namespace,
    dir: TempDir,
}

impl Lab {
    /// Builds everything, with `clients` client namespaces.
    ///
    /// # Panics
    /// Without root, or for more than 14 clients.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        assert!(clients <= 14, "the clients' network has room for 14");
        let gateway = Namespace::new();
        let target_namespace = Namespace::new();
        connect_target(&gateway, &target_namespace);
        let clients = (0..clients).map(|number| connect_client(&gateway, number)).collect();
        let target = Target::start(&target_namespace);
        sweep();
        let prefix = format!("{DIR_PREFIX}{}-", std::process::id());
        // Control, which is not root, has to get through to the data directory.
        let passable = std::fs::Permissions::from_mode(0o711);
        let dir = tempfile::Builder::new().prefix(&prefix).permissions(passable).tempdir();
        Self { target, clients, gateway, target_namespace, dir: dir.expect("making a directory") }
    }

    /// A directory that goes with the lab.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Moves a client to another address of its network, as a telephone does that leaves the house.
    pub fn move_client(&self, client: usize, host: u8) -> IpAddr {
        let (new, router) = (client_v4(client, host), client_v4(client, 1));
        self.clients[client].sh(&format!(
            "former=$(ip -4 -o addr show dev wan | awk '{{print $4}}')
             ip addr add {new}/28 dev wan
             for address in $former; do ip addr del $address dev wan; done
             ip route replace default via {router}"
        ));
        new.into()
    }
}

/// Removes the directories of tests that were killed; their namespaces went by themselves.
fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(DIR_PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Address `host` of a client's network; the gateway is 1, the client 2.
#[must_use]
pub fn client_v4(client: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(client * 16).expect("at most 14 clients") + host)
}

/// The same for IPv6.
#[must_use]
pub fn client_v6(client: usize, host: u16) -> Ipv6Addr {
    let network = 0xc0 + u16::try_from(client).expect("at most 14 clients");
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)
}

/// The gateway's WireGuard socket as clients see it.
#[must_use]
pub fn endpoint() -> SocketAddr {
    SocketAddr::new(GATEWAY_V4.into(), PORT)
}

/// Lays a wire between two namespaces: the interface `name` here, `wan` there.
///
/// # Panics
/// If that fails.
pub fn wire(gateway: &Namespace, name: &str, peer: &Namespace) {
    let peer = peer.id().to_string();
    let args = ["link", "add", name, "type", "veth", "peer", "name", "wan", "netns", &peer];
    let output = gateway.within(|| std::process::Command::new("ip").args(args).output());
    let output = output.expect("running ip (Debian package iproute2)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn connect_target(gateway: &Namespace, target: &Namespace) {
    wire(gateway, "uplink", target);
    gateway.sh(&format!(
        "ip addr add {GATEWAY_V4}/24 dev uplink; ip addr add {GATEWAY_V6}/64 dev uplink nodad
         ip link set uplink up
         ethtool -K uplink tx off >/dev/null
         ip route add default via {TARGET_V4}; ip -6 route add default via {TARGET_V6}"
    ));
    target.sh(&format!(
        "ip addr add {TARGET_V4}/24 dev wan; ip addr add {TARGET_V6}/64 dev wan nodad
         ip addr add {DNS_V4}/32 dev lo; ip addr add {DNS_V6}/128 dev lo nodad
         ip link set wan up
         ethtool -K wan tx off >/dev/null"
    ));
    for private in PRIVATE {
        let (bits, nodad) = if private.is_ipv4() { (32, "") } else { (128, "nodad") };
        target.sh(&format!("ip addr add {private}/{bits} dev lo {nodad}"));
    }
}

fn connect_client(gateway: &Namespace, number: usize) -> Namespace {
    let client = Namespace::new();
    let name = format!("client{number}");
    wire(gateway, &name, &client);
    let [router, address] = [client_v4(number, 1), client_v4(number, 2)];
    let [router_v6, address_v6] = [client_v6(number, 1), client_v6(number, 2)];
    gateway.sh(&format!(
        "ip addr add {router}/28 dev {name}; ip addr add {router_v6}/64 dev {name} nodad
         ip link set {name} up"
    ));
    client.sh(&format!(
        "ip addr add {address}/28 dev wan; ip addr add {address_v6}/64 dev wan nodad
         ip link set wan up
         ip route add default via {router}; ip -6 route add default via {router_v6}
         echo 1 > /proc/sys/net/ipv4/conf/all/promote_secondaries"
    ));
    client
}
