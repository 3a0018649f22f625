//! A connection that has been accepted and has not said yet what it speaks: TLS, or HTTP.

use super::conn::Conn;
use super::places::Place;
use super::{COUNTERS, HANDSHAKE_TIMEOUT, count};
use crate::http;
use crate::reactor;
use crate::reactor::{Load, Source, Worker};
use crate::tls::session::TlsSession;
use rustix::event::epoll::EventFlags;
use rustix::net::RecvFlags;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What an accepted connection brings along.
pub(crate) struct Arrival {
    pub(crate) io: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) place: Place,
    pub(crate) load: Load,
}

pub(crate) struct Newcomer {
    uuid: u64,
    deadline: Instant,
    timer: u64,
    arrival: RefCell<Option<Arrival>>,
}

impl Newcomer {
    /// Begins to wait for the first byte.
    pub(crate) fn install(worker: &Rc<Worker>, arrival: Arrival) {
        if worker.reactor.is_stopping() {
            return;
        }
        let uuid = reactor::next_uuid();
        let timer = worker.timers.once(HANDSHAKE_TIMEOUT, move |worker| {
            if let Some(Source::Newcomer(newcomer)) = worker.source(uuid) {
                log::debug!("a connection said nothing for {HANDSHAKE_TIMEOUT:?}, closed");
                count(&COUNTERS.failed_handshakes);
                newcomer.remove(worker);
            }
        });
        let newcomer = Rc::new(Newcomer {
            uuid,
            deadline: Instant::now() + HANDSHAKE_TIMEOUT,
            timer,
            arrival: RefCell::new(Some(arrival)),
        });
        let source = Source::Newcomer(Rc::clone(&newcomer));
        let added = match &*newcomer.arrival.borrow() {
            Some(arrival) => worker.add_source(uuid, &arrival.io, EventFlags::IN, source),
            None => Ok(()),
        };
        if let Err(error) = added {
            log::warn!("a connection cannot be waited for: {error}");
            worker.timers.remove(timer);
        }
    }

    pub(crate) fn on_ready(&self, worker: &Rc<Worker>) {
        let mut first = [0];
        let peeked = match &*self.arrival.borrow() {
            Some(arrival) => rustix::net::recv(&arrival.io, &mut first, RecvFlags::PEEK),
            None => return,
        };
        match peeked {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok((_, 1)) => {
                let Some(arrival) = self.take_out(worker) else { return };
                match first {
                    [TLS_HANDSHAKE] => self.speak_tls(worker, arrival),
                    [letter] if letter.is_ascii_alphabetic() => speak_http(arrival),
                    [other] => {
                        log::debug!("a connection began with byte {other:#04x}, closed");
                        count(&COUNTERS.failed_handshakes);
                    }
                }
            }
            Ok(_) | Err(_) => {
                count(&COUNTERS.failed_handshakes);
                self.remove(worker);
            }
        }
    }

    pub(crate) fn remove(&self, worker: &Worker) {
        drop(self.take_out(worker));
    }

    fn take_out(&self, worker: &Worker) -> Option<Arrival> {
        let arrival = self.arrival.borrow_mut().take()?;
        worker.remove_source(self.uuid, &arrival.io);
        worker.timers.remove(self.timer);
        Some(arrival)
    }

    fn speak_tls(&self, worker: &Rc<Worker>, arrival: Arrival) {
        let Arrival { io, peer, tls, place, load } = arrival;
        match TlsSession::server(tls) {
            Ok(tls) => Conn::accepted(io, peer, tls, place, load).install(worker, self.deadline),
            Err(error) => log::error!("TLS cannot begin: {error}"),
        }
    }
}

fn speak_http(arrival: Arrival) {
    if let Err(error) = arrival.io.set_nonblocking(false) {
        return log::debug!("a connection cannot be made blocking for HTTP: {error}");
    }
    http::serve(arrival.io);
}
