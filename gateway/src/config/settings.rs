//! The settings of a gateway, complete.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::OnceLock,
    thread,
};

use anyhow::anyhow;
use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
    value::Dict,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tacit_accounts::{
    Region,
    post::{Contact, Sender, SiteUrl},
};

use super::{
    LogLevel, MailTls, Places,
    explain::explain,
    limits::MAX_WORKERS,
    origin::{Origins, origins},
    places::{SOCKET_PATH, Unreadable},
};
use crate::{
    control::site::SiteAddresses, endpoint::Endpoint, host::ServedPort, metrics::MetricsAddress,
};

/// The settings of a gateway, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Directory of the store and the keys.
    pub(crate) data_dir: PathBuf,
    /// File of the data key, if the operator named one.
    pub(crate) data_key: Option<PathBuf>,
    /// PostgreSQL database that has the store, if the operator named one.
    pub(crate) database: Option<String>,
    /// File with the password for the database, if the operator named one.
    pub(crate) database_password_file: Option<PathBuf>,
    /// Whether the database is not to tell of changes of devices.
    pub(crate) database_poll_only: bool,
    /// What the gateway is called, if the operator said so.
    pub(crate) gateway_name: Option<String>,
    /// File of the WireGuard key that it shares with others, if the operator named one.
    pub(crate) fleet_key: Option<PathBuf>,
    /// Sessions that it is meant for, if the operator said so.
    pub(crate) capacity: Option<u32>,
    /// The admin socket.
    pub(crate) socket: PathBuf,
    /// Name of the TUN interface.
    pub(crate) interface: String,
    /// UDP addresses to listen on, at most one per family.
    pub(crate) listen: Vec<SocketAddr>,
    /// What client configs name, if the operator said so.
    pub(crate) endpoint: Option<Endpoint>,
    /// Where customers read that the gateway is, if the operator said so.
    pub(crate) region: Option<Region>,
    /// IPv4 network of the tunnel, if the operator said so.
    pub(crate) tunnel_v4: Option<Ipv4Net>,
    /// IPv6 network of the tunnel, if the operator said so.
    pub(crate) tunnel_v6: Option<Ipv6Net>,
    /// Whether that one is routed here, so that devices keep their IPv6 addresses outside.
    pub(crate) routed_v6: bool,
    /// MTU of the tunnel in bytes.
    pub(crate) mtu: u16,
    /// DNS servers that client configs name.
    pub(crate) dns: Vec<IpAddr>,
    /// Threads that carry packets.
    pub(crate) workers: usize,
    /// Whether devices may reach each other.
    pub(crate) allow_device_to_device: bool,
    /// Private networks that devices may reach.
    pub(crate) allow_private: Vec<IpNet>,
    /// Ports of the gateway itself that devices may reach.
    pub(crate) serve: Vec<ServedPort>,
    /// Devices that an account may have.
    pub(crate) device_limit: u32,
    /// Where metrics are, if the operator said so.
    pub(crate) metrics: Option<MetricsAddress>,
    /// Sessions below which metrics count no traffic, handshakes or drops.
    pub(crate) metrics_least_sessions: u32,
    /// Days that a session is kept after its end.
    pub(crate) keep_sessions: u32,
    /// Days that a former value is kept.
    pub(crate) keep_archive: u32,
    /// Days that entries of the staff log and the disclosure register are kept.
    pub(crate) keep_records: u32,
    /// Mail server, if the operator named one.
    pub(crate) mail_server: Option<Endpoint>,
    /// How the way there is protected.
    pub(crate) mail_tls: MailTls,
    /// Certificate that its own must be signed by, if not one of the system's.
    pub(crate) mail_ca: Option<PathBuf>,
    /// Name to log in to it with.
    pub(crate) mail_user: Option<String>,
    /// File of the password to log in to it with.
    pub(crate) mail_password_file: Option<PathBuf>,
    /// Whom letters are from.
    pub(crate) mail_from: Option<Sender>,
    /// Letters that it takes in a minute.
    pub(crate) mails_per_minute: u32,
    /// Where customers may ask.
    pub(crate) contact: Option<Contact>,
    /// Where customers find the site.
    pub(crate) site_url: Option<SiteUrl>,
    /// Where the customer site is, if the operator said so.
    pub(crate) site: Option<SiteAddresses>,
    /// The site's certificate, if the operator has one.
    pub(crate) site_certificate: Option<PathBuf>,
    /// The certificate's key.
    pub(crate) site_key: Option<PathBuf>,
    /// Where browsers are sent to the site.
    pub(crate) site_redirect: Option<SiteAddresses>,
    /// What the log shows.
    pub(crate) log: LogLevel,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/tacit".into(),
            data_key: None,
            database: None,
            database_password_file: None,
            database_poll_only: false,
            gateway_name: None,
            fleet_key: None,
            capacity: None,
            socket: SOCKET_PATH.into(),
            interface: "tacit0".into(),
            listen: vec![
                (Ipv4Addr::UNSPECIFIED, 51820).into(),
                (Ipv6Addr::UNSPECIFIED, 51820).into(),
            ],
            endpoint: None,
            region: None,
            tunnel_v4: None,
            tunnel_v6: None,
            routed_v6: false,
            mtu: 1420,
            dns: vec![
                Ipv4Addr::new(9, 9, 9, 9).into(),
                Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe).into(),
            ],
            workers: default_workers(),
            allow_device_to_device: false,
            allow_private: Vec::new(),
            serve: Vec::new(),
            device_limit: 5,
            metrics: None,
            metrics_least_sessions: 5,
            keep_sessions: 30,
            keep_archive: 365,
            keep_records: 1095,
            mail_server: None,
            mail_tls: MailTls::Starttls,
            mail_ca: None,
            mail_user: None,
            mail_password_file: None,
            mail_from: None,
            mails_per_minute: 600,
            contact: None,
            site_url: None,
            site: None,
            site_certificate: None,
            site_key: None,
            site_redirect: None,
            log: LogLevel::Info,
        }
    }
}

