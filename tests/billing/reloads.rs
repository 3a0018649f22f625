//! What a reload changes for the payments and the grace that begin after it, each shown by what the server then does.

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::{pkt, unit};

use crate::client::Sign;
use crate::customer::{Customer, bytes};
use crate::ends::is_given_up;
use crate::grace::{ends_after_a_second, is_refused, served};
use crate::server::{NET, Server};

#[test]
fn grace_has_its_reloaded_bounds() {
    in_namespace("reloads::grace_has_its_reloaded_bounds", || {
        let server = Server::start("");
        let order = server.byte_order(100_000);
        let graced = || {
            let client = server.pauper(order);
            client.request();
            assert_eq!(client.success(), 20);
            client.lease();
            client
        };
        // Packets of 500 bytes.
        let packets_of_grace = || {
            let client = graced();
            let packets = served(&server, &client, 8);
            client.stopped();
            packets
        };
        server.reload("grace_bytes=2000\ngrace_per_hour=9\n");
        assert_eq!(packets_of_grace(), 4);
        server.reload("grace_bytes=2000\ngrace_per_hour=9\ngrace_bytes_per_hour=3000\n");
        assert_eq!(packets_of_grace(), 2, "of all addresses together");
        assert!(is_refused(&server, order));
        server.reload("grace_bytes=2000\ngrace_per_hour=1\n");
        assert!(is_refused(&server, order), "the address has had its share");
        server.reload("grace_per_hour=9\ngrace_at_once=0\n");
        assert!(is_refused(&server, order), "no grace at the same time");
        server.reload("grace_per_hour=9\ngrace_period=1\n");
        ends_after_a_second(&graced());
    });
}

#[test]
fn a_payment_is_waited_for_as_long_as_the_reload_says() {
    in_namespace("reloads::a_payment_is_waited_for_as_long_as_the_reload_says", || {
        let server = Server::start("grace_period=0\npayment_timeout=60\n");
        server.reload("grace_period=0\npayment_timeout=5\n");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        ledger::set_by_hand(NET, true);
        let client = customer.connect(&server, order, tx);
        client.signs(&[Sign::Good, Sign::Never]);
        client.request();
        assert_eq!(client.success(), 87);
        is_given_up(&client);
    });
}

#[test]
fn a_rest_needs_a_signature_until_the_reload() {
    in_namespace("reloads::a_rest_needs_a_signature_until_the_reload", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        customer.set_rest(bytes(5000));
        let asks = || {
            let client = customer.connect(&server, order, tx);
            client.signs(&[Sign::Never]);
            client.request();
            client
        };
        asks().wait_service(pkt::SIGN_REQUEST);
        server.reload("prove_key=false\n");
        assert_eq!(asks().success(), 20);
        server.reload("");
        asks().wait_service(pkt::SIGN_REQUEST);
    });
}
