//! The account book: what it says of each service, and that `vpn_stat`, HTTP and the ledger say the same.

use std::time::Duration;

use dap_chain_net_srv_vpn::sdk::clock;
use embedded::ledger;
use embedded::{cli, store};
use serde_json::Value;
use testkit::eventually;
use testkit::logged::log_lines;
use testkit::netns::in_namespace;
use vpn_core::wire::unit;

use crate::client::Sign;
use crate::customer::{Customer, bytes};
use crate::server::{NET, PRICE, Server};

/// The reply of a command of the node.
pub(crate) fn command(words: &str) -> String {
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    let reply = cli::run(&words);
    assert_eq!(reply.code, 0, "{words:?}: {}", reply.text);
    reply.text
}

/// The account book with its newest entries.
pub(crate) fn history(limit: usize) -> Value {
    serde_json::from_str(&command(&format!("vpn_stat -history -json -limit {limit}"))).unwrap()
}

/// The entries of a customer, the oldest first.
fn services(customer: &Customer) -> Vec<Value> {
    let text = command(&format!("vpn_stat -history -json -client {}", customer.name()));
    let history: Value = serde_json::from_str(&text).unwrap();
    history["services"].as_array().unwrap().clone()
}

/// What the book says that the customer has bought in a unit and not used.
pub(crate) fn left(customer: &Customer, unit: &str) -> i64 {
    let of_unit = services(customer).into_iter().filter(|entry| entry["unit"] == unit);
    of_unit.map(|entry| number(&entry, "bought") - number(&entry, "charged")).sum()
}

/// Waits until the customer's services have ended, and returns the last one.
fn ended(customer: &Customer) -> Value {
    let last = || services(customer).pop().filter(|last| !last["end"].is_null());
    eventually("the end of a service", || last().is_some());
    last().unwrap()
}

fn number(value: &Value, path: &str) -> i64 {
    let found = path.split('.').fold(value, |value, key| &value[key]);
    found.as_i64().unwrap_or_else(|| panic!("{path} of {value}"))
}

fn amounts(entry: &Value) -> [i64; 4] {
    ["brought", "bought", "charged", "left"].map(|key| number(entry, key))
}

fn receipts(entry: &Value) -> [i64; 3] {
    ["receipts.asked", "receipts.signed", "receipts.in_ledger"].map(|key| number(entry, key))
}

#[test]
fn a_paid_service_is_in_the_book_from_its_first_receipt_on() {
    in_namespace("book::a_paid_service_is_in_the_book_from_its_first_receipt_on", || {
        let mut server = Server::start("limit_down=8000\n");
        clock::set_wall(1_795_478_400);
        let order = server.byte_order(4000);
        let customer = Customer::new();
        let tx = customer.transaction(unit::BYTES, 2);
        let client = customer.pay(&server, order, tx);
        client.spend(&server, 1000);
        eventually("the payment", || receipts(&services(&customer)[0]) == [1, 1, 1]);
        // While it runs, all say the same.
        clock::set_wall(1_795_478_500);
        let [entry] = <[Value; 1]>::try_from(services(&customer)).unwrap();
        assert_eq!((amounts(&entry), customer.limits()), ([0, 4000, 1000, 3000], bytes(3000)));
        assert_eq!((&entry["end"], number(&entry, "updated")), (&Value::Null, 1_795_478_500));
        let stat: Value = serde_json::from_str(&command("vpn_stat -json")).unwrap();
        let session = &stat["sessions"][0];
        assert_eq!((&session["user"], &session["order"]), (&entry["client"], &entry["order"]));
        assert_eq!((number(session, "left"), receipts(session)), (3000, [1, 1, 1]));
        assert_eq!((number(session, "sent.bytes"), number(&entry, "sent")), (1000, 1000));
        assert_eq!((number(session, "limit_down"), &session["limit_up"]), (8000, &Value::Null));
        assert_eq!((&session["service"], &session["unit"]), (&Value::from("paid"), &Value::from("bytes")));
        let full = command("vpn_stat -full");
        for line in [
            format!("  user...............{}\n", customer.name()),
            "  left...............3000 bytes\n  receipts...........1 signed of 1, 1 in the ledger\n".into(),
            "  drops..............0 packets\n  limits.............8000 kbit/s down, any rate up\n  worker............."
                .into(),
        ] {
            assert!(full.contains(&line), "{line}{full}");
        }
        // The next receipt, and the end.
        client.signs(&[Sign::Good]);
        client.spend(&server, 1200);
        eventually("the second payment", || receipts(&services(&customer)[0]) == [2, 2, 2]);
        drop(client);
        let entry = ended(&customer);
        assert_eq!(amounts(&entry), [0, 8000, 2200, 5800]);
        assert_eq!(
            (&entry["end"], number(&entry, "begun")),
            (&Value::from("the client's stream ended"), 1_795_478_400)
        );
        customer.is_left(bytes(5800));
        // What it has left is brought to the next service; the book outlasts restarts.
        server.restart();
        let client = customer.come_back(&server, order, tx, Sign::Never);
        client.spend(&server, 300);
        drop(client);
        let entry = ended(&customer);
        assert_eq!((amounts(&entry), receipts(&entry)), ([5800, 0, 300, 5500], [0, 0, 0]));
        assert_eq!(services(&customer).len(), 2);
        let sums = &history(0)["sums"];
        assert_eq!((number(sums, "services"), number(sums, "charged.bytes"), number(sums, "sent")), (2, 2500, 2500));
        assert_eq!(sums["value"]["in_ledger"], ledger::earned(NET).to_string());
    });
}

