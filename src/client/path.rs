//! Packets between the client's device and its connection.

use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::ops::DerefMut;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::connection;
use super::tunnel::Settings;
use crate::datapath::Writer;
use crate::sdk::channel::Channel;
use crate::sdk::external_channel::ExternalChannel;
use crate::sdk::tun_socket::TunHandler;
use crate::sdk::worker::{self, Owned};
use host::tun::Queue;
use vpn_core::forward::{Bundler, Counters, DropCause, Load, Offload, Peer};
use vpn_core::wire::{Ipv4View, Record, WireError, op};

/// Packets that one wake-up handles before the other sockets of the worker get their turn. Of this library's connection
/// their bytes are bounded by [`connection::FULL`].
const BUDGET: usize = 256;

/// Where the host's packets go.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// Into this library's connection.
    Own(Arc<Channel>),
    /// Into a connection of C's.
    Foreign(Arc<ExternalChannel>),
}

impl Outlet {
    /// `packet` is a whole VPN packet. False: it was not taken.
    fn send(&self, packet: &[u8]) -> bool {
        match self {
            Outlet::Own(channel) => connection::send_upstream(channel, packet),
            Outlet::Foreign(channel) => channel.send(packet, connection::FULL),
        }
    }

    /// The device should not be read until what waits is sent. For C's connection nobody would tell when that is: what
    /// it cannot take is dropped.
    fn is_full(&self) -> bool {
        match self {
            Outlet::Own(channel) => channel.pending().is_none_or(|waiting| waiting > connection::FULL),
            Outlet::Foreign(_) => false,
        }
    }
}

/// What packets need of the tunnel.
pub(super) struct Path {
    queue: Queue,
    worker: u32,
    /// The leased address: nothing else may come out of the tunnel.
    addr: Ipv4Addr,
    counters: Arc<Counters>,
    state: Owned<State>,
    /// For packets that come on another thread than the worker's: C's, or that of a stream which was moved.
    others_writer: Mutex<Option<Writer>>,
}

/// What only the device's worker touches.
struct State {
    outlet: Option<Outlet>,
    peer: Peer,
    /// Taken while a batch is handled.
    bundler: Option<Box<Bundler>>,
    writer: Writer,
}

impl TunHandler for Path {
    fn readable(&self, first: Option<&mut [u8]>) {
        let taken = self.state.with(|state| {
            // What waits for the host does not wait for a batch of the other direction.
            state.writer.flush(&self.queue);
            // It is not there when a panic has ended the last batch.
            (state.bundler.take().unwrap_or_default(), state.outlet.clone(), state.peer)
        });
        let Some((mut bundler, outlet, peer)) = taken else { return };
        let batch = Batch { path: self, outlet, peer };
        if let Some((memory, filled)) = first.and_then(|read| self.queue.lend(read)) {
            match bundler.take_over(memory, filled) {
                Some(mut alone) => {
                    batch.take(&mut alone, filled);
                    batch.flush(&mut alone);
                }
                None => batch.take(&mut bundler, filled),
            }
        }
        for _ in 0..BUDGET {
            match self.queue.recv(bundler.room()) {
                Ok(Some(filled)) => batch.take(&mut bundler, filled),
                Ok(None) => break,
                Err(error) => {
                    log::debug!("tunnel device: {error}");
                    break;
                }
            }
            if batch.outlet.as_ref().is_some_and(Outlet::is_full) {
                break;
            }
        }
        batch.flush(&mut bundler);
        self.state.with(|state| state.bundler = Some(bundler));
    }

    fn failed(&self, errno: c_int) {
        log::error!("tunnel device failed: {}", std::io::Error::from_raw_os_error(errno));
    }
}

/// What one wake-up takes from the device, on its way out.
struct Batch<'a> {
    path: &'a Path,
    outlet: Option<Outlet>,
    peer: Peer,
}

impl Batch<'_> {
    /// The packet in the room: into the bundle, or by itself.
    fn take<B: DerefMut<Target = [u8]>>(&self, bundler: &mut Bundler<B>, filled: usize) {
        match bundler.check(filled) {
            Ok((_, offload, load)) => {
                bundler.take(filled, &offload, load, &self.peer, |packet, load| self.send(packet, load));
            }
            Err(cause) => self.path.counters.dropped(0, cause),
        }
    }

    fn flush<B: DerefMut<Target = [u8]>>(&self, bundler: &mut Bundler<B>) {
        bundler.flush(0, &self.peer, |packet, load| self.send(packet, load));
    }

    fn send(&self, packet: &[u8], load: Load) {
        self.path.send(self.outlet.as_ref(), packet, load);
    }
}

