//! What peers can make the process keep.

use crate::peer::*;
use crate::support::*;
use embedded::budget;
use embedded::stream::{COUNTERS, MAX_DATA, OUTPUT_LIMIT_UNSERVED};
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;
use vpn_core::wire::{Check, pkt};

const KIB: usize = 1024;

#[test]
fn a_stream_without_service_holds_64_kib_of_output() {
    let sdk = Sdk::start(2);
    SERVE.store(false, Ordering::SeqCst);
    PENDING_MAX.store(0, Ordering::SeqCst);
    FLOODED.store(0, Ordering::SeqCst);
    FLOOD.store(true, Ordering::SeqCst);
    let full = COUNTERS.output_full.load(Ordering::SeqCst);
    let mut stream = opened_over(from(1, sdk.port()), "S").unwrap();
    stream.write_all(&packet(b'S', 1, 1, b"x")).unwrap();
    let stands_still = || {
        let before = FLOODED.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        before > 0 && before == FLOODED.load(Ordering::SeqCst)
    };
    eventually(stands_still, || "the flood does not end".into());
    let pending = PENDING_MAX.load(Ordering::SeqCst) as usize;
    assert!((OUTPUT_LIMIT_UNSERVED / 2..=OUTPUT_LIMIT_UNSERVED).contains(&pending), "{pending}");
    assert!(COUNTERS.output_full.load(Ordering::SeqCst) > full);
    FLOOD.store(false, Ordering::SeqCst);
}

#[test]
fn the_largest_packet_passes_to_a_reader_without_service() {
    let sdk = Sdk::start(1);
    SERVE.store(false, Ordering::SeqCst);
    let mut stream = opened_over(from(1, sdk.port()), "S").unwrap();
    for round in 0..5 {
        let data = pattern(round, MAX_DATA);
        stream.write_all(&packet(b'S', 1, MAX_DATA as u32, &data)).unwrap();
        let mut echo = vec![0; 16 + MAX_DATA];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo[16..] == data);
    }
}

#[test]
fn no_check_is_answered_while_output_waits() {
    let sdk = Sdk::start(1);
    let mut stream = opened_over(small_from(1, sdk.port()), "R").unwrap();
    let check = Check { srv_uid: 1, data_size_recv: 65_536, data_hash: Check::hash(b""), ..Check::default() };
    let message = check.encode(b"");
    let request = packet(b'R', pkt::CHECK_REQUEST, message.len() as u32, &message);
    let dropped = COUNTERS.service_dropped.load(Ordering::SeqCst);
    // Not more than 8 a second, so that the rate drops none.
    for _ in 0..12 {
        stream.write_all(&request).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    let dropped = (COUNTERS.service_dropped.load(Ordering::SeqCst) - dropped) as usize;
    assert!((6..12).contains(&dropped), "{dropped}");
    // The stream is well: what was answered arrives, and then a new answer.
    let mut answer = vec![0; 16 + message.len() + 65_536];
    (dropped..12).for_each(|_| stream.read_exact(&mut answer).unwrap());
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut answer).unwrap();
}

#[test]
fn partial_input_is_added_up_for_each_source() {
    let sdk = Sdk::start_with(2, "max_memory=8388608\nmax_memory_per_address=2097152\n");
    let (closed, refused) = (COUNTERS.input_full.load(Ordering::SeqCst), budget::refused());
    // Each lacks the last byte of the largest packet; served or not.
    let part = packet(b'S', 1, MAX_DATA as u32, &pattern(1, MAX_DATA - 1));
    let streams: Vec<_> = (0..40)
        .map(|number| {
            SERVE.store(number % 2 == 0, Ordering::SeqCst);
            let mut stream = opened_over(from(7, sdk.port()), "S").unwrap();
            // The server may end the stream at any byte.
            let _ = stream.write_all(&part);
            stream
        })
        .collect();
    let ended = || COUNTERS.input_full.load(Ordering::SeqCst) - closed;
    eventually(|| ended() >= 20, || format!("{} streams ended", ended()));
    assert!(budget::refused() >= refused + 20);
    // The accounts of 16 KiB that every connection has are beyond the share.
    let (used, most) = budget::used();
    assert_eq!(most, 8192 * KIB);
    assert!(used < (2048 + 40 * 16 + 256) * KIB, "{used}");
    // Another source has its own share.
    SERVE.store(true, Ordering::SeqCst);
    let mut honest = opened_over(from(8, sdk.port()), "S").unwrap();
    let data = pattern(2, MAX_DATA);
    honest.write_all(&packet(b'S', 1, MAX_DATA as u32, &data)).unwrap();
    let mut echo = vec![0; 16 + MAX_DATA];
    honest.read_exact(&mut echo).unwrap();
    assert!(echo[16..] == data);
    drop((streams, honest));
    eventually(|| budget::used().0 == 0, || format!("{} bytes are still in use", budget::used().0));
}

#[test]
fn the_output_of_served_streams_is_added_up_too() {
    let sdk = Sdk::start_with(2, "max_memory=8388608\nmax_memory_per_address=3145728\n");
    FLOOD.store(true, Ordering::SeqCst);
    let refused = budget::refused();
    let streams: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = opened_over(small_from(7, sdk.port()), "S").unwrap();
            stream.write_all(&packet(b'S', 1, 1, b"x")).unwrap();
            stream
        })
        .collect();
    eventually(|| budget::refused() >= refused + 4, || format!("{} refused", budget::refused() - refused));
    let (used, _) = budget::used();
    assert!((2048 * KIB..(3072 + 4 * 32) * KIB).contains(&used), "{used}");
    FLOOD.store(false, Ordering::SeqCst);
    drop(streams);
    eventually(|| budget::used().0 == 0, || format!("{} bytes are still in use", budget::used().0));
}