#[test]
fn a_killed_service_is_charged_what_the_store_has_not() {
    in_namespace("book::a_killed_service_is_charged_what_the_store_has_not", || {
        let mut server = Server::start("");
        let order = server.byte_order(4000);
        let [paid, free] = [(); 2].map(|()| Customer::new());
        let client = paid.pay(&server, order, paid.transaction(unit::BYTES, 1));
        let stranger = free.connect(&server, ledger::free_order(NET), [0x77; 32]);
        stranger.request();
        stranger.success();
        stranger.lease();
        client.spend(&server, 700);
        // Both are stored within a second, the free one with its begin alone.
        std::thread::sleep(Duration::from_millis(1500));
        store::lose_writes(true);
        // It is served, and the store does not hear of it.
        client.spend(&server, 500);
        server.stop();
        store::lose_writes(false);
        server.go_on();
        drop((client, stranger));
        let entry = ended(&paid);
        let left = paid.limits().bytes;
        assert!(left == 3300 || left == 4000, "{left}");
        assert_eq!(amounts(&entry), [0, 4000, 4000 - left, left]);
        assert_eq!((&entry["end"], receipts(&entry)), (&Value::from("the server was killed"), [1, 1, 1]));
        let entry = ended(&free);
        assert_eq!((&entry["end"], &entry["service"]), (&Value::from("the server was killed"), &Value::from("free")));
    });
}

#[test]
fn why_a_service_ended() {
    in_namespace("book::why_a_service_ended", || {
        let server = Server::start("grace_period=2\npayment_timeout=5\n");
        let order = server.byte_order(2000);
        let reason = |customer: &Customer| ended(customer)["end"].as_str().unwrap().to_owned();
        let grace = Customer::new();
        let client = grace.connect(&server, order, [0x66; 32]);
        client.request();
        client.success();
        client.lease();
        client.spend(&server, 500);
        assert_eq!(reason(&grace), "the time of grace is over");
        let entry = ended(&grace);
        assert_eq!((amounts(&entry), number(&entry, "sent")), ([0, 0, 0, 0], 500));
        assert_eq!(entry["service"], "grace");
        let used = Customer::new();
        let client = used.pay(&server, order, used.transaction(unit::BYTES, 1));
        (0..3).for_each(|_| client.spend(&server, 1000));
        client.stopped();
        drop(client);
        assert_eq!(reason(&used), "the paid units are used");
        assert_eq!(amounts(&ended(&used)), [0, 2000, 2000, 0]);
        // The payment does not reach the ledger, and then it does.
        let late = Customer::new();
        let tx = late.transaction(unit::BYTES, 1);
        ledger::set_by_hand(NET, true);
        let client = late.pay(&server, order, tx);
        client.spend(&server, 500);
        client.stopped();
        drop(client);
        assert_eq!(reason(&late), "its payment did not reach the ledger");
        let entry = ended(&late);
        assert_eq!((amounts(&entry), receipts(&entry)), ([0, 2000, 500, 1500], [1, 1, 0]));
        ledger::process(NET);
        assert_eq!(receipts(&ended(&late)), [1, 1, 1]);
        late.is_left(bytes(1500));
        assert_eq!(ledger::earned(NET), 2 * PRICE);
    });
}

