//! The faults of the Cellframe SDK's billing: a test has this one make them, to show that the library copes with them.
//!
//! Where the SDK would read freed memory, call NULL or damage the heap, a note is taken. A billing that plays no SDK
//! never takes one.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the SDK would have done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The session's usage is freed, and is used: a REQUEST for an unknown order leaves its address there.
    FreedUsage,
    /// A usage is freed twice.
    DoubleFree,
    /// A failed payment goes through the error path and frees the usage, then goes on with it.
    UsageFreedInPayment,
    /// The timer of a receipt fires after its usage is freed: the client has left.
    TimerOutlivesUsage,
    /// A timer that has ended is deleted.
    StaleTimer,
    /// The timer of a grace fires after its item is freed: 0x41 named a transaction in the ledger.
    TimerOutlivesGrace,
    /// The timer of a grace fires after its usage is freed: another session's end has taken its item away.
    GraceOutlivesUsage,
    /// A REQUEST replaces a usage, which nothing frees any more.
    LostUsage,
    /// A usage writes to a channel that is gone.
    FreedChannel,
    /// A receipt is read where there is none: both kinds are mixed up after 0x41.
    NoReceipt,
    /// A receipt is read that a short SIGN_RESPONSE has deleted.
    DeletedReceipt,
    /// 0x41 is handled without a usage.
    NoUsage,
    /// 0x41 names a service that does not exist.
    NoService,
    /// A service's callback is NULL.
    NullCallback,
    /// The answer to a check is written past the packet.
    CheckOverrun,
}

/// How the log line of a fault begins.
pub const FAULT_LINE: &str = "here the SDK would fail";

/// The most faults that are kept. A test looks for a handful.
const KEPT: usize = 1024;

static PLAYED: AtomicBool = AtomicBool::new(false);
static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

/// Whether the billing has the SDK's faults.
pub(crate) fn plays_the_sdk() -> bool {
    PLAYED.load(Ordering::Relaxed)
}

/// Has the billing make the SDK's faults, or no more, and forgets the noted ones.
pub(crate) fn play(on: bool) {
    PLAYED.store(on, Ordering::Relaxed);
    FAULTS.lock().clear();
}

/// Takes a note of a fault.
pub(crate) fn record(fault: Fault) {
    let what = if plays_the_sdk() { FAULT_LINE } else { "a fault of the billing, which goes on without" };
    log::error!("{what}: {fault:?}");
    let mut faults = FAULTS.lock();
    if faults.len() < KEPT {
        faults.push(fault);
    }
}

/// Returns the faults since the last [`play`], in their order.
pub(crate) fn all() -> Vec<Fault> {
    FAULTS.lock().clone()
}
