//! The control process: everything of the gateway that does not touch a packet.
//!
//! The start, in order: the tunnel networks are chosen and what the host lacks is found out before anything is
//! changed; then the data directory is taken, the keys are loaded, the admin socket is bound and the starter is started.
//! That much takes root's rights, which control then drops ([`seal`]) while it has a single thread. Sealed, it opens the
//! store, raises the network and has the forwarder started. The stop goes the same way back and leaves the host as it
//! was. SIGHUP has it read its settings again ([`reload`]).

mod connections;
pub(crate) mod data_dir;
pub(crate) mod data_key;
mod departures;
mod device_watch;
mod entrance;
mod forwarder;
mod forwarder_state;
mod gateway;
pub(crate) mod gateway_keys;
pub(crate) mod gateway_name;
mod hand_over;
mod hearing;
mod heartbeat;
pub(crate) mod key_rotation;
#[cfg(feature = "leaky")]
mod leak;
mod limits;
mod link;
mod lookup;
mod mail;
mod memory;
mod networks;
mod outbox;
pub(crate) mod post;
mod reload;
pub(crate) mod retention;
mod revoked;
mod seal;
mod service_ends;
mod service_manager;
mod session_writer;
pub(crate) mod site;
mod starter;
pub(crate) mod store_state;
mod supervisor;
mod traffic;
pub(crate) mod unwritten;
mod user;

use std::{
    collections::HashMap,
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, bail};
use parking_lot::{Mutex, RwLock};
use tacit_accounts::{Database, Door, SessionRecorder, Start, Store, TunnelPool, post::Mail};
use tacit_keys::{DataKeys, GatewayKeys as Keys};
use tacit_messages::{UnixSeconds, clock::Instant};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

pub(crate) use self::gateway::Gateway;
#[cfg(feature = "leaky")]
pub(crate) use self::leak::{VARIABLE as LEAK_VARIABLE, hide};
use self::{
    data_dir::DataDir,
    forwarder::Forwarder,
    forwarder_state::ForwarderState,
    gateway::ConfigFile,
    gateway_keys::GatewayKeys,
    hearing::Hearing,
    key_rotation::KeyRotation,
    outbox::Outbox,
    post::Post,
    retention::DAY,
    seal::Seal,
    service_manager::ServiceManager,
    session_writer::SessionWriter,
    site::Listeners,
    starter::{Starter, StarterProcess},
    supervisor::Supervisor,
    user::User,
};
use crate::{
    admin::{caller::Roles, server, socket::AdminSocket},
    config::{LiveSettings, Settings, Sources},
    database,
    host::{self, HostError, HostSettings, Network, Protocol, ServedPort},
    log, metrics,
};

/// How long each step of stopping may take.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a killed predecessor's forwarder may take to let go of the interface and the ports.
const PREDECESSOR_PATIENCE: Duration = Duration::from_millis(600);

/// Runs the gateway until SIGTERM or SIGINT; on SIGHUP it puts the settings together again from `sources`. The process
/// must have no other thread.
///
/// # Errors
/// What kept it from starting; then the host is as it was. Or what ended it: the starter died, or others that share the
/// store went on without it.
pub(crate) fn run(settings: Settings, sources: Sources) -> anyhow::Result<()> {
    memory::give_back_large_blocks();
    forwarder::keep_inherited_descriptors().context("keeping inherited descriptors")?;
    let config = sources.places().config_file();
    let user = User::dedicated()?;
    let prepared = {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("starting")?.block_on(Prepared::as_root(settings, user))?
    };
    let Prepared { settings, database, .. } = &prepared;
    let ports: Vec<u16> = mail::port(settings).into_iter().chain(seal::port_of(database)).collect();
    let mut readable = site::certificate_dirs(settings);
    readable.extend(sources.places().readable());
    let _seal =
        Seal::apply(user, &settings.data_dir, &settings.listen, &ports, database, &readable)?;
    prepared.data_dir.check_reachable(user)?;
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting threads")?
        .block_on(prepared.run(sources, config))
}

