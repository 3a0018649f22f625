//! One worker's part of the data path: its TUN queue and the slots of its sessions. `limited` has the sessions with rate
//! limits.

mod limited;

use std::ffi::c_int;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::datapath::{Outlet, Room, Shaper, Shared, Writer};
use crate::sdk::channel::Channel;
use crate::sdk::tun_socket::TunHandler;
use crate::sdk::worker::{self, Owned};
use host::tun::Queue;
use vpn_core::forward::{Bundler, Counters, Load, MAX_ICMP_ERROR, Offload, Route, fragmentation_needed};
use vpn_core::queue::Events;
use vpn_core::rate::Budget;
use vpn_core::wire::{Ipv4View, VnetHeader};

use super::Server;
use super::mailbox::Mailbox;
use limited::Limited;

/// The ICMP messages of a worker per second: enough for many senders, since each asks once in minutes, and little
/// beside the packets that cause them.
const ICMP_PER_SECOND: u32 = 100;

/// One worker's part of the service.
pub(super) struct WorkerDatapath {
    pub(super) worker: u32,
    pub(super) queue: Queue,
    pub(super) mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    state: Owned<State>,
    /// The service, once it is open.
    server: OnceLock<Weak<Server>>,
}

/// A session on this worker.
struct Slot {
    channel: Arc<Channel>,
    outlet: Outlet,
    /// The slot is in [`State::waiting`].
    is_listed: bool,
    /// Where packets up wait, from the first limit on.
    shaper: Option<Shaper>,
    /// The slot is in the list of [`Limited`].
    is_limited_now: bool,
}

/// The data that only the owning worker accesses.
struct State {
    /// The session in each slot.
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// The sessions for which packets have begun to wait in this turn.
    waiting: Vec<Route>,
    shared: Shared,
    /// `None` while a batch is being handled.
    bundler: Option<Box<Bundler>>,
    writer: Writer,
    icmp: Budget,
    limited: Limited,
}

impl WorkerDatapath {
    /// Creates it; the packets that wait for its sessions have at most `memory` bytes.
    pub(super) fn new(worker: u32, queue: Queue, counters: Arc<Counters>, memory: usize) -> WorkerDatapath {
        let state = State {
            slots: Vec::new(),
            free: Vec::new(),
            waiting: Vec::new(),
            shared: Shared::new(memory),
            bundler: Some(Box::default()),
            writer: Writer::new(&queue),
            icmp: Budget::per_second(ICMP_PER_SECOND),
            limited: Limited::default(),
        };
        WorkerDatapath {
            worker,
            queue,
            mailbox: Arc::new(Mailbox::new(worker)),
            counters,
            state: Owned::new(worker, state),
            server: OnceLock::new(),
        }
    }

    /// Names the service, which is called when a rate limit allows more.
    pub(super) fn set_server(&self, server: Weak<Server>) {
        let _ = self.server.set(server);
    }

    /// Assigns a slot to a session, for which at most `limit` bytes may wait, on the owning worker.
    pub(super) fn adopt(&self, channel: &Arc<Channel>, limit: usize) -> Option<Route> {
        self.state.with(|state| {
            let slot = state.free.pop().unwrap_or_else(|| {
                state.slots.push(None);
                (state.slots.len() - 1) as u32
            });
            state.slots[slot as usize] = Some(Slot {
                channel: Arc::clone(channel),
                outlet: Outlet::new(limit),
                is_listed: false,
                shaper: None,
                is_limited_now: false,
            });
            Route { worker: self.worker as u16, slot }
        })
    }

    /// Frees the slot, on the owning worker. The forwarding table must no longer have the route. Returns the packets that
    /// waited for the session.
    pub(super) fn disown(&self, route: Route, channel: &Arc<Channel>) -> Load {
        let freed = self.state.with(|state| {
            let slot = state.slots.get_mut(route.slot as usize)?;
            let mut slot = slot.take_if(|owner| Arc::ptr_eq(&owner.channel, channel))?;
            state.free.push(route.slot);
            let mut lost = slot.outlet.clear(&mut state.shared);
            slot.outlet.end(&state.shared, channel);
            lost += slot.shaper.as_mut().map(|shaper| shaper.clear(&mut state.shared)).unwrap_or_default();
            if slot.is_limited_now {
                state.limited.forget(route);
            }
            Some(lost)
        });
        freed.flatten().unwrap_or_default()
    }

