//! How long a worker takes to come to what it is given: the lag of its loop.
//!
//! Once a second the monitor gives each worker a task. What the task waited is what every packet and timer of this worker
//! waited at that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sdk::worker;

/// The probes of a service's workers.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Worker by worker. Only the monitor's thread takes the lock.
    workers: Mutex<Vec<Arc<Probe>>>,
}

#[derive(Debug)]
struct Probe {
    epoch: Instant,
    /// When the task was given that has not run yet, nanoseconds after `epoch`; 0 for none.
    given: AtomicU64,
    /// What the last one waited, nanoseconds.
    waited: AtomicU64,
}

impl Probe {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64 + 1
    }

    /// The task has run.
    fn end(&self) {
        let given = self.given.swap(0, Ordering::Relaxed);
        self.waited.store(self.now().saturating_sub(given), Ordering::Relaxed);
    }

    /// Returns the lag: of a task that still waits what it has waited, if that is more.
    fn lag(&self) -> Duration {
        let waits = match self.given.load(Ordering::Relaxed) {
            0 => 0,
            given => self.now().saturating_sub(given),
        };
        Duration::from_nanos(waits.max(self.waited.load(Ordering::Relaxed)))
    }
}

impl Probes {
    /// Gives a task to each of the first `count` workers whose last one has run.
    pub(super) fn send(&self, count: usize) {
        let mut workers = self.workers.lock();
        workers.resize_with(count, || {
            Arc::new(Probe { epoch: Instant::now(), given: AtomicU64::new(0), waited: AtomicU64::new(0) })
        });
        for (probe, number) in workers.iter().zip(0..) {
            let now = probe.now();
            if probe.given.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                continue;
            }
            let task = Arc::clone(probe);
            if !worker::exec(number, move || task.end()) {
                probe.given.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Returns the lag of each worker.
    pub(super) fn lags(&self) -> Vec<Duration> {
        self.workers.lock().iter().map(|probe| probe.lag()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_does_not_run_shows_how_long_it_waits() {
        let given = AtomicU64::new(1);
        let probe = Probe { epoch: Instant::now() - Duration::from_secs(3), given, waited: AtomicU64::new(1_000_000) };
        assert!(probe.lag() >= Duration::from_secs(3));
        probe.end();
        assert!(probe.lag() >= Duration::from_secs(3), "it has waited so long");
        probe.waited.store(1_000_000, Ordering::Relaxed);
        assert_eq!(probe.lag(), Duration::from_millis(1));
    }
}