#[test]
fn a_flood_of_free_services_pushes_out_no_paid_one() {
    in_namespace("book::a_flood_of_free_services_pushes_out_no_paid_one", || {
        let keys = "account_book=4\naccount_book_free=3\nnew_leases_per_minute=10000\nleases_per_address=200\n";
        let mut server = Server::start(keys);
        let order = server.byte_order(2000);
        let customer = Customer::new();
        drop(customer.pay(&server, order, customer.transaction(unit::BYTES, 1)));
        ended(&customer);
        for _ in 0..20 {
            let client = server.pauper(ledger::free_order(NET));
            client.request();
            client.success();
        }
        eventually("the ends", || number(&history(0), "pushed_out.free.services") == 17);
        server.restart();
        let history = history(100);
        let kinds: Vec<_> = history["services"].as_array().unwrap().iter().map(|entry| &entry["service"]).collect();
        assert_eq!(kinds, ["paid", "free", "free", "free"]);
        assert_eq!(number(&history, "pushed_out.free.services"), 17);
    });
}

#[test]
fn an_operator_who_wants_no_book_gets_none() {
    in_namespace("book::an_operator_who_wants_no_book_gets_none", || {
        let server = Server::start("account_book=0\naccount_book_free=0\n");
        let customer = Customer::new();
        let client = customer.pay(&server, server.byte_order(2000), customer.transaction(unit::BYTES, 1));
        client.spend(&server, 500);
        let reply = cli::run(&["vpn_stat", "-history"].map(String::from));
        assert!(reply.code == -1 && reply.text.contains("account_book is 0"), "{reply:?}");
        assert!(
            command("vpn_stat -full").contains("  left...............1500 bytes\n  queue"),
            "{}",
            command("vpn_stat -full")
        );
        assert_eq!(store::list("local.vpn_server.book").unwrap(), []);
    });
}

#[test]
fn a_damaged_book_is_named_and_begun_anew() {
    in_namespace("book::a_damaged_book_is_named_and_begun_anew", || {
        const GROUP: &str = "local.vpn_server.book";
        let mut server = Server::start("");
        let order = server.byte_order(2000);
        let pay = |server: &Server| {
            let customer = Customer::new();
            drop(customer.pay(server, order, customer.transaction(unit::BYTES, 1)));
            ended(&customer);
        };
        let count = || history(0)["left_out"].as_i64().unwrap();
        pay(&server);
        let page = "is not readable: its field version has a value that this version does not know; it is left out";
        let pages =
            "[FF, FF, FF, FF, FF, FF, FF, FF]; expected two numbers of 4 bytes, 62500 at most; the book begins anew";
        for (key, value, line) in [("paid.0", &[9; 300][..], page), ("pages", &[0xff; 8], pages)] {
            assert_eq!(count(), 1);
            server.stop();
            store::set(GROUP, key, value).unwrap();
            server.go_on();
            let lines = log_lines(&format!("account book: {GROUP} / {key}: "));
            assert!(lines.len() == 1 && lines[0].ends_with(line), "{lines:?}");
            assert_eq!(count(), 0);
            pay(&server);
            server.restart();
        }
        assert_eq!(count(), 1);
    });
}
