//! The customer site, as a part of control: its sockets and its certificate, and what it asks of the gateway.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    thread,
};

use anyhow::Context;
use axum::http::HeaderValue;
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tacit_accounts::{
    Entrance, RemovedDevice, StoreError, TunnelPool,
    site::{
        self, Audited, Certificates, Doing, Facts, Site, Source, Surroundings, certificate_names,
    },
};
use tokio::{runtime, task::JoinSet};

use super::{Gateway, entrance};
use crate::{config::Settings, log};

/// Where the site is unless told otherwise; a gateway that finds it taken goes on without.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// The lowest priority: of a core that packets keep busy, visitors get a hundredth, and what packets leave.
const NICENESS: i32 = 19;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 1024;

/// The file of the certificate that the gateway makes, in the data directory.
const SELF_MADE: &str = "site.pem";

/// Where an operator wants the site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum SiteAddresses {
    /// Nowhere.
    Off,
    /// At these TCP addresses.
    At(Vec<SocketAddr>),
}

impl SiteAddresses {
    pub(crate) fn list(&self) -> &[SocketAddr] {
        match self {
            Self::Off => &[],
            Self::At(addresses) => addresses,
        }
    }
}

impl FromStr for SiteAddresses {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let addresses = text.split(',').map(|address| address.trim().parse());
        let addresses: Result<Vec<SocketAddr>, _> = addresses.collect();
        addresses.map(Self::At).map_err(|_| "must be ADDR:PORT, several with commas, or `off`")
    }
}

impl TryFrom<String> for SiteAddresses {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SiteAddresses> for String {
    fn from(addresses: SiteAddresses) -> Self {
        match addresses {
            SiteAddresses::Off => "off".into(),
            SiteAddresses::At(addresses) => {
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The site's sockets.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    site: Vec<TcpListener>,
    redirect: Vec<TcpListener>,
}

/// Listens where the operator wants the site, or at the default address if it is free.
///
/// # Errors
/// If an address that the operator named cannot be had.
pub(super) fn listen(settings: &Settings, networks: TunnelPool) -> anyhow::Result<Listeners> {
    let site = match &settings.site {
        Some(addresses) => {
            let listeners = addresses.list().iter().map(|address| bind(*address, networks));
            listeners.collect::<Result<_, _>>().context(
                "`site` has an address that cannot be listened on; free it, name another, or say `off`",
            )?
        }
        None => match bind(DEFAULT, networks) {
            Ok(listener) => vec![listener],
            Err(error) => {
                log::site_off(&error);
                Vec::new()
            }
        },
    };
    let redirect = settings.site_redirect.as_ref().map_or(&[][..], SiteAddresses::list);
    let redirect = redirect.iter().map(|address| bind(*address, networks));
    let redirect = redirect
        .collect::<Result<_, _>>()
        .context("`site-redirect` has an address that cannot be listened on")?;
    Ok(Listeners { site, redirect })
}

fn bind(address: SocketAddr, networks: TunnelPool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // The tunnel is not there yet.
    match address {
        SocketAddr::V4(at) => socket.set_freebind_v4(*at.ip() == networks.gateway_v4())?,
        SocketAddr::V6(at) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(*at.ip() == networks.gateway_v6())?;
        }
    }
    // A predecessor's connections may be in their last moments.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The ports of the site that devices reach inside the tunnel.
pub(super) fn ports_in_tunnel(settings: &Settings, networks: TunnelPool) -> Vec<u16> {
    let named = [&settings.site, &settings.site_redirect].into_iter().flatten();
    named
        .flat_map(|addresses| addresses.list())
        .filter(|address| match address.ip() {
            IpAddr::V4(v4) => v4 == networks.gateway_v4(),
            IpAddr::V6(v6) => v6 == networks.gateway_v6(),
        })
        .map(SocketAddr::port)
        .collect()
}

/// The directories that the operator's certificate is read from, again and again: also where its links lead to.
pub(super) fn certificate_dirs(settings: &Settings) -> Vec<PathBuf> {
    let files = [&settings.site_certificate, &settings.site_key].into_iter().flatten();
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    files
        .flat_map(|path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            [parent(&path), path.canonicalize().ok().as_deref().and_then(parent)]
        })
        .flatten()
        .collect()
}

/// Reads the certificate, or makes it, as it will be read again later: sealed.
///
/// # Errors
/// If there is none that can be used; not if there is no site.
pub(super) fn certificates(
    settings: &Settings,
    listeners: &Listeners,
) -> anyhow::Result<Option<Arc<Certificates>>> {
    if listeners.site.is_empty() {
        return Ok(None);
    }
    let source = match (&settings.site_certificate, &settings.site_key) {
        (Some(certificate), Some(key)) => {
            Source::Files { certificate: certificate.clone(), key: key.clone() }
        }
        _ => Source::SelfMade { path: settings.data_dir.join(SELF_MADE), names: names(settings) },
    };
    Ok(Some(Certificates::load(source)?))
}

/// What browsers may call the site.
fn names(settings: &Settings) -> Vec<String> {
    let url = settings.site_url.as_ref().map(|url| url.host().to_owned());
    let endpoint = settings.endpoint.as_ref().map(|endpoint| endpoint.host().to_owned());
    let at = settings.site.as_ref().map(SiteAddresses::list).unwrap_or_default();
    let at = at.iter().map(|address| address.ip().to_string());
    let here = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let all: Vec<String> = url.into_iter().chain(endpoint).chain(at).chain(here).collect();
    certificate_names(all.iter().map(String::as_str))
}

/// Serves the site for as long as the gateway runs.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    listeners: Listeners,
    certificates: Option<Arc<Certificates>>,
) {
    let Some(certificates) = certificates else { return };
    let settings = &gateway.settings.now();
    if settings.site.is_some() && settings.contact.is_none() {
        log::no_contact();
    }
    let facts = Facts {
        contact: settings.contact.clone(),
        sends_letters: settings.mail_server.is_some(),
        keep_sessions: settings.keep_sessions,
        keep_archive: settings.keep_archive,
        keep_records: settings.keep_records,
    };
    let address = address(settings, &listeners);
    let around: Arc<dyn Surroundings> = Arc::new(Around(Arc::clone(gateway)));
    let (store, door) = (gateway.store.clone(), Arc::clone(&gateway.door));
    let errors = Arc::clone(&gateway.site_errors);
    let site = Site::new(store, door, Arc::clone(&around), facts, errors);
    let serving = Serving { site, certificates, around, address, listeners };
    let thread = thread::Builder::new().name("site".to_owned()).spawn(|| serving.run());
    if let Err(error) = thread {
        log::site_off(&error);
    }
}

/// What serves visitors' connections.
struct Serving {
    site: Arc<Site>,
    certificates: Arc<Certificates>,
    around: Arc<dyn Surroundings>,
    address: HeaderValue,
    listeners: Listeners,
}

impl Serving {
    /// Serves on this thread for as long as the process lives, when nobody else needs the processor: TLS and HTTP of
    /// however many visitors must not slow packets down.
    fn run(self) {
        let _ = setpriority_process(None, NICENESS);
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => log::site_off(&error),
        }
    }

