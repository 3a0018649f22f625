//! Lengths, numbers and hashes that the other structs use.

use std::ffi::{c_int, c_void};

/// Most letters that a client may name when it opens a stream.
pub const DAP_STREAM_CHANNELS_MAX: usize = 15;
/// Length of an array for these letters and a NUL.
pub const DAP_STREAM_CHANNELS_SIZE: usize = 16;
pub const DAP_CHAIN_NET_NAME_MAX: usize = 134;
/// Length of an array for a name and a NUL.
pub const DAP_CHAIN_NET_NAME_SIZE: usize = 135;
pub const DAP_CHAIN_HASH_FAST_SIZE: usize = 32;
pub const DAP_CHAIN_TICKER_SIZE_MAX: usize = 10;
pub const DAP_HOSTADDR_STRLEN: usize = 0x100;

#[repr(C)]
pub struct dap_list {
    pub data: *mut c_void,
    pub next: *mut dap_list,
    pub prev: *mut dap_list,
}
pub type dap_list_t = dap_list;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_hash_fast {
    pub raw: [u8; DAP_CHAIN_HASH_FAST_SIZE],
}
pub type dap_hash_fast_t = dap_hash_fast;
pub type dap_chain_hash_fast_t = dap_hash_fast;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_id {
    pub uint64: u64,
}
pub type dap_chain_net_id_t = dap_chain_net_id;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_net_srv_uid {
    pub uint64: u64,
}
pub type dap_chain_net_srv_uid_t = dap_chain_net_srv_uid;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_node_addr {
    pub uint64: u64,
}
pub type dap_chain_node_addr_t = dap_chain_node_addr;

/// A configuration that was read. Opaque to C.
pub struct dap_config;
pub type dap_config_t = dap_config;

/// The type of a configuration's value.
pub type dap_config_item_type_t = c_int;
/// There is no such key.
pub const DAP_CONFIG_ITEM_UNKNOWN: dap_config_item_type_t = 0;
/// A list.
pub const DAP_CONFIG_ITEM_ARRAY: dap_config_item_type_t = 'a' as c_int;
/// `true` or `false`.
pub const DAP_CONFIG_ITEM_BOOL: dap_config_item_type_t = 'b' as c_int;
/// A decimal number.
pub const DAP_CONFIG_ITEM_DECIMAL: dap_config_item_type_t = 'd' as c_int;
/// Another text.
pub const DAP_CONFIG_ITEM_STRING: dap_config_item_type_t = 's' as c_int;
