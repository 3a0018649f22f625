//! The client's TUN device: creation, status, removal. `uplink` and `downlink` handle its packets.
//!
//! There is one device at a time. The C functions can create it without a connection; the host's packets to it are then
//! dropped and counted. When a connection is lost the device stays until `stop`, so that no packet leaves around the
//! tunnel. For the same reason a device that takes another's place is up before the other is removed, and one that
//! cannot be created leaves the other as it was.

mod again;
mod host_links;
mod ipv6;
mod routes;
mod settings;

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::LeaseInfo;
use super::Routed;
use super::downlink::Downlink;
use super::judge::{Own, netlink};
use super::uplink::Uplink;
pub(crate) use super::uplink::UplinkChannel;
use super::watch::Health;
use crate::sdk::channel::Channel;
use crate::sdk::tun_socket::{TunHandler, TunSocket};
use crate::sdk::types::dap_events_socket_t;
use crate::sdk::worker;
use crate::sdk::{NotRunning, Running};
pub(super) use again::suspend;
use again::{connect_anew, put_back};
use host::tun::{Device, DeviceConfig, DeviceState, Queue, TunError};
pub(crate) use host_links::{default_route_device, set_ipv6};
use routes::Plan;
pub(crate) use settings::{MTU, Routes, Settings, TunnelError};
use vpn_core::forward::{Counters, DropCause, Totals};
use vpn_core::lease::Subnet;
use vpn_core::wire::{Record, VnetHeader, WireError};

/// How long [`delete`] waits for the worker to release the descriptor.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// The packets' view of the device, which they reach without a lock.
struct Path {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    uplink: Uplink,
    downlink: Arc<Downlink>,
    /// When this connection got the device.
    since: Instant,
    /// The kernel has reported that the queue has no device any more.
    has_failed: AtomicBool,
}

impl TunHandler for Path {
    fn readable(&self, first: Option<&mut [u8]>) {
        // Downlink packets that are waiting must not wait for an uplink batch.
        self.downlink.flush();
        self.uplink.drain(&self.queue, first);
    }

    fn failed(&self, errno: c_int) {
        log::error!("tunnel device failed: {}", std::io::Error::from_raw_os_error(errno));
        self.has_failed.store(true, Ordering::Release);
    }
}

/// An existing device.
struct Tunnel {
    /// Shared, so that callers use it without the lock. `None` while the device waits for the next connection.
    socket: Option<Arc<TunSocket>>,
    queue: Arc<Queue>,
    /// Shared, like the socket: its functions ask the kernel.
    device: Arc<Device>,
    lease: LeaseInfo,
    /// What its connection routes into it beside the subnet.
    routes: Routes,
    /// The destinations of the host's own routes when the connection was made.
    of_host: Vec<Subnet>,
    /// Whether the host's IPv6 is to be kept from leaving around it.
    keeps_ipv6: bool,
    /// Whether a connection of this library has made it, not C.
    is_clients: bool,
    _running: Running,
}

/// The process's only tunnel: the state that the C functions share.
#[derive(Default)]
struct Slot {
    tunnel: Mutex<Option<Tunnel>>,
    /// The part of the tunnel that packets need.
    path: ArcSwapOption<Path>,
    /// The counters of packets that were dropped before the device exists; the next device continues them.
    early: Mutex<Option<Arc<Counters>>>,
    /// The gateway for devices that are created without one.
    gateway: Mutex<Option<Ipv4Addr>>,
    /// The name of the device that the host has deleted or moved away: the next one gets it, because rules name it.
    lost_name: Mutex<Option<String>>,
    /// Serialises [`create`] and [`delete`], which block.
    change: Mutex<()>,
}

static SLOT: LazyLock<Slot> = LazyLock::new(Slot::default);

/// Sets the gateway for devices that are created without one.
pub(crate) fn set_gateway(gateway: Ipv4Addr) {
    *SLOT.gateway.lock() = Some(gateway);
}

/// Returns the gateway that [`set_gateway`] set.
pub(crate) fn gateway() -> Option<Ipv4Addr> {
    *SLOT.gateway.lock()
}

