//! From the start of the service to its end: what is made and taken down, in which order.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::billing::{self, Billing, Gate, Rules};
use super::deny::Deny;
use super::figures::Figures;
use super::handlers::WeakHandler;
use super::lease_store::{self, LeaseStore};
use super::monitor::Monitor;
use super::nat::Nat;
use super::tunnel::Tunnel;
use super::worker_datapath::{QueueHandler, WorkerDatapath};
use super::{InitError, SERVER, STOP_TIMEOUT, Server, Settings, SettingsError, exit, leases, limits, queue_memory};
use crate::sdk::channel::{self, ChannelHandler, Role};
use crate::sdk::config::Config;
use crate::sdk::service::{Service, ServiceHandler};
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::{NOTICE, Running, command, http, log_more, parts, settle, worker};
use vpn_core::exchange::Leases;
use vpn_core::forward::{Counters, Table};
use vpn_core::rate::Rates;

#[cfg(feature = "sdk")]
const VPN_STAT_USAGE: &CStr = c"vpn_stat [-net <net_name>] [-full] [-json]\n\
    vpn_stat -history [-json | -csv] [-net <net_name>] [-client <first digits of 0x..>] [-since <time>] [-limit <n>]\n\
    vpn_stat -leases [-net <net_name>] [-json]\nvpn_stat -drop <address>\nvpn_stat -url [-renew]\n\
    vpn_stat -reload [-json]\n";
#[cfg(not(feature = "sdk"))]
const VPN_STAT_USAGE: &CStr = c"vpn_stat [-net <net_name>] [-full] [-json]\n\
    vpn_stat -history [-json | -csv] [-net <net_name>] [-client <first digits of 0x..>] [-since <time>] [-limit <n>]\n\
    vpn_stat -leases [-net <net_name>] [-json]\nvpn_stat -drop <address>\nvpn_stat -url [-renew]\n";

/// Serialises [`init`] and [`deinit`], which block.
pub(super) static CHANGE: Mutex<()> = Mutex::new(());

/// Starts the service.
pub(crate) fn init(config: &Config) -> Result<(), InitError> {
    let change = worker::serialise(&CHANGE).ok_or(InitError::Busy)?;
    if SERVER.lock().is_some() {
        return Err(InitError::AlreadyRunning);
    }
    let server = Server::create(config)?;
    let settings = server.settings.load_full();
    log_more(settings.debug_more);
    match server.open(config) {
        Ok(()) => {
            settings.congestion.say();
            settings.rates.say();
            log::info!(
                target: NOTICE,
                "device up: {} with {}/{}, MTU {}, {} queues{}",
                server.tunnel.name(),
                settings.subnet.gateway(),
                settings.subnet.mask(),
                settings.device_mtu,
                server.datapaths.len(),
                if server.terms.load().bundles { ", offload" } else { "" }
            );
            *SERVER.lock() = Some(server);
            Ok(())
        }
        Err(error) => {
            end(server, change);
            Err(error)
        }
    }
}

/// Stops the service; does nothing if it is not running.
pub(crate) fn deinit() {
    let Some(change) = worker::serialise(&CHANGE) else {
        return log::warn!("{}", InitError::Busy);
    };
    let server = SERVER.lock().take();
    match server {
        Some(server) => {
            let name = server.tunnel.name();
            end(server, change);
            log::info!(target: NOTICE, "device removed: {name}, the VPN service has stopped");
        }
        // Not while the SDK settles.
        None => drop(change),
    }
    settle();
}

/// Closes the service, and drops it while `change` is held: an [`init`] on another thread finds nothing of it.
fn end(server: Arc<Server>, change: MutexGuard<'_, ()>) {
    // The drop of the last user stops the SDK, which waits for threads that may be waiting for `change`.
    let running = Running::retain();
    server.close();
    log_more(false);
    // A callback that is running now also holds the server, and with it the service's number.
    let deadline = Instant::now() + STOP_TIMEOUT;
    while worker::current().is_none() && Arc::strong_count(&server) > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(server);
    drop(change);
    drop(running);
}

