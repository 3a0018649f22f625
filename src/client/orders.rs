//! The VPN orders of a network: which one the client uses, and whether their nodes are available.

use std::cmp::Ordering;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::sdk::net::{Net, Order};
use crate::sdk::wallet::bank;
use vpn_core::wire::{HashText, unit};

/// Returns the state of the node with an address: 1 available, 0 not available, anything else unknown.
pub(crate) type StateCallback = Arc<dyn Fn(u64) -> i32 + Send + Sync>;

static STATE: Mutex<Option<StateCallback>> = Mutex::new(None);

/// Sets the callback that returns a node's state; `None` for no callback.
pub(crate) fn set_state_callback(callback: Option<StateCallback>) {
    *STATE.lock() = callback;
}

/// The text format of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFormat {
    /// "0x" and hex digits.
    Hex,
    /// Base58, Bitcoin's alphabet.
    Base58,
}

impl HashFormat {
    /// Parses "hex" or "base58".
    pub(crate) fn parse(text: &str) -> Option<HashFormat> {
        match text {
            "hex" => Some(HashFormat::Hex),
            "base58" => Some(HashFormat::Base58),
            _ => None,
        }
    }

    pub(super) fn write(self, hash: &[u8; 32]) -> String {
        match self {
            HashFormat::Hex => HashText(hash).to_string(),
            HashFormat::Base58 => bs58::encode(hash).into_string(),
        }
    }
}

/// Returns a line for each order.
pub(crate) fn report(net: &Net, format: HashFormat) -> String {
    bank().orders(net, false).into_iter().map(|order| line(&format.write(&order.hash), order.node)).collect()
}

fn line(hash: &str, node: u64) -> String {
    // The callback belongs to C and may replace itself: not under the lock.
    let state = STATE.lock().clone();
    match state.map(|state| state(node)) {
        None => format!("Order {hash}\n"),
        Some(1) => format!("Order {hash}: State Available\n"),
        Some(0) => format!("Order {hash}: State Not available\n"),
        Some(_) => format!("Order {hash}: State Unknown\n"),
    }
}

/// What the user wants, and can pay.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish<'a> {
    /// The order that the configuration names.
    pub(super) order: Option<[u8; 32]>,
    /// The server's host and port, if one is dialled.
    pub(super) server: Option<(&'a str, u16)>,
    /// The token's ticker; `None` if no wallet is chosen.
    pub(super) token: Option<&'a str>,
    /// The value of a conditional transaction, in datoshi.
    pub(super) value: u64,
    /// What a payment costs beside its value, in datoshi.
    pub(super) fee: u64,
}

/// The order for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one. It is free, or the user can pay it as far as its price tells.
    Order(Order),
    /// The configuration names this one, but it is not known here.
    Unknown([u8; 32]),
    /// No order is free, and the user cannot pay any; this is the cheapest.
    Unpayable(Order),
    /// No order is known.
    None,
}

/// Chooses the order that the configuration names; else a free one; else the cheapest that the user can pay. If the
/// network's list of nodes tells which orders are the dialled server's, the others do not count.
///
/// Prices are compared by value per unit, and only within a unit: what a second is worth in bytes depends on the
/// traffic. Orders by the second come first, because their cost is known in advance. Pieces are not sold: no server
/// meters them.
pub(super) fn choose(orders: Vec<Order>, wish: &Wish<'_>) -> Choice {
    if let Some(hash) = wish.order {
        let named = orders.into_iter().find(|order| order.hash == hash);
        return named.map_or(Choice::Unknown(hash), Choice::Order);
    }
    let is_servers = |order: &Order| {
        wish.server.is_some_and(|(host, port)| order.place.as_ref().is_some_and(|place| *place == (host.into(), port)))
    };
    let (servers, others): (Vec<_>, Vec<_>) = orders.into_iter().partition(is_servers);
    let mut candidates = if servers.is_empty() { others } else { servers };
    if let Some(free) = candidates.iter().position(|order| order.price == 0) {
        return Choice::Order(candidates.swap_remove(free));
    }
    candidates.retain(is_metered);
    candidates.sort_by(by_price);
    let is_payable = |order: &Order| {
        let cost = order.price.checked_add(wish.fee);
        wish.token == Some(&order.token) && cost.is_some_and(|cost| cost <= wish.value)
    };
    match candidates.iter().position(is_payable) {
        Some(payable) => Choice::Order(candidates.swap_remove(payable)),
        None => candidates.into_iter().next().map_or(Choice::None, Choice::Unpayable),
    }
}

/// Returns whether servers meter what the order sells.
pub(super) fn is_metered(order: &Order) -> bool {
    order.units > 0 && [unit::SECONDS, unit::BYTES].contains(&order.unit)
}

