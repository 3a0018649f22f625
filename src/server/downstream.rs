//! From the host to clients: drains a TUN queue, or a mailbox, at a wake-up. What a client's stream cannot take now
//! waits in the session's outlet.

use std::ops::DerefMut;
use std::sync::Arc;

use crate::datapath::{Room, Sink, drain};
use crate::sdk::channel::{Channel, SessionStats, TYPE_DATA};
use vpn_core::forward::{
    Bundler, DropCause, Load, Networks, Offload, Route, adopt, clamp_mss, is_adoptable, is_too_big,
};
use vpn_core::meter::Event;
use vpn_core::queue::Events;
use vpn_core::wire::{Ipv4View, inspect};

use super::Server;
use super::session::Session;
use super::worker_datapath::WorkerDatapath;

impl Server {
    /// Reads the host's packets for clients, up to the budget, and sends them on.
    pub(super) fn drain_tun(self: &Arc<Self>, datapath: &WorkerDatapath, first: Option<&mut [u8]>) {
        // Upstream packets that are waiting must not wait for a downstream batch.
        datapath.flush_tun();
        let Some(mut guard) = datapath.lend_bundler() else { return };
        let mut batch = Batch { server: self, datapath, receiver: None };
        if let Err(error) = drain(&datapath.queue, first, guard.bundler(), &mut batch) {
            log::debug!("cannot read the TUN queue of worker {}: {error}", datapath.worker);
        }
        self.hand_down_waiting(datapath, guard.bundler());
        drop(guard);
        self.wake_other_workers(datapath.worker);
    }

    fn wake_other_workers(self: &Arc<Self>, worker: u32) {
        for datapath in self.datapaths.iter().filter(|datapath| datapath.worker != worker) {
            let server = Arc::downgrade(self);
            let receiver = datapath.worker;
            datapath.mailbox.wake(move || {
                if let Some(server) = server.upgrade() {
                    server.open_mailbox(receiver);
                }
            });
        }
    }

    fn open_mailbox(&self, worker: u32) {
        let Some(datapath) = self.datapaths.get(worker as usize) else { return };
        datapath.mailbox.open();
        let Some(mut guard) = datapath.lend_bundler() else { return };
        let bundler = guard.bundler();
        let mut batch = Batch { server: self, datapath, receiver: None };
        datapath.mailbox.drain(|route, read| {
            let len = read.len();
            let Some(space) = bundler.spare_capacity().get_mut(..len) else { return };
            space.copy_from_slice(read);
            if let Ok(checked) = bundler.check(len) {
                batch.deliver(bundler, len, route, &checked);
            }
        });
        batch.flush(bundler);
        self.hand_down_waiting(datapath, bundler);
    }

    /// The stream of a session takes more of what waits for it.
    pub(super) fn drained_session(&self, channel: &Arc<Channel>) {
        let Some(route) = channel.data::<Session>().and_then(|session| *session.route.lock()) else { return };
        let Some(datapath) = self.datapaths.get(usize::from(route.worker)) else { return };
        let Some(mut guard) = datapath.lend_bundler() else { return };
        self.hand_down(datapath, route, guard.bundler());
    }

    /// Hands down what has begun to wait in this turn.
    fn hand_down_waiting(&self, datapath: &WorkerDatapath, bundler: &mut Bundler) {
        while let Some(route) = datapath.next_waiting() {
            self.hand_down(datapath, route, bundler);
        }
    }

    /// Sends as much of what waits for a session as its stream may have now.
    pub(super) fn hand_down(&self, datapath: &WorkerDatapath, route: Route, bundler: &mut Bundler) {
        let Some(channel) = datapath.begin(route) else { return };
        let Some(session) = channel.data::<Session>() else { return };
        if !session.is_allowed() {
            let lost = datapath.clear(route);
            self.counters.dropped_all(datapath.worker as usize, DropCause::NotAllowed, lost.packets);
        }
        let (peer, mut events) = (session.as_peer(), Events::default());
        let send = |packet: &[u8], load| self.send_down(datapath, &channel, packet, load);
        while let Some(len) = datapath.pop(route, bundler.spare_capacity(), &mut events) {
            if let Ok((_, offload, load)) = bundler.check(len) {
                bundler.take(len, &offload, load, &peer, send);
            }
        }
        bundler.flush(0, &peer, send);
        datapath.end(route);
        self.count_events(datapath, &channel, &events);
    }

    /// Counts what a session's queue has dropped and marked.
    fn count_events(&self, datapath: &WorkerDatapath, channel: &Channel, events: &Events) {
        events.drops().for_each(|(cause, load)| self.count_lost(datapath, channel, cause, load));
        self.counters.marked(datapath.worker as usize, events.marked());
        self.figures.waited_down(datapath.worker, events.delays());
    }

    fn count_lost(&self, datapath: &WorkerDatapath, channel: &Channel, cause: DropCause, lost: Load) {
        let Load { packets, bytes } = lost;
        self.counters.dropped_all(datapath.worker as usize, cause, packets);
        let lost = SessionStats { bytes_recv_lost: bytes, packets_recv_lost: packets, ..SessionStats::default() };
        channel.add_stats(&lost);
    }

