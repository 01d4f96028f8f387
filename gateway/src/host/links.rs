//! Interfaces and their addresses. The addresses bring the routes of the tunnel networks with them.

use ipnet::IpNet;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::devconf::AddrGenMode;
use nlink::netlink::{Connection, Route};

use super::tun::QUEUE_LEN_PACKETS;
use super::{HostError, HostSettings, sysctls};

/// Whether there is an interface of that name.
///
/// # Errors
/// [`HostError::Link`] if the kernel does not say.
pub(super) async fn exists(interface: &str) -> Result<bool, HostError> {
    let found = async { Connection::<Route>::new()?.get_link_by_name(interface).await }.await;
    Ok(found.map_err(|source| refusal(interface, source))?.is_some())
}

/// Removes an interface, if it is still there.
pub(super) async fn remove(interface: &str) {
    if let Ok(route) = Connection::<Route>::new() {
        let _ = route.del_link(interface).await;
    }
}

/// Checks that no address of this host lies within a tunnel network, but for those of `interface`: it can only be
/// a killed predecessor's, and is gone before the tunnel is made.
///
/// # Errors
/// [`HostError::TunnelNetworkInUse`].
pub(crate) async fn check_networks_are_free(
    interface: &str,
    networks: [IpNet; 2],
) -> Result<(), HostError> {
    let refused = |source| refusal(interface, source);
    let route = Connection::<Route>::new().map_err(refused)?;
    for message in route.get_addresses().await.map_err(refused)? {
        let Some(address) = message.primary_address() else { continue };
        let holds = |network: &IpNet| network.contains(address);
        let Some(network) = networks.into_iter().find(holds) else { continue };
        let link = route.get_link_by_index(message.ifindex()).await.map_err(refused)?;
        let name = link.and_then(|link| link.name().map(str::to_owned));
        if name.as_deref() == Some(interface) {
            continue;
        }
        return Err(HostError::TunnelNetworkInUse {
            network,
            interface: name.unwrap_or_else(|| "an interface".into()),
            address: *address,
            flag: if network.addr().is_ipv4() { "--tunnel-v4" } else { "--tunnel-v6" },
        });
    }
    Ok(())
}

/// Gives the TUN device its MTU, queue length and addresses, and brings it up.
///
/// # Errors
/// [`HostError::Link`].
pub(super) async fn configure(settings: &HostSettings) -> Result<(), HostError> {
    if sysctls::ipv6_is_on() {
        sysctls::quiet_interface(&settings.interface);
    }
    address_and_raise(settings).await.map_err(|source| refusal(&settings.interface, source))
}

async fn address_and_raise(settings: &HostSettings) -> nlink::Result<()> {
    let route = Connection::<Route>::new()?;
    let Some(link) = route.get_link_by_name(settings.interface.as_str()).await? else {
        return Err(nlink::Error::interface_not_found(&settings.interface));
    };
    let index = link.ifindex();
    route.set_link_mtu_by_index(index, settings.mtu.into()).await?;
    route.set_link_txqlen_by_index(index, QUEUE_LEN_PACKETS).await?;
    let prefix_v4 = settings.tunnel_v4.prefix_len();
    route.add_address(Ipv4Address::with_index(index, settings.gateway_v4(), prefix_v4)).await?;
    if sysctls::ipv6_is_on() {
        // The tunnel has no neighbours: no link-local address, and nobody to ask for duplicates.
        route.set_addr_gen_mode_by_index(index, AddrGenMode::None).await?;
        let (v6, prefix_v6) = (settings.gateway_v6(), settings.tunnel_v6.prefix_len());
        route.add_address(Ipv6Address::with_index(index, v6, prefix_v6).nodad()).await?;
    }
    route.set_link_up_by_index(index).await
}

fn refusal(interface: &str, source: nlink::Error) -> HostError {
    HostError::Link { interface: interface.into(), source }
}
