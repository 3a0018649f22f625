//! A worker's loop: events, jobs, timers, then the output of the turn.

use super::source::{Ready, Source};
use super::{WAKE, Worker};
use crate::panics;
use host::patience::LATE;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Most events taken from the kernel in one turn of the loop.
const EVENTS_A_TURN: usize = 256;
/// Rounds of flush and "output drained" callbacks in one turn; the rest waits for the next turn.
const FLUSH_ROUNDS: usize = 8;
/// Most rounds in which events are taken from the kernel before timers run.
const POLLS_BEFORE_TIMERS: usize = 64;

impl Worker {
    pub(super) fn run(self: &Rc<Self>) {
        let mut events = Vec::with_capacity(EVENTS_A_TURN);
        while !self.exiting.get() {
            let Some(mut taken) = self.poll(&mut events, self.timeout()) else { continue };
            // Timers decide about peers that are silent. When one is due, perhaps since long before a pause of this
            // process, what the peers have sent is read first.
            let timers_until = Instant::now();
            for _ in 0..self.polls_before_timers(timers_until) {
                taken = self.poll(&mut events, Some(Duration::ZERO)).unwrap_or(taken);
                if taken < EVENTS_A_TURN {
                    break;
                }
            }
            self.run_jobs();
            while let Some(timer) = self.timers.due(timers_until) {
                self.guarded(None, || self.timers.fire(self, timer));
            }
            self.for_each(&self.resumed, |source| source.resume(self));
            self.end_turn();
        }
        // Jobs that callbacks of the previous jobs posted.
        self.run_jobs();
        self.clear();
    }

    /// Returns how often the descriptors are asked again before the timers that are due at `now` run: once, and after a
    /// pause until all has been read. Only then, because jobs and flushes wait meanwhile.
    fn polls_before_timers(&self, now: Instant) -> usize {
        let late = self.timers.next_due().and_then(|due| now.checked_duration_since(due));
        late.map_or(0, |late| if late < LATE { 1 } else { POLLS_BEFORE_TIMERS })
    }

    /// Waits for events, handles them, and returns their number. `None` if a signal ended the wait, as SIGCONT does after
    /// a pause: nothing is known then about the descriptors, and no timer may run before they have been asked.
    fn poll(self: &Rc<Self>, events: &mut Vec<Event>, timeout: Option<Duration>) -> Option<usize> {
        events.clear();
        let timeout =
            timeout.map(|wait| Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() });
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return None,
            Err(error) => {
                host::log_bounded!(Error, "epoll_wait: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.set_now(Instant::now());
        for event in &*events {
            let (uuid, flags) = (event.data.u64(), event.flags);
            self.guarded(Some(uuid), || self.dispatch(uuid, flags));
        }
        Some(events.len())
    }

    /// Sets the time of the turn, without the pauses of this process, which its timers show.
    fn set_now(&self, real: Instant) {
        if let Some(due) = self.timers.next_due() {
            let late = real.saturating_duration_since(due.max(self.pause_seen.get()));
            if late >= LATE {
                self.paused.set(self.paused.get() + late);
                self.pause_seen.set(real);
            }
        }
        self.now.set(real.checked_sub(self.paused.get()).unwrap_or(real));
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.dirty.borrow().is_empty() || !self.drained.borrow().is_empty() || !self.resumed.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next_due().map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn dispatch(self: &Rc<Self>, uuid: u64, flags: EventFlags) {
        if uuid == WAKE {
            return self.shared.acknowledge();
        }
        let ready = Ready {
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            error: flags.contains(EventFlags::ERR),
            hangup: flags.contains(EventFlags::HUP),
        };
        // None if an earlier event of the same batch removed the source.
        if let Some(source) = self.source(uuid) {
            source.on_ready(self, ready);
        }
    }

    fn run_jobs(self: &Rc<Self>) {
        // Bounded, so that jobs that post jobs cannot keep the loop from its sockets.
        for _ in 0..self.shared.waiting() {
            let Some(job) = self.shared.take() else { break };
            self.guarded(None, || job(self));
        }
    }

    /// Flushes the output of the turn; channels whose output has drained may write more.
    fn end_turn(self: &Rc<Self>) {
        for _ in 0..FLUSH_ROUNDS {
            self.for_each(&self.dirty, |source| source.end_turn(self));
            self.for_each(&self.drained, |source| source.on_drained(self));
            if self.dirty.borrow().is_empty() {
                break;
            }
        }
    }

    /// Works on each source of a list; sources that this work adds wait for the next call.
    fn for_each(self: &Rc<Self>, list: &RefCell<Vec<u64>>, work: impl Fn(&dyn Source)) {
        let mut batch = list.take();
        for uuid in batch.drain(..) {
            if let Some(source) = self.source(uuid) {
                self.guarded(Some(uuid), || work(&*source));
            }
        }
        // Keeps the list's memory, unless the list has already been filled again.
        let mut list = list.borrow_mut();
        if list.capacity() == 0 {
            *list = batch;
        }
    }

    /// Runs one piece of work behind a panic boundary, then the deferred work. A panic ends the source it happened for;
    /// the worker continues.
    fn guarded(self: &Rc<Self>, uuid: Option<u64>, work: impl FnOnce()) {
        // The worker's own state is in RefCells, whose guards unwinding releases, and each guard covers one map
        // operation.
        if let Err(panic) = panics::catch(work) {
            host::log_bounded!(Error, "internal error in worker {}: {panic}", self.shared.index);
            if let Some(source) = uuid.and_then(|uuid| self.source(uuid)) {
                source.on_panic(self);
            }
        }
        loop {
            let Some(uuid) = self.closing.borrow_mut().pop() else { break };
            let Some(source) = self.source(uuid) else { continue };
            if let Err(panic) = panics::catch(|| source.tear_down(self)) {
                host::log_bounded!(
                    Error,
                    "internal error while closing a source on worker {}: {panic}",
                    self.shared.index
                );
            }
        }
    }
}
