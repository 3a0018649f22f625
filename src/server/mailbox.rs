//! Packets that cross from one worker to another: a bounded queue for each receiving worker, one wake-up per batch.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::sdk::worker;
use vpn_core::forward::Route;

/// The limits of a mailbox, in packets and in bytes.
const DEPTH: usize = 1024;
const DEPTH_BYTES: usize = 4 * 1024 * 1024;
/// The number of buffers that are kept for reuse.
const SPARE_BUFFERS: usize = 64;

/// A packet on its way to the worker that owns its session.
pub(super) struct QueuedPacket {
    pub(super) route: Route,
    /// The bytes that were read from the TUN queue.
    pub(super) read: Vec<u8>,
}

/// One worker's mailbox.
pub(super) struct Mailbox {
    worker: u32,
    packets: ArrayQueue<QueuedPacket>,
    /// The total size of the queued packets, in bytes.
    bytes: AtomicUsize,
    /// Emptied buffers for reuse.
    spare: ArrayQueue<Vec<u8>>,
    /// The worker has been woken and has not opened the mailbox yet.
    woken: AtomicBool,
}

impl Mailbox {
    pub(super) fn new(worker: u32) -> Mailbox {
        let (packets, spare) = (ArrayQueue::new(DEPTH), ArrayQueue::new(SPARE_BUFFERS));
        Mailbox { worker, packets, bytes: AtomicUsize::new(0), spare, woken: AtomicBool::new(false) }
    }

    /// Queues a copy of `read`; returns false if the mailbox is full.
    pub(super) fn post(&self, route: Route, read: &[u8]) -> bool {
        if self.bytes.fetch_add(read.len(), Ordering::Relaxed) + read.len() > DEPTH_BYTES {
            self.bytes.fetch_sub(read.len(), Ordering::Relaxed);
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(read);
        let posted = self.packets.push(QueuedPacket { route, read: buffer }).is_ok();
        if !posted {
            self.bytes.fetch_sub(read.len(), Ordering::Relaxed);
        }
        posted
    }

    /// Wakes the receiving worker, once for all queued packets; `open` then runs there.
    pub(super) fn wake(&self, open: impl FnOnce() + Send + 'static) {
        if !self.packets.is_empty() && !self.woken.swap(true, Ordering::AcqRel) && !worker::exec(self.worker, open) {
            self.woken.store(false, Ordering::Release);
        }
    }

    /// Lets the next packet wake the worker again. Call this before [`Mailbox::drain`].
    pub(super) fn open(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Passes the queued packets to `deliver`, in order, on the receiving worker.
    pub(super) fn drain(&self, mut deliver: impl FnMut(Route, &[u8])) {
        for _ in 0..DEPTH {
            let Some(packet) = self.packets.pop() else { return };
            self.bytes.fetch_sub(packet.read.len(), Ordering::Relaxed);
            deliver(packet.route, &packet.read);
            // If the pool is full, the buffer is freed; that limits the memory that a burst leaves allocated.
            drop(self.spare.push(packet.read));
        }
    }
}
