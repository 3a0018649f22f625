//! The client pays: its choice of an order, its transactions, the receipts that it signs, the change to another
//! transaction. A bank of this file plays a node's ledger; the order is the server's free one, with a price that the bank
//! puts on it.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::abi::client::dap_chain_net_vpn_client_update;
use dap_chain_net_srv_vpn::abi::cmd::com_vpn_client;
use dap_chain_net_srv_vpn::app::{self, Status};
use dap_chain_net_srv_vpn::sdk::net::{Net, Order};
use dap_chain_net_srv_vpn::sdk::wallet::{
    Bank, Chain, Fees, Funds, Ledger as Owner, OpenError, Purchase, TxHash, set_bank,
};
use embedded::abi::net::dap_chain_net_by_name;
use host::lab::plug_in;
use host::netlink::Netlink;
use parking_lot::Mutex;
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use vpn_core::wire::{Receipt, ReceiptInfo, ServiceError, op, pkt, unit};

use crate::server::{OUTER, Server};

pub(crate) const PRICE: u64 = 1000;
const UNITS: u64 = 20;
const KEY: [u8; 32] = [0x4B; 32];
const FEES: Fees = Fees { network: 10, validators: 5 };

#[derive(Default)]
pub(crate) struct Ledger {
    /// The balance of the only wallet, "purse".
    pub(crate) balance: u64,
    pub(crate) made: Vec<Purchase>,
    pub(crate) closed: Vec<TxHash>,
    pub(crate) chains: HashMap<TxHash, Funds>,
    signed: Vec<Vec<u8>>,
    /// The server whose ledger this is; `None` for the network's own.
    pub(crate) server: Option<[u8; 32]>,
    /// How the ledger is opened.
    pub(crate) opens: Option<fn() -> Result<(), OpenError>>,
    /// It does not answer.
    pub(crate) is_silent: bool,
    /// It has no order.
    pub(crate) sells_nothing: bool,
    /// What its order counts in; `None` for seconds.
    pub(crate) unit: Option<u32>,
}

#[derive(Default)]
pub(crate) struct TestBank(pub(crate) Mutex<Ledger>);

impl TestBank {
    pub(crate) fn open(balance: u64) -> Arc<TestBank> {
        let bank = Arc::new(TestBank(Mutex::new(Ledger { balance, ..Ledger::default() })));
        set_bank(Some(Arc::clone(&bank) as Arc<_>));
        bank
    }

    pub(crate) fn made(&self) -> usize {
        self.0.lock().made.len()
    }

    fn signed(&self) -> usize {
        self.0.lock().signed.len()
    }

    /// The ledger gets the payment from the transaction that was made as number `made`.
    fn pays(&self, made: u8, payment: TxHash) {
        let mut ledger = self.0.lock();
        let funds = ledger.chains.get_mut(&[made; 32]).unwrap();
        funds.last = payment;
        funds.value -= PRICE + funds.fee;
    }
}

impl Bank for TestBank {
    fn open(&self, _net: &Net, _server: (&str, u16)) -> Result<(), OpenError> {
        let opens = self.0.lock().opens;
        opens.map_or(Ok(()), |opens| opens())
    }

    fn ledger(&self, _net: &Net) -> Owner {
        self.0.lock().server.map_or(Owner::Network, Owner::Server)
    }

    fn close(&self, _net: &Net, _wallet: &str, tx: &TxHash) -> bool {
        let mut ledger = self.0.lock();
        ledger.closed.push(*tx);
        ledger.chains.remove(tx).is_some()
    }

    fn orders(&self, net: &Net, selling_only: bool) -> Vec<Order> {
        let ledger = self.0.lock();
        let mut orders = if ledger.sells_nothing { Vec::new() } else { net.orders(selling_only) };
        for order in &mut orders {
            let unit = ledger.unit.unwrap_or(unit::SECONDS);
            (order.price, order.units, order.unit, order.token) = (PRICE, UNITS, unit, "CELL".into());
        }
        orders
    }

    fn fees(&self, _net: &Net) -> Fees {
        FEES
    }

    fn key_hash(&self, wallet: &str) -> Option<[u8; 32]> {
        (wallet == "purse").then_some(KEY)
    }

    fn sign(&self, wallet: &str, data: &[u8]) -> Option<Vec<u8>> {
        assert_eq!((wallet, data.len()), ("purse", ReceiptInfo::LEN));
        self.0.lock().signed.push(data.to_vec());
        Some(signature(8))
    }