/// Everything that takes root's rights, done.
struct Prepared {
    settings: Settings,
    database: Database,
    name: String,
    networks: TunnelPool,
    host_settings: HostSettings,
    data_dir: DataDir,
    data_keys: DataKeys,
    keys: GatewayKeys,
    listener: UnixListener,
    socket: AdminSocket,
    metrics: Option<TcpListener>,
    roles: Roles,
    mail: Option<Mail>,
    site: Listeners,
    starter: StarterProcess,
    service_manager: ServiceManager,
}

impl Prepared {
    async fn as_root(settings: Settings, user: User) -> anyhow::Result<Self> {
        let database = database::of(&settings)?;
        let name = gateway_name::name(&settings);
        let networks = networks::choose(&settings, &database).await?;
        let host_settings = host_settings(&settings, networks);
        preflight(&host_settings).await?;
        let metrics = metrics::listen(&settings)?;
        let mail = mail::prepare(&settings)?;
        let site = site::listen(&settings, networks)?;
        let data_dir = DataDir::take(&settings.data_dir)?;
        let data_keys = data_key::load_or_create(&data_key::path(&settings), &database)?;
        let (path, is_shared) = match &settings.fleet_key {
            Some(path) => (path.clone(), true),
            None => (data_dir.key_path(), false),
        };
        let keys = if is_shared { Keys::load_shared(&path) } else { Keys::load_or_create(&path) };
        let keys = GatewayKeys::new(keys?, path, is_shared);
        data_dir.give_to(user)?;
        let (socket, listener) = AdminSocket::bind(&settings.socket)?;
        let starter = StarterProcess::start(&socket, &forwarder::arguments(&settings, networks))?;
        Ok(Self {
            settings,
            database,
            name,
            networks,
            host_settings,
            data_dir,
            data_keys,
            keys,
            listener,
            socket,
            metrics,
            roles: Roles::of_host(),
            mail,
            site,
            starter,
            service_manager: ServiceManager::of_environment(),
        })
    }

