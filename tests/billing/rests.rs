//! A session ends with units left, and its client comes back.

use std::time::Duration;

use embedded::ledger;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::sockets::cut;
use vpn_core::wire::{Receipt, error_code, pkt, unit};

use crate::client::Sign;
use crate::customer::{Customer, Rest, bytes};
use crate::server::{NET, PRICE, Server};

#[test]
fn a_rest_is_served_without_a_payment_and_to_the_unit() {
    in_namespace("rests::a_rest_is_served_without_a_payment_and_to_the_unit", || {
        let server = Server::start("");
        let (by_byte, by_second) = (server.byte_order(6000), server.order(unit::SECONDS, 60));
        let customer = Customer::new();
        let (tx, timed) = (customer.transaction(unit::BYTES, 1), customer.transaction(unit::SECONDS, 1));

        let client = customer.pay(&server, by_byte, tx);
        client.spend(&server, 700);
        client.spend(&server, 300);
        assert_eq!(customer.limits(), bytes(5000));
        drop(client);
        customer.is_left(bytes(5000));
        assert_eq!(customer.record().unwrap().len(), 16);

        // A session in the other unit does not change this one.
        let client = customer.pay(&server, by_second, timed);
        let begin = client.now();
        client.spend(&server, 900);
        std::thread::sleep(Duration::from_millis(1200));
        let shown = customer.limits().seconds;
        let left = 60 - (client.now() - begin).as_secs().cast_signed();
        assert!((left - 1..=left).contains(&shown), "{shown} s shown, expected {left}");
        drop(client);
        let Rest { bytes: 5000, seconds } = customer.after(2) else { panic!("{:?}", customer.rest()) };
        assert!((left - 1..=left).contains(&seconds), "{seconds} s left, expected {left}");

        // The own transaction, which is used up, is good enough for a rest.
        let client = customer.come_back(&server, by_byte, tx, Sign::Never);
        let receipts = client.receipts();
        assert_eq!(receipts.len(), 1);
        let proof = Receipt::parse(&receipts[0].1).unwrap().info;
        assert_eq!((proof.units, proof.value, proof.units_type), (0, [0; 32], unit::BYTES));
        client.spend(&server, 400);
        assert_eq!(customer.limits(), Rest { bytes: 4600, seconds });
        drop(client);
        customer.is_left(Rest { bytes: 4600, seconds });
        let client = customer.come_back(&server, by_second, timed, Sign::Never);
        // A session that begins and ends in one round of the server's loop has no length.
        std::thread::sleep(Duration::from_millis(50));
        drop(client);
        let last = customer.after(4);
        assert!(last.bytes == 4600 && (seconds - 2..seconds).contains(&last.seconds), "{last:?} of {seconds} s");
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (2 * PRICE, vec![]));
    });
}

/// As on the SDK's branch kelvpn-cf, whose billing takes such a transaction for unknown, and bans the client in the end.
#[test]
fn a_rest_is_served_where_the_sdk_wants_money_left() {
    in_namespace("rests::a_rest_is_served_where_the_sdk_wants_money_left", || {
        let server = Server::start("");
        ledger::follow_chains(true);
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let (once, twice) = (customer.transaction(unit::BYTES, 1), customer.transaction(unit::BYTES, 2));
        let client = customer.pay(&server, order, once);
        client.spend(&server, 1000);
        drop(client);
        customer.is_left(bytes(5000));

        // To the last byte, with nothing to pay another receipt.
        let client = customer.come_back(&server, order, once, Sign::Never);
        let usage = client.usage();
        client.spend(&server, 2000);
        assert_eq!(customer.limits(), bytes(3000));
        client.request();
        assert_eq!((client.success(), client.usage()), (20, usage));
        drop(client);
        customer.is_left(bytes(3000));
        let client = customer.come_back(&server, order, once, Sign::Never);
        client.spend(&server, 3000);
        client.stopped();
        assert_eq!(client.receipts().len(), 1, "the proof of the key alone");
        drop(client);
        customer.is_left(bytes(0));

        // Then the same transaction is refused, and one with money is taken.
        let client = customer.connect(&server, order, once);
        client.request();
        assert_ne!(client.error().1, 0);
        drop(client);
        let client = customer.pay(&server, order, twice);
        client.spend(&server, 1000);
        drop(client);
        customer.is_left(bytes(5000));
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (2 * PRICE, vec![]));
    });
}

