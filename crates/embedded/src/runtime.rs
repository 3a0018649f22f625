//! The life of the embedded SDK in a process: workers, CLI and listener exist between the first `retain` and the last
//! `release`.
//!
//! Nothing here runs at process exit: a process that never releases just ends.

use super::client::NodeClient;
use super::ctypes::dap_events_socket;
use super::cview::events;
use super::cview::owned::CBox;
use super::stream::mailbox::Mailbox;
use super::stream::sessions;
use super::threads;
use super::worker::queue::PtrQueue;
use super::worker::{self, Job, Shared};
use super::{cli, config, http, listener, logging, net, service, store, tls};
use crossbeam::channel::{self, RecvTimeoutError};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most worker threads: C counts them in a `uint8_t`.
const WORKERS_MAX: usize = 255;
/// How often a wait looks whether it is of any use.
const LOOK: Duration = Duration::from_millis(20);
/// How long `stop` and `settle` wait for callbacks that do not return, such as one that waits for the stopping thread.
const PATIENCE: Duration = Duration::from_secs(10);
/// What `stop` grants the workers after that for their end, when there is nothing left for them to do.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
/// How often what cannot be waited for is looked at.
const STEP: Duration = Duration::from_millis(1);

/// Why the embedded SDK could not be started.
#[derive(thiserror::Error, Debug)]
pub enum RuntimeError {
    /// A thread, an eventfd or an epoll descriptor was refused.
    #[error("cannot start worker thread {index}: {source}")]
    Worker {
        /// Which worker.
        index: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// `retain` in a callback of the very runtime that is being stopped.
    #[error("the embedded SDK is being stopped, and this thread is one of its own")]
    Stopping,
}

/// What the first `retain` makes and the last `release` takes down. Any thread.
pub(crate) struct Runtime {
    pub(crate) workers: Vec<Arc<Shared>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cli: Mutex<Option<cli::CliServer>>,
    stopping: AtomicBool,
    /// Event sockets in no loop yet, by address.
    pub(crate) unassigned: Mutex<HashMap<usize, CBox<dap_events_socket>>>,
    places: Mutex<Places>,
    /// Pointer queues by the address of their event socket.
    pub(crate) queues: RwLock<HashMap<usize, Arc<PtrQueue>>>,
    /// Channels of open streams by uuid.
    pub(crate) channels: RwLock<HashMap<u32, Arc<Mailbox>>>,
    /// Node clients by the address of the struct that C holds.
    pub(crate) clients: Mutex<HashMap<usize, Arc<NodeClient>>>,
}

/// Where event sockets, streams and timers are.
#[derive(Default)]
struct Places {
    /// The worker, by uuid.
    workers: HashMap<u64, usize>,
    /// The uuid, by the address that C holds of an event socket.
    sockets: HashMap<usize, u64>,
    /// The number of the latest move to another worker that was asked for, by uuid.
    moves: HashMap<u64, u64>,
}

/// Counts a user of the embedded SDK; the first one starts it. Blocks while an earlier one is being stopped.
pub fn retain() -> Result<(), RuntimeError> {
    logging::init();
    let mut global = GLOBAL.lock();
    while global.stopping {
        if threads::is_own() {
            return Err(RuntimeError::Stopping);
        }
        CHANGED.wait(&mut global);
    }
    if global.count == 0 {
        let runtime = start()?;
        global.runtime = Some(runtime);
    }
    global.count += 1;
    Ok(())
}

/// Gives one `retain` back; the last one stops everything and returns when it is gone. On a thread of the embedded SDK
/// itself it returns at once and a thread of its own does the stopping, which [`settle`] waits for. One release too many
/// is logged and ignored.
pub fn release() {
    let mut global = GLOBAL.lock();
    if global.count == 0 {
        log::warn!("dap_embedded_release: called more often than dap_embedded_retain, ignored");
        return;
    }
    global.count -= 1;
    if global.count > 0 {
        return;
    }
    global.stopping = true;
    let runtime = global.runtime.clone();
    drop(global);
    let Some(runtime) = runtime else { return finish() };
    if threads::is_own() {
        // Now, in case the process ends before the other thread comes to it.
        if let Some(cli) = &*runtime.cli.lock() {
            cli.remove_file();
        }
        let stopper = Arc::clone(&runtime);
        let spawned = threads::spawn("vpn-stop", move || stop(&stopper));
        if let Err(error) = spawned {
            log::error!("cannot start the thread that stops the embedded SDK ({error}); it goes on running");
            let mut global = GLOBAL.lock();
            global.stopping = false;
            global.count = 1;
            CHANGED.notify_all();
        }
    } else {
        stop(&runtime);
    }
}

/// Waits until the callbacks that were running have returned, the node clients that were closed are deleted, and a stop
/// that any of them has brought about is over; 10 s at most. At once on a thread of the embedded SDK itself.
///
/// For who has let go of something that callbacks may still hold for a moment, and with it perhaps the last `retain`.
pub fn settle() {
    if threads::is_own() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    if let Some(runtime) = active() {
        wait_for_clients(&runtime, deadline, NodeClient::is_closed);
        // Its end, should another thread have begun it, is waited for below.
        let hanging = on_every_worker(&runtime, deadline, || runtime.is_stopping(), || Box::new(|_| ()));
        report(&hanging, "no longer waiting for it");
    }
    let mut global = GLOBAL.lock();
    while global.stopping {
        if CHANGED.wait_until(&mut global, deadline).timed_out() {
            return log::error!("the embedded SDK has not stopped within {PATIENCE:?}; no longer waiting for it");
        }
    }
}

/// The running instance; None while nothing is retained.
pub(crate) fn current() -> Option<Arc<Runtime>> {
    worker::with_current(|worker| Arc::clone(&worker.runtime)).or_else(|| GLOBAL.lock().runtime.clone())
}

/// As [`current`], and None as well once it is being stopped: for what makes something new.
pub(crate) fn active() -> Option<Arc<Runtime>> {
    current().filter(|runtime| !runtime.is_stopping())
}

/// A number that no event socket, stream or timer of this process had before.
pub(crate) fn next_uuid() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Runtime {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The worker behind a pointer of C's; the pointer is compared, never followed.
    pub(crate) fn worker_at(&self, worker: usize) -> Option<&Arc<Shared>> {
        self.workers.iter().find(|known| known.view.worker.addr() == worker)
    }

    /// The worker with the fewest streams.
    pub(crate) fn least_loaded(&self) -> Option<&Arc<Shared>> {
        self.workers.iter().min_by_key(|worker| worker.load())
    }

    pub(crate) fn set_place(&self, uuid: u64, worker: usize) {
        self.places.lock().workers.insert(uuid, worker);
    }

    pub(crate) fn clear_place(&self, uuid: u64) {
        let mut places = self.places.lock();
        places.workers.remove(&uuid);
        places.moves.remove(&uuid);
    }

    pub(crate) fn add_socket(&self, address: usize, uuid: u64) {
        self.places.lock().sockets.insert(address, uuid);
    }

    pub(crate) fn remove_socket(&self, address: usize) {
        self.places.lock().sockets.remove(&address);
    }

    /// The uuid of the event socket at an address, which is compared, never followed.
    pub(crate) fn socket_at(&self, address: usize) -> Option<u64> {
        self.places.lock().sockets.get(&address).copied()
    }

    pub(crate) fn place(&self, uuid: u64) -> Option<&Arc<Shared>> {
        let worker = *self.places.lock().workers.get(&uuid)?;
        self.workers.get(worker)
    }

    /// Numbers a move of the socket to another worker; earlier ones do not count any more.
    pub(crate) fn begin_move(&self, uuid: u64) -> u64 {
        let number = next_uuid();
        let mut places = self.places.lock();
        if places.workers.contains_key(&uuid) {
            places.moves.insert(uuid, number);
        }
        number
    }

    pub(crate) fn is_latest_move(&self, uuid: u64, number: u64) -> bool {
        self.places.lock().moves.get(&uuid) == Some(&number)
    }

    /// Runs `job` on the worker that has the socket now, or, where none has it, on `otherwise`.
    pub(crate) fn post_to_owner(&self, uuid: u64, otherwise: &Arc<Shared>, job: Job) {
        self.place(uuid).unwrap_or(otherwise).post(job);
    }
}

struct Global {
    count: usize,
    stopping: bool,
    runtime: Option<Arc<Runtime>>,
}

static GLOBAL: Mutex<Global> = Mutex::new(Global { count: 0, stopping: false, runtime: None });
static CHANGED: Condvar = Condvar::new();

fn start() -> Result<Arc<Runtime>, RuntimeError> {
    let config = config::current();
    let count = worker_count(config.get_u64("resources", "threads_cnt", 0));
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        workers.push(Shared::new(index).map_err(|source| RuntimeError::Worker { index, source })?);
    }
    service::register_channel();
    tls::warm_up();
    let runtime = Arc::new(Runtime {
        workers,
        threads: Mutex::default(),
        cli: Mutex::default(),
        stopping: AtomicBool::new(false),
        unassigned: Mutex::default(),
        places: Mutex::default(),
        queues: RwLock::default(),
        channels: RwLock::default(),
        clients: Mutex::default(),
    });
    for index in 0..count {
        match worker::spawn(&runtime, index) {
            Ok(thread) => runtime.threads.lock().push(thread),
            Err(source) => {
                exit_workers(&runtime, &mut Vec::new());
                return Err(RuntimeError::Worker { index, source });
            }
        }
    }
    *runtime.cli.lock() = cli::start(&config);
    log::debug!("embedded SDK started with {count} worker threads");
    Ok(runtime)
}

