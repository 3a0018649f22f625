//! The SDK's hash.

use std::ffi::c_void;

use sha3::{Digest, Sha3_256};

use crate::ctypes::{DAP_CHAIN_HASH_FAST_SIZE, dap_hash_fast};
use crate::panics::guard;

/// Writes the SHA3-256 of `size` bytes at `data` to `hash`; false (logged) if a pointer is NULL or `size` is 0. Any
/// thread.
///
/// # Safety
/// `data` is NULL or has `size` readable bytes; `hash` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_hash_fast(data: *const c_void, size: usize, hash: *mut dap_hash_fast) -> bool {
    guard("dap_hash_fast", false, || {
        if data.is_null() || size == 0 || size > isize::MAX.cast_unsigned() || hash.is_null() {
            log::error!("dap_hash_fast: expected data, its size, and memory for the hash");
            return false;
        }
        // SAFETY: not NULL, and the caller promises `size` bytes, which fit a slice.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
        let raw: [u8; DAP_CHAIN_HASH_FAST_SIZE] = Sha3_256::digest(data).into();
        // SAFETY: not NULL, and the caller promises that it is writable.
        unsafe { hash.write(dap_hash_fast { raw }) };
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_answered() {
        let null = std::ptr::null_mut();
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_hash_fast(b"a".as_ptr().cast(), 1, std::ptr::null_mut()) });
        let mut hash = dap_hash_fast { raw: [0; 32] };
        // SAFETY: NULL is allowed.
        assert!(!unsafe { dap_hash_fast(null, 1, &mut hash) });
        // SAFETY: the pointers are valid.
        assert!(!unsafe { dap_hash_fast(b"a".as_ptr().cast(), 0, &mut hash) });
    }

    #[test]
    fn the_hash_is_sha3_256() {
        let mut hash = dap_hash_fast { raw: [0; 32] };
        // SAFETY: three bytes and a hash of this test's own.
        assert!(unsafe { dap_hash_fast(b"abc".as_ptr().cast(), 3, &mut hash) });
        // FIPS 202, example "abc".
        assert_eq!(hash.raw[..4], [0x3a, 0x98, 0x5d, 0xa7]);
    }
}
