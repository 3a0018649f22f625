//! What the node and the ledger say of a request.

use std::cell::Cell;

use crate::sdk::net::Net;
use crate::sdk::usage::OrderTerms;
use vpn_core::gate::{Facts, Network, Order, Transaction, check_payment};
use vpn_core::meter::Client;

use super::Billing;

/// Where [`judge`] looks things up.
pub(super) struct NodeFacts<'a> {
    billing: &'a Billing,
    /// The network that was looked up.
    net: Cell<Option<u64>>,
    order: Cell<Option<OrderTerms>>,
}

impl NodeFacts<'_> {
    pub(super) fn new(billing: &Billing) -> NodeFacts<'_> {
        NodeFacts { billing, net: Cell::new(None), order: Cell::new(None) }
    }

    /// Returns the terms of the order that was looked up.
    pub(super) fn order(&self) -> Option<OrderTerms> {
        self.order.get()
    }

    /// Returns the terms of the embedded SDK's free order in the network that was looked up. A node's SDK looks for all
    /// orders in the network of `[srv_vpn] net`.
    fn free_terms(&self, hash: &[u8; 32]) -> Option<OrderTerms> {
        if cfg!(feature = "sdk") {
            return None;
        }
        Net::by_id(self.net.get()?)?.order_terms(hash).filter(|terms| terms.is_free)
    }
}

impl Facts for NodeFacts<'_> {
    fn network(&self, id: u64) -> Option<Network> {
        let net = Net::by_id(id)?;
        self.net.set(Some(id));
        let has_orders = self.billing.net().is_none_or(|own| own.id() == id);
        Some(Network { serves: net.role_serves(), is_offline: net.is_offline(), has_orders })
    }

    fn order(&self, hash: &[u8; 32]) -> Option<Order> {
        let own = self.billing.net().and_then(|net| net.order_terms(hash));
        let terms = own.or_else(|| self.free_terms(hash))?;
        self.order.set(Some(terms));
        let OrderTerms { is_free, is_ours, is_native, allows_free, unit, units, .. } = terms;
        Some(Order { is_free, is_ours, is_native, allows_free, unit, units })
    }

    fn transaction(&self, net: u64, hash: &[u8; 32]) -> Option<Transaction> {
        transaction(&Net::by_id(net)?, hash, &self.order.get()?)
    }
}

/// Returns what the ledger says of a transaction.
pub(super) fn transaction(net: &Net, hash: &[u8; 32], order: &OrderTerms) -> Option<Transaction> {
    let terms = net.transaction_terms(hash, order)?;
    Some(Transaction {
        has_output: terms.has_output,
        is_for_vpn: terms.is_for_vpn,
        is_native: terms.is_native,
        unit: terms.unit,
        fits_max_price: terms.fits_max_price,
        is_enough: terms.is_enough,
        is_last: terms.is_last,
        client_key: terms.client_key,
        first: terms.first,
    })
}

/// Whether a transaction can pay a receipt of an order for a client.
pub(super) fn can_pay(net: &Net, hash: &[u8; 32], order: &OrderTerms, client: &Client) -> bool {
    transaction(net, hash, order).is_some_and(|terms| check_payment(order.unit, &terms, &client.key).is_ok())
}
