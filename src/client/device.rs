//! The client's TUN device: made, looked at, removed. What its packets do is in `uplink` and `downlink`.
//!
//! One device at a time. It can exist without a connection, as the C functions make it; then what the host sends into
//! it is dropped and counted. When a connection is lost the device stays until `stop`, so that nothing leaks past it.

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
pub use super::uplink::UplinkChannel;
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

/// How long [`delete`] waits for the worker to let go of the descriptor.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest inner packet by default, bytes: what the stream adds to it fits into an Ethernet frame.
pub const MTU: u16 = 1500 - STREAM_OVERHEAD;

/// What the device is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's inner address.
    pub addr: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// Length of the subnet's prefix, which is routed into the device.
    pub prefix: u8,
    /// Largest inner packet, bytes.
    pub mtu: u16,
    /// The worker that reads the device; None: the first one.
    pub worker: Option<u32>,
    /// Where the host's packets go; None: nowhere, they are dropped and counted.
    pub uplink: Option<UplinkChannel>,
    /// Number of the usage that packets are sent under.
    pub usage_id: u32,
    /// Super-packets between the device and a server that takes them.
    pub offload: bool,
    /// Largest bundle that the server takes, bytes; 0: none.
    pub bundle: usize,
}

impl Settings {
    /// A device of its own, with no connection behind it. The subnet is the smallest that holds both addresses, at
    /// least a /24.
    pub fn new(addr: Ipv4Addr, gateway: Ipv4Addr) -> Settings {
        Settings {
            addr,
            gateway,
            prefix: guess_prefix(addr, gateway),
            mtu: MTU,
            worker: None,
            uplink: None,
            usage_id: 0,
            // C writes packets to the descriptor of a device that it made, and knows of no header in front of them.
            offload: false,
            bundle: 0,
        }
    }

