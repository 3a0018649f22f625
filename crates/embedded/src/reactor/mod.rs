//! A worker: a thread with an epoll loop that owns event sockets, timers and streams.
//!
//! What a worker owns is touched by its thread alone. Other threads post jobs, which run in the order of posting. C
//! callbacks run with nothing borrowed, so they may call back into anything, also to delete what they run for: that is
//! carried out when the callback has returned.

pub(crate) mod buffers;
mod directory;
pub(crate) mod queue;
pub(crate) mod socket;
pub(crate) mod timers;

pub(crate) use directory::{Reactor, active, current, next_uuid, set_current};

use super::cview::events::CWorker;
use super::listener::Listener;
use super::stream::conn::Conn;
use super::stream::newcomer::Newcomer;
use super::{panics, threads};
use buffers::Buffers;
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use rustc_hash::FxHashMap;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use socket::Socket;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timers::Timers;

/// Something to do on a worker's thread.
pub(crate) type Job = Box<dyn FnOnce(&Rc<Worker>) + Send>;

/// Events taken from the kernel in one turn of the loop.
const EVENTS_A_TURN: usize = 256;
/// Rounds of flush and "output drained" callbacks in one turn; what is left over waits for the next turn.
const FLUSH_ROUNDS: usize = 8;
/// The wake-up descriptor's key: no socket's uuid, those begin at 1.
const WAKE: u64 = 0;

/// The part of a worker that every thread may use.
pub(crate) struct Shared {
    pub(crate) index: usize,
    pub(crate) view: CWorker,
    jobs: SegQueue<Job>,
    signalled: CachePadded<AtomicBool>,
    wake: OwnedFd,
    streams: AtomicUsize,
}

/// The thread's own part.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reactor: Arc<Reactor>,
    epoll: OwnedFd,
    sources: RefCell<FxHashMap<u64, Source>>,
    /// Addresses that C holds of event sockets, streams and channels here.
    pub(crate) addresses: RefCell<FxHashMap<usize, u64>>,
    pub(crate) timers: Timers,
    pub(crate) buffers: Buffers,
    /// Connections to be torn down as soon as no callback is running.
    closing: RefCell<Vec<u64>>,
    /// Streams with output that has not been handed to the kernel.
    dirty: RefCell<Vec<u64>>,
    /// Streams whose output has drained since the last look.
    drained: RefCell<Vec<u64>>,
    /// Streams that hold received bytes and may go on with them.
    resumed: RefCell<Vec<u64>>,
    /// A timer for it is set.
    pub(crate) looks_for_idle: Cell<bool>,
    now: Cell<Instant>,
    exiting: Cell<bool>,
}

/// What an epoll key stands for.
#[derive(Clone)]
pub(crate) enum Source {
    Wake,
    Socket(Rc<Socket>),
    Listener(Rc<Listener>),
    Newcomer(Rc<Newcomer>),
    Conn(Rc<Conn>),
}

/// What the kernel says of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) error: bool,
    pub(crate) hangup: bool,
}

/// Counts a stream for its worker as long as it lives.
pub(crate) struct Load(Arc<Shared>);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// Calls `body` with this thread's worker; None on a thread that is none.
pub(crate) fn with_current<R>(body: impl FnOnce(&Rc<Worker>) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.as_ref().map(body)).ok().flatten()
}

