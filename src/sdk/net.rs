//! Cellframe networks.

use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;
use super::types::dap_chain_net_t;

/// A network of the node. It lives as long as the node's configuration; any thread may hold it.
#[derive(Clone, Debug)]
pub struct Net(Arc<AtomicPtr<dap_chain_net_t>>);

/// An order of a service: its hash, and the node that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The order's SHA3-256 hash.
    pub hash: [u8; 32],
    /// The serving node's address.
    pub node: u64,
}

impl Net {
    /// Wraps a network from C; `None` for NULL.
    pub fn from_raw(net: *mut dap_chain_net_t) -> Option<Net> {
        (!net.is_null()).then(|| Net(Arc::new(AtomicPtr::new(net))))
    }

    /// Returns the network with this name.
    pub fn by_name(name: &str) -> Option<Net> {
        let name = CString::new(name).ok()?;
        // SAFETY: NUL-terminated.
        Net::from_raw(unsafe { raw::vpn_glue_net_by_name(name.as_ptr()) })
    }

    /// Returns the network with this number.
    pub fn by_id(id: u64) -> Option<Net> {
        // SAFETY: a number.
        Net::from_raw(unsafe { raw::vpn_glue_net_by_id(id) })
    }

    pub(super) fn raw(&self) -> *mut dap_chain_net_t {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the network's number.
    pub fn id(&self) -> u64 {
        // SAFETY: a network of the node, see Net.
        unsafe { raw::vpn_glue_net_id(self.raw()) }
    }

    /// Returns the network's name.
    pub fn name(&self) -> String {
        // SAFETY: a network of the node, see Net.
        let name = unsafe { raw::vpn_glue_net_name(self.raw()) };
        // SAFETY: NUL-terminated, and lives with the network.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// Returns the prefix of the network's groups in the store.
    pub fn store_prefix(&self) -> String {
        // SAFETY: a network of the node, see Net.
        let prefix = unsafe { raw::vpn_glue_net_store_prefix(self.raw()) };
        if prefix.is_null() {
            return self.name();
        }
        // SAFETY: NUL-terminated, and lives with the network.
        unsafe { CStr::from_ptr(prefix) }.to_string_lossy().into_owned()
    }

    /// Returns an order for the VPN service with price 0, if one is known.
    pub fn free_order(&self) -> Option<[u8; 32]> {
        self.collect_orders(true).into_iter().find_map(|(order, is_free)| is_free.then_some(order.hash))
    }

    /// Returns the known VPN orders.
    pub fn orders(&self) -> Vec<Order> {
        self.collect_orders(false).into_iter().map(|(order, _)| order).collect()
    }

    /// Returns all known VPN orders or only those that sell, each with whether its price is 0.
    fn collect_orders(&self, selling_only: bool) -> Vec<(Order, bool)> {
        unsafe extern "C" fn collect(context: *mut c_void, hash: *const u8, node: u64, is_free: bool) {
            // SAFETY: context is the vector below, which is not used otherwise during the call.
            let Some(list) = (unsafe { context.cast::<Vec<(Order, bool)>>().as_mut() }) else { return };
            // SAFETY: 32 bytes, by the contract of vpn_glue_net_orders.
            if let Some(hash) = unsafe { hash.cast::<[u8; 32]>().as_ref() } {
                list.push((Order { hash: *hash, node }, is_free));
            }
        }
        let mut list: Vec<(Order, bool)> = Vec::new();
        // SAFETY: a network of the node; collect only pushes to the vector it is given.
        unsafe { raw::vpn_glue_net_orders(self.raw(), selling_only, collect, (&raw mut list).cast()) };
        list
    }
}
