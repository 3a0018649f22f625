//! One worker's part of the data path: its TUN queue and the slots of its sessions.

use std::ffi::c_int;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::datapath::Writer;
use crate::sdk::channel::Channel;
use crate::sdk::tun_socket::TunHandler;
use crate::sdk::worker::{self, Owned};
use host::tun::Queue;
use vpn_core::forward::{Bundler, Counters, Load, Offload, Route};
use vpn_core::wire::Ipv4View;

use super::Server;
use super::mailbox::Mailbox;

/// One worker's part of the service.
pub(super) struct Lane {
    pub(super) worker: u32,
    pub(super) queue: Queue,
    pub(super) mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    state: Owned<State>,
}

/// What only the owning worker touches.
struct State {
    /// Who has each slot.
    slots: Vec<Option<Arc<Channel>>>,
    free: Vec<u32>,
    /// Taken while a batch is handled.
    bundler: Option<Box<Bundler>>,
    writer: Writer,
}

impl Lane {
    pub(super) fn new(worker: u32, queue: Queue, counters: Arc<Counters>) -> Lane {
        let state =
            State { slots: Vec::new(), free: Vec::new(), bundler: Some(Box::default()), writer: Writer::new(&queue) };
        Lane { worker, queue, mailbox: Arc::new(Mailbox::new(worker)), counters, state: Owned::new(worker, state) }
    }

    /// Gives a session a slot, on this lane's worker.
    pub(super) fn adopt(&self, channel: &Arc<Channel>) -> Option<Route> {
        self.state.with(|state| {
            let slot = state.free.pop().unwrap_or_else(|| {
                state.slots.push(None);
                (state.slots.len() - 1) as u32
            });
            state.slots[slot as usize] = Some(Arc::clone(channel));
            Route { worker: self.worker as u16, slot }
        })
    }

    /// Takes the slot back, on this lane's worker. No route leads to it any more.
    pub(super) fn disown(&self, route: Route, channel: &Arc<Channel>) {
        self.state.with(|state| {
            let Some(slot) = state.slots.get_mut(route.slot as usize) else { return };
            if slot.take_if(|owner| Arc::ptr_eq(owner, channel)).is_some() {
                state.free.push(route.slot);
            }
        });
    }

    /// Who has the slot that a route leads to: perhaps no longer whom the route was made for.
    pub(super) fn channel(&self, route: Route) -> Option<Arc<Channel>> {
        self.state.with(|state| state.slots.get(route.slot as usize)?.clone())?
    }

    /// Takes a packet from a client for the host, on this lane's worker. It may wait until [`Lane::flush_tun`].
    pub(super) fn write_tun(&self, packet: &[u8], view: &Ipv4View, offload: &Offload) {
        self.state.with(|state| state.writer.write(&self.queue, packet, view, offload));
    }

    /// As [`Lane::write_tun`], for a packet that no bundle brought: it waits for the end of the worker's turn at most.
    pub(super) fn write_tun_single(self: &Arc<Self>, packet: &[u8], view: &Ipv4View, offload: &Offload) {
        let now = Instant::now();
        let flush = self.state.with(|state| state.writer.write_single(&self.queue, packet, view, offload, now));
        if flush == Some(true) {
            let lane = Arc::clone(self);
            if !worker::exec(self.worker, move || lane.end_turn()) {
                self.end_turn();
            }
        }
    }

    /// Writes what was left waiting for more of its batch.
    fn end_turn(&self) {
        self.state.with(|state| state.writer.end_turn(&self.queue));
        self.count_lost();
    }

    /// Writes what waits for the host.
    pub(super) fn flush_tun(&self) {
        self.state.with(|state| state.writer.flush(&self.queue));
    }

    /// Counts what the host did not take, which was counted as carried.
    pub(super) fn count_lost(&self) -> Load {
        let lost = self.state.with(|state| state.writer.take_refused()).unwrap_or_default();
        self.counters.uncount_up(self.worker as usize, lost);
        lost
    }

    /// Lends the bundler for packets to clients, while a batch is handled. None on another thread, and while it is lent.
    pub(super) fn lend_bundler(&self) -> Option<BundlerGuard<'_>> {
        let bundler = self.state.with(|state| state.bundler.take()).flatten()?;
        Some(BundlerGuard { lane: self, bundler: Some(bundler) })
    }
}

/// A lane's bundler while a batch is handled; it goes back to the lane on drop. A panic discards what is in it, since
/// some of that may be sent already.
pub(super) struct BundlerGuard<'a> {
    lane: &'a Lane,
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
        self.lane.state.with(|state| state.bundler = Some(bundler));
    }
}

/// The SDK's handle on a lane. It does not keep the server alive, but the queue: its descriptor stays open as long as
/// the SDK's loop has it.
pub(super) struct LaneHandler {
    pub(super) server: Weak<Server>,
    pub(super) lane: Arc<Lane>,
}

impl TunHandler for LaneHandler {
    fn readable(&self, first: Option<&mut [u8]>) {
        if let Some(server) = self.server.upgrade() {
            server.drain_tun(&self.lane, first);
        }
    }

    fn failed(&self, errno: c_int) {
        let error = std::io::Error::from_raw_os_error(errno);
        log::error!("TUN queue of worker {} failed, the service needs a new start: {error}", self.lane.worker);
        if let Some(server) = self.server.upgrade() {
            server.tunnel_failed();
        }
    }
}
