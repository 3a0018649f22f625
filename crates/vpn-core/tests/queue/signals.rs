//! What CoDel's signal does to a packet. The times are those of the default tuning: 5 ms and 100 ms.

use std::time::Duration;

use vpn_core::forward::DropCause;
use vpn_core::wire::VnetHeader;

use crate::packets::{Line, checksum, label, segments, tcp, udp, unfinished};

const START: Duration = Duration::from_secs(1);
/// An interval after the first packet that has waited for too long.
const SIGNAL: Duration = Duration::from_millis(1106);

/// A queue whose only flow has exceeded the target for an interval when `SIGNAL` comes.
fn standing(header: &VnetHeader, packet: impl Fn(u32) -> Vec<u8>) -> Line {
    let mut line = Line::new(10_000_000);
    line.unit = if header.gso_size > 0 { 65_535 } else { 1_514 };
    for number in 0..20 {
        line.push(START, header, &packet(number));
    }
    assert!(line.pop(START + Duration::from_millis(6)).is_some());
    assert!(line.pop(SIGNAL - Duration::from_millis(1)).is_some());
    assert_eq!((line.dropped(), line.events.marked()), (0, 0));
    line
}

fn codel_bytes(line: &Line) -> Option<(DropCause, u64, u64)> {
    line.events.drops().map(|(cause, load)| (cause, load.packets, load.bytes)).next()
}

#[test]
fn a_super_packet_loses_its_first_segment() {
    let mut line = standing(&unfinished(1000), |number| tcp(1, 0, number * 9_500, &[7; 9_500]));
    let (header, packet) = line.pop(SIGNAL).unwrap();
    assert_eq!((label(&packet), packet.len()), ((1, 2 * 9_500 + 1_000), 8_540));
    assert_eq!(segments(&header, &packet).len(), 9);
    assert_eq!(codel_bytes(&line), Some((DropCause::Codel, 1, 1_040)));
    assert_eq!(line.queue.bytes(), 17 * 9_540);
    // The next one is whole: the next signal is an interval away.
    assert_eq!(line.pop(SIGNAL).unwrap().1.len(), 9_540);
    assert_eq!(line.pop(SIGNAL + Duration::from_millis(100)).unwrap().1.len(), 8_540);
    assert_eq!(codel_bytes(&line), Some((DropCause::Codel, 2, 2_080)));
}

#[test]
fn of_two_segments_one_is_left_whose_checksum_is_to_be_completed() {
    let mut line = standing(&unfinished(1000), |number| tcp(1, 0, number * 1_001, &[7; 1_001]));
    let (header, packet) = line.pop(SIGNAL).unwrap();
    assert_eq!((header, packet.len()), (VnetHeader { hdr_len: 0, ..unfinished(0) }, 41));
    assert_eq!(label(&packet), (1, 2 * 1_001 + 1_000));
}

#[test]
fn a_plain_packet_is_lost_and_the_next_one_leaves() {
    let mut line = standing(&VnetHeader::default(), |number| udp(1, number.into(), 1_000));
    assert_eq!(label(&line.pop(SIGNAL).unwrap().1), (1, 3));
    assert_eq!(codel_bytes(&line), Some((DropCause::Codel, 1, 1_000)));
}

#[test]
fn a_flow_that_understands_marks_loses_nothing() {
    let mut line = standing(&unfinished(1000), |number| tcp(1, 2, number * 9_500, &[7; 9_500]));
    let (_, packet) = line.pop(SIGNAL).unwrap();
    assert_eq!((packet[1], packet.len(), checksum(&packet[..20])), (3, 9_540, 0));
    assert_eq!((line.dropped(), line.events.marked()), (0, 10));
    assert_eq!(line.pop(SIGNAL).unwrap().1[1], 2);
}

#[test]
fn a_sparse_flow_beside_it_gets_no_signal() {
    let mut line = standing(&VnetHeader::default(), |number| udp(1, number.into(), 1_000));
    line.push_udp(SIGNAL, 2, 9, 100);
    assert_eq!(line.pop(SIGNAL).map(|(_, packet)| label(&packet)), Some((2, 9)));
    assert_eq!(line.dropped(), 0);
}
