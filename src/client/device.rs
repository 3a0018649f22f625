//! The client's TUN device: creation, status, removal. `uplink` and `downlink` handle its packets.
//!
//! There is one device at a time. The C functions can create it without a connection; the host's packets to it are then
//! dropped and counted. When a connection is lost the device stays until `stop`, so that no packet leaves around the
//! tunnel.

use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::LeaseInfo;
use super::downlink::Downlink;
use super::uplink::Uplink;
pub(crate) use super::uplink::UplinkChannel;
use crate::sdk::channel::Channel;
use crate::sdk::tun_socket::{TunHandler, TunSocket};
use crate::sdk::types::dap_events_socket_t;
use crate::sdk::worker;
use crate::sdk::{NotRunning, Running, STREAM_OVERHEAD};
use host::netlink::{Netlink, NetlinkError};
use host::tun::{Device, DeviceConfig, Queue, TunError};
use vpn_core::exchange::{Offer, guess_prefix};
use vpn_core::forward::{Counters, DropCause, Totals};
use vpn_core::wire::{Record, VnetHeader, WireError};

/// How long [`delete`] waits for the worker to release the descriptor.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// The default size of the largest inner packet, in bytes: with the stream's overhead it fits into an Ethernet frame.
pub(crate) const MTU: u16 = 1500 - STREAM_OVERHEAD;

/// The parameters of the device.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This host's inner address.
    pub addr: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// The prefix length of the subnet that is routed into the device.
    pub prefix: u8,
    /// The largest inner packet, in bytes.
    pub mtu: u16,
    /// The worker that reads the device; `None` for the first one.
    pub worker: Option<u32>,
    /// The channel for the host's packets; with `None` they are dropped and counted.
    pub uplink: Option<UplinkChannel>,
    /// The number of the usage under which packets are sent.
    pub usage_id: u32,
    /// Whether super-packets pass between the device and a server that accepts them.
    pub offload: bool,
    /// The largest bundle that the server accepts, in bytes; 0 for none.
    pub bundle: usize,
}

impl Settings {
    /// Describes a device without a connection. The subnet is the smallest that holds both addresses, at least a /24.
    pub(crate) fn new(addr: Ipv4Addr, gateway: Ipv4Addr) -> Settings {
        Settings {
            addr,
            gateway,
            prefix: guess_prefix(addr, gateway),
            mtu: MTU,
            worker: None,
            uplink: None,
            usage_id: 0,
            // C writes packets to the descriptor of a device that it created, without a header in front.
            offload: false,
            bundle: 0,
        }
    }

    /// Describes the device for a server's offer. The MTU is the smaller of the server's and `mtu`, this host's own.
    pub(crate) fn from_offer(offer: &Offer, mtu: u16) -> Settings {
        Settings {
            prefix: offer.prefix,
            mtu: offer.mtu.map_or(mtu, |theirs| mtu.min(theirs.max(576))),
            bundle: usize::from(offer.bundle),
            ..Settings::new(offer.addr, offer.gateway)
        }
    }
}

/// Why the device cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// No host can have this address.
    #[error("{0} is not a valid host address")]
    BadAddress(Ipv4Addr),
    /// The subnet overlaps a network of this host.
    #[error("{subnet} overlaps this host's own address {other}")]
    Overlap {
        /// The tunnel's address and prefix.
        subnet: String,
        /// The host's address that overlaps it.
        other: Ipv4Addr,
    },
    /// The kernel refused the device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The kernel does not report its addresses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// There is no worker to read the device.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
    /// Another thread is creating or removing the device. The caller is a worker, and that thread may be waiting for
    /// it.
    #[error("another thread is creating or removing the tunnel device; a worker must not wait for it")]
    Busy,
}

/// The packets' view of the device, which they reach without a lock.
struct Path {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    uplink: Uplink,
    downlink: Arc<Downlink>,
}

impl TunHandler for Path {
    fn readable(&self, first: Option<&mut [u8]>) {
        // Downlink packets that are waiting must not wait for an uplink batch.
        self.downlink.flush();
        self.uplink.drain(&self.queue, first);
    }

