//! From the host to the server: handles the device's packets, on the device's worker.

use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::datapath::{Outlet, Room, Shared, Sink, drain};
use crate::sdk::channel::{Channel, TYPE_DATA};
use crate::sdk::external_channel::ExternalChannel;
use crate::sdk::worker::Owned;
use host::tun::Queue;
use vpn_core::forward::{
    Bundler, Counters, DropCause, Load, MAX_ICMPV6_ERROR, Offload, Peer, clamp_mss, ipv6_unreachable,
};
use vpn_core::queue::Events;
use vpn_core::rate::Budget;
use vpn_core::wire::{Ipv4View, VnetHeader, op};

/// The most bytes that wait for the server, in the stream and in the queue together.
const QUEUE: usize = 4 * 1024 * 1024;

/// The most IPv6 packets that are answered in a second, and at once: a page opens a hundred connections at most, and the
/// answers to a flood must not cost more than to drop it.
const ANSWERS: u32 = 1000;

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
    /// The device's, as in `downlink`.
    mtu: u16,
    state: Owned<State>,
    started: Instant,
    /// The stream's round trip in microseconds, as it was last measured; 0 if it is not known.
    round_trip: AtomicU32,
}

/// The data that only the device's worker accesses.
struct State {
    channel: Option<UplinkChannel>,
    peer: Peer,
    /// `None` while a batch is handled, and after a panic in the last batch.
    bundler: Option<Box<Bundler>>,
    outlet: Outlet,
    shared: Shared,
    /// How often an IPv6 packet is answered (RFC 4443, 2.4 (f)).
    answers: Budget,
}

impl Uplink {
    /// Creates an uplink. `largest` is the largest bundle that the server accepts, in bytes; 0 for none.
    pub(super) fn new(
        worker: u32,
        channel: Option<UplinkChannel>,
        usage_id: u32,
        largest: usize,
        mtu: u16,
        counters: Arc<Counters>,
    ) -> Uplink {
        let peer = Peer { bundle_op: op::BUNDLE_SEND, plain_op: op::VPN_SEND, usage_id, largest };
        let (outlet, shared) = (Outlet::new(QUEUE), Shared::new(2 * QUEUE));
        let answers = Budget::per_second(ANSWERS);
        let state = State { channel, peer, bundler: Some(Box::default()), outlet, shared, answers };
        Uplink {
            counters,
            mtu,
            state: Owned::new(worker, state),
            started: Instant::now(),
            round_trip: AtomicU32::new(0),
        }
    }

    /// Reads the host's packets, up to the budget, and sends them to the server.
    pub(super) fn drain(&self, queue: &Queue, first: Option<&mut [u8]>) {
        self.with_batch(|batch, bundler| {
            batch.queue = Some(queue);
            if let Err(error) = drain(queue, first, bundler, batch) {
                log::debug!("cannot read the tunnel device: {error}");
            }
            if batch.waits {
                batch.hand_down(bundler);
            }
        });
    }

    /// The stream takes more of what waits for it. Returns false if the uplink uses another one.
    pub(super) fn drained(&self, channel: &Arc<Channel>) -> bool {
        let mut is_ours = false;
        self.with_batch(|batch, bundler| {
            is_ours = matches!(&batch.channel, Some(UplinkChannel::Own(own)) if Arc::ptr_eq(own, channel));
            if is_ours {
                batch.hand_down(bundler);
            }
        });
        is_ours
    }

    /// Gives back the memory that a burst has left, and measures the stream, at the connection's ticks.
    pub(super) fn trim(&self) {
        let path = self.state.with(|state| {
            state.shared.trim();
            match &state.channel {
                Some(UplinkChannel::Own(channel)) => channel.path(),
                Some(UplinkChannel::External(_)) | None => None,
            }
        });
        self.round_trip.store(path.flatten().map_or(0, |path| path.rtt), Ordering::Relaxed);
    }

