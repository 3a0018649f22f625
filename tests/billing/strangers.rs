//! Packets with which any client ends a node that has no gate.

use std::thread;
use std::time::Duration;

use embedded::ledger;
use embedded::money::{self, Fault};
use testkit::eventually;
use testkit::netns::in_namespace;
use vpn_core::wire::{Check, Request, error_code, pkt, unit};

use crate::client::Sign;
use crate::inbox::Got;
use crate::server::{NET, PRICE, Server};

#[test]
fn no_packet_of_a_stranger_reaches_a_fault() {
    in_namespace("strangers::no_packet_of_a_stranger_reaches_a_fault", || {
        let server = Server::start("grace_period=1\n");
        let order = server.order(unit::SECONDS, 20);

        // An unknown order, then the end of the stream.
        let client = server.pauper([9; 32]);
        client.request();
        assert_eq!(client.error().1, error_code::PRICE_ERROR);
        drop(client);

        // A new transaction before any request.
        let client = server.pauper(order);
        client.send_service(pkt::NEW_TX_COND_RESPONSE, &client.ask().encode());
        // Another service, which has no callbacks.
        client.send_service(pkt::REQUEST, &Request { srv_uid: 2, ..client.ask() }.encode());
        client.error();
        // A check whose sizes do not agree.
        let check = Check { srv_uid: 1, data_size_send: 1, data_size_recv: 10_000, ..Check::default() };
        client.send_service(pkt::CHECK_REQUEST, &check.encode(&[]));
        assert_eq!(client.wait_service(pkt::CHECK_RESPONSE).1.len(), Check::LEN + 10_000);
        drop(client);

        // A receipt that is cut, and the client leaves while it waits.
        let client = server.payer(order, unit::SECONDS, PRICE);
        client.signs(&[Sign::Cut(95)]);
        client.request();
        client.wait_service(pkt::SIGN_REQUEST);
        client.error();
        // Another request in the same session.
        client.send_service(pkt::REQUEST, &Request { client_pkey_hash: [1; 32], ..client.ask() }.encode());
        client.error();
        drop(client);

        assert_eq!(money::faults(), []);
        assert_eq!(ledger::earned(NET), 0);

        // The server still serves.
        let client = server.payer(order, unit::SECONDS, PRICE);
        client.request();
        assert_eq!(client.success(), 87);
        assert_eq!(ledger::earned(NET), PRICE);
    });
}

/// What the kernel takes is output that waits as well: it takes megabytes.
#[test]
fn no_check_is_answered_before_the_client_has_the_last_answer() {
    in_namespace("strangers::no_check_is_answered_before_the_client_has_the_last_answer", || {
        const CHECKS: usize = 20;
        let server = Server::start("");
        let client = server.pauper([9; 32]);
        let check = Check { srv_uid: 1, data_size_recv: 60_000, data_hash: Check::hash(b""), ..Check::default() };
        let check = check.encode(&[]);
        client.reads(false);
        for _ in 0..CHECKS {
            client.send_service(pkt::CHECK_REQUEST, &check);
            // No more than eight a second.
            thread::sleep(Duration::from_millis(150));
        }
        client.reads(true);
        thread::sleep(Duration::from_secs(1));
        let is_answer = |got: &Got| matches!(got, Got::Service { kind: pkt::CHECK_RESPONSE, .. });
        let answers = client.received().iter().filter(|(_, got)| is_answer(got)).count();
        // As many as the client's kernel takes, and one more.
        assert!((1..CHECKS / 2).contains(&answers), "{answers} answers");
        client.send_service(pkt::CHECK_REQUEST, &check);
        client.wait_service(pkt::CHECK_RESPONSE);
    });
}

/// Without the gate the same packets are faults: the test above can fail.
#[test]
fn without_the_gate_they_are_faults_of_the_played_sdk_alone() {
    in_namespace("strangers::without_the_gate_they_are_faults_of_the_played_sdk_alone", || {
        let mut server = Server::start("gate=false\n");
        let mut expect = |fault| {
            if !crate::PLAYS_THE_SDK {
                thread::sleep(Duration::from_millis(200));
                return assert_eq!(money::faults(), []);
            }
            server.expected.push(fault);
            let expected = server.expected.clone();
            eventually(format!("faults {expected:?}"), move || money::faults() == expected);
        };
        let order = [9; 32];
        let port = server.port;
        let client =
            || crate::client::PayingClient::connect(port, embedded::receipt::Key::generate().unwrap(), order, [7; 32]);
        let unknown = client();
        unknown.request();
        assert_eq!(unknown.error().1, error_code::PRICE_ERROR);
        drop(unknown);
        expect(Fault::FreedUsage);
        let early = client();
        early.send_service(pkt::NEW_TX_COND_RESPONSE, &early.ask().encode());
        expect(Fault::NoUsage);
        let check = Check { srv_uid: 1, data_size_send: 1, data_size_recv: 10_000, ..Check::default() };
        early.send_service(pkt::CHECK_REQUEST, &check.encode(&[]));
        expect(Fault::CheckOverrun);
    });
}
