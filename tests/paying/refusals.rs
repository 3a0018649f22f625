//! What is missing is named in a sentence, and nothing is spent.

use embedded::ledger;
use embedded::wallets::address_text;
use testkit::netns::in_namespace;

use crate::server::{CELL, NET, Shop, cell};

/// Runs a client to its end; returns its log. Its code must be this one.
fn refused(shop: &Shop, options: &[&str], code: i32) -> String {
    let mut client = shop.hosts.client(&shop.paying(options));
    let got = client.exit_code();
    let log = client.log();
    assert_eq!(got, Some(code), "{options:?}\n{log}");
    log
}

#[test]
fn what_a_client_lacks_is_named() {
    in_namespace("refusals::what_a_client_lacks_is_named", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL, 1 GB for 3 CELL]\n");
        let order = embedded::prices::read(&embedded::config::current()).unwrap()[1].hash;
        let order = address_text(&order);
        let says = |options: &[&str], code: i32, parts: &[&str]| {
            let log = refused(&shop, options, code);
            assert!(parts.iter().all(|part| log.contains(part)), "{options:?}: expected {parts:?}\n{log}");
        };
        says(
            &["--wallet", "purse"],
            2,
            &["--wallet purse: there is no wallet \"purse\"", "cellframe-vpn wallet new purse"],
        );
        let purse = shop.wallet("purse", 0);
        let costs = "the order costs 500000000000000000 datoshi CELL for 3600 seconds";
        says(&["--wallet", "purse"], 1, &[costs, "but no value is chosen: run", "--value AMOUNT"]);
        says(&["--wallet", "purse", "--value", "0.4"], 1, &[costs, "more than the chosen value of 400000000000000000"]);
        says(&["--wallet", "purse", "--value", "2", "--token", "KEL"], 1, &[costs, "but the chosen token is KEL"]);
        let poor = format!(
            "wallet \"purse\" has 0 CELL at 10.55.0.1:8079, 2 CELL are needed: ask its operator to fund {}",
            address_text(&purse)
        );
        says(&["--wallet", "purse", "--token", "CELL", "--value", "2"], 1, &[&poor]);
        let unknown = "does not sell order 0x77";
        let named = "77".repeat(32);
        says(&["--wallet", "purse", "--order", &named], 1, &[unknown, "it sells 0x", &order]);
        says(&["--wallet", "purse", "--order", &order], 1, &["the order costs 3000000000000000000 datoshi CELL"]);
        // Nothing was spent.
        assert_eq!((ledger::operations(NET), ledger::locked(NET, &purse, &cell())), (0, 0));
    });
}

#[test]
fn a_client_without_a_wallet_hears_that_the_server_sells() {
    in_namespace("refusals::a_client_without_a_wallet_hears_that_the_server_sells", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL]\n");
        let log = refused(&shop, &[], 5);
        assert!(log.contains("no price for this request") && log.contains("--wallet NAME --value AMOUNT"), "{log}");
    });
}

#[test]
fn a_server_that_neither_sells_nor_gives_is_named() {
    in_namespace("refusals::a_server_that_neither_sells_nor_gives_is_named", || {
        let shop = Shop::open("allow_free_srv=false\n");
        shop.wallet("purse", 0);
        let log = refused(&shop, &["--wallet", "purse", "--value", "1"], 1);
        assert!(log.contains("10.55.0.1:8079 sells nothing in this network"), "{log}");
    });
}

#[test]
fn another_identity_is_refused_before_anything_is_asked() {
    in_namespace("refusals::another_identity_is_refused_before_anything_is_asked", || {
        let mut shop = Shop::open("prices=[1 h for 0.5 CELL]\n");
        shop.wallet("purse", CELL);
        shop.pin = format!("sha256:{}", "ab".repeat(32));
        let log = refused(&shop, &["--wallet", "purse", "--value", "1"], 5);
        assert!(log.contains("identity"), "{log}");
        assert_eq!(ledger::operations(NET), 1, "the funding alone");
    });
}
