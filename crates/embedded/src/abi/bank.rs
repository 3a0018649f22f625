//! The ledger of the server that this process connects to: exported C functions that the Cellframe SDK does not have, as
//! its node has the network's ledger.
//!
//! They block until the server answers, at most for some seconds: do not call them on a worker.

use crate::bank::account::{self, BankError};
use crate::bank::purse;
use crate::ctypes::*;
use crate::cview::strings::{fill_c_array, malloc_copy, text};
use crate::ledger::free_order;
use crate::net;
use crate::panics::guard;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use vpn_core::money::bank::{ChainState, Prices};

/// Connects to the bank of a server, whose ledger is the network's from now on, and reads its prices. Returns 0; the errno
/// of a connection that failed; with a sentence in `why` (of `why_size` bytes) -1 if the server refuses, and -2 if it does
/// not answer or not now. -1 also if an argument is NULL.
///
/// # Safety
/// Blocks; may be called from any thread but a worker. `net` is compared, not followed; `host` is NULL or NUL-terminated,
/// `why` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_open(
    net: *const dap_chain_net_t,
    host: *const c_char,
    port: u16,
    why: *mut c_char,
    why_size: usize,
) -> c_int {
    // SAFETY: NULL or NUL-terminated, by the caller's promise; it is read during the call.
    let host = unsafe { text(host) };
    // SAFETY: NULL or writable, by the caller's promise.
    let why = unsafe { buffer(why, why_size) };
    guard("dap_embedded_bank_open", -1, || {
        let (Some(net), Some(host)) = (net::find_by_ptr(net), host) else {
            log::error!("dap_embedded_bank_open: expected a network and a host");
            return -1;
        };
        match account::open(net.id(), host, port) {
            Ok(()) => 0,
            Err(BankError::Unreachable { errno, .. }) => errno,
            Err(error) => {
                let may_pass = error.may_pass();
                let sentence = match error {
                    BankError::Refused { reason, .. } => reason,
                    BankError::NoAnswer { reason, .. } => format!("its ledger does not answer: {reason}"),
                    error => error.to_string(),
                };
                fill_c_array(why, sentence.as_bytes());
                if may_pass { -2 } else { -1 }
            }
        }
    })
}

/// Writes the fingerprint of the server whose ledger is the network's; false if [`dap_embedded_bank_open`] has not
/// succeeded yet.
///
/// # Safety
/// May be called from any thread. `net` is compared, not followed; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_identity(net: *const dap_chain_net_t, out: *mut dap_hash_fast_t) -> bool {
    guard("dap_embedded_bank_identity", false, || {
        // SAFETY: NULL or writable, by the caller's promise.
        let (Some(net), Some(out)) = (net::find_by_ptr(net), unsafe { out.as_mut() }) else { return false };
        let identity = account::identity(net.id());
        identity.is_ok_and(|identity| {
            out.raw = identity;
            true
        })
    })
}

/// Calls back for each order of the server whose ledger is the network's, the free one first if it gives its service
/// away. Without such a server it is the free order alone.
///
/// # Safety
/// May be called from any thread. `net` is compared, not followed; `callback` is NULL or takes `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_orders(
    net: *const dap_chain_net_t,
    callback: dap_embedded_offer_callback_t,
    context: *mut c_void,
) {
    guard("dap_embedded_bank_orders", (), || {
        let (Some(net), Some(callback)) = (net::find_by_ptr(net), callback) else { return };
        // Without a server, and with one that has no bank, nobody knows of a price.
        let prices =
            account::prices(net.id()).ok().flatten().unwrap_or(Prices { gives_free: true, ..Prices::default() });
        let free = (free_order(net.id()), 0, 0, 0, net.native_ticker().to_owned());
        let sold = prices.offers.iter();
        let sold = sold.map(|offer| (offer.hash, offer.value, offer.units, offer.unit, offer.token.to_string()));
        for (hash, value, units, unit, token) in prices.gives_free.then_some(free).into_iter().chain(sold) {
            let Ok(token) = CString::new(token) else { continue };
            let hash = dap_hash_fast { raw: hash };
            let offer = dap_embedded_offer { hash, value: saturated(value), units, unit, token: token.as_ptr() };
            // SAFETY: the caller's callback with its context; the order lives during the call.
            unsafe { callback(context, &offer) };
        }
    });
}

/// Returns what a payment costs beside its value in the ledger of the server, in datoshi; UINT64_MAX if it is more; 0
/// without a server.
///
/// # Safety
/// May be called from any thread. `net` is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_fee(net: *const dap_chain_net_t) -> u64 {
    guard("dap_embedded_bank_fee", 0, || {
        let prices = net::find_by_ptr(net).and_then(|net| account::prices(net.id()).ok().flatten());
        prices.map_or(0, |prices| saturated(prices.payment_fee))
    })
}

