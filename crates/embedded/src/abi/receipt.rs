//! Receipts and signatures: the exported C functions.

use crate::ctypes::*;
use crate::cview::strings::malloc_copy;
use crate::panics::guard;
use crate::receipt;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use vpn_core::wire::{Receipt, ReceiptInfo};

/// Returns a signature's size with its header and its key, as the header tells it; 0 for NULL.
///
/// # Safety
/// May be called from any thread; `sign` is NULL or points to a signature's header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_sign_get_size(sign: *mut dap_sign_t) -> u64 {
    guard("dap_sign_get_size", 0, || {
        // SAFETY: NULL or a header, by the caller's promise; any bytes are one.
        let header = unsafe { sign.cast::<[u8; size_of::<dap_sign_hdr_t>()]>().as_ref() };
        header.and_then(receipt::length).unwrap_or(0) as u64
    })
}

/// Checks a signature of `size_max` bytes at most over `size` bytes of data: 0 if it is good, -1 if not, -2 if the
/// sizes in its header do not fit.
///
/// # Safety
/// May be called from any thread; `sign` is NULL or readable for `size_max` bytes, `data` for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_sign_verify_all(
    sign: *mut dap_sign_t,
    size_max: usize,
    data: *const c_void,
    size: usize,
) -> c_int {
    guard("dap_sign_verify_all", -1, || {
        // SAFETY: NULL or readable, by the caller's promise.
        let Some(signature) = (unsafe { signature(sign, size_max) }) else { return -2 };
        if data.is_null() {
            return -1;
        }
        // SAFETY: not NULL, and readable for `size` bytes by the caller's promise.
        let data = unsafe { slice::from_raw_parts(data.cast::<u8>(), size) };
        if receipt::verify(signature, data) { 0 } else { -1 }
    })
}

/// Writes the hash of the key in a signature; false for NULL. A signer may have put a hash in the key's place
/// (`hash_type`), which is then written as it is.
///
/// # Safety
/// May be called from any thread; `sign` is NULL or a whole signature, `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_sign_get_pkey_hash(sign: *mut dap_sign_t, out: *mut dap_chain_hash_fast_t) -> bool {
    guard("dap_sign_get_pkey_hash", false, || {
        // SAFETY: NULL or a whole signature, by the caller's promise.
        let size = usize::try_from(unsafe { dap_sign_get_size(sign) }).unwrap_or(0);
        // SAFETY: NULL or a whole signature, which has as many bytes as its header tells.
        let hash = unsafe { signature(sign, size) }.and_then(receipt::key_hash);
        // SAFETY: NULL or writable, by the caller's promise.
        let (Some(hash), Some(out)) = (hash, unsafe { out.as_mut() }) else { return false };
        out.raw = hash;
        true
    })
}

/// Returns the signature of a receipt at a position: 0 is the server's, 1 the client's. NULL unless the receipt has
/// exactly two, and `size` is the size that it states.
///
/// # Safety
/// May be called from any thread; `receipt` is NULL or readable for `size` bytes, and so is the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_datum_tx_receipt_sign_get(
    receipt: *mut dap_chain_datum_tx_receipt_t,
    size: usize,
    position: u16,
) -> *mut dap_sign_t {
    guard("dap_chain_datum_tx_receipt_sign_get", ptr::null_mut(), || {
        if receipt.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: not NULL, and readable for `size` bytes by the caller's promise.
        let bytes = unsafe { slice::from_raw_parts(receipt.cast::<u8>(), size) };
        let Ok(parsed) = Receipt::parse(bytes) else { return ptr::null_mut() };
        if parsed.signatures.len() != 2 {
            return ptr::null_mut();
        }
        let Some(found) = parsed.signatures.get(usize::from(position)) else { return ptr::null_mut() };
        let offset = found.as_ptr().addr() - bytes.as_ptr().addr();
        // SAFETY: the signature is a part of the same bytes.
        unsafe { receipt.cast::<u8>().add(offset) }.cast()
    })
}

