//! The data path of one worker: its TUN queue, its sessions, what goes down to clients.

use std::ffi::c_int;
use std::sync::{Arc, Weak};

use crate::forward::{DropCause, Route};
use crate::sdk::channel::{Channel, SessionStats, TYPE_DATA};
use crate::sdk::tun_socket::TunHandler;
use crate::sdk::worker::Owned;
use crate::tun::Queue;
use crate::wire::{HEADER_LEN, Header, VNET_LEN, VnetHeader, inspect, op};

use super::Server;
use super::mailbox::Mailbox;
use super::session::Session;

/// Packets that one wake-up handles before the other sockets of the worker get their turn.
const BUDGET: usize = 256;

/// Room for a VPN header and the largest IP packet.
const BUFFER: usize = HEADER_LEN + 65_535;
/// Where a queue's header of a packet goes, so that the packet comes behind the VPN header.
const FRONT: usize = HEADER_LEN - VNET_LEN;

/// One worker's part of the service.
pub(super) struct Lane {
    pub(super) worker: u32,
    pub(super) queue: Queue,
    pub(super) mailbox: Arc<Mailbox>,
    state: Owned<State>,
}

/// What only the owning worker touches.
struct State {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Taken while a batch is handled.
    buffer: Option<Box<[u8]>>,
}

#[derive(Default)]
struct Slot {
    generation: u16,
    channel: Option<Arc<Channel>>,
}

impl Lane {
    pub(super) fn new(worker: u32, queue: Queue) -> Lane {
        let state = State { slots: Vec::new(), free: Vec::new(), buffer: Some(vec![0; BUFFER].into_boxed_slice()) };
        Lane { worker, queue, mailbox: Arc::new(Mailbox::new(worker)), state: Owned::new(worker, state) }
    }

    /// Gives a session a slot, on this lane's worker.
    pub(super) fn adopt(&self, channel: &Arc<Channel>) -> Option<Route> {
        self.state.with(|state| {
            let slot = state.free.pop().unwrap_or_else(|| {
                state.slots.push(Slot::default());
                (state.slots.len() - 1) as u32
            });
            let entry = &mut state.slots[slot as usize];
            entry.generation = entry.generation.wrapping_add(1);
            entry.channel = Some(Arc::clone(channel));
            Route { worker: self.worker as u16, generation: entry.generation, slot }
        })
    }

    /// Takes the slot back, on this lane's worker.
    pub(super) fn disown(&self, route: Route) {
        self.state.with(|state| {
            let Some(entry) = state.slots.get_mut(route.slot as usize) else { return };
            if entry.generation == route.generation && entry.channel.take().is_some() {
                state.free.push(route.slot);
            }
        });
    }

    /// The session that a route leads to, if it still is there.
    fn channel(&self, route: Route) -> Option<Arc<Channel>> {
        self.state.with(|state| {
            let entry = state.slots.get(route.slot as usize)?;
            entry.channel.as_ref().filter(|_| entry.generation == route.generation).cloned()
        })?
    }

    fn lend(&self) -> Option<Lent<'_>> {
        let buffer = self.state.with(|state| state.buffer.take()).flatten()?;
        Some(Lent { lane: self, buffer })
    }
}

/// The SDK's handle on a lane. It does not keep the server alive, but the queue: its descriptor stays open as long as
/// the SDK's loop has it.
pub(super) struct LaneHandler {
    pub(super) server: Weak<Server>,
    pub(super) lane: Arc<Lane>,
}

impl TunHandler for LaneHandler {
    fn readable(&self, first: Option<&[u8]>) {
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

/// The lane's buffer, out on loan; it comes back also when a panic ends the loan.
struct Lent<'a> {
    lane: &'a Lane,
    buffer: Box<[u8]>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.lane.state.with(|state| state.buffer = Some(buffer));
    }
}

