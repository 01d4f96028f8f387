//! Settings: a flag goes before a `TACIT_…` variable, before a key of `tacit.toml`, before the default.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use figment::{
    Figment,
    error::Kind,
    providers::{Format, Serialized, Toml},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tacit_accounts::{
    Region,
    post::{Contact, Sender, SiteUrl},
};
use tracing::Level;

use crate::{
    control::{gateway_name, site::SiteAddresses},
    endpoint::Endpoint,
    host::ServedPort,
    metrics::MetricsAddress,
    program,
};

/// Where `tacit.toml` is looked for unless told otherwise.
pub(crate) const CONFIG_PATH: &str = "/etc/tacit/tacit.toml";

/// Where the admin socket is unless told otherwise.
pub(crate) const SOCKET_PATH: &str = "/run/tacit/admin.sock";

/// The most workers a gateway can have.
const MAX_WORKERS: usize = 64;

/// The most letters in a minute that a pace can be kept for.
const MAX_MAILS_PER_MINUTE: u32 = 60_000;

/// The longest settings file, in bytes.
const MAX_FILE_LEN: u64 = 1 << 20;

/// The largest MTU: a jumbo frame less the outer headers.
const MAX_MTU: u16 = 8920;

/// What the log shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what went wrong and was mended.
    Warn,
    /// Also what happened.
    Info,
    /// Also details.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How the way to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MailTls {
    /// By TLS after STARTTLS, without which nothing is sent.
    Starttls,
    /// By TLS from the first byte.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

impl MailTls {
    /// The port of mail servers that are reached so.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

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

    /// MTU of the tunnel in bytes [default: 1420].
    #[arg(long, env = "TACIT_MTU", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,

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
    allow_device_to_device: Option<bool>,

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

    /// Sessions below which metrics do not count how much traffic there is [default: 5].
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

    /// TCP addresses that send browsers from http to the site, several with commas, such as 0.0.0.0:80 [default:
    /// none].
    #[arg(long, env = "TACIT_SITE_REDIRECT", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    site_redirect: Option<SiteAddresses>,

    /// What the log on stderr shows [default: info].
    #[arg(long, env = "TACIT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogLevel>,
}

/// Where to find the gateway and its settings; taken by every verb.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Places {
    /// Settings file [default: /etc/tacit/tacit.toml, if it exists].
    #[arg(long, env = "TACIT_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// The running gateway's admin socket [default: /run/tacit/admin.sock].
    #[arg(long, env = "TACIT_SOCKET", value_name = "FILE", global = true)]
    socket: Option<PathBuf>,
}

impl Places {
    /// The admin socket: from flag, variable, a readable settings file, or the default.
    ///
    /// # Errors
    /// If a settings file was named and cannot be read.
    pub(crate) fn socket_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let Some(file) = self.read_config(Unreadable::Passed)? else {
            return Ok(SOCKET_PATH.into());
        };
        match Figment::from(Toml::string(&file.text)).extract_inner("socket") {
            Ok(path) => Ok(path),
            Err(error) if error.missing() => Ok(SOCKET_PATH.into()),
            Err(error) => bail!(explain(&error, &file.path)),
        }
    }

    /// The settings file, and its hash if it exists.
    pub(crate) fn config_file(&self) -> (PathBuf, Option<String>) {
        let path = self.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
        let path = std::path::absolute(&path).unwrap_or(path);
        let sha256 = std::fs::read(&path).ok().map(|text| program::sha256_of(&text));
        (path, sha256)
    }

    fn read_config(&self, unreadable: Unreadable) -> anyhow::Result<Option<ConfigFile>> {
        let path = self.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
        match read_text(path) {
            Ok(text) => Ok(Some(ConfigFile { path: path.into(), text })),
            Err(_) if self.config.is_none() && unreadable == Unreadable::Passed => Ok(None),
            Err(error) if self.config.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}

/// Reads a text file, which may be anything that somebody named by mistake.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_LEN + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for settings"));
    }
    Ok(text)
}

/// What becomes of a default settings file that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    Passed,
    Refused,
}

struct ConfigFile {
    path: PathBuf,
    text: String,
}

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
    /// Sessions below which metrics do not count how much traffic there is.
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
            mtu: 1420,
            dns: vec![
                Ipv4Addr::new(9, 9, 9, 9).into(),
                Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe).into(),
            ],
            workers: thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS),
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

impl Settings {
    /// Puts the settings together and checks them.
    ///
    /// # Errors
    /// One line that names the setting, where it stands, and what it must be.
    pub(crate) fn load(places: &Places, overrides: &impl Serialize) -> anyhow::Result<Self> {
        let file = places.read_config(Unreadable::Refused)?;
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &file {
            figment = figment.merge(Toml::string(&file.text));
        }
        figment = figment.merge(Serialized::defaults(overrides));
        if let Some(socket) = &places.socket {
            figment = figment.merge(Serialized::default("socket", socket));
        }
        let path = file.as_ref().map_or(Path::new(CONFIG_PATH), |file| &file.path);
        let settings: Self = match figment.extract() {
            Ok(settings) => settings,
            Err(error) => bail!(explain(&error, path)),
        };
        settings.check()?;
        Ok(settings)
    }

