//! What the kernel keeps of a stream's output until the peer has acknowledged it.

use crate::cview::kernel::send_queue;
use std::cell::Cell;
use std::net::TcpStream;

/// The kernel is asked again each time it has taken this many bytes: rarely enough that it costs no packet anything, and
/// often enough that what is counted is not far from what there is.
const ASK_AFTER: usize = 256 * 1024;

/// The bytes in the kernel: as it last said, and all that it has taken since.
#[derive(Default)]
pub(super) struct InKernel {
    known: Cell<usize>,
    since: Cell<usize>,
}

impl InKernel {
    pub(super) fn known(&self) -> usize {
        self.known.get()
    }

    /// The kernel has taken more output.
    pub(super) fn passed(&self, bytes: usize, io: &TcpStream) {
        self.known.set(self.known.get() + bytes);
        self.since.set(self.since.get() + bytes);
        if self.since.get() >= ASK_AFTER {
            self.look(io);
        }
    }

    /// Asks the kernel.
    pub(super) fn look(&self, io: &TcpStream) -> usize {
        self.since.set(0);
        self.known.set(send_queue(io));
        self.known.get()
    }
}