/// Follows the chain of payments from a transaction in the ledger of the server. Returns one of `DAP_EMBEDDED_CHAIN_*`,
/// and writes `out` for `DAP_EMBEDDED_CHAIN_OPEN`.
///
/// # Safety
/// Blocks; may be called from any thread but a worker. `net` is compared, not followed; `hash` is NULL or a hash, `out` is
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_chain(
    net: *const dap_chain_net_t,
    hash: *const dap_hash_fast_t,
    out: *mut dap_embedded_chain_t,
) -> c_int {
    guard("dap_embedded_bank_chain", DAP_EMBEDDED_CHAIN_UNAVAILABLE, || {
        // SAFETY: NULL or a hash, by the caller's promise.
        let hash = unsafe { hash.as_ref() };
        let (Some(net), Some(hash), false) = (net::find_by_ptr(net), hash, out.is_null()) else {
            return DAP_EMBEDDED_CHAIN_UNAVAILABLE;
        };
        match account::chain(net.id(), &hash.raw) {
            Ok(ChainState::Unknown) => DAP_EMBEDDED_CHAIN_UNKNOWN,
            Ok(ChainState::Spent) => DAP_EMBEDDED_CHAIN_SPENT,
            Ok(ChainState::Open(left)) => {
                let mut token = [0; 16];
                fill_c_array(&mut token, left.token.as_str().as_bytes());
                let chain = dap_embedded_chain {
                    last: dap_hash_fast { raw: left.last },
                    key_hash: dap_hash_fast { raw: left.key_hash },
                    value: saturated(left.value),
                    fee: saturated(left.fee),
                    max_unit_price: saturated(left.max_unit_price),
                    unit: left.unit,
                    token,
                };
                // SAFETY: not NULL, and writable by the caller's promise.
                unsafe { out.write(chain) };
                DAP_EMBEDDED_CHAIN_OPEN
            }
            Err(error) => {
                host::log_bounded!(Warn, "{error}");
                DAP_EMBEDDED_CHAIN_UNAVAILABLE
            }
        }
    })
}

/// Makes a conditional transaction that pays the VPN service by `unit` out of a wallet of the state directory, and enters
/// it into the ledger of the server; writes its hash. False, with a sentence in `why` (of `why_size` bytes), if that is
/// not possible, or an argument is NULL.
///
/// # Safety
/// Blocks; may be called from any thread but a worker. `net` is compared, not followed; the texts are NULL or
/// NUL-terminated, `out` and `why` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_pay(
    net: *const dap_chain_net_t,
    wallet: *const c_char,
    token: *const c_char,
    value: u64,
    fee: u64,
    unit: u32,
    out: *mut dap_hash_fast_t,
    why: *mut c_char,
    why_size: usize,
) -> bool {
    // SAFETY: NULL or NUL-terminated, by the caller's promise; it is read during the call.
    let wallet = unsafe { text(wallet) };
    // SAFETY: as above.
    let token = unsafe { text(token) };
    // SAFETY: NULL or writable, by the caller's promise.
    let why = unsafe { buffer(why, why_size) };
    guard("dap_embedded_bank_pay", false, || {
        // SAFETY: NULL or writable, by the caller's promise.
        let out = unsafe { out.as_mut() };
        let (Some(net), Some(wallet), Some(token), Some(out)) = (net::find_by_ptr(net), wallet, token, out) else {
            log::error!("dap_embedded_bank_pay: expected a network, a wallet, a token and a hash to write");
            return false;
        };
        match purse::pay(net, wallet, token, &purse::Terms { value: value.into(), fee: fee.into(), unit }) {
            Ok(hash) => {
                out.raw = hash;
                true
            }
            Err(error) => {
                fill_c_array(why, error.to_string().as_bytes());
                false
            }
        }
    })
}

/// Closes a chain of payments in the server's ledger: returns the rest to the wallet of the state directory that made its
/// first transaction, which `hash` names. False, and a line in the log, if that is not possible or an argument is NULL.
///
/// # Safety
/// Blocks; may be called from any thread but a worker. `net` is compared, not followed; `wallet` is NULL or
/// NUL-terminated, `hash` is NULL or a hash.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_bank_close(
    net: *const dap_chain_net_t,
    wallet: *const c_char,
    hash: *const dap_hash_fast_t,
) -> bool {
    // SAFETY: NULL or NUL-terminated, by the caller's promise; it is read during the call.
    let wallet = unsafe { text(wallet) };
    guard("dap_embedded_bank_close", false, || {
        // SAFETY: NULL or a hash, by the caller's promise.
        let hash = unsafe { hash.as_ref() };
        let (Some(net), Some(wallet), Some(hash)) = (net::find_by_ptr(net), wallet, hash) else { return false };
        match purse::close(net, wallet, &hash.raw) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("what is left of a transaction cannot be taken back: {error}");
                false
            }
        }
    })
}

