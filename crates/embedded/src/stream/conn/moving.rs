//! Moves a stream between workers, with the addresses that C holds.

use super::{Conn, idle};
use crate::cview::events;
use crate::cview::stream::StreamView;
use crate::reactor::{Load, Shared, Source, Worker};
use std::rc::Rc;
use std::sync::Arc;

impl Conn {
    /// Moves the stream to another worker, with its received and unsent data.
    pub(super) fn leave_for(self: Rc<Self>, worker: &Rc<Worker>, target: &Arc<Shared>) {
        let Some(view) = self.view.get() else {
            return log::debug!("a stream that is not open yet stays on its worker");
        };
        if self.closing.get() {
            return;
        }
        events::worker_unassign(&view.es, &worker.shared.view.worker);
        if self.closing.get() {
            return;
        }
        let uuid = self.uuid;
        self.detach(worker);
        self.unregister_addresses(worker, view);
        self.received.borrow_mut().detach_from_worker(&worker.buffers);
        let Ok(conn) = Rc::try_unwrap(self) else {
            // Only a caller that keeps a reference across turns of the loop could cause this.
            return log::error!("internal error: cannot move a stream that is in use; it is lost");
        };
        conn.load.replace(Load::new(target));
        if let Some(view) = conn.view.get() {
            view.move_to(&target.view);
        }
        conn.mailbox.set_owner(target);
        // Posts the new owner's job first: a thread that reads the new owner from the table posts behind it.
        target.post(Box::new(move |worker| Rc::new(conn).arrive(worker)));
        worker.reactor.set_owner(uuid, target.index);
    }

    fn arrive(self: Rc<Self>, worker: &Rc<Worker>) {
        let Some(view) = self.view.get() else { return };
        self.register_addresses(worker, view);
        self.room.arrive();
        if let Err(error) = self.attach(worker, self.interest()) {
            host::log_bounded!(Warn, "cannot add a moved stream to the worker's epoll: {error}");
            return self.tear_down(worker);
        }
        events::worker_assign(&view.es, &worker.shared.view.worker);
        self.send_queued(worker);
        if let Some(permit) = &self.permit {
            idle::watch(worker, permit.life());
        }
        // The old worker's lists may have contained this stream: adds it to the same lists here.
        self.dirty.set(false);
        self.had_output.set(true);
        self.flush_later(worker);
        self.watch_room(worker);
        worker.resume_soon(self.uuid);
    }

    /// Registers the addresses that C holds with this worker.
    pub(super) fn register_addresses(self: &Conn, worker: &Rc<Worker>, view: &StreamView) {
        let mut addresses = worker.addresses.borrow_mut();
        addresses.insert(view.es.addr(), self.uuid);
        addresses.insert(view.stream.addr(), self.uuid);
        for channel in &view.channels {
            addresses.insert(channel.view.addr(), self.uuid);
        }
    }

    pub(super) fn unregister_addresses(&self, worker: &Worker, view: &StreamView) {
        let mut addresses = worker.addresses.borrow_mut();
        addresses.remove(&view.es.addr());
        addresses.remove(&view.stream.addr());
        for channel in &view.channels {
            addresses.remove(&channel.view.addr());
        }
    }
}