#[test]
fn a_stranger_who_claims_the_key_gets_nothing() {
    in_namespace("rests::a_stranger_who_claims_the_key_gets_nothing", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        let client = customer.pay(&server, order, tx);
        client.spend(&server, 1000);
        drop(client);
        customer.is_left(bytes(5000));

        for sign in [Sign::Stranger, Sign::Broken, Sign::Never] {
            let stranger = customer.connect(&server, order, tx);
            stranger.signs(&[sign]);
            stranger.request();
            if sign == Sign::Never {
                stranger.wait_service(pkt::SIGN_REQUEST);
            } else {
                assert_eq!(stranger.error().1, error_code::RECEIPT_WRONG_PKEY_HASH);
            }
            // What it sends does not pass, and it does not keep the owner away.
            let owner = customer.come_back(&server, order, tx, Sign::Never);
            owner.spend(&server, 100);
            drop(owner);
            drop(stranger);
        }
        customer.is_left(bytes(4700));
        assert_eq!(ledger::earned(NET), PRICE);
    });
}

#[test]
fn without_prove_key_a_rest_needs_no_signature() {
    in_namespace("rests::without_prove_key_a_rest_needs_no_signature", || {
        let server = Server::start("prove_key=false\n");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        customer.set_rest(bytes(5000));
        let client = customer.connect(&server, order, tx);
        client.signs(&[Sign::Never]);
        client.request();
        assert_eq!(client.success(), 20);
        client.lease();
        client.spend(&server, 300);
        assert_eq!(client.receipts().len(), 0);
        drop(client);
        customer.is_left(bytes(4700));
        assert_eq!(ledger::earned(NET), 0);
    });
}

#[test]
fn a_second_session_waits_for_the_first() {
    in_namespace("rests::a_second_session_waits_for_the_first", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        // Several go on, since the answer to a probe and the clock's tick race.
        let customers = [(); 8].map(|()| Customer::new());
        let tx = customers.each_ref().map(|customer| customer.transaction(unit::BYTES, 1));
        let first = |at: usize| customers[at].pay(&server, order, tx[at]);
        let second = |at: usize| {
            let client = customers[at].connect(&server, order, tx[at]);
            client.request();
            client.wait_service(pkt::SIGN_REQUEST);
            client
        };
        let [silent, quick, steady @ ..] = &customers;
        let silent_first = first(0);
        silent_first.spend(&server, 400);
        cut(([127, 0, 0, 1], server.port).into());
        let (quick_first, steady_first) = (first(1), [2, 3, 4, 5, 6, 7].map(first));
        let (silent_second, quick_second, steady_second) = (second(0), second(1), [2, 3, 4, 5, 6, 7].map(second));

        // The first session ends: the second one is served at once.
        std::thread::sleep(Duration::from_millis(500));
        quick_first.spend(&server, 500);
        let left = quick_second.now();
        drop(quick_first);
        assert_eq!(quick_second.success(), 20);
        let waited = quick_second.now() - left;
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        assert_eq!(quick.limits(), bytes(5500));

        // It does not answer: the second one takes over.
        assert_eq!(silent_second.success(), 20);
        let waited = silent_second.now();
        assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
        silent_second.lease();
        silent_second.spend(&server, 400);
        assert_eq!(silent.limits(), bytes(5200));

        // It goes on: the second one is refused.
        for client in &steady_second {
            let (refused, code) = client.error();
            assert_eq!(code, error_code::CANT_ADD_USAGE);
            assert!(refused > Duration::from_secs(2), "{refused:?}");
        }
        for (customer, client) in steady.iter().zip(&steady_first) {
            client.spend(&server, 600);
            assert_eq!(customer.limits(), bytes(5400));
        }

        drop((silent_first, silent_second, quick_second, steady_first, steady_second));
        for (customer, left) in [(silent, 5200), (quick, 5500)].into_iter().chain(steady.iter().map(|one| (one, 5400)))
        {
            customer.is_left(bytes(left));
        }
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (8 * PRICE, vec![]));
    });
}

#[test]
fn a_record_of_a_wrong_size_is_named_and_ignored() {
    in_namespace("rests::a_record_of_a_wrong_size_is_named_and_ignored", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        let record = [0x11; 24];
        customer.set_record(&record);
        let client = customer.connect(&server, order, tx);
        client.signs(&[Sign::Never]);
        client.request();
        client.wait_service(pkt::SIGN_REQUEST);
        assert_eq!(client.bills().len(), 1);
        drop(client);
        assert_eq!(customer.record().unwrap(), record);
        let named = log_lines(&customer.name());
        assert!(named.iter().any(|line| line.starts_with("WARN") && line.contains("24")), "{named:?}");
        let client = customer.pay(&server, order, tx);
        client.spend(&server, 1000);
        drop(client);
        customer.is_left(bytes(5000));
    });
}
