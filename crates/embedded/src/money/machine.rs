//! The states of a paid usage, and the way from one to the next.
//!
//! The order of steps, callbacks and messages is that of the Cellframe SDK, with its defects; each place where it uses
//! freed memory is a [`Fault`].

use super::desk::{Desk, set_active};
use super::fault::{Fault, record};
use super::grace::{self, Item};
use super::signature_wait;
use crate::ctypes::{dap_hash_fast, dap_timerfd};
use crate::cview::owned::CBox;
use crate::cview::usage::{Which, state, step};
use crate::ledger::{self, Means, PayError};
use crate::net::{self, NetRef};
use crate::reactor::{Worker, timers};
use crate::{receipt, service};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use vpn_core::wire::{Receipt, ReceiptInfo, error_code, pkt, unit};

/// How often a receipt is sent before the SDK gives up.
const ASKS: i32 = 3;

/// The outcome of a payment.
enum Paid {
    Success,
    NoTransaction,
    NotEnough,
    Failed,
}

/// Starts with what the client has left, asks for the first receipt, or pays with a signed one.
pub(super) fn pay_service(desk: &Desk) {
    let usage = &desk.usage;
    let starts = (usage.state(), usage.step()) == (state::IDLE, step::IDLE)
        || (usage.state(), usage.step()) == (state::GRACE, step::TX);
    if starts {
        return start_or_ask(desk);
    }
    let which = if usage.state() == state::NORMAL { Which::Next } else { Which::Current };
    match pay(desk, which) {
        Paid::Success if usage.state() == state::NORMAL => return step_to_normal(desk),
        Paid::Success => return go_to_normal(desk),
        Paid::NoTransaction => match (usage.state(), usage.step()) {
            (_, step::NEW_TX) => usage.set_step(step::NEW_TX_IN_LEDGER),
            (state::NORMAL, other) if other != step::TX && other != step::NEW_TX_IN_LEDGER => {
                return wait_for_transaction(desk);
            }
            (state::IDLE, _) => go_to_grace(desk),
            _ => usage.fields().last_err_code.set(error_code::TX_COND_NOT_FOUND),
        },
        Paid::NotEnough => match usage.step() {
            step::NEW_TX_IN_LEDGER | step::NEW_TX | step::NEW_TX_SIGN => {
                usage.fields().last_err_code.set(error_code::NEW_TX_COND_NOT_ENOUGH);
            }
            _ if usage.state() == state::IDLE => return go_to_grace(desk),
            _ => return wait_for_new_transaction(desk),
        },
        Paid::Failed => {
            if usage.is_deleted() {
                return record(Fault::UsageFreedInPayment);
            }
            usage.fields().tx_cond_hash.set(dap_hash_fast { raw: [0; 32] });
            usage.set_receipt(Which::Next, None);
            if usage.fields().last_err_code.get() == 0 {
                usage.fields().last_err_code.set(error_code::TX_CREATION_ERROR);
            }
        }
    }
    go_to_error(desk);
}

fn start_or_ask(desk: &Desk) {
    let usage = &desk.usage;
    let Some(price) = usage.price() else { return };
    let rest = usage.service.get_remain(&usage.handle()).unwrap_or_else(|_| {
        record(Fault::NullCallback);
        None
    });
    let kind = price.units_uid.enm;
    let rest = rest
        .filter(|rest| kind == unit::SECONDS && rest.limits_ts != 0 || kind == unit::BYTES && rest.limits_bytes != 0);
    let Some(rest) = rest else {
        let Some(issued) = issue(desk) else { return };
        usage.set_receipt(Which::Current, Some(&issued));
        desk.send(pkt::SIGN_REQUEST, &issued);
        usage.set_step(step::FIRST_SIGN);
        return start_receipt_timer(desk);
    };
    if let Some(session) = desk.conn().as_ref().and_then(|conn| conn.view()).map(|view| &view.session)
        && let Some(service) = session.service.lock().as_ref()
    {
        service.set_limit(kind, &rest);
    }
    desk.send_success(false);
    usage.set_receipt(Which::Current, Some(&Receipt::unsigned(&info(desk))));
    go_to_normal(desk);
}

/// What the next receipt of a usage says.
fn info(desk: &Desk) -> ReceiptInfo {
    let mut info = ReceiptInfo { srv_uid: desk.usage.service.uid(), version: 2, ..ReceiptInfo::default() };
    if let Some(price) = desk.usage.price() {
        (info.units_type, info.units, info.value) = (price.units_uid.enm, price.units, price.value_datoshi.bytes);
    }
    info.prev_tx = desk.usage.fields().tx_cond_hash.get().raw;
    info
}

/// A receipt with this node's signature.
pub(super) fn issue(desk: &Desk) -> Option<Vec<u8>> {
    receipt::node_key()?.issue(&info(desk)).ok()
}