    /// Returns the session in the route's slot. It may differ from the session that the route was created for.
    pub(super) fn channel(&self, route: Route) -> Option<Arc<Channel>> {
        self.slot(route, |slot, _| Arc::clone(&slot.channel))
    }

    /// Returns the bytes that wait for the session in the slot, and from it.
    pub(super) fn waiting(&self, route: Route) -> usize {
        let waiting = |slot: &mut Slot| slot.outlet.waiting() + slot.shaper.as_ref().map_or(0, Shaper::waiting);
        self.slot(route, |slot, _| waiting(slot)).unwrap_or(0)
    }

    /// Returns what may pass straight to the session in the slot.
    pub(super) fn room(&self, route: Route) -> Room {
        self.slot(route, |slot, shared| slot.outlet.room(shared, &slot.channel)).unwrap_or_default()
    }

    /// Lets a packet wait for the session in the slot, until [`WorkerDatapath::next_waiting`] names it.
    pub(super) fn wait(&self, route: Route, packet: &[u8], described: (&Ipv4View, &Offload)) -> Events {
        let mut events = Events::default();
        self.state.with(|state| {
            let Some(Some(slot)) = state.slots.get_mut(route.slot as usize) else { return };
            slot.outlet.push(&mut state.shared, packet, described, &mut events);
            if !slot.is_listed {
                slot.is_listed = true;
                state.waiting.push(route);
            }
        });
        events
    }

    /// Takes a session for which packets have begun to wait in this turn.
    pub(super) fn next_waiting(&self) -> Option<Route> {
        self.state.with(|state| {
            let route = state.waiting.pop()?;
            if let Some(Some(slot)) = state.slots.get_mut(route.slot as usize) {
                slot.is_listed = false;
            }
            Some(route)
        })?
    }

    /// Begins to hand down what waits for the session in the slot, which it returns.
    pub(super) fn begin(&self, route: Route) -> Option<Arc<Channel>> {
        self.slot(route, |slot, shared| {
            slot.outlet.begin(shared, &slot.channel);
            Arc::clone(&slot.channel)
        })
    }

    /// Writes the next packet that may be handed down to the front of `space`, and returns its length with the header.
    pub(super) fn pop(&self, route: Route, space: &mut [u8], events: &mut Events) -> Option<usize> {
        self.slot(route, |slot, shared| slot.outlet.pop(shared, space, events))?
    }

    /// Ends what [`WorkerDatapath::begin`] began.
    pub(super) fn end(&self, route: Route) {
        if self.slot(route, |slot, shared| slot.outlet.end(shared, &slot.channel)) == Some(true) {
            self.limit_holds(route);
        }
    }

    /// Drops what waits for the session in the slot, and returns it.
    pub(super) fn clear(&self, route: Route) -> Load {
        self.slot(route, |slot, shared| slot.outlet.clear(shared)).unwrap_or_default()
    }

    /// Changes the bytes that may wait on this worker, on it.
    pub(super) fn limit_memory(&self, limit: usize) {
        self.state.with(|state| state.shared.set_limit(limit));
    }

    /// Changes the bytes that may wait for the session in the slot.
    pub(super) fn set_queue(&self, route: Route, limit: usize) {
        self.slot(route, |slot, _| {
            slot.outlet.set_limit(limit);
            if let Some(shaper) = &mut slot.shaper {
                shaper.set_limit(limit);
            }
        });
    }

    /// Gives back the memory that a burst has left, once a second.
    pub(super) fn trim(&self) {
        self.state.with(|state| state.shared.trim());
    }

    fn slot<R>(&self, route: Route, work: impl FnOnce(&mut Slot, &mut Shared) -> R) -> Option<R> {
        self.state.with(|state| {
            let slot = state.slots.get_mut(route.slot as usize)?.as_mut()?;
            Some(work(slot, &mut state.shared))
        })?
    }

