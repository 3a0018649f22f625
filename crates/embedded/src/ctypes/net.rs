//! Networks, and the role of a node in one.

use super::base::{DAP_CHAIN_NET_NAME_SIZE, dap_chain_net_id, dap_config};
use std::ffi::c_char;

#[repr(C)]
pub struct dap_chain_net_pub {
    pub id: dap_chain_net_id,
    pub name: [c_char; DAP_CHAIN_NET_NAME_SIZE],
    pub gdb_groups_prefix: *const c_char,
    pub native_ticker: *const c_char,
    pub config: *mut dap_config,
}

#[repr(C)]
pub struct dap_chain_net {
    pub r#pub: dap_chain_net_pub,
}
pub type dap_chain_net_t = dap_chain_net;

/// A node's role in a network, in descending trust, with the SDK's numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum dap_chain_node_role_enum {
    NODE_ROLE_ROOT_MASTER = 0x00,
    NODE_ROLE_ROOT = 0x01,
    NODE_ROLE_ARCHIVE = 0x02,
    NODE_ROLE_CELL_MASTER = 0x10,
    NODE_ROLE_MASTER = 0x20,
    NODE_ROLE_FULL = 0xf0,
    NODE_ROLE_LIGHT = 0xff,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct dap_chain_node_role {
    pub enums: dap_chain_node_role_enum,
}
pub type dap_chain_node_role_t = dap_chain_node_role;
