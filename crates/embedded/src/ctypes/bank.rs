//! What a bank tells C: the orders of a server and the state of a chain of payments.

use super::base::dap_hash_fast;
use std::ffi::{c_char, c_int, c_void};
/// An order of the server whose ledger this process asks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_embedded_offer {
    pub hash: dap_hash_fast,
    /// What `units` cost, in datoshi; UINT64_MAX if it is more; 0 if the service is free.
    pub value: u64,
    /// The units of one receipt.
    pub units: u64,
    pub unit: u32,
    /// The token's ticker; valid during the callback.
    pub token: *const c_char,
}
pub type dap_embedded_offer_t = dap_embedded_offer;

/// Called for each order.
pub type dap_embedded_offer_callback_t =
    Option<unsafe extern "C" fn(context: *mut c_void, offer: *const dap_embedded_offer)>;

/// What is left in a chain of payments.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_embedded_chain {
    /// The last transaction, which the next payment spends.
    pub last: dap_hash_fast,
    /// The hash of the key that may spend it.
    pub key_hash: dap_hash_fast,
    /// What it holds, in datoshi; UINT64_MAX if it is more.
    pub value: u64,
    /// What a payment costs beside its value, in datoshi.
    pub fee: u64,
    /// The most that a unit may cost, in datoshi; 0 for no limit.
    pub max_unit_price: u64,
    pub unit: u32,
    /// The token's ticker, NUL-terminated.
    pub token: [c_char; 16],
}
pub type dap_embedded_chain_t = dap_embedded_chain;

/// The server's ledger cannot be asked at present.
pub const DAP_EMBEDDED_CHAIN_UNAVAILABLE: c_int = -1;
/// The ledger does not have the transaction.
pub const DAP_EMBEDDED_CHAIN_UNKNOWN: c_int = 0;
/// Nothing is left.
pub const DAP_EMBEDDED_CHAIN_SPENT: c_int = 1;
/// Something is left.
pub const DAP_EMBEDDED_CHAIN_OPEN: c_int = 2;
