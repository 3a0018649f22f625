//! One connection on its worker: handshake, hello, then channel packets both ways.

use super::hello::{self, Parsed, Status};
use super::incoming::Incoming;
use super::mailbox::Mailbox;
use super::outgoing::{FlushError, Flushed, Outgoing};
use super::places::Place;
use super::{COUNTERS, HANDSHAKE_TIMEOUT, HEADER_LEN, MAX_DATA, OUTPUT_LIMIT, count, idle, procs, sessions};
use crate::embedded::abi;
use crate::embedded::abi::stream::{Proc, StreamView};
use crate::embedded::client::NodeClient;
use crate::embedded::runtime;
use crate::embedded::tls::pin::PinVerifier;
use crate::embedded::tls::session::TlsSession;
use crate::embedded::worker::{Load, Ready, Shared, Source, Worker};
use libc::{ECONNREFUSED, ECONNRESET, EIO, EKEYREJECTED, EPROTO, ETIMEDOUT};
use rustix::event::epoll::EventFlags;
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes read from one stream before the others get their turn.
const READ_BUDGET: usize = 512 * 1024;
/// A stream without a packet for so long may do without it.
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
    Client { client: Arc<NodeClient>, pin: Arc<PinVerifier> },
}

/// A connection. The owning thread only; moved whole, when no callback of it runs.
pub(crate) struct Conn {
    pub(crate) uuid: u64,
    io: TcpStream,
    peer: SocketAddr,
    side: Side,
    tls: RefCell<TlsSession>,
    out: RefCell<Outgoing>,
    received: RefCell<Incoming>,
    phase: Cell<Phase>,
    /// What C sees, from the hello on.
    view: OnceCell<StreamView>,
    /// Channels whose `new_callback` has run.
    opened: Cell<usize>,
    closing: Cell<bool>,
    torn_down: Cell<bool>,
    /// The kernel took less than there was: wait until it takes more.
    blocked: Cell<bool>,
    /// Somebody has asked not to be given packets.
    paused: Cell<bool>,
    socket_readable: Cell<bool>,
    dirty: Cell<bool>,
    /// Packets were written since the output last was empty.
    had_output: Cell<bool>,
    /// Why a client's connection came to nothing, errno.
    failure: Cell<i32>,
    timer: Cell<Option<u64>>,
    /// When a channel last got a packet.
    last_packet: Cell<Instant>,
    /// None at a client's end.
    place: Option<Place>,
    load: RefCell<Load>,
}

impl Conn {
    /// The server's end of a connection that begins with TLS.
    pub(crate) fn accepted(io: TcpStream, peer: SocketAddr, tls: TlsSession, place: Place, load: Load) -> Self {
        Self::new(io, peer, Side::Server, tls, Some(place), load)
    }

    /// The client's end of an established TCP connection.
    pub(crate) fn dialled(
        io: TcpStream,
        peer: SocketAddr,
        client: Arc<NodeClient>,
        pin: Arc<PinVerifier>,
        tls: TlsSession,
        load: Load,
    ) -> Self {
        Self::new(io, peer, Side::Client { client, pin }, tls, None, load)
    }

    fn new(io: TcpStream, peer: SocketAddr, side: Side, tls: TlsSession, place: Option<Place>, load: Load) -> Self {
        Conn {
            uuid: runtime::next_uuid(),
            io,
            peer,
            side,
            tls: RefCell::new(tls),
            out: RefCell::default(),
            received: RefCell::default(),
            phase: Cell::new(Phase::Handshake),
            view: OnceCell::new(),
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
            place,
            load: RefCell::new(load),
        }
    }