    fn failed(&self, errno: c_int) {
        log::error!("tunnel device failed: {}", std::io::Error::from_raw_os_error(errno));
    }
}

/// An existing device.
struct Tunnel {
    /// Shared, so that callers use it without the lock. `None` while the device waits for the next connection.
    socket: Option<Arc<TunSocket>>,
    queue: Arc<Queue>,
    device: Device,
    lease: LeaseInfo,
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

/// Creates the device, with its address and up; replaces an existing device. A device that was suspended is resumed, if
/// it has these settings.
pub(crate) fn create(settings: &Settings) -> Result<(), TunnelError> {
    let unfit =
        |addr: Ipv4Addr| addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || addr.is_broadcast();
    if let Some(bad) = [settings.addr, settings.gateway].into_iter().find(|addr| unfit(*addr)) {
        return Err(TunnelError::BadAddress(bad));
    }
    let _change = worker::serialise(&SLOT.change).ok_or(TunnelError::Busy)?;
    if resume(settings)? {
        return Ok(());
    }
    remove();
    let running = Running::retain()?;
    refuse_overlap(settings)?;
    let (device, mut queues) = Device::create(&DeviceConfig {
        name: None,
        queues: 1,
        addr: settings.addr,
        prefix: settings.prefix,
        mtu: settings.mtu,
        txqlen: None,
        offload: settings.offload,
    })?;
    let queue = Arc::new(queues.pop().ok_or(TunError::TooManyQueues(0))?);
    let (path, socket) = attach(settings, &queue)?;
    let lease = LeaseInfo {
        addr: settings.addr,
        gateway: settings.gateway,
        mtu: settings.mtu,
        device: device.name().to_owned(),
    };
    log::info!("tunnel device {} is up, MTU {}", lease.device, lease.mtu);
    let mut current = SLOT.tunnel.lock();
    SLOT.path.store(Some(path));
    *current = Some(Tunnel { socket: Some(socket), queue, device, lease, _running: running });
    Ok(())
}

/// Connects a queue with the channel in the settings, on the worker in the settings.
fn attach(settings: &Settings, queue: &Arc<Queue>) -> Result<(Arc<Path>, Arc<TunSocket>), TunnelError> {
    let worker = settings.worker.unwrap_or(0);
    let counters = SLOT.early.lock().take().unwrap_or_else(|| Arc::new(Counters::new(1)));
    let path = Arc::new(Path {
        uplink: Uplink::new(worker, settings.uplink.clone(), settings.usage_id, settings.bundle, Arc::clone(&counters)),
        downlink: Arc::new(Downlink::new(Arc::clone(queue), worker, settings.addr, Arc::clone(&counters))),
        queue: Arc::clone(queue),
        counters,
    });
    let handler = Arc::clone(&path) as Arc<dyn TunHandler>;
    let socket = Arc::new(TunSocket::add(path.queue.as_fd(), worker, handler).ok_or(NotRunning)?);
    path.uplink.set_device(&socket);
    Ok((path, socket))
}

/// Takes the device out of its worker's loop, until [`create`] gives it to another connection. The host's packets wait
/// in the device's queue. Blocks: do not call it on a worker.
pub(super) fn suspend() {
    let Some(_change) = worker::serialise(&SLOT.change) else { return log::warn!("{}", TunnelError::Busy) };
    let socket = SLOT.tunnel.lock().as_mut().and_then(|tunnel| tunnel.socket.take());
    if let Some(path) = SLOT.path.swap(None) {
        *SLOT.early.lock() = Some(Arc::clone(&path.counters));
    }
    if let Some(socket) = socket
        && !socket.remove(DELETE_TIMEOUT)
    {
        log::debug!("the tunnel's worker is busy and releases the queue later");
    }
}

/// Resumes a suspended device with these settings; returns false if there is none.
fn resume(settings: &Settings) -> Result<bool, TunnelError> {
    let fits = |tunnel: &&Tunnel| {
        let (lease, device) = (&tunnel.lease, &tunnel.device);
        tunnel.socket.is_none()
            && (lease.addr, lease.gateway, lease.mtu) == (settings.addr, settings.gateway, settings.mtu)
            && (device.prefix(), tunnel.queue.has_offload()) == (settings.prefix, settings.offload)
    };
    let queue = SLOT.tunnel.lock().as_ref().filter(fits).map(|tunnel| Arc::clone(&tunnel.queue));
    let Some(queue) = queue else { return Ok(false) };
    let (path, socket) = attach(settings, &queue)?;
    let mut current = SLOT.tunnel.lock();
    if let Some(tunnel) = current.as_mut() {
        tunnel.socket = Some(socket);
        SLOT.path.store(Some(path));
    }
    Ok(true)
}

fn refuse_overlap(settings: &Settings) -> Result<(), TunnelError> {
    let addresses = Netlink::open()?.addresses()?;
    match addresses.iter().find(|address| address.overlaps(settings.addr, settings.prefix)) {
        Some(other) => {
            Err(TunnelError::Overlap { subnet: format!("{}/{}", settings.addr, settings.prefix), other: other.addr })
        }
        None => Ok(()),
    }
}

/// Removes the device; does nothing if there is none.
pub(crate) fn delete() {
    let Some(_change) = worker::serialise(&SLOT.change) else { return log::warn!("{}", TunnelError::Busy) };
    remove();
    *SLOT.early.lock() = None;
}

fn remove() {
    let Some(tunnel) = SLOT.tunnel.lock().take() else { return };
    // The socket's handler keeps the descriptor open as long as the SDK's event loop uses it.
    SLOT.path.store(None);
    if tunnel.socket.is_some_and(|socket| !socket.remove(DELETE_TIMEOUT)) {
        log::debug!("the tunnel's worker is busy and releases the queue later");
    }
    log::info!("tunnel device {} removed", tunnel.lease.device);
}

/// Returns whether the device is up; `None` if there is no device.
pub(crate) fn status() -> Result<Option<bool>, TunError> {
    SLOT.tunnel.lock().as_ref().map(|tunnel| tunnel.device.is_up()).transpose()
}

/// Returns whether there is a device.
pub(super) fn exists() -> bool {
    SLOT.tunnel.lock().is_some()
}

/// Returns the device's address, gateway, MTU and name.
pub(crate) fn lease() -> Option<LeaseInfo> {
    SLOT.tunnel.lock().as_ref().map(|tunnel| tunnel.lease.clone())
}

/// Returns traffic and drops since the device was created.
pub(crate) fn totals() -> Totals {
    counters().totals()
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
    if path().is_some_and(|path| path.uplink.detach(channel)) {
        set_readable(true);
    }
}

/// Stops or resumes reading the device, on its worker.
pub(super) fn set_readable(readable: bool) {
    let socket = SLOT.tunnel.lock().as_ref().and_then(|tunnel| tunnel.socket.clone());
    if let Some(socket) = socket {
        socket.set_readable(readable);
    }
}

/// Returns the device of the host's default route.
pub(crate) fn default_route_device() -> Option<String> {
    let mut netlink = Netlink::open().ok()?;
    let routes = netlink.routes().ok()?;
    let default = routes.iter().filter(|route| route.prefix == 0).min_by_key(|route| route.metric.unwrap_or(0))?;
    Some(netlink.link(default.index?).ok()?.name)
}

/// Enables or disables IPv6 on a device; logs a failure.
pub(crate) fn set_ipv6(device: &str, on: bool) {
    let fits =
        (1..=15).contains(&device.len()) && !device.contains(['/', '.']) && !device.contains(char::is_whitespace);
    if !fits {
        log::warn!("\"{device}\" is not a valid name for a network device");
        return;
    }
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if let Err(error) = std::fs::write(&path, if on { "0" } else { "1" }) {
        log::warn!("cannot {} IPv6 on {device}: {path}: {error}", if on { "enable" } else { "disable" });
    }
}

#[cfg(test)]
mod tests;