    /// Writes a client's packet to the host, on the owning worker. The packet may wait until
    /// [`WorkerDatapath::flush_tun`]. `mtu` is the session's, if it is smaller than the device's.
    pub(super) fn write_tun(&self, packet: &[u8], view: &Ipv4View, offload: &Offload, mtu: Option<u16>) {
        self.state.with(|state| state.writer.write(&self.queue, packet, view, offload, mtu));
    }

    /// Like [`WorkerDatapath::write_tun`], for a packet that arrived without a bundle: it waits until the end of the
    /// worker's turn at most.
    pub(super) fn write_tun_single(
        self: &Arc<Self>,
        packet: &[u8],
        view: &Ipv4View,
        offload: &Offload,
        mtu: Option<u16>,
    ) {
        let now = Instant::now();
        let flush = self.state.with(|state| state.writer.write_single(&self.queue, packet, view, offload, mtu, now));
        if flush == Some(true) {
            let datapath = Arc::clone(self);
            if !worker::exec(self.worker, move || datapath.end_turn()) {
                self.end_turn();
            }
        }
    }

    /// Writes the packets that were waiting for more of their batch.
    fn end_turn(&self) {
        self.state.with(|state| state.writer.end_turn(&self.queue));
        self.reclassify_refused();
    }

    /// Writes the waiting packets to the host.
    pub(super) fn flush_tun(&self) {
        self.state.with(|state| state.writer.flush(&self.queue));
    }

    /// Reclassifies failed TUN writes, which were counted as forwarded, as drops.
    pub(super) fn reclassify_refused(&self) -> Load {
        let lost = self.state.with(|state| state.writer.take_refused()).unwrap_or_default();
        self.counters.uncount_up(self.worker as usize, lost);
        lost
    }

    /// Tells the sender of a packet to a client that the packet exceeds the client's MTU, on the owning worker.
    pub(super) fn report_too_big(&self, packet: &[u8], view: &Ipv4View, mtu: u16, now: Duration) {
        let mut memory = [0; MAX_ICMP_ERROR];
        let Some(message) = fragmentation_needed(packet, view, mtu, &mut memory) else { return };
        if self.state.with(|state| state.icmp.take(now)) == Some(true)
            && let Err(error) = self.queue.send(&VnetHeader::default(), message)
        {
            log::trace!("cannot write an ICMP message to the TUN queue: {error}");
        }
    }

    /// Lends the bundler for packets to clients while a batch is handled. `None` on another thread, and while it is
    /// lent.
    pub(super) fn lend_bundler(&self) -> Option<BundlerGuard<'_>> {
        let bundler = self.state.with(|state| state.bundler.take()).flatten()?;
        Some(BundlerGuard { datapath: self, bundler: Some(bundler) })
    }
}

/// A worker's bundler while a batch is handled. Dropping the guard returns it. After a panic the guard discards the
/// bundle, because part of it may have been sent.
pub(super) struct BundlerGuard<'a> {
    datapath: &'a WorkerDatapath,
    bundler: Option<Box<Bundler>>,
}

impl BundlerGuard<'_> {
    pub(super) fn bundler(&mut self) -> &mut Bundler {
        self.bundler.get_or_insert_default()
    }
}

impl Drop for BundlerGuard<'_> {
    fn drop(&mut self) {
        let bundler = self.bundler.take().filter(|_| !std::thread::panicking()).unwrap_or_default();
        self.datapath.state.with(|state| state.bundler = Some(bundler));
    }
}

/// Receives the callbacks of a worker's TUN queue. It does not keep the server alive, but it does keep the queue: the
/// descriptor stays open as long as the SDK's event loop uses it.
pub(super) struct QueueHandler {
    pub(super) server: Weak<Server>,
    pub(super) datapath: Arc<WorkerDatapath>,
}

impl TunHandler for QueueHandler {
    fn readable(&self, first: Option<&mut [u8]>) {
        if let Some(server) = self.server.upgrade() {
            server.drain_tun(&self.datapath, first);
        }
    }

    fn failed(&self, errno: c_int) {
        let error = std::io::Error::from_raw_os_error(errno);
        log::debug!("TUN queue of worker {} failed: {error}", self.datapath.worker);
        if let Some(server) = self.server.upgrade() {
            server.device_lost();
        }
    }
}
