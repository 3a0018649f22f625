//! What a session has carried, as the data path counts it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a session's inner packets, and the sum at which its meter has to look. One thread counts, any may read.
///
/// ```
/// use vpn_core::meter::Carried;
///
/// let carried = Carried::default();
/// carried.set_due(1000);
/// assert!(!carried.count(600, 0));
/// assert!(carried.count(0, 400));
/// assert_eq!((carried.both_ways(), carried.total()), ((600, 400), 1000));
/// ```
#[derive(Debug)]
pub struct Carried {
    up: AtomicU64,
    down: AtomicU64,
    due: AtomicU64,
}

impl Default for Carried {
    fn default() -> Self {
        Carried { up: AtomicU64::new(0), down: AtomicU64::new(0), due: AtomicU64::new(u64::MAX) }
    }
}

impl Carried {
    /// Counts bytes that were forwarded from the client and to it. Returns true if the meter has to look.
    pub fn count(&self, up: u64, down: u64) -> bool {
        // One thread writes: a load and a store are cheaper than an atomic addition.
        let (up_before, down_before) = self.both_ways();
        let (up, down) = (up_before.wrapping_add(up), down_before.wrapping_add(down));
        self.up.store(up, Ordering::Relaxed);
        self.down.store(down, Ordering::Relaxed);
        up.wrapping_add(down) >= self.due.load(Ordering::Relaxed)
    }

    /// Sets at which sum of bytes the meter has to look: [`Allowance::bytes_due`](super::Allowance::bytes_due).
    pub fn set_due(&self, bytes: u64) {
        self.due.store(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes from the client, and to it.
    pub fn both_ways(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// Returns the sum: [`Use::bytes`](super::Use::bytes).
    pub fn total(&self) -> u64 {
        let (up, down) = self.both_ways();
        up.wrapping_add(down)
    }
}
