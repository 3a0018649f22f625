//! SIGN_RESPONSE, and 0x41: signed receipts, and new transactions to pay with.

use super::desk::Desk;
use super::fault::{Fault, plays_the_sdk, record};
use super::{asking, grace, machine};
use crate::ctypes::dap_hash_fast;
use crate::cview::usage::{Which, step};
use crate::{ledger, receipt};
use vpn_core::gate::check_signed;
use vpn_core::wire::{Receipt, ReceiptInfo, Request, error_code, pkt};

/// Where a receipt's version stands.
const VERSION_AT: usize = 21;

/// Handles a SIGN_RESPONSE for a usage.
pub(crate) fn signed(desk: &Desk, data: &[u8]) {
    let usage = &desk.usage;
    let which = match usage.step() {
        step::FIRST_SIGN => Which::Current,
        step::NEXT_SIGN => Which::Next,
        step::NEW_TX_SIGN => asking::of_new_transaction(usage),
        _ => return log::debug!("dropped a SIGN_RESPONSE: no receipt waits"),
    };
    asking::stop(desk);
    if ledger::is_offline(usage.net_id) {
        return machine::fail(desk, error_code::NETWORK_IS_OFFLINE);
    }
    let is_played = plays_the_sdk();
    if is_played && !is_taken_by_the_sdk(desk, which, data) {
        return;
    }
    let checked = if is_played { Ok(()) } else { check(desk, which, data) };
    if let Err(code) = checked {
        return machine::fail(desk, code);
    }
    // After 0x41 the SDK does not keep the signed copy.
    if !is_played || usage.step() != step::NEW_TX_SIGN {
        usage.set_receipt(which, Some(data));
    }
    machine::pay_service(desk);
    if usage.is_deleted() {
        if is_played {
            record(Fault::UsageFreedInPayment);
        }
        return;
    }
    if matches!(usage.step(), step::NEW_TX | step::TX | step::NORMAL) {
        desk.send_success(true);
    }
}

/// Whether what came is the receipt that was issued, with the signature of the key that owns the transaction.
fn check(desk: &Desk, which: Which, data: &[u8]) -> Result<(), u32> {
    let issued = desk.usage.receipt(which).ok_or(error_code::RECEIPT_CANT_FIND)?;
    let signed = check_signed(&issued, data)?;
    let hash = desk.usage.paying().ok_or(error_code::TX_COND_NOT_FOUND)?;
    let means = ledger::means(desk.usage.net_id, &hash).ok_or(error_code::TX_COND_NOT_FOUND)?;
    let client_key = desk.usage.fields().client_pkey_hash.raw;
    let is_owner = match &means.output {
        Some(output) => output.client_key == client_key,
        // Nothing can be paid, and nobody is the owner of it.
        None if means.is_used_up() => true,
        None => return Err(error_code::TX_COND_NO_COND_OUT),
    };
    let is_signed =
        receipt::key_hash(signed.signature) == Some(client_key) && receipt::verify(signed.signature, signed.info);
    if is_owner && is_signed { Ok(()) } else { Err(error_code::RECEIPT_WRONG_PKEY_HASH) }
}

/// The SDK's checks, in its order. It verifies no signature.
fn is_taken_by_the_sdk(desk: &Desk, which: Which, data: &[u8]) -> bool {
    let usage = &desk.usage;
    let fail = |code| {
        machine::fail(desk, code);
        false
    };
    if data.len() < ReceiptInfo::LEN {
        if usage.step() != step::NEW_TX_SIGN {
            usage.set_receipt(which, None);
        }
        host::log_bounded!(Warn, "a SIGN_RESPONSE of {} bytes deletes the receipt", data.len());
        return false;
    }
    if data.get(VERSION_AT) != Some(&2) {
        return fail(error_code::RECEIPT_WRONG_VERSION);
    }
    let Some(issued) = usage.receipt(which) else {
        // Nothing was issued: the packet before was too short.
        record(Fault::DeletedReceipt);
        return false;
    };
    if issued.get(1..1 + ReceiptInfo::LEN) != data.get(1..1 + ReceiptInfo::LEN) {
        return fail(error_code::RECEIPT_CANT_FIND);
    }
    let Some(means) = usage.paying().and_then(|hash| ledger::means(usage.net_id, &hash)) else {
        return fail(error_code::TX_COND_NOT_FOUND);
    };
    let Some(output) = means.output else { return fail(error_code::TX_COND_NO_COND_OUT) };
    if !Receipt::parse(data).is_ok_and(|receipt| receipt.signatures.len() == 2) {
        return fail(error_code::RECEIPT_NO_SIGN);
    }
    // The key that the client names is compared, its signature is not verified.
    if usage.fields().client_pkey_hash.raw != output.client_key {
        return fail(error_code::RECEIPT_WRONG_PKEY_HASH);
    }
    true
}

/// Handles 0x41, a new transaction, for a usage. `is_known` tells whether the service that it names exists.
pub(crate) fn new_transaction(desk: &Desk, request: &Request, is_known: bool) {
    let usage = &desk.usage;
    if usage.step() != step::NEW_TX {
        return host::log_bounded!(Info, "dropped a new transaction: none is expected");
    }
    if plays_the_sdk() && !is_known {
        return record(Fault::NoService);
    }
    if !plays_the_sdk() && (request.srv_uid, request.net_id) != (usage.service.uid(), usage.net_id) {
        return host::log_bounded!(Info, "dropped a new transaction: it is for another service or network");
    }
    if let Some(item) = grace::of(usage) {
        if request.tx_cond == [0; 32] {
            item.stop_timer();
            item.free();
            return machine::fail(desk, error_code::TX_COND_NO_NEW_COND);
        }
        usage.fields().tx_cond_hash.set(dap_hash_fast { raw: request.tx_cond });
        if ledger::means(usage.net_id, &request.tx_cond).is_some() {
            if plays_the_sdk() {
                // The item is freed, its timer is not.
                item.free();
                ask_with_the_old_receipt(desk);
            } else {
                grace::stop(usage);
                usage.set_paying(Some(request.tx_cond));
                machine::ask_for_new_transaction(desk);
            }
        } else {
            usage.set_step(step::NEW_TX_IN_LEDGER);
            item.wait_for(request.tx_cond);
        }
    }
    desk.send_success(false);
}

/// Whichever receipt is new, the SDK sends the current one.
fn ask_with_the_old_receipt(desk: &Desk) {
    let usage = &desk.usage;
    let Some(issued) = machine::issue(desk) else { return };
    usage.set_receipt(asking::of_new_transaction(usage), Some(&issued));
    usage.set_step(step::NEW_TX_SIGN);
    machine::ask_for_signature(desk);
    match usage.receipt(Which::Current) {
        Some(receipt) => desk.send(pkt::SIGN_REQUEST, &receipt),
        None => record(Fault::NoReceipt),
    }
}
