//! From the server to the host: checks the server's packets, and writes them to the device.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::datapath::Writer;
use crate::sdk::worker::{self, Owned};
use host::tun::Queue;
use vpn_core::forward::{Counters, DropCause, Load, Networks, Offload, adopt, check_downlink, is_adoptable};
use vpn_core::wire::{Ipv4View, Record, WireError};

/// Carries packets from the server to the device.
pub(super) struct Downlink {
    queue: Arc<Queue>,
    /// The leased address: the server must not reach this host's other addresses through the tunnel.
    addr: Ipv4Addr,
    /// The networks that packets may come from: the server must not speak for hosts outside them. `None` for any.
    sources: Option<Networks>,
    /// The device's: behind it may be hosts with larger ones, and not every server lowers what they announce.
    mtu: u16,
    counters: Arc<Counters>,
    writer: Owned<Writer>,
    /// For packets that arrive on a thread other than the device's worker: C's thread, or the worker that the stream
    /// has moved to.
    shared_writer: Mutex<Option<Writer>>,
}

impl Downlink {
    pub(super) fn new(
        queue: Arc<Queue>,
        worker: u32,
        addr: Ipv4Addr,
        sources: Option<Networks>,
        mtu: u16,
        counters: Arc<Counters>,
    ) -> Downlink {
        let writer = Owned::new(worker, Writer::new(&queue));
        Downlink { queue, addr, sources, mtu, counters, writer, shared_writer: Mutex::default() }
    }

    /// Writes the waiting packets to the host, on the device's worker.
    pub(super) fn flush(&self) {
        self.writer.with(|writer| writer.flush(&self.queue));
    }

    /// Delivers a packet that the server sent without a bundle. Call it on any thread.
    pub(super) fn deliver(self: &Arc<Self>, record: &Record<'_>) {
        if worker::current() == Some(self.writer.worker()) {
            self.deliver_single(record);
        } else {
            self.deliver_off_worker(std::iter::once(Ok(*record)));
        }
    }

    /// Delivers the records of a bundle. Call it on any thread.
    pub(super) fn deliver_all<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        if worker::current() == Some(self.writer.worker()) {
            self.writer.with(|writer| self.write_all(writer, records));
        } else {
            self.deliver_off_worker(records);
        }
    }

    fn write_all<'a>(&self, writer: &mut Writer, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        let mut load = Load::default();
        for record in records {
            match record.map_err(DropCause::from).and_then(|record| self.check(&record)) {
                Ok((packet, view, offload)) => {
                    writer.write(&self.queue, &packet, &view, &offload, Some(self.mtu));
                    load += Load::of(&offload, packet.len());
                }
                Err(cause) => self.counters.dropped(0, cause),
            }
        }
        writer.flush(&self.queue);
        self.count(load, writer.take_refused());
    }

    /// Delivers a single packet, on the device's worker. A packet of a batch may wait until the end of the worker's
    /// turn.
    fn deliver_single(self: &Arc<Self>, record: &Record<'_>) {
        let (packet, view, offload) = match self.check(record) {
            Ok(checked) => checked,
            Err(cause) => return self.counters.dropped(0, cause),
        };
        let now = Instant::now();
        let written = self.writer.with(|writer| {
            let flush = writer.write_single(&self.queue, &packet, &view, &offload, Some(self.mtu), now);
            (flush, writer.take_refused())
        });
        let Some((flush, refused)) = written else { return };
        self.count(Load::of(&offload, packet.len()), refused);
        if flush {
            let downlink = Arc::clone(self);
            if !worker::exec(self.writer.worker(), move || downlink.end_turn()) {
                self.end_turn();
            }
        }
    }

    /// Writes the packets that were waiting for more of their batch.
    fn end_turn(&self) {
        let refused = self.writer.with(|writer| {
            writer.end_turn(&self.queue);
            writer.take_refused()
        });
        self.counters.uncount_down(0, refused.unwrap_or_default());
    }

    fn deliver_off_worker<'a>(&self, records: impl Iterator<Item = Result<Record<'a>, WireError>>) {
        self.write_all(self.shared_writer.lock().get_or_insert_with(|| Writer::new(&self.queue)), records);
    }

    fn count(&self, load: Load, refused: Load) {
        self.counters.down(0, load);
        self.counters.uncount_down(0, refused);
    }

    /// Checks a packet. It is a copy if this host would not take it from its sender: the routers of a path have any
    /// address, also one that this host has itself, or that it routes elsewhere.
    fn check<'a>(&self, record: &Record<'a>) -> Result<(Cow<'a, [u8]>, Ipv4View, Offload), DropCause> {
        let mut packet = Cow::Borrowed(record.packet);
        if is_adoptable(&packet) {
            adopt(packet.to_mut());
        }
        let (view, offload) = check_downlink(&record.header, &packet, self.addr, self.sources.as_ref())?;
        Ok((packet, view, offload))
    }
}
