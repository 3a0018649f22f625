//! One connection on its worker: handshake, hello, then channel packets both ways.

mod idle;
mod kernel;
mod moving;
mod narrow_path;
mod opening;
mod reading;
pub(crate) mod registry;
mod room;
mod serving;
mod writing;

use super::client_end::ClientEnd;
use super::incoming::{BLOCK, Incoming};
use super::limiter::ConnectionPermit;
use super::mailbox::Mailbox;
use super::outgoing::Outgoing;
use super::{COUNTERS, channels, count, sessions};
use crate::budget::Account;
use crate::cview::events::{self, FLAG_READABLE};
use crate::cview::stream::{self as cstream, StreamView};
use crate::reactor::{self, Load, Ready, Shared, Source, Worker};
use crate::tls::pin::PinVerifier;
use crate::tls::session::TlsSession;
use host::patience::Patience;
use kernel::InKernel;
use libc::{ECONNRESET, ETIMEDOUT};
use room::Room;
use rustix::event::epoll::EventFlags;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a connection in the handshake is counted for, bytes: TLS's state, and the messages that it assembles. A client
/// that sends more before its handshake is complete, ten times what one needs, loses its connection.
const HANDSHAKE: usize = 16 * 1024;
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
    io: Arc<TcpStream>,
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
    /// How many periodic looks in a row have found the output blocked.
    stuck: Cell<u32>,
    /// Which channels want to be told that there is room for output, and when they are.
    room: Room,
    /// Reads are paused for flow control at C's request.
    paused: Cell<bool>,
    socket_readable: Cell<bool>,
    dirty: Cell<bool>,
    /// Output that the peer has not acknowledged.
    kernel: InKernel,
    /// A write was refused while no output waited here: the end of that is told at a periodic look.
    is_held_back: Cell<bool>,
    /// Packets were written since the output was last empty.
    had_output: Cell<bool>,
    /// Bytes read in the handshake.
    handshake_bytes: Cell<usize>,
    /// Why a client's connection failed, errno.
    failure: Cell<i32>,
    timer: Cell<Option<u64>>,
    /// When a channel last received a packet.
    last_packet: Cell<Instant>,
    /// The service has said that it serves the client.
    is_served: Cell<bool>,
    /// The client had a granted service at the last look: it has the larger limits, and its life has no end.
    has_service: Cell<bool>,
    /// Since when it has had none.
    unserved_since: Cell<Instant>,
    /// The memory of the output, and of the input with the handshake.
    output_account: Account,
    input_account: Account,
    /// `None` at the client's end.
    permit: Option<ConnectionPermit>,
    load: RefCell<Load>,
}

impl Conn {
    /// The server's end of a connection that begins with TLS.
    pub(crate) fn accepted(
        io: Arc<TcpStream>,
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
        Self::new(Arc::new(io), peer, Side::Client { client, pin }, tls, None, load)
    }

    fn new(
        io: Arc<TcpStream>,
        peer: SocketAddr,
        side: Side,
        tls: TlsSession,
        permit: Option<ConnectionPermit>,
        load: Load,
    ) -> Self {
        let uuid = reactor::next_uuid();
        let conn = Conn {
            uuid,
            io,
            peer,
            side,
            tls: RefCell::new(tls),
            out: RefCell::default(),
            received: RefCell::default(),
            phase: Cell::new(Phase::Handshake),
            view: OnceCell::new(),
            mailbox: Arc::new(Mailbox::new(uuid, load.worker(), peer.ip(), permit.is_none(), Conn::on_queued)),
            opened: Cell::new(0),
            closing: Cell::new(false),
            torn_down: Cell::new(false),
            blocked: Cell::new(false),
            stuck: Cell::new(0),
            room: Room::default(),
            paused: Cell::new(false),
            socket_readable: Cell::new(true),
            dirty: Cell::new(false),
            kernel: InKernel::default(),
            is_held_back: Cell::new(false),
            had_output: Cell::new(false),
            handshake_bytes: Cell::new(0),
            failure: Cell::new(ECONNRESET),
            timer: Cell::new(None),
            last_packet: Cell::new(Instant::now()),
            is_served: Cell::new(false),
            has_service: Cell::new(permit.is_none()),
            unserved_since: Cell::new(Instant::now()),
            output_account: Account::of(peer.ip()),
            input_account: Account::of(peer.ip()),
            permit,
            load: RefCell::new(load),
        };
        if conn.has_service.get() {
            conn.input_account.assure(BLOCK);
        }
        conn
    }

    /// Installs the connection on the worker of the calling thread; it has until the end of `patience` for its handshake.
    pub(crate) fn install(self, worker: &Rc<Worker>, patience: Patience) {
        let uuid = self.uuid;
        let conn = Rc::new(self);
        // So little is covered in any case.
        conn.input_account.covers(HANDSHAKE);
        worker.reactor.set_owner(uuid, worker.shared.index);
        if let Err(error) = conn.attach(worker, EventFlags::IN) {
            host::log_bounded!(Warn, "cannot add a connection to the worker's epoll: {error}");
            return conn.tear_down(worker);
        }
        conn.timer.set(Some(worker.timers.patience(&Rc::new(Cell::new(patience)), move |worker| {
            if let Some(conn) = registry::find(uuid) {
                log::debug!("closed a connection whose handshake missed its deadline");
                conn.fail(worker, ETIMEDOUT);
            }
        })));
        narrow_path::watch(worker, uuid);
        if matches!(conn.side, Side::Client { .. }) {
            // The client speaks first.
            conn.receive(worker, &mut Incoming::default());
        }
    }

    // --- called by the C functions ---

    pub(crate) fn view(&self) -> Option<&StreamView> {
        self.view.get()
    }

    /// The peer's address.
    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Releases the memory of incomplete packets and records once the stream is quiet.
    pub(crate) fn trim(&self, worker: &Worker) {
        if worker.now().saturating_duration_since(self.last_packet.get()) >= QUIET {
            let mut received = self.received.borrow_mut();
            received.trim(&worker.buffers);
            let handshake = if self.phase.get() == Phase::Open { 0 } else { HANDSHAKE };
            self.input_account.shrink(received.waiting().max(handshake));
        }
        self.mailbox.trim();
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
        flags.set(EventFlags::OUT, self.room.is_watched());
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
            self.on_room(worker);
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
