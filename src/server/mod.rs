//! The VPN service: a TUN device with a queue for each worker, sessions, leases.
//!
//! - [`settings`](Settings): what the operator configured, checked first.
//! - `session`: one client, from the opening of its channel to its end; `leases`: who has which address.
//! - `lane`: one worker's TUN queue, and its sessions.
//! - `upstream`: what a client's packets do; runs on the worker of the client's stream.
//! - `downstream`: what the host's packets do; runs on the worker whose queue they came in by.
//! - `mailbox`: packets that cross from one worker to another.
//!
//! There is one service in a process. It is made by [`init`] and undone by [`deinit`].

mod downstream;
mod lane;
mod leases;
mod limits;
mod mailbox;
mod session;
mod settings;
mod upstream;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use std::sync::OnceLock;

pub use settings::{Settings, SettingsError};

use crate::sdk::channel::{Channel, ChannelHandler, Role};
use crate::sdk::config::Config;
use crate::sdk::service::{Service, ServiceHandler, Taken};
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::types::dap_chain_net_srv_t;
use crate::sdk::visible::dap_chain_net_srv_vpn_tun_socket;
use crate::sdk::{NotRunning, Running, channel, command, http, parts, settle, worker};
use host::tun::{Device, DeviceConfig, TunError};
use vpn_core::exchange::{Leases, Terms};
use vpn_core::forward::{Counters, Route, Table, Totals};

use lane::{Lane, LaneHandler};

/// So many released addresses C sees at most: their copies are made on a worker, which has other things to do.
const SHOWN_RELEASED: usize = 4096;

/// How long [`deinit`] waits for the workers to let go of a session or a queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the service did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The SDK's workers do not run.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
    /// The configuration is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The TUN device cannot be made.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A queue could not be put into its worker's loop.
    #[error("worker {0} did not take its TUN queue")]
    Queue(u32),
    /// The service's number is taken.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The service runs already.
    #[error("the VPN service is running already: dap_chain_net_srv_vpn_deinit comes first")]
    AlreadyRunning,
    /// Another thread starts or stops the service, and this one is a worker that it may wait for.
    #[error("the VPN service is being started or stopped by another thread; not waited for on a worker")]
    Busy,
    /// The node has no server.
    #[error(transparent)]
    NoServer(#[from] http::NoServer),
}

/// The running service.
pub(crate) struct Server {
    settings: Settings,
    lanes: Vec<Arc<Lane>>,
    table: Table,
    leases: Mutex<Leases<leases::Owner>>,
    /// What clients are told together with an address.
    terms: Terms,
    counters: Arc<Counters>,
    started: Instant,
    closing: AtomicBool,
    /// A queue of the device has failed: no traffic, no leases.
    tunnel_down: AtomicBool,
    /// What C sees of the sessions is out of date.
    view_is_stale: AtomicBool,
    /// Channels 'S' of clients, leased or not.
    open_channels: Mutex<Vec<Arc<Channel>>>,
    service: OnceLock<Service>,
    sockets: Mutex<Vec<TunSocket>>,
    timers: Mutex<Vec<worker::Timer>>,
    device: Device,
    _running: Running,
}

static SERVER: Mutex<Option<Arc<Server>>> = Mutex::new(None);
/// Serialises [`init`] and [`deinit`], which block.
static CHANGE: Mutex<()> = Mutex::new(());

