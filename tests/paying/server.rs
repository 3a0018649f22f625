//! A server in this process that sells, and a client's host with wallets.

use std::cell::Cell;

use dap_chain_net_srv_vpn::{app, sdk};
use embedded::config::{self, Config};
use embedded::ledger::{self, Hash};
use embedded::{tls, wallets};
use host::lab::set_loopback_up;
use testkit::hosts::Hosts;
use testkit::logged::{capture_log, log_lines};
use testkit::program::{Program, code, stdout};
use vpn_core::money::{Amount, Token};

/// The program that these tests run.
pub(crate) const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_cellframe-vpn"));
pub(crate) const NET: u64 = 0x0404_2022_0000_0000;
pub(crate) const CELL: u128 = Amount::TOKEN.0;

pub(crate) fn cell() -> Token {
    Token::new("CELL").unwrap()
}

/// The server. Dropping it stops it; then it must have logged no error.
pub(crate) struct Shop {
    pub(crate) hosts: Hosts,
    /// What the client's `--pin` gets.
    pub(crate) pin: String,
    is_open: Cell<bool>,
}

impl Shop {
    /// Starts a server with these keys of `[srv_vpn]`.
    pub(crate) fn open(keys: &str) -> Shop {
        capture_log();
        sdk::start_logging();
        set_loopback_up().unwrap();
        let hosts = Hosts::new(PROGRAM);
        let text = format!(
            "[general]\nstate_dir={}\n[resources]\nthreads_cnt=2\n[cli-server]\nenabled=false\n\
             [server]\nlisten_address=[0.0.0.0:8079]\n\
             [srv_vpn]\nnet=backbone\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n{keys}",
            hosts.state("server")
        );
        config::set_current(Config::parse(&text, "test").0);
        let mut shop = Shop { hosts, pin: String::new(), is_open: Cell::new(false) };
        shop.reopen();
        shop.pin = tls::fingerprint_text(&tls::identity_fingerprint(&config::current()).unwrap());
        shop
    }

    /// Makes a wallet on the client's host, funds it, and returns the hash of its key.
    pub(crate) fn wallet(&self, name: &str, amount: u128) -> Hash {
        let client = format!("[general]\nstate_dir={}\n", self.hosts.state("client"));
        let owner = wallets::create(&Config::parse(&client, "test").0, name).unwrap().hash();
        if amount > 0 {
            ledger::fund(NET, &owner, &cell(), amount).unwrap();
        }
        owner
    }

    /// The options of a client that pays, behind those that name the server.
    pub(crate) fn paying<'a>(&'a self, options: &[&'a str]) -> Vec<&'a str> {
        [&["--pin", &self.pin], options].concat()
    }

    /// What the client says of itself.
    pub(crate) fn status(&self) -> String {
        let status = self.hosts.near(&["status", "--state-dir", &self.hosts.state("client")]);
        assert_eq!(code(&status), 0, "{status:?}");
        stdout(&status)
    }

    pub(crate) fn close(&self) {
        self.is_open.set(false);
        app::server_stop();
    }

    pub(crate) fn reopen(&self) {
        app::server_start().unwrap();
        self.is_open.set(true);
    }

    pub(crate) fn restart(&self) {
        self.close();
        self.reopen();
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.is_open.get() {
            app::server_stop();
        }
        if !std::thread::panicking() {
            assert_eq!(log_lines("ERROR"), [""; 0], "the server has logged errors");
        }
    }
}