/// Creates the device, with its address and up. It takes the place of an existing device; one that is the same already
/// is connected anew instead.
pub(crate) fn create(settings: &Settings) -> Result<(), TunnelError> {
    let unfit =
        |addr: Ipv4Addr| addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || addr.is_broadcast();
    if let Some(bad) = [settings.addr, settings.gateway].into_iter().find(|addr| unfit(*addr)) {
        return Err(TunnelError::BadAddress(bad));
    }
    let _change = worker::serialise(&SLOT.change).ok_or(TunnelError::Busy)?;
    let running = Running::retain()?;
    let there = current().map(|device| device.index());
    let plan = routes::plan(&settings.routes, Subnet { network: settings.addr, prefix: settings.prefix }, there, &[])?;
    let mut taken = None;
    let done = match connect_anew(settings, &plan, &mut taken) {
        Ok(false) => replace(settings, plan, there, running),
        Ok(true) => route_anew(settings, plan),
        Err(error) => Err(error),
    };
    if done.is_err()
        && let Some(taken) = taken
    {
        put_back(taken);
    }
    done
}

/// Routes what the settings say into the existing device.
fn route_anew(settings: &Settings, plan: Plan) -> Result<(), TunnelError> {
    let Some(device) = current() else { return Ok(()) };
    let keeps_ipv6 = plan.set(&settings.routes, &device)?;
    plan.say(&settings.routes, &device);
    if let Some(tunnel) = SLOT.tunnel.lock().as_mut() {
        tunnel.routes = settings.routes.clone();
        tunnel.of_host = plan.into_of_host();
        tunnel.keeps_ipv6 = keeps_ipv6;
    }
    Ok(())
}

/// Leaves these addresses of the server to the host's own routes, and no other ones: until the next connection, which has
/// one of them. Does nothing without a device. Blocks: do not call it on a worker.
pub(super) fn leave_out(servers: &[IpAddr]) -> Result<(), TunnelError> {
    let _change = worker::serialise(&SLOT.change).ok_or(TunnelError::Busy)?;
    let of_tunnel = |tunnel: &Tunnel| {
        let routes = Routes { servers: servers.to_vec(), ..tunnel.routes.clone() };
        (tunnel.routes.servers != servers).then(|| (Arc::clone(&tunnel.device), routes, tunnel.of_host.clone()))
    };
    let Some((device, routes, of_host)) = SLOT.tunnel.lock().as_ref().and_then(of_tunnel) else { return Ok(()) };
    let subnet = Subnet { network: device.addr(), prefix: device.prefix() };
    routes::plan(&routes, subnet, Some(device.index()), &of_host)?.set(&routes, &device)?;
    if let Some(tunnel) = SLOT.tunnel.lock().as_mut() {
        tunnel.routes = routes;
    }
    Ok(())
}

/// Creates a device, which takes the place of an existing one.
fn replace(settings: &Settings, plan: Plan, replaced: Option<u32>, running: Running) -> Result<(), TunnelError> {
    refuse_overlap(settings, replaced)?;
    let lost_name = SLOT.lost_name.lock().take().filter(|_| settings.is_clients());
    let config = |name| DeviceConfig {
        name,
        queues: 1,
        addr: settings.addr,
        prefix: settings.prefix,
        mtu: settings.mtu,
        txqlen: None,
        offload: settings.offload,
    };
    let has_name = lost_name.is_some();
    let (device, mut queues) = match Device::create(&config(lost_name)) {
        Err(error) if has_name && error.errno() == libc::EEXIST => Device::create(&config(None))?,
        result => result?,
    };
    let queue = Arc::new(queues.pop().ok_or(TunError::TooManyQueues(0))?);
    let (path, socket) = attach(settings, &plan, &queue)?;
    // Last of what may fail: from here on the old device has no routes.
    let keeps_ipv6 = plan.set(&settings.routes, &device)?;
    plan.say(&settings.routes, &device);
    let lease = LeaseInfo { addr: settings.addr, gateway: settings.gateway, mtu: settings.mtu, device: device.name() };
    let tunnel = Tunnel {
        socket: Some(socket),
        queue,
        device: Arc::new(device),
        lease,
        routes: settings.routes.clone(),
        of_host: plan.into_of_host(),
        keeps_ipv6,
        is_clients: settings.is_clients(),
        _running: running,
    };
    let old = {
        let mut current = SLOT.tunnel.lock();
        SLOT.path.store(Some(path));
        current.replace(tunnel)
    };
    if let Some(old) = old {
        let name = old.lease.device.clone();
        retire(old);
        take_name(&name);
    }
    if let Some(tunnel) = &*SLOT.tunnel.lock() {
        log::info!("tunnel device {} is up, MTU {}", tunnel.lease.device, tunnel.lease.mtu);
    }
    Ok(())
}

/// Gives the device the name of the one before: the host's rules name it.
fn take_name(name: &str) {
    let Some(device) = current().filter(|device| device.name() != name) else { return };
    if let Err(error) = device.rename(name) {
        log::warn!("tunnel device {} cannot take the name {name} of the one before: {error}", device.name());
    }
    if let Some(tunnel) = &mut *SLOT.tunnel.lock() {
        tunnel.lease.device = device.name();
    }
}

