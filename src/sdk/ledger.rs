//! The ledger's service tags.

use super::raw;

/// Registers the VPN's tag; returns 0, or the ledger's code.
pub fn register_tag() -> i32 {
    // SAFETY: no arguments; the check function and the tag are static.
    unsafe { raw::vpn_glue_ledger_tag_register() }
}
