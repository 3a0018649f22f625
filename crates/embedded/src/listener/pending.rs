//! An accepted connection whose first byte has not arrived yet: TLS or HTTP.

use crate::http;
use crate::reactor::{self, Load, Ready, Source, Worker};
use crate::stream::conn::Conn;
use crate::stream::limiter::ConnectionPermit;
use crate::stream::{COUNTERS, count};
use crate::timeouts;
use crate::tls::session::TlsSession;
use host::patience::Patience;
use rustix::event::epoll::EventFlags;
use rustix::net::RecvFlags;
use rustls::ServerConfig;
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// How long a connection waits whose source has begun as many handshakes as it may.
const DEFERRED: Duration = Duration::from_millis(250);

/// An accepted connection and its context.
pub(crate) struct Accepted {
    pub(crate) io: Arc<TcpStream>,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) permit: ConnectionPermit,
    pub(crate) load: Load,
}

pub(crate) struct PendingConnection {
    uuid: u64,
    patience: Rc<Cell<Patience>>,
    timer: Cell<Option<u64>>,
    accepted: RefCell<Option<Accepted>>,
}

impl PendingConnection {
    /// Starts to wait for the first byte.
    pub(crate) fn install(worker: &Rc<Worker>, accepted: Accepted) {
        if worker.reactor.is_stopping() {
            return;
        }
        let uuid = reactor::next_uuid();
        let patience = Rc::new(Cell::new(Patience::new(timeouts::current().handshake)));
        let pending = Rc::new(PendingConnection {
            uuid,
            patience: Rc::clone(&patience),
            timer: Cell::new(None),
            accepted: RefCell::new(Some(accepted)),
        });
        let silent = Rc::downgrade(&pending);
        pending.timer.set(Some(worker.timers.patience(&patience, move |worker| Self::time_out(&silent, worker))));
        let source = Rc::clone(&pending) as Rc<dyn Source>;
        let added = match &*pending.accepted.borrow() {
            Some(accepted) => worker.add_source(uuid, &accepted.io, EventFlags::IN, source),
            None => Ok(()),
        };
        if let Err(error) = added {
            host::log_bounded!(Warn, "cannot add an accepted connection to the worker's epoll: {error}");
            pending.tear_down(worker);
        }
    }

    fn time_out(silent: &Weak<Self>, worker: &Rc<Worker>) {
        if let Some(pending) = silent.upgrade() {
            log::debug!("closed a connection that sent nothing before its deadline");
            count(&COUNTERS.failed_handshakes);
            pending.tear_down(worker);
        }
    }

    fn detach(&self, worker: &Worker) -> Option<Accepted> {
        let accepted = self.accepted.borrow_mut().take()?;
        worker.remove_source(self.uuid, &accepted.io);
        if let Some(timer) = self.timer.take() {
            worker.timers.remove(timer);
        }
        Some(accepted)
    }

    /// Looks at the connection again in a moment.
    fn defer(self: &Rc<Self>, worker: &Rc<Worker>) {
        let watch = |pending: &Self, worker: &Worker, flags| {
            if let Some(accepted) = &*pending.accepted.borrow() {
                worker.watch(pending.uuid, &accepted.io, flags);
            }
        };
        watch(self, worker, EventFlags::empty());
        let deferred = Rc::downgrade(self);
        worker.timers.once(DEFERRED, move |worker| {
            if let Some(pending) = deferred.upgrade() {
                watch(&pending, worker, EventFlags::IN);
            }
        });
    }

    fn start_tls(&self, worker: &Rc<Worker>, accepted: Accepted) {
        let Accepted { io, peer, tls, permit, load } = accepted;
        match TlsSession::server(tls) {
            Ok(tls) => Conn::accepted(io, peer, tls, permit, load).install(worker, self.patience.get()),
            Err(error) => host::log_bounded!(Error, "cannot start TLS: {error}"),
        }
    }
}

impl Source for PendingConnection {
    fn on_ready(self: Rc<Self>, worker: &Rc<Worker>, ready: Ready) {
        let mut first = [0];
        if ready.error || ready.hangup {
            // Pushed out, or reset.
            count(&COUNTERS.failed_handshakes);
            return self.tear_down(worker);
        }
        let peeked = match &*self.accepted.borrow() {
            Some(accepted) => rustix::net::recv(&accepted.io, &mut first, RecvFlags::PEEK),
            None => return,
        };
        match peeked {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok((_, 1)) => {
                let is_early = |accepted: &Accepted| first == [TLS_HANDSHAKE] && !accepted.permit.begins_handshake();
                if self.accepted.borrow().as_ref().is_some_and(is_early) {
                    return self.defer(worker);
                }
                let Some(accepted) = self.detach(worker) else { return };
                match first {
                    [TLS_HANDSHAKE] => self.start_tls(worker, accepted),
                    [letter] if letter.is_ascii_alphabetic() => start_http(accepted),
                    [other] => {
                        log::debug!("closed a connection whose first byte {other:#04x} is neither TLS nor HTTP");
                        count(&COUNTERS.failed_handshakes);
                    }
                }
            }
            Ok(_) | Err(_) => {
                count(&COUNTERS.failed_handshakes);
                self.tear_down(worker);
            }
        }
    }

    fn tear_down(&self, worker: &Rc<Worker>) {
        drop(self.detach(worker));
    }
}

fn start_http(accepted: Accepted) {
    if let Err(error) = accepted.io.set_nonblocking(false) {
        return log::debug!("cannot make a connection blocking for HTTP: {error}");
    }
    let Accepted { io, peer, permit, .. } = accepted;
    // HTTP has places of its own; the connection keeps that of a stream.
    permit.end_handshake();
    http::serve_for(io, peer.ip(), permit);
}
