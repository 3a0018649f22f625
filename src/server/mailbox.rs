//! Packets that cross from one worker to another: a bounded queue for each receiving worker, one wake-up a batch.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::forward::Route;
use crate::sdk::worker;

/// How many packets wait for a worker at most; with packets of 64 KiB that is 64 MiB, and far less in practice.
const DEPTH: usize = 1024;

/// A packet on its way to the worker that owns its session.
pub(super) struct Parcel {
    pub(super) route: Route,
    /// Room for the VPN header, then the packet.
    pub(super) buffer: Vec<u8>,
}

/// One worker's mailbox.
pub(super) struct Mailbox {
    worker: u32,
    parcels: ArrayQueue<Parcel>,
    /// Buffers that come back to be filled again.
    spare: ArrayQueue<Vec<u8>>,
    /// The worker has been woken and has not looked yet.
    woken: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(worker: u32) -> Mailbox {
        Mailbox { worker, parcels: ArrayQueue::new(DEPTH), spare: ArrayQueue::new(64), woken: AtomicBool::new(false) }
    }

    /// Puts a packet in; false when the box is full. `filled` is copied.
    pub(super) fn post(&self, route: Route, filled: &[u8]) -> bool {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(filled);
        self.parcels.push(Parcel { route, buffer }).is_ok()
    }

    /// Wakes the receiving worker, once for all that was posted; `open` then runs there.
    pub(super) fn wake(&self, open: impl FnOnce() + Send + 'static) {
        if !self.parcels.is_empty() && !self.woken.swap(true, Ordering::AcqRel) && !worker::exec(self.worker, open) {
            self.woken.store(false, Ordering::Release);
        }
    }

    /// Hands out what is there, in the order of posting, on the receiving worker.
    pub(super) fn drain(&self, mut deliver: impl FnMut(Route, &mut [u8])) {
        // Cleared first: what is posted from now on wakes again.
        self.woken.store(false, Ordering::Release);
        for _ in 0..DEPTH {
            let Some(mut parcel) = self.parcels.pop() else { return };
            deliver(parcel.route, &mut parcel.buffer);
            // A full pool drops the buffer, which bounds what a burst leaves behind.
            drop(self.spare.push(parcel.buffer));
        }
    }
}
