//! One connection on its worker: handshake, hello, then channel packets both ways.

mod idle;
mod moving;
mod opening;
mod reading;
pub(crate) mod registry;
mod writing;

use super::client_end::ClientEnd;
use super::incoming::Incoming;
use super::limiter::ConnectionPermit;
use super::mailbox::Mailbox;
use super::outgoing::Outgoing;
use super::{COUNTERS, channels, count, sessions};
use crate::cview::events::{self, FLAG_READABLE};
use crate::cview::stream::{self as cstream, StreamView};
use crate::reactor::{self, Load, Ready, Shared, Source, Worker};
use crate::tls::pin::PinVerifier;
use crate::tls::session::TlsSession;
use libc::{ECONNRESET, ETIMEDOUT};
use rustix::event::epoll::EventFlags;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream without a packet for this long releases its spare memory.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Hello,
    Open,
}

/// Which end of the connection this is.
pub(crate) enum Side {
    Server,
    Client { client: Arc<dyn ClientEnd>, pin: Arc<PinVerifier> },
}

/// A connection. Used on the owning thread alone; moved whole, while none of its callbacks runs.
pub(crate) struct Conn {
    pub(crate) uuid: u64,
    io: TcpStream,
    peer: SocketAddr,
    side: Side,
    tls: RefCell<TlsSession>,
    out: RefCell<Outgoing>,
    received: RefCell<Incoming>,
    phase: Cell<Phase>,
    /// C's view, which exists from the hello on.
    view: OnceCell<StreamView>,
    mailbox: Arc<Mailbox>,
    /// Channels whose `new_callback` has run.
    opened: Cell<usize>,
    closing: Cell<bool>,
    torn_down: Cell<bool>,
    /// The kernel accepted only part of the output: wait until it accepts more.
    blocked: Cell<bool>,
    /// Reads are paused for flow control at C's request.
    paused: Cell<bool>,
    socket_readable: Cell<bool>,
    dirty: Cell<bool>,
    /// Packets were written since the output was last empty.
    had_output: Cell<bool>,
    /// Why a client's connection failed, errno.
    failure: Cell<i32>,
    timer: Cell<Option<u64>>,
    /// When a channel last received a packet.
    last_packet: Cell<Instant>,
    /// `None` at the client's end.
    permit: Option<ConnectionPermit>,
    load: RefCell<Load>,
}

impl Conn {
    /// The server's end of a connection that begins with TLS.
    pub(crate) fn accepted(
        io: TcpStream,
        peer: SocketAddr,
        tls: TlsSession,
        permit: ConnectionPermit,
        load: Load,
    ) -> Self {
        Self::new(io, peer, Side::Server, tls, Some(permit), load)
    }

    /// The client's end of an established TCP connection.
    pub(crate) fn dialled(
        io: TcpStream,
        peer: SocketAddr,
        client: Arc<dyn ClientEnd>,
        pin: Arc<PinVerifier>,
        tls: TlsSession,
        load: Load,
    ) -> Self {
        Self::new(io, peer, Side::Client { client, pin }, tls, None, load)
    }

    fn new(
        io: TcpStream,
        peer: SocketAddr,
        side: Side,
        tls: TlsSession,
        permit: Option<ConnectionPermit>,
        load: Load,
    ) -> Self {
        let uuid = reactor::next_uuid();
        Conn {
            uuid,
            io,
            peer,
            side,
            tls: RefCell::new(tls),
            out: RefCell::default(),
            received: RefCell::default(),
            phase: Cell::new(Phase::Handshake),
            view: OnceCell::new(),
            mailbox: Arc::new(Mailbox::new(uuid, load.worker(), Conn::on_queued)),
            opened: Cell::new(0),
            closing: Cell::new(false),
            torn_down: Cell::new(false),
            blocked: Cell::new(false),
            paused: Cell::new(false),
            socket_readable: Cell::new(true),
            dirty: Cell::new(false),
            had_output: Cell::new(false),
            failure: Cell::new(ECONNRESET),
            timer: Cell::new(None),
            last_packet: Cell::new(Instant::now()),
            permit,
            load: RefCell::new(load),
        }
    }

    /// Installs the connection on the worker of the calling thread.
    pub(crate) fn install(self, worker: &Rc<Worker>, deadline: Instant) {
        let uuid = self.uuid;
        let conn = Rc::new(self);
        worker.reactor.set_owner(uuid, worker.shared.index);
        if let Err(error) = conn.attach(worker, EventFlags::IN) {
            host::log_bounded!(Warn, "cannot add a connection to the worker's epoll: {error}");
            return conn.tear_down(worker);
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        conn.timer.set(Some(worker.timers.once(wait, move |worker| {
            if let Some(conn) = registry::find(uuid) {
                log::debug!("closed a connection whose handshake missed its deadline");
                conn.fail(worker, ETIMEDOUT);
            }
        })));
        if matches!(conn.side, Side::Client { .. }) {
            // The client speaks first.
            conn.receive(worker, &mut Incoming::default());
        }
    }

    // --- called by the C functions ---

    pub(crate) fn view(&self) -> Option<&StreamView> {
        self.view.get()
    }

    /// True for a server's end whose peer is idle: it has no granted service and has sent no packet for too long. A
    /// paused stream is not idle, because it cannot receive packets.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let (Some(view), Some(permit)) = (self.view.get(), &self.permit) else { return false };
        let silent = now.saturating_duration_since(self.last_packet.get());
        if self.paused.get() || silent < permit.idle_limit() {
            return false;
        }
        view.session.service.lock().as_ref().and_then(|service| service.active()).is_none()
    }

