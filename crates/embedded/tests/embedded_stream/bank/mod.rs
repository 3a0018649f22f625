//! Channel 'B': what a client is told of a server's ledger, and what hostile peers get.

mod hostile_server;
mod strangers;

use crate::support::*;
use embedded::bank::account::{self, Balance, BankError};
use embedded::ledger::{self, Hash, Order, Transaction};
use embedded::receipt::Key;
use sha3::{Digest, Sha3_256};
use vpn_core::money::bank::{ChainState, Left, Offer};
use vpn_core::money::{Instruction, Opening, Token};
use vpn_core::wire::unit;

const NET: u64 = 0x0404_2022_0000_0000;

fn cell() -> Token {
    Token::new("CELL").unwrap()
}

/// A server whose ledgers are empty.
fn server(more: &str) -> Sdk {
    let sdk = Sdk::start_with(2, more);
    ledger::reset();
    sdk
}

fn order(unit: u32, units: u64, value: u128) -> Order {
    Order { unit, units, value, token: "CELL".into(), is_ours: true }
}

#[test]
fn a_client_is_told_the_prices_and_the_end_of_its_chain() {
    let sdk = server("");
    let mut hashes = [order(unit::SECONDS, 20, 1 << 100), order(unit::BYTES, 1000, 7)].map(|order| {
        let hash = ledger::add_order(NET, order.clone());
        Offer { hash, unit: order.unit, units: order.units, value: order.value, token: cell() }
    });
    ledger::set_net_fee(NET, 3);
    assert_eq!(account::prices(0x77), Err(BankError::Closed));
    account::open(NET, "127.0.0.1", sdk.port()).unwrap();
    let prices = account::prices(NET).unwrap().unwrap();
    hashes.sort_by_key(|offer| offer.hash);
    assert_eq!((prices.payment_fee, prices.offers), (3, hashes.to_vec()));
    // No VPN service runs here.
    assert!(!prices.gives_free);

    let client_key = [9; 32];
    let transaction = Transaction { client_key, unit: unit::SECONDS, value: 100, fee: 2, ..Transaction::default() };
    let made = ledger::add_transaction(NET, transaction);
    let left = Left {
        last: made,
        key_hash: client_key,
        value: 100,
        fee: 5,
        max_unit_price: 0,
        unit: unit::SECONDS,
        token: cell(),
    };
    assert_eq!(account::chain(NET, &made), Ok(ChainState::Open(left)));
    assert_eq!(account::chain(NET, &[1; 32]), Ok(ChainState::Unknown));
    assert_eq!(account::balance(NET, &client_key, cell()), Ok(Balance { value: 0, locked: 100, counter: 0 }));
    let error = account::submit(NET, b"no transaction").unwrap_err();
    assert!(matches!(&error, BankError::Refused { code: 4, .. }), "{error}");
}

/// What `key` signs to lock a value, with its hash.
fn opening(key: &Key, counter: u64, change: impl FnOnce(&mut Opening)) -> (Vec<u8>, Hash) {
    let mut opening = Opening {
        net: NET,
        authority: account::identity(NET).unwrap(),
        owner: key.hash(),
        counter,
        token: cell(),
        value: 60,
        max_unit_price: 0,
        fee: 0,
        srv_uid: 1,
        unit: unit::SECONDS,
    };
    change(&mut opening);
    let signed = Instruction::Open(opening).encode();
    let signature = key.sign(&signed).unwrap();
    ([signed.as_slice(), &signature].concat(), Sha3_256::digest(&signed).into())
}

#[test]
fn a_transaction_is_entered_once_and_its_owner_sees_it() {
    let sdk = server("");
    account::open(NET, "127.0.0.1", sdk.port()).unwrap();
    // The identity that the client has pinned is the one that the ledger expects.
    assert_eq!(account::identity(NET).ok(), ledger::authority());
    let (owner, thief) = (Key::generate_wallet().unwrap(), Key::generate_wallet().unwrap());
    ledger::fund(NET, &owner.hash(), &cell(), 100).unwrap();
    let balance = || account::balance(NET, &owner.hash(), cell()).unwrap();
    assert_eq!(balance(), Balance { value: 100, locked: 0, counter: 0 });

    let (good, hash) = opening(&owner, 1, |_| {});
    assert_eq!(account::submit(NET, &good), Ok(hash));
    // Whoever brings the same again, as after a broken connection, gets the same answer, and nothing moves.
    assert_eq!(account::submit(NET, &good), Ok(hash));
    assert_eq!(balance(), Balance { value: 40, locked: 60, counter: 1 });
    let Ok(ChainState::Open(left)) = account::chain(NET, &hash) else { panic!("not in the ledger") };
    assert_eq!((left.value, left.key_hash, left.last), (60, owner.hash(), hash));

    let refused = |what: &str, transaction: &[u8], says: &str| {
        let error = account::submit(NET, transaction).expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
    };
    let other = |change: fn(&mut Opening)| opening(&owner, 2, change).0;
    refused("an old counter", &opening(&owner, 1, |opening| opening.value = 1).0, "counter");
    refused("too much", &opening(&owner, 2, |_| {}).0, "there is not enough");
    refused("another server", &other(|opening| opening.authority = [1; 32]), "another identity");
    refused("another network", &other(|opening| opening.net = 7), "network");
    refused("another's money", &opening(&thief, 2, |opening| opening.owner = owner.hash()).0, "another key");
    let mut forged = opening(&owner, 2, |opening| opening.value = 1).0;
    *forged.last_mut().unwrap() ^= 1;
    refused("a forged signature", &forged, "signature");
    for cut in [0, 1, 8, 100, forged.len() - 1] {
        assert!(account::submit(NET, &forged[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(balance(), Balance { value: 40, locked: 60, counter: 1 });
}

#[test]
fn the_connection_is_made_anew_when_the_server_has_closed_it() {
    let sdk = server("idle_timeout=1\n");
    account::open(NET, "127.0.0.1", sdk.port()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(account::chain(NET, &[1; 32]), Ok(ChainState::Unknown));
}

#[test]
fn the_errors_of_a_client_are_those_of_a_stream() {
    let sdk = server("");
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let errno = |port| match account::open(NET, "127.0.0.1", port) {
        Err(BankError::Unreachable { errno, .. }) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno(refusing), libc::ECONNREFUSED);
    let pin = format!("[vpn_client]\nserver_pin=sha256:{}\n", "00".repeat(32));
    configure(sdk.directory.path(), 2, &pin);
    assert_eq!(errno(sdk.port()), libc::EKEYREJECTED);
    configure(sdk.directory.path(), 2, "");
    let error = account::open(0x5555, "127.0.0.1", sdk.port()).unwrap_err();
    assert!(error.to_string().ends_with("refuses: network 0x5555 is not known here"), "{error}");
}
