//! The queue before a link in virtual time: who waits how long, and who gets how much.

use std::time::Duration;

use vpn_core::forward::DropCause;
use vpn_core::queue::{Rate, Tuning};

use crate::link::{Link, Sender};

const MBIT: u64 = 125_000;

fn milliseconds(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn sparse() -> Sender {
    Sender::Datagrams { len: 100, every: milliseconds(100) }
}

fn bulk(burst: usize) -> Sender {
    Sender::Reno { burst, ecn: false }
}

fn add_eight(link: &mut Link, burst: usize) {
    for _ in 0..8 {
        link.add(bulk(burst));
    }
}

/// The wait that this share of the packets does not exceed, in milliseconds.
fn quantile(waits: &[Duration], share: f64) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0
}

/// A sparse flow beside eight bulk flows waits for what is on the link, and for little else: when a bulk flow has had
/// nothing to send, it is new like the sparse one.
#[test]
fn a_sparse_flow_waits_for_about_a_unit() {
    for (mbit, round_trip, burst) in [(5, 10, 1), (5, 40, 1), (5, 160, 2), (20, 40, 2), (100, 160, 8), (500, 10, 40)] {
        let mut link = Link::new(mbit * MBIT, milliseconds(round_trip), 1 << 20);
        link.line.queue.tune(Tuning::for_round_trip(milliseconds(round_trip)));
        add_eight(&mut link, burst);
        let sparse = link.add(sparse());
        link.run(Duration::from_secs(5));
        link.forget();
        link.run(Duration::from_secs(20));
        let waits = &link.flows[sparse].waits;
        let unit = link.line.unit as f64 * 1000.0 / (mbit * MBIT) as f64;
        let [median, most, worst] = [0.5, 0.95, 1.0].map(|share| quantile(waits, share));
        let bulk = quantile(&link.flows[0].waits, 0.5);
        println!(
            "{mbit} Mbit/s, {round_trip} ms: unit {unit:.2} ms, waits {median:.2}, {most:.2}, {worst:.2}, bulk {bulk:.1}"
        );
        assert!(waits.len() >= 199 && median <= unit && most <= 2.0 * unit && worst <= 5.0 * unit);
        assert!(bulk > 3.0 * unit, "without turns the sparse flow would wait as long");
    }
}

/// Three flows that all send more than their share, in units of different sizes; one is three times the link's rate.
#[test]
fn flows_that_do_not_listen_get_equal_shares() {
    let rate = 20 * MBIT;
    let every = |len: usize, times: u64| Duration::from_secs_f64(len as f64 / (rate * times) as f64);
    let mut link = Link::new(rate, milliseconds(40), 300_000);
    link.line.unit = 16_384;
    for (len, times) in [(1_400, 3), (300, 1), (65_000, 1)] {
        link.add(Sender::Datagrams { len, every: every(len, times) });
    }
    link.run(Duration::from_secs(2));
    link.forget();
    link.run(Duration::from_secs(20));
    let shares: Vec<_> = link.flows.iter().map(|flow| flow.bytes as f64 / (rate * 20) as f64).collect();
    println!("{shares:?}");
    assert!(shares.iter().all(|share| (share * 3.0 - 1.0).abs() < 0.1), "{shares:?}");
}

#[test]
fn a_flow_that_does_not_listen_cannot_starve_those_that_do() {
    let rate = 20 * MBIT;
    let mut link = Link::new(rate, milliseconds(40), 1 << 20);
    link.line.queue.tune(Tuning::for_round_trip(milliseconds(40)));
    link.add(bulk(4));
    link.add(bulk(1));
    link.add(Sender::Datagrams { len: 1_400, every: Duration::from_secs_f64(1_400.0 / (3 * rate) as f64) });
    link.run(Duration::from_secs(20));
    link.forget();
    link.run(Duration::from_secs(40));
    let shares: Vec<_> = link.flows.iter().map(|flow| flow.bytes as f64 / (rate * 40) as f64).collect();
    println!("{shares:?}");
    // A TCP leaves a part of its share after each loss.
    assert!(shares[..2].iter().all(|share| *share > 0.25), "{shares:?}");
}

#[test]
fn a_standing_queue_falls_to_the_target() {
    let run = |ecn, burst, interval| {
        let mut link = Link::new(20 * MBIT, milliseconds(40), 400_000);
        link.line.queue.tune(Tuning { target: milliseconds(10), interval });
        link.add(Sender::Reno { burst, ecn });
        link.run(Duration::from_secs(10));
        link.forget();
        link.run(Duration::from_secs(60));
        link
    };
    for (ecn, burst) in [(false, 1), (false, 8), (true, 8)] {
        let link = run(ecn, burst, milliseconds(100));
        let [median, most] = [0.5, 0.99].map(|share| quantile(&link.flows[0].waits, share));
        let used = link.utilisation(Duration::from_secs(60));
        println!("ecn {ecn}, {burst} segments: {median:.1} ms, {most:.1} ms; used {used:.3}");
        assert!(median <= 10.0 && most <= 20.0 && used > 0.9, "{ecn} {burst}");
        let codel = link.line.events.drops().filter(|(cause, _)| *cause == DropCause::Codel).count();
        assert_eq!((link.line.events.marked() > 0, codel > 0), (ecn, !ecn));
    }
    // It stands without CoDel.
    let link = run(false, 1, Duration::MAX);
    assert!(quantile(&link.flows[0].waits, 0.5) > 80.0);
}

#[test]
fn a_long_path_is_used() {
    for (mbit, round_trip, burst) in [(5, 10, 1), (5, 40, 1), (20, 40, 2), (20, 160, 2)] {
        let used = |tuning| {
            let mut link = Link::new(mbit * MBIT, milliseconds(round_trip), 32 << 20);
            link.line.queue.tune(tuning);
            link.add(bulk(burst));
            link.run(Duration::from_secs(50));
            link.forget();
            link.run(Duration::from_secs(150));
            let [median, most] = [0.5, 0.95].map(|share| quantile(&link.flows[0].waits, share));
            let used = link.utilisation(Duration::from_secs(150));
            println!("{mbit} Mbit/s, {round_trip} ms, {tuning:?}: {median:.1}, {most:.1} ms, used {used:.3}");
            used
        };
        assert!(used(Tuning::for_round_trip(milliseconds(round_trip))) > 0.95, "{mbit} {round_trip}");
        if round_trip == 160 {
            assert!(used(Tuning::default()) < 0.85, "this path needs no tuning");
        }
    }
}

/// A limited queue on a fast path is what a slow line is.
#[test]
fn a_limited_session_is_as_responsive_as_a_slow_line() {
    let mut link = Link::new(1000 * MBIT, milliseconds(40), 1 << 20);
    link.line.queue.set_rate(Some(Rate { bytes_per_second: 5 * MBIT }));
    link.line.queue.tune(Tuning::for_round_trip(milliseconds(40)));
    link.line.unit = 2_000;
    add_eight(&mut link, 2);
    let sparse = link.add(sparse());
    link.run(Duration::from_secs(10));
    link.forget();
    link.run(Duration::from_secs(20));
    let waits = &link.flows[sparse].waits;
    println!("median {:.2} ms, at most {:.2} ms", quantile(waits, 0.5), quantile(waits, 1.0));
    assert!(quantile(waits, 1.0) <= 6.5, "two units of 2,000 bytes are 6.4 ms");
    let used = link.flows.iter().map(|flow| flow.bytes).sum::<u64>() as f64 / (5.0 * MBIT as f64 * 20.0);
    assert!((0.97..1.001).contains(&used), "{used}");
}
