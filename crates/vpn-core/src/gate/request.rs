//! REQUEST: whether a client may have the service that it asks for, and how it pays.

use super::VPN_UID;
use crate::wire::{Request, error_code, unit};

/// What the node says of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The node's role in it allows it to serve.
    pub serves: bool,
    /// The node is not connected to it, so that nothing can be paid.
    pub is_offline: bool,
    /// The orders are those of this network; a paid service of another cannot be paid.
    pub has_orders: bool,
}

/// What the node says of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its price is 0.
    pub is_free: bool,
    /// It is an order of this service, and signed by it.
    pub is_ours: bool,
    /// Its price is in the network's own token, the only one that can pay.
    pub is_native: bool,
    /// The node gives free service.
    pub allows_free: bool,
    /// The unit of its price, one of [`mod@unit`].
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
}

/// What the ledger says of a transaction as a means to pay for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// It has an output that pays for a service.
    pub has_output: bool,
    /// The output pays for the VPN.
    pub is_for_vpn: bool,
    /// The output's token is the network's own.
    pub is_native: bool,
    /// The unit of the output.
    pub unit: u32,
    /// The price of a unit is within the output's limit.
    pub fits_max_price: bool,
    /// The output holds the value and the fees of one payment.
    pub is_enough: bool,
    /// Nothing has spent the output yet.
    pub is_last: bool,
    /// The hash of the key that may sign receipts.
    pub client_key: [u8; 32],
    /// The first transaction of the chain of payments.
    pub first: [u8; 32],
}

/// Where [`judge`] looks things up. It asks for each at most once, and for nothing that it does not need.
pub trait Facts {
    /// Returns what the node says of a network; `None` if it does not know it.
    fn network(&self, id: u64) -> Option<Network>;
    /// Returns what the node says of an order; `None` if it does not know it.
    fn order(&self, hash: &[u8; 32]) -> Option<Order>;
    /// Returns what the network's ledger says of a transaction; `None` if it does not have it.
    fn transaction(&self, net: u64, hash: &[u8; 32]) -> Option<Transaction>;
}

/// A request for paid service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The unit, [`unit::SECONDS`] or [`unit::BYTES`].
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// The first transaction of the chain of payments.
    pub chain: [u8; 32],
    /// Whether a payment can be made. If not, the code to refuse with, unless the client still has units of earlier
    /// payments.
    pub payment: Result<(), u32>,
}

/// The decision about a REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets ERROR with this code.
    Refuse(u32),
    /// The order is free.
    Free,
    /// The client pays by receipts.
    Paid(Paid),
    /// The ledger does not have the transaction yet.
    Unknown {
        /// The unit, [`unit::SECONDS`] or [`unit::BYTES`].
        unit: u32,
        /// The units of one receipt.
        units: u64,
    },
}

/// Decides about a REQUEST, in the order in which the SDK's billing looks.
pub fn judge(request: &Request, facts: &dyn Facts) -> Verdict {
    find_verdict(request, facts).unwrap_or_else(Verdict::Refuse)
}

fn find_verdict(request: &Request, facts: &dyn Facts) -> Result<Verdict, u32> {
    let demand = |holds: bool, code: u32| if holds { Ok(()) } else { Err(code) };
    demand(request.order_hash != [0; 32], error_code::PRICE_NO_ORDER_HASH)?;
    demand(request.tx_cond != [0; 32], error_code::PRICE_NO_TX_HASH)?;
    let network = facts.network(request.net_id).ok_or(error_code::NETWORK_NOT_FOUND)?;
    // The SDK would bill any registered service as a VPN, and call functions that others lack.
    demand(request.srv_uid == VPN_UID && network.serves, error_code::SERVICE_NODE_ROLE_ERROR)?;
    let order = facts.order(&request.order_hash).ok_or(error_code::PRICE_ERROR)?;
    demand(order.is_ours, error_code::PRICE_ERROR)?;
    if order.is_free {
        demand(order.allows_free, error_code::PRICE_ERROR)?;
        return Ok(Verdict::Free);
    }
    demand(matches!(order.unit, unit::SECONDS | unit::BYTES), error_code::PRICE_ERROR)?;
    demand(order.units > 0, error_code::RECEIPT_UNITS_ERROR)?;
    demand(order.is_native && network.has_orders, error_code::TX_COND_NOT_ACCEPT_TOKEN)?;
    demand(!network.is_offline, error_code::NETWORK_IS_OFFLINE)?;
    let Order { unit, units, .. } = order;
    let Some(transaction) = facts.transaction(request.net_id, &request.tx_cond) else {
        return Ok(Verdict::Unknown { unit, units });
    };
    let payment = check_payment(order.unit, &transaction, &request.client_pkey_hash);
    Ok(Verdict::Paid(Paid { unit, units, chain: transaction.first, payment }))
}