impl Server {
    /// Creates the device and all that serves it; nothing is in the SDK's hands yet.
    fn create(config: &Config) -> Result<Arc<Server>, InitError> {
        let settings = Settings::read(config)?;
        let rules = Rules::read(config).map_err(SettingsError::from)?;
        rules.fit(&settings)?;
        let running = Running::retain()?;
        let workers = worker::count().min(u32::from(u8::MAX) + 1);
        let (tunnel, queues) = Tunnel::create(&settings, workers)?;
        let nat = Nat::start(settings.nat, settings.subnet, &tunnel.name())?;
        let counters = Arc::new(Counters::new(workers as usize));
        let memory = queue_memory(&settings, workers as usize);
        let datapath = |(queue, worker)| Arc::new(WorkerDatapath::new(worker, queue, Arc::clone(&counters), memory));
        let datapaths: Vec<_> = queues.into_iter().zip(0..).map(datapath).collect();
        // Clients may send super-packets if the device accepts them.
        let terms = settings.terms(datapaths.first().is_some_and(|datapath| datapath.queue.has_offload()));
        let key_tokens = lease_store::key_tokens(settings.store_leases);
        let mut leases = Leases::new(settings.subnet, &settings.leases);
        settings.static_leases.reserve(&mut leases, key_tokens.as_ref());
        let leases = Arc::new(Mutex::new(leases));
        Ok(Arc::new(Server {
            datapaths,
            table: Table::new(&settings.subnet, workers as u16),
            billing: Billing::new(config, rules),
            deny: Deny::start(&settings)?,
            lease_store: LeaseStore::start(&leases, settings.store_leases),
            leases,
            key_tokens,
            address_requests: Mutex::new(Rates::new(leases::ADDRESS_REQUESTS_OF_SOURCE, Duration::from_secs(1))),
            waiting_requests: Mutex::default(),
            terms: ArcSwap::from_pointee(terms),
            generation: AtomicU64::new(0),
            subnet: settings.subnet,
            session_queue: settings.session_queue.into(),
            isolates: settings.client_isolation.into(),
            has_had_rates: (!settings.rates.is_empty()).into(),
            log_sources: Arc::default(),
            counters,
            figures: Figures::new(workers as usize),
            started: Instant::now(),
            ticks: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            closing: AtomicBool::new(false),
            c_snapshot_is_stale: AtomicBool::new(false),
            open_channels: Mutex::default(),
            service: OnceLock::new(),
            sockets: Mutex::default(),
            timers: Mutex::default(),
            tunnel,
            nat,
            monitor: Monitor::new(),
            settings: ArcSwap::from_pointee(settings),
            _running: running,
        }))
    }

    fn open(self: &Arc<Self>, config: &Config) -> Result<(), InitError> {
        let handler: Arc<dyn ServiceHandler> = Arc::new(WeakHandler(Arc::downgrade(self)));
        let service = Service::register(handler)?;
        if self.service.set(service).is_err() {
            return Err(InitError::AlreadyRunning);
        }
        for datapath in &self.datapaths {
            datapath.set_server(Arc::downgrade(self));
            let handler = Arc::new(QueueHandler { server: Arc::downgrade(self), datapath: Arc::clone(datapath) });
            let socket = TunSocket::add(datapath.queue.as_fd(), datapath.worker, handler)
                .ok_or(InitError::Queue(datapath.worker))?;
            self.sockets.lock().push(Arc::new(socket));
            let server = Arc::downgrade(self);
            let worker = datapath.worker;
            let look = move || server.upgrade().map(|server| server.tick(worker)).is_some();
            self.timers.lock().extend(worker::Timer::start(worker, Duration::from_secs(1), look));
            let server = Arc::downgrade(self);
            let go_on = move || {
                let Some(server) = server.upgrade() else { return false };
                server.check_watched(worker);
                server.repeat_requests(worker);
                true
            };
            self.timers.lock().extend(worker::Timer::start(worker, billing::PERIOD, go_on));
        }
        Gate::install(self);
        billing::check_orders(&self.billing, config);
        channel::set_handler(Role::Server, Some(Arc::clone(self) as Arc<dyn ChannelHandler>));
        command::add(c"vpn_stat", parts::VPN_STAT, c"VPN statistics", VPN_STAT_USAGE);
        http::register(limits::answer)?;
        exit::install();
        self.monitor.start(self);
        Ok(())
    }

    fn close(self: &Arc<Self>) {
        self.closing.store(true, Ordering::Release);
        self.monitor.stop();
        http::unregister();
        command::remove(c"vpn_stat");
        channel::set_handler(Role::Server, None);
        let timers = std::mem::take(&mut *self.timers.lock());
        drop(timers);
        self.close_streams();
        self.billing.close();
        self.lease_store.close();
        self.deny.close();
        self.clear_c_snapshot();
        // Without the lock: a worker may need it before it releases its queue.
        let sockets = self.sockets.lock().clone();
        for socket in sockets {
            if !socket.remove(STOP_TIMEOUT) {
                log::debug!("worker {} is busy and releases its TUN queue later", socket.worker());
            }
        }
        // While the device is there: no packet leaves it untranslated.
        self.nat.close();
        self.tunnel.close();
    }

    /// Closes every client's stream. Waits until all are closed, unless the caller is a worker.
    fn close_streams(&self) {
        let channels = self.channels();
        for channel in channels {
            let Some(worker) = channel.worker() else { continue };
            worker::exec(worker, move || channel.close());
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while worker::current().is_none() && !self.open_channels.lock().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