impl Server {
    /// Writes a packet to the worker's own queue.
    pub(super) fn write_tun(&self, worker: u32, packet: &[u8]) -> Result<(), DropCause> {
        let lane = self.lanes.get(worker as usize).ok_or(DropCause::SessionGone)?;
        lane.queue.send(&VnetHeader::default(), packet).map_err(|_| DropCause::TunWrite)
    }

    /// Reads what the host wants to send to clients, up to the budget, and sends it on.
    fn drain_tun(self: &Arc<Self>, lane: &Lane, first: Option<&[u8]>) {
        let Some(mut lent) = lane.lend() else { return };
        let buffer = &mut *lent.buffer;
        if let Some(size) = first.and_then(|read| lane.queue.recv_from(read, &mut buffer[FRONT..])) {
            self.downstream(lane, &mut buffer[..FRONT + size]);
        }
        for _ in 0..BUDGET {
            match lane.queue.recv(&mut buffer[FRONT..]) {
                Ok(Some(size)) => self.downstream(lane, &mut buffer[..FRONT + size]),
                Ok(None) => break,
                Err(error) => {
                    log::debug!("TUN queue of worker {}: {error}", lane.worker);
                    break;
                }
            }
        }
        drop(lent);
        self.wake_others(lane.worker);
    }

    /// A packet from the host: to its session here, or into the mailbox of the worker that has it.
    fn downstream(&self, lane: &Lane, filled: &mut [u8]) {
        let result = inspect(&filled[HEADER_LEN..]).map_err(DropCause::from).and_then(|view| {
            let route = self.table.get(view.destination).ok_or(DropCause::NoRoute)?;
            if u32::from(route.worker) == lane.worker {
                return self.deliver(lane, route, filled);
            }
            let other = self.lanes.get(usize::from(route.worker)).ok_or(DropCause::SessionGone)?;
            if other.mailbox.post(route, filled) { Ok(()) } else { Err(DropCause::QueueFull) }
        });
        if let Err(cause) = result {
            self.counters.dropped(lane.worker as usize, cause);
        }
    }

    fn wake_others(self: &Arc<Self>, worker: u32) {
        for lane in self.lanes.iter().filter(|lane| lane.worker != worker) {
            let server = Arc::downgrade(self);
            let receiver = lane.worker;
            lane.mailbox.wake(move || {
                if let Some(server) = server.upgrade() {
                    server.open_mailbox(receiver);
                }
            });
        }
    }

    fn open_mailbox(&self, worker: u32) {
        let Some(lane) = self.lanes.get(worker as usize) else { return };
        lane.mailbox.drain(|route, filled| {
            if let Err(cause) = self.deliver(lane, route, filled) {
                self.counters.dropped(worker as usize, cause);
            }
        });
    }

    /// Sends a packet to its client, on the session's worker. `filled` has room for the VPN header in front.
    fn deliver(&self, lane: &Lane, route: Route, filled: &mut [u8]) -> Result<(), DropCause> {
        let channel = lane.channel(route).ok_or(DropCause::SessionGone)?;
        let session = channel.data::<Session>().ok_or(DropCause::SessionGone)?;
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        let size = (filled.len() - HEADER_LEN) as u64;
        let waiting = channel.pending().ok_or(DropCause::SessionGone)?;
        let header = Header { sock_id: 0, op: op::VPN_RECV, usage_id: session.usage_id(), value: size as u32 };
        if let Some((front, _)) = filled.split_first_chunk_mut::<HEADER_LEN>() {
            header.write_to(front);
        }
        // A client that does not read costs its queue, and no more.
        if waiting + filled.len() > self.settings.session_queue || !channel.send(TYPE_DATA, filled) {
            let lost = SessionStats { bytes_recv_lost: size, packets_recv_lost: 1, ..SessionStats::default() };
            channel.add_stats(&lost);
            return Err(DropCause::OutputFull);
        }
        self.counters.down(lane.worker as usize, size as usize);
        channel.add_stats(&SessionStats { bytes_recv: size, packets_recv: 1, ..SessionStats::default() });
        Ok(())
    }
}
