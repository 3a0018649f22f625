//! Signatures that are missing, wrong or late.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::{error_code, unit};

use crate::client::Sign;
use crate::server::{NET, PRICE, Server};

#[test]
fn nothing_is_given_for_a_bad_signature() {
    in_namespace("signatures::nothing_is_given_for_a_bad_signature", || {
        let server = Server::start("");
        let order = server.order(unit::SECONDS, 20);
        for (sign, code) in [
            (Sign::Broken, error_code::RECEIPT_WRONG_PKEY_HASH),
            (Sign::Stranger, error_code::RECEIPT_WRONG_PKEY_HASH),
            (Sign::OtherUnits, error_code::RECEIPT_CANT_FIND),
            (Sign::Unsigned, error_code::RECEIPT_NO_SIGN),
        ] {
            let client = server.payer(order, unit::SECONDS, PRICE);
            client.signs(&[sign]);
            client.request();
            assert_eq!(client.error().1, code, "{sign:?}");
        }
        // The ledger was not even asked.
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (0, vec![]));
    });
}

#[test]
fn a_late_signature_is_good() {
    in_namespace("signatures::a_late_signature_is_good", || {
        let server = Server::start("");
        let order = server.order(unit::SECONDS, 20);
        let client = server.payer(order, unit::SECONDS, PRICE);
        client.signs(&[Sign::Late(Duration::from_secs(2))]);
        client.request();
        assert_eq!(client.success(), 87);
        assert!(client.now() >= Duration::from_secs(2));
        assert_eq!(ledger::earned(NET), PRICE);
    });
}
