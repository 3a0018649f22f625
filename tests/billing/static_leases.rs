//! Addresses that are one client's alone, by the hash of its key.

use std::net::Ipv4Addr;

use embedded::ledger;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::client::{PayingClient, Sign};
use crate::customer::{Customer, bytes};
use crate::server::{NET, Server};

fn reserved_for(owner: &Customer) -> String {
    format!("static_leases=[{}:10.98.0.3]\n", owner.name())
}

/// Returns the last octet of the address that a client with a service gets.
fn lease(client: &PayingClient) -> u8 {
    client.request();
    client.success();
    let address = client.lease();
    assert_eq!(address.octets()[..3], Ipv4Addr::new(10, 98, 0, 0).octets()[..3]);
    address.octets()[3]
}

/// A client with a free service that names this key.
fn free(server: &Server, named: &Customer) -> PayingClient {
    named.connect(server, ledger::free_order(NET), [0x77; 32])
}

#[test]
fn a_static_lease_is_for_the_client_that_has_proved_its_key() {
    in_namespace("static_leases::a_static_lease_is_for_the_client_that_has_proved_its_key", || {
        let owner = Customer::new();
        let mut server = Server::start(&reserved_for(&owner));
        let order = server.byte_order(6000);
        let strangers = [(); 2].map(|()| server.pauper(ledger::free_order(NET)));
        assert_eq!(strangers.each_ref().map(lease), [2, 4]);
        let pretender = free(&server, &owner);
        assert_eq!(lease(&pretender), 5, "it has only named the key");
        let said = log_lines("static lease not given: client ");
        assert!(said.len() == 1 && said[0].contains(&owner.name()), "{said:?}");

        let tx = owner.transaction(unit::BYTES, 1);
        let client = owner.connect(&server, order, tx);
        client.signs(&[Sign::Good, Sign::Never]);
        assert_eq!(lease(&client), 3, "it has signed a receipt");
        client.spend(&server, 1000);
        let other = Customer::new();
        let paid = other.connect(&server, order, other.transaction(unit::BYTES, 1));
        assert_eq!(lease(&paid), 6);
        drop(client);
        owner.is_left(bytes(5000));
        assert_eq!(lease(&server.pauper(ledger::free_order(NET))), 7, "also while it is away");

        server.restart();
        drop((strangers, pretender, paid));
        assert_eq!(lease(&free(&server, &owner)), 5, "what the key that was named had");
        let client = owner.connect(&server, order, tx);
        client.signs(&[Sign::Good, Sign::Never]);
        assert_eq!(lease(&client), 3, "it has signed a proof");
    });
}

#[test]
fn without_proofs_the_name_of_the_key_is_enough() {
    in_namespace("static_leases::without_proofs_the_name_of_the_key_is_enough", || {
        let owner = Customer::new();
        let server = Server::start(&format!("prove_key=false\n{}", reserved_for(&owner)));
        let client = free(&server, &owner);
        assert_eq!(lease(&client), 3);
        let second = free(&server, &owner);
        assert_eq!(lease(&second), 2, "the first one is alive");
    });
}