/// Starts the service.
pub fn init(config: &Config) -> Result<(), InitError> {
    let change = worker::serialise(&CHANGE).ok_or(InitError::Busy)?;
    if SERVER.lock().is_some() {
        return Err(InitError::AlreadyRunning);
    }
    let running = Running::retain()?;
    let settings = Settings::read(config)?;
    let workers = worker::count().min(u32::from(u8::MAX) + 1);
    let (device, queues) = Device::create(&DeviceConfig {
        name: settings.device.clone(),
        queues: workers as usize,
        addr: settings.subnet.gateway(),
        prefix: settings.subnet.prefix,
        mtu: settings.mtu,
        txqlen: None,
        offload: settings.offload,
    })?;
    let counters = Arc::new(Counters::new(workers as usize));
    let lane = |(queue, worker)| Arc::new(Lane::new(worker, queue, Arc::clone(&counters)));
    let lanes: Vec<_> = queues.into_iter().zip(0..).map(lane).collect();
    let terms = Terms {
        subnet: settings.subnet,
        mtu: settings.mtu,
        dns: settings.dns.clone(),
        keep_alive: settings.keep_alive,
        // Clients may send super-packets when the device can pass them on.
        bundles: lanes.first().is_some_and(|lane| lane.queue.has_offload()),
    };
    let server = Arc::new(Server {
        lanes,
        table: Table::new(&settings.subnet, workers as u16),
        leases: Mutex::new(Leases::new(settings.subnet, settings.lease_hold)),
        terms,
        counters,
        started: Instant::now(),
        closing: AtomicBool::new(false),
        tunnel_down: AtomicBool::new(false),
        view_is_stale: AtomicBool::new(false),
        open_channels: Mutex::default(),
        service: OnceLock::new(),
        sockets: Mutex::default(),
        timers: Mutex::default(),
        device,
        settings,
        _running: running,
    });
    match server.open() {
        Ok(()) => {
            warn_without_forwarding();
            log::info!(
                "VPN service ready: {} on {}, MTU {}, {} queues{}",
                server.settings.subnet,
                server.device.name(),
                server.settings.mtu,
                server.lanes.len(),
                if server.terms.bundles { ", offload" } else { "" }
            );
            *SERVER.lock() = Some(server);
            Ok(())
        }
        Err(error) => {
            server.close();
            // As in deinit: the last reference goes without the lock.
            drop(change);
            drop(server);
            Err(error)
        }
    }
}

/// Stops the service; harmless when it does not run.
pub fn deinit() {
    let Some(change) = worker::serialise(&CHANGE) else {
        return log::warn!("{}", InitError::Busy);
    };
    let server = SERVER.lock().take();
    if let Some(server) = &server {
        server.close();
        // A callback that runs at this moment holds it too, and with it the service's number.
        let give_up = Instant::now() + PATIENCE;
        while worker::current().is_none() && Arc::strong_count(server) > 1 && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
        log::info!("VPN service stopped");
    }
    // The last reference may stop the SDK, which waits for the workers, and one of them may wait for this lock.
    drop(change);
    drop(server);
    settle();
}

/// Whether this host forwards is its administrator's to say, and what clients can reach depends on it.
fn warn_without_forwarding() {
    let path = "/proc/sys/net/ipv4/ip_forward";
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
        log::warn!(
            "this host forwards no IPv4: clients reach it alone, neither each other nor what is behind it; expected \
             net.ipv4.ip_forward = 1 (sysctl)"
        );
    }
}

/// Traffic and drops since the start; None when the service does not run.
pub fn totals() -> Option<Totals> {
    SERVER.lock().as_ref().map(|server| server.counters.totals())
}

impl Server {
    fn open(self: &Arc<Self>) -> Result<(), InitError> {
        let handler: Arc<dyn ServiceHandler> = Arc::new(Door(Arc::downgrade(self)));
        let service = Service::register(handler)?;
        if self.service.set(service).is_err() {
            return Err(InitError::AlreadyRunning);
        }
        for lane in &self.lanes {
            let handler = Arc::new(LaneHandler { server: Arc::downgrade(self), lane: Arc::clone(lane) });
            let socket =
                TunSocket::add(lane.queue.as_fd(), lane.worker, handler).ok_or(InitError::Queue(lane.worker))?;
            self.sockets.lock().push(socket);
            let server = Arc::downgrade(self);
            let worker = lane.worker;
            let look = move || server.upgrade().map(|server| server.tick(worker)).is_some();
            self.timers.lock().extend(worker::Timer::start(worker, Duration::from_secs(1), look));
        }
        channel::set_handler(Role::Server, Some(Arc::clone(self) as Arc<dyn ChannelHandler>));
        command::add(c"vpn_stat", parts::VPN_STAT, c"VPN statistics", c"vpn_stat -net <net_name> [-full]\n");
        http::register(limits::answer)?;
        Ok(())
    }

