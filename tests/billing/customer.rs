//! Customers: keys whose clients come and go, and what the node knows of them.

use std::io::{Read, Write};
use std::net::TcpStream;

use dap_chain_net_srv_vpn::app;
use embedded::ledger::{self, Hash, Transaction};
use embedded::receipt::Key;
use embedded::{config, listener, money, store};
use testkit::logged::log_lines;
use testkit::{TEST_TIMEOUT, eventually};
use vpn_core::wire::{Receipt, unit};

use crate::client::{PayingClient, Sign};
use crate::server::{NET, PRICE, Server};

/// Both units that a customer has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) bytes: i64,
    pub(crate) seconds: i64,
}

/// A rest in bytes.
pub(crate) fn bytes(bytes: i64) -> Rest {
    Rest { bytes, seconds: 0 }
}

/// A key. Its clients come and go.
pub(crate) struct Customer {
    key: Key,
}

impl Customer {
    pub(crate) fn new() -> Customer {
        Customer { key: Key::generate().unwrap() }
    }

    /// The hash of the key.
    pub(crate) fn key_hash(&self) -> Hash {
        self.key.hash()
    }

    /// Adds a transaction that can pay this number of receipts.
    pub(crate) fn transaction(&self, unit: u32, receipts: u128) -> Hash {
        let (client_key, value) = (self.key.hash(), receipts * PRICE);
        ledger::add_transaction(NET, Transaction { client_key, unit, value, ..Transaction::default() })
    }

    /// Opens a stream. The client signs every receipt until told otherwise.
    pub(crate) fn connect(&self, server: &Server, order: Hash, tx: Hash) -> PayingClient {
        PayingClient::connect(server.port, self.key.clone(), order, tx)
    }

    /// Connects, pays the first receipt and gets an address.
    pub(crate) fn pay(&self, server: &Server, order: Hash, tx: Hash) -> PayingClient {
        let client = self.connect(server, order, tx);
        client.signs(&[Sign::Good, Sign::Never]);
        client.request();
        assert_eq!(client.success(), 87);
        client.lease();
        client
    }

    /// Connects, proves the key and gets an address, without a payment. Further receipts are signed as `sign` says.
    pub(crate) fn come_back(&self, server: &Server, order: Hash, tx: Hash, sign: Sign) -> PayingClient {
        let client = self.connect(server, order, tx);
        client.request();
        assert_eq!(client.success(), 20);
        client.signs(&[sign]);
        client.lease();
        client
    }

    /// The name of the customer's records.
    pub(crate) fn name(&self) -> String {
        self.key.hash().iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02X}"))
    }

    /// The stored record, as it is.
    pub(crate) fn record(&self) -> Option<Vec<u8>> {
        store::get(&group(), &self.name()).unwrap()
    }

    /// Stores a record.
    pub(crate) fn set_record(&self, record: &[u8]) {
        store::set(&group(), &self.name(), record).unwrap();
    }

    /// Stores a rest, as a C node does.
    pub(crate) fn set_rest(&self, rest: Rest) {
        self.set_record(&[rest.bytes.to_le_bytes(), rest.seconds.to_le_bytes()].concat());
    }

    /// The stored rest.
    pub(crate) fn rest(&self) -> Rest {
        let record = self.record().unwrap_or(vec![0; 16]);
        match *record.as_chunks::<8>().0 {
            [bytes, seconds] => Rest { bytes: i64::from_le_bytes(bytes), seconds: i64::from_le_bytes(seconds) },
            _ => Rest::default(),
        }
    }

    /// Waits until the store has this rest, and no other session or payment changes it then.
    pub(crate) fn is_left(&self, rest: Rest) {
        eventually(std::fmt::from_fn(|f| write!(f, "{rest:?}, but {:?}", self.rest())), || self.rest() == rest);
        assert_eq!(limits(&self.name()), rest);
    }

    /// Waits until this number of the customer's paid sessions have ended, and returns the rest that the store has then.
    pub(crate) fn after(&self, sessions: usize) -> Rest {
        let books = format!("books closed: client {}, paid", self.name());
        eventually(&books, || log_lines(&books).len() == sessions && self.rest() == self.limits());
        self.rest()
    }

    /// What the node says over HTTP that is left.
    pub(crate) fn limits(&self) -> Rest {
        limits(&self.name())
    }
}

/// The group of records in the store: BILLING.md, and the C module.
fn group() -> String {
    let (_, server) = ask_limits(&format!("0x{}", "00".repeat(32)));
    format!("local.backbone.0x0000000000000001.remain_limits.{server}")
}

/// What the node says over HTTP that a client has left.
pub(crate) fn limits(name: &str) -> Rest {
    ask_limits(name).0
}

/// GET /remain_limits_vpn: the rest, and the hash of the node's key.
fn ask_limits(name: &str) -> (Rest, String) {
    let mut stream = TcpStream::connect(listener::addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let request =
        format!("GET /remain_limits_vpn?net_id={NET}&user_pkey_hash={name} HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let after = |key: &str| reply.split_once(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("{reply}")).1;
    let number = |key| {
        let text = after(key);
        text[..text.find([',', ' ', '}']).unwrap()].parse().unwrap()
    };
    let server = after("server_pkey_hash").trim_start_matches('"').split_once('"').unwrap().0.to_owned();
    (Rest { bytes: number("limit_bytes"), seconds: number("limit_sec") }, server)
}

impl PayingClient {
    /// Sends one IP packet of `bytes` bytes, which the server has handled when this returns.
    pub(crate) fn spend(&self, server: &Server, bytes: usize) {
        self.send_datagrams(1, bytes - 28, server.socket.local_addr().unwrap().port());
        self.ping();
    }

    /// The receipts that have come and are for sale, without proofs of the key.
    pub(crate) fn bills(&self) -> Vec<Vec<u8>> {
        let receipts = self.receipts().into_iter().map(|(_, receipt)| receipt);
        receipts.filter(|receipt| Receipt::parse(receipt).unwrap().info.units > 0).collect()
    }
}

impl Server {
    /// Stops the service, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.go_on();
    }

    pub(crate) fn stop(&self) {
        app::server_stop();
    }

    /// Starts the service after [`Server::stop`].
    pub(crate) fn go_on(&mut self) {
        app::server_start().unwrap();
        self.port = listener::addresses()[0].port();
        let socket = std::net::UdpSocket::bind((crate::server::GATEWAY, 0)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        self.socket = socket;
    }

    /// Ends the service, which must have logged errors that all contain `part`.
    pub(crate) fn end_with_errors(self, part: &str) {
        self.stop();
        assert_eq!((money::faults(), money::usages()), (vec![], 0));
        let (errors, expected) = (log_lines("ERROR"), log_lines(part));
        assert!(!errors.is_empty() && errors == expected, "{errors:?}");
        let directory = config::current().state_path();
        // Dropping it would complain of the errors.
        std::mem::forget(self);
        std::fs::remove_dir_all(directory).unwrap();
    }

    /// Adds an order in bytes.
    pub(crate) fn byte_order(&self, units: u64) -> Hash {
        self.order(unit::BYTES, units)
    }
}
