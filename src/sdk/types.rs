//! The SDK's types, opaque in Rust: only `glue/*.c`, compiled against the linked SDK's headers, accesses their fields.
#![allow(non_camel_case_types, missing_docs)]

macro_rules! opaque {
    ($($name:ident),+) => { $(
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name { _private: [u8; 0] }
    )+ };
}

opaque!(
    dap_config_t,
    dap_worker_t,
    dap_events_socket_t,
    dap_stream_ch_t,
    dap_stream_ch_pkt_t,
    dap_stream_worker_t,
    dap_chain_net_t,
    dap_chain_net_srv_t,
    dap_chain_node_client_t
);

/// The address of a node: 8 bytes, passed by value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dap_chain_node_addr_t {
    pub uint64: u64,
}