    /// Releases the memory of incomplete packets and records once the stream is quiet.
    pub(crate) fn trim(&self, worker: &Worker) {
        if worker.now().saturating_duration_since(self.last_packet.get()) >= QUIET {
            self.received.borrow_mut().trim(&worker.buffers);
        }
    }

    pub(crate) fn client(&self) -> Option<&Arc<dyn ClientEnd>> {
        match &self.side {
            Side::Server => None,
            Side::Client { client, .. } => Some(client),
        }
    }

    /// Ends the stream as soon as the running callback has returned; nothing is sent or delivered afterwards.
    pub(crate) fn close(&self, worker: &Worker) {
        if !self.closing.replace(true) {
            worker.close_soon(self.uuid);
        }
    }

    // --- internals ---

    /// Adds the connection to the worker's loop.
    fn attach(self: &Rc<Self>, worker: &Rc<Worker>, flags: EventFlags) -> io::Result<()> {
        worker.add_source(self.uuid, &self.io, flags, Rc::clone(self) as Rc<dyn Source>)?;
        registry::add(self);
        Ok(())
    }

    /// Removes the connection from the worker's loop.
    fn detach(&self, worker: &Worker) {
        worker.remove_source(self.uuid, &self.io);
        registry::remove(self.uuid);
    }

    /// Ends the connection; a client that is not up yet reports `errno`.
    fn fail(&self, worker: &Worker, errno: i32) {
        if !self.closing.get() {
            self.failure.set(errno);
        }
        self.close(worker);
    }

    fn interest(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.paused.get());
        flags.set(EventFlags::OUT, self.blocked.get());
        flags
    }
}

impl Source for Conn {
    fn on_ready(self: Rc<Self>, worker: &Rc<Worker>, ready: Ready) {
        if self.closing.get() {
            return;
        }
        if ready.writable {
            self.flush(worker);
        }
        if self.paused.get() {
            // The reader is paused, and the kernel would report the hang-up again and again.
            if ready.error || ready.hangup {
                self.close(worker);
            }
        } else if ready.readable || ready.error || ready.hangup {
            self.read(worker);
        }
    }

    /// Runs the delete callbacks, sends the last output as far as the kernel accepts it, and frees everything.
    fn tear_down(&self, worker: &Rc<Worker>) {
        self.closing.set(true);
        if self.torn_down.replace(true) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            worker.timers.remove(timer);
        }
        if let Some(view) = self.view.get() {
            // From the last to the first, as the Cellframe SDK does.
            for index in (0..self.opened.get()).rev() {
                cstream::channel_delete(view, index);
            }
            events::delete(&view.es, true);
        }
        self.flush_on_close(worker);
        self.detach(worker);
        worker.reactor.clear_owner(self.uuid);
        if let Some(view) = self.view.get() {
            self.unregister_addresses(worker, view);
            worker.reactor.remove_socket(view.es.addr());
            self.mailbox.close();
            channels::remove(view.channels.iter().map(|channel| channel.uuid));
            sessions::remove(&view.session);
        }
        match &self.side {
            Side::Client { client, .. } => client.lost(self.failure.get()),
            Side::Server if self.view.get().is_none() => count(&COUNTERS.failed_handshakes),
            Side::Server => {}
        }
    }

    /// A channel's owner may use its event sockets and queues while the channel ends.
    fn ends_first(&self) -> bool {
        true
    }

    fn on_panic(&self, worker: &Rc<Worker>) {
        self.close(worker);
    }

    fn end_turn(&self, worker: &Rc<Worker>) {
        self.flush_turn(worker);
    }

    fn on_drained(&self, worker: &Rc<Worker>) {
        self.notify_drained(worker);
    }

    fn resume(&self, worker: &Rc<Worker>) {
        self.handle_received(worker);
    }

    fn remove(&self, worker: &Rc<Worker>, _preserve_inheritor: bool) {
        self.close(worker);
    }

    /// Only "readable" applies: the stream controls its output itself.
    fn set_flag(&self, worker: &Rc<Worker>, flag: u32, on: bool) {
        if flag == FLAG_READABLE {
            self.set_socket_readable(worker, on);
        }
    }

    fn move_to(self: Rc<Self>, worker: &Rc<Worker>, target: &Arc<Shared>) {
        self.leave_for(worker, target);
    }
}
