//! What a queue may keep, which packets it drops beyond that, and what memory it leaves.

use std::time::Duration;

use vpn_core::forward::{DropCause, Offload};
use vpn_core::queue::{Events, Limits, Memory, Queue};
use vpn_core::wire::VnetHeader;

use crate::packets::{LARGEST, Line, label, tcp, udp, unfinished};

const NOW: Duration = Duration::from_secs(1);

#[test]
fn the_fattest_flow_loses_its_oldest_packet() {
    let mut line = Line::new(10_000);
    line.push_udp(NOW, 1, 0, 1000);
    for number in 0..9 {
        line.push_udp(NOW, 2, number, 1000);
    }
    line.push_udp(NOW, 3, 0, 1000);
    line.push_udp(NOW, 1, 1, 1000);
    assert_eq!(line.queue.bytes(), 10_000);
    let mut found = line.pop_all(NOW);
    found.sort_unstable();
    let of_two = (2..9).map(|number| (2, number));
    assert_eq!(found, [(1, 0), (1, 1)].into_iter().chain(of_two).chain([(3, 0)]).collect::<Vec<_>>());
    assert_eq!(
        line.events.drops().map(|(cause, load)| (cause, load.packets)).collect::<Vec<_>>(),
        [(DropCause::QueueOverflow, 2)]
    );
}

#[test]
fn a_packet_that_can_never_fit_harms_no_other() {
    let mut line = Line::new(5_000);
    line.unit = 65_535;
    line.push_udp(NOW, 1, 0, 1000);
    line.push(NOW, &unfinished(1000), &tcp(2, 0, 0, &[0; 6000]));
    assert_eq!(line.dropped(), 6);
    assert_eq!(line.pop_all(NOW), [(1, 0)]);
}

#[test]
fn small_packets_are_bounded_by_their_memory() {
    let mut line = Line::new(1_000_000);
    for number in 0..100_000 {
        line.push_udp(NOW, 1, number, 40);
    }
    assert!(line.memory.owned() < 2_400_000, "{}", line.memory.owned());
    let found = line.pop_all(NOW);
    assert_eq!(found.len() as u64 + line.dropped(), 100_000);
    assert!(found.len() > 4_000);
    assert_eq!(found.last(), Some(&(1, 99_999)));
}

#[test]
fn no_queue_takes_the_memory_of_the_others() {
    let mut memory = Memory::new(4_000_000, 1);
    let mut queues: Vec<_> = (0..20).map(|_| Queue::new(Limits { bytes: 64 << 20 })).collect();
    let mut events = Events::default();
    for queue in &mut queues {
        for number in 0..5_000 {
            let packet = udp(1, number, 1000);
            let (view, offload) = Offload::check(&VnetHeader::default(), &packet).unwrap();
            queue.push(&mut memory, NOW, &packet, (&view, &offload), 1514, &mut events);
        }
    }
    let bytes: Vec<_> = queues.iter().map(Queue::bytes).collect();
    assert!((1_500_000..2_000_000).contains(&bytes[0]), "{bytes:?}");
    // Each takes half of what is left, so that later ones have room.
    assert!(bytes[..5].iter().all(|bytes| *bytes > 10_000), "{bytes:?}");
    assert!(memory.owned() < 4_300_000, "{}", memory.owned());
    assert_eq!(events.drops().map(|(cause, _)| cause).collect::<Vec<_>>(), [DropCause::QueueMemory]);
    let mut space = vec![0; LARGEST];
    assert!(queues[0].pop(&mut memory, NOW, &mut space, &mut events).is_some());
}

#[test]
fn without_any_memory_all_is_dropped_and_counted() {
    let mut line = Line::new(1_000_000);
    line.memory = Memory::new(0, 1);
    line.push_udp(NOW, 1, 0, 1000);
    assert!(line.queue.is_empty() && line.pop(NOW).is_none());
    assert_eq!(
        line.events.drops().map(|(cause, load)| (cause, load.packets)).collect::<Vec<_>>(),
        [(DropCause::QueueMemory, 1)]
    );
}

#[test]
fn ten_thousand_idle_queues_own_nothing() {
    let mut memory = Memory::new(64 << 20, 1);
    let (mut events, mut space) = (Events::default(), vec![0; LARGEST]);
    let mut queues: Vec<_> = (0..10_000).map(|_| Queue::new(Limits { bytes: 1 << 20 })).collect();
    let packet = udp(1, 0, 1000);
    let (view, offload) = Offload::check(&VnetHeader::default(), &packet).unwrap();
    for queue in &mut queues {
        queue.push(&mut memory, NOW, &packet, (&view, &offload), 1514, &mut events);
        assert!(queue.pop(&mut memory, NOW, &mut space, &mut events).is_some());
    }
    assert!(queues.iter().all(Queue::is_empty));
    assert!(memory.owned() < 100_000, "{}", memory.owned());
    assert!(size_of::<Queue>() <= 128, "{}", size_of::<Queue>());
}

#[test]
fn what_a_burst_left_is_given_back_after_ten_seconds() {
    let mut line = Line::new(20_000_000);
    for number in 0..10_000 {
        line.push_udp(NOW, 1, number, 1400);
    }
    assert!(line.memory.owned() > 14_000_000);
    assert_eq!(line.pop_all(NOW).len(), 10_000);
    // A packet now and then keeps what it needs.
    for second in 2..12 {
        let now = Duration::from_secs(second);
        line.memory.trim(now);
        assert_eq!(line.memory.owned() > 14_000_000, second < 11, "{second}");
        line.push_udp(now, 1, second, 1400);
        assert!(line.pop(now).is_some());
    }
    let left = line.memory.owned();
    assert!((1..60_000).contains(&left), "{left}");
    // And the rest, with nothing to do.
    for second in 12..40 {
        line.memory.trim(Duration::from_secs(second));
    }
    assert!(line.memory.owned() < 5_000, "{}", line.memory.owned());
}

#[test]
fn a_space_that_is_too_small_takes_nothing() {
    let mut line = Line::new(100_000);
    line.push_udp(NOW, 1, 5, 1000);
    for len in [0, 9, 1009] {
        let popped = line.queue.pop(&mut line.memory, NOW, &mut vec![0; len], &mut line.events);
        assert_eq!(popped, None);
    }
    let mut space = vec![0; 1010];
    assert_eq!(line.queue.pop(&mut line.memory, NOW, &mut space, &mut line.events), Some(1010));
    assert_eq!(label(&space[10..]), (1, 5));
}
