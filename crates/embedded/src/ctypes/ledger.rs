//! Ledger tags and conditional outputs.

use super::base::{dap_chain_net_srv_uid, dap_hash_fast, dap_list};

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