    fn pay(&self, _net: &Net, purchase: &Purchase) -> Result<TxHash, Option<String>> {
        let mut ledger = self.0.lock();
        let cost = purchase.value + purchase.fee + FEES.network;
        ledger.balance = ledger.balance.checked_sub(cost).ok_or(None)?;
        ledger.made.push(purchase.clone());
        let hash = [ledger.made.len() as u8; 32];
        let fee = purchase.fee + FEES.network;
        let Purchase { value, unit, token, .. } = purchase.clone();
        let funds = Funds { last: hash, key_hash: KEY, value, fee, unit_price_max: 0, unit, token };
        ledger.chains.insert(hash, funds);
        Ok(hash)
    }

    fn chain(&self, _net: &Net, tx: &TxHash) -> Chain {
        let ledger = self.0.lock();
        if ledger.is_silent {
            return Chain::Unavailable;
        }
        ledger.chains.get(tx).cloned().map_or(Chain::Unknown, Chain::Open)
    }
}

fn signature(fill: u8) -> Vec<u8> {
    let mut bytes = vec![2, 1, 0, 0, 1, 0, 10, 0, 0, 0, 20, 0, 0, 0];
    bytes.resize(44, fill);
    bytes
}

fn receipt(units: u64, prev_tx: TxHash) -> Vec<u8> {
    receipt_for(PRICE, units, prev_tx)
}

fn receipt_for(price: u64, units: u64, prev_tx: TxHash) -> Vec<u8> {
    let value = ReceiptInfo::value_of(price);
    let info = ReceiptInfo { srv_uid: 1, units_type: unit::SECONDS, version: 2, units, value, prev_tx };
    Receipt::append_signature(&Receipt::unsigned(&info), &signature(7))
}

/// Calls the C function; returns its code.
pub(crate) fn update(wallet: &str, token: &str, value: u64) -> i32 {
    let (wallet, token) = (CString::new(wallet).unwrap(), CString::new(token).unwrap());
    // SAFETY: NUL-terminated texts; the network is the SDK's own.
    unsafe {
        let net = dap_chain_net_by_name(c"backbone".as_ptr());
        dap_chain_net_vpn_client_update(net.cast(), wallet.as_ptr(), token.as_ptr(), value)
    }
}

/// Runs the command `vpn_client` with these words; returns its code and its reply.
fn command(words: &str) -> (i32, String) {
    let words: Vec<CString> = words.split(' ').map(|word| CString::new(word).unwrap()).collect();
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    let mut reply = std::ptr::null_mut();
    // SAFETY: argc words, which live through the call; the reply is a text of the SDK's allocator.
    unsafe {
        let code = com_vpn_client(argv.len() as i32, argv.as_mut_ptr(), &raw mut reply, 1);
        let text = std::ffi::CStr::from_ptr(reply.cast()).to_str().unwrap().to_owned();
        libc::free(reply);
        (code, text)
    }
}

#[test]
fn init_succeeds_only_with_a_transaction() {
    in_namespace("payments::init_succeeds_only_with_a_transaction", || {
        let _server = Server::start("");
        let bank = TestBank::open(5000);
        assert_eq!(update("other", "CELL", 3000), -1);
        assert_eq!((update("purse", "CELL", 6000), bank.made()), (-3, 0));
        let init = |value| command(&format!("vpn_client init -w purse -token CELL -value {value} -net backbone"));
        let (code, text) = init(6000);
        assert!(code == -3 && text.contains("not init") && text.contains("not enough funds"), "{code} {text}");
        assert_eq!(init(3000), (0, "VPN client init successfully".to_owned()));
        let made = bank.0.lock().made.clone();
        let (wallet, token) = ("purse".to_owned(), "CELL".to_owned());
        assert_eq!(made, [Purchase { wallet, token, value: 3000, fee: 5, unit: unit::SECONDS }]);
    });
}

#[test]
fn a_start_that_cannot_pay_names_what_is_missing() {
    in_namespace("payments::a_start_that_cannot_pay_names_what_is_missing", || {
        let server = Server::start("");
        let bank = TestBank::open(5000);
        let refused = |says: &str| {
            assert_eq!(server.connect(), -2);
            let error = app::client_last_error().unwrap().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(app::client_status(), Status::NotStarted);
        };
        refused("costs 1000 datoshi CELL for 20 seconds, but no wallet is chosen: run vpn_client init -w");
        assert_eq!(update("purse", "CELL", 1014), 0);
        refused("a payment with its fees 1015 datoshi, more than the chosen value of 1014");
        assert_eq!(update("purse", "KEL", 2000), 0);
        refused("but the chosen token is KEL");
        // A failed init stores the choice all the same; start tries the purchase again.
        assert_eq!(update("purse", "CELL", 4000), -3);
        refused("cannot make a conditional transaction of 4000 datoshi CELL");
        assert_eq!(bank.made(), 2);
    });
}

