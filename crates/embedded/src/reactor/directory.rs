//! All workers of the process, and the worker of each object.

use super::queue::PtrQueue;
use super::{Job, Shared, Worker, with_current};
use crate::ctypes::dap_events_socket;
use crate::cview::owned::CBox;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The workers, and the owner of each object that C names by a number or an address. Any thread.
pub(crate) struct Reactor {
    pub(crate) workers: Vec<Arc<Shared>>,
    stopping: AtomicBool,
    /// Event sockets that have no worker yet, by address.
    pub(crate) unassigned: Mutex<HashMap<usize, CBox<dap_events_socket>>>,
    owners: Mutex<Owners>,
    /// Pointer queues by the address of their event socket.
    pub(crate) queues: RwLock<HashMap<usize, Arc<PtrQueue>>>,
}

/// The workers of event sockets, streams and timers.
#[derive(Default)]
struct Owners {
    /// Index of the worker, by uuid.
    workers: HashMap<u64, usize>,
    /// The uuid of an event socket, by the address that C holds.
    sockets: HashMap<usize, u64>,
    /// The number of the latest move to another worker, by uuid.
    moves: HashMap<u64, u64>,
}

static CURRENT: Mutex<Option<Arc<Reactor>>> = Mutex::new(None);

/// Makes `reactor` the process's instance, and returns the previous one.
pub(crate) fn set_current(reactor: Option<Arc<Reactor>>) -> Option<Arc<Reactor>> {
    std::mem::replace(&mut *CURRENT.lock(), reactor)
}

/// The running instance: the calling worker's own, or else the process's. `None` while the SDK is not retained.
pub(crate) fn current() -> Option<Arc<Reactor>> {
    with_current(|worker| Arc::clone(&worker.reactor)).or_else(|| CURRENT.lock().clone())
}

/// The worker of the calling thread if it belongs to the process's instance. `None` on a thread whose instance was
/// stopped while it was in a callback: the next instance has another worker with its number.
pub(crate) fn current_worker() -> Option<Rc<Worker>> {
    let worker = with_current(Rc::clone)?;
    let is_alive = CURRENT.lock().as_ref().is_some_and(|current| Arc::ptr_eq(current, &worker.reactor));
    is_alive.then_some(worker)
}

/// Like [`current`], but `None` also while the instance is stopping: for callers that create something new.
pub(crate) fn active() -> Option<Arc<Reactor>> {
    current().filter(|reactor| !reactor.is_stopping())
}

/// A number that no event socket, stream or timer of this process has had before.
pub(crate) fn next_uuid() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Reactor {
    pub(crate) fn new(workers: Vec<Arc<Shared>>) -> Arc<Self> {
        Arc::new(Reactor {
            workers,
            stopping: AtomicBool::new(false),
            unassigned: Mutex::default(),
            owners: Mutex::default(),
            queues: RwLock::default(),
        })
    }

    /// Marks the instance as stopping: [`active`] no longer returns it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The worker at an address that C passed; the address is compared, never followed.
    pub(crate) fn worker_at(&self, worker: usize) -> Option<&Arc<Shared>> {
        self.workers.iter().find(|known| known.view.worker.addr() == worker)
    }

    /// The worker with the fewest streams.
    pub(crate) fn least_loaded(&self) -> Option<&Arc<Shared>> {
        self.workers.iter().min_by_key(|worker| worker.load())
    }

    pub(crate) fn set_owner(&self, uuid: u64, worker: usize) {
        self.owners.lock().workers.insert(uuid, worker);
    }

    pub(crate) fn clear_owner(&self, uuid: u64) {
        let mut owners = self.owners.lock();
        owners.workers.remove(&uuid);
        owners.moves.remove(&uuid);
    }

    pub(crate) fn add_socket(&self, address: usize, uuid: u64) {
        self.owners.lock().sockets.insert(address, uuid);
    }

    pub(crate) fn remove_socket(&self, address: usize) {
        self.owners.lock().sockets.remove(&address);
    }

    /// The uuid of the event socket at an address, which is compared, never followed.
    pub(crate) fn socket_at(&self, address: usize) -> Option<u64> {
        self.owners.lock().sockets.get(&address).copied()
    }

    pub(crate) fn owner(&self, uuid: u64) -> Option<&Arc<Shared>> {
        let worker = *self.owners.lock().workers.get(&uuid)?;
        self.workers.get(worker)
    }

    /// Numbers a move of the source to another worker, which supersedes earlier moves.
    pub(crate) fn begin_move(&self, uuid: u64) -> u64 {
        let number = next_uuid();
        let mut owners = self.owners.lock();
        if owners.workers.contains_key(&uuid) {
            owners.moves.insert(uuid, number);
        }
        number
    }

    pub(crate) fn is_latest_move(&self, uuid: u64, number: u64) -> bool {
        self.owners.lock().moves.get(&uuid) == Some(&number)
    }

    /// Runs `job` on the source's current worker, or on `otherwise` if no worker has it.
    pub(crate) fn post_to_owner(&self, uuid: u64, otherwise: &Arc<Shared>, job: Job) {
        self.owner(uuid).unwrap_or(otherwise).post(job);
    }
}
