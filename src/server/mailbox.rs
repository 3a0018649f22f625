//! Packets that cross from one worker to another: a bounded queue for each receiving worker, one wake-up a batch.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::sdk::worker;
use vpn_core::forward::Route;

/// How many packets wait for a worker at most, and how many bytes of them.
const DEPTH: usize = 1024;
const DEPTH_BYTES: usize = 4 * 1024 * 1024;
/// Buffers that are kept for the next packets.
const SPARE: usize = 64;

/// A packet on its way to the worker that owns its session.
pub(super) struct Parcel {
    pub(super) route: Route,
    /// What was read from the TUN queue.
    pub(super) read: Vec<u8>,
}

/// One worker's mailbox.
pub(super) struct Mailbox {
    worker: u32,
    parcels: ArrayQueue<Parcel>,
    /// Bytes in them.
    bytes: AtomicUsize,
    /// Buffers that come back to be filled again.
    spare: ArrayQueue<Vec<u8>>,
    /// The worker has been woken and has not looked yet.
    woken: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(worker: u32) -> Mailbox {
        let (parcels, spare) = (ArrayQueue::new(DEPTH), ArrayQueue::new(SPARE));
        Mailbox { worker, parcels, bytes: AtomicUsize::new(0), spare, woken: AtomicBool::new(false) }
    }

    /// Puts a packet in; false when the box is full. `read` is copied.
    pub(super) fn post(&self, route: Route, read: &[u8]) -> bool {
        if self.bytes.fetch_add(read.len(), Ordering::Relaxed) + read.len() > DEPTH_BYTES {
            self.bytes.fetch_sub(read.len(), Ordering::Relaxed);
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(read);
        let posted = self.parcels.push(Parcel { route, read: buffer }).is_ok();
        if !posted {
            self.bytes.fetch_sub(read.len(), Ordering::Relaxed);
        }
        posted
    }

    /// Wakes the receiving worker, once for all that was posted; `open` then runs there.
    pub(super) fn wake(&self, open: impl FnOnce() + Send + 'static) {
        if !self.parcels.is_empty() && !self.woken.swap(true, Ordering::AcqRel) && !worker::exec(self.worker, open) {
            self.woken.store(false, Ordering::Release);
        }
    }

    /// What is posted from now on wakes again. Before [`Mailbox::drain`].
    pub(super) fn open(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Hands out what is there, in the order of posting, on the receiving worker.
    pub(super) fn drain(&self, mut deliver: impl FnMut(Route, &[u8])) {
        for _ in 0..DEPTH {
            let Some(parcel) = self.parcels.pop() else { return };
            self.bytes.fetch_sub(parcel.read.len(), Ordering::Relaxed);
            deliver(parcel.route, &parcel.read);
            // A full pool drops the buffer, which bounds what a burst leaves behind.
            drop(self.spare.push(parcel.read));
        }
    }
}
