//! What the operator finds in the log: each event once, with the client's key, peer and amounts.

use std::net::Ipv4Addr;
use std::time::Duration;

use embedded::ledger;
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use testkit::sockets::received;
use vpn_core::wire::{error_code, pkt, unit};

use crate::client::{PayingClient, Sign};
use crate::customer::Customer;
use crate::inbox::Got;
use crate::server::{NET, Server};

/// The lines about a client, with `client KEY` for its key, without peer, number of the usage and times. Lines of the
/// thread that stores, which come when they come, are left out.
fn lines_of(key: &str) -> Vec<String> {
    let lines = log_lines(key).into_iter().filter(|line| !line.contains("limits saved: "));
    let short = lines.map(|line| {
        let (event, facts) = line.split_once(&format!("client {key}")).unwrap();
        let facts = facts.split(", ").filter(|fact| !fact.starts_with("usage ")).map(|fact| {
            // Times as they are measured, but not amounts, which are whole.
            if fact.strip_suffix(" s").is_some_and(|time| time.contains('.') && time.parse::<f64>().is_ok()) {
                return "TIME";
            }
            let is_peer = fact.strip_prefix(" at ").is_some_and(|peer| peer.starts_with("127.0.0.1:"));
            if is_peer { " at PEER" } else { fact }
        });
        format!("{event}client KEY{}", facts.collect::<Vec<_>>().join(", "))
    });
    short.collect()
}

fn saved(key: &str) -> Vec<String> {
    log_lines(key).into_iter().filter(|line| line.contains("limits saved: ")).collect()
}

/// Waits for the end of the session's last line.
fn until_ended(key: &str) {
    let ended = || lines_of(key).iter().any(|line| line.starts_with("INFO session ended: "));
    eventually("the end of the session", ended);
}

#[test]
fn a_paid_session_from_the_first_receipt_to_the_last_byte() {
    in_namespace("journal::a_paid_session_from_the_first_receipt_to_the_last_byte", || {
        let server = Server::start("");
        let order = server.byte_order(4000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 2);
        let client = customer.pay(&server, order, tx);
        client.signs(&[Sign::Good]);
        // The transaction of the first payment is in the ledger before the second receipt can be asked for.
        client.spend(&server, 1200);
        client.spend(&server, 1300);
        eventually("the second payment", || log_lines("receipt signed: ").len() == 2);
        client.spend(&server, 1400);
        client.spend(&server, 1400);
        server.socket.send_to(&[0x77; 72], (Ipv4Addr::new(10, 98, 0, 2), 4242)).unwrap();
        client.next_packet();
        client.spend(&server, 1300);
        eventually("half of the second receipt", || log_lines("limits at half: ").len() == 2);
        client.spend(&server, 1300);
        drop(client);
        let key = customer.name();
        until_ended(&key);
        let expected = [
            "INFO receipt asked for: client KEY at PEER, the first one of 4000 bytes",
            "INFO receipt signed: client KEY at PEER, the first one of 4000 bytes, and paid",
            "INFO limits granted: client KEY at PEER, by the first receipt, 4000 bytes left",
            "INFO service starts: client KEY at PEER, paid",
            "INFO address leased: client KEY at PEER, new, 1 in use",
            "INFO limits at half: client KEY at PEER, 1500 bytes left",
            "INFO receipt asked for: client KEY at PEER, the next one of 4000 bytes",
            "INFO receipt signed: client KEY at PEER, the next one of 4000 bytes, and paid",
            // 1300 bytes of it are used already by the packet that used the last of the first one.
            "INFO limits granted: client KEY at PEER, by the next receipt, 2700 bytes left",
            "INFO limits at half: client KEY at PEER, 1300 bytes left",
            "INFO no receipt asked for: client KEY at PEER, its transaction cannot pay another one, the service ends with \
             this one",
            "INFO limits used up: client KEY at PEER, the paid units are used, 0 bytes left",
            "INFO service ends: client KEY at PEER",
            "INFO books closed: client KEY, paid 8000 bytes, served 8000 bytes, charged 8000 bytes, left 0 bytes, written \
             off 0 bytes",
            "INFO session ended: client KEY at PEER, the client's stream ended, 7900 bytes up, 100 bytes down, TIME",
        ];
        assert_eq!(lines_of(&key), expected);
        let last = format!("INFO limits saved: client {key}, 0 bytes, 0 s");
        eventually("the last save", || saved(&key).last() == Some(&last));
    });
}

