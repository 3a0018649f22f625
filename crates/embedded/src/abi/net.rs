//! Networks: the exported C functions.

use std::ffi::c_char;

use crate::ctypes::dap_chain_node_role_enum::NODE_ROLE_LIGHT;
use crate::ctypes::{dap_chain_net, dap_chain_net_id, dap_chain_node_role};
use crate::cview::strings::text;
use crate::net::{self, NetRef};
use crate::panics::guard;

/// Returns the network with this name; NULL if the configuration names no such network. The pointer stays valid until
/// the process ends. Any thread.
///
/// # Safety
/// `name` is NULL (the result is NULL) or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_by_name(name: *const c_char) -> *mut dap_chain_net {
    guard("dap_chain_net_by_name", std::ptr::null_mut(), || {
        // SAFETY: the caller's promise; the string is not kept.
        let Some(name) = (unsafe { text(name) }) else {
            log::error!("dap_chain_net_by_name: expected a network's name, not NULL");
            return std::ptr::null_mut();
        };
        net_ptr(net::find_by_name(name))
    })
}

/// Returns the network with this id; NULL if the configuration names no such network. Any thread.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_by_id(id: dap_chain_net_id) -> *mut dap_chain_net {
    guard("dap_chain_net_by_id", std::ptr::null_mut(), || net_ptr(net::find_by_id(id.uint64)))
}

/// Returns this node's role in a network; NODE_ROLE_LIGHT, the least trusted, for NULL or an unknown pointer. Any
/// thread.
///
/// # Safety
/// None: the pointer is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_get_role(net: *const dap_chain_net) -> dap_chain_node_role {
    let failure = dap_chain_node_role { enums: NODE_ROLE_LIGHT };
    guard("dap_chain_net_get_role", failure, || {
        let Some(known) = net::find_by_ptr(net) else {
            log::error!("dap_chain_net_get_role: expected a network from dap_chain_net_by_name, got {net:p}");
            return failure;
        };
        // The pointer may be older than the configuration.
        dap_chain_node_role { enums: net::find_by_id(known.id()).unwrap_or(known).role() }
    })
}

fn net_ptr(net: Option<NetRef>) -> *mut dap_chain_net {
    net.map_or(std::ptr::null_mut(), |net| net.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn backbone_is_found_by_name_and_by_id() {
        // SAFETY: a string constant.
        let net = unsafe { dap_chain_net_by_name(c"backbone".as_ptr()) };
        assert!(!net.is_null());
        // SAFETY: networks stay valid, and nothing writes to this one.
        let view = unsafe { &*net };
        // SAFETY: the name is NUL-terminated.
        assert_eq!(unsafe { CStr::from_ptr(view.r#pub.name.as_ptr()) }, c"backbone");
        // SAFETY: the ticker is a string that the network owns.
        assert_eq!(unsafe { CStr::from_ptr(view.r#pub.native_ticker) }, c"CELL");
        // SAFETY: no condition.
        assert_eq!(unsafe { dap_chain_net_by_id(view.r#pub.id) }, net);
        // SAFETY: no condition.
        assert_eq!(unsafe { dap_chain_net_get_role(net) }.enums as u32, 0x20);
        // SAFETY: a string constant.
        assert!(unsafe { dap_chain_net_by_name(c"nowhere".as_ptr()) }.is_null());
        // SAFETY: no condition.
        assert!(unsafe { dap_chain_net_by_id(dap_chain_net_id { uint64: 1 }) }.is_null());
    }

    #[test]
    fn null_is_answered() {
        // SAFETY: NULL is allowed.
        assert!(unsafe { dap_chain_net_by_name(std::ptr::null()) }.is_null());
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { dap_chain_net_get_role(std::ptr::null()) }.enums, NODE_ROLE_LIGHT);
    }
}
