//! A stream's output: the packets of its channels, sent at the end of the worker's turn or as soon as a batch is full.

use super::{Conn, registry};
use crate::cview::stream as cstream;
use crate::reactor::Worker;
use crate::stream::outgoing::{FlushError, Flushed};
use crate::stream::{COUNTERS, HEADER_LEN, MAX_DATA, OUTPUT_LIMIT, count, set_patience};
use libc::{ECONNRESET, EPROTO};
use std::rc::Rc;

/// The number of periodic looks, without output in between, after which a peer does not read.
const STUCK_LOOKS: u32 = 2;

impl Conn {
    /// The turn of the loop ends: sends the output written in it.
    pub(super) fn flush_turn(&self, worker: &Rc<Worker>) {
        self.dirty.set(false);
        if !self.closing.get() {
            self.flush(worker);
        }
    }

    /// The kernel has accepted all output: the channels may write more.
    pub(super) fn notify_drained(&self, worker: &Rc<Worker>) {
        self.send_queued(worker);
        let Some(view) = self.view.get() else { return };
        for index in 0..view.channels.len() {
            if self.closing.get() {
                return;
            }
            cstream::packet_out(view, index);
        }
    }

    /// Queues one packet; returns the bytes of `data` accepted, 0 if the stream is closing or its output is full.
    pub(crate) fn write_packet(&self, worker: &Worker, channel: u8, kind: u8, data: &[u8]) -> usize {
        let (Some(view), false) = (self.view.get(), self.closing.get()) else { return 0 };
        let mut out = self.out.borrow_mut();
        if data.len() > MAX_DATA || out.pending() + HEADER_LEN + data.len() > OUTPUT_LIMIT {
            count(&COUNTERS.output_full);
            return 0;
        }
        // Lossless: MAX_DATA is far below 4 GiB.
        out.push_packet(channel, kind, data, data.len() as u32, &worker.buffers);
        view.es.buf_out_size.set(out.pending());
        let early = out.has_full_batch() && !out.is_blocked();
        drop(out);
        self.had_output.set(true);
        if early {
            self.flush(worker);
        }
        self.flush_later(worker);
        data.len()
    }

    /// Handles queued packets for the stream with this uuid, unless it has moved.
    pub(super) fn on_queued(worker: &Rc<Worker>, uuid: u64) {
        if let Some(conn) = registry::find(uuid) {
            conn.send_queued(worker);
        }
    }

    /// Sends the packets that other threads have queued for this stream.
    pub(super) fn send_queued(&self, worker: &Worker) {
        let Some(view) = self.view.get() else { return };
        while let Some(packet) = self.mailbox.take() {
            let Some(channel) = view.channels.iter().find(|channel| channel.uuid == packet.channel) else { continue };
            let full = self.out.borrow().pending() + HEADER_LEN + packet.data.len() > OUTPUT_LIMIT;
            if full {
                return self.mailbox.put_back(packet);
            }
            self.write_packet(worker, channel.letter, packet.kind, &packet.data);
        }
    }

    /// Queues bytes of the hello or its answer, before the first packet.
    pub(super) fn queue_handshake_bytes(&self, worker: &Worker, bytes: &[u8]) {
        self.out.borrow_mut().push(bytes, &worker.buffers);
        self.flush_later(worker);
    }

    pub(super) fn flush_later(&self, worker: &Worker) {
        if !self.dirty.replace(true) {
            worker.flush_soon(self.uuid);
        }
    }

    pub(super) fn flush(&self, worker: &Worker) {
        let mut out = self.out.borrow_mut();
        let flushed = out.flush(&self.io, &mut self.tls.borrow_mut(), &worker.buffers);
        let pending = out.pending();
        let blocked = out.is_blocked();
        drop(out);
        if let Some(view) = self.view.get() {
            view.es.buf_out_size.set(pending);
        }
        match flushed {
            Ok(Flushed::All) if self.had_output.replace(false) => worker.drained_now(self.uuid),
            Ok(_) => {}
            Err(error) => {
                log::debug!("connection with {}: {error}", self.peer);
                let errno = match &error {
                    FlushError::Io(error) => error.raw_os_error().unwrap_or(ECONNRESET),
                    FlushError::Tls(_) => EPROTO,
                };
                return self.fail(worker, errno);
            }
        }
        if self.blocked.replace(blocked) != blocked {
            if !blocked && self.stuck.replace(0) >= STUCK_LOOKS {
                set_patience(&self.io, false);
            }
            worker.watch(self.uuid, &self.io, self.interest());
        }
    }

    /// Gives a peer that has read nothing between two periodic looks more time than one whose TCP is silent.
    pub(super) fn look_at_output(&self) {
        if self.blocked.get() {
            self.stuck.set(self.stuck.get().saturating_add(1));
            if self.stuck.get() == STUCK_LOOKS {
                set_patience(&self.io, true);
            }
        }
    }

    /// Sends the remaining output and close_notify as far as the kernel accepts them without blocking.
    pub(super) fn flush_on_close(&self, worker: &Worker) {
        let mut out = self.out.borrow_mut();
        let mut tls = self.tls.borrow_mut();
        if let Ok(Flushed::All) = out.flush(&self.io, &mut tls, &worker.buffers)
            && tls.is_established()
        {
            tls.send_close_notify(out.control());
            // The connection ends in either case.
            let _ = out.flush(&self.io, &mut tls, &worker.buffers);
        }
        out.discard(&worker.buffers);
        self.received.borrow_mut().detach_from_worker(&worker.buffers);
    }
}
