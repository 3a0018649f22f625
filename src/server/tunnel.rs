//! The service's device: made, watched, and made again when the host has taken it away.
//!
//! The administrator, or a tool that clears links, may delete the device, move it to another network namespace, or take its
//! address or its route away. The service makes it again with the same address, MTU and queues, and the same name if that
//! is free; sessions and their leases stay meanwhile, so that connections inside the tunnel survive. Until then, and
//! while the device is set down, which is left to whoever has done it, no client gets an address and a check is refused.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::worker_datapath::QueueHandler;
use super::{InitError, STOP_TIMEOUT, Server, Settings};
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::{NOTICE, worker};
use host::threads;
use host::tun::{Device, DeviceConfig, DeviceState, Queue, TunError};

/// For how long the device is tried to be made again before the clients are told that it is down. A client with the
/// smallest usual keep-alive has then asked twice.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two tries, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After that a service that has given up, in a node that goes on, tries again.
const LATER: Duration = Duration::from_secs(10);

/// The device, and how it is.
pub(super) struct Tunnel {
    /// `None` once the service is closed. Callbacks that are still running hold the server, but not the device.
    device: Mutex<Option<Device>>,
    /// The device is gone.
    is_gone: AtomicBool,
    /// The device was set down.
    is_down: AtomicBool,
    /// The next tick does not look at the device.
    skips_look: AtomicBool,
    /// A thread makes the device again.
    is_being_made: AtomicBool,
    /// Why the device cannot be made again, and when that was last tried.
    given_up: Mutex<Option<(String, Instant)>>,
    /// The sockets of devices that are gone: C may still read what they show.
    retired: Mutex<Vec<Arc<TunSocket>>>,
}

/// Why the device cannot be made again.
#[derive(Debug, thiserror::Error)]
enum RemakeError {
    #[error(transparent)]
    Tun(#[from] TunError),
    #[error("worker {0} does not release the queue of the old device")]
    Busy(u32),
    #[error("worker {worker} cannot take the new device's queue: {error}")]
    Queue { worker: u32, error: std::io::Error },
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("the service stops")]
    Closing,
}

impl Tunnel {
    /// Creates the device, with a queue for each worker.
    pub(super) fn create(settings: &Settings, workers: u32) -> Result<(Tunnel, Vec<Queue>), TunError> {
        let (device, queues) = Device::create(&config(settings, workers, settings.device.clone()))?;
        let tunnel = Tunnel {
            device: Mutex::new(Some(device)),
            is_gone: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            skips_look: AtomicBool::new(false),
            is_being_made: AtomicBool::new(false),
            given_up: Mutex::default(),
            retired: Mutex::default(),
        };
        Ok((tunnel, queues))
    }

    /// The name of the device, empty once the service is closed.
    pub(super) fn name(&self) -> String {
        self.device.lock().as_ref().map(Device::name).unwrap_or_default()
    }

    /// Whether the device carries nothing: it is gone, or down.
    pub(super) fn is_out(&self) -> bool {
        self.is_gone.load(Ordering::Acquire) || self.is_down.load(Ordering::Acquire)
    }

    /// Says why the device carries nothing; `None` while it is up.
    pub(super) fn outage(&self) -> Option<String> {
        let name = self.name();
        match (self.is_gone.load(Ordering::Acquire), self.failure()) {
            (true, Some(why)) => Some(format!("device {name} is gone and cannot be made again: {why}")),
            (true, None) => Some(format!("device {name} is gone, it is being made again")),
            (false, _) if self.is_down.load(Ordering::Acquire) => Some(format!("device {name} is down")),
            (false, _) => None,
        }
    }

    /// Returns why the device cannot be made again, once the service has given up.
    pub(super) fn failure(&self) -> Option<String> {
        self.given_up.lock().as_ref().map(|(why, _)| why.clone())
    }

    /// Removes the device. Called once the service is closing.
    pub(super) fn close(&self) {
        let device = self.device.lock().take();
        drop(device);
    }
}

fn config(settings: &Settings, workers: u32, name: Option<String>) -> DeviceConfig {
    DeviceConfig {
        name,
        queues: workers as usize,
        addr: settings.subnet.gateway(),
        prefix: settings.subnet.prefix,
        mtu: settings.device_mtu,
        txqlen: None,
        offload: settings.offload,
    }
}

impl Server {
    /// Looks how the device is, on worker 0, at every second tick: the kernel reports a deletion by itself.
    pub(super) fn check_device(self: &Arc<Self>) {
        let tunnel = &self.tunnel;
        if tunnel.skips_look.fetch_xor(true, Ordering::Relaxed) {
            return;
        }
        if tunnel.is_gone.load(Ordering::Acquire) {
            let is_due = |tried: &Instant| tried.elapsed() >= LATER;
            if tunnel.given_up.lock().as_ref().is_some_and(|(_, tried)| is_due(tried)) {
                self.make_device_again();
            }
            return;
        }
        let state = {
            let device = tunnel.device.lock();
            let Some(device) = device.as_ref() else { return };
            match device.state() {
                Ok(DeviceState::NoAddress | DeviceState::NoRoute) => {
                    restore(device);
                    DeviceState::Up
                }
                Ok(state) => state,
                Err(error) => return log::debug!("cannot read the state of the VPN service's device: {error}"),
            }
        };
        let (is_down, name) = (state == DeviceState::Down, tunnel.name());
        match (state, tunnel.is_down.swap(is_down, Ordering::AcqRel)) {
            (DeviceState::Gone, _) => self.device_lost(),
            (DeviceState::Down, false) => {
                log::error!(
                    "the VPN service's device {name} was set down: it carries nothing, and no client gets an address; \
                     expected up (ip link set {name} up)"
                );
            }
            (DeviceState::Up, true) => log::info!("the VPN service's device {name} is up again"),
            _ => {}
        }
    }

