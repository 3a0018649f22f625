//! The opening of a stream: TLS is established, then come the hello and its answer, then the channels.

use super::{Conn, Phase, Side, idle};
use crate::cview::stream::{self as cstream, Proc, StreamFacts, StreamView};
use crate::reactor::Worker;
use crate::stream::client_end::ClientEnd;
use crate::stream::hello::{self, Parsed, Status};
use crate::stream::incoming::Incoming;
use crate::stream::{OPENING_TIMES, channels, procs, sessions};
use libc::{ECONNREFUSED, EIO, EKEYREJECTED, EPROTO};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

impl Conn {
    pub(super) fn established(&self, worker: &Rc<Worker>) {
        if !self.tls.borrow().has_agreed_protocol() {
            log::debug!("{} did not agree on the stream's protocol in TLS", self.peer);
            return self.fail(worker, EPROTO);
        }
        if let Side::Client { client, pin } = &self.side {
            match pin.remember() {
                Ok(true) => {}
                Ok(false) => return self.fail(worker, EKEYREJECTED),
                Err(error) => {
                    log::error!(
                        "cannot store the identity of server {} ({error}); the connection is closed",
                        client.address()
                    );
                    return self.fail(worker, EIO);
                }
            }
            self.queue_handshake_bytes(worker, &hello::encode(client.channels()));
        }
        self.phase.set(Phase::Hello);
    }

    pub(super) fn take_hello(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let (channels, length) = match hello::parse(incoming.plain()) {
            Parsed::Incomplete => return,
            Parsed::Bad => {
                log::debug!("{} sent an invalid hello", self.peer);
                self.queue_handshake_bytes(worker, &hello::encode_answer(Status::BadHello));
                return self.fail(worker, EPROTO);
            }
            Parsed::Complete(channels, length) => (channels, length),
        };
        incoming.consume(length);
        let procs: Option<Vec<_>> = channels.iter().map(|letter| procs::find(*letter)).collect();
        match procs {
            Some(procs) => {
                self.queue_handshake_bytes(worker, &hello::encode_answer(Status::Ok));
                self.open(worker, procs);
            }
            None => {
                log::debug!("{} requested channels {:?}", self.peer, String::from_utf8_lossy(&channels));
                self.queue_handshake_bytes(worker, &hello::encode_answer(Status::NoSuchChannel));
                self.fail(worker, ECONNREFUSED);
            }
        }
    }

    pub(super) fn take_answer(&self, worker: &Rc<Worker>, client: &Arc<dyn ClientEnd>, incoming: &mut Incoming) {
        let (status, length) = match hello::parse_answer(incoming.plain()) {
            Parsed::Incomplete => return,
            Parsed::Bad => return self.fail(worker, EPROTO),
            Parsed::Complete(status, length) => (status, length),
        };
        incoming.consume(length);
        let procs: Option<Vec<_>> = client.channels().iter().map(|letter| procs::find(*letter)).collect();
        match (status, procs) {
            // Channels of a closed client must not open: their owner may already use its next connection.
            _ if client.is_closed() => self.close(worker),
            (Status::Ok, Some(procs)) => {
                self.open(worker, procs);
                if let (Some(view), false) = (self.view.get(), self.closing.get()) {
                    client.up(self.uuid, self.peer, view);
                }
            }
            (status, _) => {
                log::warn!("server {} does not offer the requested channels: {status:?}", client.address());
                self.fail(worker, status.errno());
            }
        }
    }

    fn open(&self, worker: &Rc<Worker>, procs: Vec<Arc<Proc>>) {
        if let Some(timer) = self.timer.take() {
            worker.timers.remove(timer);
        }
        self.last_packet.set(worker.now());
        self.unserved_since.set(worker.now());
        if let Some(permit) = &self.permit {
            permit.end_handshake();
            OPENING_TIMES.add(permit.age());
            idle::watch(worker, permit.life());
        }
        let is_client = self.client().is_some();
        let facts = StreamFacts {
            uuid: self.uuid,
            fd: self.io.as_raw_fd(),
            peer: self.peer,
            is_client,
            output_limit: self.output_limit(),
        };
        let view = StreamView::new(&facts, &worker.shared.view, procs, channels::is_taken);
        let view = self.view.get_or_init(|| view);
        self.phase.set(Phase::Open);
        self.register_addresses(worker, view);
        worker.reactor.add_socket(view.es.addr(), self.uuid);
        channels::add(view.channels.iter().map(|channel| channel.uuid), &self.mailbox);
        if !is_client {
            sessions::add(&view.session);
        }
        for index in 0..view.channels.len() {
            if self.closing.get() {
                return;
            }
            self.opened.set(index + 1);
            cstream::channel_new(view, index);
        }
    }
}
