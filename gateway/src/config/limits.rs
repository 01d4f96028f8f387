//! What settings must be, each and together.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv6Net};
use tacit_accounts::{PoolError, TunnelPool};

use super::{
    MailTls, Settings,
    origin::{Origin, Origins},
};
use crate::{
    control::{gateway_name, site::SiteAddresses},
    database, host,
    metrics::MetricsAddress,
};

/// The most workers a gateway can have.
pub(super) const MAX_WORKERS: usize = 64;

/// The most letters in a minute that a pace can be kept for.
const MAX_MAILS_PER_MINUTE: u32 = 60_000;

/// IPv6 addresses that the internet routes (RFC 4291 section 2.4).
const GLOBAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The largest MTU: a jumbo frame less the outer headers.
const MAX_MTU: u16 = 8920;

/// Settings that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The settings that it is about, the first of which is to be changed.
    keys: &'static [&'static str],
    /// What is wrong, and what to do.
    why: String,
}

impl Fault {
    /// The fault in one line, and where the first of its settings that somebody set comes from.
    pub(super) fn at(self, origins: &Origins) -> anyhow::Error {
        let origin = self.keys.iter().find_map(|key| origins.get(*key));
        match origin {
            Some(origin @ Origin::File(..)) => anyhow::anyhow!("{origin}: {}", self.why),
            Some(origin) => anyhow::anyhow!("{} (from {origin})", self.why),
            None => anyhow::anyhow!(self.why),
        }
    }
}

/// Holds settings to something.
pub(super) fn demand(
    is_so: bool,
    keys: &'static [&'static str],
    why: impl FnOnce() -> String,
) -> Result<(), Fault> {
    if is_so { Ok(()) } else { Err(Fault { keys, why: why() }) }
}

/// Takes what whoever uses the settings says of them.
pub(super) fn heed(
    said: Result<(), impl fmt::Display>,
    keys: &'static [&'static str],
) -> Result<(), Fault> {
    said.map_err(|error| Fault { keys, why: error.to_string() })
}