    /// The stream's round trip as TCP measures it; `None` if it is not known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip.load(Ordering::Relaxed) {
            0 => None,
            microseconds => Some(Duration::from_micros(microseconds.into())),
        }
    }

    fn with_batch<'a>(&'a self, work: impl FnOnce(&mut Batch<'a>, &mut Bundler)) {
        let taken =
            self.state.with(|state| (state.bundler.take().unwrap_or_default(), state.channel.clone(), state.peer));
        let Some((mut bundler, channel, peer)) = taken else { return };
        work(&mut Batch { uplink: self, queue: None, channel, peer, room: None, waits: false }, &mut bundler);
        self.state.with(|state| state.bundler = Some(bundler));
    }

    /// Releases this connection's channel, on the device's worker: from now on the host's packets are dropped, and those
    /// that wait with them. Does nothing if the uplink uses another channel, because another connection may have taken
    /// the device over.
    pub(super) fn detach(&self, channel: &Arc<Channel>) {
        self.detach_if(|own| Arc::ptr_eq(own, channel));
    }

    /// Releases a channel that has closed, on the device's worker.
    pub(super) fn detach_closed(&self) {
        self.detach_if(|own| own.raw().is_null());
    }

    fn detach_if(&self, is_meant: impl Fn(&Arc<Channel>) -> bool) {
        let lost = self.state.with(|state| {
            state.channel.take_if(|current| matches!(current, UplinkChannel::Own(own) if is_meant(own)))?;
            Some(state.outlet.clear(&mut state.shared))
        });
        if let Some(lost) = lost.flatten() {
            self.counters.dropped_all(0, DropCause::SessionGone, lost.packets);
        }
    }

    /// Returns what may pass straight into the stream. A connection of C does not report when its stream takes more:
    /// nothing waits for it here, and what exceeds its bound is dropped.
    fn room(&self, channel: Option<&UplinkChannel>) -> Room {
        match channel {
            Some(UplinkChannel::Own(channel)) => {
                self.state.with(|state| state.outlet.room(&state.shared, channel)).unwrap_or_default()
            }
            Some(UplinkChannel::External(_)) | None => Room::unbounded(),
        }
    }

    fn wait(&self, packet: &[u8], described: (&Ipv4View, &Offload)) {
        let mut events = Events::default();
        self.state.with(|state| state.outlet.push(&mut state.shared, packet, described, &mut events));
        self.count(&events);
    }

    /// Counts what the queue has dropped and marked.
    fn count(&self, events: &Events) {
        for (cause, load) in events.drops() {
            self.counters.dropped_all(0, cause, load.packets);
        }
        self.counters.marked(0, events.marked());
    }
}

/// The packets of one wake-up, on their way to the server.
struct Batch<'a> {
    uplink: &'a Uplink,
    /// The queue that the packets come from; `None` if they have waited.
    queue: Option<&'a Queue>,
    channel: Option<UplinkChannel>,
    peer: Peer,
    /// What may pass straight into the stream; `None` before the first packet.
    room: Option<Room>,
    /// A packet has begun to wait.
    waits: bool,
}

impl Sink for Batch<'_> {
    /// Adds the packet to the bundle, or sends it alone, or lets it wait.
    fn take<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, len: usize) {
        let (view, offload, load) = match bundler.check(len) {
            Ok(checked) => checked,
            Err(cause) => return self.refuse(bundler.packet(len), cause),
        };
        clamp_mss(bundler.packet_mut(len), &view, &offload, self.uplink.mtu);
        let room = self.room.get_or_insert_with(|| self.uplink.room(self.channel.as_ref()));
        if room.takes(len, &offload) {
            return bundler.take(len, &offload, load, &self.peer, |packet, load| self.send(packet, load));
        }
        room.close();
        self.waits = true;
        self.uplink.wait(bundler.packet(len), (&view, &offload));
    }

    fn flush<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>) {
        bundler.flush(0, &self.peer, |packet, load| self.send(packet, load));
    }
}

impl Batch<'_> {
    /// Drops a packet, and answers it if it is IPv6: the host's, which must not leave around the tunnel, is routed into
    /// it (`device/ipv6.rs`), and applications are to turn to IPv4 at once.
    #[cold]
    fn refuse(&self, packet: &[u8], cause: DropCause) {
        self.uplink.counters.dropped(0, cause);
        let Some(queue) = self.queue.filter(|_| cause == DropCause::NotIpv4) else { return };
        let mut answer = [0; MAX_ICMPV6_ERROR];
        let Some(answer) = ipv6_unreachable(packet, &mut answer) else { return };
        let now = self.uplink.started.elapsed();
        if self.uplink.state.with(|state| state.answers.take(now)) == Some(true)
            && let Err(error) = queue.send(&VnetHeader::default(), answer)
        {
            log::trace!("the tunnel device refuses the answer to an IPv6 packet: {error}");
        }
    }

    /// Sends as much of what waits as the stream may have now.
    fn hand_down(&mut self, bundler: &mut Bundler) {
        let Some(UplinkChannel::Own(channel)) = &self.channel else { return };
        let (state, mut events) = (&self.uplink.state, Events::default());
        state.with(|state| state.outlet.begin(&state.shared, channel));
        loop {
            let pop = |state: &mut State| state.outlet.pop(&mut state.shared, bundler.spare_capacity(), &mut events);
            let Some(len) = state.with(pop).flatten() else { break };
            if let Ok((_, offload, load)) = bundler.check(len) {
                bundler.take(len, &offload, load, &self.peer, |packet, load| self.send(packet, load));
            }
        }
        bundler.flush(0, &self.peer, |packet, load| self.send(packet, load));
        // No rate is set: only the stream is waited for.
        state.with(|state| state.outlet.end(&state.shared, channel));
        self.uplink.count(&events);
    }

    /// Sends a whole VPN packet, and counts it as forwarded or dropped.
    fn send(&self, packet: &[u8], load: Load) {
        let counters = &self.uplink.counters;
        let sent = self.channel.as_ref().map(|channel| match channel {
            UplinkChannel::Own(channel) => channel.send(TYPE_DATA, packet),
            UplinkChannel::External(channel) => channel.send(packet, QUEUE),
        });
        match sent {
            Some(true) => counters.up(0, load),
            Some(false) => counters.dropped_all(0, DropCause::OutputFull, load.packets),
            None => counters.dropped_all(0, DropCause::SessionGone, load.packets),
        }
    }
}
