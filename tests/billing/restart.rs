//! The service stops and starts again.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::{error_code, unit};

use crate::client::Sign;
use crate::customer::{Customer, Rest, bytes};
use crate::server::{NET, PRICE, Server};

#[test]
fn rests_outlast_a_restart() {
    in_namespace("restart::rests_outlast_a_restart", || {
        let mut server = Server::start("");
        let (by_byte, by_second) = (server.byte_order(6000), server.order(unit::SECONDS, 60));
        let [ended, running, timed] = [(); 3].map(|()| Customer::new());
        let tx = [&ended, &running].map(|customer| customer.transaction(unit::BYTES, 1));
        let timed_tx = timed.transaction(unit::SECONDS, 1);
        let client = ended.pay(&server, by_byte, tx[0]);
        client.spend(&server, 500);
        drop(client);
        ended.is_left(bytes(5500));
        let client = running.pay(&server, by_byte, tx[1]);
        client.spend(&server, 700);
        let timed_client = timed.pay(&server, by_second, timed_tx);
        // The payments, which the ledger has, are looked for every 250 ms.
        std::thread::sleep(Duration::from_millis(600));
        server.restart();
        drop((client, timed_client));
        ended.is_left(bytes(5500));
        running.is_left(bytes(5300));
        let Rest { bytes: 0, seconds: 57..=59 } = timed.rest() else { panic!("{:?}", timed.rest()) };
        for (customer, tx, left) in [(&ended, tx[0], 5400), (&running, tx[1], 5200)] {
            let client = customer.come_back(&server, by_byte, tx, Sign::Never);
            client.spend(&server, 100);
            drop(client);
            customer.is_left(bytes(left));
        }
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (3 * PRICE, vec![]));
    });
}

/// M1 of a review: a client whose payment reached the ledger during the restart was asked to pay again.
#[test]
fn a_payment_that_arrives_during_a_restart_counts_at_once() {
    in_namespace("restart::a_payment_that_arrives_during_a_restart_counts_at_once", || {
        let mut server = Server::start("");
        let order = server.byte_order(6000);
        let customers = [(); 2].map(|()| Customer::new());
        let tx = customers.each_ref().map(|customer| customer.transaction(unit::BYTES, 2));
        let (timed, by_second) = (Customer::new(), server.order(unit::SECONDS, 60));
        let timed_tx = timed.transaction(unit::SECONDS, 1);
        ledger::set_by_hand(NET, true);
        let clients = [0, 1].map(|at| customers[at].pay(&server, order, tx[at]));
        clients.iter().for_each(|client| client.spend(&server, 500));
        let timed_client = timed.pay(&server, by_second, timed_tx);
        let [ended, running] = clients;
        drop(ended);
        customers[0].is_left(bytes(0));
        server.stop();
        ledger::process(NET);
        server.go_on();
        drop((running, timed_client));
        let Rest { bytes: 0, seconds: 57..=59 } = timed.limits() else { panic!("{:?}", timed.limits()) };
        for (customer, tx) in customers.iter().zip(tx) {
            assert_eq!(customer.limits(), bytes(5500), "before the client is back");
            let client = customer.come_back(&server, order, tx, Sign::Never);
            assert_eq!(client.bills().len(), 0);
            client.spend(&server, 500);
            drop(client);
            customer.is_left(bytes(5000));
        }
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (3 * PRICE, vec![]));
    });
}

#[test]
fn a_payment_that_arrives_after_a_restart_is_not_made_twice() {
    in_namespace("restart::a_payment_that_arrives_after_a_restart_is_not_made_twice", || {
        let mut server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 2);
        ledger::set_by_hand(NET, true);
        let client = customer.pay(&server, order, tx);
        client.spend(&server, 500);
        server.restart();
        drop(client);
        // The chain's payment is known, although no session was here yet.
        let client = customer.connect(&server, order, tx);
        client.request();
        assert!([error_code::CANT_ADD_USAGE, error_code::TX_CREATION_ERROR].contains(&client.error().1));
        assert_eq!(ledger::waiting(NET), 1);
        drop(client);
        ledger::process(NET);
        customer.is_left(bytes(5500));
        // Over another restart, too.
        server.restart();
        customer.is_left(bytes(5500));
        let client = customer.come_back(&server, order, tx, Sign::Never);
        drop(client);
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE, vec![]));
    });
}

#[test]
fn a_chain_that_waits_is_not_used_again_from_a_rest_after_a_restart() {
    in_namespace("restart::a_chain_that_waits_is_not_used_again_from_a_rest_after_a_restart", || {
        let mut server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 3);
        customer.set_rest(bytes(2000));
        ledger::set_by_hand(NET, true);
        let client = customer.come_back(&server, order, tx, Sign::Good);
        assert_eq!(client.success(), 87);
        server.restart();
        drop(client);
        // The rest is served, and half of a receipt is used. The payment is in the mempool.
        let client = customer.come_back(&server, order, tx, Sign::Good);
        std::thread::sleep(Duration::from_millis(800));
        assert_eq!((client.bills().len(), ledger::waiting(NET)), (0, 1));
        client.spend(&server, 500);
        drop(client);
        ledger::process(NET);
        customer.is_left(bytes(7500));
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE, vec![]));
    });
}