#[test]
fn what_is_left_is_saved_and_granted_again() {
    in_namespace("journal::what_is_left_is_saved_and_granted_again", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        let client = customer.pay(&server, order, tx);
        client.spend(&server, 700);
        drop(client);
        let key = customer.name();
        let line = format!("INFO limits saved: client {key}, 5300 bytes, 0 s");
        eventually("the rest", || saved(&key).iter().filter(|saved| **saved == line).count() == 1);
        let before = lines_of(&key).len();
        let client = customer.come_back(&server, order, tx, Sign::Never);
        client.spend(&server, 300);
        drop(client);
        eventually("the second end", || log_lines("session ended: ").len() == 2);
        let again = [
            "INFO proof of key asked for: client KEY at PEER, a receipt of value 0",
            "INFO limits granted: client KEY at PEER, from earlier payments, 5300 bytes left",
            "INFO service starts: client KEY at PEER, paid",
            "INFO address leased: client KEY at PEER, resumed, 1 in use",
            "INFO service ends: client KEY at PEER",
            "INFO books closed: client KEY, paid 5300 bytes, served 300 bytes, charged 300 bytes, left 5000 bytes, written \
             off 0 bytes",
            "INFO session ended: client KEY at PEER, the client's stream ended, 300 bytes up, 0 bytes down, TIME",
        ];
        assert_eq!(lines_of(&key)[before..], again);
    });
}

#[test]
fn a_wrong_signature_is_a_warning() {
    in_namespace("journal::a_wrong_signature_is_a_warning", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let customer = Customer::new();
        let client = customer.connect(&server, order, customer.transaction(unit::BYTES, 1));
        client.signs(&[Sign::Stranger]);
        client.request();
        assert_eq!(client.error().1, error_code::RECEIPT_WRONG_PKEY_HASH);
        drop(client);
        let expected = [
            "INFO receipt asked for: client KEY at PEER, the first one of 6000 bytes".to_owned(),
            format!(
                "WARN receipt refused: client KEY at PEER, {} (0x502)",
                vpn_core::wire::error_text(error_code::RECEIPT_WRONG_PKEY_HASH)
            ),
        ];
        assert_eq!(lines_of(&customer.name()), expected);
    });
}

/// A free session's lines; returns the address and what the log shows of it.
fn free_session(keys: &str) -> (String, Vec<String>) {
    let server = Server::start(keys);
    let client = server.pauper(ledger::free_order(NET));
    client.request();
    client.success();
    let address = client.lease();
    client.send_datagrams(2, 72, server.socket.local_addr().unwrap().port());
    received(&server.socket, "a datagram");
    received(&server.socket, "another one");
    let key = client.ask().client_pkey_hash.iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02X}"));
    drop(client);
    until_ended(&key);
    (address.to_string(), lines_of(&key))
}

#[test]
fn a_free_session_without_its_inner_address() {
    in_namespace("journal::a_free_session_without_its_inner_address", || {
        let (address, lines) = free_session("");
        let expected = [
            "INFO service starts: client KEY at PEER, free",
            "INFO address leased: client KEY at PEER, new, 1 in use",
            "INFO session ended: client KEY at PEER, the client's stream ended, 200 bytes up, 0 bytes down, TIME",
        ];
        assert_eq!(lines, expected);
        assert_eq!(log_lines(&address), [""; 0]);
    });
}

#[test]
fn a_free_session_with_its_inner_address_if_the_operator_wants_it() {
    in_namespace("journal::a_free_session_with_its_inner_address_if_the_operator_wants_it", || {
        let (address, lines) = free_session("log_addresses=true\n");
        assert_eq!(lines[1], format!("INFO address leased: client KEY at PEER, address {address}, new, 1 in use"));
        let ended = format!("address {address}, the client's stream ended, 200 bytes up, 0 bytes down, TIME");
        assert_eq!(lines[2], format!("INFO session ended: client KEY at PEER, {ended}"));
        assert_eq!(log_lines(&address).len(), 2);
    });
}

/// Requests that nobody can serve, as fast as the gate lets them pass: the client is told of each, the log is not.
#[test]
fn a_hostile_client_fills_no_log() {
    in_namespace("journal::a_hostile_client_fills_no_log", || {
        let server = Server::start("");
        let client: PayingClient = server.pauper([0x33; 32]);
        for _ in 0..6 {
            for _ in 0..8 {
                client.request();
            }
            std::thread::sleep(Duration::from_millis(1050));
        }
        client.wait_service(pkt::ERROR);
        let told = log_lines("request refused: ").len();
        let errors = client
            .received()
            .into_iter()
            .filter(|(_, got)| matches!(got, Got::Service { kind: pkt::ERROR, .. }))
            .count();
        assert!(errors >= 40 && told == 1, "{errors} errors, {told} lines");
    });
}