    /// Is the gateway until it is told to stop.
    async fn run(self, sources: Sources, config: ConfigFile) -> anyhow::Result<()> {
        #[cfg(feature = "leaky")]
        leak::prepare();
        let Self { settings, database, networks, host_settings, data_keys, .. } = self;
        let (_data_dir, name) = (self.data_dir, self.name);
        let (keys, listener) = (Arc::new(self.keys), self.listener);
        let (socket, metrics, mut starter_process) = (self.socket, self.metrics, self.starter);
        let mut stop_signal = stop_signal().context("catching signals")?;
        let hangup = signal(SignalKind::hangup()).context("catching signals")?;
        let starter = starter_process.listen().context("listening to the starter")?;
        let starter_gone = starter.gone();
        let site = self.site;
        let certificates = site::certificates(&settings, &site)?;
        let mut store = open_store(&settings, &database, &name, networks, data_keys).await?;
        if self.mail.is_some() {
            store = store.with_postman();
        }
        let recorder = store.session_recorder().await?;
        let post = Post::new(store.clone(), self.mail);
        let key_path = data_key::path(&settings);
        let key_rotation = KeyRotation::start(key_path, settings.data_dir.clone(), store.clone());
        let least_sessions = settings.metrics_least_sessions;
        let gateway = Gateway {
            settings: Arc::new(LiveSettings::new(settings)),
            networks,
            keys,
            store: store.clone(),
            store_state: Arc::default(),
            name,
            forwarder: Arc::new(ForwarderState::new(UnixSeconds::now(), least_sessions)),
            starter_pid: starter_process.pid(),
            key_rotation,
            door: Door::new(),
            roles: self.roles,
            post,
            site_errors: Arc::default(),
            last_audit: Mutex::default(),
            outbox: Arc::new(Outbox::default()),
            departures: Arc::default(),
            revoked: Arc::default(),
            config: RwLock::new(config),
            metrics: metrics.as_ref().and_then(|listener| listener.local_addr().ok()),
            firewall: None,
            is_draining: AtomicBool::default(),
            service_manager: self.service_manager,
        };
        let running = Running::start(gateway, &host_settings, starter, recorder).await;
        let running = match running {
            Ok(running) => running,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let (gateway, mut admin_stop) = (Arc::clone(&running.gateway), stopped.clone());
        let until_stop = async move { supervisor::stopped(&mut admin_stop).await };
        let admin = tokio::spawn(server::serve(listener, gateway, until_stop));
        if let Some(listener) = metrics {
            tokio::spawn(metrics::serve(listener, Arc::clone(&running.gateway)));
        }
        site::start(&running.gateway, site, certificates);
        let gateway = Arc::clone(&running.gateway);
        let reloading = reload::start(Arc::clone(&gateway), sources, hangup);
        let watchdog = service_manager::start(Arc::clone(&gateway));
        let supervised = tokio::spawn(running.run(stopped));
        log::ready(host_settings.workers, std::process::id());
        gateway.service_manager.ready();

        let problem = tokio::select! {
            () = stop_signal.recv() => {
                log::stopping();
                None
            }
            () = starter_gone => {
                log::starter_died();
                Some("the starter died".to_owned())
            }
            () = gateway.store_state.ends() => gateway.store_state.end().map(str::to_owned),
        };
        gateway.service_manager.stopping();
        reloading.abort();
        let _ = stop.send(true);
        let outcome = supervised.await;
        watchdog.inspect(JoinHandle::abort);
        if !matches!(timeout(STOP_PATIENCE, admin).await, Ok(Ok(Ok(())))) {
            log::stop_failed(&"a request at the admin socket was cut short");
        }
        store.close().await;
        drop(socket);
        drop(starter_process);
        outcome.context("the supervisor failed")?;
        log::stopped();
        match problem {
            None => Ok(()),
            Some(problem) => bail!("{problem}; start the gateway again"),
        }
    }
}

/// A gateway whose forwarder carries packets.
struct Running {
    gateway: Arc<Gateway>,
    supervisor: Supervisor,
    forwarder: Forwarder,
}

impl Running {
    /// Raises the network and has the forwarder started; undoes it all if that fails.
    async fn start(
        gateway: Gateway,
        host_settings: &HostSettings,
        starter: Starter,
        recorder: SessionRecorder,
    ) -> anyhow::Result<Self> {
        let network = Network::raise(host_settings).await?;
        let firewall = host::firewall_fingerprint(&host_settings.interface).await;
        let gateway = Arc::new(Gateway { firewall: firewall.ok().flatten(), ..gateway });
        let outbox = Arc::clone(&gateway.outbox);
        let supervisor = Supervisor {
            workers: host_settings.workers,
            networks: gateway.networks,
            network,
            starter: Arc::new(starter),
            keys: Arc::clone(&gateway.keys),
            hearing: Hearing {
                lookups: lookup::start(gateway.store.clone(), Arc::clone(&outbox)),
                moving: hand_over::start_giving(gateway.store.clone(), Arc::clone(&gateway.keys)),
                sessions: SessionWriter::start(
                    recorder,
                    Arc::clone(&gateway.store_state),
                    Arc::clone(&outbox),
                    gateway.settings.now().data_dir.clone(),
                ),
                state: Arc::clone(&gateway.forwarder),
                departures: Arc::clone(&gateway.departures),
            },
            outbox,
        };
        match supervisor.start().await {
            Ok(forwarder) => Ok(Self { gateway, supervisor, forwarder }),
            Err(error) => {
                supervisor.network.lower().await;
                Err(error.into())
            }
        }
    }

    /// Carries on until `stop` says so, then ends the sessions and lowers the network.
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { gateway, supervisor, forwarder } = self;
        let store = &gateway.store;
        let alive = heartbeat::start(store.clone(), Arc::clone(&gateway.store_state));
        let announcing = entrance::announce(Arc::clone(&gateway));
        let watching = device_watch::start(Arc::clone(&gateway));
        let ending = service_ends::start(Arc::clone(&gateway));
        let purging = retention::start(store.clone(), Arc::clone(&gateway.settings));
        let posting = gateway.post.start();
        let departures = Arc::clone(&supervisor.hearing.departures);
        let cleaning = connections::start(store.clone(), departures, Arc::clone(&gateway.revoked));
        let mut late = stop.clone();
        tokio::select! {
            () = supervisor.run(forwarder, &mut stop) => {}
            () = async { supervisor::stopped(&mut late).await; sleep(STOP_PATIENCE * 2).await } => {
                log::stop_failed(&"the forwarder did not end in time and is killed");
            }
        }