fn network(desk: &Desk) -> Option<NetRef> {
    net::find_by_id(desk.usage.net_id)
}

fn pay(desk: &Desk, which: Which) -> Paid {
    let usage = &desk.usage;
    let hash = usage.fields().tx_cond_hash.get().raw;
    let Some(net) = network(desk) else { return Paid::Failed };
    let means = ledger::means(net.id(), &hash);
    usage.set_paying(means.as_ref().map(|_| hash));
    let Some(means) = means else { return Paid::NoTransaction };
    if let Err(code) = check(desk, &means) {
        usage.fields().last_err_code.set(code);
        go_to_error(desk);
        return Paid::Failed;
    }
    let Some(receipt) = usage.receipt(which) else {
        record(Fault::NoReceipt);
        return Paid::Failed;
    };
    match ledger::pay(net, &hash, &receipt) {
        Ok(payment) => {
            usage.fields().tx_cond_hash.set(dap_hash_fast { raw: payment });
            Paid::Success
        }
        Err(PayError::NotEnough) => Paid::NotEnough,
        Err(PayError::Impossible) => Paid::Failed,
    }
}

/// Whether a transaction is one to pay this usage's price with.
fn check(desk: &Desk, means: &Means) -> Result<(), u32> {
    let (usage, output) = (&desk.usage, means.output.as_ref().ok_or(error_code::TX_COND_NO_COND_OUT)?);
    if output.srv_uid != usage.service.uid() {
        return Err(error_code::TX_COND_WRONG_SRV_UID);
    }
    let price = usage.price().ok_or(error_code::PRICE_ERROR)?;
    let token: Vec<u8> = price.token.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned()).collect();
    if token != output.token.as_bytes() {
        return Err(error_code::TX_COND_NOT_ACCEPT_TOKEN);
    }
    if output.unit != price.units_uid.enm {
        return Err(error_code::TX_COND_UNIT_TYPE_ERROR);
    }
    let value = ledger::value_of(&price.value_datoshi.bytes).ok_or(error_code::RECEIPT_UNITS_ERROR)?;
    let unit_price = value.checked_div(price.units.into()).ok_or(error_code::RECEIPT_UNITS_ERROR)?;
    if output.max_unit_price != 0 && unit_price > output.max_unit_price {
        return Err(error_code::RECEIPT_UNITS_ERROR);
    }
    Ok(())
}

fn go_to_normal(desk: &Desk) {
    let usage = &desk.usage;
    if (usage.state(), usage.step()) == (state::GRACE, step::TX) {
        usage.fields().service_state.set(state::NORMAL);
    } else {
        usage.fields().service_state.set(state::NORMAL);
        let Some(receipt) = usage.receipt(Which::Current) else { return record(Fault::NoReceipt) };
        if usage.service.receipt_success(&usage.handle(), Some(&receipt)) != Some(0) {
            return fail(desk, error_code::SERVICE_INTERNAL_ERROR);
        }
    }
    usage.set_step(step::NORMAL);
}

fn step_to_normal(desk: &Desk) {
    let usage = &desk.usage;
    let Some(receipt) = usage.receipt(Which::Current) else { return record(Fault::NoReceipt) };
    if usage.service.receipt_next_success(&usage.handle(), &receipt).is_some_and(|code| code != 0) {
        fail(desk, error_code::SERVICE_INTERNAL_ERROR);
    }
    usage.set_step(step::NORMAL);
}

/// Serves before the payment.
pub(super) fn go_to_grace(desk: &Desk) {
    let usage = &desk.usage;
    usage.fields().service_state.set(state::GRACE);
    match usage.step() {
        step::IDLE => {
            wait_for_transaction(desk);
            desk.send_success(false);
        }
        step::FIRST_SIGN => wait_for_new_transaction(desk),
        _ => fail(desk, error_code::SERVICE_INTERNAL_ERROR),
    }
    if usage.service.receipt_success(&usage.handle(), None) != Some(0) {
        fail(desk, error_code::SERVICE_INTERNAL_ERROR);
    }
}

fn wait_for_transaction(desk: &Desk) {
    desk.usage.set_step(step::TX);
    grace::start(desk, grace_ended);
}

fn wait_for_new_transaction(desk: &Desk) {
    desk.usage.set_step(step::NEW_TX);
    grace::start(desk, grace_ended);
    desk.refuse_unset(error_code::TX_COND_NOT_ENOUGH);
}

/// Sets the last error and goes to the state of errors.
pub(super) fn fail(desk: &Desk, code: u32) {
    desk.usage.fields().last_err_code.set(code);
    go_to_error(desk);
}