/// Returns the device, for calls that ask the kernel: not under the lock.
fn current() -> Option<Arc<Device>> {
    SLOT.tunnel.lock().as_ref().map(|tunnel| Arc::clone(&tunnel.device))
}

/// Connects a queue with the channel in the settings, on the worker in the settings.
fn attach(settings: &Settings, plan: &Plan, queue: &Arc<Queue>) -> Result<(Arc<Path>, Arc<TunSocket>), TunnelError> {
    let worker = settings.worker.unwrap_or(0);
    let counters = SLOT.early.lock().clone().unwrap_or_else(|| Arc::new(Counters::new(1)));
    let path = Arc::new(Path {
        uplink: Uplink::new(
            worker,
            settings.uplink.clone(),
            settings.usage_id,
            settings.bundle,
            settings.mtu,
            Arc::clone(&counters),
        ),
        downlink: Arc::new(Downlink::new(
            Arc::clone(queue),
            worker,
            settings.addr,
            settings.sources(&plan.networks()),
            settings.mtu,
            Arc::clone(&counters),
        )),
        queue: Arc::clone(queue),
        counters,
        since: Instant::now(),
        has_failed: AtomicBool::new(false),
    });
    let handler = Arc::clone(&path) as Arc<dyn TunHandler>;
    let socket = Arc::new(TunSocket::add(path.queue.as_fd(), worker, handler).ok_or(NotRunning)?);
    *SLOT.early.lock() = None;
    Ok((path, socket))
}

/// Refuses a subnet that overlaps a network of this host; the device that is replaced does not count.
fn refuse_overlap(settings: &Settings, replaced: Option<u32>) -> Result<(), TunnelError> {
    let addresses = netlink()?.addresses()?;
    let overlaps = |address: &&host::netlink::Address| {
        Some(address.index) != replaced && address.overlaps(settings.addr, settings.prefix)
    };
    match addresses.iter().find(overlaps) {
        Some(other) => {
            Err(TunnelError::Overlap { subnet: format!("{}/{}", settings.addr, settings.prefix), other: other.addr })
        }
        None => Ok(()),
    }
}

/// Returns the device with its network, unless the host has deleted it or moved it away.
pub(crate) fn own() -> Option<Own> {
    let device = current().filter(|device| !matches!(device.is_up(), Ok(None)))?;
    let network = Subnet { network: device.addr(), prefix: device.prefix() };
    Some(Own { index: device.index(), network })
}

/// Removes the device; does nothing if there is none.
pub(crate) fn delete() {
    let Some(_change) = worker::serialise(&SLOT.change) else { return log::warn!("{}", TunnelError::Busy) };
    remove();
    *SLOT.early.lock() = None;
}

fn remove() {
    let Some(tunnel) = SLOT.tunnel.lock().take() else { return };
    SLOT.path.store(None);
    retire(tunnel);
}

/// Removes a device that is in use no more. Its socket's handler keeps the descriptor open as long as the SDK's event
/// loop uses it.
fn retire(tunnel: Tunnel) {
    if tunnel.socket.is_some_and(|socket| !socket.remove(DELETE_TIMEOUT)) {
        log::debug!("the tunnel's worker is busy and releases the queue later");
    }
    // Not by the drop alone: another thread may be asking for the device's state.
    tunnel.device.remove();
    log::info!("tunnel device {} removed", tunnel.lease.device);
}

/// Returns whether the device is up; `None` if there is no device, or the host has deleted it or moved it away.
pub(crate) fn status() -> Result<Option<bool>, TunError> {
    current().map_or(Ok(None), |device| device.is_up())
}

/// Keeps the host's IPv6 in the device, if the connection wants that: other programs may switch it off and on.
fn keep_ipv6() {
    let of_tunnel = |tunnel: &Tunnel| (Arc::clone(&tunnel.device), tunnel.routes.clone());
    let Some((device, routes)) = SLOT.tunnel.lock().as_ref().filter(|tunnel| tunnel.keeps_ipv6).map(of_tunnel) else {
        return;
    };
    if let Err(error) = ipv6::keep(&routes, &device) {
        host::log_bounded!(Warn, "this host's IPv6 may leave around the tunnel: {error}");
    }
}

