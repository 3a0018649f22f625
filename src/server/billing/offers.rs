//! What this node sells, and what keeps it from selling.

use std::sync::atomic::Ordering;

use super::{Billing, SECTION};
use crate::sdk::config::Config;
use crate::sdk::http;
use crate::sdk::net::{Net, Order};
use vpn_core::meter::Unit;
use vpn_core::wire::HashText;

impl Billing {
    /// Returns the orders that this node is to serve: those that name it, and those that its certificate has signed. A
    /// network has those of other nodes, too.
    pub(in crate::server) fn offers(&self) -> Vec<Order> {
        let Some(net) = self.net() else { return Vec::new() };
        // Without the certificate a look at an order is an error in the node's log.
        let is_signed =
            |order: &Order| self.has_certificate() && net.order_terms(&order.hash).is_some_and(|terms| terms.is_ours);
        let mut orders = net.offers();
        orders.retain(|order| order.is_here || is_signed(order));
        orders
    }

    /// Returns whether there is the certificate that signs receipts. A node looks for it once, because its SDK reads it
    /// from the disk at each look, and logs an error if it is not there.
    pub(in crate::server) fn has_certificate(&self) -> bool {
        match cfg!(feature = "embedded") {
            true => http::receipt_key_hash().is_some(),
            false => self.has_certificate.load(Ordering::Relaxed),
        }
    }
}

/// Warns of what keeps the node from selling, so that an operator learns it before the first customer.
pub(in crate::server) fn check_orders(billing: &Billing, config: &Config) {
    let Some(net) = billing.net() else { return };
    if !net.role_serves() {
        log::warn!(
            "the node's role in network {} is below master: it serves nobody; expected master or above",
            net.name()
        );
    }
    billing.has_certificate.store(http::receipt_key_hash().is_some(), Ordering::Relaxed);
    let offers = billing.offers();
    // The embedded SDK has a default for the one key and no use for the other.
    if cfg!(feature = "sdk") {
        let text = |key| config.text(SECTION, key);
        let keys = [
            Needed { key: "receipt_sign_cert", value: text("receipt_sign_cert"), is_good: billing.has_certificate() },
            Needed { key: "wallet_addr", value: text("wallet_addr"), is_good: net.has_payee() },
        ];
        let warnings = keys.iter().filter_map(|needed| needed.warning(&net.name(), !offers.is_empty()));
        warnings.for_each(|warning| log::warn!("{warning}"));
    }
    if !billing.has_certificate() {
        return;
    }
    for order in offers {
        if let Some(why) = obstacle(&net, &order) {
            let hash = HashText(&order.hash).to_string();
            log::warn!("order {}.. is not served: {why}", &hash[..14]);
        }
    }
}

/// A key without which a node serves no order.
struct Needed {
    key: &'static str,
    value: Option<String>,
    is_good: bool,
}

impl Needed {
    /// Without orders nothing is missing yet, but what cannot work is told.
    fn warning(&self, net: &str, has_orders: bool) -> Option<String> {
        let Needed { key, value, is_good } = self;
        let (expected, what) = match *key {
            "wallet_addr" => ("a wallet's address", format!("is no address in network {net}")),
            _ => ("the name of a certificate", "the node has no such certificate".to_owned()),
        };
        match value {
            None if has_orders => {
                Some(format!("[{SECTION}] {key} is missing: the node serves no order without it; expected {expected}"))
            }
            Some(value) if !is_good => {
                Some(format!("[{SECTION}] {key} = {value}: {what}, and it serves no order; expected {expected}"))
            }
            _ => None,
        }
    }
}

/// Says why no client can pay the order; `None` if one can, or need not.
fn obstacle(net: &Net, order: &Order) -> Option<String> {
    let terms = net.order_terms(&order.hash)?;
    if !terms.is_ours {
        return Some("[srv_vpn] receipt_sign_cert has not signed it, or has no private key".to_owned());
    }
    if terms.is_free {
        return None;
    }
    match Unit::from_wire(terms.unit) {
        None => Some(format!("its unit is {:#x}, expected SEC (0x2) or B (0x11)", terms.unit)),
        Some(_) if terms.units == 0 => Some("it sells 0 units".to_owned()),
        Some(_) if !terms.is_native => Some(format!("its price is not in the own token of network {}", net.name())),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_missing_counts_with_orders_and_a_wrong_one_always() {
        let warning = |key, value: Option<&str>, is_good, has_orders| {
            Needed { key, value: value.map(String::from), is_good }.warning("Backbone", has_orders)
        };
        assert_eq!(warning("wallet_addr", None, false, false), None);
        assert_eq!(warning("wallet_addr", Some("dGME"), true, true), None);
        let missing =
            "[srv_vpn] wallet_addr is missing: the node serves no order without it; expected a wallet's address";
        assert_eq!(warning("wallet_addr", None, false, true).as_deref(), Some(missing));
        let wrong = "[srv_vpn] wallet_addr = dGME: is no address in network Backbone, and it serves no order; expected a \
                     wallet's address";
        assert_eq!(warning("wallet_addr", Some("dGME"), false, false).as_deref(), Some(wrong));
        let none = "[srv_vpn] receipt_sign_cert = n: the node has no such certificate, and it serves no order; expected \
                    the name of a certificate";
        assert_eq!(warning("receipt_sign_cert", Some("n"), false, false).as_deref(), Some(none));
    }
}
