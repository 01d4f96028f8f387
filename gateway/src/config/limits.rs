//! What settings must be, each and together.

use std::net::IpAddr;

use anyhow::ensure;
use ipnet::IpNet;

use super::{MailTls, Settings};
use crate::control::gateway_name;

/// The most workers a gateway can have.
pub(super) const MAX_WORKERS: usize = 64;

/// The most letters in a minute that a pace can be kept for.
const MAX_MAILS_PER_MINUTE: u32 = 60_000;

/// The largest MTU: a jumbo frame less the outer headers.
const MAX_MTU: u16 = 8920;

impl Settings {
    /// Checks what [`crate::host::preflight`] does not.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.check_listen()?;
        self.check_tunnel()?;
        self.check_mail()?;
        ensure!(
            (1..=MAX_WORKERS).contains(&self.workers),
            "`workers` is {}, but must be 1 to {MAX_WORKERS}",
            self.workers
        );
        ensure!(
            self.site_certificate.is_some() == self.site_key.is_some(),
            "`site-certificate` and `site-key` go together; set both or neither"
        );
        ensure!(
            self.database.is_some() || self.database_password_file.is_none(),
            "`database-password-file` is for a `database`, and none is named"
        );
        ensure!(
            self.gateway_name.as_deref().is_none_or(gateway_name::is_name),
            "`gateway-name` must be 1 to 64 letters without accents, digits, and the signs . _ - /"
        );
        ensure!(self.device_limit >= 1, "`device-limit` is 0, but must be at least 1");
        for net in &self.allow_private {
            ensure!(
                net.addr() == net.network(),
                "`allow-private` has {net}, which is not a network; write {}",
                net.trunc()
            );
        }
        Ok(())
    }

    fn check_listen(&self) -> anyhow::Result<()> {
        ensure!(!self.listen.is_empty(), "`listen` is empty; name at least one ADDR:PORT");
        ensure!(
            self.listen.iter().all(|listen| listen.port() != 0),
            "`listen` has port 0; clients must know the port, so name one"
        );
        Ok(())
    }

    fn check_mail(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=MAX_MAILS_PER_MINUTE).contains(&self.mails_per_minute),
            "`mails-per-minute` is {}, but must be 1 to {MAX_MAILS_PER_MINUTE}",
            self.mails_per_minute
        );
        ensure!(
            self.mail_user.is_some() == self.mail_password_file.is_some(),
            "`mail-user` and `mail-password-file` go together; set both or neither"
        );
        let Some(server) = &self.mail_server else { return Ok(()) };
        for (key, is_set) in [
            ("mail-from", self.mail_from.is_some()),
            ("contact", self.contact.is_some()),
            ("site-url", self.site_url.is_some()),
        ] {
            ensure!(is_set, "`mail-server` is set, so every letter needs `{key}`; set that too");
        }
        let host = server.host().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        ensure!(
            self.mail_tls != MailTls::None || is_here,
            "`mail-tls` is none, but `mail-server` is another machine; use starttls or tls"
        );
        Ok(())
    }

    fn check_tunnel(&self) -> anyhow::Result<()> {
        let networks = [
            ("tunnel-v4", self.tunnel_v4.map(IpNet::from)),
            ("tunnel-v6", self.tunnel_v6.map(IpNet::from)),
        ];
        for (key, net) in networks {
            let Some(net) = net else { continue };
            ensure!(
                net.addr() == net.network(),
                "`{key}` is {net}, which is not a network; write {}",
                net.trunc()
            );
        }
        ensure!(self.mtu <= MAX_MTU, "`mtu` is {}, but must be at most {MAX_MTU}", self.mtu);
        Ok(())
    }
}
