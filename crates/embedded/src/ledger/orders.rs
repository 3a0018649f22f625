//! What this node sells: units of a service for a price. Orders come from the configuration, and are not kept.

use super::{Hash, hash_of, with};
use crate::net::NetRef;
use sha3::{Digest, Sha3_256};

/// The VPN service's uid.
pub const VPN_UID: u64 = 1;

/// An order of this node: units of the VPN for a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// One of [`vpn_core::wire::unit`], or another number.
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// The value of one receipt.
    pub value: u128,
    /// The token of the price.
    pub token: String,
    /// The order is signed by this node's key.
    pub is_ours: bool,
}

/// The hash of the built-in order that gives the VPN away in a network.
pub fn free_order(net_id: u64) -> Hash {
    let mut hash = Sha3_256::new();
    hash.update(b"free order");
    hash.update(net_id.to_le_bytes());
    hash.update(VPN_UID.to_le_bytes());
    hash.finalize().into()
}

/// Adds an order, and returns its hash.
pub fn add_order(net: u64, order: Order) -> Hash {
    let hash = hash_of(&[format!("{net} {order:?}").as_bytes()]);
    with(net, |inner| inner.orders.insert(hash, order));
    hash
}

/// Adds an order under a hash that the caller has made of it.
pub(crate) fn add_order_as(net: u64, hash: Hash, order: Order) {
    with(net, |inner| inner.orders.insert(hash, order));
}

/// Removes an order. Sessions that it has begun go on.
pub(crate) fn remove_order(net: u64, hash: &Hash) {
    with(net, |inner| inner.orders.remove(hash));
}

/// The orders of a network that this node sells, by their hashes.
pub(crate) fn orders(net: u64) -> Vec<(Hash, Order)> {
    with(net, |inner| inner.orders.iter().map(|(hash, order)| (*hash, order.clone())).collect())
}

/// The order with this hash, or the free one.
pub fn order(net: NetRef, hash: &Hash) -> Option<Order> {
    if *hash == free_order(net.id()) {
        let token = net.native_ticker().to_owned();
        return Some(Order { unit: 0, units: 0, value: 0, token, is_ours: true });
    }
    with(net.id(), |inner| inner.orders.get(hash).cloned())
}
