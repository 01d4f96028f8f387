//! The wires between the namespaces, their addresses and routes. All of it through netlink.
//!
//! ```text
//! client A  one IPv4 address, later another ─┐
//! client B  one IPv6 address ────────────────┴─ gateway ── target  every address that traffic goes to
//! ```
//!
//! Every address at the ends is drawn at random, so each is alone on its wire and is reached by a route to it. Whatever goes
//! to anybody else the gateway sends to the target too, where it is seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use nlink::netlink::{
    Connection, Route,
    addr::{Ipv4Address, Ipv6Address},
    link::VethLink,
    route::{Ipv4Route, Ipv6Route},
};

use super::namespace::Namespace;

/// The gateway's address on its wires (RFC 5737).
pub(super) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same for IPv6 (RFC 3849).
pub(super) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The target's own address on its wire: the next hop to everybody else.
const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The same for IPv6.
const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The interface at the far end of each wire.
pub(super) const FAR_END: &str = "wan";

/// Lays a wire from the gateway to `far`, with the gateway's addresses at its near end.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn lay(gateway: &Namespace, name: &str, far: &Namespace) -> anyhow::Result<()> {
    let wire = VethLink::new(name, FAR_END).peer_netns_fd(far);
    gateway
        .within_async(async || {
            let route = Connection::<Route>::new()?;
            route.add_link(wire).await?;
            add_address(&route, name, GATEWAY_V4.into()).await?;
            add_address(&route, name, GATEWAY_V6.into()).await?;
            Ok(route.set_link_up(name).await?)
        })
        .context("connecting two namespaces")?;
    far.within_async(async || {
        let route = Connection::<Route>::new()?;
        route.set_link_up("lo").await?;
        Ok(route.set_link_up(FAR_END).await?)
    })
    .context("raising an interface")
}

/// Gives the far end of wire `name` an address that the gateway reaches.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn place(
    gateway: &Namespace,
    name: &str,
    far: &Namespace,
    ip: IpAddr,
) -> anyhow::Result<()> {
    let at_far_end = async || add_address(&Connection::<Route>::new()?, FAR_END, ip).await;
    far.within_async(at_far_end).context("giving an address")?;
    let at_gateway = async || add_route(&Connection::<Route>::new()?, name, ip).await;
    gateway.within_async(at_gateway).context("adding a route")
}

/// Takes an address from the far end of a wire.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn remove(far: &Namespace, ip: IpAddr) -> anyhow::Result<()> {
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    let removed = async || {
        let route = Connection::<Route>::new()?;
        Ok(route.del_address(FAR_END, ip, prefix).await?)
    };
    far.within_async(removed).context("taking an address away")
}

/// Leads everything that the target has to answer back to the gateway.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn answer_by_wire(target: &Namespace) -> anyhow::Result<()> {
    let routes = async || {
        let route = Connection::<Route>::new()?;
        add_route(&route, FAR_END, GATEWAY_V4.into()).await?;
        add_route(&route, FAR_END, GATEWAY_V6.into()).await
    };
    target.within_async(routes).context("adding routes")
}

/// Leads whatever the gateway sends to nobody that it knows over wire `name` to the target.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn lead_out(gateway: &Namespace, name: &str, target: &Namespace) -> anyhow::Result<()> {
    for ip in [NEXT_HOP_V4.into(), NEXT_HOP_V6.into()] {
        place(gateway, name, target, ip)?;
    }
    let routes = async || {
        let route = Connection::<Route>::new()?;
        route.add_route(Ipv4Route::default_route().gateway(NEXT_HOP_V4).dev(name)).await?;
        let everywhere = Ipv6Route::new(Ipv6Addr::UNSPECIFIED, 0);
        Ok(route.add_route(everywhere.gateway(NEXT_HOP_V6).dev(name)).await?)
    };
    gateway.within_async(routes).context("adding a route out")
}

/// Makes a client's tunnel device the way to everywhere but the gateway itself.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn lead_into_tunnel(
    client: &Namespace,
    device: &str,
    tunnel: [IpAddr; 2],
) -> anyhow::Result<()> {
    let routes = async || {
        let route = Connection::<Route>::new()?;
        for ip in tunnel {
            add_address(&route, device, ip).await?;
        }
        route.set_link_up(device).await?;
        route.add_route(Ipv4Route::default_route().dev(device)).await?;
        route.add_route(Ipv6Route::new(Ipv6Addr::UNSPECIFIED, 0).dev(device)).await?;
        Ok(())
    };
    client.within_async(routes).context("setting up a client's tunnel")
}

/// Leads a client's datagrams to the gateway.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn lead_to_gateway(client: &Namespace, gateway: IpAddr) -> anyhow::Result<()> {
    let added = async || add_route(&Connection::<Route>::new()?, FAR_END, gateway).await;
    client.within_async(added).context("adding a client's route")
}

async fn add_address(route: &Connection<Route>, device: &str, ip: IpAddr) -> anyhow::Result<()> {
    match ip {
        IpAddr::V4(v4) => route.add_address(Ipv4Address::new(device, v4, 32)).await?,
        // Nobody else is on the wire, so there is no waiting for another's claim.
        IpAddr::V6(v6) => route.add_address(Ipv6Address::new(device, v6, 128).nodad()).await?,
    }
    Ok(())
}

async fn add_route(route: &Connection<Route>, device: &str, to: IpAddr) -> anyhow::Result<()> {
    match to {
        IpAddr::V4(v4) => route.add_route(Ipv4Route::new(v4, 32).dev(device)).await?,
        IpAddr::V6(v6) => route.add_route(Ipv6Route::new(v6, 128).dev(device)).await?,
    }
    Ok(())
}