impl Settings {
    /// Checks all that needs no look at the host and its files.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.check_listen()?;
        self.check_tunnel()?;
        self.check_database()?;
        self.check_mail()?;
        self.check_site()?;
        self.check_ports()?;
        demand((1..=MAX_WORKERS).contains(&self.workers), &["workers"], || {
            format!("`workers` is {}, but must be 1 to {MAX_WORKERS}", self.workers)
        })?;
        let is_name = self.gateway_name.as_deref().is_none_or(gateway_name::is_name);
        demand(is_name, &["gateway-name"], || {
            "`gateway-name` must be 1 to 64 letters without accents, digits, and the signs . _ - /"
                .into()
        })?;
        demand(self.device_limit >= 1, &["device-limit"], || {
            "`device-limit` is 0, but must be at least 1".into()
        })?;
        for net in &self.allow_private {
            demand(net.addr() == net.network(), &["allow-private"], || {
                format!("`allow-private` has {net}, which is not a network; write {}", net.trunc())
            })?;
        }
        Ok(())
    }

    fn check_listen(&self) -> Result<(), Fault> {
        demand(!self.listen.is_empty(), &["listen"], || {
            "`listen` is empty; name at least one ADDR:PORT".into()
        })?;
        demand(self.listen.iter().all(|listen| listen.port() != 0), &["listen"], || {
            "`listen` has port 0; clients must know the port, so name one".into()
        })?;
        heed(host::check_listen(&self.listen), &["listen"])
    }

    fn check_database(&self) -> Result<(), Fault> {
        if let Some(url) = &self.database {
            return heed(database::check_address(url), &["database"]);
        }
        demand(self.database_password_file.is_none(), &["database-password-file"], || {
            "`database-password-file` is for a `database`, and none is named".into()
        })?;
        demand(!self.database_poll_only, &["database-poll-only"], || {
            "`database-poll-only` is for a `database`, and none is named".into()
        })
    }

    fn check_mail(&self) -> Result<(), Fault> {
        demand(
            (1..=MAX_MAILS_PER_MINUTE).contains(&self.mails_per_minute),
            &["mails-per-minute"],
            || {
                let pace = self.mails_per_minute;
                format!("`mails-per-minute` is {pace}, but must be 1 to {MAX_MAILS_PER_MINUTE}")
            },
        )?;
        demand(
            self.mail_user.is_some() == self.mail_password_file.is_some(),
            &["mail-user", "mail-password-file"],
            || "`mail-user` and `mail-password-file` go together; set both or neither".into(),
        )?;
        let Some(server) = &self.mail_server else {
            return demand(
                self.mail_user.is_none() && self.mail_ca.is_none(),
                &["mail-user", "mail-ca"],
                || "`mail-user` and `mail-ca` are for a `mail-server`, and none is named".into(),
            );
        };
        for (key, is_set) in [
            ("mail-from", self.mail_from.is_some()),
            ("contact", self.contact.is_some()),
            ("site-url", self.site_url.is_some()),
        ] {
            demand(is_set, &["mail-server"], || {
                format!("`mail-server` is set, so every letter needs `{key}`; set that too")
            })?;
        }
        let host = server.host().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        demand(self.mail_tls != MailTls::None || is_here, &["mail-tls", "mail-server"], || {
            "`mail-tls` is none, but `mail-server` is another machine; use starttls or tls".into()
        })
    }

    fn check_site(&self) -> Result<(), Fault> {
        demand(
            self.site_certificate.is_some() == self.site_key.is_some(),
            &["site-certificate", "site-key"],
            || "`site-certificate` and `site-key` go together; set both or neither".into(),
        )?;
        let leads_somewhere =
            self.site != Some(SiteAddresses::Off) || list(&self.site_redirect).is_empty();
        demand(leads_somewhere, &["site-redirect"], || {
            "`site-redirect` leads to the site, but `site` is off; remove one of the two".into()
        })?;
        let is_anywhere = list(&self.site).first().is_some_and(|first| first.ip().is_unspecified());
        let leads_nowhere =
            is_anywhere && self.site_url.is_none() && !list(&self.site_redirect).is_empty();
        demand(!leads_nowhere, &["site-redirect"], || {
            "`site-redirect` leads to the site, but `site` names no address of it; set `site-url`"
                .into()
        })
    }

    /// Checks that no two of the TCP addresses need the same port.
    fn check_ports(&self) -> Result<(), Fault> {
        let mut metrics = Vec::new();
        if let Some(MetricsAddress::At(address)) = self.metrics {
            metrics.push(address);
            // Other than those of the site, its socket takes IPv4 too then.
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
                metrics.push((Ipv4Addr::UNSPECIFIED, address.port()).into());
            }
        }
        let named: [(&'static [&'static str], &[SocketAddr]); 3] = [
            (&["site"], list(&self.site)),
            (&["site-redirect"], list(&self.site_redirect)),
            (&["metrics"], &metrics),
        ];
        let mut before: Vec<(&str, SocketAddr)> = Vec::new();
        for (keys, addresses) in named {
            for address in addresses {
                let port = address.port();
                let taken = before.iter().find(|(_, other)| meet(*address, *other));
                demand(taken.is_none(), keys, || match taken {
                    Some((key, _)) if *key != keys[0] => format!(
                        "`{}` and `{key}` both need TCP port {port}; give each its own",
                        keys[0]
                    ),
                    _ => format!("`{}` needs TCP port {port} twice; name it once", keys[0]),
                })?;
                before.push((keys[0], *address));
            }
        }
        Ok(())
    }

    fn check_tunnel(&self) -> Result<(), Fault> {
        let networks: [(&[_], _); 2] = [
            (&["tunnel-v4"], self.tunnel_v4.map(IpNet::from)),
            (&["tunnel-v6"], self.tunnel_v6.map(IpNet::from)),
        ];
        for (keys, net) in networks {
            let Some(net) = net else { continue };
            demand(net.addr() == net.network(), keys, || {
                format!("`{}` is {net}, which is not a network; write {}", keys[0], net.trunc())
            })?;
        }
        let is_global = self.tunnel_v6.is_some_and(|net| GLOBAL_V6.contains(&net));
        demand(!self.routed_v6 || is_global, &["routed-v6", "tunnel-v6"], || {
            format!(
                "`routed-v6` is for a network of {GLOBAL_V6} that is routed here; name yours with `tunnel-v6`"
            )
        })?;
        self.check_room()?;
        heed(host::check_interface(&self.interface), &["interface"])?;
        heed(host::check_mtu(self.mtu), &["mtu"])?;
        demand(self.mtu <= MAX_MTU, &["mtu"], || {
            format!("`mtu` is {}, but must be at most {MAX_MTU}", self.mtu)
        })
    }

    /// Checks that there are addresses for devices.
    fn check_room(&self) -> Result<(), Fault> {
        let other = TunnelPool::default();
        let v4 = self.tunnel_v4.unwrap_or(other.v4());
        let pool = TunnelPool::new(v4, self.tunnel_v6.unwrap_or(other.v6()));
        let keys: &[_] = match pool {
            Err(PoolError::SmallV6 | PoolError::HostBitsV6) => &["tunnel-v6"],
            _ => &["tunnel-v4"],
        };
        heed(pool.map(drop), keys)
    }
}

fn list(addresses: &Option<SiteAddresses>) -> &[SocketAddr] {
    addresses.as_ref().map(SiteAddresses::list).unwrap_or_default()
}

/// Whether only one of two sockets can listen: at one address, or at one port of a family of which one wants all addresses.
/// Port 0 is a free one each time.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let is_one_family = one.is_ipv4() == other.is_ipv4();
    let takes_all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || (is_one_family && takes_all))
}
