//! Settings as flags and `TACIT_…` variables.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use tacit_accounts::{
    Region,
    post::{Contact, Sender, SiteUrl},
};

use super::{LogLevel, MailTls};
use crate::{
    control::site::SiteAddresses, endpoint::Endpoint, host::ServedPort, metrics::MetricsAddress,
};

/// Where a gateway keeps what it keeps, given as flags or `TACIT_…` variables.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StoreOverrides {
    /// Directory of the store and the keys [default: /var/lib/tacit].
    #[arg(long, env = "TACIT_DATA_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,

    /// File of the data key, which seals what is personal in the store [default: data.key in the data directory, or the
    /// systemd credential data.key].
    #[arg(long, env = "TACIT_DATA_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_key: Option<PathBuf>,

    /// PostgreSQL database that has the store, as in postgres://tacit@db.example.org/tacit [default: a file in the data
    /// directory].
    #[arg(long, env = "TACIT_DATABASE", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,

    /// File with the password for the database [default: it asks for none].
    #[arg(long, env = "TACIT_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_password_file: Option<PathBuf>,
}

/// Settings given as flags or `TACIT_…` variables.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Overrides {
    #[command(flatten)]
    #[serde(flatten)]
    store: StoreOverrides,

    /// Do not have the database tell of changes of devices, but ask it each second; for servers that cannot.
    #[arg(
        long,
        env = "TACIT_DATABASE_POLL_ONLY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_poll_only: Option<bool>,

    /// Name of this gateway among those that share the database [default: of the host and the interface].
    #[arg(long, env = "TACIT_GATEWAY_NAME", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_name: Option<String>,

    /// File of the WireGuard key that the gateways of a fleet share, for devices to be served by any of them [default:
    /// a key of its own].
    #[arg(long, env = "TACIT_FLEET_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet_key: Option<PathBuf>,

    /// Sessions that this gateway is meant for, as `tacit gateway list` shows; it takes more [default: not said].
    #[arg(long, env = "TACIT_CAPACITY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,

    /// Name of the TUN interface [default: tacit0].
    #[arg(long, env = "TACIT_INTERFACE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,

    /// UDP address to listen on, one per family [default: port 51820 of all addresses].
    #[arg(long, env = "TACIT_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<SocketAddr>,

    /// Address that client configs name [default: the first public address of this host].
    #[arg(long, env = "TACIT_ENDPOINT", value_name = "HOST[:PORT]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,

    /// Where this gateway is, such as Frankfurt, for customers who choose among several [default: its endpoint alone].
    #[arg(long, env = "TACIT_REGION", value_name = "PLACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,

    /// IPv4 network of the tunnel [default: the first free of 10.66.0.0/16 to 10.73.0.0/16, then kept].
    #[arg(long, env = "TACIT_TUNNEL_V4", value_name = "NET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_v4: Option<Ipv4Net>,

    /// IPv6 network of the tunnel [default: fd66:7ac1:7::/64 to fd66:7ac1:e::/64, with the IPv4 network].
    #[arg(long, env = "TACIT_TUNNEL_V6", value_name = "NET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_v6: Option<Ipv6Net>,

    /// The IPv6 network of the tunnel is routed to this gateway: do not masquerade it, so that each device shows an address of its own.
    #[arg(
        long,
        env = "TACIT_ROUTED_V6",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    routed_v6: Option<bool>,

    /// MTU of the tunnel in bytes [default: 1420].
    #[arg(long, env = "TACIT_MTU", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<u16>,

    /// DNS server that client configs name; repeatable [default: 9.9.9.9 and 2620:fe::fe].
    #[arg(long, env = "TACIT_DNS", value_name = "IP", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns: Vec<IpAddr>,

    /// Threads that carry packets [default: one per core].
    #[arg(long, env = "TACIT_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,

    /// Let devices reach each other.
    #[arg(
        long,
        env = "TACIT_ALLOW_DEVICE_TO_DEVICE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_device_to_device: Option<bool>,

    /// Private network that devices may reach; repeatable.
    #[arg(long, env = "TACIT_ALLOW_PRIVATE", value_name = "NET", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_private: Vec<IpNet>,

    /// Port of the gateway itself that devices may reach, such as udp/53; repeatable.
    #[arg(long, env = "TACIT_SERVE", value_name = "PROTOCOL/PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    serve: Vec<ServedPort>,

    /// Devices that an account may have [default: 5].
    #[arg(long, env = "TACIT_DEVICE_LIMIT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device_limit: Option<u32>,

    /// TCP address of /metrics, /healthz and /readyz, or `off` [default: 127.0.0.1:9586, if it is free].
    #[arg(long, env = "TACIT_METRICS", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<MetricsAddress>,

    /// Sessions below which metrics count no traffic, handshakes or drops [default: 5].
    #[arg(long, env = "TACIT_METRICS_LEAST_SESSIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_least_sessions: Option<u32>,

    /// Days that a session is kept after its end [default: 30].
    #[arg(long, env = "TACIT_KEEP_SESSIONS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_sessions: Option<u32>,

    /// Days that a former value is kept after it was changed or the account cancelled [default: 365].
    #[arg(long, env = "TACIT_KEEP_ARCHIVE", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_archive: Option<u32>,

    /// Days that entries of the staff log and the disclosure register are kept [default: 1095].
    #[arg(long, env = "TACIT_KEEP_RECORDS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_records: Option<u32>,

    /// Mail server that takes letters to customers [default: none; port 587, or by --mail-tls 465 or 25].
    #[arg(long, env = "TACIT_MAIL_SERVER", value_name = "HOST[:PORT]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_server: Option<Endpoint>,

    /// How the way to the mail server is protected; none for one on this machine only [default: starttls].
    #[arg(long, env = "TACIT_MAIL_TLS", value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_tls: Option<MailTls>,

    /// Certificate (PEM) that the mail server's must be signed by [default: the system's].
    #[arg(long, env = "TACIT_MAIL_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_ca: Option<PathBuf>,

    /// Name to log in to the mail server with.
    #[arg(long, env = "TACIT_MAIL_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_user: Option<String>,

    /// File (mode 0600) with the password to log in to the mail server with.
    #[arg(long, env = "TACIT_MAIL_PASSWORD_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_password_file: Option<PathBuf>,

    /// Whom letters are from, such as 'VPN <vpn@example.org>'.
    #[arg(long, env = "TACIT_MAIL_FROM", value_name = "SENDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_from: Option<Sender>,

    /// Letters that the mail server takes in a minute [default: 600].
    #[arg(long, env = "TACIT_MAILS_PER_MINUTE", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mails_per_minute: Option<u32>,

    /// Where customers may ask: an e-mail address or a page, on each letter.
    #[arg(long, env = "TACIT_CONTACT", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<Contact>,

    /// Where customers find the site, such as `https://vpn.example.org`.
    #[arg(long, env = "TACIT_SITE_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site_url: Option<SiteUrl>,

    /// TCP addresses of the customer site (HTTPS), several with commas, or `off` [default: 127.0.0.1:8443, if it is free].
    #[arg(long, env = "TACIT_SITE", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<SiteAddresses>,

    /// The site's certificate and those that sign it (PEM); read again when it is renewed [default: one that the gateway
    /// makes].
    #[arg(long, env = "TACIT_SITE_CERTIFICATE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site_certificate: Option<PathBuf>,

    /// The certificate's key (PEM), which the gateway's user can read and nobody else may [default: made with the
    /// certificate].
    #[arg(long, env = "TACIT_SITE_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site_key: Option<PathBuf>,

    /// TCP addresses that send browsers from http to the site, several with commas, such as 0.0.0.0:80; where the site is
    /// at any address, it needs `--site-url` [default: none].
    #[arg(long, env = "TACIT_SITE_REDIRECT", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site_redirect: Option<SiteAddresses>,

    /// What the log on stderr shows [default: info].
    #[arg(long, env = "TACIT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogLevel>,
}
