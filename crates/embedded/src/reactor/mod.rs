//! Workers: threads, each with an epoll loop that owns sources of events ([`Source`]) and timers.
//!
//! C's event sockets are the only kind of source that the reactor knows. Streams and listeners implement [`Source`]
//! above it, and `lifecycle` starts and stops the threads.
//!
//! Only a worker's own thread accesses what the worker owns. Other threads post jobs, which run in the order of
//! posting. C callbacks run with nothing borrowed, so they may call back into any function. They may also delete the
//! object that they run for: the deletion follows when the callback has returned.

pub(crate) mod buffers;
mod directory;
pub(crate) mod moves;
pub(crate) mod queue;
mod shared;
pub(crate) mod socket;
mod source;
pub(crate) mod timers;
mod turn;

pub(crate) use directory::{Reactor, active, current, current_worker, next_uuid, set_current};
pub(crate) use shared::{Job, Load, Shared};
pub(crate) use source::{Ready, Source};

use crate::threads;
use buffers::Buffers;
use host::descriptors::above_stdio;
use rustc_hash::FxHashMap;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timers::Timers;

/// The wake-up descriptor's key. It is not a uuid: uuids begin at 1.
const WAKE: u64 = 0;

/// The part of a worker that only its own thread accesses.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reactor: Arc<Reactor>,
    epoll: OwnedFd,
    sources: RefCell<FxHashMap<u64, Rc<dyn Source>>>,
    /// The uuids of event sockets, streams and channels on this worker, by the address that C holds.
    pub(crate) addresses: RefCell<FxHashMap<usize, u64>>,
    pub(crate) timers: Timers,
    pub(crate) buffers: Buffers,
    /// Sources to tear down as soon as no callback is running.
    closing: RefCell<Vec<u64>>,
    /// Sources with output that has not been passed to the kernel.
    dirty: RefCell<Vec<u64>>,
    /// Sources whose output has drained since the last check.
    drained: RefCell<Vec<u64>>,
    /// Sources that hold received bytes and may resume handling them.
    resumed: RefCell<Vec<u64>>,
    now: Cell<Instant>,
    /// How long this process did not run, as far as late timers show, and when that was last seen.
    paused: Cell<Duration>,
    pause_seen: Cell<Instant>,
    exiting: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// Calls `body` with this thread's worker; `None` if the calling thread is not a worker.
pub(crate) fn with_current<R>(body: impl FnOnce(&Rc<Worker>) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.try_borrow().ok()?.as_ref().map(body)).ok().flatten()
}

/// Starts the thread `vpn-worker-<index>`.
pub(crate) fn spawn(reactor: &Arc<Reactor>, index: usize) -> io::Result<JoinHandle<()>> {
    let shared = reactor.workers.get(index).cloned().ok_or(io::ErrorKind::InvalidInput)?;
    let reactor = Arc::clone(reactor);
    let epoll: OwnedFd = above_stdio(epoll::create(CreateFlags::CLOEXEC)?)?;
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
            now: Cell::new(Instant::now()),
            paused: Cell::default(),
            pause_seen: Cell::new(Instant::now()),
            exiting: Cell::new(false),
        });
        CURRENT.set(Some(Rc::clone(&worker)));
        worker.run();
        CURRENT.set(None);
    })
}

impl Worker {
    /// The time at the start of this turn of the loop, for the silence of peers: pauses of this process do not count.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn add_source(
        &self,
        uuid: u64,
        fd: impl AsFd,
        flags: EventFlags,
        source: Rc<dyn Source>,
    ) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(uuid), flags)?;
        self.sources.borrow_mut().insert(uuid, source);
        Ok(())
    }

    /// Changes the events that epoll reports for a descriptor. A closed descriptor is ignored.
    pub(crate) fn watch(&self, uuid: u64, fd: impl AsFd, flags: EventFlags) {
        if let Err(error) = epoll::modify(&self.epoll, fd, EventData::new_u64(uuid), flags) {
            log::debug!("cannot change the events that epoll reports for a descriptor: {error}");
        }
    }

    pub(crate) fn remove_source(&self, uuid: u64, fd: impl AsFd) -> Option<Rc<dyn Source>> {
        let source = self.sources.borrow_mut().remove(&uuid)?;
        // Fails only if the owner has closed the descriptor, which removed it from epoll.
        let _ = epoll::delete(&self.epoll, fd);
        Some(source)
    }

    pub(crate) fn source(&self, uuid: u64) -> Option<Rc<dyn Source>> {
        self.sources.borrow().get(&uuid).cloned()
    }

    /// The source of the event socket, stream or channel at an address that C holds; `None` if it is not on this
    /// worker.
    pub(crate) fn source_at(&self, address: usize) -> Option<Rc<dyn Source>> {
        self.source(self.uuid_at(address)?)
    }

    /// The uuid of the object at an address that C holds; `None` if it is not on this worker.
    pub(crate) fn uuid_at(&self, address: usize) -> Option<u64> {
        self.addresses.borrow().get(&address).copied()
    }

    /// Tears the source down once the running callback has returned.
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

    /// Deletes everything that this worker owns, and runs the delete callbacks.
    pub(crate) fn clear(self: &Rc<Self>) {
        loop {
            let uuids: Vec<u64> = self.sources.borrow().keys().copied().collect();
            if uuids.is_empty() {
                break;
            }
            // Streams go before sockets: a channel's owner may use its queues and devices until the channel ends.
            for uuid in &uuids {
                if let Some(source) = self.source(*uuid).filter(|source| source.ends_first()) {
                    source.tear_down(self);
                }
            }
            for uuid in uuids {
                if let Some(source) = self.source(uuid) {
                    source.tear_down(self);
                }
            }
        }
        self.timers.clear();
    }

    pub(crate) fn exit(&self) {
        self.exiting.set(true);
    }
}
