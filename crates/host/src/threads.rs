//! The library's own threads.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{Builder, JoinHandle};

/// The signals that the kernel raises on a thread for what the thread itself does. Blocked, they would end the process
/// past the host's handlers.
const OF_THE_THREAD: [Signal; 7] =
    [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS, Signal::SIGTRAP];

/// Starts a thread that takes none of the host program's signals; its name has at most 15 bytes.
///
/// The kernel gives a signal of the process to any thread that does not block it. A host that blocks SIGTERM in its own
/// threads, and reads it from a signalfd or with sigwait, would be killed by a thread that it does not know.
pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    let mut signals = SigSet::all();
    for signal in OF_THE_THREAD {
        signals.remove(signal);
    }
    // A thread starts with the mask of its parent: blocked here, no signal finds the new thread open.
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = Builder::new().name(name.to_owned()).spawn(body);
    before.thread_set_mask()?;
    thread
}

/// Starts such a thread. The receiver hears the body's end, or at once that there is no thread; nobody needs to wait.
pub fn spawn_heard(name: &str, body: impl FnOnce() + Send + 'static) -> Receiver<()> {
    let (done, ended) = mpsc::channel();
    let body = move || {
        body();
        // Nobody may wait any more.
        let _ = done.send(());
    };
    // Without a thread the body is dropped here, and its sender with it.
    drop(spawn(name, body));
    ended
}

/// A bound on threads of one kind that may outlast what they were started for.
#[derive(Debug)]
pub struct Permits {
    max: usize,
    taken: AtomicUsize,
}

impl Permits {
    /// Creates a bound of `max` at once.
    pub const fn new(max: usize) -> Permits {
        Permits { max, taken: AtomicUsize::new(0) }
    }

    /// Takes a permit; `None` if all are taken.
    pub fn take(&'static self) -> Option<Permit> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self);
        (before < self.max).then_some(permit)
    }
}

/// One of [`Permits`]; dropping it gives it back.
#[derive(Debug)]
pub struct Permit(&'static Permits);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_new_thread_blocks_signals() {
        let before = SigSet::thread_get_mask().unwrap();
        let inside = spawn("masked", || SigSet::thread_get_mask().unwrap()).unwrap().join().unwrap();
        assert!(Signal::iterator().filter(|signal| !is_never_blocked(*signal)).all(|signal| inside.contains(signal)));
        assert!(OF_THE_THREAD.iter().all(|signal| !inside.contains(*signal)));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    fn is_never_blocked(signal: Signal) -> bool {
        matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) || OF_THE_THREAD.contains(&signal)
    }
}
