//! A network, as C sees it.

use super::strings::fill_c_array;
use crate::ctypes::{DAP_CHAIN_NET_NAME_MAX, dap_chain_net, dap_chain_net_id, dap_chain_net_pub};
use std::cell::UnsafeCell;
use std::ffi::CString;

/// C's view of a network, at an address that stays the same for its life.
pub(crate) struct CNet {
    id: u64,
    net: Box<UnsafeCell<dap_chain_net>>,
    /// The strings that the view points to.
    _strings: [CString; 2],
}

// SAFETY: Rust never reads the struct after construction; its pointers point to strings that this owns. C threads that
// write its fields must synchronise among themselves, as with the SDK's own struct.
unsafe impl Send for CNet {}
// SAFETY: as above.
unsafe impl Sync for CNet {}

impl CNet {
    /// None when a string contains a NUL. A name longer than the struct's field is cut.
    pub(crate) fn new(id: u64, name: &str, gdb_groups_prefix: &str, native_ticker: &str) -> Option<Self> {
        let strings = [CString::new(gdb_groups_prefix).ok()?, CString::new(native_ticker).ok()?];
        let mut c_name = [0; DAP_CHAIN_NET_NAME_MAX + 1];
        fill_c_array(&mut c_name, CString::new(name).ok()?.as_bytes());
        let net = dap_chain_net {
            r#pub: dap_chain_net_pub {
                id: dap_chain_net_id { uint64: id },
                name: c_name,
                gdb_groups_prefix: strings[0].as_ptr(),
                native_ticker: strings[1].as_ptr(),
                // NULL means `g_config` to every dap_config function: a network has a section there, not its own file.
                config: std::ptr::null_mut(),
            },
        };
        Some(Self { id, net: Box::new(UnsafeCell::new(net)), _strings: strings })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net {
        self.net.get()
    }
}
