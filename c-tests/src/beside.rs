//! Another library in Rust, as a C program might link it: it unwinds, starts threads, and has variables of each thread.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

static ENDED: AtomicI32 = AtomicI32::new(0);

struct CountsItsEnd(Cell<i32>);

impl Drop for CountsItsEnd {
    fn drop(&mut self) {
        ENDED.fetch_add(self.0.get(), Ordering::SeqCst);
    }
}

thread_local! {
    static OF_THIS_THREAD: CountsItsEnd = const { CountsItsEnd(Cell::new(0)) };
}

/// Panics, catches it, and returns 100 more than the number that the panic carried.
#[unsafe(no_mangle)]
pub extern "C" fn beside_catches(number: i32) -> i32 {
    let quiet = catch_unwind(|| std::panic::resume_unwind(Box::new(number)));
    quiet.unwrap_err().downcast_ref::<i32>().map_or(-1, |carried| carried + 100)
}

/// Starts threads, and returns how many of them have dropped their variable at their end.
#[unsafe(no_mangle)]
pub extern "C" fn beside_threads(count: i32) -> i32 {
    let before = ENDED.load(Ordering::SeqCst);
    let threads: Vec<_> = (0..count).map(|_| thread::spawn(|| OF_THIS_THREAD.with(|own| own.0.set(1)))).collect();
    for thread in threads {
        let _ = thread.join();
    }
    ENDED.load(Ordering::SeqCst) - before
}
