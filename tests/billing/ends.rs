//! Sessions that end in each stage of their service and with each fate of their last payment: what is paid is charged,
//! left, or becomes a rest when the ledger gets the payment.

use std::time::Duration;

use embedded::ledger::{self, Hash};
use testkit::eventually;
use testkit::netns::in_namespace;
use vpn_core::wire::{error_code, pkt, unit};

use crate::book;
use crate::client::{PayingClient, Sign};
use crate::customer::{Customer, bytes};
use crate::server::{NET, PRICE, Server};

/// The bytes of one receipt.
const UNITS: u16 = 4000;
/// The bytes that a client uses before its session ends.
const USED: u16 = 500;

/// The stage in which a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A second session, which is asked for a proof of the key while the first one is served.
    Proving,
    /// A second session that has proved the key, and waits for the end of the first one.
    Waiting,
    /// A session that begins after the paying one, with a transaction that nobody knows.
    Grace,
    /// A session in the other unit that begins after the paying one, whose first receipt waits for a signature.
    FirstSign,
    /// The paying session, while it is served.
    Served,
    /// The paying session when its units are used, are taken back, or are waited for no more.
    Stopped,
}

/// What becomes of the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    /// The ledger has it at once.
    Settled,
    /// The ledger gets it after the end of the session.
    Unsettled,
    /// The ledger gets it when it has been taken back, and the session has ended.
    TakenBack,
    /// Its units count when the ledger has it, which is after the end of the session.
    Deferred,
}

/// A customer, with an order and a transaction in bytes, and both in seconds.
struct Case {
    customer: Customer,
    by_byte: [Hash; 2],
    by_second: [Hash; 2],
}

/// Lets a session pay, and one end in this stage. Returns the bytes that must be left in the end.
fn play(server: &Server, stage: Stage, payment: Payment, case: &Case) -> i64 {
    let Case { customer, by_byte: [order, tx], by_second: [timed, timed_tx] } = case;
    let (order, tx, timed, timed_tx) = (*order, *tx, *timed, *timed_tx);
    let payer = customer.connect(server, order, tx);
    payer.signs(&[Sign::Good, Sign::Never]);
    payer.request();
    assert_eq!(payer.success(), 87);
    let mut left = i64::from(UNITS);
    if payment != Payment::Deferred {
        payer.lease();
        payer.spend(server, USED.into());
        left -= i64::from(USED);
    }
    if payment == Payment::TakenBack {
        // One leaves before, and its payment is late.
        if stage != Stage::Served {
            payer.stopped();
        }
    } else if stage == Stage::Stopped && payment == Payment::Deferred {
        is_given_up(&payer);
    } else if stage == Stage::Stopped {
        for _ in 0..UNITS / USED {
            payer.spend(server, USED.into());
        }
        payer.stopped();
        left = 0;
    }
    match stage {
        Stage::Served | Stage::Stopped => drop(payer),
        Stage::Proving | Stage::Waiting => {
            let second = customer.connect(server, order, tx);
            second.signs(&[if stage == Stage::Waiting { Sign::Good } else { Sign::Never }]);
            second.request();
            second.wait_service(pkt::SIGN_REQUEST);
            std::thread::sleep(Duration::from_millis(400));
            drop(second);
            std::thread::sleep(Duration::from_millis(100));
            drop(payer);
        }
        Stage::Grace => {
            drop(payer);
            let second = customer.connect(server, order, [0x66; 32]);
            second.request();
            if payment == Payment::Deferred {
                // There is none without grace.
                assert_eq!(second.error().1, error_code::TX_COND_NOT_FOUND);
            } else {
                assert_eq!(second.success(), 20);
                second.lease();
                second.spend(server, 300);
            }
            drop(second);
        }
        Stage::FirstSign => {
            drop(payer);
            // Until the server has seen that the first session has ended, it asks for a proof of the key.
            let is_billed = || {
                let second = customer.connect(server, timed, timed_tx);
                second.signs(&[Sign::Never]);
                second.request();
                second.wait_service(pkt::SIGN_REQUEST);
                second.bills().len() == 1
            };
            eventually("a receipt for a second session", is_billed);
        }
    }
    left
}

/// Waits until the server no longer waits for the payment that is to count later.
pub(crate) fn is_given_up(payer: &PayingClient) {
    let paid = payer.now();
    // Until then a repeated REQUEST is answered, and ends nothing.
    payer.request();
    assert_eq!(payer.success(), 20);
    let (time, code) = payer.error();
    assert_eq!(code, error_code::TX_CREATION_ERROR);
    assert!((4..8).contains(&(time - paid).as_secs()), "{time:?}");
}

