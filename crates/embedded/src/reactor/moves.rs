//! Jobs that find a source wherever it is: sources move from worker to worker while jobs for them are on their way.

use super::{Shared, Worker};
use std::rc::Rc;
use std::sync::Arc;

/// Deletes the event socket or closes the stream, wherever it is by now.
pub(crate) fn remove_anywhere(worker: &Rc<Worker>, uuid: u64) {
    remove_here(worker, uuid, Chase::Begun);
}

fn remove_here(worker: &Rc<Worker>, uuid: u64, chase: Chase) {
    match worker.source(uuid) {
        Some(source) => source.remove(worker, false),
        None => chase.go_on(worker, uuid, move |worker, chase| remove_here(worker, uuid, chase)),
    }
}

/// Moves an event socket or a stream to another worker, from wherever it is by now. Of several such jobs the latest
/// begun counts, in whatever order they come to where it is.
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
            chase.go_on(worker, uuid, move |worker, chase| reassign_here(worker, uuid, number, &target, chase));
        }
    }
}

/// A job that runs after a socket which was moved while the job was on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chase {
    Begun,
    /// It has waited a turn at the worker where the socket should be.
    Waited,
}

impl Chase {
    /// Posts the job to the worker that has the socket now; it comes behind what brings the socket there.
    fn go_on(self, worker: &Rc<Worker>, uuid: u64, job: impl FnOnce(&Rc<Worker>, Chase) + Send + 'static) {
        let Some(owner) = worker.reactor.place(uuid) else { return };
        if owner.index != worker.shared.index {
            owner.post(Box::new(move |worker| job(worker, Chase::Begun)));
        } else if self == Chase::Begun {
            // It left, and is on its way back: its arrival is in this worker's queue, behind this job.
            owner.post(Box::new(move |worker| job(worker, Chase::Waited)));
        }
    }
}
