//! The client pays out of the ledger of the server that it dials: one ledger and one transaction for each server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::app::{self, ClientError};
use dap_chain_net_srv_vpn::sdk::wallet::OpenError;
use embedded::{config, wallets};
use testkit::logged::log_lines;
use testkit::netns::in_namespace;

use crate::payments::{PRICE, TestBank, update};
use crate::server::Server;

/// Connects, which must work, and stops.
fn connect(server: &Server) {
    assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
    app::client_stop();
}

/// Fails to connect, for a reason that says this.
fn fails(server: &Server, says: &str) -> ClientError {
    assert_eq!(server.connect(), -2);
    let error = app::client_last_error().unwrap();
    assert!(error.to_string().contains(says), "{error}");
    error
}

#[test]
fn each_server_has_its_transaction() {
    in_namespace("ledgers::each_server_has_its_transaction", || {
        let server = Server::start("");
        let bank = TestBank::open(10_000);
        bank.0.lock().server = Some([1; 32]);
        // The choice is stored; the transaction is made where it is used.
        assert_eq!((update("purse", "CELL", 2 * PRICE + 30), bank.made()), (0, 0));
        let began = Instant::now();
        connect(&server);
        connect(&server);
        assert_eq!(bank.made(), 1, "the second start uses the transaction of the first");
        bank.0.lock().server = Some([2; 32]);
        connect(&server);
        assert_eq!(bank.made(), 2, "another ledger");
        bank.0.lock().server = Some([1; 32]);
        connect(&server);
        assert_eq!((bank.made(), bank.0.lock().closed.len()), (2, 0));
        // The server's ledger is the one that was asked: nobody waits for another node.
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    });
}

/// Without a node, `init` stores the choice of a wallet that is there.
#[test]
fn init_knows_the_wallets_of_the_state_directory() {
    in_namespace("ledgers::init_knows_the_wallets_of_the_state_directory", || {
        let server = Server::start("");
        assert_eq!(update("purse", "CELL", PRICE), -1);
        assert_eq!(log_lines("there is no wallet \"purse\"").len(), 1);
        wallets::create(&config::current(), "purse").unwrap();
        assert_eq!(update("purse", "CELL", PRICE), 0);
        // The server gives its service away, and the wallet is not touched.
        connect(&server);
        assert!(log_lines("conditional transaction").is_empty());
    });
}

#[test]
fn what_cannot_pay_any_more_is_taken_back() {
    in_namespace("ledgers::what_cannot_pay_any_more_is_taken_back", || {
        let server = Server::start("");
        let bank = TestBank::open(10_000);
        bank.0.lock().server = Some([1; 32]);
        assert_eq!(update("purse", "CELL", PRICE + 15), 0);
        connect(&server);
        let made = *bank.0.lock().chains.keys().next().unwrap();
        bank.0.lock().chains.get_mut(&made).unwrap().value = PRICE / 2;
        connect(&server);
        assert_eq!((bank.made(), bank.0.lock().closed.clone()), (2, vec![made]));
    });
}

/// A ledger that does not answer may have the transaction: no second one is made.
#[test]
fn a_silent_ledger_gets_no_second_transaction() {
    in_namespace("ledgers::a_silent_ledger_gets_no_second_transaction", || {
        let server = Server::start("");
        let bank = TestBank::open(10_000);
        bank.0.lock().server = Some([1; 32]);
        assert_eq!(update("purse", "CELL", PRICE + 15), 0);
        connect(&server);
        bank.0.lock().is_silent = true;
        let error = fails(&server, "the ledger cannot be asked for the conditional transaction");
        assert!(error.heals() && bank.made() == 1, "{error:?}");
        bank.0.lock().is_silent = false;
        connect(&server);
        assert_eq!(bank.made(), 1);
    });
}

#[test]
fn a_ledger_that_cannot_be_opened_is_named() {
    in_namespace("ledgers::a_ledger_that_cannot_be_opened_is_named", || {
        let server = Server::start("");
        let bank = TestBank::open(10_000);
        assert_eq!(update("purse", "CELL", PRICE + 15), 0);
        let opens = |opens| bank.0.lock().opens = Some(opens);
        opens(|| Err(OpenError::Connect(libc::ECONNREFUSED)));
        assert!(fails(&server, "Connection refused").heals());
        opens(|| Err(OpenError::Connect(libc::EKEYREJECTED)));
        assert!(!fails(&server, "the server's identity is not the pinned one").heals());
        opens(|| Err(OpenError::Busy("too many requests wait".into())));
        assert!(fails(&server, "refused: too many requests wait").heals());
        opens(|| Err(OpenError::Refused("network 0x5 is not known here".into())));
        assert!(!fails(&server, "refused: network 0x5 is not known here").heals());
        opens(|| Ok(()));
        bank.0.lock().server = Some([1; 32]);
        bank.0.lock().sells_nothing = true;
        assert!(!fails(&server, "sells nothing in this network").heals());
    });
}

#[test]
fn a_stop_ends_a_start_that_opens_a_ledger() {
    in_namespace("ledgers::a_stop_ends_a_start_that_opens_a_ledger", || {
        let server = Server::start("start_timeout=60\n");
        let bank = TestBank::open(10_000);
        assert_eq!(update("purse", "CELL", PRICE + 15), 0);
        bank.0.lock().opens = Some(|| {
            sleep(Duration::from_secs(5));
            Ok(())
        });
        std::thread::scope(|scope| {
            let start = scope.spawn(|| server.connect());
            sleep(Duration::from_millis(300));
            assert!(!start.is_finished());
            let began = Instant::now();
            app::client_stop();
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert_eq!(start.join().unwrap(), -2);
        });
        assert_eq!(app::client_last_error().unwrap().to_string(), "stopped while connecting");
    });
}
