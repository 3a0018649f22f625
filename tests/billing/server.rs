//! The service in this process, on an SDK with a ledger.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use dap_chain_net_srv_vpn::{app, sdk};
use embedded::config::{self, Config};
use embedded::ledger::{self, Hash, Order, Transaction};
use embedded::listener;
use embedded::money::{self, Fault};
use embedded::receipt::Key;
use host::lab::set_loopback_up;
use testkit::TEST_TIMEOUT;
use testkit::logged::{capture_log, log_lines};
use testkit::sockets::large_buffer;

use crate::client::PayingClient;

pub(crate) const NET: u64 = 0x0404_2022_0000_0000;
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// The value of one receipt.
pub(crate) const PRICE: u128 = 10;

/// The service. Dropping it stops the service; then there must have been no fault but those expected, and no usage must
/// be left.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) expected: Vec<Fault>,
    /// A socket on the server's host, at the server's inner address, that can buffer large bursts.
    pub(crate) socket: UdpSocket,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts the service with these keys of `[srv_vpn]`.
    pub(crate) fn start(keys: &str) -> Server {
        capture_log();
        sdk::start_logging();
        set_loopback_up().unwrap();
        money::play_the_sdk(crate::PLAYS_THE_SDK);
        let directory = tempfile::tempdir().unwrap();
        config::set_current(configuration(directory.path(), keys));
        app::server_start().unwrap();
        let socket = UdpSocket::bind((GATEWAY, 0)).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        large_buffer(&socket);
        let port = listener::addresses()[0].port();
        Server { port, expected: Vec::new(), socket, directory }
    }

    /// Has the service take these keys of `[srv_vpn]` instead of those before, while it runs.
    pub(crate) fn reload(&self, keys: &str) {
        app::server_reload(configuration(self.directory.path(), keys)).unwrap();
    }

    /// Adds an order of `units` units for [`PRICE`].
    pub(crate) fn order(&self, unit: u32, units: u64) -> Hash {
        ledger::add_order(NET, Order { unit, units, value: PRICE, token: "CELL".into(), is_ours: true })
    }

    /// Connects a client that may spend this much on an order.
    pub(crate) fn payer(&self, order: Hash, unit: u32, value: u128) -> PayingClient {
        let key = Key::generate().unwrap();
        let transaction = Transaction { client_key: key.hash(), unit, value, ..Transaction::default() };
        PayingClient::connect(self.port, key, order, ledger::add_transaction(NET, transaction))
    }

    /// Connects a client whose transaction nobody knows.
    pub(crate) fn pauper(&self, order: Hash) -> PayingClient {
        PayingClient::connect(self.port, Key::generate().unwrap(), order, [0x77; 32])
    }
}

fn configuration(directory: &Path, keys: &str) -> Config {
    let text = format!(
        "[general]\nstate_dir={}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
         [server]\nlisten_address=[127.0.0.1:0]\n\
         [srv_vpn]\nnet=backbone\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n{keys}",
        directory.display()
    );
    Config::parse(&text, "test").0
}

impl Drop for Server {
    fn drop(&mut self) {
        app::server_stop();
        if !std::thread::panicking() {
            assert_eq!((money::faults(), money::usages()), (std::mem::take(&mut self.expected), 0));
            let errors = log_lines("ERROR").into_iter().filter(|line| !line.contains(money::FAULT_LINE));
            assert_eq!(errors.collect::<Vec<_>>(), [""; 0], "the library has logged errors");
        }
    }
}
