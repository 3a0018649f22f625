//! Ledger tags and conditional outputs.

use super::base::{dap_chain_net_srv_uid, dap_hash_fast, dap_list};
use super::receipt::uint256;

/// Opaque.
pub struct dap_ledger;
pub type dap_ledger_t = dap_ledger;
/// Opaque.
pub struct dap_chain_datum_tx;
pub type dap_chain_datum_tx_t = dap_chain_datum_tx;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_tx_out_cond_subtype {
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_UNDEFINED = 0x0,
    DAP_CHAIN_TX_OUT_COND_SUBTYPE_SRV_PAY = 0x1,
}

#[repr(C)]
pub struct dap_chain_tx_out_cond_header {
    pub subtype: u8,
    pub srv_uid: dap_chain_net_srv_uid,
}

#[repr(C)]
pub struct dap_chain_tx_out_cond {
    pub header: dap_chain_tx_out_cond_header,
}
pub type dap_chain_tx_out_cond_t = dap_chain_tx_out_cond;

#[repr(C)]
pub struct dap_chain_tx_in_cond {
    pub tx_prev_hash: dap_hash_fast,
    pub tx_out_prev_idx: u32,
}
pub type dap_chain_tx_in_cond_t = dap_chain_tx_in_cond;

#[repr(C)]
pub struct dap_chain_datum_tx_item_groups {
    pub items_in_cond: *mut dap_list,
    pub items_out_cond_srv_pay: *mut dap_list,
}
pub type dap_chain_datum_tx_item_groups_t = dap_chain_datum_tx_item_groups;

pub type dap_chain_tx_tag_action_type_t = u32;
pub const DAP_CHAIN_TX_TAG_ACTION_OPEN: u32 = 1 << 6;
pub const DAP_CHAIN_TX_TAG_ACTION_USE: u32 = 1 << 7;

pub type dap_ledger_tag_check_callback_t = Option<
    unsafe extern "C" fn(
        *mut dap_ledger,
        *mut dap_chain_datum_tx,
        *mut dap_chain_datum_tx_item_groups,
        *mut dap_chain_tx_tag_action_type_t,
    ) -> bool,
>;

/// An order of this node.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_embedded_order {
    /// The value of one receipt; 0 if the service is free.
    pub value: uint256,
    /// The units of one receipt.
    pub units: u64,
    pub unit: u32,
    /// This node's key has signed it.
    pub is_ours: bool,
    /// The price is in the network's own token.
    pub is_native: bool,
}
pub type dap_embedded_order_t = dap_embedded_order;

/// A transaction in the ledger, as a means to pay.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_embedded_transaction {
    /// The first transaction of its chain of payments.
    pub first: dap_hash_fast,
    /// The last one, which nothing has spent; zeros if it holds nothing.
    pub last: dap_hash_fast,
    /// It holds something, or did before it was spent; if not, all that follows is 0.
    pub has_output: bool,
    /// It holds the value and the fees of one payment.
    pub is_enough: bool,
    /// The price of a unit is within its limit.
    pub fits_max_price: bool,
    /// It holds the network's own token.
    pub is_native: bool,
    pub unit: u32,
    pub srv_uid: dap_chain_net_srv_uid,
    /// The hash of the key that signs receipts.
    pub client_key: dap_hash_fast,
}
pub type dap_embedded_transaction_t = dap_embedded_transaction;