/// Issues a receipt of a price, to be paid out of a transaction, signed by the node's key. The caller frees it; NULL on
/// failure. Extensions are not supported.
///
/// # Safety
/// May be called from any thread. `srv` is NULL or a service that is alive, `price` is NULL or points to a price,
/// `prev_tx_hash` is NULL or points to a hash.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_issue_receipt(
    srv: *mut dap_chain_net_srv_t,
    price: *mut dap_chain_net_srv_price_t,
    ext: *const c_void,
    ext_size: usize,
    prev_tx_hash: *mut dap_hash_fast_t,
) -> *mut dap_chain_datum_tx_receipt_t {
    guard("dap_chain_net_srv_issue_receipt", ptr::null_mut(), || {
        // SAFETY: NULL or alive, by the caller's promise; a service's uid never changes.
        let srv = unsafe { srv.as_ref() };
        // SAFETY: NULL or readable, by the caller's promise.
        let price = unsafe { price.as_ref() };
        // SAFETY: NULL or readable, by the caller's promise.
        let prev_tx = unsafe { prev_tx_hash.as_ref() };
        let (Some(srv), Some(price), Some(prev_tx), true) = (srv, price, prev_tx, ext.is_null() && ext_size == 0)
        else {
            log::error!("dap_chain_net_srv_issue_receipt: expected a service, a price and a hash, and no extension");
            return ptr::null_mut();
        };
        let info = ReceiptInfo {
            srv_uid: srv.uid.uint64,
            units_type: price.units_uid.enm,
            version: 2,
            units: price.units,
            value: price.value_datoshi.bytes,
            prev_tx: prev_tx.raw,
        };
        let issued = receipt::node_key().and_then(|key| key.issue(&info).ok());
        issued.map_or(ptr::null_mut(), |issued| malloc_copy(&issued).cast())
    })
}

/// # Safety
/// `sign` is NULL or readable for `size_max` bytes.
unsafe fn signature<'a>(sign: *const dap_sign_t, size_max: usize) -> Option<&'a [u8]> {
    if sign.is_null() || size_max < size_of::<dap_sign_t>() {
        return None;
    }
    // SAFETY: not NULL, and readable for that many bytes by the caller's promise.
    let bytes = unsafe { slice::from_raw_parts(sign.cast::<u8>(), size_max) };
    bytes.get(..receipt::length(bytes.first_chunk()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_answered() {
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_sign_get_size(ptr::null_mut()) }, 0);
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_sign_verify_all(ptr::null_mut(), 100, ptr::null(), 0) }, -2);
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_sign_get_pkey_hash(ptr::null_mut(), ptr::null_mut()) });
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_chain_datum_tx_receipt_sign_get(ptr::null_mut(), 113, 0) }.is_null());
        let (srv, price, hash) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_chain_net_srv_issue_receipt(srv, price, ptr::null(), 0, hash) }.is_null());
    }

    #[test]
    fn signatures_of_a_receipt_are_found_and_checked() {
        let (server, client) = (receipt::Key::generate().unwrap(), receipt::Key::generate().unwrap());
        let info = ReceiptInfo { version: 2, ..ReceiptInfo::default() };
        let mut bytes = client.add_to(&server.issue(&info).unwrap()).unwrap();
        let signed = bytes[1..1 + ReceiptInfo::LEN].to_vec();
        let size = bytes.len();
        let whole = bytes.as_mut_ptr().cast::<dap_chain_datum_tx_receipt_t>();
        let find = |size, position| {
            // SAFETY: the receipt is this test's own, and not shorter than `size`.
            unsafe { dap_chain_datum_tx_receipt_sign_get(whole, size, position) }
        };
        for (position, key) in [server, client].iter().enumerate() {
            let sign = find(size, u16::try_from(position).unwrap());
            // SAFETY: a signature in the receipt.
            assert_eq!(unsafe { dap_sign_get_size(sign) }, receipt::SIGNATURE_LEN as u64);
            let check = |size_max, size| {
                // SAFETY: a signature in the receipt; the signed bytes are this test's own.
                unsafe { dap_sign_verify_all(sign, size_max, signed.as_ptr().cast(), size) }
            };
            assert_eq!(check(receipt::SIGNATURE_LEN, signed.len()), 0);
            assert_eq!(check(receipt::SIGNATURE_LEN, signed.len() - 1), -1);
            assert_eq!(check(receipt::SIGNATURE_LEN - 1, signed.len()), -2);
            let mut hash = dap_hash_fast { raw: [0; 32] };
            // SAFETY: a signature in the receipt; the hash is this test's own.
            assert!(unsafe { dap_sign_get_pkey_hash(sign, &raw mut hash) });
            assert_eq!(hash.raw, key.hash());
        }
        assert!(find(size, 2).is_null() && find(size - 1, 0).is_null());
    }
}
