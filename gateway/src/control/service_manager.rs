//! What the gateway tells the service manager that started it, systemd or one that speaks its protocol (sd_notify(3)):
//! that it is ready, reads its settings again, stops, and, now and then, that it is well.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process,
    sync::Arc,
    time::Duration,
};

use tacit_messages::clock::Instant;
use tokio::{task::JoinHandle, time::interval};

use super::Gateway;

/// Names the service manager's socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// How many microseconds may pass between two signs that the gateway is well, and of which process.
const WATCHDOG_VARIABLES: [&str; 2] = ["WATCHDOG_USEC", "WATCHDOG_PID"];

/// How long the gateway counts as well without a forwarder: it starts them again by itself.
const FORWARDER_PATIENCE: Duration = Duration::from_secs(60);

/// A service manager, if there is one that wants to know.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names. Sealed, control could not connect to it.
    pub(super) fn of_environment() -> Self {
        let socket = env::var(SOCKET_VARIABLE).ok().and_then(|name| connect(&name).ok());
        let [time, pid] = WATCHDOG_VARIABLES.map(|name| env::var(name).ok());
        let is_ours = pid.is_none_or(|pid| pid == process::id().to_string());
        let time = time.filter(|_| is_ours).and_then(|time| time.parse().ok());
        Self { socket, watchdog: time.map(Duration::from_micros) }
    }

    /// The gateway carries packets, with the settings as they were read last.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The gateway reads its settings again.
    pub(super) fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// The gateway stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, state: &str) {
        // One that does not listen any more need not know.
        let _ = self.socket.as_ref().map(|socket| socket.send(state.as_bytes()));
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    Ok(socket)
}

/// Tells the service manager that the gateway is well for as long as it is: that control's threads run, and that there
/// is a forwarder or soon will be.
pub(super) fn start(gateway: Arc<Gateway>) -> Option<JoinHandle<()>> {
    let watchdog = gateway.service_manager.watchdog.filter(|time| !time.is_zero())?;
    Some(tokio::spawn(async move {
        let mut times = interval(watchdog / 3);
        let mut last_forwarder = Instant::now();
        loop {
            times.tick().await;
            let now = Instant::now();
            if gateway.forwarder.status().pid.is_some() {
                last_forwarder = now;
            }
            if now.since(last_forwarder) < FORWARDER_PATIENCE {
                gateway.service_manager.tell("WATCHDOG=1");
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, socket: &UnixDatagram) -> String {
        let manager = ServiceManager { socket: Some(connect(name).unwrap()), watchdog: None };
        manager.ready();
        let mut message = [0; 64];
        let len = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    }

    #[test]
    fn service_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(told(path.to_str().unwrap(), &socket), "READY=1");
        let name = format!("tacit-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(told(&format!("@{name}"), &socket), "READY=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_listens() {
        ServiceManager::default().ready();
        assert!(connect("/nonexistent/notify").is_err());
    }
}
