//! SIGN_RESPONSE, and 0x41: signed receipts, and new transactions to pay with.

use super::desk::Desk;
use super::fault::{Fault, record};
use super::{grace, machine};
use crate::ctypes::dap_hash_fast;
use crate::cview::usage::{Which, step};
use crate::{ledger, service};
use vpn_core::wire::{Receipt, ReceiptInfo, Request, error_code, pkt};

/// Where a receipt's version stands.
const VERSION_AT: usize = 21;

/// Handles a SIGN_RESPONSE for a usage.
pub(super) fn signed(desk: &Desk, data: &[u8]) {
    let usage = &desk.usage;
    let which = match usage.step() {
        step::FIRST_SIGN => Which::Current,
        step::NEXT_SIGN => Which::Next,
        step::NEW_TX_SIGN if usage.receipt(Which::Next).is_some() => Which::Next,
        step::NEW_TX_SIGN => Which::Current,
        _ => return log::debug!("dropped a SIGN_RESPONSE: no receipt waits"),
    };
    machine::stop_receipt_timer(desk);
    if ledger::is_offline(usage.net_id) {
        return machine::fail(desk, error_code::NETWORK_IS_OFFLINE);
    }
    if data.len() < ReceiptInfo::LEN {
        if usage.step() != step::NEW_TX_SIGN {
            usage.set_receipt(which, None);
        }
        return host::log_bounded!(Warn, "a SIGN_RESPONSE of {} bytes deletes the receipt", data.len());
    }
    if data.get(VERSION_AT) != Some(&2) {
        return machine::fail(desk, error_code::RECEIPT_WRONG_VERSION);
    }
    let Some(issued) = usage.receipt(which) else {
        // Nothing was issued: the packet before was too short.
        return record(Fault::DeletedReceipt);
    };
    if issued.get(1..1 + ReceiptInfo::LEN) != data.get(1..1 + ReceiptInfo::LEN) {
        return machine::fail(desk, error_code::RECEIPT_CANT_FIND);
    }
    let Some(means) = usage.paying().and_then(|hash| ledger::means(usage.net_id, &hash)) else {
        return machine::fail(desk, error_code::TX_COND_NOT_FOUND);
    };
    let Some(output) = means.output else { return machine::fail(desk, error_code::TX_COND_NO_COND_OUT) };
    if !Receipt::parse(data).is_ok_and(|receipt| receipt.signatures.len() == 2) {
        return machine::fail(desk, error_code::RECEIPT_NO_SIGN);
    }
    // The key that the client names is compared, its signature is not verified.
    if usage.fields().client_pkey_hash.raw != output.client_key {
        return machine::fail(desk, error_code::RECEIPT_WRONG_PKEY_HASH);
    }
    // After 0x41 the signed copy is not kept.
    if matches!(usage.step(), step::FIRST_SIGN | step::NEXT_SIGN) {
        usage.set_receipt(which, Some(data));
    }
    machine::pay_service(desk);
    if usage.is_deleted() {
        return record(Fault::UsageFreedInPayment);
    }
    if matches!(usage.step(), step::NEW_TX | step::TX | step::NORMAL) {
        desk.send_success(true);
    }
}

/// Handles 0x41, a new transaction, for a usage.
pub(super) fn new_transaction(desk: &Desk, request: &Request) {
    let usage = &desk.usage;
    if usage.step() != step::NEW_TX {
        return host::log_bounded!(Info, "dropped a new transaction: none is expected");
    }
    if service::find(request.srv_uid).is_none() {
        return record(Fault::NoService);
    }
    if let Some(item) = grace::find(&usage.fields().tx_cond_hash.get().raw) {
        if request.tx_cond == [0; 32] {
            item.stop_timer();
            machine::fail(desk, error_code::TX_COND_NO_NEW_COND);
            return item.free();
        }
        usage.fields().tx_cond_hash.set(dap_hash_fast { raw: request.tx_cond });
        if ledger::means(usage.net_id, &request.tx_cond).is_some() {
            // The item is freed, its timer is not.
            item.free();
            let which = if usage.receipt(Which::Next).is_some() { Which::Next } else { Which::Current };
            let Some(issued) = machine::issue(desk) else { return };
            usage.set_receipt(which, Some(&issued));
            usage.set_step(step::NEW_TX_SIGN);
            machine::start_receipt_timer(desk);
            // Whichever is new, the SDK sends the current one.
            match usage.receipt(Which::Current) {
                Some(receipt) => desk.send(pkt::SIGN_REQUEST, &receipt),
                None => record(Fault::NoReceipt),
            }
        } else {
            usage.set_step(step::NEW_TX_IN_LEDGER);
            item.wait_for(request.tx_cond);
        }
    }
    desk.send_success(false);
}