/// One per core; counted once, because a sealed process finds others.
fn default_workers() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS);
    *CORES.get_or_init(cores)
}

/// Settings, and where those come from that are not defaults.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// Where they come from.
    pub(crate) origins: Origins,
}

impl Settings {
    /// Puts the settings together and checks them.
    ///
    /// # Errors
    /// One line that names the setting, where it stands, and what it must be.
    pub(crate) fn load(places: &Places, overrides: &impl Serialize) -> anyhow::Result<Self> {
        Self::load_with_origins(places, overrides).map(|loaded| loaded.settings)
    }

    /// Puts the settings together, checks them, and tells where they come from.
    ///
    /// # Errors
    /// One line that names the setting, where it stands, and what it must be.
    pub(crate) fn load_with_origins(
        places: &Places,
        overrides: &impl Serialize,
    ) -> anyhow::Result<Loaded> {
        let file = places.read_config(Unreadable::Refused)?;
        let mut given = Figment::from(Serialized::defaults(overrides));
        if let Some(socket) = &places.socket {
            given = given.merge(Serialized::default("socket", socket));
        }
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &file {
            figment = figment.merge(Toml::string(&file.text));
        }
        let settings: Self = figment.merge(&given).extract().map_err(|error| match &file {
            Some(file) => anyhow!(explain(&error, file)),
            None => anyhow!(error),
        })?;
        let given: Dict = given.extract()?;
        let origins = origins(file.as_ref(), given.into_keys());
        settings.check().map_err(|fault| fault.at(&origins))?;
        Ok(Loaded { settings, origins })
    }

    /// The names of all settings.
    pub(crate) fn keys() -> Vec<String> {
        match serde_json::to_value(Self::default()) {
            Ok(serde_json::Value::Object(settings)) => {
                settings.into_iter().map(|(key, _)| key).collect()
            }
            _ => Vec::new(),
        }
    }
}
