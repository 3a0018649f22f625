//! The part of a worker that every thread may use: its job queue, its wake-up, its load.

use super::Worker;
use crate::cview::events::CWorker;
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use host::descriptors::above_stdio;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Work to run on a worker's thread.
pub(crate) type Job = Box<dyn FnOnce(&Rc<Worker>) + Send>;

/// The part of a worker that every thread may use.
pub(crate) struct Shared {
    pub(crate) index: usize,
    pub(crate) view: CWorker,
    jobs: SegQueue<Job>,
    signalled: CachePadded<AtomicBool>,
    pub(super) wake: OwnedFd,
    streams: AtomicUsize,
}

/// Counts a stream for its worker while it lives.
pub(crate) struct Load(Arc<Shared>);

impl Shared {
    pub(crate) fn new(index: usize) -> io::Result<Arc<Self>> {
        let id = u32::try_from(index).map_err(io::Error::other)?;
        Ok(Arc::new(Shared {
            index,
            view: CWorker::new(id),
            jobs: SegQueue::new(),
            signalled: CachePadded::default(),
            wake: above_stdio(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?,
            streams: AtomicUsize::new(0),
        }))
    }

    /// Queues a job. After the worker's end the job is dropped without running, with all that it owns.
    pub(crate) fn post(&self, job: Job) {
        self.jobs.push(job);
        if !self.signalled.swap(true, Ordering::SeqCst) {
            // The one possible failure, a full counter, means that a wake-up is pending anyway.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Handles a wake-up: a job posted afterwards causes another.
    pub(super) fn acknowledge(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.signalled.store(false, Ordering::SeqCst);
    }

    /// The number of queued jobs.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Removes the oldest queued job.
    pub(super) fn take(&self) -> Option<Job> {
        self.jobs.pop()
    }

    /// The number of streams that this worker has or is about to receive.
    pub(crate) fn load(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

impl Load {
    pub(crate) fn new(worker: &Arc<Shared>) -> Self {
        worker.streams.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(worker))
    }

    /// The worker for which the stream is counted.
    pub(crate) fn worker(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
