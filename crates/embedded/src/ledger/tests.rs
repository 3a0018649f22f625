//! The ledgers of the process, in memory and in files.

mod crash;
mod disk;
mod files;
mod instructions;
mod support;

use super::*;
use crate::net::{self, NetRef};
use crate::receipt::Key;
use vpn_core::wire::{ReceiptInfo, unit};

/// Each test has a network id of its own; only `pay` needs a network that the configuration names.
fn backbone() -> NetRef {
    net::find_by_name("backbone").unwrap()
}

struct Wallet {
    provider: Key,
    client: Key,
}

impl Wallet {
    fn new() -> Self {
        Wallet { provider: Key::generate().unwrap(), client: Key::generate().unwrap() }
    }

    fn transaction(&self, value: u128) -> Transaction {
        Transaction { client_key: self.client.hash(), unit: unit::SECONDS, value, ..Transaction::default() }
    }

    fn receipt(&self, value: u128, prev_tx: Hash) -> Vec<u8> {
        let value = value_bytes(value);
        let info = ReceiptInfo { srv_uid: VPN_UID, units_type: unit::SECONDS, version: 2, units: 20, value, prev_tx };
        self.client.add_to(&self.provider.issue(&info).unwrap()).unwrap()
    }
}

#[test]
fn free_orders_differ_by_network() {
    assert_eq!(free_order(1), free_order(1));
    assert_ne!(free_order(1), free_order(2));
    assert_ne!(free_order(1), [0; 32]);
    let order = order(backbone(), &free_order(backbone().id())).unwrap();
    assert_eq!((order.value, order.is_ours), (0, true));
}

/// One test, because the ledger of a network is the process's, and `pay` needs a configured network.
#[test]
fn a_chain_of_payments() {
    let (net, wallet) = (backbone(), Wallet::new());
    let id = net.id();
    let first = add_transaction(id, Transaction { fee: 1, ..wallet.transaction(25) });
    assert_ne!(first, add_transaction(id, Transaction { fee: 1, ..wallet.transaction(25) }));
    let known = means(id, &first).unwrap();
    assert_eq!((known.first, known.last, known.is_payment), (first, Some(first), false));

    // A payment takes the value and the fees.
    set_net_fee(id, 1);
    let one = pay(net, &first, &wallet.receipt(10, first)).unwrap();
    let paid = means(id, &one).unwrap();
    assert_eq!((paid.first, paid.last, paid.is_payment), (first, Some(one), true));
    assert_eq!((paid.output.unwrap().value, earned(id)), (13, 10));
    assert_eq!(means(id, &first).unwrap().last, Some(one));
    set_net_fee(id, 0);

    // The receipt names the last transaction of the chain, whatever the request names.
    assert_eq!(pay(net, &first, &wallet.receipt(10, first)), Err(PayError::Impossible));
    assert_eq!(pay(net, &first, &wallet.receipt(13, one)), Err(PayError::NotEnough));
    let two = pay(net, &first, &wallet.receipt(12, one)).unwrap();
    assert_eq!((means(id, &two).unwrap().output, earned(id)), (None, 22));
    // Used up: by a payment's hash it holds too little, by the first one's it cannot be spent.
    assert_eq!(pay(net, &two, &wallet.receipt(1, two)), Err(PayError::NotEnough));
    assert_eq!(pay(net, &first, &wallet.receipt(1, two)), Err(PayError::Impossible));

    // The mempool takes what the ledger refuses: a wrong signature, another client's, a second spending.
    assert!(refused(id).is_empty());
    let tx = add_transaction(id, wallet.transaction(100));
    let mut broken = wallet.receipt(10, tx);
    let end = broken.len() - crate::receipt::SIGNATURE_LEN + 14 + 91;
    broken[end] ^= 1;
    pay(net, &tx, &broken).unwrap();
    let stranger = Wallet { provider: Key::generate().unwrap(), client: Key::generate().unwrap() };
    pay(net, &tx, &stranger.receipt(10, tx)).unwrap();
    set_by_hand(id, true);
    pay(net, &tx, &wallet.receipt(10, tx)).unwrap();
    pay(net, &tx, &wallet.receipt(11, tx)).unwrap();
    assert_eq!((waiting(id), earned(id)), (2, 22));
    process(id);
    set_by_hand(id, false);
    assert_eq!((waiting(id), earned(id)), (0, 32));
    let reasons: Vec<_> = refused(id).into_iter().map(|refusal| refusal.reason).collect();
    let expected = [
        "a signature of its receipt is wrong",
        "its receipt is signed by another client",
        "it spends what is spent already",
    ];
    assert_eq!(reasons, expected);

    // Only the network's own token pays.
    let foreign = add_transaction(id, Transaction { token: "OTHER".into(), ..wallet.transaction(100) });
    assert_eq!(pay(net, &foreign, &wallet.receipt(10, foreign)), Err(PayError::Impossible));
    assert_eq!(pay(net, &[7; 32], &wallet.receipt(10, [7; 32])), Err(PayError::Impossible));
}

#[test]
fn amounts_that_do_not_fit_are_no_payment() {
    let huge = Transaction { value: u128::MAX, fee: 1, ..Transaction::default() };
    assert!(!is_enough(77, &huge, u128::MAX));
    assert!(is_enough(77, &huge, u128::MAX - 1));
    assert_eq!(value_of(&value_bytes(u128::MAX)), Some(u128::MAX));
    assert_eq!(value_bytes(7), ReceiptInfo::value_of(7));
    let mut large = value_bytes(0);
    large[0] = 1;
    assert_eq!(value_of(&large), None);
}
