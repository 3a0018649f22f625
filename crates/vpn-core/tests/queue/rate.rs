//! A queue with a rate limit.

use std::time::Duration;

use vpn_core::queue::Rate;

use crate::packets::{Line, tcp, unfinished};

fn limited(bytes_per_second: u64) -> Line {
    let mut line = Line::new(10_000_000);
    line.queue.set_rate(Some(Rate { bytes_per_second }));
    line
}

/// Pops whenever the rate allows it until `end`, and returns the bytes.
fn run(line: &mut Line, from: Duration, end: Duration) -> u64 {
    let (mut now, mut bytes) = (from, 0);
    while let Some(ready) = line.queue.ready_at(now).filter(|ready| *ready < end) {
        now = now.max(ready);
        let (_, packet) = line.pop(now).expect("it is ready");
        bytes += packet.len() as u64;
        // A moment before the next one is ready, none is popped.
        if let Some(ready) = line.queue.ready_at(now).filter(|ready| *ready > now) {
            assert!(line.pop(ready - Duration::from_nanos(1)).is_none());
        }
    }
    bytes
}

#[test]
fn the_rate_is_kept_exactly() {
    for rate in [1_000, 625_000, 12_500_000, 333_333_333] {
        let mut line = limited(rate);
        let start = Duration::from_secs(3);
        let depth = (rate / 250).max(3_028);
        let waiting = depth * 3 / 1000 + 40;
        for number in 0..waiting {
            line.push_udp(start, (number % 7) as u16, number, 1000);
        }
        let time = Duration::from_secs_f64((depth * 2) as f64 / rate as f64);
        let bytes = run(&mut line, start, start + time);
        assert!(bytes.abs_diff(depth * 3) <= 1_000, "{rate}: {bytes}, {depth}");
    }
}

#[test]
fn after_a_pause_only_milliseconds_are_made_up_for() {
    let mut line = limited(1_250_000);
    for number in 0..1_000 {
        line.push_udp(Duration::ZERO, 1, number, 1000);
    }
    let at_once = line.pop_all(Duration::from_secs(60)).len();
    assert_eq!(at_once, 5, "4 ms at 10 Mbit/s");
}

#[test]
fn the_segments_of_a_super_packet_count_with_their_headers() {
    let mut line = limited(1_000_000);
    let now = Duration::from_secs(1);
    line.unit = 65_535;
    line.push(now, &unfinished(100), &tcp(1, 0, 0, &[0; 50_000]));
    line.push_udp(now, 1, 0, 1000);
    assert!(line.pop(now).is_some());
    // 500 segments of 140 bytes, less the 4,000 that were there.
    assert_eq!(line.queue.ready_at(now), Some(now + Duration::from_micros(66_001)));
}

#[test]
fn a_new_rate_holds_at_once() {
    let mut line = limited(1);
    let now = Duration::from_secs(1);
    for number in 0..100 {
        line.push_udp(now, 1, number, 1000);
    }
    assert_eq!(line.pop_all(now).len(), 4);
    assert!(line.queue.ready_at(now).unwrap() > now + Duration::from_secs(900));
    line.queue.set_rate(Some(Rate { bytes_per_second: 1_000_000 }));
    assert_eq!(line.queue.ready_at(now), Some(now + Duration::from_micros(973)));
    let later = now + Duration::from_millis(20);
    assert_eq!(run(&mut line, now, later), 20_000);
    line.queue.set_rate(None);
    assert_eq!(line.queue.ready_at(later), Some(later));
    assert_eq!(line.pop_all(later).len(), 76);
    assert_eq!(line.queue.ready_at(later), None);
}

#[test]
fn no_rate_and_no_time_makes_it_panic() {
    for rate in [0, 1, u64::MAX / 3, u64::MAX] {
        let mut line = limited(rate);
        for now in [0, 1, u64::MAX, 5].map(Duration::from_secs) {
            line.push_udp(now, 1, 0, 1500);
            line.queue.ready_at(now);
            line.pop(now);
        }
    }
}