/// Has one session of an own customer end in each stage, at the same time.
fn play_all(server: &Server, payment: Payment) {
    let orders = [server.byte_order(UNITS.into()), server.order(unit::SECONDS, 60)];
    let stages = [Stage::Proving, Stage::Waiting, Stage::Grace, Stage::FirstSign, Stage::Served, Stage::Stopped];
    let cases = stages.map(|_| {
        let customer = Customer::new();
        let by_byte = [orders[0], customer.transaction(unit::BYTES, 2)];
        let by_second = [orders[1], customer.transaction(unit::SECONDS, 1)];
        Case { customer, by_byte, by_second }
    });
    ledger::set_by_hand(NET, payment != Payment::Settled);
    let left: Vec<i64> = std::thread::scope(|scope| {
        let plays = stages.iter().zip(&cases);
        let threads: Vec<_> = plays.map(|(stage, case)| scope.spawn(|| play(server, *stage, payment, case))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    if payment != Payment::Settled {
        // Payments that wait are looked through every second, and so are those that are late.
        std::thread::sleep(Duration::from_millis(1200));
        for (stage, case) in stages.iter().zip(&cases) {
            assert_eq!(case.customer.limits(), bytes(0), "{stage:?}: units of a payment that is not in the ledger");
        }
        ledger::process(NET);
    }
    for ((stage, case), left) in stages.iter().zip(&cases).zip(left) {
        eprintln!("{stage:?}, {payment:?}: {left} of {UNITS}");
        case.customer.is_left(bytes(left));
        // What the book says that was bought is charged or left, whatever has become of the payment.
        assert_eq!(book::left(&case.customer, "bytes"), left, "{stage:?}, {payment:?}");
    }
    assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE * stages.len() as u128, vec![]));
}

#[test]
fn in_each_stage_with_a_payment_in_the_ledger() {
    in_namespace("ends::in_each_stage_with_a_payment_in_the_ledger", || {
        play_all(&Server::start(""), Payment::Settled);
    });
}

#[test]
fn in_each_stage_before_the_payment_is_in_the_ledger() {
    in_namespace("ends::in_each_stage_before_the_payment_is_in_the_ledger", || {
        play_all(&Server::start(""), Payment::Unsettled);
    });
}

#[test]
fn in_each_stage_with_a_payment_that_was_taken_back() {
    in_namespace("ends::in_each_stage_with_a_payment_that_was_taken_back", || {
        play_all(&Server::start("payment_timeout=5\n"), Payment::TakenBack);
    });
}

#[test]
fn in_each_stage_with_a_payment_that_counts_later() {
    in_namespace("ends::in_each_stage_with_a_payment_that_counts_later", || {
        // Without grace every first payment counts later.
        play_all(&Server::start("grace_period=0\npayment_timeout=5\n"), Payment::Deferred);
    });
}

/// H1 of a review: the SDK overwrites the step that asks for a signature if it is set in its callback.
#[test]
fn a_client_with_half_a_receipt_left_signs_the_next_one_at_once() {
    in_namespace("ends::a_client_with_half_a_receipt_left_signs_the_next_one_at_once", || {
        let server = Server::start("");
        let order = server.byte_order(UNITS.into());
        let cases = [1, 1500, 2000].map(|rest| (rest, Customer::new()));
        let play = |(rest, customer): &(i64, Customer)| {
            let tx = customer.transaction(unit::BYTES, 1);
            customer.set_rest(bytes(*rest));
            let client = customer.come_back(&server, order, tx, Sign::Good);
            assert_eq!(client.success(), 87);
            assert!(client.now() < Duration::from_secs(2), "{:?}", client.now());
            assert_eq!((client.bills().len(), customer.limits()), (1, bytes(rest + i64::from(UNITS))));
            // Beyond the switch.
            for _ in 0..4 {
                client.spend(&server, USED.into());
            }
            drop(client);
            customer.is_left(bytes(rest + 2000));
        };
        std::thread::scope(|scope| {
            cases.each_ref().map(|case| scope.spawn(|| play(case))).map(|thread| thread.join().unwrap())
        });
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (3 * PRICE, vec![]));
    });
}

/// Sends `count` packets of 500 bytes, and returns how many reach the server's host.
fn served(server: &Server, client: &PayingClient, count: usize) -> usize {
    // What earlier clients have sent.
    server.socket.set_nonblocking(true).unwrap();
    while server.socket.recv(&mut [0; 2000]).is_ok() {}
    server.socket.set_nonblocking(false).unwrap();
    client.send_datagrams(count, 472, server.socket.local_addr().unwrap().port());
    client.ping();
    server.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::iter::from_fn(|| server.socket.recv(&mut [0; 2000]).ok()).count()
}

