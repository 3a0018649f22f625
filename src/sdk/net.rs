//! Cellframe networks.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::raw;
use super::types::dap_chain_net_t;

/// A network of the node. It lives as long as the node's configuration; any thread may hold it.
#[derive(Clone, Debug)]
pub struct Net(Arc<AtomicPtr<dap_chain_net_t>>);

/// An order of the VPN service: what a node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The order's SHA3-256 hash.
    pub hash: [u8; 32],
    /// The serving node's address.
    pub node: u64,
    /// This node is the one; with the embedded SDK, the process that sells it.
    pub is_here: bool,
    /// Where the network's list of nodes has the node: host and port.
    pub place: Option<(String, u16)>,
    /// What `units` cost, in datoshi. `u64::MAX` also stands for more.
    pub price: u64,
    /// The units that a receipt sells.
    pub units: u64,
    /// One of [`unit`](vpn_core::wire::unit).
    pub unit: u32,
    /// The token's ticker.
    pub token: String,
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

    /// Returns the name of the network with this number; the number if there is none.
    #[cfg(feature = "server")]
    pub fn name_of(id: u64) -> String {
        Net::by_id(id).map_or_else(|| format!("{id:#018x}"), |net| net.name())
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
        self.offers().into_iter().find_map(|order| (order.price == 0).then_some(order.hash))
    }

    /// Returns the known VPN orders, or only those that sell.
    pub fn orders(&self, selling_only: bool) -> Vec<Order> {
        self.listed_orders(selling_only, true)
    }

    /// Returns the known VPN orders that sell, without the places of their nodes. For the server, which looks again and
    /// again: the node's SDK logs a line for each place that it does not know.
    pub fn offers(&self) -> Vec<Order> {
        self.listed_orders(true, false)
    }

    fn listed_orders(&self, selling_only: bool, with_places: bool) -> Vec<Order> {
        unsafe extern "C" fn collect(context: *mut c_void, order: *const raw::OrderView) {
            // SAFETY: context is the vector below, which is not used otherwise during the call.
            let Some(list) = (unsafe { context.cast::<Vec<Order>>().as_mut() }) else { return };
            // SAFETY: the C half passes a whole struct.
            let Some(order) = (unsafe { order.as_ref() }) else { return };
            // SAFETY: by the contract of OrderView, NULL or a text that lives during the call.
            let token = unsafe { text(order.token) };
            // SAFETY: as above.
            let host = unsafe { text(order.host) };
            list.push(Order {
                hash: order.hash,
                node: order.node,
                is_here: order.is_here,
                place: host.map(|host| (host, order.port)),
                price: order.price,
                units: order.units,
                unit: order.unit,
                token: token.unwrap_or_default(),
            });
        }
        let mut list: Vec<Order> = Vec::new();
        // SAFETY: a network of the node; collect only pushes to the vector it is given.
        unsafe { raw::vpn_glue_net_orders(self.raw(), selling_only, with_places, collect, (&raw mut list).cast()) };
        list
    }
}

/// Copies a text from C; `None` for NULL.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise, and not NULL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
