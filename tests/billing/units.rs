//! Units are paid for, and no more is served.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::client::Sign;
use crate::server::{NET, PRICE, Server};

/// How long after the end of the units packets may still pass.
const TIME_OVER: Duration = Duration::from_secs(1);
/// How many bytes may still pass then.
const BYTES_OVER: usize = 64 * 1024;

#[test]
fn seconds_are_served_as_they_are_paid() {
    in_namespace("units::seconds_are_served_as_they_are_paid", || {
        let server = Server::start("");
        let order = server.order(unit::SECONDS, 4);
        let client = server.payer(order, unit::SECONDS, 2 * PRICE);
        client.request();
        assert_eq!(client.success(), 87);
        let begin = client.now();
        client.lease();
        // Half of the units, and the next receipt, which uses the transaction up.
        assert_eq!(client.success(), 87);
        assert_eq!((client.receipts().len(), ledger::earned(NET)), (2, 2 * PRICE));
        let served = client.stopped() - begin;
        let paid = Duration::from_secs(8);
        assert!(served + Duration::from_millis(50) > paid && served < paid + TIME_OVER, "{served:?} for {paid:?}");
    });
}

#[test]
fn bytes_are_served_as_they_are_paid() {
    in_namespace("units::bytes_are_served_as_they_are_paid", || {
        const PAID: usize = 100_000;
        let server = Server::start("");
        let order = server.order(unit::BYTES, PAID as u64);
        let client = server.payer(order, unit::BYTES, PRICE);
        client.request();
        assert_eq!(client.success(), 87);
        client.lease();
        client.send_datagrams(400, 972, server.socket.local_addr().unwrap().port());
        client.stopped();
        server.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut served = 0;
        while let Ok(size) = server.socket.recv(&mut [0; 2000]) {
            served += size + 28;
        }
        assert!((PAID - 1000..=PAID + BYTES_OVER).contains(&served), "{served} bytes for {PAID}");
        assert_eq!(ledger::earned(NET), PRICE);
    });
}

#[test]
fn an_unsigned_next_receipt_ends_the_service_with_the_paid_one() {
    in_namespace("units::an_unsigned_next_receipt_ends_the_service_with_the_paid_one", || {
        let server = Server::start("");
        let order = server.order(unit::SECONDS, 3);
        let client = server.payer(order, unit::SECONDS, 5 * PRICE);
        client.signs(&[Sign::Good, Sign::Never]);
        client.request();
        client.success();
        let begin = client.now();
        let served = client.stopped() - begin;
        let paid = Duration::from_secs(3);
        assert!(served + Duration::from_millis(50) > paid && served < paid + TIME_OVER, "{served:?} for {paid:?}");
        assert_eq!((client.receipts().len(), ledger::earned(NET)), (2, PRICE));
    });
}
