//! Whether the library's threads still run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sdk::worker::{self, Timer};
use crate::server;

/// How often each worker beats: more often than the service's tick.
const PERIOD: Duration = Duration::from_millis(500);

/// Counts signs of life of each part that must run while the SDK does: the loop of each worker, and the service's tick on
/// each. A program that compares the counts, such as for a watchdog, notices a part that hangs. It beats until it is
/// dropped.
#[derive(Debug)]
pub struct Pulse {
    loops: Arc<[AtomicU64]>,
    _timers: Vec<Timer>,
}

impl Pulse {
    /// Begins to count, with the workers that the SDK has now.
    pub fn start() -> Pulse {
        let loops: Arc<[AtomicU64]> = (0..worker::count()).map(|_| AtomicU64::new(0)).collect();
        let beat = |worker: u32| {
            let loops = Arc::clone(&loops);
            Timer::start(worker, PERIOD, move || {
                loops.get(worker as usize).map(|beats| beats.fetch_add(1, Ordering::Relaxed)).is_some()
            })
        };
        let timers = (0..worker::count()).filter_map(beat).collect();
        Pulse { loops, _timers: timers }
    }

    /// Returns the count of each part. All of them grow within little more than a second.
    pub fn beats(&self) -> Vec<u64> {
        let loops = self.loops.iter().map(|beats| beats.load(Ordering::Relaxed));
        loops.chain(server::ticks()).collect()
    }
}
