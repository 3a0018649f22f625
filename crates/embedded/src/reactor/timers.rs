//! A worker's timers: C's repeating ones and the loop's own.

use super::{Reactor, Shared, Worker, next_uuid};
use crate::ctypes::dap_timerfd;
use crate::cview::events;
use crate::cview::owned::CBox;
use host::patience::Patience;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The timers of one worker, by due time. Used on the owning thread alone.
#[derive(Default)]
pub(crate) struct Timers {
    queue: RefCell<BTreeSet<(Instant, u64)>>,
    timers: RefCell<FxHashMap<u64, Timer>>,
}

struct Timer {
    due: Instant,
    action: Action,
}

type Once = dyn Fn(&Rc<Worker>);
type Repeated = dyn Fn(&Rc<Worker>) -> bool;

#[derive(Clone)]
pub(crate) enum Action {
    /// Repeats while the callback returns true.
    C(Rc<CBox<dap_timerfd>>),
    /// Repeats while the function returns true; C can end it.
    Ours(Rc<CBox<dap_timerfd>>, Rc<Repeated>),
    /// Fires once.
    Once(Rc<Once>),
    /// Fires once, when the patience is used up.
    Patience(Rc<Cell<Patience>>, Rc<Once>),
}

/// The length of the next step of a wait; zero when it is over.
fn step(wait: &Cell<Patience>) -> Duration {
    let mut patience = wait.get();
    let step = patience.step().unwrap_or_default();
    wait.set(patience);
    step
}

/// Starts a timer of C's on `worker`, from any thread; the address is valid until the timer ends.
pub(crate) fn start(reactor: &Arc<Reactor>, worker: &Arc<Shared>, view: CBox<dap_timerfd>) -> *mut dap_timerfd {
    let pointer = view.as_ptr();
    let period = Duration::from_millis(view.timeout_ms);
    let begin = Instant::now();
    let uuid = view.esocket_uuid;
    reactor.set_owner(uuid, worker.index);
    worker.post(Box::new(move |worker| {
        worker.addresses.borrow_mut().insert(view.addr(), uuid);
        worker.timers.insert(uuid, begin + period, Action::C(Rc::new(view)));
    }));
    pointer
}

/// How often C has deleted a timer by an address that is no timer's.
static STALE: AtomicU64 = AtomicU64::new(0);

/// Notes that C has deleted a timer by an address that is no timer's.
pub(crate) fn note_stale() {
    STALE.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn stale_deletes() -> u64 {
    STALE.load(Ordering::Relaxed)
}

/// Starts a timer of the loop's own that C can end by its address. The struct lives as long as the result.
pub(crate) fn start_here(
    worker: &Rc<Worker>,
    period: Duration,
    action: impl Fn(&Rc<Worker>) -> bool + 'static,
) -> Rc<CBox<dap_timerfd>> {
    let uuid = next_uuid();
    let view = Rc::new(CBox::new(dap_timerfd {
        timeout_ms: period.as_millis().try_into().unwrap_or(u64::MAX),
        worker: worker.shared.view.worker.as_ptr(),
        esocket_uuid: uuid,
        callback: None,
        callback_arg: std::ptr::null_mut(),
    }));
    worker.reactor.set_owner(uuid, worker.shared.index);
    worker.addresses.borrow_mut().insert(view.addr(), uuid);
    worker.timers.insert(uuid, Instant::now() + period, Action::Ours(Rc::clone(&view), Rc::new(action)));
    view
}

/// Ends the timer; its callback does not run again once this has run on the timer's worker.
pub(crate) fn delete(worker: &Worker, uuid: u64) {
    worker.reactor.clear_owner(uuid);
    if let Some(Action::C(view) | Action::Ours(view, _)) = worker.timers.remove(uuid) {
        worker.addresses.borrow_mut().remove(&view.addr());
    }
}

impl Timers {
    /// Calls `action` once, after `wait`. Returns the number for [`Timers::remove`].
    pub(crate) fn once(&self, wait: Duration, action: impl Fn(&Rc<Worker>) + 'static) -> u64 {
        let uuid = next_uuid();
        self.insert(uuid, Instant::now() + wait, Action::Once(Rc::new(action)));
        uuid
    }

    /// Like [`Timers::once`], for a peer that has this long to do something. A pause of this process, in which the peer
    /// may have done it or may have waited for us, does not count.
    pub(crate) fn patience(&self, wait: &Rc<Cell<Patience>>, action: impl Fn(&Rc<Worker>) + 'static) -> u64 {
        let uuid = next_uuid();
        self.insert(uuid, Instant::now() + step(wait), Action::Patience(Rc::clone(wait), Rc::new(action)));
        uuid
    }

    pub(crate) fn remove(&self, uuid: u64) -> Option<Action> {
        let timer = self.timers.borrow_mut().remove(&uuid)?;
        self.queue.borrow_mut().remove(&(timer.due, uuid));
        Some(timer.action)
    }

    pub(crate) fn contains(&self, uuid: u64) -> bool {
        self.timers.borrow().contains_key(&uuid)
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.queue.borrow().first().map(|(due, _)| *due)
    }

    /// The next timer that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let queue = self.queue.borrow();
        let (due, uuid) = queue.first()?;
        (*due <= now).then_some(*uuid)
    }

    /// Runs a timer's action, with nothing borrowed.
    pub(crate) fn fire(&self, worker: &Rc<Worker>, uuid: u64) {
        let Some(action) = self.timers.borrow().get(&uuid).map(|timer| timer.action.clone()) else { return };
        match action {
            Action::Patience(wait, action) => match step(&wait) {
                Duration::ZERO => {
                    self.remove(uuid);
                    action(worker);
                }
                step => self.reschedule(uuid, step),
            },
            Action::Once(action) => {
                self.remove(uuid);
                action(worker);
            }
            Action::Ours(view, action) => {
                self.reschedule(uuid, Duration::from_millis(view.timeout_ms));
                if !action(worker) {
                    delete(worker, uuid);
                }
            }
            Action::C(view) => {
                // Rescheduled before the callback, so that a panic in the callback cannot make the timer fire for ever.
                self.reschedule(uuid, Duration::from_millis(view.timeout_ms));
                if !events::timer(&view) {
                    delete(worker, uuid);
                }
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.queue.borrow_mut().clear();
        self.timers.borrow_mut().clear();
    }

    fn insert(&self, uuid: u64, due: Instant, action: Action) {
        self.timers.borrow_mut().insert(uuid, Timer { due, action });
        self.queue.borrow_mut().insert((due, uuid));
    }

    /// Sets the next time one period after the last due time, so that a slow turn does not shift all later ones; skips
    /// times that have passed completely. A period of 0 counts as 1 ms.
    fn reschedule(&self, uuid: u64, period: Duration) {
        let period = period.max(Duration::from_millis(1));
        let mut timers = self.timers.borrow_mut();
        let Some(timer) = timers.get_mut(&uuid) else { return };
        let mut queue = self.queue.borrow_mut();
        queue.remove(&(timer.due, uuid));
        let now = Instant::now();
        timer.due = if timer.due + period > now { timer.due + period } else { now + period };
        queue.insert((timer.due, uuid));
    }
}
