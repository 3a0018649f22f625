//! Tells the channels when there is room for their output: nothing waits here, and the kernel takes more.

use super::{Conn, registry};
use crate::cview::stream as cstream;
use crate::reactor::Worker;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Most calls in a row that write nothing and ask for the next one, before the next one waits.
const IDLE_CALLS: u32 = 8;
/// How long it waits then.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether channels that are ready to write are told of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    No,
    /// Not before there has been output, or a channel is made ready to write.
    UntilOutput,
    /// Not before a timer ends the rest, or a channel is made ready to write.
    Pause,
}

/// When a stream's channels are told of room.
#[derive(Default)]
pub(super) struct Room {
    /// The loop waits for the socket to be writable. It stops to when the socket is and nobody needs it, so that a channel
    /// that is ready to write in turns costs no system call each time.
    is_watched: Cell<bool>,
    /// The kernel has room: the next look at the drained streams tells the channels.
    is_due: Cell<bool>,
    /// Calls in a row that have written nothing.
    idle: Cell<u32>,
    rest: Cell<Rest>,
}

impl Room {
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.get()
    }

    /// The stream has changed its worker: the old one's list and timer are not the new one's.
    pub(super) fn arrive(&self) {
        self.is_due.set(false);
        self.rest.set(Rest::No);
    }
}

impl Conn {
    /// Channel `index` wants to be told of room, or no more.
    pub(crate) fn set_ready_to_write(&self, worker: &Worker, index: usize, is_ready: bool) {
        let Some(channel) = self.view.get().and_then(|view| view.channels.get(index)) else { return };
        let was_ready = channel.view.ready_to_write.replace(is_ready);
        if is_ready {
            if !was_ready {
                self.room.idle.set(0);
            }
            if !was_ready || self.room.rest.get() == Rest::UntilOutput {
                self.room.rest.set(Rest::No);
            }
            self.watch_room(worker);
        }
    }

    fn wants_room(&self) -> bool {
        self.view.get().is_some_and(|view| view.channels.iter().any(|channel| channel.view.ready_to_write.get()))
    }

    /// Waits for the socket to be writable if the output or a channel does.
    pub(super) fn watch_room(&self, worker: &Worker) {
        let is_needed = self.blocked.get() || self.room.rest.get() == Rest::No && self.wants_room();
        if is_needed && !self.room.is_watched.replace(true) {
            worker.watch(self.uuid, &self.io, self.interest());
        }
    }

    /// The socket is writable, and has got the output that waited.
    pub(super) fn on_room(&self, worker: &Worker) {
        if self.closing.get() || self.blocked.get() {
            return;
        }
        if self.room.rest.get() == Rest::No && self.wants_room() {
            self.tell_room(worker);
        } else if self.room.is_watched.replace(false) {
            worker.watch(self.uuid, &self.io, self.interest());
        }
    }

    /// Tells the channels of room as soon as no callback runs.
    pub(super) fn tell_room(&self, worker: &Worker) {
        if !self.room.is_due.replace(true) {
            worker.drained_now(self.uuid);
        }
    }

    /// The kernel has accepted all output: there may be room for that of other threads, and for the channels'.
    pub(super) fn notify_drained(&self, worker: &Rc<Worker>) {
        self.send_queued(worker);
        if !self.room.is_due.replace(false) {
            if self.room.rest.get() == Rest::UntilOutput {
                self.room.rest.set(Rest::No);
            }
            return self.watch_room(worker);
        }
        let Some(view) = self.view.get() else { return };
        // What `send_queued` has just written comes first.
        if self.out.borrow().pending() > 0 {
            return;
        }
        let before = self.out.borrow().packets();
        let mut asks = false;
        for index in 0..view.channels.len() {
            if self.closing.get() {
                return;
            }
            asks |= cstream::packet_out(view, index);
        }
        if self.out.borrow().packets() != before {
            self.room.idle.set(0);
            self.room.rest.set(Rest::No);
            return self.watch_room(worker);
        }
        self.room.idle.set(self.room.idle.get().saturating_add(1));
        if !asks {
            // As in the Cellframe SDK.
            self.room.rest.set(Rest::UntilOutput);
        } else if self.room.idle.get() >= IDLE_CALLS {
            self.room.rest.set(Rest::Pause);
            let uuid = self.uuid;
            worker.timers.once(PAUSE, move |worker| {
                if let Some(conn) = registry::find(uuid) {
                    conn.room.rest.set(Rest::No);
                    conn.watch_room(worker);
                }
            });
        }
    }
}