    async fn serve(self) {
        let Self { site, certificates, around, address, listeners } = self;
        let mut all = JoinSet::new();
        all.spawn(Certificates::watch(Arc::downgrade(&certificates), around));
        for listener in listeners.redirect {
            let (site, address) = (Arc::clone(&site), address.clone());
            all.spawn(report(site::redirect(site, listener, address)));
        }
        for listener in listeners.site {
            let (site, certificates) = (Arc::clone(&site), Arc::clone(&certificates));
            all.spawn(report(site::serve(site, listener, certificates)));
        }
        all.join_all().await;
    }
}

async fn report(serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        log::site_off(&error);
    }
}

/// Where browsers are sent that came without TLS.
fn address(settings: &Settings, listeners: &Listeners) -> HeaderValue {
    let named = settings.site_url.as_ref().map(|url| url.page(""));
    let bound = || {
        let first = listeners.site.first().and_then(|listener| listener.local_addr().ok());
        first.map(|address| format!("https://{address}/"))
    };
    let address = named.or_else(bound).unwrap_or_default();
    HeaderValue::from_str(&address).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

/// The gateway, as the site knows it.
struct Around(Arc<Gateway>);

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Around")
    }
}

impl Surroundings for Around {
    fn letters_queued(&self) {
        self.0.post.wake();
    }

    fn disconnect<'a>(&'a self, devices: &'a [RemovedDevice]) -> Doing<'a, ()> {
        Box::pin(self.0.disconnect(devices))
    }

    fn entrance(&self) -> Doing<'_, Option<Entrance>> {
        Box::pin(entrance::of(&self.0))
    }

    fn last_audit(&self) -> Option<Audited> {
        self.0.last_audit.lock().clone()
    }

    fn store_failed(&self, error: &StoreError) {
        log::site_failed(error);
    }

    fn certificate_not_renewed(&self, error: &dyn fmt::Display) {
        log::certificate_not_renewed(error);
    }

    fn certificate_renewed(&self) {
        log::certificate_renewed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_some_or_off() {
        assert_eq!("off".parse(), Ok(SiteAddresses::Off));
        let both = "0.0.0.0:443,[::]:443";
        let addresses: SiteAddresses = both.parse().unwrap();
        assert_eq!(addresses.list().len(), 2);
        assert_eq!(String::from(addresses), both);
        for text in ["", "443", "0.0.0.0:443,", "example.org:443"] {
            assert!(text.parse::<SiteAddresses>().is_err(), "{text}");
        }
    }

    #[test]
    fn both_families_share_a_port() {
        let networks =
            TunnelPool::new("10.66.0.0/16".parse().unwrap(), "fd66:7ac1:7::/64".parse().unwrap());
        let networks = networks.unwrap();
        let first = bind("0.0.0.0:0".parse().unwrap(), networks).unwrap();
        let port = first.local_addr().unwrap().port();
        bind(format!("[::]:{port}").parse().unwrap(), networks).unwrap();
        // Inside a tunnel that is not there yet.
        bind((networks.gateway_v4(), 0).into(), networks).unwrap();
        bind((networks.gateway_v6(), 0).into(), networks).unwrap();
    }
}
