//! Jobs that follow a source to its current worker: a source may move while a job for it is queued.

use super::{Shared, Worker};
use std::rc::Rc;
use std::sync::Arc;

/// Deletes the event socket, or closes the stream, on its current worker.
pub(crate) fn remove_anywhere(worker: &Rc<Worker>, uuid: u64) {
    remove_here(worker, uuid, Chase::Begun);
}

fn remove_here(worker: &Rc<Worker>, uuid: u64, chase: Chase) {
    match worker.source(uuid) {
        Some(source) => source.remove(worker, false),
        None => chase.follow(worker, uuid, move |worker, chase| remove_here(worker, uuid, chase)),
    }
}

/// Moves an event socket or a stream from its current worker to another. Of several such jobs the one begun last wins,
/// in whatever order they reach the source.
pub(crate) fn reassign(worker: &Rc<Worker>, uuid: u64, number: u64, target: &Arc<Shared>) {
    reassign_here(worker, uuid, number, target, Chase::Begun);
}

fn reassign_here(worker: &Rc<Worker>, uuid: u64, number: u64, target: &Arc<Shared>, chase: Chase) {
    if !worker.reactor.is_latest_move(uuid, number) {
        return;
    }
    match worker.source(uuid) {
        Some(_) if target.index == worker.shared.index => {}
        Some(source) => source.move_to(worker, target),
        None => {
            let target = Arc::clone(target);
            chase.follow(worker, uuid, move |worker, chase| reassign_here(worker, uuid, number, &target, chase));
        }
    }
}

/// A job that follows a source which moved while the job was queued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chase {
    Begun,
    /// The job has waited one turn on the worker that should have the source.
    Waited,
}

impl Chase {
    /// Posts the job to the source's current worker, behind the job that brings the source there.
    fn follow(self, worker: &Rc<Worker>, uuid: u64, job: impl FnOnce(&Rc<Worker>, Chase) + Send + 'static) {
        let Some(owner) = worker.reactor.owner(uuid) else { return };
        if owner.index != worker.shared.index {
            owner.post(Box::new(move |worker| job(worker, Chase::Begun)));
        } else if self == Chase::Begun {
            // The source left and is coming back: its arrival is in this worker's queue, behind this job.
            owner.post(Box::new(move |worker| job(worker, Chase::Waited)));
        }
    }
}
