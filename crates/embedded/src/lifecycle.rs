//! Start and stop of the embedded SDK in a process: workers, CLI and listener exist between the first `retain` and the
//! last `release`.
//!
//! Nothing here runs at process exit: a process that never releases simply ends.

use crate::client::{self, NodeClient};
use crate::config::{BadValue, Config};
use crate::cview::{events, fork};
use crate::reactor::{self, Job, Reactor, Shared};
use crate::stream::client_end::ClientEnd;
use crate::stream::{channels, sessions};
use crate::{
    bank, budget, cli, config, http, ledger, ledger_cli, listener, logging, net, prices, process, service, services,
    state, store, threads, timeouts, tls,
};
use crossbeam::channel::{self, RecvTimeoutError};
use parking_lot::{Condvar, Mutex};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most worker threads: C counts them in a `uint8_t`.
const WORKERS_MAX: usize = 255;
/// How often a wait checks whether its result is still needed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How long `stop` then waits for the threads of the workers, which have no work left.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a state without a condition variable is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Why the embedded SDK could not start.
#[derive(thiserror::Error, Debug)]
pub enum RuntimeError {
    /// The system refused a thread, an eventfd or an epoll descriptor.
    #[error("cannot start worker thread {index}: {source}")]
    Worker {
        /// The worker's index.
        index: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A security key cannot be read.
    #[error(transparent)]
    Config(#[from] config::BadValue),
    /// A callback of the runtime that is stopping called `retain`.
    #[error("the embedded SDK is stopping, and the calling thread is one of its threads")]
    Stopping,
}

/// The objects that the first `retain` makes and the last `release` destroys. Any thread.
struct Running {
    reactor: Arc<Reactor>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cli: Mutex<Option<cli::CliServer>>,
}

/// Who uses the embedded SDK. They are counted apart, so that a release too many of C takes nothing from the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The library itself: its service, its client, its device.
    Library,
    /// The program, by `dap_embedded_retain`.
    Program,
}

/// Counts a user of the embedded SDK; the first one starts it. Blocks while a previous instance is stopping.
pub fn retain(user: User) -> Result<(), RuntimeError> {
    logging::init();
    fork::watch();
    let mut global = GLOBAL.lock();
    while global.stopping {
        if threads::is_own() {
            return Err(RuntimeError::Stopping);
        }
        CHANGED.wait(&mut global);
    }
    if global.users == [0, 0] {
        global.running = Some(start()?);
        process::set_running(true);
    }
    global.users[user as usize] += 1;
    Ok(())
}

/// Releases one `retain` of this user; the last release of all stops everything and returns when the stop is complete.
/// On a thread of the embedded SDK it returns at once, and a separate thread stops everything, for which [`quiesce`]
/// waits. One release too many is logged and ignored.
pub fn release(user: User) {
    let mut global = GLOBAL.lock();
    if global.users[user as usize] == 0 {
        log::warn!("dap_embedded_release: called more often than dap_embedded_retain, ignored");
        return;
    }
    global.users[user as usize] -= 1;
    if global.users != [0, 0] {
        return;
    }
    global.stopping = true;
    let running = global.running.clone();
    drop(global);
    let Some(running) = running else { return finish() };
    if threads::is_own() {
        // Removed now, in case the process ends before the other thread removes it.
        if let Some(cli) = &*running.cli.lock() {
            cli.remove_file();
        }
        let stopper = Arc::clone(&running);
        let spawned = threads::spawn("vpn-stop", move || stop(&stopper));
        if let Err(error) = spawned {
            log::error!("cannot start the thread that stops the embedded SDK ({error}); the SDK keeps running");
            let mut global = GLOBAL.lock();
            global.stopping = false;
            global.users[user as usize] = 1;
            CHANGED.notify_all();
        }
    } else {
        stop(&running);
    }
}

/// Blocks until running callbacks have returned, closed node clients are deleted, and a stop that one of them has
/// caused is complete; 10 s at most. Returns at once on a thread of the embedded SDK.
///
/// For a caller that has released an object which a running callback may still hold, perhaps the last `retain`.
pub fn quiesce() {
    if threads::is_own() {
        return;
    }
    let timeout = timeouts::current().callback;
    let deadline = Instant::now() + timeout;
    if let Some(reactor) = reactor::active() {
        wait_for_clients(timeout, deadline, NodeClient::is_closed);
        // If another thread has begun the stop, the code below waits for its end.
        let hanging = on_every_worker(&reactor, deadline, || reactor.is_stopping(), || Box::new(|_| ()));
        report(&hanging, timeout, "the caller stops waiting for it");
    }
    let mut global = GLOBAL.lock();
    while global.stopping {
        if CHANGED.wait_until(&mut global, deadline).timed_out() {
            return log::error!("the embedded SDK has not stopped within {timeout:?}; the caller stops waiting");
        }
    }
}

/// Makes a configuration the process-wide one while the SDK runs, and applies what can change without a restart: the price
/// list, the free order, the limits of connections and of memory. Sessions stay. An error changes nothing.
///
/// The other keys must have the values that they had: the SDK has read them at its start, and reads some again.
pub fn reload(config: Config) -> Result<(), ReloadError> {
    config.check()?;
    prices::load(&config)?;
    budget::configure(&config);
    listener::reload(&config);
    if let Some(service) = services::find(ledger::VPN_UID) {
        let section = prices::SECTION;
        service.change(prices::allows_free(&config, section), prices::grace_period(&config, section));
    }
    config::set_current(config);
    Ok(())
}

/// Why a configuration cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A key cannot be read.
    #[error(transparent)]
    Config(Box<BadValue>),
    /// What it sells cannot be sold.
    #[error(transparent)]
    Prices(Box<prices::LoadError>),
}