/// H3 of a review: the address of a client that leaves with an unused payment was charged a whole receipt.
#[test]
fn an_address_is_charged_for_what_was_served_without_a_payment() {
    in_namespace("ends::an_address_is_charged_for_what_was_served_without_a_payment", || {
        let server = Server::start("grace_bytes=10000\ngrace_per_hour=1\n");
        let order = server.byte_order(100_000);
        let customers = [(); 4].map(|()| Customer::new());
        let tx = customers.each_ref().map(|customer| customer.transaction(unit::BYTES, 1));
        ledger::set_by_hand(NET, true);
        for (customer, tx, used) in [(&customers[0], tx[0], 1), (&customers[1], tx[1], 1), (&customers[2], tx[2], 18)] {
            let client = customer.pay(&server, order, tx);
            assert_eq!(served(&server, &client, used), used);
            drop(client);
            std::thread::sleep(Duration::from_millis(300));
        }
        // Its grace is used by now: the next payment counts when it is in the ledger.
        let client = customers[3].connect(&server, order, tx[3]);
        client.signs(&[Sign::Good, Sign::Never]);
        client.request();
        assert_eq!(client.success(), 87);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(customers[3].limits(), bytes(0));
        ledger::process(NET);
        testkit::eventually("units", || customers[3].limits() == bytes(100_000));
        client.lease();
        assert_eq!(served(&server, &client, 2), 2);
        drop(client);
        for (customer, left) in customers.iter().zip([99_500, 99_500, 91_000, 99_000]) {
            customer.is_left(bytes(left));
        }
    });
}

/// H5 of a review: a session that begins from a rest pays from a chain whose last payment is not in the ledger.
#[test]
fn a_slow_chain_pays_one_receipt_at_a_time() {
    in_namespace("ends::a_slow_chain_pays_one_receipt_at_a_time", || {
        let server = Server::start("");
        let order = server.byte_order(UNITS.into());
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 3);
        customer.set_rest(bytes(1500));
        ledger::set_by_hand(NET, true);
        let client = customer.come_back(&server, order, tx, Sign::Good);
        assert_eq!(client.success(), 87);
        client.spend(&server, 1000);
        drop(client);
        customer.is_left(bytes(500));
        // Half is used, and the chain is not asked for another payment.
        let client = customer.come_back(&server, order, tx, Sign::Good);
        std::thread::sleep(Duration::from_millis(800));
        assert_eq!(client.bills().len(), 0);
        client.spend(&server, 500);
        client.stopped();
        drop(client);
        customer.is_left(bytes(0));
        // Nothing is left, and no first receipt is paid.
        let client = customer.connect(&server, order, tx);
        client.request();
        assert!([error_code::CANT_ADD_USAGE, error_code::TX_CREATION_ERROR].contains(&client.error().1));
        assert_eq!(ledger::waiting(NET), 1);
        ledger::process(NET);
        customer.is_left(bytes(UNITS.into()));
        drop(client);
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (PRICE, vec![]));
    });
}

/// H6 of a review: a payment that the mempool cannot store was taken for the one before it, which the ledger has.
#[test]
fn a_payment_that_the_node_cannot_store_gives_nothing() {
    in_namespace("ends::a_payment_that_the_node_cannot_store_gives_nothing", || {
        let server = Server::start("");
        let order = server.byte_order(UNITS.into());
        let [first, next] = [(); 2].map(|()| Customer::new());
        let tx = [&first, &next].map(|customer| customer.transaction(unit::BYTES, 2));
        // A first receipt.
        ledger::fail_to_store(true);
        let client = first.connect(&server, order, tx[0]);
        client.request();
        client.error();
        drop(client);
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!((first.limits(), ledger::waiting(NET), ledger::earned(NET)), (bytes(0), 0, 0));
        // The transaction is free for the next try.
        ledger::fail_to_store(false);
        let client = first.pay(&server, order, tx[0]);
        client.spend(&server, USED.into());
        drop(client);
        first.is_left(bytes(3500));
        // A next receipt: the paid one is served to its end.
        let client = next.pay(&server, order, tx[1]);
        client.signs(&[Sign::Good]);
        ledger::fail_to_store(true);
        assert_eq!(served(&server, &client, 5), 5);
        client.error();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(next.limits(), bytes(1500));
        assert_eq!(served(&server, &client, 3), 3);
        client.stopped();
        assert_eq!(served(&server, &client, 3), 0);
        drop(client);
        next.is_left(bytes(0));
        assert_eq!((ledger::earned(NET), ledger::refused(NET)), (2 * PRICE, vec![]));
        server.end_with_errors("the node could not store the payment");
    });
}

/// M8 of a review: a payment that arrives while the next session runs was not shown.
#[test]
fn a_payment_that_arrives_during_the_next_session_is_shown_and_kept() {
    in_namespace("ends::a_payment_that_arrives_during_the_next_session_is_shown_and_kept", || {
        let server = Server::start("");
        let order = server.byte_order(UNITS.into());
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 1);
        customer.set_rest(bytes(2000));
        ledger::set_by_hand(NET, true);
        let client = customer.come_back(&server, order, tx, Sign::Good);
        assert_eq!(client.success(), 87);
        drop(client);
        customer.is_left(bytes(2000));
        let client = customer.come_back(&server, order, tx, Sign::Never);
        client.spend(&server, USED.into());
        assert_eq!(customer.limits(), bytes(1500));
        ledger::process(NET);
        testkit::eventually("the payment", || customer.limits() == bytes(5500));
        client.spend(&server, USED.into());
        assert_eq!(customer.limits(), bytes(5000));
        drop(client);
        customer.is_left(bytes(5000));
        drop(customer.come_back(&server, order, tx, Sign::Never));
        customer.is_left(bytes(5000));
    });
}
