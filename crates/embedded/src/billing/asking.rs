//! The timer that repeats a receipt until the client signs it.

use super::desk::{Desk, follow};
use super::fault::{Fault, plays_the_sdk, record};
use crate::ctypes::dap_timerfd;
use crate::cview::owned::CBox;
use crate::cview::usage::{Usage, Which, state, step};
use crate::reactor::{Shared, timers};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vpn_core::wire::pkt;

/// How often a receipt is sent before the server gives up.
const ASKS: i32 = 3;
/// How long a signature is waited for before the receipt is sent again.
pub(crate) const SIGNATURE_WAIT: Duration = Duration::from_secs(10);

static WAIT: Mutex<Duration> = Mutex::new(SIGNATURE_WAIT);

/// Sets how long a signature is waited for.
pub(crate) fn set_signature_wait(wait: Duration) {
    *WAIT.lock() = wait;
}

/// A usage's timer.
struct Timer {
    /// Tells it from an earlier one of the same usage.
    number: u64,
    uuid: u64,
    worker: Arc<Shared>,
}

/// The timer of each usage that has one, by the usage's id.
static TIMERS: Mutex<BTreeMap<u32, Timer>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Every timer of a receipt that this worker has had while it plays the SDK, so that each address is of one timer.
    static PLAYED: RefCell<Vec<Rc<CBox<dap_timerfd>>>> = const { RefCell::new(Vec::new()) };
}

/// What happens to a usage whose receipt nobody signs.
type GiveUp = fn(&Desk);

/// Starts the timer for the receipt that waits now.
pub(super) fn start(desk: &Desk, give_up: GiveUp) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let wait = *WAIT.lock();
    let asked = desk.clone();
    let field = &desk.usage.fields().receipts_timeout_timer;
    if plays_the_sdk() {
        let timer = timers::start_here(&desk.worker, wait, move |_| {
            asked.is_usable(Fault::TimerOutlivesUsage) && ask_again(&asked, give_up)
        });
        field.set(timer.as_ptr());
        return PLAYED.with_borrow_mut(|timers| timers.push(timer));
    }
    stop(desk);
    desk.usage.fields().receipt_sign_req_cnt.set(0);
    let timer = timers::start_here(&desk.worker, wait, move |_| fired(&asked, number, give_up));
    field.set(timer.as_ptr());
    let timer = Timer { number, uuid: timer.esocket_uuid, worker: Arc::clone(&desk.worker.shared) };
    TIMERS.lock().insert(desk.usage.id, timer);
}

/// Ends the timer.
pub(super) fn stop(desk: &Desk) {
    let timer = desk.usage.fields().receipts_timeout_timer.get();
    if !plays_the_sdk() {
        return end(&desk.usage);
    }
    desk.usage.fields().receipts_timeout_timer.set(ptr::null_mut());
    if timer.is_null() {
        return;
    }
    let uuid = desk.worker.uuid_at(timer.addr()).filter(|uuid| desk.worker.timers.contains(*uuid));
    match uuid {
        Some(uuid) => timers::delete(&desk.worker, uuid),
        None => record(Fault::StaleTimer),
    }
}

/// Ends a usage's timer, on whichever worker it is. Called on the stream's worker.
pub(super) fn end(usage: &Usage) {
    if let Some(Timer { uuid, worker, .. }) = TIMERS.lock().remove(&usage.id) {
        usage.fields().receipts_timeout_timer.set(ptr::null_mut());
        worker.post(Box::new(move |worker| timers::delete(worker, uuid)));
    }
}

/// The timer of a usage. Returns whether it goes on.
fn fired(desk: &Desk, number: u64, give_up: GiveUp) -> bool {
    let is_current = || TIMERS.lock().get(&desk.usage.id).is_some_and(|timer| timer.number == number);
    if !is_current() {
        return false;
    }
    if desk.conn().is_some() {
        if ask_again(desk, give_up) {
            return is_current();
        }
        if is_current() {
            end(&desk.usage);
        }
        return false;
    }
    // The stream is on another worker now, and the timer follows.
    follow(&desk.worker, desk.stream, Arc::clone(&desk.usage), move |desk| {
        let is_current = TIMERS.lock().get(&desk.usage.id).is_some_and(|timer| timer.number == number);
        if is_current && !desk.usage.is_deleted() {
            let asks = desk.usage.fields().receipt_sign_req_cnt.get();
            start(desk, give_up);
            desk.usage.fields().receipt_sign_req_cnt.set(asks);
            if !ask_again(desk, give_up) {
                end(&desk.usage);
            }
        }
    });
    false
}

/// Asks again, or gives up. Returns whether the timer goes on.
fn ask_again(desk: &Desk, give_up: GiveUp) -> bool {
    let usage = &desk.usage;
    let asks = &usage.fields().receipt_sign_req_cnt;
    if asks.get() < ASKS - 1 {
        asks.set(asks.get() + 1);
        if let Some(which) = waiting(usage) {
            match usage.receipt(which) {
                Some(receipt) => desk.send(pkt::SIGN_REQUEST, &receipt),
                None => record(Fault::NoReceipt),
            }
            return true;
        }
    }
    asks.set(0);
    let is_asked = match usage.step() {
        step::FIRST_SIGN | step::NEXT_SIGN => true,
        step::NEW_TX_SIGN => !plays_the_sdk(),
        _ => false,
    };
    if is_asked {
        give_up(desk);
    }
    false
}

/// The receipt that waits for a signature.
pub(super) fn waiting(usage: &Usage) -> Option<Which> {
    let has_next = || usage.receipt(Which::Next).is_some();
    match usage.step() {
        step::FIRST_SIGN => Some(Which::Current),
        step::NEXT_SIGN => Some(Which::Next),
        // After 0x41 the SDK tests one receipt and sends the other.
        step::NEW_TX_SIGN if plays_the_sdk() && has_next() => Some(Which::Current),
        step::NEW_TX_SIGN if plays_the_sdk() => usage.receipt(Which::Current).map(|_| Which::Next),
        step::NEW_TX_SIGN => Some(of_new_transaction(usage)),
        _ => None,
    }
}

/// The receipt that a new transaction pays. The SDK takes the next one if there is any, and loses the signed copy.
pub(super) fn of_new_transaction(usage: &Usage) -> Which {
    let is_next = if plays_the_sdk() { usage.receipt(Which::Next).is_some() } else { usage.state() == state::NORMAL };
    if is_next { Which::Next } else { Which::Current }
}
