//! The states of a paid usage, and the way from one to the next.
//!
//! The order of steps, callbacks and messages is that of the Cellframe SDK. Where it is played, so are its defects; each
//! place where it would use freed memory is a [`Fault`].

use super::desk::{Desk, follow, set_active};
use super::fault::{Fault, plays_the_sdk, record};
use super::grace::{self, Item};
use super::{asking, delete_usage};
use crate::ctypes::dap_hash_fast;
use crate::cview::usage::{Which, state, step};
use crate::ledger::{self, Means, PayError};
use crate::net;
use crate::reactor::Worker;
use crate::receipt;
use std::rc::Rc;
use std::sync::Arc;
use vpn_core::wire::{Receipt, ReceiptInfo, error_code, pkt, unit};

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
    if !plays_the_sdk() {
        // What went wrong before is no reason for what goes wrong now.
        usage.fields().last_err_code.set(0);
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
            (state::IDLE, _) => {
                go_to_grace(desk);
                if !plays_the_sdk() {
                    return;
                }
            }
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
            if plays_the_sdk() && usage.is_deleted() {
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
        if plays_the_sdk() {
            record(Fault::NullCallback);
        }
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
        return ask_for_signature(desk);
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

/// Has the receipt that waits now sent again until it is signed.
pub(super) fn ask_for_signature(desk: &Desk) {
    asking::start(desk, |desk| fail(desk, error_code::RECEIPT_NO_SIGN));
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

/// A receipt with this node's signature. Without one the usage fails; the SDK says nothing.
pub(super) fn issue(desk: &Desk) -> Option<Vec<u8>> {
    let issued = receipt::node_key().and_then(|key| key.issue(&info(desk)).ok());
    if issued.is_none() && !plays_the_sdk() {
        fail(desk, error_code::SERVICE_INTERNAL_ERROR);
    }
    issued
}

fn pay(desk: &Desk, which: Which) -> Paid {
    let usage = &desk.usage;
    let hash = usage.fields().tx_cond_hash.get().raw;
    let Some(net) = net::find_by_id(usage.net_id) else { return Paid::Failed };
    let means = ledger::means(net.id(), &hash);
    usage.set_paying(means.as_ref().map(|_| hash));
    let Some(means) = means else { return Paid::NoTransaction };
    if means.is_used_up() && !plays_the_sdk() {
        return Paid::NotEnough;
    }
    if let Err(code) = check(desk, &means) {
        usage.fields().last_err_code.set(code);
        if plays_the_sdk() {
            // The caller goes there once more.
            go_to_error(desk);
        }
        return Paid::Failed;
    }
    let Some(receipt) = usage.receipt(which) else {
        record(Fault::NoReceipt);
        return Paid::Failed;
    };
    match ledger::pay(net, &hash, &receipt) {
        // What was to be spent stands for a payment that could not be stored.
        Ok(payment) if payment == hash && !plays_the_sdk() => {
            host::log_bounded!(Error, "payment lost: usage {}, the node could not store the payment", usage.id);
            Paid::Failed
        }
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
    if plays_the_sdk() && (usage.state(), usage.step()) == (state::GRACE, step::TX) {
        // A rest in the middle of a grace: the service is not told.
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
        if !plays_the_sdk() {
            return;
        }
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
        _ => return fail(desk, error_code::SERVICE_INTERNAL_ERROR),
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
    desk.refuse(error_code::TX_COND_NOT_ENOUGH);
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
        if !plays_the_sdk() {
            grace::stop(usage);
        }
        return grace::ban(usage);
    }
    let Some(conn) = desk.conn() else {
        if plays_the_sdk() {
            record(Fault::FreedChannel);
        }
        return;
    };
    let active = desk.active();
    // The service may have taken the usage away in its callback.
    if active == usage.address() || plays_the_sdk() && active != 0 {
        set_active(&conn, None);
        delete_usage(active);
    }
}

/// The timer of a grace.
fn grace_ended(worker: &Rc<Worker>, item: &Arc<Item>) {
    if !plays_the_sdk() {
        if item.free() {
            follow(worker, item.stream, Arc::clone(&item.usage), end_grace);
        }
        return;
    }
    if item.is_freed() {
        return record(Fault::TimerOutlivesGrace);
    }
    item.free();
    let desk = item.desk(worker);
    if desk.is_usable(Fault::GraceOutlivesUsage) {
        end_grace(&desk);
    }
}

fn end_grace(desk: &Desk) {
    if desk.usage.is_deleted() {
        return;
    }
    let hash = desk.usage.fields().tx_cond_hash.get().raw;
    if ledger::means(desk.usage.net_id, &hash).is_none() {
        fail(desk, error_code::TX_COND_NOT_FOUND);
    } else {
        pay_service(desk);
    }
}

/// A transaction that a grace waits for is in the ledger.
pub(super) fn transaction_came(worker: &Rc<Worker>, item: &Arc<Item>) {
    item.stop_timer();
    if !plays_the_sdk() {
        if item.free() {
            follow(worker, item.stream, Arc::clone(&item.usage), go_on);
        }
        return;
    }
    item.free();
    let desk = item.desk(worker);
    if desk.is_usable(Fault::GraceOutlivesUsage) {
        go_on(&desk);
    }
}

fn go_on(desk: &Desk) {
    let usage = &desk.usage;
    if usage.is_deleted() {
        return;
    }
    usage.set_paying(Some(usage.fields().tx_cond_hash.get().raw));
    if usage.step() != step::NEW_TX_IN_LEDGER {
        return pay_service(desk);
    }
    ask_for_new_transaction(desk);
}

/// Asks for the receipt that the client's new transaction pays.
pub(super) fn ask_for_new_transaction(desk: &Desk) {
    let usage = &desk.usage;
    let Some(issued) = issue(desk) else { return };
    usage.set_receipt(asking::of_new_transaction(usage), Some(&issued));
    usage.set_step(step::NEW_TX_SIGN);
    ask_for_signature(desk);
    desk.send(pkt::SIGN_REQUEST, &issued);
}
