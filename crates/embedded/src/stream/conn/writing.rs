//! A stream's output: the packets of its channels, sent at the end of the worker's turn or as soon as a batch is full.

use super::{Conn, registry};
use crate::reactor::Worker;
use crate::stream::outgoing::{FlushError, Flushed};
use crate::stream::{COUNTERS, HEADER_LEN, MAX_DATA, MAX_DATA_UNSERVED, OUTPUT_LIMIT_UNSERVED, count, set_patience};
use libc::{ECONNRESET, EPROTO};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::rc::Rc;
use std::time::Duration;

/// The number of periodic looks, without output in between, after which a peer does not read.
const STUCK_LOOKS: u32 = 2;
/// What TLS adds to the output of a full queue at most, bytes: the frames of one batch's records.
const TLS_ROOM: usize = 512;

impl Conn {
    /// The turn of the loop ends: sends the output written in it.
    pub(super) fn flush_turn(&self, worker: &Rc<Worker>) {
        self.dirty.set(false);
        if !self.closing.get() {
            self.flush(worker);
        }
    }

    /// Queues one packet; returns the bytes of `data` accepted, 0 if the stream is closing or its output is full.
    pub(crate) fn write_packet(&self, worker: &Worker, channel: u8, kind: u8, data: &[u8]) -> usize {
        let (Some(view), false) = (self.view.get(), self.closing.get()) else { return 0 };
        let here = self.out.borrow().pending();
        let needed = here + HEADER_LEN + data.len();
        let in_kernel = if self.has_service.get() { 0 } else { self.kernel.look(&self.io) };
        let is_large = needed + in_kernel > self.output_limit() - TLS_ROOM;
        if data.len() > MAX_DATA
            || is_large && !self.may_write_large(worker, here + in_kernel, needed, data.len())
            || !self.covers_output(needed)
        {
            self.is_held_back.set(here == 0);
            count(&COUNTERS.output_full);
            return 0;
        }
        let mut out = self.out.borrow_mut();
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
        if is_large && self.out.borrow().pending() > self.output_limit() {
            // The kernel took less of a large packet than it announced, and no packet can be taken back in its middle.
            log::debug!("closed the stream of {}: it has no service and does not read", self.peer);
            count(&COUNTERS.output_full);
            self.close(worker);
            return 0;
        }
        data.len()
    }

    /// The kernel has not accepted all output yet, or the peer of a stream without granted service has not acknowledged
    /// all of it.
    pub(crate) fn has_output(&self) -> bool {
        self.out.borrow().pending() > 0 || !self.has_service.get() && self.kernel.look(&self.io) > 0
    }

    /// Returns whether the budget has room for `here` bytes of output in this process, and for those in the kernel.
    fn covers_output(&self, here: usize) -> bool {
        if self.permit.is_some() && !self.output_account.has(here + self.kernel.known()) {
            self.kernel.look(&self.io);
        }
        self.output_account.covers(here + self.kernel.known())
    }

    /// Whether a packet may be written that makes more output wait than the limit: because the client has got a service
    /// since the last look, or because the packet passes the queue. A packet above the limit of a client without
    /// service, such as the answer to the largest CHECK, is written when nothing waits and the kernel has room, which
    /// then takes at least a third of its buffer's size at once.
    fn may_write_large(&self, worker: &Worker, waiting: usize, needed: usize, size: usize) -> bool {
        if !self.has_service.get() && self.look_for_service(worker.now()) {
            return needed <= self.output_limit() - TLS_ROOM;
        }
        !self.has_service.get() && waiting == 0 && size <= MAX_DATA_UNSERVED && self.kernel_has_room()
    }

    fn kernel_has_room(&self) -> bool {
        let mut socket = [PollFd::new(&*self.io, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut socket, Some(&at_once)) == Ok(1) && socket[0].revents().contains(PollFlags::OUT)
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
            let waiting = self.out.borrow().pending();
            let needed = waiting + HEADER_LEN + packet.data.len();
            let is_full = needed > self.output_limit() - TLS_ROOM || !self.covers_output(needed);
            // A packet that nothing waits before is tried in any case.
            if is_full && waiting > 0 {
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
        let before = out.pending();
        let flushed = out.flush(&*self.io, &mut self.tls.borrow_mut(), &worker.buffers);
        let pending = out.pending();
        let blocked = out.is_blocked();
        drop(out);
        if self.permit.is_some() {
            self.kernel.passed(before.saturating_sub(pending), &self.io);
        }
        self.output_account.settle(pending + self.kernel.known());
        if !self.has_service.get() {
            self.mailbox.set_output(pending);
        }
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
            self.watch_room(worker);
        }
    }

    /// Counts what the kernel keeps, and gives a peer that has read nothing between two periodic looks more time than
    /// one whose TCP is silent.
    pub(super) fn look_at_output(&self, worker: &Worker) {
        if self.permit.is_some() {
            let in_kernel = self.kernel.look(&self.io);
            let pending = self.out.borrow().pending();
            // A refusal here is one of the next write.
            self.output_account.covers(pending + in_kernel);
            self.output_account.shrink(pending + in_kernel);
            if in_kernel == 0 && pending == 0 && self.is_held_back.replace(false) {
                // No event of the loop tells that the peer has acknowledged all.
                self.tell_room(worker);
            }
        }
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
        if let Ok(Flushed::All) = out.flush(&*self.io, &mut tls, &worker.buffers)
            && tls.is_established()
        {
            tls.send_close_notify(out.control());
            // The connection ends in either case.
            let _ = out.flush(&*self.io, &mut tls, &worker.buffers);
        }
        out.discard(&worker.buffers);
        self.received.borrow_mut().detach_from_worker(&worker.buffers);
        if self.permit.is_some() && self.kernel.look(&self.io) > OUTPUT_LIMIT_UNSERVED {
            // The kernel would keep it for as long as a peer that does not read answers, and no account counts it.
            let _ = rustix::net::sockopt::set_socket_linger(&self.io, Some(Duration::ZERO));
        }
    }
}
