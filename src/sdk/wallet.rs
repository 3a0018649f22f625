//! The node's wallets.

use std::ffi::CString;

use super::net::Net;
use super::raw;

/// Whether the node can open the wallet.
pub fn exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    // SAFETY: NUL-terminated.
    unsafe { raw::vpn_glue_wallet_exists(name.as_ptr()) }
}

/// Creates a conditional transaction that pays the VPN service by the byte; returns its hash, or `None` on failure.
pub fn conditional_transaction(net: &Net, wallet: &str, token: &str, value: u64) -> Option<[u8; 32]> {
    let (wallet, token) = (CString::new(wallet).ok()?, CString::new(token).ok()?);
    let mut hash = [0; 32];
    // SAFETY: a network of the node, NUL-terminated texts, 32 bytes are written.
    let made = unsafe {
        raw::vpn_glue_wallet_pay(net.raw(), wallet.as_ptr(), token.as_ptr(), value, raw::UNIT_BYTES, hash.as_mut_ptr())
    };
    made.then_some(hash)
}