    /// Makes the device again: it is gone, or one of its queues has failed. Any thread.
    pub(super) fn device_lost(self: &Arc<Self>) {
        if self.is_closing() || self.tunnel.is_gone.swap(true, Ordering::AcqRel) {
            return;
        }
        log::error!("the VPN service's device {} is gone, the service makes it again", self.tunnel.name());
        self.make_device_again();
    }

    /// Starts the thread that makes the device again, unless it runs. A worker must not wait for the other workers.
    fn make_device_again(self: &Arc<Self>) {
        if self.tunnel.is_being_made.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = Arc::clone(self);
        if let Err(error) = threads::spawn("vpn-device", move || server.try_until_made()) {
            self.give_device_up(format!("no thread can be started for it: {error}"));
            self.tunnel.is_being_made.store(false, Ordering::Release);
        }
    }

    fn try_until_made(self: &Arc<Self>) {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        let patience = if self.tunnel.failure().is_some() { Duration::ZERO } else { PATIENCE };
        loop {
            match self.make_device() {
                Ok(name) => {
                    self.nat.look(&name);
                    *self.tunnel.given_up.lock() = None;
                    self.tunnel.is_down.store(false, Ordering::Release);
                    self.tunnel.is_gone.store(false, Ordering::Release);
                    let after = began.elapsed().as_millis();
                    log::info!(target: NOTICE, "device up again: {name}, made after {after} ms, sessions go on");
                    break;
                }
                Err(RemakeError::Closing) => break,
                Err(error) if began.elapsed() >= patience => {
                    self.give_device_up(error.to_string());
                    break;
                }
                Err(error) => log::debug!("the VPN service's device cannot be made again yet: {error}"),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.tunnel.is_being_made.store(false, Ordering::Release);
    }

    /// Tells the clients that the device is down, the first time, and remembers why.
    fn give_device_up(self: &Arc<Self>, why: String) {
        let was_known = self.tunnel.given_up.lock().replace((why.clone(), Instant::now())).is_some();
        if !was_known {
            log::error!(
                "the VPN service's device {} cannot be made again within {} s: {why}; the service refuses clients",
                self.tunnel.name(),
                PATIENCE.as_secs()
            );
            self.tell_tunnel_down();
        }
    }

    /// Makes the device anew, and gives each worker its queue in place of the old one. Returns the device's name.
    fn make_device(self: &Arc<Self>) -> Result<String, RemakeError> {
        let old = {
            let device = self.tunnel.device.lock();
            let Some(device) = device.as_ref() else { return Err(RemakeError::Closing) };
            // It is still there if a queue alone has failed.
            device.remove();
            device.name()
        };
        let workers = self.datapaths.len() as u32;
        let (device, queues) = match Device::create(&config(&self.settings(), workers, Some(old))) {
            Err(error) if error.errno() == libc::EEXIST => Device::create(&config(&self.settings(), workers, None))?,
            result => result?,
        };
        for (datapath, queue) in self.datapaths.iter().zip(queues) {
            let worker = datapath.worker;
            let socket = self.sockets.lock().iter().find(|socket| socket.worker() == worker).cloned();
            if socket.is_some_and(|socket| !socket.remove(STOP_TIMEOUT)) {
                return Err(RemakeError::Busy(worker));
            }
            datapath.queue.replace(queue).map_err(|error| RemakeError::Queue { worker, error })?;
            let handler = Arc::new(QueueHandler { server: Arc::downgrade(self), datapath: Arc::clone(datapath) });
            let socket = TunSocket::add(datapath.queue.as_fd(), worker, handler).ok_or(InitError::Queue(worker))?;
            self.take_socket(Arc::new(socket))?;
        }
        let name = device.name();
        {
            let mut current = self.tunnel.device.lock();
            if current.is_none() {
                return Err(RemakeError::Closing);
            }
            // The old one is gone; its drop finds no link of its own.
            *current = Some(device);
        }
        self.show_sockets();
        Ok(name)
    }

    /// Puts a worker's new socket in the place of the old one. A service that is closing removes it at once, because it
    /// may have removed all others already.
    fn take_socket(&self, socket: Arc<TunSocket>) -> Result<(), RemakeError> {
        let mut sockets = self.sockets.lock();
        if self.is_closing() {
            drop(sockets);
            socket.remove(STOP_TIMEOUT);
            self.tunnel.retired.lock().push(socket);
            return Err(RemakeError::Closing);
        }
        match sockets.iter_mut().find(|old| old.worker() == socket.worker()) {
            Some(place) => {
                let old = std::mem::replace(place, socket);
                self.tunnel.retired.lock().push(old);
            }
            None => sockets.push(socket),
        }
        Ok(())
    }

    /// Shows C the new sockets.
    fn show_sockets(self: &Arc<Self>) {
        let channels = self.channels();
        for channel in channels {
            let Some(owner) = channel.worker() else { continue };
            let server = Arc::clone(self);
            worker::exec(owner, move || channel.show_service(server.service_raw(), server.tun_visible(Some(owner))));
        }
        self.c_snapshot_is_stale.store(true, Ordering::Release);
    }
}

/// Gives the device back what was taken from it.
fn restore(device: &Device) {
    let name = device.name();
    match device.restore() {
        Ok(()) => log::warn!("the VPN service's device {name} had lost its address or its route, and has it again"),
        Err(error) => log::error!("the VPN service's device {name} has lost its address or its route: {error}"),
    }
}
