//! From the server to the host: checks the server's packets, and writes them to the device.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::datapath::Writer;
use crate::sdk::worker::{self, Owned};
use host::tun::Queue;
use vpn_core::forward::{Counters, DropCause, Load, Offload};
use vpn_core::wire::{Ipv4View, Record, WireError};

/// The way from the server to the device.
pub(super) struct Downlink {
    queue: Arc<Queue>,
    /// The leased address: the server must not reach this host's other addresses through the tunnel.
    addr: Ipv4Addr,
    counters: Arc<Counters>,
    writer: Owned<Writer>,
    /// For packets that come on another thread than the worker's: C's, or that of a stream which was moved.
    others_writer: Mutex<Option<Writer>>,
}

impl Downlink {
    pub(super) fn new(queue: Arc<Queue>, worker: u32, addr: Ipv4Addr, counters: Arc<Counters>) -> Downlink {
        let writer = Owned::new(worker, Writer::new(&queue));
        Downlink { queue, addr, counters, writer, others_writer: Mutex::default() }
    }

    /// Writes what waits for the host, on the device's worker.
    pub(super) fn flush(&self) {
        self.writer.with(|writer| writer.flush(&self.queue));
    }

    /// A packet from the server that came by itself. Any thread.
    pub(super) fn deliver(self: &Arc<Self>, record: &Record<'_>) {
        if worker::current() == Some(self.writer.worker()) {
            self.deliver_single(record);
        } else {
            self.deliver_elsewhere(std::iter::once(Ok(*record)));
        }
    }

    /// The records of a bundle. Any thread.
    pub(super) fn deliver_all<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        if worker::current() == Some(self.writer.worker()) {
            self.writer.with(|writer| self.write_all(writer, records));
        } else {
            self.deliver_elsewhere(records);
        }
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
        self.count(load, writer.take_lost());
    }

    /// A packet by itself, on the device's worker: one of a batch may wait for the end of the worker's turn.
    fn deliver_single(self: &Arc<Self>, record: &Record<'_>) {
        let (packet, view, offload) = match self.check(record) {
            Ok(checked) => checked,
            Err(cause) => return self.counters.dropped(0, cause),
        };
        let now = Instant::now();
        let written = self.writer.with(|writer| {
            let flush = writer.write_single(&self.queue, packet, &view, &offload, now);
            (flush, writer.take_lost())
        });
        let Some((flush, lost)) = written else { return };
        self.count(Load::of(&offload, packet.len()), lost);
        if flush {
            let downlink = Arc::clone(self);
            if !worker::exec(self.writer.worker(), move || downlink.end_turn()) {
                self.end_turn();
            }
        }
    }

    /// Writes what was left waiting for more of its batch.
    fn end_turn(&self) {
        let lost = self.writer.with(|writer| {
            writer.end_turn(&self.queue);
            writer.take_lost()
        });
        self.counters.uncount_down(0, lost.unwrap_or_default());
    }

    fn deliver_elsewhere<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        self.write_all(self.others_writer.lock().get_or_insert_with(|| Writer::new(&self.queue)), records);
    }

    fn count(&self, load: Load, lost: Load) {
        self.counters.down(0, load);
        self.counters.uncount_down(0, lost);
    }

    fn check<'a>(&self, record: &Record<'a>) -> Result<(&'a [u8], Ipv4View, Offload), DropCause> {
        let (view, offload) = Offload::check(&record.header, record.packet)?;
        if view.destination != self.addr {
            return Err(DropCause::WrongDestination);
        }
        Ok((record.packet, view, offload))
    }
}
