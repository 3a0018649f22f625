//! Service before the client's transaction is in the ledger.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::{error_code, pkt, unit};

use crate::client::{PayingClient, Sign};
use crate::customer::{Customer, bytes};
use crate::server::{NET, PRICE, Server};

/// Sends datagrams of 500 bytes one by one, and returns how many reach the server's host.
pub(crate) fn served(server: &Server, client: &PayingClient, count: usize) -> usize {
    for _ in 0..count {
        client.send_datagrams(1, 472, server.socket.local_addr().unwrap().port());
        std::thread::sleep(Duration::from_millis(2));
    }
    server.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    std::iter::from_fn(|| server.socket.recv(&mut [0; 2000]).ok()).count()
}

/// Whether another client from the same address is served before its payment.
pub(crate) fn is_refused(server: &Server, order: [u8; 32]) -> bool {
    let client = server.pauper(order);
    client.request();
    let (_, refused) = client.wait_service(pkt::ERROR);
    vpn_core::wire::ServiceError::parse(&refused).unwrap().code == error_code::TX_COND_NOT_FOUND
}

/// Waits for the end of a grace of a second, which begins with the client's first answer.
pub(crate) fn ends_after_a_second(client: &PayingClient) {
    let (time, code) = client.error();
    assert_eq!(code, error_code::TX_COND_NOT_FOUND);
    let time = time - client.received()[0].0;
    assert!((Duration::from_millis(600)..Duration::from_millis(1800)).contains(&time), "{time:?}");
}

#[test]
fn grace_is_bounded_in_time() {
    in_namespace("grace::grace_is_bounded_in_time", || {
        let server = Server::start("grace_period=1\ngrace_per_hour=2\n");
        let order = server.byte_order(100_000);
        for _ in 0..2 {
            let client = server.pauper(order);
            client.request();
            assert_eq!(client.success(), 20);
            client.lease();
            assert_eq!(served(&server, &client, 2), 2);
            // One address, one grace at a time, whatever key the client names.
            assert!(is_refused(&server, order));
            // The second one has what the first one has left of two seconds.
            ends_after_a_second(&client);
            client.stopped();
            assert_eq!(served(&server, &client, 2), 0);
        }
        // The address has used its time.
        assert!(is_refused(&server, order));
        assert_eq!(ledger::earned(NET), 0);
    });
}

#[test]
fn grace_is_bounded_in_bytes_per_address_and_in_total() {
    in_namespace("grace::grace_is_bounded_in_bytes_per_address_and_in_total", || {
        // 2000, then 2000, then what is left of the total.
        let server = Server::start("grace_bytes=2000\ngrace_per_hour=9\ngrace_bytes_per_hour=5000\n");
        let order = server.byte_order(100_000);
        for packets in [4, 4, 2] {
            let client = server.pauper(order);
            client.request();
            assert_eq!(client.success(), 20);
            client.lease();
            assert_eq!(served(&server, &client, 8), packets);
            client.stopped();
        }
        assert!(is_refused(&server, order));
        drop(server);
    });
}

#[test]
fn an_address_uses_its_bytes_up() {
    in_namespace("grace::an_address_uses_its_bytes_up", || {
        let server = Server::start("grace_bytes=2000\ngrace_per_hour=1\n");
        let order = server.byte_order(100_000);
        // A client that comes and goes has no more.
        for packets in [3, 1] {
            let client = server.pauper(order);
            client.request();
            assert_eq!(client.success(), 20);
            client.lease();
            assert_eq!(served(&server, &client, packets), packets);
            drop(client);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(is_refused(&server, order));
    });
}

#[test]
fn without_grace_a_client_waits_for_the_ledger() {
    for (name, keys) in
        [("no time", "grace_period=0\n"), ("no bytes", "grace_bytes=0\n"), ("none", "grace_at_once=0\n")]
    {
        in_namespace("grace::without_grace_a_client_waits_for_the_ledger", || {
            let server = Server::start(keys);
            assert!(is_refused(&server, server.byte_order(100_000)), "{name}");
        });
    }
}

#[test]
fn a_transaction_that_comes_is_charged_with_the_grace() {
    in_namespace("grace::a_transaction_that_comes_is_charged_with_the_grace", || {
        let server = Server::start("");
        let order = server.byte_order(20_000);
        let customer = Customer::new();
        ledger::set_by_hand(NET, true);
        let tx = customer.transaction(unit::BYTES, 1);
        let client = customer.connect(&server, order, tx);
        client.signs(&[Sign::Late(Duration::from_millis(300)), Sign::Never]);
        client.request();
        assert_eq!(client.success(), 20);
        client.lease();
        assert_eq!(served(&server, &client, 3), 3);
        ledger::set_by_hand(NET, false);
        ledger::process(NET);
        client.wait_service(pkt::SIGN_REQUEST);
        // Without a break, also while the receipt waits.
        assert_eq!(served(&server, &client, 2), 2);
        assert_eq!(client.success(), 87);
        assert_eq!(served(&server, &client, 4), 4);
        assert_eq!(customer.limits(), bytes(15_500));
        drop(client);
        customer.is_left(bytes(15_500));
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE, vec![]));
    });
}

#[test]
fn a_grace_ends_also_while_the_receipt_waits() {
    in_namespace("grace::a_grace_ends_also_while_the_receipt_waits", || {
        let server = Server::start("grace_bytes=2000\n");
        let order = server.byte_order(20_000);
        let customer = Customer::new();
        ledger::set_by_hand(NET, true);
        let tx = customer.transaction(unit::BYTES, 1);
        let client = customer.connect(&server, order, tx);
        client.signs(&[Sign::Late(Duration::from_millis(1500)), Sign::Never]);
        client.request();
        assert_eq!(client.success(), 20);
        client.lease();
        ledger::set_by_hand(NET, false);
        ledger::process(NET);
        client.wait_service(pkt::SIGN_REQUEST);
        assert_eq!(served(&server, &client, 10), 4);
        // The signature is still good, and what was served is charged.
        assert_eq!(client.success(), 87);
        assert_eq!(served(&server, &client, 3), 3);
        drop(client);
        customer.is_left(bytes(16_500));
    });
}