impl Path {
    pub(super) fn new(queue: Queue, worker: u32, settings: &Settings, counters: Arc<Counters>) -> Path {
        let state = State {
            outlet: settings.outlet.clone(),
            peer: Peer {
                bundle_op: op::BUNDLE_SEND,
                plain_op: op::VPN_SEND,
                usage_id: settings.usage_id,
                largest: settings.bundle,
            },
            bundler: Some(Box::default()),
            writer: Writer::new(&queue),
        };
        let (state, others_writer) = (Owned::new(worker, state), Mutex::default());
        Path { queue, worker, addr: settings.addr, counters, state, others_writer }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    pub(super) fn worker(&self) -> u32 {
        self.worker
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// A packet from the server that came by itself. Any thread.
    pub(super) fn deliver(self: &Arc<Self>, record: &Record<'_>) {
        if worker::current() == Some(self.worker) {
            self.deliver_single(record);
        } else {
            self.deliver_elsewhere(std::iter::once(Ok(*record)));
        }
    }

    /// The records of a bundle. Any thread.
    pub(super) fn deliver_all<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        if worker::current() == Some(self.worker) {
            self.state.with(|state| self.write_all(&mut state.writer, records));
        } else {
            self.deliver_elsewhere(records);
        }
    }

    /// Lets go of this connection's channel, on its worker; false when the device had another.
    pub(super) fn detach(&self, channel: &Arc<Channel>) -> bool {
        let was_ours = self.state.with(|state| {
            // Another connection may have the device by now.
            let is_ours = |outlet: &mut Outlet| matches!(outlet, Outlet::Own(current) if Arc::ptr_eq(current, channel));
            state.outlet.take_if(is_ours).is_some()
        });
        was_ours == Some(true)
    }

    fn write_all<'a>(&self, writer: &mut Writer, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        let mut load = Load::default();
        for record in records {
            match record.map_err(DropCause::from).and_then(|record| self.check(&record)) {
                Ok((packet, view, offload)) => {
                    writer.write(&self.queue, packet, &view, &offload);
                    load += Load::of(&offload, packet.len());
                }
                Err(cause) => self.counters.dropped(0, cause),
            }
        }
        writer.flush(&self.queue);
        self.count_down(load, writer.take_lost());
    }

    /// A packet by itself, on the device's worker: one of a batch may wait for the end of the worker's turn.
    fn deliver_single(self: &Arc<Self>, record: &Record<'_>) {
        let checked = self.check(record);
        let (packet, view, offload) = match checked {
            Ok(checked) => checked,
            Err(cause) => return self.counters.dropped(0, cause),
        };
        let now = Instant::now();
        let written = self.state.with(|state| {
            let flush = state.writer.write_single(&self.queue, packet, &view, &offload, now);
            (flush, state.writer.take_lost())
        });
        let Some((flush, lost)) = written else { return };
        self.count_down(Load::of(&offload, packet.len()), lost);
        if flush {
            let path = Arc::clone(self);
            if !worker::exec(self.worker, move || path.end_turn()) {
                self.end_turn();
            }
        }
    }

    /// Writes what was left waiting for more of its batch.
    fn end_turn(&self) {
        let lost = self.state.with(|state| {
            state.writer.end_turn(&self.queue);
            state.writer.take_lost()
        });
        self.counters.lost_down(0, lost.unwrap_or_default());
    }

    fn deliver_elsewhere<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        self.write_all(self.others_writer.lock().get_or_insert_with(|| Writer::new(&self.queue)), records);
    }

    fn count_down(&self, load: Load, lost: Load) {
        self.counters.down(0, load);
        self.counters.lost_down(0, lost);
    }

    fn check<'a>(&self, record: &Record<'a>) -> Result<(&'a [u8], Ipv4View, Offload), DropCause> {
        let (view, offload) = Offload::check(&record.header, record.packet)?;
        if view.destination != self.addr {
            return Err(DropCause::WrongDestination);
        }
        Ok((record.packet, view, offload))
    }

    /// A whole VPN packet for the server.
    fn send(&self, outlet: Option<&Outlet>, packet: &[u8], load: Load) {
        match outlet.map(|outlet| outlet.send(packet)) {
            Some(true) => self.counters.up(0, load),
            Some(false) => self.counters.dropped_all(0, DropCause::OutputFull, load.packets),
            None => self.counters.dropped_all(0, DropCause::SessionGone, load.packets),
        }
    }
}