impl From<BadValue> for ReloadError {
    fn from(error: BadValue) -> ReloadError {
        ReloadError::Config(Box::new(error))
    }
}

impl From<prices::LoadError> for ReloadError {
    fn from(error: prices::LoadError) -> ReloadError {
        ReloadError::Prices(Box::new(error))
    }
}

impl ReloadError {
    /// Returns whether a key is the reason.
    pub fn is_configuration(&self) -> bool {
        match self {
            ReloadError::Config(_) => true,
            ReloadError::Prices(error) => error.is_configuration(),
        }
    }
}

struct Global {
    /// How often each [`User`] has retained the SDK.
    users: [usize; 2],
    stopping: bool,
    running: Option<Arc<Running>>,
}

static GLOBAL: Mutex<Global> = Mutex::new(Global { users: [0, 0], stopping: false, running: None });
static CHANGED: Condvar = Condvar::new();

fn start() -> Result<Arc<Running>, RuntimeError> {
    let config = config::current();
    config.check()?;
    prices::read(&config)?;
    budget::configure(&config);
    let count = worker_count(config.get_u64("resources", "threads_cnt", 0));
    let mut workers = Vec::with_capacity(count);
    for index in 0..count {
        workers.push(Shared::new(index).map_err(|source| RuntimeError::Worker { index, source })?);
    }
    service::register_channel();
    bank::server::register_channel();
    ledger_cli::register();
    tls::warm_up();
    let running =
        Arc::new(Running { reactor: Reactor::new(workers), threads: Mutex::default(), cli: Mutex::default() });
    for index in 0..count {
        match reactor::spawn(&running.reactor, index) {
            Ok(thread) => running.threads.lock().push(thread),
            Err(source) => {
                exit_workers(&running, &mut Vec::new());
                return Err(RuntimeError::Worker { index, source });
            }
        }
    }
    reactor::set_current(Some(Arc::clone(&running.reactor)));
    match cli::start(&config) {
        Ok(cli) => *running.cli.lock() = cli,
        Err(error) => {
            reactor::set_current(None);
            exit_workers(&running, &mut Vec::new());
            return Err(error.into());
        }
    }
    log::debug!("embedded SDK started with {count} worker threads");
    Ok(running)
}

/// `[resources] threads_cnt`; 0 or an invalid value means one for each CPU that this process may use.
fn worker_count(configured: u64) -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let wanted = usize::try_from(configured).ok().filter(|count| *count > 0).unwrap_or(cpus);
    wanted.min(WORKERS_MAX)
}

