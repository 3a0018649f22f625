//! The SDK's worker threads: which one is running, running work on another, timers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use std::sync::LazyLock;

use super::boundary::guard;
use super::raw;

/// Returns the number of workers; 0 while the SDK does not run.
pub fn count() -> u32 {
    // SAFETY: no arguments.
    unsafe { raw::vpn_glue_worker_count() }
}

/// Counts the starts of the SDK, as far as this library knows them: the embedded SDK starts anew after a stop, and uses
/// its workers' numbers again.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// The SDK has started, perhaps anew: each thread asks again which worker it is.
pub(super) fn renew() {
    GENERATION.fetch_add(1, Ordering::Release);
}

/// Returns the worker of the calling thread; `None` if that is not a worker, or is one of an SDK that has been stopped:
/// a callback that did not return in time may still run there, beside the worker that has its number now.
pub fn current() -> Option<u32> {
    thread_local!(static CURRENT: Cell<(u64, u32)> = const { Cell::new((0, raw::NO_WORKER)) });
    CURRENT.with(|cached| {
        let generation = GENERATION.load(Ordering::Acquire);
        if cached.get().0 != generation || cached.get().1 == raw::NO_WORKER {
            // SAFETY: no arguments.
            cached.set((generation, unsafe { raw::vpn_glue_worker_current() }));
        }
        Some(cached.get().1).filter(|worker| *worker != raw::NO_WORKER)
    })
}

/// Takes a lock that serialises blocking operations. A worker does not wait for it, because its holder may wait for the
/// worker: `None` on a worker if another thread holds the lock.
pub fn serialise(lock: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    if current().is_some() { lock.try_lock() } else { Some(lock.lock()) }
}

type Task = Box<dyn FnOnce() + Send>;

/// The tasks that workers have still to run, by number.
#[derive(Default)]
struct Tasks {
    /// Each with the [`GENERATION`] in which it was given to the SDK.
    waiting: HashMap<u64, (u64, Task)>,
}

impl Tasks {
    fn add(&mut self, id: u64, task: Task) {
        // Under the lock, so that a task that comes after a start never has the generation from before it.
        self.waiting.insert(id, (GENERATION.load(Ordering::Acquire), task));
    }

    fn take(&mut self, id: u64) -> Option<Task> {
        self.waiting.remove(&id).map(|(_, task)| task)
    }

    /// Takes the tasks of this generation and of those before it.
    fn take_until(&mut self, generation: u64) -> Vec<Task> {
        self.waiting.extract_if(|_, (of, _)| *of <= generation).map(|(_, (_, task))| task).collect()
    }
}

/// The SDK holds a number instead of a pointer: it may drop a task without a word, because it stops at the same time, and
/// what the task owns is freed all the same.
static TASKS: LazyLock<Mutex<Tasks>> = LazyLock::new(Mutex::default);

/// Runs `work` on a worker, later, in the order of the calls. False if the worker does not exist: `work` is then
/// dropped.
pub fn exec(worker: u32, work: impl FnOnce() + Send + 'static) -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    TASKS.lock().add(id, Box::new(work));
    // SAFETY: the argument is a number that run_once looks up; no code follows it as a pointer.
    let accepted = unsafe { raw::vpn_glue_worker_exec(worker, run_once, id as *mut c_void) };
    if !accepted {
        let refused = TASKS.lock().take(id);
        drop(refused);
    }
    accepted
}

unsafe extern "C" fn run_once(argument: *mut c_void) {
    let task = TASKS.lock().take(argument as u64);
    if let Some(task) = task {
        guard("a task on a worker", (), task);
    }
}

/// Drops the tasks that no worker will run, because the SDK does not run. What they own is freed on the calling thread.
pub(super) fn drop_lost() {
    // Before the question: if another thread starts the SDK after the answer, its tasks are of a later generation.
    let generation = GENERATION.load(Ordering::Acquire);
    if count() == 0 {
        let lost = TASKS.lock().take_until(generation);
        drop(lost);
    }
}

/// A repeating timer on a worker. It ends when it is dropped, or when its function returns false.
#[derive(Debug)]
pub struct Timer {
    worker: u32,
    id: u64,
    sdk: u64,
}

type Tick = Arc<Mutex<dyn FnMut() -> bool + Send>>;

/// The SDK holds a number instead of a pointer, so a late tick finds no entry.
static TICKS: LazyLock<Mutex<HashMap<u64, Tick>>> = LazyLock::new(Mutex::default);

impl Timer {
    /// Calls `tick` on the worker every `period` while it returns true. `None` if the worker does not exist.
    pub fn start(worker: u32, period: Duration, tick: impl FnMut() -> bool + Send + 'static) -> Option<Timer> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        TICKS.lock().insert(id, Arc::new(Mutex::new(tick)));
        let milliseconds = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        // SAFETY: the argument is a number that run_tick looks up; no code follows it as a pointer.
        let sdk = unsafe { raw::vpn_glue_timer_start(worker, milliseconds, run_tick, id as *mut c_void) };
        if sdk == 0 {
            TICKS.lock().remove(&id);
            return None;
        }
        Some(Timer { worker, id, sdk })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if TICKS.lock().remove(&self.id).is_some() {
            // SAFETY: numbers only; a timer that has ended by itself was removed from TICKS and is not stopped twice.
            unsafe { raw::vpn_glue_timer_stop(self.worker, self.sdk) };
        }
    }
}

unsafe extern "C" fn run_tick(argument: *mut c_void) -> bool {
    let id = argument as u64;
    let Some(tick) = TICKS.lock().get(&id).cloned() else { return false };
    let continues = guard("a timer", false, || tick.lock()());
    if !continues {
        TICKS.lock().remove(&id);
    }
    continues
}

/// A value that one worker owns. Only that worker's thread accesses it, without a lock.
pub struct Owned<T> {
    worker: u32,
    value: RefCell<T>,
}

// SAFETY: `with` accesses the value only on the owning worker's thread, so no two threads do at once: of all threads
// that have had the worker's number, only that of the running SDK is a worker to `current`. The value is made while this
// SDK runs, after `renew`, from which on every thread has asked again. T: Send allows another thread to drop it.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// Makes a value that the worker owns.
    pub fn new(worker: u32, value: T) -> Owned<T> {
        Owned { worker, value: RefCell::new(value) }
    }

    /// Calls `work` with the value. `None` on any other thread, and inside another `with` on the same value.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if current() != Some(self.worker) {
            return None;
        }
        self.value.try_borrow_mut().ok().map(|mut value| work(&mut value))
    }

    /// The owning worker.
    pub fn worker(&self) -> u32 {
        self.worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the question whether the SDK runs and the end of the lost tasks another thread starts the SDK.
    #[test]
    fn the_tasks_of_the_next_start_are_not_lost_with_those_before_it() {
        let mut tasks = Tasks::default();
        tasks.add(1, Box::new(|| {}));
        let asked = GENERATION.load(Ordering::Acquire);
        renew();
        tasks.add(2, Box::new(|| {}));
        assert_eq!(tasks.take_until(asked).len(), 1);
        assert!(tasks.take(1).is_none() && tasks.take(2).is_some());
    }
}