    /// Sends a whole VPN packet. If the client reads too slowly, only its own packets are dropped.
    fn send_down(&self, datapath: &WorkerDatapath, channel: &Arc<Channel>, packet: &[u8], load: Load) {
        let Load { packets, bytes } = load;
        let fits_queue = channel.pending().is_some_and(|waiting| waiting + packet.len() <= self.session_queue());
        if fits_queue && channel.send(TYPE_DATA, packet) {
            self.counters.down(datapath.worker as usize, load);
            if channel.data::<Session>().is_some_and(|session| session.carried.count(0, bytes)) {
                self.meter(channel, Event::Tick);
            }
            channel.add_stats(&SessionStats { bytes_recv: bytes, packets_recv: packets, ..SessionStats::default() });
        } else {
            self.count_lost(datapath, channel, DropCause::OutputFull, load);
        }
    }
}

/// The packets of one wake-up. The bundle that is being filled belongs to the receiver.
struct Batch<'a> {
    server: &'a Server,
    datapath: &'a WorkerDatapath,
    receiver: Option<Receiver>,
}

/// A session, and what its stream may be given in this wake-up.
struct Receiver {
    channel: Arc<Channel>,
    room: Room,
}

impl Sink for Batch<'_> {
    /// Delivers the packet to its session on this worker, or puts it into the mailbox of the session's worker.
    fn take<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, len: usize) {
        let Batch { server, datapath, .. } = *self;
        adopt_link_local(bundler.packet_mut(len));
        let checked = match bundler.check(len) {
            Ok(checked) => checked,
            Err(cause) => return server.counters.dropped(datapath.worker as usize, cause),
        };
        let (view, _, load) = &checked;
        // Its destinations are clients, so that no list of denied ones is needed.
        if let Err(cause) = server.policy(&Networks::default()).check_downstream(view) {
            return server.counters.dropped_all(datapath.worker as usize, cause, load.packets);
        }
        let result = match server.table.get(view.destination) {
            None => Err(DropCause::NoRoute),
            Some(route) if u32::from(route.worker) == datapath.worker => {
                return self.deliver(bundler, len, route, &checked);
            }
            Some(route) => match server.datapaths.get(usize::from(route.worker)) {
                None => Err(DropCause::SessionGone),
                Some(other) if other.mailbox.post(route, bundler.spare_capacity().get(..len).unwrap_or_default()) => {
                    Ok(())
                }
                Some(_) => Err(DropCause::QueueFull),
            },
        };
        if let Err(cause) = result {
            server.counters.dropped_all(datapath.worker as usize, cause, load.packets);
        }
    }

    fn flush<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>) {
        self.flush_before(bundler, 0);
    }
}

impl Batch<'_> {
    /// Adds the packet to the bundle for its client, on the session's worker.
    fn deliver<B: DerefMut<Target = [u8]>>(
        &mut self,
        bundler: &mut Bundler<B>,
        len: usize,
        route: Route,
        (view, offload, load): &(Ipv4View, Offload, Load),
    ) {
        let Batch { server, datapath, .. } = *self;
        let channel = datapath.channel(route);
        let owner = channel.as_ref().and_then(|channel| Some((channel, channel.data::<Session>()?)));
        // Another session may have taken the slot since the route was read.
        let Some((channel, session)) = owner.filter(|(_, session)| session.leased() == Some(view.destination)) else {
            return server.counters.dropped_all(datapath.worker as usize, DropCause::SessionGone, load.packets);
        };
        if !session.is_allowed() {
            return server.counters.dropped_all(datapath.worker as usize, DropCause::NotAllowed, load.packets);
        }
        if let Some(mtu) = session.inner_mtu() {
            let packet = bundler.packet_mut(len);
            if is_too_big(packet, offload, mtu) {
                datapath.report_too_big(packet, view, mtu, server.now());
                return server.counters.dropped_all(datapath.worker as usize, DropCause::TooBig, load.packets);
            }
            clamp_mss(packet, view, offload, mtu);
        }
        if !self.receiver.as_ref().is_some_and(|receiver| Arc::ptr_eq(&receiver.channel, channel)) {
            self.flush_before(bundler, len);
        }
        let new = || Receiver { channel: Arc::clone(channel), room: datapath.room(route) };
        let room = &mut self.receiver.get_or_insert_with(new).room;
        if room.takes(len, offload) {
            let send = |packet: &[u8], load| server.send_down(datapath, channel, packet, load);
            return bundler.take(len, offload, *load, &session.as_peer(), send);
        }
        room.close();
        let events = datapath.wait(route, bundler.packet(len), (view, offload));
        server.count_events(datapath, channel, &events);
    }

    /// Sends the bundle that is being filled. The packet of `next` bytes behind it starts the next bundle.
    fn flush_before<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, next: usize) {
        let Batch { server, datapath, .. } = *self;
        let receiver = self.receiver.take();
        let channel = receiver.as_ref().map(|receiver| &receiver.channel);
        match channel.and_then(|channel| Some((channel, channel.data::<Session>()?))) {
            Some((channel, session)) => {
                let send = |packet: &[u8], load| server.send_down(datapath, channel, packet, load);
                bundler.flush(next, &session.as_peer(), send);
            }
            None => {
                let load = bundler.discard(next);
                server.counters.dropped_all(datapath.worker as usize, DropCause::SessionGone, load.packets);
            }
        }
    }
}

/// A client takes nothing from addresses that are never routed, but a router of a private link may have no other.
fn adopt_link_local(packet: &mut [u8]) {
    if is_adoptable(packet) && inspect(packet).is_ok_and(|view| view.source.is_link_local()) {
        adopt(packet);
    }
}