fn stop(running: &Running) {
    let reactor = &running.reactor;
    drop(running.cli.lock().take());
    reactor.stop();
    listener::stop();
    for client in client::all() {
        client.close(reactor);
    }
    let timeout = timeouts::current().callback;
    let deadline = Instant::now() + timeout;
    let mut hanging = on_every_worker(reactor, deadline, || false, || Box::new(|worker| worker.clear()));
    http::stop();
    let clients_left = wait_for_clients(timeout, deadline, |_| true);
    exit_workers(running, &mut hanging);
    report(&hanging, timeout, "the embedded SDK stops without it and does not free what it may use");
    free_what_is_left(reactor, hanging.is_empty() && clients_left == 0);
    ledger::close();
    net::reset();
    store::close();
    state::close();
    log::debug!("embedded SDK stopped");
    finish();
}

/// Frees the objects that belong to no worker. If a callback hangs, they are leaked, because the callback may still use
/// them.
fn free_what_is_left(reactor: &Reactor, is_unused: bool) {
    let sockets = std::mem::take(&mut *reactor.unassigned.lock());
    let left = (sockets, services::take_all(), sessions::take_all(), client::take_all(), channels::take_all());
    if is_unused {
        left.0.values().for_each(events::close_descriptor);
    } else {
        std::mem::forget(left);
    }
}

fn finish() {
    let mut global = GLOBAL.lock();
    let reactor = reactor::set_current(None);
    let running = global.running.take();
    global.stopping = false;
    process::set_running(false);
    CHANGED.notify_all();
    drop(global);
    drop((running, reactor));
}

/// Runs a job on each worker and waits for all of them, until the deadline or until the wait is useless. Returns the
/// workers that have not run it.
fn on_every_worker(
    reactor: &Reactor,
    deadline: Instant,
    is_useless: impl Fn() -> bool,
    job: impl Fn() -> Job,
) -> Vec<usize> {
    let (done, all_done) = channel::unbounded();
    for worker in &reactor.workers {
        let (job, done) = (job(), done.clone());
        worker.post(Box::new(move |worker| {
            job(worker);
            // The receiver may be gone if this job runs after the deadline.
            let _ = done.send(worker.shared.index);
        }));
    }
    drop(done);
    let mut waiting: Vec<usize> = (0..reactor.workers.len()).collect();
    loop {
        match all_done.recv_deadline(deadline.min(Instant::now() + CHECK_INTERVAL)) {
            Ok(index) => waiting.retain(|waiting| *waiting != index),
            // Each worker has run its job, or a panic, which has been logged, ended it.
            Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            Err(RecvTimeoutError::Timeout) if is_useless() => return Vec::new(),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return waiting,
        }
    }
}

/// Logs the workers that have run no job for the whole of `timeout`.
fn report(hanging: &[usize], timeout: Duration, consequence: &str) {
    for index in hanging {
        log::error!(
            "thread vpn-worker-{index} is in a callback that has not returned for {timeout:?}, possibly a deadlock \
             with the thread that waits for it; {consequence}"
        );
    }
}

/// Waits until the clients are deleted; the connecting thread deletes its client when its callback has returned.
/// Returns how many are left at the deadline.
fn wait_for_clients(timeout: Duration, deadline: Instant, which: impl Fn(&NodeClient) -> bool) -> usize {
    let left = || client::all().iter().filter(|client| which(client)).count();
    while left() > 0 && Instant::now() < deadline {
        thread::sleep(POLL_INTERVAL);
    }
    let left = left();
    if left > 0 {
        log::error!("{left} node clients are still in a callback after {timeout:?}; the caller stops waiting for them");
    }
    left
}

/// Ends the workers' threads. A hanging thread ends when its callback returns, if ever; it is added to `hanging`.
fn exit_workers(running: &Running, hanging: &mut Vec<usize>) {
    let threads = std::mem::take(&mut *running.threads.lock());
    for worker in running.reactor.workers.iter().take(threads.len()) {
        worker.post(Box::new(|worker| worker.exit()));
    }
    let deadline = Instant::now() + EXIT_TIMEOUT;
    for (index, thread) in threads.into_iter().enumerate() {
        if hanging.contains(&index) {
            continue;
        }
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        if !thread.is_finished() {
            hanging.push(index);
        } else if thread.join().is_err() {
            log::error!("a worker thread ended with a panic");
        }
    }
}
