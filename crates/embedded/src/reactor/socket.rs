//! Event sockets other than streams: C's descriptors, and pointer queues.

use super::queue::{BATCH, PtrQueue};
use super::{Reactor, Ready, Shared, Source, Worker};
use crate::ctypes::dap_events_socket;
use crate::cview::events::{self, FLAG_READABLE, FLAG_WRITABLE};
use crate::cview::owned::CBox;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;

/// An event socket in a worker's loop. Used on the owning thread alone; moved whole.
pub(crate) struct Socket {
    pub(crate) uuid: u64,
    pub(crate) view: CBox<dap_events_socket>,
    queue: Option<Arc<PtrQueue>>,
    /// A callback of this socket is running.
    running: Cell<bool>,
    /// Set once the socket is to be deleted; the value is `preserve_inheritor`.
    removed: Cell<Option<bool>>,
}

/// Adds a socket to a worker's loop, from any thread.
pub(crate) fn assign(
    reactor: &Arc<Reactor>,
    worker: &Arc<Shared>,
    view: CBox<dap_events_socket>,
    queue: Option<Arc<PtrQueue>>,
) {
    let uuid = view.uuid;
    let socket = Socket { uuid, view, queue, running: Cell::new(false), removed: Cell::new(None) };
    socket.view.worker.set(worker.view.worker.as_ptr());
    reactor.set_owner(uuid, worker.index);
    reactor.add_socket(socket.view.addr(), uuid);
    worker.post(Box::new(move |worker| Rc::new(socket).install(worker, true)));
}

impl Source for Socket {
    /// The view holds the flags.
    fn set_flag(&self, worker: &Rc<Worker>, flag: u32, on: bool) {
        events::set_flag(&self.view, flag, on);
        if self.removed.get().is_none() {
            worker.watch(self.uuid, self.fd(), self.interest());
        }
    }

    fn on_ready(self: Rc<Self>, worker: &Rc<Worker>, ready: Ready) {
        if self.queue.is_some() {
            return self.receive(worker);
        }
        if ready.readable && self.wants(FLAG_READABLE) {
            self.run(worker, || events::read(&self.view));
        }
        if ready.writable && self.wants(FLAG_WRITABLE) {
            self.run(worker, || events::write(&self.view));
        }
        if (ready.error || ready.hangup) && self.removed.get().is_none() {
            // The bytes that the peer sent before it hung up have still to be read.
            let unread = ready.readable && self.wants(FLAG_READABLE) && self.bytes_to_read() > 0;
            if !unread {
                self.fail(worker, self.pending_error(ready));
            }
        }
    }

    fn tear_down(&self, worker: &Rc<Worker>) {
        self.remove(worker, false);
    }

    fn move_to(self: Rc<Self>, worker: &Rc<Worker>, target: &Arc<Shared>) {
        if self.queue.is_some() {
            return log::error!(
                "dap_events_socket_reassign_between_workers_mt: a pointer queue cannot move to another worker"
            );
        }
        self.leave_for(worker, target);
    }

    /// Leaves the loop, runs `delete_callback`, closes the descriptor unless `no_close`, and frees the struct. While a
    /// callback of the socket is running, the last three steps wait for its return.
    fn remove(&self, worker: &Rc<Worker>, preserve_inheritor: bool) {
        if self.removed.replace(Some(preserve_inheritor)).is_some() {
            return;
        }
        self.detach(worker);
        worker.reactor.clear_owner(self.uuid);
        worker.reactor.remove_socket(self.view.addr());
        if !self.running.get() {
            self.finish(preserve_inheritor, worker);
        }
    }
}

impl Socket {
    fn install(self: Rc<Self>, worker: &Rc<Worker>, is_new: bool) {
        worker.addresses.borrow_mut().insert(self.view.addr(), self.uuid);
        let added = worker.add_source(self.uuid, self.fd(), self.interest(), Rc::clone(&self) as Rc<dyn Source>);
        if let Err(error) = added {
            host::log_bounded!(Error, "cannot add a descriptor to the worker's epoll: {error}");
            return self.fail(worker, error.raw_os_error().unwrap_or(libc::EIO));
        }
        self.run(worker, || {
            if is_new {
                events::new(&self.view);
            }
            events::worker_assign(&self.view, &worker.shared.view.worker);
        });
    }

    fn leave_for(self: Rc<Self>, worker: &Rc<Worker>, target: &Arc<Shared>) {
        self.run(worker, || events::worker_unassign(&self.view, &worker.shared.view.worker));
        if self.removed.get().is_some() {
            return;
        }
        let uuid = self.uuid;
        self.detach(worker);
        let Ok(socket) = Rc::try_unwrap(self) else {
            // Only a caller that keeps a reference across turns of the loop could cause this.
            return log::error!("internal error: cannot move an event socket that is in use; it is lost");
        };
        socket.view.was_reassigned.set(true);
        socket.view.worker.set(target.view.worker.as_ptr());
        // Posts the new owner's job first: a thread that reads the new owner from the table posts behind it.
        target.post(Box::new(move |worker| Rc::new(socket).install(worker, false)));
        worker.reactor.set_owner(uuid, target.index);
    }

    fn detach(&self, worker: &Worker) {
        worker.remove_source(self.uuid, self.fd());
        worker.addresses.borrow_mut().remove(&self.view.addr());
    }

    fn fail(&self, worker: &Rc<Worker>, error: i32) {
        self.run(worker, || events::error(&self.view, error));
        self.remove(worker, false);
    }

    /// Runs a callback, then carries out a removal that the callback requested.
    fn run(&self, worker: &Rc<Worker>, callback: impl FnOnce()) {
        let outer = self.running.replace(true);
        callback();
        self.running.set(outer);
        if let (false, Some(preserve_inheritor)) = (outer, self.removed.get()) {
            self.finish(preserve_inheritor, worker);
        }
    }

    fn finish(&self, preserve_inheritor: bool, worker: &Worker) {
        if let Some(queue) = &self.queue {
            queue.close();
            worker.reactor.queues.write().remove(&self.view.addr());
            while let Some(item) = queue.take() {
                events::queue_item(&self.view, item);
            }
        }
        events::delete(&self.view, preserve_inheritor);
        events::close_descriptor(&self.view);
    }

    fn receive(&self, worker: &Rc<Worker>) {
        let Some(queue) = &self.queue else { return };
        queue.acknowledge();
        for _ in 0..BATCH {
            if self.removed.get().is_some() {
                return;
            }
            let Some(item) = queue.take() else { return };
            self.run(worker, || events::queue_item(&self.view, item));
        }
        queue.signal_if_not_empty();
    }

    fn wants(&self, flag: u32) -> bool {
        self.removed.get().is_none() && self.view.flags.get() & flag != 0
    }

    fn interest(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.queue.is_some() || self.view.flags.get() & FLAG_READABLE != 0);
        flags.set(EventFlags::OUT, self.view.flags.get() & FLAG_WRITABLE != 0);
        flags
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.queue {
            Some(queue) => queue.wake.as_fd(),
            None => events::descriptor(&self.view),
        }
    }

    fn bytes_to_read(&self) -> u64 {
        rustix::io::ioctl_fionread(self.fd()).unwrap_or(0)
    }

    fn pending_error(&self, ready: Ready) -> i32 {
        match rustix::net::sockopt::socket_error(self.fd()) {
            Ok(Err(error)) => error.raw_os_error(),
            _ if ready.error => Errno::IO.raw_os_error(),
            _ => Errno::CONNRESET.raw_os_error(),
        }
    }
}