/// `[resources] threads_cnt`; 0 and nonsense mean one for each CPU that this process may use.
fn worker_count(configured: u64) -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let wanted = usize::try_from(configured).ok().filter(|count| *count > 0).unwrap_or(cpus);
    wanted.min(WORKERS_MAX)
}

fn stop(runtime: &Arc<Runtime>) {
    drop(runtime.cli.lock().take());
    runtime.stopping.store(true, Ordering::Release);
    listener::stop();
    let clients: Vec<_> = runtime.clients.lock().values().cloned().collect();
    for client in clients {
        client.close(runtime);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut hanging = on_every_worker(runtime, deadline, || false, || Box::new(|worker| worker.clear()));
    http::stop();
    let clients_left = wait_for_clients(runtime, deadline, |_| true);
    exit_workers(runtime, &mut hanging);
    report(&hanging, "the embedded SDK stops without it, and what it may use is not freed");
    free_what_is_left(runtime, hanging.is_empty() && clients_left == 0);
    net::reset();
    store::close();
    log::debug!("embedded SDK stopped");
    finish();
}

/// What belongs to no worker. It is forgotten in any case; a callback that hangs may go on with it.
fn free_what_is_left(runtime: &Runtime, is_unused: bool) {
    let sockets = std::mem::take(&mut *runtime.unassigned.lock());
    let left = (sockets, service::take_all(), sessions::take_all());
    if is_unused {
        left.0.values().for_each(events::close_descriptor);
    } else {
        std::mem::forget(left);
    }
}

fn finish() {
    let mut global = GLOBAL.lock();
    let runtime = global.runtime.take();
    global.stopping = false;
    CHANGED.notify_all();
    drop(global);
    drop(runtime);
}

/// Has each worker run a job and waits for all of them, until the deadline or until it is of no more use. The workers
/// that have not come to it.
fn on_every_worker(
    runtime: &Runtime,
    deadline: Instant,
    is_useless: impl Fn() -> bool,
    job: impl Fn() -> Job,
) -> Vec<usize> {
    let (done, all_done) = channel::unbounded();
    for worker in &runtime.workers {
        let (job, done) = (job(), done.clone());
        worker.post(Box::new(move |worker| {
            job(worker);
            // Nobody listens any more when this comes too late.
            let _ = done.send(worker.shared.index);
        }));
    }
    drop(done);
    let mut waiting: Vec<usize> = (0..runtime.workers.len()).collect();
    loop {
        match all_done.recv_deadline(deadline.min(Instant::now() + LOOK)) {
            Ok(index) => waiting.retain(|waiting| *waiting != index),
            // All have run, or ended in a panic, which has been logged.
            Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            Err(RecvTimeoutError::Timeout) if is_useless() => return Vec::new(),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return waiting,
        }
    }
}

/// Names the workers that did nothing for the whole of [`PATIENCE`].
fn report(hanging: &[usize], consequence: &str) {
    for index in hanging {
        log::error!(
            "thread vpn-worker-{index} is in a callback that has not returned for {PATIENCE:?}, maybe because it waits \
             for the thread that waits for it; {consequence}"
        );
    }
}

/// A client whose connecting thread is in a callback is deleted by that thread when the callback returns. Returns how
/// many are still there at the deadline.
fn wait_for_clients(runtime: &Runtime, deadline: Instant, which: impl Fn(&NodeClient) -> bool) -> usize {
    let left = || runtime.clients.lock().values().filter(|client| which(client)).count();
    while left() > 0 && Instant::now() < deadline {
        thread::sleep(STEP);
    }
    let left = left();
    if left > 0 {
        log::error!("{left} node clients are still in a callback after {PATIENCE:?}; no longer waiting for them");
    }
    left
}

/// Ends the workers' threads. One that hangs ends by itself, should its callback ever return; it is added to `hanging`.
fn exit_workers(runtime: &Runtime, hanging: &mut Vec<usize>) {
    let threads = std::mem::take(&mut *runtime.threads.lock());
    for worker in runtime.workers.iter().take(threads.len()) {
        worker.post(Box::new(|worker| worker.exit()));
    }
    let deadline = Instant::now() + EXIT_PATIENCE;
    for (index, thread) in threads.into_iter().enumerate() {
        if hanging.contains(&index) {
            continue;
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(STEP);
        }
        if !thread.is_finished() {
            hanging.push(index);
        } else if thread.join().is_err() {
            log::error!("a worker thread ended with a panic");
        }
    }
}
