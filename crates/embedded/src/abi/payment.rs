//! Orders and transactions as means of payment: exported C functions that the Cellframe SDK does not have.

use crate::ctypes::*;
use crate::ledger;
use crate::net;
use crate::panics::guard;

/// Looks up an order of this node in a network, the free one or a priced one. False, and nothing is written, if it is
/// unknown or an argument is NULL.
///
/// # Safety
/// May be called from any thread. `net` is compared, not followed; `hash` is NULL or a hash, `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_order_find(
    net: *const dap_chain_net_t,
    hash: *const dap_hash_fast_t,
    out: *mut dap_embedded_order_t,
) -> bool {
    guard("dap_embedded_order_find", false, || {
        // SAFETY: NULL or a hash, by the caller's promise.
        let hash = unsafe { hash.as_ref() };
        // SAFETY: NULL or writable, by the caller's promise.
        let out = unsafe { out.as_mut() };
        let (Some(net), Some(hash), Some(out)) = (net::find_by_ptr(net), hash, out) else { return false };
        let Some(order) = ledger::order(net, &hash.raw) else { return false };
        *out = dap_embedded_order {
            value: uint256 { bytes: ledger::value_bytes(order.value) },
            units: order.units,
            unit: order.unit,
            is_ours: order.is_ours,
            is_native: order.token == net.native_ticker(),
        };
        true
    })
}

/// Looks up a transaction in a network's ledger, as a means to pay `value` for `units`. False, and nothing is written,
/// if the ledger does not have it or an argument is NULL.
///
/// # Safety
/// May be called from any thread. `net` is compared, not followed; `hash` and `value` are NULL or readable, `out` is
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_transaction_find(
    net: *const dap_chain_net_t,
    hash: *const dap_hash_fast_t,
    value: *const uint256_t,
    units: u64,
    out: *mut dap_embedded_transaction_t,
) -> bool {
    guard("dap_embedded_transaction_find", false, || {
        // SAFETY: NULL or a hash, by the caller's promise.
        let hash = unsafe { hash.as_ref() };
        // SAFETY: NULL or readable, by the caller's promise.
        let value = unsafe { value.as_ref() };
        // SAFETY: NULL or writable, by the caller's promise.
        let out = unsafe { out.as_mut() };
        let (Some(net), Some(hash), Some(value), Some(out)) = (net::find_by_ptr(net), hash, value, out) else {
            return false;
        };
        let Some(means) = ledger::means(net.id(), &hash.raw) else { return false };
        *out = dap_embedded_transaction {
            first: dap_hash_fast { raw: means.first },
            last: dap_hash_fast { raw: means.last.unwrap_or([0; 32]) },
            has_output: means.output.is_some(),
            is_enough: false,
            fits_max_price: false,
            is_native: false,
            unit: 0,
            srv_uid: dap_chain_net_srv_uid { uint64: 0 },
            client_key: dap_hash_fast { raw: [0; 32] },
        };
        if let Some(output) = means.output {
            let value = ledger::value_of(&value.bytes);
            let unit_price = value.and_then(|value| value.checked_div(units.into()));
            out.is_enough = value.is_some_and(|value| ledger::is_enough(net.id(), &output, value));
            out.fits_max_price =
                unit_price.is_some_and(|price| output.max_unit_price == 0 || price <= output.max_unit_price);
            out.is_native = output.token == net.native_ticker();
            out.unit = output.unit;
            out.srv_uid.uint64 = output.srv_uid;
            out.client_key.raw = output.client_key;
        }
        true
    })
}

/// Returns whether this node is not connected to a network; false for NULL.
///
/// # Safety
/// May be called from any thread; `net` is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_net_is_offline(net: *const dap_chain_net_t) -> bool {
    guard("dap_embedded_net_is_offline", false, || {
        net::find_by_ptr(net).is_some_and(|net| ledger::is_offline(net.id()))
    })
}

/// Returns whether the billing takes the last transaction of the chain of payments that REQUEST names, and knows none if
/// that one holds nothing. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn dap_embedded_billing_follows_chains() -> bool {
    ledger::follows_chains()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn null_is_answered() {
        let (net, hash) = (ptr::null(), ptr::null());
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_embedded_order_find(net, hash, ptr::null_mut()) });
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_embedded_transaction_find(net, hash, ptr::null(), 1, ptr::null_mut()) });
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_embedded_net_is_offline(net) });
    }
}
