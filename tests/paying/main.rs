//! A client of the program pays a server that sells, both without a node: the server is in this process, the client on
//! another host. What the client asks and brings goes over TLS to the server's ledger, which is durable.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used)]

mod refusals;
mod server;

use std::time::{Duration, Instant};

use embedded::ledger;
use embedded::wallets::address_text;
use testkit::netns::in_namespace;
use testkit::program::{code, stdout};
use testkit::sockets::ping;
use testkit::tunnel::{Client, GATEWAY};
use vpn_core::money::Amount;

use crate::server::{CELL, NET, Shop, cell};

/// A transaction pays two receipts, and a fifth of it is left over; the wallet has money for two transactions.
#[test]
fn a_client_pays_renews_and_ends_with_its_money() {
    in_namespace("a_client_pays_renews_and_ends_with_its_money", || {
        let shop = Shop::open("prices=[2 s for 0.5 CELL]\n");
        let purse = shop.wallet("purse", 5 * CELL / 2);
        let arguments = shop.paying(&["--wallet", "purse", "--value", "1.2", "--no-reconnect"]);
        let began = Instant::now();
        let mut client = Client::connect(&shop.hosts, 0, "client", &arguments);
        assert!(shop.hosts.at(0).run(|| ping(GATEWAY)), "the client's pings");
        let status = shop.status();
        assert!(status.contains("receipts of 500000000000000000 datoshi CELL for 2 seconds"), "{status}");

        // Four receipts of two seconds. What the first transaction had left is in the wallet again, and too little.
        client.running.wait_for_log("the tunnel continues with another transaction");
        client.running.wait_for_log("the service ends when its paid units are used, because no more can be paid");
        let log = client.running.log();
        let says = "wallet \"purse\" has 0.3 CELL at 10.55.0.1:8079, 1.2 CELL are needed: ask its operator to fund 0x";
        assert!(log.contains(says), "{log}");
        assert_eq!(client.running.exit_code(), Some(1), "{}", client.running.log());
        let lasted = began.elapsed();
        assert!((7..16).contains(&lasted.as_secs()), "{lasted:?}");
        assert!(client.running.log().contains("the connection to 10.55.0.1:8079 was lost"), "{}", client.running.log());

        // Both ends and the ledger agree.
        let signed = client.running.log().matches(" signed").count();
        assert_eq!(signed, 4, "{}", client.running.log());
        assert_eq!(ledger::earned(NET), 2 * CELL);
        let held =
            || (ledger::balance(NET, &purse, &cell()) * 10 / CELL, ledger::locked(NET, &purse, &cell()) * 10 / CELL);
        assert_eq!(held(), (3, 2));
        ledger::audit(NET).unwrap();

        // The next start takes back what the last transaction has left, and goes on after a top-up.
        let mut client = shop.hosts.client(&arguments);
        assert_eq!(client.exit_code(), Some(1), "{}", client.log());
        assert!(client.log().contains("has 0.5 CELL") && held() == (5, 0), "{:?} {}", held(), client.log());
        ledger::fund(NET, &purse, &cell(), CELL).unwrap();
        let client = Client::connect(&shop.hosts, 0, "client", &arguments);
        assert_eq!((ledger::earned(NET), held()), (5 * CELL / 2, (3, 7)));
        drop(client);
    });
}

/// A stop and a start in between cost nothing: the transaction is used on, also after the server has been restarted.
#[test]
fn a_transaction_is_used_until_it_is_empty() {
    in_namespace("a_transaction_is_used_until_it_is_empty", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL]\n");
        let purse = shop.wallet("purse", 4 * CELL);
        let arguments = shop.paying(&["--wallet", "purse", "--value", "2"]);
        let connect = |shop: &Shop, arguments: &[&str]| {
            let mut client = Client::connect(&shop.hosts, 0, "client", arguments);
            let stop = shop.hosts.near(&["stop", "--state-dir", &shop.hosts.state("client")]);
            assert_eq!(code(&stop), 0, "{stop:?}");
            assert_eq!(client.running.exit_code(), Some(0));
        };
        connect(&shop, &arguments);
        let after_one = (ledger::balance(NET, &purse, &cell()), ledger::earned(NET));
        assert_eq!(after_one, (2 * CELL, CELL / 2), "a transaction of 2, and a receipt");
        // The hour is the client's: nothing more is paid, nor locked. The choice of the first start is known.
        connect(&shop, &arguments[..4]);
        shop.restart();
        connect(&shop, &arguments[..4]);
        assert_eq!((ledger::balance(NET, &purse, &cell()), ledger::earned(NET)), after_one);

        // The wallet's owner sees the same from afar, by the wallet's name or its address.
        let address = address_text(&purse);
        for wallet in ["purse", &address] {
            let place = shop.hosts.state("client");
            let options = ["--connect", "10.55.0.1", "--pin", &shop.pin, "--state-dir", &place];
            let told = shop.hosts.far_with(&[&["wallet", "balance", wallet], &options[..]].concat());
            let expected = format!("{address}: 2 CELL, and 1.5 locked at 10.55.0.1:8079\n");
            assert_eq!((code(&told), stdout(&told)), (0, expected), "{told:?}");
        }
    });
}

/// Reads what a wallet has over the wire.
#[test]
fn a_free_server_costs_nothing() {
    in_namespace("a_free_server_costs_nothing", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL]\nallow_free_srv=true\n");
        let purse = shop.wallet("purse", CELL);
        let arguments = shop.paying(&["--wallet", "purse", "--value", "1"]);
        let client = Client::connect(&shop.hosts, 0, "client", &arguments);
        assert!(!shop.status().contains("paid:"), "{}", shop.status());
        drop(client);
        assert_eq!(ledger::balance(NET, &purse, &cell()), CELL);
        assert_eq!(Amount(ledger::earned(NET)), Amount(0));
    });
}

/// The ledger is asked through the kill switch: when the connection is made again, and after a crash.
#[test]
fn a_kill_switch_lets_the_ledger_be_asked() {
    in_namespace("a_kill_switch_lets_the_ledger_be_asked", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL]\n");
        let purse = shop.wallet("purse", CELL);
        let arguments = shop.paying(&["--wallet", "purse", "--value", "1", "--kill-switch"]);
        let mut client = Client::connect(&shop.hosts, 0, "client", &arguments);
        shop.restart();
        client = Client::connected(client.running, 2);
        client.running.child.kill().unwrap();
        assert_eq!(client.running.exit_code(), None, "killed");
        let client = Client::connect(&shop.hosts, 0, "client", &arguments);
        assert_eq!((ledger::earned(NET), ledger::locked(NET, &purse, &cell())), (CELL / 2, CELL / 2));
        drop(client);
    });
}

/// The client waits for a server that is not there yet as it does without paying.
#[test]
fn retry_waits_for_the_server_that_sells() {
    in_namespace("retry_waits_for_the_server_that_sells", || {
        let shop = Shop::open("prices=[1 h for 0.5 CELL]\n");
        shop.wallet("purse", CELL);
        let arguments = shop.paying(&["--wallet", "purse", "--value", "1", "--retry"]);
        shop.close();
        let mut client = shop.hosts.client(&arguments);
        client.wait_for_log("next attempt in about");
        assert!(client.log().contains("Connection refused"), "{}", client.log());
        std::thread::sleep(Duration::from_millis(200));
        shop.reopen();
        let client = Client::connected(client, 1);
        assert!(stdout(&shop.hosts.near(&["status", "--state-dir", &shop.hosts.state("client")])).contains("paid:1 "));
        drop(client);
    });
}