/// Writes the hash of the key of a wallet of the state directory; false, and a line in the log, if it cannot be opened.
///
/// # Safety
/// May be called from any thread. `name` is NULL or NUL-terminated, `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_wallet_key_hash(name: *const c_char, out: *mut dap_hash_fast_t) -> bool {
    // SAFETY: NULL or NUL-terminated, by the caller's promise; it is read during the call.
    let name = unsafe { text(name) };
    guard("dap_embedded_wallet_key_hash", false, || {
        // SAFETY: NULL or writable, by the caller's promise.
        let (Some(name), Some(out)) = (name, unsafe { out.as_mut() }) else { return false };
        match purse::open(name) {
            Ok(key) => {
                out.raw = key.hash();
                true
            }
            Err(error) => {
                log::warn!("{error}");
                false
            }
        }
    })
}

/// Signs `size` bytes of data with the key of a wallet of the state directory. The caller frees the signature; NULL, and a
/// line in the log, on failure.
///
/// # Safety
/// May be called from any thread. `name` is NULL or NUL-terminated, `data` is NULL or readable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_wallet_sign(
    name: *const c_char,
    data: *const c_void,
    size: usize,
) -> *mut dap_sign_t {
    // SAFETY: NULL or NUL-terminated, by the caller's promise; it is read during the call.
    let name = unsafe { text(name) };
    guard("dap_embedded_wallet_sign", ptr::null_mut(), || {
        let (Some(name), false) = (name, data.is_null()) else { return ptr::null_mut() };
        // SAFETY: not NULL, and readable for `size` bytes by the caller's promise.
        let data = unsafe { slice::from_raw_parts(data.cast::<u8>(), size) };
        let signature = purse::open(name).map_err(|error| error.to_string());
        match signature.and_then(|key| key.sign(data).map_err(|error| error.to_string())) {
            Ok(signature) => malloc_copy(&signature).cast(),
            Err(error) => {
                log::warn!("{error}");
                ptr::null_mut()
            }
        }
    })
}

fn saturated(value: u128) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

/// The caller's buffer; empty for NULL.
///
/// # Safety
/// `text` is NULL or writable for `size` bytes, which nothing else uses meanwhile.
unsafe fn buffer<'a>(text: *mut c_char, size: usize) -> &'a mut [c_char] {
    if text.is_null() {
        return &mut [];
    }
    // SAFETY: not NULL, and writable for `size` bytes by the caller's promise.
    unsafe { slice::from_raw_parts_mut(text, size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that lack an argument, or a server, fail and write nothing.
    #[test]
    #[allow(clippy::multiple_unsafe_ops_per_block, reason = "all with the same arguments")]
    fn null_is_answered() {
        let (no_net, no_text, no_hash): (*const dap_chain_net_t, *const c_char, *mut dap_hash_fast_t) =
            (ptr::null(), ptr::null(), ptr::null_mut());
        let net = net::find_by_name("backbone").unwrap().as_ptr();
        let (mut hash, mut left) = (dap_hash_fast { raw: [7; 32] }, chain());
        // SAFETY: NULL is allowed everywhere, and what is not NULL is this test's own or the SDK's.
        unsafe {
            assert_eq!(dap_embedded_bank_open(no_net, no_text, 1, ptr::null_mut(), 0), -1);
            assert_eq!(dap_embedded_bank_open(net, no_text, 1, ptr::null_mut(), 0), -1);
            assert!(!dap_embedded_bank_identity(no_net, &raw mut hash) && !dap_embedded_bank_identity(net, no_hash));
            assert!(!dap_embedded_bank_identity(net, &raw mut hash), "no server was opened");
            dap_embedded_bank_orders(no_net, None, ptr::null_mut());
            dap_embedded_bank_orders(net, None, ptr::null_mut());
            assert_eq!((dap_embedded_bank_fee(no_net), dap_embedded_bank_fee(net)), (0, 0));
            for out in [ptr::null_mut(), &raw mut left] {
                assert_eq!(dap_embedded_bank_chain(net, &raw const hash, out), DAP_EMBEDDED_CHAIN_UNAVAILABLE);
                assert_eq!(dap_embedded_bank_chain(net, no_hash, out), DAP_EMBEDDED_CHAIN_UNAVAILABLE);
            }
            assert!(!dap_embedded_bank_pay(net, no_text, no_text, 1, 0, 2, &raw mut hash, ptr::null_mut(), 0));
            assert!(!dap_embedded_bank_close(net, no_text, &raw const hash));
            assert!(!dap_embedded_wallet_key_hash(no_text, &raw mut hash));
            assert!(dap_embedded_wallet_sign(no_text, ptr::null(), 0).is_null());
            assert!(dap_embedded_wallet_sign(c"purse".as_ptr(), ptr::null(), 0).is_null());
        }
        assert_eq!(hash.raw, [7; 32]);
    }

    fn chain() -> dap_embedded_chain_t {
        let none = dap_hash_fast { raw: [0; 32] };
        dap_embedded_chain { last: none, key_hash: none, value: 0, fee: 0, max_unit_price: 0, unit: 0, token: [0; 16] }
    }
}