    /// What a server offers. The MTU is the smaller of the server's and `mtu`, this host's own.
    pub fn from_offer(offer: &Offer, mtu: u16) -> Settings {
        Settings {
            prefix: offer.prefix,
            mtu: offer.mtu.map_or(mtu, |theirs| mtu.min(theirs.max(576))),
            bundle: usize::from(offer.bundle),
            ..Settings::new(offer.addr, offer.gateway)
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The address cannot be a host's.
    #[error("{0} is no address that a host can have")]
    BadAddress(Ipv4Addr),
    /// The address is in use on this host.
    #[error("{subnet} overlaps this host's own address {other}")]
    Overlap {
        /// The tunnel's address and prefix.
        subnet: String,
        /// The address in the way.
        other: Ipv4Addr,
    },
    /// The kernel refused.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The kernel does not tell.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No worker reads it.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
    /// Another thread makes or removes it, and this one is a worker that it may wait for.
    #[error("the tunnel device is being made or removed by another thread; not waited for on a worker")]
    Busy,
}

/// The device as its packets see it. They reach it without a lock.
struct Path {
    queue: Arc<Queue>,
    worker: u32,
    counters: Arc<Counters>,
    uplink: Uplink,
    downlink: Arc<Downlink>,
}

impl TunHandler for Path {
    fn readable(&self, first: Option<&mut [u8]>) {
        // What waits for the host does not wait for a batch of the other direction.
        self.downlink.flush();
        self.uplink.drain(&self.queue, first);
    }

    fn failed(&self, errno: c_int) {
        log::error!("tunnel device failed: {}", std::io::Error::from_raw_os_error(errno));
    }
}

/// A device that is there.
struct Tunnel {
    /// Shared, so that it is used without the lock.
    socket: Arc<TunSocket>,
    device: Device,
    lease: LeaseInfo,
    _running: Running,
}

/// The process's one tunnel, as the C functions need it.
#[derive(Default)]
struct Slot {
    tunnel: Mutex<Option<Tunnel>>,
    /// The tunnel's part that packets need.
    path: ArcSwapOption<Path>,
    /// What was dropped before there is a device: its statistics begin with that.
    early: Mutex<Option<Arc<Counters>>>,
    /// For devices that are made without one.
    gateway: Mutex<Option<Ipv4Addr>>,
    /// Serialises [`create`] and [`delete`], which block.
    change: Mutex<()>,
}

static SLOT: LazyLock<Slot> = LazyLock::new(Slot::default);

/// The gateway for devices that are made without one.
pub fn set_gateway(gateway: Ipv4Addr) {
    *SLOT.gateway.lock() = Some(gateway);
}

/// The gateway that was set.
pub fn gateway() -> Option<Ipv4Addr> {
    *SLOT.gateway.lock()
}

/// Makes the device, up and with its address; one that exists is replaced.
pub fn create(settings: &Settings) -> Result<(), TunnelError> {
    let unfit =
        |addr: Ipv4Addr| addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || addr.is_broadcast();
    if let Some(bad) = [settings.addr, settings.gateway].into_iter().find(|addr| unfit(*addr)) {
        return Err(TunnelError::BadAddress(bad));
    }
    let _change = worker::serialise(&SLOT.change).ok_or(TunnelError::Busy)?;
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
    let queue = queues.pop().ok_or(TunError::TooManyQueues(0))?;
    let worker = settings.worker.unwrap_or(0);
    let counters = SLOT.early.lock().take().unwrap_or_else(|| Arc::new(Counters::new(1)));
    let queue = Arc::new(queue);
    let path = Arc::new(Path {
        uplink: Uplink::new(worker, settings.uplink.clone(), settings.usage_id, settings.bundle, Arc::clone(&counters)),
        downlink: Arc::new(Downlink::new(Arc::clone(&queue), worker, settings.addr, Arc::clone(&counters))),
        queue,
        worker,
        counters,
    });
    let handler = Arc::clone(&path) as Arc<dyn TunHandler>;
    let socket = Arc::new(TunSocket::add(path.queue.as_fd(), worker, handler).ok_or(NotRunning)?);
    path.uplink.set_device(&socket);
    let lease = LeaseInfo {
        addr: settings.addr,
        gateway: settings.gateway,
        mtu: settings.mtu,
        device: device.name().to_owned(),
    };
    log::info!("tunnel device {} is up, MTU {}", lease.device, lease.mtu);
    let mut current = SLOT.tunnel.lock();
    SLOT.path.store(Some(path));
    *current = Some(Tunnel { socket, device, lease, _running: running });
    Ok(())
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

/// Takes the device down; harmless when there is none.
pub fn delete() {
    let Some(_change) = worker::serialise(&SLOT.change) else { return log::warn!("{}", TunnelError::Busy) };
    remove();
    *SLOT.early.lock() = None;
}

fn remove() {
    let Some(tunnel) = SLOT.tunnel.lock().take() else { return };
    // The socket's handler keeps the descriptor open as long as the SDK's loop has it.
    SLOT.path.store(None);
    if !tunnel.socket.remove(PATIENCE) {
        log::debug!("the tunnel's queue goes when its worker has time");
    }
    log::info!("tunnel device {} removed", tunnel.lease.device);
}

/// Some(up) while there is a device.
pub fn status() -> Result<Option<bool>, TunError> {
    SLOT.tunnel.lock().as_ref().map(|tunnel| tunnel.device.is_up()).transpose()
}

/// Whether there is a device.
pub(super) fn exists() -> bool {
    SLOT.tunnel.lock().is_some()
}

/// The device's address and the like.
pub fn lease() -> Option<LeaseInfo> {
    SLOT.tunnel.lock().as_ref().map(|tunnel| tunnel.lease.clone())
}

/// Traffic and drops since the device was made.
pub fn totals() -> Totals {
    counters().totals()
}

/// The SDK's event socket of the device, or NULL.
pub fn event_socket() -> *mut dap_events_socket_t {
    SLOT.tunnel.lock().as_ref().map_or(ptr::null_mut(), |tunnel| tunnel.socket.event_socket())
}

fn path() -> Option<Arc<Path>> {
    SLOT.path.load_full()
}

/// What is counted in: the device's, or what the next device begins with.
fn counters() -> Arc<Counters> {
    match path() {
        Some(path) => Arc::clone(&path.counters),
        None => Arc::clone(SLOT.early.lock().get_or_insert_with(|| Arc::new(Counters::new(1)))),
    }
}

/// Writes a packet from the server to the device, for the host. Only what goes to the leased address: the server must
/// not reach this host's other addresses through the tunnel. Any thread.
pub fn deliver(packet: &[u8]) {
    match path() {
        Some(path) => path.downlink.deliver(&Record { header: VnetHeader::default(), packet }),
        None => dropped(DropCause::TunWrite),
    }
}

/// As [`deliver`], for the records of a bundle. What the device takes whole is written whole.
pub(super) fn deliver_all<'a>(records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
    match path() {
        Some(path) => path.downlink.deliver_all(records),
        None => records.for_each(|_| dropped(DropCause::TunWrite)),
    }
}

/// Counts a packet from the server that was dropped.
pub(super) fn dropped(cause: DropCause) {
    counters().dropped(0, cause);
}

/// The connection of this channel is gone: packets go nowhere from now on. On the stream's worker.
pub(super) fn detach(channel: &Arc<Channel>) {
    if path().is_some_and(|path| path.uplink.detach(channel)) {
        set_readable(true);
    }
}

/// Stops or resumes reading the device, on its worker.
pub(super) fn set_readable(readable: bool) {
    let socket = SLOT.tunnel.lock().as_ref().map(|tunnel| Arc::clone(&tunnel.socket));
    if let Some(socket) = socket {
        socket.set_readable(readable);
    }
}

/// The device of the host's default route.
pub fn default_route_device() -> Option<String> {
    let mut netlink = Netlink::open().ok()?;
    let routes = netlink.routes().ok()?;
    let default = routes.iter().filter(|route| route.prefix == 0).min_by_key(|route| route.metric.unwrap_or(0))?;
    Some(netlink.link(default.index?).ok()?.name)
}

/// Turns IPv6 on or off on a device; a failure is logged.
pub fn set_ipv6(device: &str, on: bool) {
    let fits =
        (1..=15).contains(&device.len()) && !device.contains(['/', '.']) && !device.contains(char::is_whitespace);
    if !fits {
        log::warn!("\"{device}\" is no name of a network device");
        return;
    }
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if let Err(error) = std::fs::write(&path, if on { "0" } else { "1" }) {
        log::warn!("IPv6 of {device} cannot be turned {}: {path}: {error}", if on { "on" } else { "off" });
    }
}

/// The worker that reads the device, while there is one.
pub fn worker() -> Option<u32> {
    path().map(|path| path.worker).filter(|worker| *worker < worker::count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C may write packets to the descriptor of a device that it made: a header in front would be part of them.
    #[test]
    fn a_device_that_c_makes_has_no_offload() {
        let settings = Settings::new(Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
        assert!(!settings.offload && settings.bundle == 0);
    }

    #[test]
    fn a_reply_without_a_mask_gets_the_smallest_prefix_that_holds_both_addresses() {
        let prefix = |addr: [u8; 4], gateway: [u8; 4]| Settings::new(addr.into(), gateway.into()).prefix;
        assert_eq!(prefix([10, 0, 1, 100], [10, 0, 1, 1]), 24);
        assert_eq!(prefix([10, 0, 1, 2], [10, 0, 1, 1]), 24);
        assert_eq!(prefix([10, 0, 3, 2], [10, 0, 0, 1]), 22);
        assert_eq!(prefix([172, 16, 0, 2], [10, 0, 0, 1]), 8);
    }

    #[test]
    fn the_smaller_mtu_counts() {
        let mtu = |theirs, ours| {
            let (addr, gateway) = (Ipv4Addr::new(10, 0, 1, 2), Ipv4Addr::new(10, 0, 1, 1));
            Settings::from_offer(&Offer { addr, gateway, prefix: 24, mtu: theirs, bundle: 0 }, ours).mtu
        };
        assert_eq!(mtu(None, 1390), 1390);
        assert_eq!(mtu(None, 9000), 9000);
        assert_eq!(mtu(Some(8000), 9000), 8000);
        assert_eq!(mtu(Some(9000), 8000), 8000);
        assert_eq!(mtu(Some(1400), 1390), 1390);
        assert_eq!(mtu(Some(1), 1390), 576);
    }
}