fn by_price(a: &Order, b: &Order) -> Ordering {
    let cross = |order: &Order, other: &Order| u128::from(order.price) * u128::from(other.units);
    (a.unit != unit::SECONDS).cmp(&(b.unit != unit::SECONDS)).then_with(|| cross(a, b).cmp(&cross(b, a)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Choice, HashFormat, Wish, choose, line, set_state_callback};
    use crate::sdk::net::Order;
    use vpn_core::wire::unit;

    fn order(number: u8, price: u64, units: u64, unit: u32) -> Order {
        Order { hash: [number; 32], price, units, unit, token: "CELL".into(), ..Order::default() }
    }

    const WISH: Wish<'_> = Wish { order: None, server: Some(("vpn", 8079)), token: Some("CELL"), value: 100, fee: 5 };

    fn chosen(orders: &[Order], wish: &Wish<'_>) -> Option<u8> {
        match choose(orders.to_vec(), wish) {
            Choice::Order(order) => Some(order.hash[0]),
            _ => None,
        }
    }

    #[test]
    fn the_named_order_comes_first() {
        let orders = [order(1, 0, 1, unit::SECONDS), order(2, 1000, 1, unit::PIECES)];
        assert_eq!(chosen(&orders, &Wish { order: Some([2; 32]), ..WISH }), Some(2));
        let unknown = choose(orders.to_vec(), &Wish { order: Some([3; 32]), ..WISH });
        assert_eq!(unknown, Choice::Unknown([3; 32]));
    }

    #[test]
    fn then_a_free_one_then_the_cheapest_that_can_be_paid() {
        // 2 and 3 cost 5 and 4 a second, 4 costs nearly nothing a byte.
        let dear = order(1, 96, 100, unit::SECONDS);
        let paid = [
            dear.clone(),
            order(2, 50, 10, unit::SECONDS),
            order(3, 80, 20, unit::SECONDS),
            order(4, 1, 1_000_000, unit::BYTES),
            order(5, 1, 1_000_000, unit::PIECES),
        ];
        assert_eq!(chosen(&paid, &WISH), Some(3), "96 and the fee are more than 100");
        assert_eq!(chosen(&paid, &Wish { fee: 0, ..WISH }), Some(1));
        assert_eq!(chosen(&paid, &Wish { value: 60, ..WISH }), Some(2));
        assert_eq!(chosen(&paid, &Wish { value: 10, ..WISH }), Some(4));
        assert_eq!(choose(paid.to_vec(), &Wish { value: 3, ..WISH }), Choice::Unpayable(dear.clone()));
        assert_eq!(choose(paid.to_vec(), &Wish { token: Some("KEL"), ..WISH }), Choice::Unpayable(dear.clone()));
        assert_eq!(choose(paid.to_vec(), &Wish { token: None, ..WISH }), Choice::Unpayable(dear));
        let with_free = [&paid[..], &[order(6, 0, 1, unit::BYTES)]].concat();
        assert_eq!(chosen(&with_free, &WISH), Some(6));
        assert_eq!(choose(Vec::new(), &WISH), Choice::None);
        // Without a limit of 64 bits, price and fee must not wrap.
        assert_eq!(chosen(&[order(1, u64::MAX, 1, unit::BYTES)], &Wish { value: u64::MAX, ..WISH }), None);
    }

    #[test]
    fn the_orders_of_the_dialled_server_are_preferred() {
        let at = |order: Order, host: &str| Order { place: Some((host.into(), 8079)), ..order };
        let orders = [order(1, 0, 1, unit::SECONDS), at(order(2, 50, 10, unit::SECONDS), "vpn")];
        assert_eq!(chosen(&orders, &WISH), Some(2));
        assert_eq!(chosen(&orders, &Wish { server: Some(("vpn", 8080)), ..WISH }), Some(1));
        assert_eq!(chosen(&orders, &Wish { server: None, ..WISH }), Some(1));
    }

    #[test]
    fn a_state_callback_may_replace_itself() {
        set_state_callback(Some(Arc::new(|node| {
            set_state_callback(None);
            node as i32
        })));
        assert_eq!(line("0xAB", 1), "Order 0xAB: State Available\n");
        assert_eq!(line("0xAB", 1), "Order 0xAB\n");
    }

    #[test]
    fn hashes() {
        assert_eq!(HashFormat::Hex.write(&[0xAB; 32]), format!("0x{}", "AB".repeat(32)));
        assert_eq!(HashFormat::Base58.write(&[0; 32]), "1".repeat(32));
        assert_eq!(HashFormat::parse("Hex"), None);
    }
}