/// No server serves an order by the piece: its transaction would lock the money for nothing.
#[test]
fn no_money_is_locked_for_an_order_by_the_piece() {
    in_namespace("payments::no_money_is_locked_for_an_order_by_the_piece", || {
        let server = Server::start("");
        let bank = TestBank::open(5000);
        bank.0.lock().unit = Some(unit::PIECES);
        let net = Net::by_name("backbone").expect("the network");
        let order: String = net.free_order().expect("an order").iter().map(|byte| format!("{byte:02X}")).collect();
        let mut config = embedded::config::Config::clone(&embedded::config::current());
        config.set("vpn_client", "order_hash", &order);
        embedded::config::set_current(config);
        let (code, text) = command("vpn_client init -w purse -token CELL -value 3000 -net backbone");
        assert!(code == -3 && text.contains("not init"), "{code} {text}");
        assert_eq!(log_lines(&format!("order_hash = 0x{order}: sells by the piece")).len(), 1);
        assert_eq!(server.connect(), -2);
        let error = app::client_last_error().expect("an error").to_string();
        assert!(error.contains("costs 1000 datoshi CELL for 20 pieces, which no server meters"), "{error}");
        assert_eq!((bank.made(), bank.0.lock().balance), (0, 5000));
    });
}

#[test]
fn only_what_was_agreed_is_signed() {
    in_namespace("payments::only_what_was_agreed_is_signed", || {
        let server = Server::start("");
        let bank = TestBank::open(5000);
        assert_eq!(update("purse", "CELL", 3045), 0);
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let ask = |units, prev_tx| server.send_service(pkt::SIGN_REQUEST, &receipt(units, prev_tx));
        ask(UNITS + 1, [1; 32]);
        eventually("a warning", || log_lines("number of units is 21, expected 20").len() == 1);
        // A server that has raised its price since the client read it.
        server.send_service(pkt::SIGN_REQUEST, &receipt_for(PRICE + 1, UNITS, [1; 32]));
        ask(UNITS, [9; 32]);
        ask(UNITS, [1; 32]);
        eventually("the first receipt", || log_lines("receipt 1 signed").len() == 1);
        ask(UNITS, [1; 32]);
        ask(UNITS, [9; 32]);
        sleep(Duration::from_millis(1500));
        assert_eq!(bank.signed(), 1, "the payment is not in the ledger");
        bank.pays(1, [9; 32]);
        eventually("the second receipt", || log_lines("receipt 2 signed").len() == 1);
        let signed = bank.0.lock().signed.clone();
        assert_eq!(signed.iter().map(|bytes| bytes[64..].to_vec()).collect::<Vec<_>>(), [[1; 32], [9; 32]]);
        let refused = log_lines("receipt not signed");
        assert!(refused.len() == 1 && refused[0].starts_with("WARN "), "{refused:?}");
        app::client_stop();

        // The next start uses what is left: it waits for the payment that the ledger lacks yet, and makes nothing.
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(Duration::from_millis(600));
                bank.pays(1, [10; 32]);
            });
            assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        });
        assert!(began.elapsed() > Duration::from_millis(600));
        ask(UNITS, [10; 32]);
        eventually("the third receipt", || bank.signed() == 3);
        assert_eq!(bank.made(), 1);
        app::client_stop();
    });
}

#[test]
fn the_end_of_a_paid_service_has_a_reason() {
    in_namespace("payments::the_end_of_a_paid_service_has_a_reason", || {
        let server = Server::start("");
        let _bank = TestBank::open(5000);
        assert_eq!(update("purse", "CELL", 3045), 0);
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let error = ServiceError { srv_uid: 1, usage_id: 1, code: 0x501, ..ServiceError::default() };
        server.send_typed(pkt::NOTIFY_STOPPED, &error.encode());
        eventually("the loss", || app::client_status() == Status::ConnectionLost);
        let reason = "connection lost: the server has stopped the service: the receipt is not signed (code 0x501)";
        assert!(app::client_last_error().unwrap().to_string().ends_with(reason));
        let (code, text) = command("vpn_client status -net backbone");
        assert!(code == 0 && text.starts_with("VPN client lost connection\n") && text.ends_with(reason), "{text}");
        assert_eq!(log_lines(reason).len(), 1);
        app::client_stop();
        assert!(app::client_last_error().is_none());
    });
}

