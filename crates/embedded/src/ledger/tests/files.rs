//! The process's ledgers in the files of a state directory.

use super::support::{cell, signed};
use crate::config::{self, Config};
use crate::ledger::{self, OpenError, Order, Transaction};
use crate::receipt::{self, Key};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use vpn_core::money::{Instruction, Opening};
use vpn_core::wire::{ReceiptInfo, unit};

const NET: u64 = 0x9a;
const OTHER: u64 = 0x9b;

fn opening(owner: &Key, net: u64, counter: u64, value: u128) -> Vec<u8> {
    let opening = Opening {
        net,
        authority: ledger::authority().unwrap(),
        owner: owner.hash(),
        counter,
        token: cell(),
        value,
        max_unit_price: 0,
        fee: 1,
        srv_uid: ledger::VPN_UID,
        unit: unit::SECONDS,
    };
    signed(&Instruction::Open(opening), owner)
}

fn state(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("state")
}

/// One test: the configuration and the ledgers are the process's.
#[test]
fn ledgers_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[general]\nstate_dir={}\n[networks]\nnames=[one,two]\n[network_one]\nid={NET}\n[network_two]\nid={OTHER}\n",
        state(&directory).display()
    );
    let set = || config::set_current(Config::parse(&text, "test.cfg").0);
    set();
    let net = crate::net::find_by_id(NET).unwrap();
    let alice = Key::generate_wallet().unwrap();

    // In memory, until it is opened.
    ledger::fund(NET, &alice.hash(), &cell(), 5).unwrap();
    assert!(!ledger::is_open() && !state(&directory).join("ledger-000000000000009a").exists());
    ledger::open().unwrap();
    assert_eq!((ledger::is_open(), ledger::balance(NET, &alice.hash(), &cell())), (true, 0));

    ledger::fund(NET, &alice.hash(), &cell(), 100).unwrap();
    // The other network's money is another.
    assert!(ledger::submit(OTHER, &opening(&alice, OTHER, 1, 10)).is_err());
    assert!(ledger::submit(OTHER, &opening(&alice, NET, 1, 10)).is_err());
    let first = ledger::submit(NET, &opening(&alice, NET, 1, 50)).unwrap();
    let issue = |value: u128, prev_tx| {
        let value = ledger::value_bytes(value);
        let info = ReceiptInfo { srv_uid: 1, units_type: unit::SECONDS, version: 2, units: 20, value, prev_tx };
        alice.add_to(&receipt::node_key().unwrap().issue(&info).unwrap()).unwrap()
    };
    let one = ledger::pay(net, &first, &issue(10, first)).unwrap();
    // What the ledger refuses is not paid, and the caller learns it.
    let foreign = Key::generate().unwrap();
    let info = ReceiptInfo { srv_uid: 1, units_type: unit::SECONDS, version: 2, units: 20, ..ReceiptInfo::default() };
    let info = ReceiptInfo { value: ledger::value_bytes(10), prev_tx: one, ..info };
    let stranger = alice.add_to(&foreign.issue(&info).unwrap()).unwrap();
    assert_eq!(ledger::pay(net, &first, &stranger), Err(ledger::PayError::Impossible));
    assert_eq!(ledger::refused(NET).len(), 1);

    let told = || {
        let key = alice.hash();
        let sums = (ledger::balance(NET, &key, &cell()), ledger::locked(NET, &key, &cell()), ledger::earned(NET));
        let last = ledger::means(NET, &first).and_then(|means| means.last);
        (sums, last, ledger::counter(NET, &key), ledger::operations(NET), ledger::history(NET, Some(&key), 100))
    };
    let before = told();
    assert_eq!((before.0, before.1, before.2, before.3), ((50, 39, 10), Some(one), 1, 3));
    ledger::add_order(NET, Order { unit: 2, units: 1, value: 1, token: "CELL".into(), is_ours: true });

    // Open already: nothing changes. Closed: nothing there. Opened: all there.
    ledger::open().unwrap();
    assert_eq!(told(), before);
    ledger::close();
    assert_eq!((ledger::is_open(), ledger::balance(NET, &alice.hash(), &cell())), (false, 0));
    set();
    ledger::open().unwrap();
    assert_eq!(told(), before);
    assert_eq!((ledger::audit(NET), ledger::audit(OTHER)), (Ok(()), Ok(())));
    // A test's transaction gets another hash than the one before the restart.
    let terms = || Transaction { client_key: alice.hash(), value: 3, ..Transaction::default() };
    assert_ne!(ledger::add_transaction(NET, terms()), ledger::add_transaction(NET, terms()));
    assert_eq!(ledger::locked(NET, &alice.hash(), &cell()), 45);

    // A network that has no file keeps nothing.
    let error = ledger::fund(7, &alice.hash(), &cell(), 1).unwrap_err();
    assert!(error.to_string().contains("no ledger of network 0x0000000000000007"), "{error}");

    // Another process is kept out; damage is named.
    let file = state(&directory).join("ledger-000000000000009a");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let own = crate::state::open(&config::current()).unwrap();
    let Err(error) = ledger::book::Book::open(NET, &own) else { panic!("opened twice") };
    assert!(matches!(&error, OpenError::Locked(path) if *path == file), "{error}");
    ledger::close();
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = ledger::open().unwrap_err().to_string();
    assert!(error.contains("damaged at byte 32") && error.contains("restore it from a copy"), "{error}");
    assert!(!ledger::is_open());
    ledger::reset();
}
