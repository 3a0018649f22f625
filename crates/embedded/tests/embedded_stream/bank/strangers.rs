//! Peers that misuse channel 'B'. Each affects its own stream alone.

use super::{NET, order, server};
use crate::peer::{Peer, from, opened_over, packet};
use embedded::ledger;
use embedded::stream::COUNTERS;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use testkit::noise;
use vpn_core::money::bank::{Ask, BankAnswer, BankRequest, kind, refusal};
use vpn_core::wire::unit;

fn stranger(port: u16, host: u8) -> Peer {
    opened_over(from(host, port), "B").unwrap()
}

fn send(peer: &mut Peer, kind: u8, data: &[u8]) {
    peer.write_all(&packet(b'B', kind, data.len() as u32, data)).unwrap();
}

fn answer(peer: &mut Peer) -> BankAnswer {
    let mut header = [0; 16];
    peer.read_exact(&mut header).unwrap();
    assert_eq!(header[0], b'B');
    let mut data = vec![0; u32::from_le_bytes(header[12..].try_into().unwrap()) as usize];
    peer.read_exact(&mut data).unwrap();
    BankAnswer::parse(header[2], &data).unwrap()
}

fn ask(peer: &mut Peer, ask: Ask) -> BankAnswer {
    let (kind, data) = BankRequest { net_id: NET, ask }.encode();
    send(peer, kind, &data);
    answer(peer)
}

fn is_refused(answer: &BankAnswer, expected: u8) -> bool {
    matches!(answer, BankAnswer::Refused { code, .. } if *code == expected)
}

#[test]
fn malformed_requests_are_refused_with_the_reason() {
    let sdk = server("");
    let mut peer = stranger(sdk.port(), 1);
    let (_, good) = BankRequest { net_id: NET, ask: Ask::Chain([7; 32]) }.encode();
    let bad: Vec<(u8, Vec<u8>)> = vec![
        (kind::CHAIN, vec![]),
        (kind::CHAIN, good[..good.len() - 1].to_vec()),
        (kind::CHAIN, [&good[..], &[0]].concat()),
        (kind::CHAIN, [&[2], &good[1..]].concat()),
        (kind::BALANCE, good.clone()),
        (kind::SUBMIT, noise(1, 5000)),
        (kind::REFUSED, good.clone()),
        (0, good.clone()),
    ];
    for (kind, data) in bad {
        send(&mut peer, kind, &data);
        let answer = answer(&mut peer);
        assert!(is_refused(&answer, refusal::MALFORMED), "{kind} {answer:?}");
    }
    // Random bytes of each type, at the rate that a stream may have.
    for round in 0..40 {
        let kind = [kind::PRICES, kind::BALANCE, kind::SUBMIT, kind::CHAIN, round as u8][round % 5];
        let mut data = noise(round as u64, round * 7 % 300);
        if let (0, Some(first)) = (round % 2, data.first_mut()) {
            *first = 1;
        }
        std::thread::sleep(Duration::from_millis(70));
        send(&mut peer, kind, &data);
        let answer = answer(&mut peer);
        let is_known = is_refused(&answer, refusal::MALFORMED) || is_refused(&answer, refusal::NETWORK);
        assert!(is_known, "{kind} {answer:?}");
    }
    std::thread::sleep(Duration::from_millis(70));
    assert!(matches!(ask(&mut peer, Ask::Prices), BankAnswer::Prices(_)), "the stream goes on");
}

/// Who asks faster than allowed is not answered, and others do not notice.
#[test]
fn a_flood_is_dropped_and_counted() {
    let sdk = server("");
    ledger::add_order(NET, order(unit::SECONDS, 20, 5));
    let before = COUNTERS.service_dropped.load(Ordering::Relaxed);
    let mut flooder = stranger(sdk.port(), 1);
    let (kind, data) = BankRequest { net_id: NET, ask: Ask::Prices }.encode();
    let flood = packet(b'B', kind, data.len() as u32, &data).repeat(5_000);
    flooder.write_all(&flood).unwrap();
    let mut honest = stranger(sdk.port(), 2);
    let began = Instant::now();
    for _ in 0..10 {
        let BankAnswer::Prices(prices) = ask(&mut honest, Ask::Prices) else { panic!("no prices") };
        assert_eq!(prices.offers.len(), 1);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    flooder.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answered = 0;
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = flooder.read(&mut bytes) {
        answered += read;
    }
    // 16 bytes of header, 19 and one order of 70.
    let one = 16 + 19 + 70;
    assert!(answered % one == 0 && answered / one <= 48, "{answered} bytes in {:?}", began.elapsed());
    let dropped = COUNTERS.service_dropped.load(Ordering::Relaxed) - before;
    assert!(dropped as usize + answered / one == 5_000, "{dropped} dropped, {answered} bytes answered");
}

#[test]
fn a_source_brings_a_bounded_number_of_transactions() {
    let sdk = server("");
    let mut refusals = [0; 2];
    // Eight streams of one source, sixteen transactions each at once.
    for _ in 0..9 {
        let mut peer = stranger(sdk.port(), 3);
        for _ in 0..15 {
            let answer = ask(&mut peer, Ask::Submit(vec![7; 100]));
            assert!(is_refused(&answer, refusal::LEDGER) || is_refused(&answer, refusal::BUSY), "{answer:?}");
            refusals[usize::from(is_refused(&answer, refusal::BUSY))] += 1;
        }
    }
    assert!((120..=124).contains(&refusals[0]) && refusals[1] >= 11, "{refusals:?}");
    // Another source is not concerned.
    let answer = ask(&mut stranger(sdk.port(), 4), Ask::Submit(vec![7; 100]));
    assert!(is_refused(&answer, refusal::LEDGER), "{answer:?}");
}

/// The channel may stand beside those of a tunnel, and a stream that has it gets no more than any other.
#[test]
fn it_stands_beside_other_channels() {
    let sdk = server("");
    let mut peer = opened_over(from(5, sdk.port()), "RSB").unwrap();
    assert!(matches!(ask(&mut peer, Ask::Prices), BankAnswer::Prices(_)));
}
