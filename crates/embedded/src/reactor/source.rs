//! The interface of the objects that a worker drives: a descriptor in its loop, and the work for it.

use super::{Shared, Worker};
use std::rc::Rc;
use std::sync::Arc;

/// The readiness that the kernel reports for a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) error: bool,
    pub(crate) hangup: bool,
}

/// A source of events. The owning worker calls every method on its own thread, with nothing borrowed.
pub(crate) trait Source {
    /// The descriptor is ready.
    fn on_ready(self: Rc<Self>, worker: &Rc<Worker>, ready: Ready);

    /// Ends the source at once: it leaves the loop, and its closing callbacks run. No callback of it is running.
    fn tear_down(&self, worker: &Rc<Worker>);

    /// True if the source's owner may use the worker's other sources while it ends: it must end before them.
    fn ends_first(&self) -> bool {
        false
    }

    /// A panic ended work for this source.
    fn on_panic(&self, _worker: &Rc<Worker>) {}

    // --- requested by `flush_soon`, `drained_now` and `resume_soon` ---

    /// The turn of the loop ends: passes output to the kernel.
    fn end_turn(&self, _worker: &Rc<Worker>) {}

    /// The kernel has taken all output.
    fn on_drained(&self, _worker: &Rc<Worker>) {}

    /// Input that had to wait may be handled.
    fn resume(&self, _worker: &Rc<Worker>) {}

    // --- C's requests to an event socket; a source that is not an event socket ignores them ---

    /// C deletes the event socket. Inside one of its callbacks, the deletion follows when the callback has returned.
    fn remove(&self, _worker: &Rc<Worker>, _preserve_inheritor: bool) {}

    /// C changes the events that the loop waits for.
    fn set_flag(&self, _worker: &Rc<Worker>, _flag: u32, _on: bool) {}

    /// C moves the event socket to another worker.
    fn move_to(self: Rc<Self>, _worker: &Rc<Worker>, _target: &Arc<Shared>) {}
}