/// Returns how the device is, for its connection. Gives it the host's IPv6 back if it has lost that.
pub(super) fn health() -> Health {
    match current().map_or(Ok(DeviceState::Gone), |device| device.state()) {
        Ok(DeviceState::Up) => {
            keep_ipv6();
            Health::Up
        }
        Ok(DeviceState::Down) => Health::Down("the tunnel's device was set down"),
        Ok(DeviceState::NoAddress) => Health::Down("the tunnel's device has lost its address"),
        Ok(DeviceState::NoRoute) => Health::Down("the tunnel's device has lost its route"),
        Ok(DeviceState::Gone) => Health::Gone,
        Err(error) => {
            log::debug!("cannot read the state of the tunnel's device: {error}");
            Health::Up
        }
    }
}

/// Returns whether the kernel has reported that the device is gone.
pub(super) fn has_failed() -> bool {
    path().is_some_and(|path| path.has_failed.load(Ordering::Acquire))
}

/// Returns whether there is a device. Forgets one that the host has deleted.
pub(super) fn exists() -> bool {
    if matches!(status(), Ok(None)) {
        *SLOT.lost_name.lock() = current().map(|device| device.name());
        delete();
    }
    SLOT.tunnel.lock().is_some()
}

/// Returns whether there is a device that a connection of this library has made.
pub(super) fn is_clients() -> bool {
    SLOT.tunnel.lock().as_ref().is_some_and(|tunnel| tunnel.is_clients)
}

/// Returns the device's address, gateway, MTU and name.
pub(crate) fn lease() -> Option<LeaseInfo> {
    let tunnel = SLOT.tunnel.lock();
    // The host may have renamed it.
    tunnel.as_ref().map(|tunnel| LeaseInfo { device: tunnel.device.name(), ..tunnel.lease.clone() })
}

/// Returns traffic and drops since the device was created.
pub(crate) fn totals() -> Totals {
    counters().totals()
}

/// Returns for how long the connection has had the device, and the round trip of its stream if it is known; `None` while
/// the device waits for a connection.
pub(super) fn measured() -> Option<(Duration, Option<Duration>)> {
    path().map(|path| (path.since.elapsed(), path.uplink.round_trip()))
}

/// Returns what is routed into the device beside its subnet; `None` without a device.
pub(super) fn routed() -> Option<Routed> {
    let (device, networks) = {
        let tunnel = SLOT.tunnel.lock();
        tunnel.as_ref().map(|tunnel| (Arc::clone(&tunnel.device), tunnel.routes.networks.clone()))?
    };
    let routed = routes::in_force(device.index(), networks);
    routed.inspect_err(|error| log::warn!("the routes into the tunnel are not known: {error}")).ok()
}

/// Returns the SDK's event socket of the device, or NULL.
pub(crate) fn event_socket() -> *mut dap_events_socket_t {
    SLOT.tunnel
        .lock()
        .as_ref()
        .and_then(|tunnel| tunnel.socket.as_ref())
        .map_or(ptr::null_mut(), |socket| socket.event_socket())
}

fn path() -> Option<Arc<Path>> {
    SLOT.path.load_full()
}

/// Returns the device's counters, or those that the next device will continue.
fn counters() -> Arc<Counters> {
    match path() {
        Some(path) => Arc::clone(&path.counters),
        None => Arc::clone(SLOT.early.lock().get_or_insert_with(|| Arc::new(Counters::new(1)))),
    }
}

/// Writes a packet from the server to the device, for the host. Drops a packet to another address than the leased one:
/// the server must not reach this host's other addresses through the tunnel. Call it on any thread.
pub(crate) fn deliver(packet: &[u8]) {
    match path() {
        Some(path) => path.downlink.deliver(&Record { header: VnetHeader::default(), packet }),
        None => dropped(DropCause::TunWrite),
    }
}

/// Like [`deliver`], for the records of a bundle. Super-packets that the device accepts are written whole.
pub(super) fn deliver_all<'a>(records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
    match path() {
        Some(path) => path.downlink.deliver_all(records),
        None => records.for_each(|_| dropped(DropCause::TunWrite)),
    }
}

/// Counts a dropped packet from the server.
pub(super) fn dropped(cause: DropCause) {
    counters().dropped(0, cause);
}

/// Detaches the channel of an ended connection, on the stream's worker: from now on the host's packets are dropped.
pub(super) fn detach(channel: &Arc<Channel>) {
    if let Some(path) = path() {
        path.uplink.detach(channel);
    }
}

/// The stream to the server takes more, on its worker. Returns false if the device does not use it.
pub(super) fn drained(channel: &Arc<Channel>) -> bool {
    path().is_some_and(|path| path.uplink.drained(channel))
}

/// Gives back the memory that a burst of the host's packets has left, and measures the stream, on the device's worker.
pub(super) fn trim() {
    if let Some(path) = path() {
        path.uplink.trim();
    }
}