/// The tunnel's device keeps its number, and the client is started all the time.
#[test]
fn a_used_up_transaction_is_replaced_in_the_same_device() {
    in_namespace("payments::a_used_up_transaction_is_replaced_in_the_same_device", || {
        let server = Server::start("");
        let bank = TestBank::open(5000);
        assert_eq!(update("purse", "CELL", 1015), 0);
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        let index = || {
            let device = app::client_lease().unwrap().device;
            Netlink::open().unwrap().link_index(&device).unwrap()
        };
        let first = index();
        let addresses = server.got(op::ADDR_REQUEST);
        server.send_service(pkt::SIGN_REQUEST, &receipt(UNITS, [1; 32]));
        eventually("the change", || {
            assert_eq!(app::client_status(), Status::Started);
            log_lines("continues with another transaction").len() == 1
        });
        assert_eq!((bank.made(), index()), (2, first));
        assert_eq!(server.got(op::ADDR_REQUEST), addresses + 1);
        // The new connection has the new transaction.
        server.send_service(pkt::SIGN_REQUEST, &receipt(UNITS, [2; 32]));
        eventually("the receipt", || bank.signed() == 2);
        app::client_stop();
        assert_eq!(app::client_status(), Status::Stopped);
    });
}

#[test]
fn without_money_the_service_goes_on_until_its_end() {
    in_namespace("payments::without_money_the_service_goes_on_until_its_end", || {
        let server = Server::start("");
        let bank = TestBank::open(1030);
        assert_eq!(update("purse", "CELL", 1015), 0);
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        server.send_service(pkt::SIGN_REQUEST, &receipt(UNITS, [1; 32]));
        eventually("a warning", || log_lines("the service ends when its paid units are used").len() == 1);
        assert_eq!((app::client_status(), bank.made(), bank.signed()), (Status::Started, 1, 1));
        app::client_stop();
    });
}

/// A stop need not wait for the ledger, nor for the stream of the connection that is to continue the present one.
#[test]
fn a_stop_ends_a_start_that_waits_for_the_ledger_and_a_change_that_waits_for_the_server() {
    let name = "payments::a_stop_ends_a_start_that_waits_for_the_ledger_and_a_change_that_waits_for_the_server";
    in_namespace(name, || {
        let server = Server::start("start_timeout=60\n");
        let bank = TestBank::open(5000);
        assert_eq!(update("purse", "CELL", 2030), 0);
        let stop = || {
            let began = Instant::now();
            app::client_stop();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_eq!(app::client_status(), Status::Stopped);
        };
        assert_eq!(server.connect(), 0, "{:?}", app::client_last_error());
        server.send_service(pkt::SIGN_REQUEST, &receipt(UNITS, [1; 32]));
        eventually("the first receipt", || log_lines("receipt 1 signed").len() == 1);
        stop();
        for pause in [0, 50, 500] {
            std::thread::scope(|scope| {
                let before = log_lines("costs 1000 datoshi").len();
                let start = scope.spawn(|| server.connect());
                eventually("the start", || log_lines("costs 1000 datoshi").len() > before);
                sleep(Duration::from_millis(pause));
                assert!(!start.is_finished(), "it waits for the payment");
                stop();
                assert_eq!(start.join().unwrap(), -2);
            });
            assert_eq!(app::client_last_error().unwrap().to_string(), "stopped while connecting");
        }

        bank.pays(1, [9; 32]);
        // A link to the host's file, which cannot be written.
        fs::remove_file("/etc/hosts").unwrap();
        fs::write("/etc/hosts", format!("{OUTER} vpn.test\n")).unwrap();
        assert_eq!(server.connect_by("vpn.test"), 0, "{:?}", app::client_last_error());
        server.send_service(pkt::SIGN_REQUEST, &receipt(UNITS, [9; 32]));
        eventually("another transaction", || bank.made() == 2);
        // From here on nothing at the server's address answers; the client waits two seconds before it dials.
        fs::write("/etc/hosts", "10.55.2.77 vpn.test\n").unwrap();
        Netlink::open().unwrap().add_veth("silent0", "silent1").unwrap();
        plug_in("silent0", Ipv4Addr::new(10, 55, 2, 9), 24).unwrap();
        plug_in("silent1", Ipv4Addr::new(10, 55, 1, 9), 24).unwrap();
        sleep(Duration::from_millis(3200));
        assert_eq!(app::client_status(), Status::Started);
        assert!(log_lines("cannot continue").is_empty(), "it dials");
        stop();
    });
}
