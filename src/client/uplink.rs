//! From the host to the server: what the device's packets do, on the device's worker.

use std::ops::DerefMut;
use std::sync::{Arc, OnceLock, Weak};

use crate::datapath::{Budget, Sink, drain};
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::external_channel::ExternalChannel;
use crate::sdk::tun_socket::TunSocket;
use crate::sdk::worker::Owned;
use host::tun::Queue;
use vpn_core::forward::{Bundler, Counters, DropCause, Load, Peer};
use vpn_core::wire::op;

/// Back-pressure: while more bytes wait in the stream to the server, the device is not read.
const SEND_HIGH_WATER_MARK: usize = 512 * 1024;

/// What one wake-up of the device reads. Its bytes are bounded by [`SEND_HIGH_WATER_MARK`].
const BUDGET: Budget = Budget { packets: 256, bytes: usize::MAX };

/// The channel that carries the host's packets to the server.
#[derive(Clone, Debug)]
pub enum UplinkChannel {
    /// Of this library's connection.
    Own(Arc<Channel>),
    /// Of a connection that C has made.
    Foreign(Arc<ExternalChannel>),
}

/// The way from the device to the server.
pub(super) struct Uplink {
    counters: Arc<Counters>,
    state: Owned<State>,
    /// The device in its worker's loop, which back-pressure stops. Set once the device is there.
    device: OnceLock<Weak<TunSocket>>,
}

/// What only the device's worker touches.
struct State {
    channel: Option<UplinkChannel>,
    peer: Peer,
    /// Taken while a batch is handled; None after a panic in the last batch.
    bundler: Option<Box<Bundler>>,
}

impl Uplink {
    /// `largest` is the largest bundle that the server takes, bytes; 0: none.
    pub(super) fn new(
        worker: u32,
        channel: Option<UplinkChannel>,
        usage_id: u32,
        largest: usize,
        counters: Arc<Counters>,
    ) -> Uplink {
        let peer = Peer { bundle_op: op::BUNDLE_SEND, plain_op: op::VPN_SEND, usage_id, largest };
        let state = State { channel, peer, bundler: Some(Box::default()) };
        Uplink { counters, state: Owned::new(worker, state), device: OnceLock::new() }
    }

    /// Names the event socket that back-pressure stops. Once.
    pub(super) fn set_device(&self, device: &Arc<TunSocket>) {
        // A device has one event socket: a second call changes nothing.
        let _ = self.device.set(Arc::downgrade(device));
    }

    /// Reads what the host wants to send, up to the budget, and sends it to the server.
    pub(super) fn drain(&self, queue: &Queue, first: Option<&mut [u8]>) {
        let taken =
            self.state.with(|state| (state.bundler.take().unwrap_or_default(), state.channel.clone(), state.peer));
        let Some((mut bundler, channel, peer)) = taken else { return };
        let mut batch = Batch { uplink: self, channel, peer };
        if let Err(error) = drain(queue, first, &mut bundler, &BUDGET, &mut batch) {
            log::debug!("tunnel device: {error}");
        }
        self.state.with(|state| state.bundler = Some(bundler));
    }

    /// Drops this connection's channel, on the device's worker. False when the device had another: another connection
    /// may use it by now.
    pub(super) fn detach(&self, channel: &Arc<Channel>) -> bool {
        let is_ours =
            |current: &mut UplinkChannel| matches!(current, UplinkChannel::Own(own) if Arc::ptr_eq(own, channel));
        self.state.with(|state| state.channel.take_if(is_ours).is_some()) == Some(true)
    }

    /// Sends a whole VPN packet; false when it was not taken.
    fn send(&self, channel: &UplinkChannel, packet: &[u8]) -> bool {
        match channel {
            UplinkChannel::Own(channel) => {
                if is_above_mark(channel) {
                    channel.wake_on_drain(true);
                    self.pause();
                }
                channel.send(TYPE_DATA, packet)
            }
            UplinkChannel::Foreign(channel) => channel.send(packet, SEND_HIGH_WATER_MARK),
        }
    }

    /// Stops reading the device. The connection resumes it when its stream has drained.
    fn pause(&self) {
        if let Some(device) = self.device.get().and_then(Weak::upgrade) {
            device.set_readable(false);
        }
    }
}

fn is_above_mark(channel: &Channel) -> bool {
    channel.pending().is_none_or(|waiting| waiting > SEND_HIGH_WATER_MARK)
}

/// What one wake-up takes from the device, on its way to the server.
struct Batch<'a> {
    uplink: &'a Uplink,
    channel: Option<UplinkChannel>,
    peer: Peer,
}

impl Sink for Batch<'_> {
    /// The packet in the room: into the bundle, or by itself.
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

    /// For C's connection nobody would tell when it has drained: what it cannot take is dropped instead.
    fn is_full(&self) -> bool {
        matches!(&self.channel, Some(UplinkChannel::Own(channel)) if is_above_mark(channel))
    }
}

impl Batch<'_> {
    /// Sends a whole VPN packet, and counts what became of it.
    fn send(&self, packet: &[u8], load: Load) {
        let counters = &self.uplink.counters;
        match self.channel.as_ref().map(|channel| self.uplink.send(channel, packet)) {
            Some(true) => counters.up(0, load),
            Some(false) => counters.dropped_all(0, DropCause::OutputFull, load.packets),
            None => counters.dropped_all(0, DropCause::SessionGone, load.packets),
        }
    }
}