    fn close(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Release);
        http::unregister();
        command::remove(c"vpn_stat");
        channel::set_handler(Role::Server, None);
        let timers = std::mem::take(&mut *self.timers.lock());
        drop(timers);
        self.close_streams();
        self.hide();
        // Not under the lock: a worker may need it before it lets go of its queue.
        let sockets = std::mem::take(&mut *self.sockets.lock());
        for socket in sockets {
            if !socket.remove(PATIENCE) {
                log::debug!("the TUN queue of worker {} goes when its worker has time", socket.worker());
            }
        }
    }

    /// Ends every client's stream and waits until they are gone, if this thread can wait.
    fn close_streams(&self) {
        let channels: Vec<_> = self.open_channels.lock().clone();
        for channel in channels {
            let Some(worker) = channel.worker() else { continue };
            worker::exec(worker, move || channel.close());
        }
        let give_up = Instant::now() + PATIENCE;
        while worker::current().is_none() && !self.open_channels.lock().is_empty() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Once a second on each worker.
    fn tick(&self, worker: u32) {
        let channels = self.open_channels.lock().clone();
        for channel in channels.iter().filter(|channel| channel.worker() == Some(worker)) {
            self.look_after(channel);
        }
        if worker == 0 && self.view_is_stale.swap(false, Ordering::AcqRel) {
            self.show();
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Time since the start, in whole milliseconds: that is how exactly a session knows when its client was heard.
    fn now(&self) -> Duration {
        Duration::from_millis(self.started.elapsed().as_millis() as u64)
    }

    fn service_raw(&self) -> *mut dap_chain_net_srv_t {
        self.service.get().map_or(std::ptr::null_mut(), Service::raw)
    }

    fn tun_visible(&self, worker: Option<u32>) -> *mut dap_chain_net_srv_vpn_tun_socket {
        let sockets = self.sockets.lock();
        let socket = worker.and_then(|worker| sockets.iter().find(|socket| socket.worker() == worker));
        socket.map_or(std::ptr::null_mut(), TunSocket::visible)
    }

    fn adopt(&self, channel: &Arc<Channel>) -> Option<Route> {
        self.lanes.get(channel.worker()? as usize)?.adopt(channel)
    }

    fn disown(&self, route: Route, channel: &Arc<Channel>) {
        if let Some(lane) = self.lanes.get(usize::from(route.worker)) {
            lane.disown(route, channel);
        }
    }

    fn leased(&self) -> u32 {
        self.leases.lock().pool().leased()
    }

    /// Takes C's lists back on worker 0, where alone C may look at them.
    fn hide(self: &Arc<Self>) {
        let (done, hidden) = crossbeam::channel::bounded(1);
        let server = Arc::clone(self);
        let accepted = worker::exec(0, move || {
            if let Some(service) = server.service.get() {
                service.publish_snapshot(&[], std::iter::empty());
            }
            drop(server);
            // Nobody waits any more when this comes too late.
            let _ = done.send(());
        });
        if accepted && worker::current().is_none() && hidden.recv_timeout(PATIENCE).is_err() {
            log::debug!("the service's lists are taken back when worker 0 has time");
        }
    }

    /// Shows C the sessions with a lease and the released addresses, on worker 0.
    fn show(&self) {
        let Some(service) = self.service.get() else { return };
        let channels = self.open_channels.lock().clone();
        let sessions: Vec<_> = channels.into_iter().filter_map(session::shown).collect();
        let released: Vec<_> = self.leases.lock().pool().released().take(SHOWN_RELEASED).collect();
        service.publish_snapshot(&sessions, released.into_iter());
    }
}

/// The service's callbacks, which do not keep the server alive.
struct Door(Weak<Server>);

impl ServiceHandler for Door {
    fn requested(&self, usage_id: u32) -> i32 {
        self.0.upgrade().map_or(-1, |server| server.requested(usage_id))
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        self.0.upgrade().map_or(-1, |server| server.accepted(channel, usage_id))
    }

    fn refused(&self, usage_id: u32, code: u32) {
        if let Some(server) = self.0.upgrade() {
            server.refused(usage_id, code);
        }
    }
}
