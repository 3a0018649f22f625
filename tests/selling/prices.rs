//! What the configuration sells: from the price list to the last unit that a client has paid.

use std::net::SocketAddr;

use embedded::config::{self, Config};
use embedded::ledger::{self, Hash, Transaction};
use embedded::prices;
use testkit::http::get;
use testkit::netns::in_namespace;
use testkit::{Noise, eventually};
use vpn_core::money::Amount;
use vpn_core::wire::{error_code, pkt, unit};

use crate::client::{PayingClient, Sign};
use crate::customer::{Customer, bytes};
use crate::inbox::Got;
use crate::server::{NET, Server};

const CELL: u128 = Amount::TOKEN.0;

/// The hash of each entry of the price list.
fn sold() -> Vec<Hash> {
    prices::read(&config::current()).unwrap().into_iter().map(|price| price.hash).collect()
}

/// Sends `count` packets of 1000 bytes, and returns how many reach the server's host.
fn served(server: &Server, client: &PayingClient, count: usize) -> usize {
    server.socket.set_nonblocking(true).unwrap();
    for _ in 0..count {
        client.spend(server, 1000);
    }
    std::iter::from_fn(|| server.socket.recv(&mut [0; 2000]).ok()).count()
}

/// Three receipts of 3000 bytes for half a token each. The monitor adds up every few seconds.
fn the_monitor_tells_it() {
    let figures = || get(SocketAddr::from(([127, 0, 0, 1], 8078)), "/metrics", "").body;
    let all = [
        "cellframe_vpn_earned_total{token=\"CELL\",state=\"signed\"} 1.5",
        "cellframe_vpn_earned_total{token=\"CELL\",state=\"settled\"} 1.5",
        "cellframe_vpn_receipts_total{state=\"signed\"} 3",
        "cellframe_vpn_receipts_total{state=\"settled\"} 3",
        "cellframe_vpn_sold_bytes_total 9000",
        "cellframe_vpn_charged_bytes_total 9000",
        "cellframe_vpn_charged_seconds_total 0",
    ];
    let what = std::fmt::from_fn(|f| write!(f, "{all:#?} in {}", figures()));
    eventually(what, || all.iter().all(|line| figures().lines().any(|said| said == *line)));
}

/// Adds a transaction that holds this much.
fn money(customer: &Customer, unit: u32, value: u128) -> Hash {
    let client_key = customer.key_hash();
    ledger::add_transaction(NET, Transaction { client_key, unit, value, ..Transaction::default() })
}

/// Waits for the answer to REQUEST, which may be a refusal.
fn is_served(client: &PayingClient) -> bool {
    let has =
        |wanted| client.received().iter().any(|(_, got)| matches!(got, Got::Service { kind, .. } if *kind == wanted));
    eventually("an answer", || has(pkt::SUCCESS) || has(pkt::ERROR));
    let is_served = has(pkt::SUCCESS);
    if is_served {
        client.success();
    }
    is_served
}

#[test]
fn service_ends_with_the_money_and_goes_on_with_more() {
    in_namespace("prices::service_ends_with_the_money_and_goes_on_with_more", || {
        let server = Server::start("prices=[1 h for 1 CELL, 3000 B for 0.5 CELL]\n");
        let order = sold()[1];
        let customer = Customer::new();
        // Two receipts, and half of what a third one costs.
        let tx = money(&customer, unit::BYTES, CELL + CELL / 4);
        let client = customer.connect(&server, order, tx);
        client.request();
        assert_eq!(client.success(), 87);
        client.lease();
        // The next receipt is asked for at half.
        let first = served(&server, &client, 2);
        eventually("the second receipt", || ledger::earned(NET) == CELL);
        assert_eq!(first + served(&server, &client, 7), 6, "of 9 packets, for 6000 bytes");
        client.stopped();
        assert_eq!((client.bills().len(), ledger::earned(NET)), (2, CELL));
        let left = ledger::means(NET, &tx).unwrap().last.unwrap();
        assert_eq!(ledger::means(NET, &left).unwrap().output.unwrap().value, CELL / 4);
        drop(client);
        customer.is_left(bytes(0));

        let more = money(&customer, unit::BYTES, CELL / 2);
        let client = customer.connect(&server, order, more);
        client.request();
        assert_eq!(client.success(), 87);
        client.lease();
        assert_eq!(served(&server, &client, 4), 3);
        client.stopped();
        drop(client);
        customer.is_left(bytes(0));
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (CELL + CELL / 2, vec![]));
        assert_eq!(ledger::means(NET, &more).unwrap().last, None, "nothing is left in the chain");
        the_monitor_tells_it();
    });
}

