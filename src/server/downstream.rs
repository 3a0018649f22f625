//! From the host to clients: what a wake-up of a TUN queue, or of a mailbox, does.

use std::ops::DerefMut;
use std::sync::Arc;

use crate::datapath::{Budget, Sink, drain};
use crate::sdk::channel::{Channel, SessionStats, TYPE_DATA};
use vpn_core::forward::{Bundler, DropCause, Load, Offload, Route};
use vpn_core::wire::Ipv4View;

use super::Server;
use super::lane::Lane;
use super::session::Session;

/// What one wake-up of a queue reads.
const BUDGET: Budget = Budget { packets: 256, bytes: 1024 * 1024 };

impl Server {
    /// Reads what the host wants to send to clients, up to the budget, and sends it on.
    pub(super) fn drain_tun(self: &Arc<Self>, lane: &Lane, first: Option<&mut [u8]>) {
        // What waits for the host does not wait for a batch of the other direction.
        lane.flush_tun();
        let Some(mut guard) = lane.lend_bundler() else { return };
        let mut batch = Batch { server: self, lane, receiver: None };
        if let Err(error) = drain(&lane.queue, first, guard.bundler(), &BUDGET, &mut batch) {
            log::debug!("TUN queue of worker {}: {error}", lane.worker);
        }
        drop(guard);
        self.wake_others(lane.worker);
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
        let Some(mut guard) = lane.lend_bundler() else { return };
        let bundler = guard.bundler();
        let mut batch = Batch { server: self, lane, receiver: None };
        lane.mailbox.drain(|route, read| {
            let len = read.len();
            let Some(room) = bundler.spare_capacity().get_mut(..len) else { return };
            room.copy_from_slice(read);
            if let Ok(checked) = bundler.check(len) {
                batch.deliver(bundler, len, route, &checked);
            }
        });
        batch.flush(bundler);
    }

    /// A whole VPN packet. A client that does not read costs its queue, and no more.
    fn send_down(&self, lane: &Lane, channel: &Channel, packet: &[u8], load: Load) {
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

/// What one wake-up has for clients: the bundle that is being filled is the receiver's.
struct Batch<'a> {
    server: &'a Server,
    lane: &'a Lane,
    receiver: Option<Arc<Channel>>,
}

impl Sink for Batch<'_> {
    /// The packet in the room: to its session here, or into the mailbox of the worker that has it.
    fn take<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, len: usize) {
        let Batch { server, lane, .. } = *self;
        let checked = match bundler.check(len) {
            Ok(checked) => checked,
            Err(cause) => return server.counters.dropped(lane.worker as usize, cause),
        };
        let (view, _, load) = &checked;
        let result = match server.table.get(view.destination) {
            None => Err(DropCause::NoRoute),
            Some(route) if u32::from(route.worker) == lane.worker => {
                return self.deliver(bundler, len, route, &checked);
            }
            Some(route) => match server.lanes.get(usize::from(route.worker)) {
                None => Err(DropCause::SessionGone),
                Some(other) if other.mailbox.post(route, bundler.spare_capacity().get(..len).unwrap_or_default()) => {
                    Ok(())
                }
                Some(_) => Err(DropCause::QueueFull),
            },
        };
        if let Err(cause) = result {
            server.counters.dropped_all(lane.worker as usize, cause, load.packets);
        }
    }

    fn flush<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>) {
        self.flush_before(bundler, 0);
    }
}

impl Batch<'_> {
    /// Takes the packet in the room to its client, on the session's worker.
    fn deliver<B: DerefMut<Target = [u8]>>(
        &mut self,
        bundler: &mut Bundler<B>,
        len: usize,
        route: Route,
        (view, offload, load): &(Ipv4View, Offload, Load),
    ) {
        let Batch { server, lane, .. } = *self;
        let channel = lane.channel(route);
        let owner = channel.as_ref().and_then(|channel| Some((channel, channel.data::<Session>()?)));
        // Since the route was read its slot may have become another's.
        let Some((channel, session)) = owner.filter(|(_, session)| session.leased() == Some(view.destination)) else {
            return server.counters.dropped_all(lane.worker as usize, DropCause::SessionGone, load.packets);
        };
        if !session.is_allowed() {
            return server.counters.dropped_all(lane.worker as usize, DropCause::NotAllowed, load.packets);
        }
        if !self.receiver.as_ref().is_some_and(|receiver| Arc::ptr_eq(receiver, channel)) {
            self.flush_before(bundler, len);
            self.receiver = Some(Arc::clone(channel));
        }
        let send = |packet: &[u8], load| server.send_down(lane, channel, packet, load);
        bundler.take(len, offload, *load, &session.as_peer(), send);
    }

    /// Sends the bundle that is being filled; the `next` bytes in its room begin the next one.
    fn flush_before<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, next: usize) {
        let Batch { server, lane, .. } = *self;
        let receiver = self.receiver.take();
        match receiver.as_ref().and_then(|channel| Some((channel, channel.data::<Session>()?))) {
            Some((channel, session)) => {
                let send = |packet: &[u8], load| server.send_down(lane, channel, packet, load);
                bundler.flush(next, &session.as_peer(), send);
            }
            None => {
                let load = bundler.discard(next);
                server.counters.dropped_all(lane.worker as usize, DropCause::SessionGone, load.packets);
            }
        }
    }
}
