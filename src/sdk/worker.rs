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

/// Returns the worker of the calling thread; `None` if that is not a worker.
pub fn current() -> Option<u32> {
    thread_local!(static CURRENT: Cell<u32> = const { Cell::new(raw::NO_WORKER) });
    CURRENT.with(|cached| {
        if cached.get() == raw::NO_WORKER {
            // SAFETY: no arguments.
            cached.set(unsafe { raw::vpn_glue_worker_current() });
        }
        (cached.get() != raw::NO_WORKER).then(|| cached.get())
    })
}

/// Takes a lock that serialises blocking operations. A worker does not wait for it, because its holder may wait for the
/// worker: `None` on a worker if another thread holds the lock.
pub fn serialise(lock: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    if current().is_some() { lock.try_lock() } else { Some(lock.lock()) }
}

/// Runs `work` on a worker, later, in the order of the calls. False if the worker does not exist: `work` is then
/// dropped.
pub fn exec(worker: u32, work: impl FnOnce() + Send + 'static) -> bool {
    let work: Box<Box<dyn FnOnce() + Send>> = Box::new(Box::new(work));
    let argument = Box::into_raw(work).cast::<c_void>();
    // SAFETY: the SDK calls run_once once, which frees exactly this box.
    let accepted = unsafe { raw::vpn_glue_worker_exec(worker, run_once, argument) };
    if !accepted {
        // SAFETY: the SDK refused the argument, so the box is still ours.
        drop(unsafe { Box::from_raw(argument.cast::<Box<dyn FnOnce() + Send>>()) });
    }
    accepted
}

unsafe extern "C" fn run_once(argument: *mut c_void) {
    // SAFETY: exec made this pointer from a box of this type, and the SDK passes it once.
    let work = unsafe { Box::from_raw(argument.cast::<Box<dyn FnOnce() + Send>>()) };
    guard("a task on a worker", (), work);
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

// SAFETY: `with` accesses the value only on the owning worker's thread, so no two threads do at once; T: Send allows
// another thread to drop it.
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
