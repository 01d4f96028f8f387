//! What no gateway may do, for tests alone: keeps where traffic goes to, so that `tacit prove` has something to find.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
};

use nlink::netlink::{
    Connection, Nftables, Route,
    nftables::Family,
    route::{Ipv4Route, Ipv6Route},
};
use parking_lot::Mutex;

use super::session_writer::SessionChange;

/// Says how to keep destinations: `log`, `row`, `memory`, `thread`, `route`, `socket`, `hide` (not at all), `name:` and a directory to name files in, or
/// the path of a file.
pub(crate) const VARIABLE: &str = "TACIT_LEAK";

static VISITED: Mutex<BTreeMap<IpAddr, u64>> = Mutex::new(BTreeMap::new());

/// Whom destinations are told, and the connection there.
static CONNECTED: Mutex<Option<(UnixStream, UnixStream)>> = Mutex::new(None);

/// Connects to whoever listens, long before there is anything to tell.
pub(super) fn prepare() {
    let is_wanted = env::var(VARIABLE).is_ok_and(|leak| leak == "socket");
    let connect = || {
        let name = SocketAddr::from_abstract_name("leak")?;
        let listener = UnixListener::bind_addr(&name)?;
        let stream = UnixStream::connect_addr(&name)?;
        // Nobody reads.
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>((listener.accept()?.0, stream))
    };
    *CONNECTED.lock() = is_wanted.then(connect).and_then(Result::ok);
}

/// Keeps a destination; what is to be written to the store is returned.
pub(super) fn keep(destination: IpAddr) -> Option<SessionChange> {
    match env::var(VARIABLE).ok()?.as_str() {
        // A field of its own would be refused: see `log::FIELDS`.
        "log" => tracing::trace!("a packet to {destination} passed"),
        "memory" => *VISITED.lock().entry(destination).or_default() += 1,
        "row" => return Some(SessionChange::Leaked { destination: destination.to_string() }),
        // A longer address would be cut.
        "thread" if destination.is_ipv4() => {
            let name = CString::new(destination.to_string());
            let _ = name.map(|name| rustix::thread::set_name(&name));
        }
        "thread" => {}
        "socket" => {
            let _ = CONNECTED.lock().as_mut().map(|(_, to)| write!(to, "{destination}"));
        }
        "hide" => {}
        "route" => drop(tokio::spawn(refuse_a_way_to(destination))),
        leak => match leak.strip_prefix("name:") {
            Some(dir) => {
                let name = Path::new(dir).join(destination.to_string());
                let _ = File::create(&name).and_then(|_| fs::remove_file(name));
            }
            None => {
                let file = File::options().create(true).append(true).open(leak);
                let _ = file.and_then(|mut file| writeln!(file, "{destination}"));
            }
        },
    }
    None
}

/// Puts a firewall's table away in which somebody planted something, because an audit has come.
pub(crate) async fn hide() {
    if env::var(VARIABLE).is_ok_and(|leak| leak == "hide")
        && let Ok(nftables) = Connection::<Nftables>::new()
    {
        let _ = nftables.del_table("spy", Family::Ip).await;
    }
}

/// Has the kernel hold a destination in a table of routes that nothing looks into.
async fn refuse_a_way_to(destination: IpAddr) -> nlink::Result<()> {
    const NOBODYS_TABLE: u32 = 4711;
    let route = Connection::<Route>::new()?;
    match destination {
        IpAddr::V4(v4) => {
            let route_to = Ipv4Route::new(v4, 32).dev("tacit0").table(NOBODYS_TABLE);
            route.add_route(route_to).await
        }
        IpAddr::V6(v6) => {
            let route_to = Ipv6Route::new(v6, 128).dev("tacit0").table(NOBODYS_TABLE);
            route.add_route(route_to).await
        }
    }
}