#[test]
fn prices_end_the_free_order_unless_it_is_allowed() {
    in_namespace("prices::prices_end_the_free_order_unless_it_is_allowed", || {
        let sells = "prices=1 h for 1 CELL\n";
        for (keys, is_free) in [("", true), (sells, false), (&format!("{sells}allow_free_srv=on\n"), true)] {
            let server = Server::start(keys);
            let client = server.pauper(ledger::free_order(NET));
            client.request();
            if is_free {
                assert_eq!(client.success(), 20);
            } else {
                assert_eq!(client.error().1, error_code::PRICE_ERROR);
            }
        }
    });
}

/// The price list is read with the service's other keys.
#[test]
fn another_list_sells_other_orders_and_what_was_paid_stays() {
    in_namespace("prices::another_list_sells_other_orders_and_what_was_paid_stays", || {
        let mut server = Server::start("prices=[3000 B for 0.5 CELL]\n");
        let customer = Customer::new();
        let tx = money(&customer, unit::BYTES, CELL);
        let old = sold()[0];
        let client = customer.connect(&server, old, tx);
        client.signs(&[Sign::Good, Sign::Never]);
        client.request();
        assert_eq!(client.success(), 87);
        client.lease();
        assert_eq!(served(&server, &client, 1), 1);
        drop(client);
        customer.is_left(bytes(2000));

        server.stop();
        let before = config::current();
        let mut after = Config::empty();
        for (section, key) in before.keys().into_iter().filter(|(_, key)| *key != "prices") {
            after.set(section, key, &before.get_list(section, key).concat());
        }
        after.set("srv_vpn", "prices", "5 kB for 0.75 CELL");
        config::set_current(after);
        server.go_on();
        let client = customer.connect(&server, old, tx);
        client.request();
        assert_eq!(client.error().1, error_code::PRICE_ERROR);
        drop(client);
        let client =
            customer.come_back(&server, sold()[0], ledger::means(NET, &tx).unwrap().last.unwrap(), Sign::Never);
        assert_eq!(served(&server, &client, 3), 2);
        client.stopped();
        drop(client);
        customer.is_left(bytes(0));
        assert_eq!(ledger::earned(NET), CELL / 2);
    });
}

/// Customers with more or less money come, use, leave and come back in any order.
#[test]
fn the_sums_of_both_ends_and_of_the_ledger_are_equal() {
    const UNITS: u64 = 4000;
    const PRICE: u128 = CELL / 10;
    in_namespace("prices::the_sums_of_both_ends_and_of_the_ledger_are_equal", || {
        let server = Server::start("prices=[4000 B for 0.1 CELL]\n");
        let order = sold()[0];
        let seed = u64::from(std::process::id());
        eprintln!("seed {seed}");
        let mut noise = Noise::new(seed);
        let customers: Vec<_> = (0..5)
            .map(|_| {
                let customer = Customer::new();
                let value = noise.below(4) as u128 * PRICE + noise.below(1000) as u128;
                (money(&customer, unit::BYTES, value), customer, value)
            })
            .collect();
        let mut clients: Vec<Option<PayingClient>> = customers.iter().map(|_| None).collect();
        let mut used = vec![0; customers.len()];
        for _ in 0..120 {
            let at = noise.below(customers.len());
            let (tx, customer, _) = &customers[at];
            if clients[at].is_some() && noise.below(8) == 0 {
                clients[at] = None;
            } else if let Some(client) = &clients[at] {
                used[at] += 1000 * served(&server, client, 1 + noise.below(2)) as i64;
            } else {
                // By the last transaction of its chain, or the first if nothing is left.
                let last = ledger::means(NET, tx).unwrap().last.unwrap_or(*tx);
                let client = customer.connect(&server, order, last);
                client.request();
                if is_served(&client) {
                    client.lease();
                    clients[at] = Some(client);
                }
            }
        }
        drop(clients);
        let mut earned = 0;
        for ((tx, customer, money), used) in customers.iter().zip(used) {
            let means = ledger::means(NET, tx).unwrap();
            let left = means.last.map_or(0, |last| ledger::means(NET, &last).unwrap().output.unwrap().value);
            let receipts = (money - left) / PRICE;
            assert_eq!(money - left, receipts * PRICE, "a part of a receipt is paid");
            customer.is_left(bytes(receipts as i64 * UNITS as i64 - used));
            earned += receipts * PRICE;
        }
        assert!(earned > 0);
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (earned, vec![]));
    });
}