/// Checks that the transaction can pay for an order with this unit, and that the client is its owner.
///
/// Errors: the code of the refusal.
pub fn check_payment(order_unit: u32, transaction: &Transaction, client_key: &[u8; 32]) -> Result<(), u32> {
    let Transaction { has_output, is_for_vpn, is_native, unit, fits_max_price, is_enough, is_last, .. } = *transaction;
    match () {
        () if !has_output => Err(error_code::TX_COND_NO_COND_OUT),
        () if !is_for_vpn => Err(error_code::TX_COND_WRONG_SRV_UID),
        () if !is_native => Err(error_code::TX_COND_NOT_ACCEPT_TOKEN),
        () if unit != order_unit => Err(error_code::TX_COND_UNIT_TYPE_ERROR),
        () if !fits_max_price => Err(error_code::RECEIPT_UNITS_ERROR),
        () if transaction.client_key != *client_key => Err(error_code::RECEIPT_WRONG_PKEY_HASH),
        () if !is_last => Err(error_code::TX_CREATION_ERROR),
        () if !is_enough => Err(error_code::TX_COND_NOT_ENOUGH),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        network: Option<Network>,
        order: Option<Order>,
        transaction: Option<Transaction>,
    }

    impl Facts for Node {
        fn network(&self, _id: u64) -> Option<Network> {
            self.network
        }
        fn order(&self, _hash: &[u8; 32]) -> Option<Order> {
            self.order
        }
        fn transaction(&self, _net: u64, _hash: &[u8; 32]) -> Option<Transaction> {
            self.transaction
        }
    }

    const NETWORK: Network = Network { serves: true, is_offline: false, has_orders: true };
    const ORDER: Order =
        Order { is_free: false, is_ours: true, is_native: true, allows_free: true, unit: unit::SECONDS, units: 20 };
    const TRANSACTION: Transaction = Transaction {
        has_output: true,
        is_for_vpn: true,
        is_native: true,
        unit: unit::SECONDS,
        fits_max_price: true,
        is_enough: true,
        is_last: true,
        client_key: [5; 32],
        first: [6; 32],
    };

    fn request() -> Request {
        let (tx_cond, client_pkey_hash, order_hash) = ([4; 32], [5; 32], [7; 32]);
        Request { srv_uid: 1, tx_cond, client_pkey_hash, order_hash, ..Request::default() }
    }

    fn judged(request: &Request, network: Network, order: Order, transaction: Transaction) -> Verdict {
        judge(request, &Node { network: Some(network), order: Some(order), transaction: Some(transaction) })
    }

    #[test]
    fn a_good_request_is_paid() {
        let paid = Paid { unit: unit::SECONDS, units: 20, chain: [6; 32], payment: Ok(()) };
        assert_eq!(judged(&request(), NETWORK, ORDER, TRANSACTION), Verdict::Paid(paid));
        let free = Order { is_free: true, unit: unit::PIECES, units: 0, ..ORDER };
        assert_eq!(judged(&request(), NETWORK, free, TRANSACTION), Verdict::Free);
        let unknown = Node { network: Some(NETWORK), order: Some(ORDER), transaction: None };
        assert_eq!(judge(&request(), &unknown), Verdict::Unknown { unit: unit::SECONDS, units: 20 });
    }

    #[test]
    fn each_mistake_has_its_code() {
        let refusal = |verdict| match verdict {
            Verdict::Refuse(code) => code,
            Verdict::Paid(Paid { payment: Err(code), .. }) => code,
            other => panic!("{other:?}"),
        };
        let of_request = |request: Request| refusal(judged(&request, NETWORK, ORDER, TRANSACTION));
        assert_eq!(of_request(Request { order_hash: [0; 32], ..request() }), 0x601);
        assert_eq!(of_request(Request { tx_cond: [0; 32], ..request() }), 0x602);
        assert_eq!(of_request(Request { srv_uid: 2, ..request() }), 0x103);
        assert_eq!(of_request(Request { client_pkey_hash: [8; 32], ..request() }), 0x502);

        let of_network = |network| refusal(judged(&request(), network, ORDER, TRANSACTION));
        assert_eq!(of_network(Network { serves: false, ..NETWORK }), 0x103);
        assert_eq!(of_network(Network { is_offline: true, ..NETWORK }), 0x202);
        assert_eq!(of_network(Network { has_orders: false, ..NETWORK }), 0x403);
        let nothing = Node { network: None, order: None, transaction: None };
        assert_eq!(refusal(judge(&request(), &nothing)), 0x200);
        assert_eq!(refusal(judge(&request(), &Node { network: Some(NETWORK), ..nothing })), 0x600);

        let of_order = |order| refusal(judged(&request(), NETWORK, order, TRANSACTION));
        assert_eq!(of_order(Order { is_ours: false, ..ORDER }), 0x600);
        assert_eq!(of_order(Order { is_free: true, allows_free: false, ..ORDER }), 0x600);
        assert_eq!(of_order(Order { unit: unit::PIECES, ..ORDER }), 0x600);
        assert_eq!(of_order(Order { units: 0, ..ORDER }), 0x505);
        assert_eq!(of_order(Order { is_native: false, ..ORDER }), 0x403);

        let of_transaction = |transaction| refusal(judged(&request(), NETWORK, ORDER, transaction));
        assert_eq!(of_transaction(Transaction { has_output: false, ..TRANSACTION }), 0x401);
        assert_eq!(of_transaction(Transaction { is_for_vpn: false, ..TRANSACTION }), 0x404);
        assert_eq!(of_transaction(Transaction { is_native: false, ..TRANSACTION }), 0x403);
        assert_eq!(of_transaction(Transaction { unit: unit::BYTES, ..TRANSACTION }), 0x410);
        assert_eq!(of_transaction(Transaction { fits_max_price: false, ..TRANSACTION }), 0x505);
        assert_eq!(of_transaction(Transaction { is_last: false, ..TRANSACTION }), 0x411);
        assert_eq!(of_transaction(Transaction { is_enough: false, ..TRANSACTION }), 0x402);
    }
}
