//! A day of a server with restarts and kills, and some minutes: in the end the book, the store, HTTP and the ledger agree
//! to the unit.

use std::time::{Duration, Instant};

use dap_chain_net_srv_vpn::sdk::clock;
use embedded::ledger::{self, Hash};
use embedded::store;
use serde_json::Value;
use testkit::eventually;
use testkit::netns::in_namespace_for;
use vpn_core::wire::unit;

use crate::book::{command, history};
use crate::client::{PayingClient, Sign};
use crate::customer::Customer;
use crate::server::{NET, PRICE, Server};

/// The begin of the day, in seconds since 1970, and its length.
const DAY: (u64, u64) = (1_795_392_000, 86_400);
/// The units of one receipt.
const BYTES: u64 = 4000;
const SECONDS: u64 = 5;
/// How long a test may take on a busy machine: the day takes half a minute on an idle one.
const LIMIT: Duration = Duration::from_secs(280);
/// The clients at the same time.
const AT_ONCE: usize = 10;

/// A customer of one unit.
struct Regular {
    customer: Customer,
    order: Hash,
    tx: Hash,
    unit: u32,
}

impl Regular {
    fn new(server: &Server, unit: u32) -> Regular {
        let order = server.order(unit, if unit == unit::BYTES { BYTES } else { SECONDS });
        let customer = Customer::new();
        let tx = customer.transaction(unit, 1_000_000);
        Regular { customer, order, tx, unit }
    }

    /// Begins a service: from what is left, or with a first receipt.
    fn come(&self, server: &Server) -> PayingClient {
        // A client names the last transaction of its chain of payments.
        let last = ledger::means(NET, &self.tx).and_then(|means| means.last).unwrap();
        let client = self.customer.connect(server, self.order, last);
        client.signs(&[Sign::Good]);
        client.request();
        client.success();
        client.lease();
        client
    }

    /// Waits until the server has found the last payment of a service that has ended, for which it looks once a second:
    /// it takes no other until then.
    fn until_settled(&self) {
        let left = || self.services().last().map_or(0, |last| last["left"].as_u64().unwrap());
        let both = || format!("{} are left, but the book has {:#?}", self.left(), self.services());
        eventually(std::fmt::from_fn(|f| f.write_str(&both())), || self.left() == left());
    }

    fn services(&self) -> Vec<Value> {
        let text = command(&format!("vpn_stat -history -json -client {} -limit 1", self.customer.name()));
        serde_json::from_str::<Value>(&text).unwrap()["services"].as_array().unwrap().clone()
    }

    /// What the node says over HTTP.
    fn left(&self) -> u64 {
        let rest = self.customer.limits();
        u64::try_from(if self.unit == unit::BYTES { rest.bytes } else { rest.seconds }).unwrap()
    }
}

/// Numbers that look like chance, and are the same in each run.
fn chance(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// What kills have cost: services and payments that the book had not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    services: u64,
    receipts: u64,
}

impl Lost {
    /// Compares the book with what was played and with the ledger.
    fn after(services: u64) -> Lost {
        let (history, payments) = (history(0), u64::try_from(ledger::earned(NET) / PRICE).unwrap());
        let lost = |is: u64, of: &str| is.checked_sub(sum(&history, of)).unwrap_or_else(|| panic!("{of}: not {is}"));
        Lost { services: lost(services, "services"), receipts: lost(payments, "receipts.signed") }
    }
}

fn sum(history: &Value, path: &str) -> u64 {
    let of = |value: &Value| path.split('.').fold(value, |value, key| &value[key]).as_u64().unwrap();
    let [paid, free] = ["paid", "free"].map(|kind| of(&history["pushed_out"][kind]));
    of(&history["sums"]) + paid + free
}

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Leave,
    Restart,
    Kill,
}

