//! Free service through the gate.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use testkit::sockets::received;

use crate::inbox::Got;
use crate::server::{GATEWAY, NET, Server};

#[test]
fn a_free_order_is_served_without_a_receipt() {
    in_namespace("free::a_free_order_is_served_without_a_receipt", || {
        let server = Server::start("");
        let client = server.pauper(ledger::free_order(NET));
        client.request();
        assert_eq!(client.success(), 20);
        let address = client.lease();
        assert_eq!(address.octets()[..3], GATEWAY.octets()[..3]);
        client.send_datagrams(3, 100, server.socket.local_addr().unwrap().port());
        for number in 0..3 {
            let (payload, from) = received(&server.socket, &format!("datagram {number}"));
            assert_eq!((payload.len(), from.ip()), (100, address.into()));
        }
        server.socket.send_to(&[0x77; 64], (address, 4242)).unwrap();
        assert!(client.next_packet().ends_with(&[0x77; 64]));
        client.ping();
        assert_eq!((client.receipts().len(), ledger::earned(NET)), (0, 0));
        // The same request again gets the same answer.
        let usage = client.usage();
        client.request();
        assert_eq!((client.success(), client.usage()), (20, usage));
        std::thread::sleep(Duration::from_millis(300));
        let errors = client.received().into_iter().filter(|(_, got)| !matches!(got, Got::Service { kind: 0xf0, .. }));
        assert_eq!(errors.count(), 0);
    });
}