fn go_to_error(desk: &Desk) {
    let usage = &desk.usage;
    if usage.state() == state::NORMAL {
        // The service goes on until its units are used up.
        usage.set_receipt(Which::Next, None);
        usage.set_step(step::ERROR);
        desk.send_code();
        return desk.report();
    }
    usage.fields().is_active.set(false);
    if usage.fields().last_err_code.get() != 0 {
        if desk.conn().is_some() {
            desk.send_code();
        }
        desk.report();
    }
    if usage.state() == state::GRACE {
        usage.fields().is_active.set(false);
        return grace::ban(usage);
    }
    let Some(conn) = desk.conn() else { return record(Fault::FreedChannel) };
    let active = desk.active();
    if active != 0 {
        set_active(&conn, None);
        service::delete_usage(active);
    }
}

thread_local! {
    /// Every timer of a receipt that this worker has had, so that each address is of one timer.
    static RECEIPT_TIMERS: RefCell<Vec<Rc<CBox<dap_timerfd>>>> = const { RefCell::new(Vec::new()) };
}

/// Starts the timer that repeats a receipt.
pub(super) fn start_receipt_timer(desk: &Desk) {
    let asked = desk.clone();
    let timer = timers::start_here(&desk.worker, signature_wait(), move |_| ask_again(&asked));
    desk.usage.fields().receipts_timeout_timer.set(timer.as_ptr());
    RECEIPT_TIMERS.with_borrow_mut(|timers| timers.push(timer));
}

/// Ends the timer that repeats a receipt.
pub(super) fn stop_receipt_timer(desk: &Desk) {
    let timer = desk.usage.fields().receipts_timeout_timer.replace(std::ptr::null_mut());
    if timer.is_null() {
        return;
    }
    let uuid = desk.worker.uuid_at(timer.addr()).filter(|uuid| desk.worker.timers.contains(*uuid));
    match uuid {
        Some(uuid) => timers::delete(&desk.worker, uuid),
        None => record(Fault::StaleTimer),
    }
}

/// The timer of a receipt: asks again, or gives up. Returns whether the timer goes on.
fn ask_again(desk: &Desk) -> bool {
    let usage = &desk.usage;
    if usage.is_deleted() {
        record(Fault::TimerOutlivesUsage);
        return false;
    }
    if desk.conn().is_none() {
        record(Fault::FreedChannel);
        return false;
    }
    let asks = &usage.fields().receipt_sign_req_cnt;
    if asks.get() < ASKS - 1 {
        asks.set(asks.get() + 1);
        let has_next = usage.receipt(Which::Next).is_some();
        // After 0x41 the SDK tests one receipt and sends the other.
        let which = match usage.step() {
            step::FIRST_SIGN => Some(Which::Current),
            step::NEXT_SIGN => Some(Which::Next),
            step::NEW_TX_SIGN if has_next => Some(Which::Current),
            step::NEW_TX_SIGN if usage.receipt(Which::Current).is_some() => Some(Which::Next),
            _ => None,
        };
        if let Some(which) = which {
            match usage.receipt(which) {
                Some(receipt) => desk.send(pkt::SIGN_REQUEST, &receipt),
                None => record(Fault::NoReceipt),
            }
            return true;
        }
    }
    asks.set(0);
    if matches!(usage.step(), step::FIRST_SIGN | step::NEXT_SIGN) {
        fail(desk, error_code::RECEIPT_NO_SIGN);
    }
    false
}

/// The timer of a grace.
fn grace_ended(worker: &Rc<Worker>, item: &Arc<Item>) {
    if item.is_freed() {
        return record(Fault::TimerOutlivesGrace);
    }
    item.free();
    let Some(desk) = usable(worker, item) else { return };
    let hash = desk.usage.fields().tx_cond_hash.get().raw;
    if ledger::means(desk.usage.net_id, &hash).is_none() {
        fail(&desk, error_code::TX_COND_NOT_FOUND);
    } else {
        pay_service(&desk);
    }
}

/// A transaction that a grace waits for is in the ledger.
pub(super) fn transaction_came(worker: &Rc<Worker>, item: &Arc<Item>) {
    item.stop_timer();
    item.free();
    let Some(desk) = usable(worker, item) else { return };
    let usage = &desk.usage;
    usage.set_paying(Some(usage.fields().tx_cond_hash.get().raw));
    if usage.step() != step::NEW_TX_IN_LEDGER {
        return pay_service(&desk);
    }
    let which = if usage.receipt(Which::Next).is_some() { Which::Next } else { Which::Current };
    let Some(issued) = issue(&desk) else { return };
    usage.set_receipt(which, Some(&issued));
    usage.set_step(step::NEW_TX_SIGN);
    start_receipt_timer(&desk);
    desk.send(pkt::SIGN_REQUEST, &issued);
}

/// A grace's usage with its stream, unless one of them is gone.
fn usable(worker: &Rc<Worker>, item: &Arc<Item>) -> Option<Desk> {
    let desk = item.desk(worker);
    if desk.usage.is_deleted() {
        record(Fault::GraceOutlivesUsage);
        return None;
    }
    if desk.conn().is_none() {
        record(Fault::FreedChannel);
        return None;
    }
    Some(desk)
}
