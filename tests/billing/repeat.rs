//! Receipts that nobody signs: asked for once, repeated, dropped. And the end of the service, whatever is pending.

use std::time::Duration;

use embedded::ledger;
use testkit::netns::in_namespace;
use vpn_core::wire::{Receipt, ServiceError, error_code, pkt, unit};

use crate::client::{PayingClient, Sign};
use crate::customer::{Customer, bytes};
use crate::inbox::Got;
use crate::server::{NET, PRICE, Server};

/// Sends datagrams of 1000 bytes until NOTIFY_STOPPED, as fast as the server reads them, and returns how many bytes
/// reach the server's host.
fn flood(server: &Server, client: &PayingClient, count: usize) -> usize {
    client.send_datagrams(count, 972, server.socket.local_addr().unwrap().port());
    client.stopped();
    server.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::iter::from_fn(|| server.socket.recv(&mut [0; 2000]).ok()).map(|size| size + 28).sum()
}

/// The times at which receipts and errors came, from the first receipt for sale or the first proof on.
fn asked(client: &PayingClient, is_wanted: impl Fn(u64) -> bool) -> (Vec<Duration>, Vec<(Duration, u32)>) {
    let (mut receipts, mut errors) = (vec![], vec![]);
    for (time, got) in client.received() {
        match got {
            Got::Service { kind: pkt::SIGN_REQUEST, data } if is_wanted(Receipt::parse(&data).unwrap().info.units) => {
                receipts.push(time);
            }
            Got::Service { kind: pkt::ERROR, data } => errors.push((time, ServiceError::parse(&data).unwrap().code)),
            _ => {}
        }
    }
    (receipts, errors)
}

/// Three questions, 10 s apart, and after another 10 s the error.
fn is_asked_three_times((receipts, errors): (Vec<Duration>, Vec<(Duration, u32)>), what: &str) {
    let [(end, error_code::RECEIPT_NO_SIGN)] = errors[..] else { panic!("{what}: {receipts:?}, {errors:x?}") };
    assert_eq!(receipts.len(), 3, "{what}: {receipts:?}");
    for (earlier, later) in receipts.iter().zip(receipts.iter().skip(1).chain([&end])) {
        let between = later.saturating_sub(*earlier);
        let expected = Duration::from_millis(9_900)..Duration::from_millis(11_000);
        assert!(expected.contains(&between), "{what}: {receipts:?}, then {end:?}");
    }
}

#[test]
fn a_receipt_is_asked_for_three_times() {
    in_namespace("repeat::a_receipt_is_asked_for_three_times", || {
        let server = Server::start("");
        let order = server.byte_order(6000);
        let [first, next, proof] = [(); 3].map(|()| Customer::new());
        let tx = [&first, &next, &proof].map(|customer| customer.transaction(unit::BYTES, 3));
        proof.set_rest(bytes(5000));

        let unsigned = first.connect(&server, order, tx[0]);
        unsigned.signs(&[Sign::Never]);
        unsigned.request();
        let unproved = proof.connect(&server, order, tx[2]);
        unproved.signs(&[Sign::Never]);
        unproved.request();
        let served = next.pay(&server, order, tx[1]);
        served.spend(&server, 1400);
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(served.bills().len(), 1, "before half of the units is used");
        served.spend(&server, 1400);
        served.spend(&server, 1400);
        std::thread::sleep(Duration::from_secs(31));

        is_asked_three_times(asked(&unsigned, |units| units == 6000), "the first receipt");
        is_asked_three_times(asked(&unproved, |units| units == 0), "the proof");
        let (mut receipts, errors) = asked(&served, |units| units == 6000);
        receipts.remove(0);
        is_asked_three_times((receipts, errors), "the next receipt");
        // The paid units are still there, to the last one, and the others may come again.
        served.spend(&server, 1400);
        assert_eq!(next.limits(), bytes(400));
        served.spend(&server, 400);
        served.stopped();
        let signing = proof.come_back(&server, order, tx[2], Sign::Never);
        drop((signing, unproved, unsigned, served));
        next.is_left(bytes(0));
        proof.is_left(bytes(5000));
        assert_eq!(ledger::earned(NET), PRICE);
    });
}

#[test]
fn zero_stops_the_service_whatever_is_pending() {
    in_namespace("repeat::zero_stops_the_service_whatever_is_pending", || {
        const PAID: usize = 200_000;
        const OVER: usize = 64 * 1024;
        let server = Server::start("");
        let order = server.byte_order(PAID as u64);
        let late = Sign::Late(Duration::from_secs(60));
        for (sign, is_slow, paid) in [
            (Sign::Never, false, 1),
            (late, false, 1),
            (Sign::Broken, false, 1),
            (Sign::Good, true, 1),
            (Sign::Good, false, 2),
        ] {
            let customer = Customer::new();
            let tx = customer.transaction(unit::BYTES, 2);
            ledger::set_by_hand(NET, is_slow);
            let client = customer.connect(&server, order, tx);
            client.signs(&[Sign::Good, sign]);
            client.request();
            assert_eq!(client.success(), 87);
            client.lease();
            // Up to half, so that the receipt is asked for, then far beyond.
            client.send_datagrams(120, 972, server.socket.local_addr().unwrap().port());
            client.ping();
            std::thread::sleep(Duration::from_millis(500));
            let served = flood(&server, &client, 500);
            let paid = paid * PAID;
            assert!((paid..paid + OVER).contains(&served), "{sign:?}: {served} bytes for {paid}");
            ledger::set_by_hand(NET, false);
            ledger::process(NET);
            drop(client);
            customer.is_left(bytes(0));
        }
        assert_eq!(ledger::refused(NET), []);
    });
}

#[test]
fn the_stop_is_told_on_both_channels() {
    in_namespace("repeat::the_stop_is_told_on_both_channels", || {
        let server = Server::start("");
        let (by_byte, by_second) = (server.byte_order(2000), server.order(unit::SECONDS, 2));
        let customer = Customer::new();
        let tx = [unit::BYTES, unit::SECONDS].map(|unit| customer.transaction(unit, 1));
        for (order, tx) in [(by_byte, tx[0]), (by_second, tx[1])] {
            let client = customer.pay(&server, order, tx);
            let begin = client.now();
            if order == by_byte {
                (0..4).for_each(|_| client.spend(&server, 500));
            }
            let stopped = client.stopped();
            std::thread::sleep(Duration::from_millis(300));
            let (mut on_r, mut on_s) = (vec![], vec![]);
            for (time, got) in client.received() {
                match got {
                    Got::Service { kind: pkt::NOTIFY_STOPPED, data } => on_r.push((time, data)),
                    Got::Notice { kind: pkt::NOTIFY_STOPPED, data } => on_s.push((time, data)),
                    _ => {}
                }
            }
            let ([(_, nothing)], [(time, notice)]) = (&on_r[..], &on_s[..]) else { panic!("{on_r:?}, {on_s:?}") };
            assert!(nothing.is_empty());
            let error = ServiceError::parse(notice).unwrap();
            assert_eq!(
                (error.net_id, error.srv_uid, error.usage_id, error.code, notice.len()),
                (NET, 1, client.usage(), error_code::RECEIPT_CANT_FIND, 24)
            );
            assert!(time.abs_diff(stopped) < Duration::from_millis(300));
            let at_most = Duration::from_secs(if order == by_byte { 1 } else { 3 });
            assert!(stopped - begin < at_most, "{:?}", stopped - begin);
        }
    });
}
