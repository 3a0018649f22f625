//! A bounded queue of pointers into a worker, with one wake-up per batch.

use crate::cview::owned::Opaque;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use host::descriptors::above_stdio;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most pointers in one queue.
pub(crate) const CAPACITY: usize = 65536;
/// Most pointers passed to the callback in one turn of the loop.
pub(crate) const BATCH: usize = 4096;

/// The part of a pointer queue that senders share. Any thread may send; the owning worker receives.
pub(crate) struct PtrQueue {
    items: ArrayQueue<Opaque>,
    signalled: CachePadded<AtomicBool>,
    closed: AtomicBool,
    pub(crate) wake: OwnedFd,
}

/// Why a pointer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    Full,
    Closed,
}

impl PtrQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(PtrQueue {
            items: ArrayQueue::new(CAPACITY),
            signalled: CachePadded::default(),
            closed: AtomicBool::new(false),
            wake: above_stdio(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?,
        })
    }

    pub(crate) fn send(&self, item: Opaque) -> Result<(), SendError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        self.items.push(item).map_err(|_| SendError::Full)?;
        if !self.signalled.swap(true, Ordering::SeqCst) {
            self.signal();
        }
        Ok(())
    }

    /// Must be called before the pointers of a wake-up are taken: a pointer sent afterwards causes another wake-up.
    pub(crate) fn acknowledge(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.signalled.store(false, Ordering::SeqCst);
    }

    pub(crate) fn take(&self) -> Option<Opaque> {
        self.items.pop()
    }

    /// Requests another turn if a batch did not empty the queue.
    pub(crate) fn signal_if_not_empty(&self) {
        if !self.items.is_empty() && !self.signalled.swap(true, Ordering::SeqCst) {
            self.signal();
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn signal(&self) {
        // The one possible failure, a full counter, means that a wake-up is pending anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;
    use std::sync::Arc;

    fn number(value: usize) -> Opaque {
        Opaque(ptr::without_provenance_mut(value))
    }

    #[test]
    fn a_full_queue_refuses_and_a_batch_wakes_once() {
        let queue = PtrQueue::new().unwrap();
        for value in 0..CAPACITY {
            assert_eq!(queue.send(number(value)), Ok(()));
        }
        assert_eq!(queue.send(number(1)), Err(SendError::Full));
        let mut counter = [0; 8];
        rustix::io::read(&queue.wake, &mut counter).unwrap();
        assert_eq!(u64::from_ne_bytes(counter), 1);
        assert_eq!(queue.take().map(|item| item.0.addr()), Some(0));
        queue.close();
        assert_eq!(queue.send(number(1)), Err(SendError::Closed));
    }

    #[test]
    fn no_pointer_is_left_without_a_wake_up() {
        let queue = Arc::new(PtrQueue::new().unwrap());
        let sender = Arc::clone(&queue);
        const COUNT: usize = 200_000;
        let thread = std::thread::spawn(move || {
            for value in 1..=COUNT {
                while sender.send(number(value)).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 1;
        while expected <= COUNT {
            let mut fds = [rustix::event::PollFd::new(&queue.wake, rustix::event::PollFlags::IN)];
            let timeout = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "stuck at {expected}");
            queue.acknowledge();
            while let Some(item) = queue.take() {
                assert_eq!(item.0.addr(), expected);
                expected += 1;
            }
        }
        thread.join().unwrap();
    }
}