/// Lets as many clients as there may be have a service each, and ends all of them so.
fn round(server: &mut Server, regulars: &[Regular], round: u64, end: End, lost: &mut Lost) {
    let number = |at: usize| round * AT_ONCE as u64 + at as u64;
    // Each has a service in a round at most.
    let turn = |at: usize| &regulars[(round as usize * (AT_ONCE - 2) + at - 2) % regulars.len()];
    (2..AT_ONCE).for_each(|at| turn(at).until_settled());
    let clients: Vec<_> = std::thread::scope(|scope| {
        let server = &*server;
        let play = |at: usize| {
            let number = number(at);
            let client = if at < 2 {
                let client = server.pauper(ledger::free_order(NET));
                client.request();
                client.success();
                client.lease();
                client
            } else {
                turn(at).come(server)
            };
            for packet in 0..chance(number) % 4 {
                client.spend(server, 100 + (chance(number * 7 + packet) % 1300) as usize);
            }
            client
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|at| scope.spawn(move || play(at))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    match end {
        End::Leave => drop(clients),
        End::Restart => {
            server.restart();
            drop(clients);
        }
        End::Kill => {
            // Somewhere between two writes of the store.
            std::thread::sleep(Duration::from_millis(chance(round) % 700));
            store::lose_writes(true);
            server.stop();
            store::lose_writes(false);
            server.go_on();
            drop(clients);
        }
    }
    eventually("the end of all sessions", || command("vpn_stat") == "No VPN connections");
    eventually("the end of all services", || {
        let history = history(5 * AT_ONCE);
        history["services"].as_array().unwrap().iter().all(|entry| !entry["end"].is_null())
    });
    let now = Lost::after((round + 1) * AT_ONCE as u64);
    // A kill costs what was not stored yet: begins and receipts of this round, and of some before where the disk is slow.
    // Nothing else costs any.
    let most = if end == End::Kill { 4 * AT_ONCE as u64 } else { 0 };
    let is_bounded = now.services.abs_diff(lost.services) <= most && now.receipts.abs_diff(lost.receipts) <= most;
    assert!(is_bounded, "{end:?}: {now:?} after {lost:?}");
    *lost = now;
}

/// Adds up what each of the four says, and compares it.
fn compare(regulars: &[Regular]) {
    let history = history(usize::MAX);
    let of = |path| sum(&history, path);
    let receipts = of("receipts.signed");
    assert_eq!((of("receipts.in_ledger"), ledger::refused(NET)), (receipts, vec![]));
    assert_eq!(history["sums"]["value"]["in_ledger"], (u128::from(receipts) * PRICE).to_string());
    let entries = history["services"].as_array().unwrap();
    for regular in regulars {
        let name = regular.customer.name();
        let own: Vec<_> = entries.iter().filter(|entry| entry["client"] == name.as_str()).collect();
        let sum = |key: &str| own.iter().map(|entry| entry[key].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("charged") + regular.left(), sum("bought"), "{own:#?}");
        // Each brings what the one before has left.
        for pair in own.windows(2) {
            assert_eq!(pair[0]["left"], pair[1]["brought"], "{pair:#?}");
        }
        let is_killed = |entry: &Value| entry["end"].as_str().unwrap().contains("the server was killed");
        for entry in own.iter().filter(|entry| entry["unit"] == "bytes" && !is_killed(entry)) {
            let carried = entry["sent"].as_u64().unwrap() + entry["received"].as_u64().unwrap();
            let charged = entry["charged"].as_u64().unwrap();
            // A packet that uses the last unit passes as a whole. The service goes on if a receipt is signed then.
            let written_off = 1400 * (1 + entry["receipts"]["signed"].as_u64().unwrap());
            assert!((charged..charged + written_off).contains(&carried), "{entry:#?}");
        }
    }
    let charged =
        entries.iter().filter(|entry| entry["unit"] == "bytes").map(|entry| entry["charged"].as_u64().unwrap());
    assert_eq!(of("charged.bytes"), charged.sum::<u64>());
}

fn start() -> (Server, Vec<Regular>) {
    // All come from one address.
    let leases = "new_leases_per_minute=1000000\nleases_per_address=250\n";
    let server = Server::start(&format!("{leases}account_book=1000000\naccount_book_free=100\n"));
    ledger::follow_chains(false);
    let units = (0..24).map(|number| if number % 4 == 3 { unit::SECONDS } else { unit::BYTES });
    let regulars = units.map(|unit| Regular::new(&server, unit)).collect();
    (server, regulars)
}

#[test]
fn a_day_of_a_thousand_services_with_restarts_and_kills_adds_up() {
    in_namespace_for(LIMIT, "day::a_day_of_a_thousand_services_with_restarts_and_kills_adds_up", || {
        let (mut server, regulars) = start();
        let (rounds, mut lost) = (100, Lost::default());
        for number in 0..rounds {
            let end = match number % 8 {
                3 => End::Restart,
                6 => End::Kill,
                _ => End::Leave,
            };
            // A kill is right behind the round before, whose rests may not be stored yet.
            if end != End::Kill {
                clock::set_wall(DAY.0 + DAY.1 / rounds * number);
            }
            round(&mut server, &regulars, number, end, &mut lost);
        }
        eprintln!("lost by kills: {lost:?}");
        compare(&regulars);
        let half: Value = serde_json::from_str(&command("vpn_stat -history -json -limit 0 -since 12h")).unwrap();
        // The clock stands at the begin of the last round.
        assert!((490..=520).contains(&half["left_out"].as_u64().unwrap()), "{half:#?}");
    });
}

/// The same at the pace of the clock, for as many seconds as `VPN_BOOK_SECONDS` says: 1800 before a release.
#[test]
fn some_minutes_add_up() {
    let seconds = std::env::var("VPN_BOOK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    in_namespace_for(LIMIT + Duration::from_secs(seconds), "day::some_minutes_add_up", || {
        let (mut server, regulars) = start();
        let (begin, mut rounds, mut lost) = (Instant::now(), 0, Lost::default());
        while begin.elapsed() < Duration::from_secs(seconds) {
            let end = [End::Leave, End::Restart, End::Kill][chance(rounds) as usize % 3];
            round(&mut server, &regulars, rounds, end, &mut lost);
            rounds += 1;
        }
        eprintln!("{rounds} rounds of {AT_ONCE} services; lost by kills: {lost:?}");
        compare(&regulars);
    });
}