    /// Begins on the worker of the calling thread.
    pub(crate) fn install(self, worker: &Rc<Worker>, deadline: Instant) {
        let uuid = self.uuid;
        let conn = Rc::new(self);
        worker.runtime.set_place(uuid, worker.shared.index);
        if let Err(error) = worker.add_source(uuid, &conn.io, EventFlags::IN, Source::Conn(Rc::clone(&conn))) {
            log::warn!("a connection cannot be waited for: {error}");
            return conn.tear_down(worker);
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        conn.timer.set(Some(worker.timers.once(wait, move |worker| {
            if let Some(conn) = worker.conn(uuid) {
                log::debug!("a handshake took more than {HANDSHAKE_TIMEOUT:?}, closed");
                conn.fail(worker, ETIMEDOUT);
            }
        })));
        if matches!(conn.side, Side::Client { .. }) {
            // The client speaks first.
            conn.receive(worker, &mut Incoming::default());
        }
    }

    // --- what the loop calls ---

    pub(crate) fn on_ready(&self, worker: &Rc<Worker>, ready: Ready) {
        if self.closing.get() {
            return;
        }
        if ready.writable {
            self.flush(worker);
        }
        if self.paused.get() {
            // Nobody may read what is left, and the kernel would report the hang-up for ever.
            if ready.error || ready.hangup {
                self.close(worker);
            }
        } else if ready.readable || ready.error || ready.hangup {
            self.read(worker);
        }
    }

    /// Goes on with packets that had to wait.
    pub(crate) fn resume(&self, worker: &Rc<Worker>) {
        let mut incoming = self.received.take().begin(&worker.buffers);
        self.consume(worker, &mut incoming);
        incoming.settle(&worker.buffers);
        self.received.replace(incoming);
    }

    /// End of the loop's turn: what was written in it goes out.
    pub(crate) fn flush_turn(&self, worker: &Rc<Worker>) {
        self.dirty.set(false);
        if !self.closing.get() {
            self.flush(worker);
        }
    }

    /// The kernel has taken all output.
    pub(crate) fn on_drained(&self, worker: &Rc<Worker>) {
        self.take_mail(worker);
        let Some(view) = self.view.get() else { return };
        for index in 0..view.channels.len() {
            if self.closing.get() {
                return;
            }
            abi::stream::packet_out(view, index);
        }
    }

    /// Ends the stream: delete callbacks, last output as far as the kernel takes it, everything freed. Runs when no
    /// callback of the stream does.
    pub(crate) fn tear_down(&self, worker: &Rc<Worker>) {
        self.closing.set(true);
        if self.torn_down.replace(true) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            worker.timers.remove(timer);
        }
        if let Some(view) = self.view.get() {
            for index in 0..self.opened.get() {
                abi::stream::channel_delete(view, index);
            }
            abi::events::delete(&view.es, true);
        }
        self.last_words(worker);
        worker.remove_source(self.uuid, &self.io);
        worker.runtime.clear_place(self.uuid);
        if let Some(view) = self.view.get() {
            self.unlist(worker, view);
            worker.runtime.remove_socket(view.es.addr());
            view.mailbox.close();
            let mut channels = worker.runtime.channels.write();
            for channel in &view.channels {
                channels.remove(&channel.uuid);
            }
            drop(channels);
            sessions::remove(&view.session);
        }
        match &self.side {
            Side::Client { client, .. } => client.lost(worker, self.failure.get()),
            Side::Server if self.view.get().is_none() => count(&COUNTERS.failed_handshakes),
            Side::Server => {}
        }
    }

    // --- what the C functions call ---

    pub(crate) fn view(&self) -> Option<&StreamView> {
        self.view.get()
    }

