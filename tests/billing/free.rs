//! Free service through the gate.

use std::net::Ipv4Addr;
use std::time::Duration;

use embedded::money::{self, Statistics, Traffic};
use embedded::{cli, ledger};
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::sockets::received;
use vpn_core::wire::{Request, error_code, pkt, problem, unit};

use crate::book::command;
use crate::client::Sign;
use crate::customer::Customer;
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

/// What `net_srv report` of a node tells is made of these counts, the earnings by the byte too.
#[test]
fn the_sdk_s_statistics_have_each_direction() {
    in_namespace("free::the_sdk_s_statistics_have_each_direction", || {
        let server = Server::start("");
        let traffic = |customer: &Customer, order, tx| {
            let client = customer.connect(&server, order, tx);
            client.signs(&[Sign::Good, Sign::Never]);
            client.request();
            client.success();
            let address = client.lease();
            // 3 packets of 128 bytes up, one of 92 down.
            client.send_datagrams(3, 100, server.socket.local_addr().unwrap().port());
            (0..3).for_each(|number| drop(received(&server.socket, &format!("datagram {number}"))));
            server.socket.send_to(&[0x77; 64], (address, 4242)).unwrap();
            client.next_packet();
            client.ping();
        };
        let one = Traffic { received: 92, sent: 3 * 128 };
        let customer = Customer::new();
        let is = |expected: Statistics| {
            let now = || money::statistics(&customer.key_hash());
            eventually(std::fmt::from_fn(|f| write!(f, "{expected:?}, but {:?}", now())), || now() == expected);
        };
        traffic(&customer, ledger::free_order(NET), [0x77; 32]);
        is(Statistics { free: one, ..Statistics::default() });
        traffic(&customer, server.byte_order(6000), customer.transaction(unit::BYTES, 1));
        is(Statistics { free: one, paid: one, ..Statistics::default() });
    });
}

/// Two addresses for one host, unused after two seconds.
const FOR_TWO: &str = "network_address=10.98.0.0\nnetwork_mask=255.255.255.248\nleases_per_address=2\nlease_unused=2\n";

#[test]
fn an_idle_lease_ends_for_another_client_unless_it_is_paid() {
    in_namespace("free::an_idle_lease_ends_for_another_client_unless_it_is_paid", || {
        let server = Server::start(FOR_TWO);
        let customer = Customer::new();
        let paid = customer.pay(&server, server.byte_order(6000), customer.transaction(unit::BYTES, 1));
        let free = || {
            let client = server.pauper(ledger::free_order(NET));
            client.request();
            client.success();
            client
        };
        let first = free();
        let held = first.lease();
        std::thread::sleep(Duration::from_millis(3500));
        // Both are idle. The paid one has been for longer, and stays; also when it is the only one that is idle.
        let second = free();
        assert_eq!(second.lease(), held);
        let third = free();
        assert_eq!(third.problem(), problem::NO_FREE_ADDR);
        eventually("the end", || log_lines("another client needed its unused address").len() == 1);
        paid.ping();
        second.ping();
        paid.spend(&server, 700);
    });
}

/// The embedded SDK has a free order in each network, whichever one `net` names.
#[test]
fn a_free_order_of_another_network_is_served_and_listed_there() {
    in_namespace("free::a_free_order_of_another_network_is_served_and_listed_there", || {
        const SECOND: u64 = 0x77;
        let server = Server::start("[networks]\nnames=[backbone,second]\n[network_second]\nid=0x77\n");
        let [here, there] = [NET, SECOND].map(|net_id| {
            let client = server.pauper(ledger::free_order(net_id));
            client.send_service(pkt::REQUEST, &Request { net_id, ..client.ask() }.encode());
            client.success();
            (client.lease().to_string(), client)
        });
        let listed = |words: &str| {
            let text = command(words);
            [&here.0, &there.0].map(|address| text.contains(&format!("client addr........{address}\n")))
        };
        assert_eq!(listed("vpn_stat"), [true, true]);
        assert_eq!(listed("vpn_stat -net second"), [false, true]);
        assert_eq!(listed("vpn_stat -full -net backbone"), [true, false]);
        let leases = |words: &str| {
            let text = command(words);
            [&here.0, &there.0].map(|address| text.lines().any(|line| line.split(' ').next() == Some(address)))
        };
        assert_eq!(leases("vpn_stat -leases"), [true, true]);
        assert_eq!(leases("vpn_stat -leases -net backbone"), [true, false]);
        let unknown = cli::run(&["vpn_stat", "-net", "third"].map(String::from));
        assert_eq!((unknown.code, unknown.text), (-2, "vpn_stat can't find network \"third\"".to_owned()));
        let book: serde_json::Value = serde_json::from_str(&command("vpn_stat -history -json -net second")).unwrap();
        assert_eq!((book["services"].as_array().unwrap().len(), &book["services"][0]["net"]), (1, &"second".into()));
        // An order of one network is none of the other.
        let client = server.pauper(ledger::free_order(SECOND));
        client.request();
        assert_eq!(client.error().1, error_code::PRICE_ERROR);
    });
}

/// The C module showed such an address as 0.0.0.0.
#[test]
fn an_address_that_is_leased_again_is_shown() {
    in_namespace("free::an_address_that_is_leased_again_is_shown", || {
        let server = Server::start("");
        let customer = Customer::new();
        for _ in 0..3 {
            let client = customer.connect(&server, ledger::free_order(NET), [0x77; 32]);
            client.request();
            client.success();
            assert_eq!(client.lease(), Ipv4Addr::new(10, 98, 0, 2));
            let text = command("vpn_stat");
            assert!(
                text.contains("client addr........10.98.0.2\n") && text.matches("client addr").count() == 1,
                "{text}"
            );
            drop(client);
            eventually("the end", || command("vpn_stat") == "No VPN connections");
        }
    });
}
