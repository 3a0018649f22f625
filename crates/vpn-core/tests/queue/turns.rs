//! What a flow is, and whose turn it is.

use std::collections::HashSet;
use std::time::Duration;

use vpn_core::wire::VnetHeader;

use crate::packets::{Line, checksum, label, udp};

const NOW: Duration = Duration::from_secs(1);

#[test]
fn flows_take_turns_and_a_new_one_goes_first() {
    let mut line = Line::new(1_000_000);
    for number in 0..3 {
        line.push_udp(NOW, 1, number, 1_400);
        line.push_udp(NOW, 2, number, 1_400);
    }
    let pop = |line: &mut Line| label(&line.pop(NOW).unwrap().1);
    // Each sends 1,514 bytes and a rest in its first turn.
    assert_eq!([pop(&mut line), pop(&mut line), pop(&mut line)], [(1, 0), (1, 1), (2, 0)]);
    line.push_udp(NOW, 3, 0, 100);
    assert_eq!([pop(&mut line), pop(&mut line)], [(2, 1), (3, 0)]);
    // A flow that is empty gives its turn up, and is no longer new while others wait.
    line.push_udp(NOW, 3, 1, 100);
    let rest = line.pop_all(NOW);
    assert_eq!(rest.iter().copied().collect::<HashSet<_>>(), HashSet::from([(1, 2), (2, 2), (3, 1)]));
}

#[test]
fn bytes_and_not_packets_are_shared() {
    let mut line = Line::new(1_000_000);
    for number in 0..200 {
        line.push_udp(NOW, 1, number, 100);
        line.push_udp(NOW, 2, number, 1_000);
    }
    let found: Vec<_> = (0..110).map(|_| label(&line.pop(NOW).unwrap().1).0).collect();
    let small = found.iter().filter(|port| **port == 1).count();
    assert!((90..=110).contains(&small) && small < found.len(), "{small} of {}", found.len());
}

#[test]
fn hundreds_of_flows_are_told_apart() {
    let mut line = Line::new(10_000_000);
    for number in 0..2 {
        for port in 0..150 {
            line.push_udp(NOW, port, number, 1_514);
        }
    }
    let first_round: HashSet<_> = (0..150).map(|_| label(&line.pop(NOW).unwrap().1).0).collect();
    assert!(first_round.len() >= 145, "{}", first_round.len());
}

/// The second and later fragments have no ports, so that a flow's fragments are told apart by addresses and protocol.
#[test]
fn the_bytes_behind_the_header_of_a_fragment_are_no_ports() {
    let mut line = Line::new(1_000_000);
    for number in 0..40_u16 {
        let mut packet = udp(number, 0, 1_400);
        packet[6..8].copy_from_slice(&(0x2000 | number).to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        line.push(NOW, &VnetHeader::default(), &packet);
    }
    line.push_udp(NOW, 99, 0, 1_400);
    // One flow keeps its order. The datagram has its turn after the first fragments, not after forty flows.
    let ports: Vec<_> = line.pop_all(NOW).into_iter().map(|(port, _)| port).collect();
    assert!(ports[..4].contains(&99), "{ports:?}");
    assert!(ports.iter().filter(|port| **port != 99).is_sorted(), "{ports:?}");
}
