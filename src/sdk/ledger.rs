//! The ledger: service tags, orders and transactions as means of payment, signatures of receipts. Any thread.

use super::net::Net;
use super::raw;
use super::usage::{OrderTerms, RECEIPT_MAX, TransactionTerms};
use vpn_core::wire::ReceiptInfo;

/// Registers the VPN's tag; returns 0, or the ledger's code.
pub fn register_tag() -> i32 {
    // SAFETY: no arguments; the check function and the tag are static.
    unsafe { raw::vpn_glue_ledger_tag_register() }
}

impl Net {
    /// Returns whether the node is not connected to the network.
    pub fn is_offline(&self) -> bool {
        // SAFETY: a network of the node, see Net.
        unsafe { raw::vpn_glue_net_is_offline(self.raw()) }
    }

    /// Returns whether `[srv_vpn] wallet_addr` is an address in this network, which is paid; true where none is needed.
    pub fn has_payee(&self) -> bool {
        // SAFETY: a network of the node, see Net.
        unsafe { raw::vpn_glue_net_has_payee(self.raw()) }
    }

    /// Returns whether the node's role allows it to serve: master or above.
    pub fn role_serves(&self) -> bool {
        // SAFETY: a network of the node, see Net.
        unsafe { raw::vpn_glue_net_role(self.raw()) <= raw::ROLE_MASTER }
    }

    /// Returns the terms of an order; `None` if the network does not know it, or it has expired.
    pub fn order_terms(&self, hash: &[u8; 32]) -> Option<OrderTerms> {
        let mut terms = OrderTerms::default();
        // SAFETY: a network of the node; 32 bytes; terms is writable.
        unsafe { raw::vpn_glue_order_terms(self.raw(), hash.as_ptr(), &mut terms) }.then_some(terms)
    }

    /// Returns a transaction as the means to pay for an order; `None` if the ledger does not have it.
    pub fn transaction_terms(&self, hash: &[u8; 32], order: &OrderTerms) -> Option<TransactionTerms> {
        let mut terms = TransactionTerms::default();
        let (net, value, units) = (self.raw(), order.value.as_ptr(), order.units);
        // SAFETY: a network of the node; 32 bytes each; terms is writable.
        unsafe { raw::vpn_glue_transaction_terms(net, hash.as_ptr(), value, units, &mut terms) }.then_some(terms)
    }

    /// Returns whether the ledger has a transaction.
    pub fn has_transaction(&self, hash: &[u8; 32]) -> bool {
        // SAFETY: a network of the node; 32 bytes.
        unsafe { raw::vpn_glue_ledger_has(self.raw(), hash.as_ptr()) }
    }
}

/// Returns whether the SDK takes the last transaction of the chain of payments that REQUEST names: it then treats a chain
/// that holds nothing any more as an unknown transaction, a rest or not.
pub fn billing_follows_chains() -> bool {
    // SAFETY: no arguments.
    unsafe { raw::vpn_glue_billing_follows_chains() }
}

/// Returns whether a signature over a receipt is of the key with this hash.
pub fn is_signed_by(signature: &[u8], info: &[u8; ReceiptInfo::LEN], key: &[u8; 32]) -> bool {
    // SAFETY: the lengths are those of the slices and arrays.
    unsafe { raw::vpn_glue_signature_check(signature.as_ptr(), signature.len(), info.as_ptr(), key.as_ptr()) }
}

/// Returns a receipt over nothing, signed by this node, with a nonce in place of the transaction: the client proves by
/// its signature that it has its key. `None` if the node has no key to sign with.
pub fn proof_receipt(unit: u32, nonce: &[u8; 32]) -> Option<Vec<u8>> {
    let mut receipt = vec![0; RECEIPT_MAX];
    // SAFETY: 32 bytes; at most the vector's length is written.
    let size = unsafe { raw::vpn_glue_proof_receipt(unit, nonce.as_ptr(), receipt.as_mut_ptr(), receipt.len()) };
    receipt.truncate(size);
    (!receipt.is_empty()).then_some(receipt)
}
