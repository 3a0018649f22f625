//! From the host to the server: handles the device's packets, on the device's worker.

use std::ops::DerefMut;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::datapath::{Budget, Sink, drain};
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::external_channel::ExternalChannel;
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::worker::Owned;
use host::tun::Queue;
use vpn_core::forward::{Bundler, Counters, DropCause, Load, Peer};
use vpn_core::wire::op;

/// Back-pressure: the client stops reading the device while more bytes than this wait in the stream to the server.
const SEND_HIGH_WATER_MARK: usize = 512 * 1024;

/// The limit of one wake-up of the device. [`SEND_HIGH_WATER_MARK`] limits its bytes.
const BUDGET: Budget = Budget { packets: 256, bytes: usize::MAX };

/// The channel that carries the host's packets to the server.
#[derive(Clone, Debug)]
pub(crate) enum UplinkChannel {
    /// A channel of this library's connection.
    Own(Arc<Channel>),
    /// A channel of a connection that C has opened.
    External(Arc<ExternalChannel>),
}

/// Carries packets from the device to the server.
pub(super) struct Uplink {
    counters: Arc<Counters>,
    state: Owned<State>,
    /// The device's event socket, which back-pressure pauses. Set once the device is in its worker's event loop.
    device: Mutex<Weak<TunSocket>>,
}

/// The data that only the device's worker accesses.
struct State {
    channel: Option<UplinkChannel>,
    peer: Peer,
    /// `None` while a batch is handled, and after a panic in the last batch.
    bundler: Option<Box<Bundler>>,
}

impl Uplink {
    /// Creates an uplink. `largest` is the largest bundle that the server accepts, in bytes; 0 for none.
    pub(super) fn new(
        worker: u32,
        channel: Option<UplinkChannel>,
        usage_id: u32,
        largest: usize,
        counters: Arc<Counters>,
    ) -> Uplink {
        let peer = Peer { bundle_op: op::BUNDLE_SEND, plain_op: op::VPN_SEND, usage_id, largest };
        let state = State { channel, peer, bundler: Some(Box::default()) };
        Uplink { counters, state: Owned::new(worker, state), device: Mutex::default() }
    }

    /// Sets the event socket that back-pressure pauses.
    pub(super) fn set_device(&self, device: &Arc<TunSocket>) {
        *self.device.lock() = Arc::downgrade(device);
    }

    /// Reads the host's packets, up to the budget, and sends them to the server.
    pub(super) fn drain(&self, queue: &Queue, first: Option<&mut [u8]>) {
        let taken =
            self.state.with(|state| (state.bundler.take().unwrap_or_default(), state.channel.clone(), state.peer));
        let Some((mut bundler, channel, peer)) = taken else { return };
        let mut batch = Batch { uplink: self, channel, peer };
        if let Err(error) = drain(queue, first, &mut bundler, &BUDGET, &mut batch) {
            log::debug!("cannot read the tunnel device: {error}");
        }
        self.state.with(|state| state.bundler = Some(bundler));
    }

    /// Releases this connection's channel, on the device's worker. Returns false if the uplink uses another channel,
    /// because another connection may have taken the device over.
    pub(super) fn detach(&self, channel: &Arc<Channel>) -> bool {
        let is_ours =
            |current: &mut UplinkChannel| matches!(current, UplinkChannel::Own(own) if Arc::ptr_eq(own, channel));
        self.state.with(|state| state.channel.take_if(is_ours).is_some()) == Some(true)
    }

    /// Releases a channel that has closed, on the device's worker: from now on the host's packets are dropped.
    pub(super) fn detach_closed(&self) {
        let is_closed = |current: &mut UplinkChannel| matches!(current, UplinkChannel::Own(own) if own.raw().is_null());
        self.state.with(|state| drop(state.channel.take_if(is_closed)));
    }

    /// Sends a whole VPN packet; returns false if the channel refuses it.
    fn send(&self, channel: &UplinkChannel, packet: &[u8]) -> bool {
        match channel {
            UplinkChannel::Own(channel) => {
                if is_above_mark(channel) {
                    channel.wake_on_drain(true);
                    self.pause();
                }
                channel.send(TYPE_DATA, packet)
            }
            UplinkChannel::External(channel) => channel.send(packet, SEND_HIGH_WATER_MARK),
        }
    }

    /// Stops reading the device. The connection resumes it when its stream has drained.
    fn pause(&self) {
        let device = self.device.lock().upgrade();
        if let Some(device) = device {
            device.set_readable(false);
        }
    }
}

fn is_above_mark(channel: &Channel) -> bool {
    channel.pending().is_none_or(|waiting| waiting > SEND_HIGH_WATER_MARK)
}

/// The packets of one wake-up, on their way to the server.
struct Batch<'a> {
    uplink: &'a Uplink,
    channel: Option<UplinkChannel>,
    peer: Peer,
}

impl Sink for Batch<'_> {
    /// Adds the packet to the bundle, or sends it alone.
    fn take<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, len: usize) {
        match bundler.check(len) {
            Ok((_, offload, load)) => {
                bundler.take(len, &offload, load, &self.peer, |packet, load| self.send(packet, load));
            }
            Err(cause) => self.uplink.counters.dropped(0, cause),
        }
    }

    fn flush<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>) {
        bundler.flush(0, &self.peer, |packet, load| self.send(packet, load));
    }

    /// A connection of C does not report when it has drained; packets that exceed its limit are dropped instead.
    fn is_full(&self) -> bool {
        matches!(&self.channel, Some(UplinkChannel::Own(channel)) if is_above_mark(channel))
    }
}

impl Batch<'_> {
    /// Sends a whole VPN packet, and counts it as forwarded or dropped.
    fn send(&self, packet: &[u8], load: Load) {
        let counters = &self.uplink.counters;
        match self.channel.as_ref().map(|channel| self.uplink.send(channel, packet)) {
            Some(true) => counters.up(0, load),
            Some(false) => counters.dropped_all(0, DropCause::OutputFull, load.packets),
            None => counters.dropped_all(0, DropCause::SessionGone, load.packets),
        }
    }
}