    /// Checks what [`crate::host::preflight`] does not.
    fn check(&self) -> anyhow::Result<()> {
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

/// Says in one line what is wrong in the settings file at `path`.
fn explain(error: &figment::Error, path: &Path) -> String {
    let key = error.path.join(".");
    let path = path.display();
    match &error.kind {
        Kind::UnknownField(field, known) => {
            let hyphened = field.replace('_', "-");
            let hint = if known.contains(&hyphened.as_str()) {
                format!("write `{hyphened}`")
            } else {
                "`tacit run --help` names them all".into()
            };
            format!("{path}: unknown setting `{field}`; {hint}")
        }
        kind if key.is_empty() => format!("{path}: {}", one_line(&kind.to_string())),
        kind => format!("{path}: `{key}`: {}", one_line(&kind.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn places(toml: &str) -> (Places, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        (Places { config: Some(file.path().into()), socket: None }, file)
    }

    fn refusal(toml: &str) -> String {
        let (places, file) = places(toml);
        let error = Settings::load(&places, &Overrides::default()).unwrap_err();
        format!("{error:#}").replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn defaults_are_valid() {
        assert!(Settings::default().check().is_ok());
    }

    #[test]
    fn file_goes_before_default_and_flag_before_file() {
        let (places, _file) = places("mtu = 1400\ninterface = \"vpn0\"\nlisten = [\"1.2.3.4:5\"]");
        let overrides = Overrides { mtu: Some(1300), ..Overrides::default() };
        let settings = Settings::load(&places, &overrides).unwrap();
        assert_eq!(settings.mtu, 1300);
        assert_eq!(settings.interface, "vpn0");
        assert_eq!(settings.listen, ["1.2.3.4:5".parse().unwrap()]);
        assert_eq!(settings.device_limit, 5);
    }

    #[test]
    fn switch_of_the_file_can_be_turned_off() {
        let (places, _file) = places("allow-device-to-device = true");
        let on = Settings::load(&places, &Overrides::default()).unwrap();
        assert!(on.allow_device_to_device);
        let overrides = Overrides { allow_device_to_device: Some(false), ..Overrides::default() };
        let off = Settings::load(&places, &overrides).unwrap();
        assert!(!off.allow_device_to_device);
    }

    #[test]
    fn list_may_be_empty() {
        let (places, _file) = places("dns = []");
        assert!(Settings::load(&places, &Overrides::default()).unwrap().dns.is_empty());
    }

    #[test]
    fn unknown_key_is_named_with_its_file() {
        assert_eq!(
            refusal("colour = 1"),
            "FILE: unknown setting `colour`; `tacit run --help` names them all"
        );
        assert_eq!(
            refusal("data_dir = \"/x\""),
            "FILE: unknown setting `data_dir`; write `data-dir`"
        );
    }

    #[test]
    fn wrong_value_is_named_with_its_key() {
        assert_eq!(
            refusal("mtu = \"big\""),
            "FILE: `mtu`: invalid type: found string \"big\", expected u16"
        );
        assert!(refusal("serve = [\"icmp/1\"]").starts_with("FILE: `serve.0`: "));
    }

    #[test]
    fn refusals_are_one_line() {
        let broken = [
            "mtu =",
            "mtu = 9000",
            "workers = 0",
            "device-limit = 0",
            "listen = []",
            "listen = [\"0.0.0.0:0\"]",
            "tunnel-v4 = \"10.66.0.1/16\"",
            "tunnel-v6 = \"fd00::1/64\"",
            "allow-private = [\"10.0.0.1/8\"]",
            "endpoint = \"two words\"",
            "mails-per-minute = 0",
            "mail-user = \"tacit\"",
            "mail-server = \"mail.example.org\"",
            "mail-from = \"vpn@example.org\\r\\nBcc: x@example.org\"",
            "contact = \"ask us\"",
            "site-url = \"http://example.org\"",
            "mail-server = \"mail.example.org\"\nmail-tls = \"none\"\nmail-from = \"vpn@example.org\"\n\
             contact = \"help@example.org\"\nsite-url = \"https://example.org\"",
            "database-password-file = \"/x\"",
            "region = \"\\u0007\"",
            "site = \"443\"",
            "site-key = \"/x\"",
        ];
        for toml in broken {
            let refusal = refusal(toml);
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn named_file_must_exist() {
        let (places, file) = places("");
        fs::remove_file(file.path()).unwrap();
        assert!(Settings::load(&places, &Overrides::default()).is_err());
        assert!(places.socket_path().is_err());
    }

    #[test]
    fn socket_is_found_through_the_file() {
        let (mut places, _file) = places("socket = \"/tmp/a.sock\"\nmtu = 1400");
        assert_eq!(places.socket_path().unwrap(), Path::new("/tmp/a.sock"));
        places.socket = Some("/tmp/b.sock".into());
        assert_eq!(places.socket_path().unwrap(), Path::new("/tmp/b.sock"));
        let settings = Settings::load(&places, &Overrides::default()).unwrap();
        assert_eq!(settings.socket, Path::new("/tmp/b.sock"));
    }
}
