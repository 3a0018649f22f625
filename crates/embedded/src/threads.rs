//! The threads that the embedded SDK starts, without the host program's signals. A flag marks them, because any thread may have any name.

use std::cell::Cell;
use std::io;
use std::thread::JoinHandle;

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread of the embedded SDK; its name has at most 15 bytes.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    host::threads::spawn(name, move || {
        OWN.set(true);
        body();
    })
}

/// True on a thread of the embedded SDK, which cannot wait for its own end.
pub(crate) fn is_own() -> bool {
    OWN.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_no_thread_ours() {
        let host = std::thread::Builder::new().name("vpn-worker-0".into());
        assert!(!host.spawn(is_own).unwrap().join().unwrap());
        spawn("anything", || assert!(is_own())).unwrap().join().unwrap();
    }
}
