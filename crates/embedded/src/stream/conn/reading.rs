//! A stream's input, and when it is read.

use super::{Conn, HANDSHAKE, Phase, Side};
use crate::cview::stream as cstream;
use crate::reactor::Worker;
use crate::stream::incoming::Incoming;
use crate::stream::{COUNTERS, HEADER_LEN, MAX_DATA, MAX_DATA_UNSERVED, SERVICE_CHANNEL, count};
use libc::{ECONNRESET, EKEYREJECTED, EPROTO};
use std::io::{ErrorKind, Read};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most bytes read from one stream in a turn, so that other streams get theirs.
const READ_BUDGET: usize = 512 * 1024;

impl Conn {
    /// Resumes the handling of packets that had to wait.
    pub(super) fn handle_received(&self, worker: &Rc<Worker>) {
        let mut incoming = self.received.take().begin(&worker.buffers);
        self.consume(worker, &mut incoming);
        self.park(worker, incoming);
    }

    /// Ends a read. A peer whose unfinished input exceeds the budget loses its stream.
    fn park(&self, worker: &Worker, mut incoming: Incoming) {
        incoming.park(&worker.buffers);
        if !self.input_account.covers(incoming.waiting()) && !self.closing.get() {
            log::debug!("closed the connection of {}: no memory for its input", self.peer);
            count(&COUNTERS.input_full);
            self.close(worker);
        }
        self.received.replace(incoming);
    }

    /// Channel `index` resumes or pauses its packets: the connection is read while no channel is paused.
    pub(crate) fn set_ready_to_read(&self, worker: &Worker, index: usize, ready: bool) {
        let Some(channel) = self.view.get().and_then(|view| view.channels.get(index)) else { return };
        channel.view.ready_to_read.set(ready);
        self.update_paused(worker);
    }

    /// Like [`Conn::set_ready_to_read`], for the event socket as a whole.
    pub(crate) fn set_socket_readable(&self, worker: &Worker, readable: bool) {
        self.socket_readable.set(readable);
        self.update_paused(worker);
    }

    pub(super) fn read(&self, worker: &Rc<Worker>) {
        let mut incoming = self.received.take().begin(&worker.buffers);
        // Handles waiting packets first, to free space.
        self.consume(worker, &mut incoming);
        let mut budget = READ_BUDGET;
        while budget > 0 && !self.closing.get() && !self.paused.get() {
            let spare = incoming.spare_capacity(&worker.buffers);
            let asked = spare.len();
            let read = match (&*self.io).read(spare) {
                Ok(0) => {
                    self.close(worker);
                    break;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(worker, error.raw_os_error().unwrap_or(ECONNRESET));
                    break;
                }
            };
            incoming.received(read);
            self.receive(worker, &mut incoming);
            self.bound_handshake(worker, read);
            budget = budget.saturating_sub(read);
            // A short read has emptied the socket; another would only return EAGAIN.
            if read < asked {
                break;
            }
        }
        self.park(worker, incoming);
        if let Some(view) = self.view.get() {
            view.es.last_time_active.set(seconds_now());
        }
    }

    /// Ends a connection whose client sends more than a handshake has. TLS would keep it.
    fn bound_handshake(&self, worker: &Worker, read: usize) {
        if self.phase.get() != Phase::Handshake || self.permit.is_none() {
            return;
        }
        self.handshake_bytes.set(self.handshake_bytes.get() + read);
        if self.handshake_bytes.get() > HANDSHAKE && !self.closing.get() {
            log::debug!("closed the connection of {}: its handshake has more than {HANDSHAKE} bytes", self.peer);
            self.fail(worker, EPROTO);
        }
    }

    /// Decrypts, then handles the plain text with nothing borrowed.
    pub(super) fn receive(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let mut out = self.out.borrow_mut();
        let result = incoming.open(&mut self.tls.borrow_mut(), out.control());
        let has_output = !out.control().is_empty();
        drop(out);
        if has_output {
            self.flush_later(worker);
        }
        match result {
            Ok(closed) => {
                self.consume(worker, incoming);
                if closed {
                    self.close(worker);
                }
            }
            Err(error) => {
                log::debug!("connection with {}: {error}", self.peer);
                let is_server = self.tls.borrow().has_agreed_protocol();
                let refused = matches!(&self.side, Side::Client { pin, .. } if is_server && pin.tells_refusal());
                self.fail(worker, if refused { EKEYREJECTED } else { EPROTO });
            }
        }
    }

    pub(super) fn consume(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        if self.phase.get() == Phase::Handshake && self.tls.borrow().is_established() {
            self.established(worker);
        }
        if self.phase.get() == Phase::Hello && !self.closing.get() {
            match &self.side {
                Side::Server => self.take_hello(worker, incoming),
                Side::Client { client, .. } => self.take_answer(worker, client, incoming),
            }
        }
        if self.phase.get() == Phase::Open {
            self.take_packets(worker, incoming);
        }
    }

    fn take_packets(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let Some(view) = self.view.get() else { return };
        while !self.closing.get() && !self.paused.get() {
            let Some((letter, size)) = parse_header(incoming.plain()) else { break };
            // The client may have got a service since the last look.
            let is_served = || self.has_service.get() || self.look_for_service(worker.now());
            if size > MAX_DATA || size > MAX_DATA_UNSERVED && !is_served() {
                log::debug!("closed the stream of {}: it announced a packet of {size} bytes", self.peer);
                count(&COUNTERS.oversized);
                return self.close(worker);
            }
            let Some(packet) = incoming.plain().get_mut(..HEADER_LEN + size) else { break };
            match view.channels.iter().position(|channel| channel.letter == letter) {
                Some(index) => {
                    self.last_packet.set(worker.now());
                    cstream::packet_in(view, index, packet);
                    if letter == SERVICE_CHANNEL {
                        self.look_for_service(worker.now());
                    }
                }
                None => count(&COUNTERS.unknown_channel),
            }
            incoming.consume(HEADER_LEN + size);
        }
    }

    fn update_paused(&self, worker: &Worker) {
        let Some(view) = self.view.get() else { return };
        let wanted = self.socket_readable.get() && view.channels.iter().all(|channel| channel.view.ready_to_read.get());
        if self.paused.replace(!wanted) == wanted {
            worker.watch(self.uuid, &self.io, self.interest());
            if wanted {
                worker.resume_soon(self.uuid);
            }
        }
    }
}

/// Channel letter and data size of the packet at the start of `bytes`; None if the header is incomplete.
fn parse_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
    let size = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    Some((header[0], size as usize))
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