    /// A server's end whose peer uses it for nothing: no service was granted, and no packet has come for too long. One
    /// that is not read is not idle, as it cannot get packets.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let (Some(view), Some(place)) = (self.view.get(), &self.place) else { return false };
        let silent = now.saturating_duration_since(self.last_packet.get());
        if self.paused.get() || silent < place.idle_limit() {
            return false;
        }
        view.session.service.lock().as_ref().and_then(|service| service.active()).is_none()
    }

    /// Gives back what the beginnings of packets and records took, once the stream is quiet.
    pub(crate) fn trim(&self, worker: &Worker) {
        if worker.now().saturating_duration_since(self.last_packet.get()) >= QUIET {
            self.received.borrow_mut().trim(&worker.buffers);
        }
    }

    pub(crate) fn client(&self) -> Option<&Arc<NodeClient>> {
        match &self.side {
            Side::Server => None,
            Side::Client { client, .. } => Some(client),
        }
    }

    /// Has the stream end as soon as the running callback has returned; nothing is sent or delivered from now on.
    pub(crate) fn close(&self, worker: &Worker) {
        if !self.closing.replace(true) {
            worker.close_soon(self.uuid);
        }
    }

    /// Queues one packet; the number of bytes of `data` accepted, 0 when the stream is closing or its output full.
    pub(crate) fn write_packet(&self, worker: &Worker, channel: u8, kind: u8, data: &[u8]) -> usize {
        let (Some(view), false) = (self.view.get(), self.closing.get()) else { return 0 };
        let mut out = self.out.borrow_mut();
        if data.len() > MAX_DATA || out.pending() + HEADER_LEN + data.len() > OUTPUT_LIMIT {
            count(&COUNTERS.output_full);
            return 0;
        }
        // Cannot be cut: MAX_DATA is far below 4 GiB.
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

    /// Sends what other threads have left for this stream.
    pub(crate) fn take_mail(&self, worker: &Worker) {
        let Some(view) = self.view.get() else { return };
        while let Some(mail) = view.mailbox.take() {
            let Some(channel) = view.channels.iter().find(|channel| channel.uuid == mail.channel) else { continue };
            let full = self.out.borrow().pending() + HEADER_LEN + mail.data.len() > OUTPUT_LIMIT;
            if full {
                return view.mailbox.put_back(mail);
            }
            self.write_packet(worker, channel.letter, mail.kind, &mail.data);
        }
    }

    /// Channel `index` wants packets, or none: the connection is read while all of them do.
    pub(crate) fn set_ready_to_read(&self, worker: &Worker, index: usize, ready: bool) {
        let Some(channel) = self.view.get().and_then(|view| view.channels.get(index)) else { return };
        channel.view.ready_to_read.set(ready);
        self.update_paused(worker);
    }

    /// As [`Conn::set_ready_to_read`], for the event socket as a whole.
    pub(crate) fn set_socket_readable(&self, worker: &Worker, readable: bool) {
        self.socket_readable.set(readable);
        self.update_paused(worker);
    }

    /// Moves the stream to another worker, with all that it has received and not sent.
    pub(crate) fn leave_for(self: Rc<Self>, worker: &Rc<Worker>, target: &Arc<Shared>) {
        let Some(view) = self.view.get() else {
            return log::debug!("a stream that is not open yet stays on its worker");
        };
        if self.closing.get() {
            return;
        }
        abi::events::worker_unassign(&view.es, &worker.shared.view);
        if self.closing.get() {
            return;
        }
        let uuid = self.uuid;
        worker.remove_source(uuid, &self.io);
        self.unlist(worker, view);
        self.received.borrow_mut().leave(&worker.buffers);
        let Ok(conn) = Rc::try_unwrap(self) else {
            // Would need a caller that keeps a reference across turns of the loop.
            return log::error!("internal error: a stream in use was to be moved; it is lost");
        };
        conn.load.replace(Load::new(target));
        if let Some(view) = conn.view.get() {
            view.move_to(target);
            view.mailbox.set_owner(target);
        }
        // The new owner's job first: whoever reads the new place from the table posts behind it.
        target.post(Box::new(move |worker| Rc::new(conn).arrive(worker)));
        worker.runtime.set_place(uuid, target.index);
    }

    // --- inner workings ---

    fn arrive(self: Rc<Self>, worker: &Rc<Worker>) {
        let Some(view) = self.view.get() else { return };
        self.list(worker, view);
        let source = Source::Conn(Rc::clone(&self));
        if let Err(error) = worker.add_source(self.uuid, &self.io, self.interest(), source) {
            log::warn!("a moved stream cannot be waited for: {error}");
            return self.tear_down(worker);
        }
        abi::events::worker_assign(&view.es, &worker.shared.view);
        self.take_mail(worker);
        if let Some(place) = &self.place {
            idle::watch(worker, place.idle_limit());
        }
        // Whatever the old worker's lists said of this stream is said again here.
        self.dirty.set(false);
        self.had_output.set(true);
        self.flush_later(worker);
        worker.resume_soon(self.uuid);
    }

    fn read(&self, worker: &Rc<Worker>) {
        let mut incoming = self.received.take().begin(&worker.buffers);
        // Packets that nobody might have before make room.
        self.consume(worker, &mut incoming);
        let mut budget = READ_BUDGET;
        while budget > 0 && !self.closing.get() && !self.paused.get() {
            let room = incoming.room(&worker.buffers);
            let asked = room.len();
            let read = match (&self.io).read(room) {
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
            budget = budget.saturating_sub(read);
            // A short read has emptied the socket; asking again would only return EAGAIN.
            if read < asked {
                break;
            }
        }
        incoming.settle(&worker.buffers);
        self.received.replace(incoming);
        if let Some(view) = self.view.get() {
            view.es.last_time_active.set(seconds_now());
        }
    }

    /// Decrypts, then acts on the plain text with nothing borrowed.
    fn receive(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let mut out = self.out.borrow_mut();
        let result = incoming.open(&mut self.tls.borrow_mut(), out.control());
        let something_to_say = !out.control().is_empty();
        drop(out);
        if something_to_say {
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
                let refused = matches!(&self.side, Side::Client { pin, .. } if pin.has_refused());
                self.fail(worker, if refused { EKEYREJECTED } else { EPROTO });
            }
        }
    }

    fn consume(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
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

    fn established(&self, worker: &Rc<Worker>) {
        if !self.tls.borrow().speaks_ours() {
            log::debug!("{} speaks another protocol inside TLS", self.peer);
            return self.fail(worker, EPROTO);
        }
        if let Side::Client { client, pin } = &self.side {
            match pin.remember() {
                Ok(true) => {}
                Ok(false) => return self.fail(worker, EKEYREJECTED),
                Err(error) => {
                    log::error!("the identity of {} cannot be kept ({error}); not connected", client.address());
                    return self.fail(worker, EIO);
                }
            }
            self.say(worker, &hello::encode(client.channels()));
        }
        self.phase.set(Phase::Hello);
    }

    fn take_hello(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let (channels, length) = match hello::parse(incoming.plain()) {
            Parsed::Incomplete => return,
            Parsed::Bad => {
                log::debug!("{} sent a bad hello", self.peer);
                self.say(worker, &hello::encode_answer(Status::BadHello));
                return self.fail(worker, EPROTO);
            }
            Parsed::Complete(channels, length) => (channels, length),
        };
        incoming.consume(length);
        let procs: Option<Vec<_>> = channels.iter().map(|letter| procs::find(*letter)).collect();
        match procs {
            Some(procs) => {
                self.say(worker, &hello::encode_answer(Status::Ok));
                self.open(worker, procs);
            }
            None => {
                log::debug!("{} asked for channels {:?}", self.peer, String::from_utf8_lossy(&channels));
                self.say(worker, &hello::encode_answer(Status::NoSuchChannel));
                self.fail(worker, ECONNREFUSED);
            }
        }
    }

    fn take_answer(&self, worker: &Rc<Worker>, client: &Arc<NodeClient>, incoming: &mut Incoming) {
        let (status, length) = match hello::parse_answer(incoming.plain()) {
            Parsed::Incomplete => return,
            Parsed::Bad => return self.fail(worker, EPROTO),
            Parsed::Complete(status, length) => (status, length),
        };
        incoming.consume(length);
        let procs: Option<Vec<_>> = client.channels().iter().map(|letter| procs::find(*letter)).collect();
        match (status, procs) {
            // Channels that nobody waits for must not open: their owner may be at its next connection.
            _ if client.is_closed() => self.close(worker),
            (Status::Ok, Some(procs)) => {
                self.open(worker, procs);
                if let (Some(view), false) = (self.view.get(), self.closing.get()) {
                    client.up(worker, self.uuid, view);
                }
            }
            (Status::BadHello, _) => self.fail(worker, EPROTO),
            (Status::NoSuchChannel | Status::Ok, _) => {
                log::warn!("server {} does not offer the channels asked for", client.address());
                self.fail(worker, ECONNREFUSED);
            }
        }
    }

    fn open(&self, worker: &Rc<Worker>, procs: Vec<Arc<Proc>>) {
        if let Some(timer) = self.timer.take() {
            worker.timers.remove(timer);
        }
        self.last_packet.set(worker.now());
        if let Some(place) = &self.place {
            place.end_handshake();
            idle::watch(worker, place.idle_limit());
        }
        let is_client = self.client().is_some();
        let mailbox = Arc::new(Mailbox::new(self.uuid, &worker.shared));
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.io);
        let taken = |uuid| worker.runtime.channels.read().contains_key(&uuid);
        let view = StreamView::new(self.uuid, fd, self.peer, is_client, &worker.shared, procs, mailbox, taken);
        let view = self.view.get_or_init(|| view);
        self.phase.set(Phase::Open);
        self.list(worker, view);
        worker.runtime.add_socket(view.es.addr(), self.uuid);
        let mut channels = worker.runtime.channels.write();
        for channel in &view.channels {
            channels.insert(channel.uuid, Arc::clone(&view.mailbox));
        }
        drop(channels);
        if !is_client {
            sessions::add(&view.session);
        }
        for index in 0..view.channels.len() {
            if self.closing.get() {
                return;
            }
            self.opened.set(index + 1);
            abi::stream::channel_new(view, index);
        }
    }

    fn take_packets(&self, worker: &Rc<Worker>, incoming: &mut Incoming) {
        let Some(view) = self.view.get() else { return };
        while !self.closing.get() && !self.paused.get() {
            let Some((letter, size)) = parse_header(incoming.plain()) else { break };
            if size > MAX_DATA {
                log::debug!("{} announced a packet of {size} bytes, closed", self.peer);
                count(&COUNTERS.oversized);
                return self.close(worker);
            }
            let Some(packet) = incoming.plain().get_mut(..HEADER_LEN + size) else { break };
            match view.channels.iter().position(|channel| channel.letter == letter) {
                Some(index) => {
                    self.last_packet.set(worker.now());
                    abi::stream::packet_in(view, index, packet);
                }
                None => count(&COUNTERS.unknown_channel),
            }
            incoming.consume(HEADER_LEN + size);
        }
    }

    /// Handshake-level bytes, before the first packet.
    fn say(&self, worker: &Worker, bytes: &[u8]) {
        self.out.borrow_mut().push(bytes, &worker.buffers);
        self.flush_later(worker);
    }

    fn flush_later(&self, worker: &Worker) {
        if !self.dirty.replace(true) {
            worker.flush_soon(self.uuid);
        }
    }

    fn flush(&self, worker: &Worker) {
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
            worker.watch(self.uuid, &self.io, self.interest());
        }
    }

    /// Output that is still here, and TLS's good-bye, as far as the kernel takes them without waiting.
    fn last_words(&self, worker: &Worker) {
        let mut out = self.out.borrow_mut();
        let mut tls = self.tls.borrow_mut();
        if let Ok(Flushed::All) = out.flush(&self.io, &mut tls, &worker.buffers)
            && tls.is_established()
        {
            tls.say_goodbye(out.control());
            // The connection ends either way.
            let _ = out.flush(&self.io, &mut tls, &worker.buffers);
        }
        out.discard(&worker.buffers);
        self.received.borrow_mut().leave(&worker.buffers);
    }

    /// Ends the connection; a client that is not up yet reports `errno`.
    fn fail(&self, worker: &Worker, errno: i32) {
        if !self.closing.get() {
            self.failure.set(errno);
        }
        self.close(worker);
    }

    fn update_paused(&self, worker: &Worker) {
        let Some(view) = self.view.get() else { return };
        let wanted = self.socket_readable.get() && view.channels.iter().all(|channel| channel.view.ready_to_read.get());
        if self.paused.replace(!wanted) == wanted {
            worker.watch(self.uuid, &self.io, self.interest());
            if wanted {
                // Its peer could not show that it is there.
                self.last_packet.set(worker.now());
                worker.resume_soon(self.uuid);
            }
        }
    }

    fn interest(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.paused.get());
        flags.set(EventFlags::OUT, self.blocked.get());
        flags
    }

    /// Makes the addresses that C holds known to this worker.
    fn list(self: &Conn, worker: &Rc<Worker>, view: &StreamView) {
        let mut addresses = worker.addresses.borrow_mut();
        addresses.insert(view.es.addr(), self.uuid);
        addresses.insert(view.stream.addr(), self.uuid);
        for channel in &view.channels {
            addresses.insert(channel.view.addr(), self.uuid);
        }
    }

    fn unlist(&self, worker: &Worker, view: &StreamView) {
        let mut addresses = worker.addresses.borrow_mut();
        addresses.remove(&view.es.addr());
        addresses.remove(&view.stream.addr());
        for channel in &view.channels {
            addresses.remove(&channel.view.addr());
        }
    }
}

/// Channel letter and data size of the packet that begins `bytes`; None when the header is not all there.
fn parse_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
    let size = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    Some((header[0], size as usize))
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