/// Starts the thread "vpn-worker-<index>".
pub(crate) fn spawn(reactor: &Arc<Reactor>, index: usize) -> io::Result<JoinHandle<()>> {
    let shared = reactor.workers.get(index).cloned().ok_or(io::ErrorKind::InvalidInput)?;
    let reactor = Arc::clone(reactor);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &shared.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
    threads::spawn(&format!("vpn-worker-{index}"), move || {
        let worker = Rc::new(Worker {
            shared,
            reactor,
            epoll,
            sources: RefCell::default(),
            addresses: RefCell::default(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            closing: RefCell::default(),
            dirty: RefCell::default(),
            drained: RefCell::default(),
            resumed: RefCell::default(),
            looks_for_idle: Cell::new(false),
            now: Cell::new(Instant::now()),
            exiting: Cell::new(false),
        });
        worker.sources.borrow_mut().insert(WAKE, Source::Wake);
        CURRENT.set(Some(Rc::clone(&worker)));
        worker.run();
        CURRENT.set(None);
    })
}

impl Shared {
    pub(crate) fn new(index: usize) -> io::Result<Arc<Self>> {
        let id = u32::try_from(index).map_err(io::Error::other)?;
        Ok(Arc::new(Shared {
            index,
            view: CWorker::new(id),
            jobs: SegQueue::new(),
            signalled: CachePadded::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            streams: AtomicUsize::new(0),
        }))
    }

    /// Queues a job. After the worker's end it is dropped unrun, with what it owns.
    pub(crate) fn post(&self, job: Job) {
        self.jobs.push(job);
        if !self.signalled.swap(true, Ordering::SeqCst) {
            // The one failure, a full counter, means that a wake-up is pending anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Streams that this worker has or is about to get.
    pub(crate) fn load(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

impl Load {
    pub(crate) fn new(worker: &Arc<Shared>) -> Self {
        worker.streams.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(worker))
    }

    /// The worker that it is counted for.
    pub(crate) fn worker(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// The time at the begin of this turn of the loop.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn add_source(&self, uuid: u64, fd: impl AsFd, flags: EventFlags, source: Source) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(uuid), flags)?;
        self.sources.borrow_mut().insert(uuid, source);
        Ok(())
    }

    /// Changes what is waited for. A descriptor that is gone already makes no difference.
    pub(crate) fn watch(&self, uuid: u64, fd: impl AsFd, flags: EventFlags) {
        if let Err(error) = epoll::modify(&self.epoll, fd, EventData::new_u64(uuid), flags) {
            log::debug!("epoll refuses a change of what to wait for: {error}");
        }
    }

    pub(crate) fn remove_source(&self, uuid: u64, fd: impl AsFd) -> Option<Source> {
        let source = self.sources.borrow_mut().remove(&uuid)?;
        // Fails only for a descriptor that its owner has closed, which took it out of epoll.
        let _ = epoll::delete(&self.epoll, fd);
        Some(source)
    }

    pub(crate) fn source(&self, uuid: u64) -> Option<Source> {
        self.sources.borrow().get(&uuid).cloned()
    }

    /// What C means with the address of an event socket, a stream or a channel; None when it is not on this worker.
    pub(crate) fn source_at(&self, address: usize) -> Option<Source> {
        let uuid = *self.addresses.borrow().get(&address)?;
        self.source(uuid)
    }

    pub(crate) fn conn(&self, uuid: u64) -> Option<Rc<Conn>> {
        match self.sources.borrow().get(&uuid) {
            Some(Source::Conn(conn)) => Some(Rc::clone(conn)),
            _ => None,
        }
    }

    pub(crate) fn conns(&self) -> Vec<Rc<Conn>> {
        let sources = self.sources.borrow();
        let conn = |source: &Source| if let Source::Conn(conn) = source { Some(Rc::clone(conn)) } else { None };
        sources.values().filter_map(conn).collect()
    }

    /// Has the connection torn down once the running callback has returned.
    pub(crate) fn close_soon(&self, uuid: u64) {
        self.closing.borrow_mut().push(uuid);
    }

    pub(crate) fn flush_soon(&self, uuid: u64) {
        self.dirty.borrow_mut().push(uuid);
    }

    pub(crate) fn drained_now(&self, uuid: u64) {
        self.drained.borrow_mut().push(uuid);
    }

    pub(crate) fn resume_soon(&self, uuid: u64) {
        self.resumed.borrow_mut().push(uuid);
    }

    /// Deletes everything this worker owns, with the callbacks that belong to it.
    pub(crate) fn clear(self: &Rc<Self>) {
        loop {
            let uuids: Vec<u64> = self.sources.borrow().keys().copied().filter(|uuid| *uuid != WAKE).collect();
            if uuids.is_empty() {
                break;
            }
            // Streams before sockets: a channel's owner may still use its queues and devices.
            for uuid in &uuids {
                if let Some(conn) = self.conn(*uuid) {
                    conn.tear_down(self);
                }
            }
            for uuid in uuids {
                match self.source(uuid) {
                    Some(Source::Socket(socket)) => socket.remove(self, false),
                    Some(Source::Newcomer(newcomer)) => newcomer.remove(self),
                    Some(Source::Listener(listener)) => listener.remove(self),
                    Some(Source::Conn(conn)) => conn.tear_down(self),
                    Some(Source::Wake) | None => {}
                }
            }
        }
        self.timers.clear();
    }

    pub(crate) fn exit(&self) {
        self.exiting.set(true);
    }

    fn run(self: &Rc<Self>) {
        let mut events = Vec::with_capacity(EVENTS_A_TURN);
        while !self.exiting.get() {
            events.clear();
            let timeout = self.timeout().map(|wait| rustix::time::Timespec {
                tv_sec: wait.as_secs().cast_signed(),
                tv_nsec: wait.subsec_nanos().into(),
            });
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    log::error!("epoll_wait: {error}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            self.now.set(Instant::now());
            for event in &events {
                let (uuid, flags) = (event.data.u64(), event.flags);
                self.bounded(Some(uuid), || self.dispatch(uuid, flags));
            }
            self.run_jobs();
            while let Some(timer) = self.timers.due(Instant::now()) {
                self.bounded(None, || self.timers.fire(self, timer));
            }
            self.for_each(&self.resumed, |conn| conn.resume(self));
            self.end_turn();
        }
        // What was posted by callbacks of the last jobs.
        self.run_jobs();
        self.clear();
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.dirty.borrow().is_empty() || !self.drained.borrow().is_empty() || !self.resumed.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next_due().map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn dispatch(self: &Rc<Self>, uuid: u64, flags: EventFlags) {
        let ready = Ready {
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            error: flags.contains(EventFlags::ERR),
            hangup: flags.contains(EventFlags::HUP),
        };
        match self.source(uuid) {
            Some(Source::Conn(conn)) => conn.on_ready(self, ready),
            Some(Source::Socket(socket)) => socket.on_ready(self, ready),
            Some(Source::Newcomer(newcomer)) => newcomer.on_ready(self),
            Some(Source::Listener(listener)) => listener.on_ready(self),
            Some(Source::Wake) => {
                let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
                self.shared.signalled.store(false, Ordering::SeqCst);
            }
            // Removed by an earlier event of the same batch.
            None => {}
        }
    }

    fn run_jobs(self: &Rc<Self>) {
        // Bounded, so that jobs that post jobs cannot keep the loop from its sockets.
        for _ in 0..self.shared.jobs.len() {
            let Some(job) = self.shared.jobs.pop() else { break };
            self.bounded(None, || job(self));
        }
    }

    /// Flushes what the turn has written; output that drained gives its channels the chance to write more.
    fn end_turn(self: &Rc<Self>) {
        for _ in 0..FLUSH_ROUNDS {
            self.for_each(&self.dirty, |conn| conn.flush_turn(self));
            self.for_each(&self.drained, |conn| conn.on_drained(self));
            if self.dirty.borrow().is_empty() {
                break;
            }
        }
    }

    /// Works on each stream of a list; what the work adds to it waits for the next time.
    fn for_each(self: &Rc<Self>, list: &RefCell<Vec<u64>>, work: impl Fn(&Rc<Conn>)) {
        let mut batch = list.take();
        for uuid in batch.drain(..) {
            if let Some(conn) = self.conn(uuid) {
                self.bounded(Some(uuid), || work(&conn));
            }
        }
        // Its memory serves again, unless the list has some already.
        let mut list = list.borrow_mut();
        if list.capacity() == 0 {
            *list = batch;
        }
    }

    /// Runs one piece of work behind a panic boundary, then what had to wait for its end. A panic costs the connection
    /// it happened for, not the worker.
    fn bounded(self: &Rc<Self>, uuid: Option<u64>, work: impl FnOnce()) {
        // The worker's own state is in RefCells whose guards unwinding releases, with one map operation each.
        if let Err(panic) = panics::catch(work) {
            log::error!("internal error in worker {}: {panic}", self.shared.index);
            if let Some(conn) = uuid.and_then(|uuid| self.conn(uuid)) {
                conn.close(self);
            }
        }
        loop {
            let Some(uuid) = self.closing.borrow_mut().pop() else { break };
            let Some(conn) = self.conn(uuid) else { continue };
            if let Err(panic) = panics::catch(|| conn.tear_down(self)) {
                log::error!("internal error while closing a stream on worker {}: {panic}", self.shared.index);
            }
        }
    }
}
