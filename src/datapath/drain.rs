//! Drains a TUN queue at a wake-up: reads the host's packets until the queue is empty or the budget is used.

use std::io;
use std::ops::DerefMut;

use host::tun::Queue;
use vpn_core::forward::Bundler;

/// The limits of one wake-up; then the worker's other sockets get their turn.
const PACKETS: usize = 256;
pub(super) const BYTES: usize = 512 * 1024;

/// Receives the packets of a queue, bundles them, and sends the bundles.
pub(crate) trait Sink {
    /// Takes the packet in the first `len` bytes of the bundler's spare capacity, or drops and counts it.
    fn take<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>, len: usize);

    /// Sends the bundle that is being filled.
    fn flush<B: DerefMut<Target = [u8]>>(&mut self, bundler: &mut Bundler<B>);
}

/// Drains the queue into the sink. `first` is a packet that the SDK's event loop has already read. The sink sends every
/// bundle before this returns: no packet waits for a later one.
pub(crate) fn drain(
    queue: &Queue,
    first: Option<&mut [u8]>,
    bundler: &mut Bundler,
    sink: &mut impl Sink,
) -> io::Result<()> {
    if let Some((memory, len)) = first.and_then(|read| queue.lend(read)) {
        match bundler.adopt(memory, len) {
            Some(mut alone) => {
                sink.take(&mut alone, len);
                sink.flush(&mut alone);
            }
            None => sink.take(bundler, len),
        }
    }
    let result = read(queue, bundler, sink);
    sink.flush(bundler);
    result
}

fn read(queue: &Queue, bundler: &mut Bundler, sink: &mut impl Sink) -> io::Result<()> {
    let mut bytes = 0;
    for _ in 0..PACKETS {
        let Some(len) = queue.recv(bundler.spare_capacity())? else { break };
        sink.take(bundler, len);
        bytes += len;
        if bytes >= BYTES {
            break;
        }
    }
    Ok(())
}