        alive.abort();
        announcing.abort();
        watching.abort();
        cleaning.abort();
        purging.abort();
        ending.abort();
        posting.iter().for_each(JoinHandle::abort);
        supervisor.hearing.sessions.finish(STOP_PATIENCE).await;
        let leave = async {
            store.alive(UnixSeconds::now()).await?;
            store.withdraw_entrance().await
        };
        if gateway.store_state.away_since().is_none()
            && gateway.store_state.end().is_none()
            && let Ok(Err(error)) = timeout(STOP_PATIENCE, leave).await
        {
            log::alive_not_written(&error);
        }
        let gone = supervisor.hearing.departures.lock().take_all();
        let (nothing, revoked) = (HashMap::new(), gateway.revoked.waiting());
        let forgotten = connections::forget(store, &nothing, &gone, revoked);
        if timeout(STOP_PATIENCE, forgotten).await.is_err() {
            log::stop_failed(&"not all connection-tracking entries are deleted");
        }
        supervisor.network.lower().await;
    }
}

/// Checks the host, giving the forwarder of a killed predecessor a moment to be gone.
async fn preflight(settings: &HostSettings) -> Result<(), HostError> {
    let began = Instant::now();
    loop {
        match host::preflight(settings).await {
            Err(HostError::InterfaceExists(_) | HostError::PortTaken(_))
                if Instant::now().since(began) < PREDECESSOR_PATIENCE =>
            {
                sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

fn host_settings(settings: &Settings, networks: TunnelPool) -> HostSettings {
    let tcp = |port| ServedPort { protocol: Protocol::Tcp, port };
    let mut served_ports = settings.serve.clone();
    served_ports.extend(site::ports_in_tunnel(settings, networks).into_iter().map(tcp));
    HostSettings {
        interface: settings.interface.clone(),
        mtu: settings.mtu,
        tunnel_v4: networks.v4(),
        tunnel_v6: networks.v6(),
        routed_v6: settings.routed_v6,
        listen: settings.listen.clone(),
        workers: settings.workers,
        allow_device_to_device: settings.allow_device_to_device,
        allow_private: settings.allow_private.clone(),
        served_ports,
        state_dir: settings.data_dir.clone(),
    }
}

/// Opens the store, writes what waits since the last stop, and closes what a crash left open.
async fn open_store(
    settings: &Settings,
    database: &Database,
    name: &str,
    networks: TunnelPool,
    data_keys: DataKeys,
) -> anyhow::Result<Store> {
    let now = UnixSeconds::now();
    let store = Store::open(database, networks, data_keys).await?;
    let (archive, records) = (DAY * settings.keep_archive, DAY * settings.keep_records);
    let store = store
        .with_device_limit(settings.device_limit)
        .with_times(archive, records)
        .with_polling(settings.database_poll_only);
    let waiting = unwritten::waiting(&settings.data_dir, &store).await?;
    let Start { store, taken_up, closed } = match database {
        Database::Postgres(_) => {
            let identity = gateway_name::identity(&settings.data_dir);
            let identity = identity.context("the gateway's number in the data directory")?;
            let start = store.for_gateway(name, &identity, waiting.as_ref(), now).await?;
            start.store.note_capacity(settings.capacity).await?;
            start
        }
        Database::Sqlite(_) => {
            let taken_up = match &waiting {
                Some(waiting) => store.take_up(waiting).await?,
                None => 0,
            };
            let closed = store.close_open_sessions().await?;
            Start { store, taken_up, closed }
        }
    };
    if waiting.is_some() {
        unwritten::taken_up(&settings.data_dir, taken_up)?;
    }
    if closed > 0 {
        log::open_sessions_closed(closed);
    }
    store.alive(now).await?;
    store.publish_default_rules(now).await?;
    Ok(store)
}

/// The signals that stop the gateway.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

fn stop_signal() -> io::Result<StopSignal> {
    Ok(StopSignal {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    })
}

impl StopSignal {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
