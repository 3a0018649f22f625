//! From the host to clients: what a wake-up of a TUN queue, or of a mailbox, does.

use std::ops::DerefMut;
use std::sync::Arc;

use crate::sdk::channel::{Channel, SessionStats, TYPE_DATA};
use vpn_core::forward::{DropCause, Load, Offload, Route};
use vpn_core::wire::Ipv4View;

use super::Server;
use super::lane::{Lane, Outbound};
use super::session::Session;

/// Packets that one wake-up handles before the other sockets of the worker get their turn, and bytes.
const BUDGET: usize = 256;
const BUDGET_BYTES: usize = 1024 * 1024;

impl Server {
    /// Reads what the host wants to send to clients, up to the budget, and sends it on.
    pub(super) fn drain_tun(self: &Arc<Self>, lane: &Lane, first: Option<&mut [u8]>) {
        // What waits for the host does not wait for a batch of the other direction.
        lane.flush_tun();
        let Some(mut lent) = lane.lend() else { return };
        let out = lent.outbound();
        if let Some((memory, filled)) = first.and_then(|read| lane.queue.lend(read)) {
            match out.bundler.take_over(memory, filled) {
                Some(bundler) => {
                    let mut alone = Outbound { bundler, receiver: None };
                    self.forward(lane, &mut alone, filled);
                    self.flush(lane, &mut alone, 0);
                }
                None => self.forward(lane, out, filled),
            }
        }
        let mut bytes = 0;
        for _ in 0..BUDGET {
            match lane.queue.recv(out.bundler.room()) {
                Ok(Some(filled)) => {
                    self.forward(lane, out, filled);
                    bytes += filled;
                    if bytes >= BUDGET_BYTES {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("TUN queue of worker {}: {error}", lane.worker);
                    break;
                }
            }
        }
        self.flush(lane, out, 0);
        drop(lent);
        self.wake_others(lane.worker);
    }

    /// The packet in the room: to its session here, or into the mailbox of the worker that has it.
    fn forward<B: DerefMut<Target = [u8]>>(&self, lane: &Lane, out: &mut Outbound<B>, filled: usize) {
        let checked = match out.bundler.check(filled) {
            Ok(checked) => checked,
            Err(cause) => return self.counters.dropped(lane.worker as usize, cause),
        };
        let (view, _, load) = &checked;
        let result = match self.table.get(view.destination) {
            None => Err(DropCause::NoRoute),
            Some(route) if u32::from(route.worker) == lane.worker => {
                return self.deliver(lane, out, filled, route, &checked);
            }
            Some(route) => match self.lanes.get(usize::from(route.worker)) {
                None => Err(DropCause::SessionGone),
                Some(other) if other.mailbox.post(route, out.bundler.room().get(..filled).unwrap_or_default()) => {
                    Ok(())
                }
                Some(_) => Err(DropCause::QueueFull),
            },
        };
        if let Err(cause) = result {
            self.counters.dropped_all(lane.worker as usize, cause, load.packets);
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
        lane.mailbox.open();
        let Some(mut lent) = lane.lend() else { return };
        let out = lent.outbound();
        lane.mailbox.drain(|route, read| {
            let filled = read.len();
            let Some(room) = out.bundler.room().get_mut(..filled) else { return };
            room.copy_from_slice(read);
            if let Ok(checked) = out.bundler.check(filled) {
                self.deliver(lane, out, filled, route, &checked);
            }
        });
        self.flush(lane, out, 0);
    }

    /// Takes the packet in the room to its client, on the session's worker.
    fn deliver<B: DerefMut<Target = [u8]>>(
        &self,
        lane: &Lane,
        out: &mut Outbound<B>,
        filled: usize,
        route: Route,
        (view, offload, load): &(Ipv4View, Offload, Load),
    ) {
        let channel = lane.channel(route);
        let owner = channel.as_ref().and_then(|channel| Some((channel, channel.data::<Session>()?)));
        // Since the route was read its slot may have become another's.
        let Some((channel, session)) = owner.filter(|(_, session)| session.leased() == Some(view.destination)) else {
            return self.counters.dropped_all(lane.worker as usize, DropCause::SessionGone, load.packets);
        };
        if !session.is_allowed() {
            return self.counters.dropped_all(lane.worker as usize, DropCause::NotAllowed, load.packets);
        }
        if !out.receiver.as_ref().is_some_and(|receiver| Arc::ptr_eq(receiver, channel)) {
            self.flush(lane, out, filled);
            out.receiver = Some(Arc::clone(channel));
        }
        let send = |packet: &[u8], load| self.send(lane, channel, packet, load);
        out.bundler.take(filled, offload, *load, &session.as_peer(), send);
    }

    /// Sends the bundle that is being filled; the `next` bytes in its room begin the next one.
    fn flush<B: DerefMut<Target = [u8]>>(&self, lane: &Lane, out: &mut Outbound<B>, next: usize) {
        let receiver = out.receiver.take();
        match receiver.as_ref().and_then(|channel| Some((channel, channel.data::<Session>()?))) {
            Some((channel, session)) => {
                let send = |packet: &[u8], load| self.send(lane, channel, packet, load);
                out.bundler.flush(next, &session.as_peer(), send);
            }
            None => {
                let load = out.bundler.discard(next);
                self.counters.dropped_all(lane.worker as usize, DropCause::SessionGone, load.packets);
            }
        }
    }

    /// A whole VPN packet. A client that does not read costs its queue, and no more.
    fn send(&self, lane: &Lane, channel: &Channel, packet: &[u8], load: Load) {
        let Load { packets, bytes } = load;
        let has_room = channel.pending().is_some_and(|waiting| waiting + packet.len() <= self.settings.session_queue);
        if has_room && channel.send(TYPE_DATA, packet) {
            self.counters.down(lane.worker as usize, load);
            channel.add_stats(&SessionStats { bytes_recv: bytes, packets_recv: packets, ..SessionStats::default() });
        } else {
            self.counters.dropped_all(lane.worker as usize, DropCause::OutputFull, packets);
            let lost = SessionStats { bytes_recv_lost: bytes, packets_recv_lost: packets, ..SessionStats::default() };
            channel.add_stats(&lost);
        }
    }
}
