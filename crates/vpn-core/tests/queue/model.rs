//! Any use of a queue against what must hold of it.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use vpn_core::forward::Load;
use vpn_core::queue::Tuning;
use vpn_core::wire::VnetHeader;

use crate::packets::{Line, checksum, label, segments, tcp, udp, unfinished};

#[derive(Clone, Debug)]
enum Step {
    /// Segments of a size; one segment is an unfinished packet.
    Tcp {
        port: u16,
        tos: u8,
        size: usize,
        len: usize,
    },
    Udp {
        port: u16,
        len: usize,
    },
    Pop(usize),
    Wait(u64),
    Tune(u64),
    Unit(usize),
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u16..4, 0_u8..4, 32_usize..1500, 1_usize..20_000)
            .prop_map(|(port, tos, size, len)| Step::Tcp { port, tos, size, len }),
        4 => (4_u16..8, 40_usize..1500).prop_map(|(port, len)| Step::Udp { port, len }),
        4 => (1_usize..6).prop_map(Step::Pop),
        3 => (1_u64..60).prop_map(Step::Wait),
        1 => (0_u64..40).prop_map(Step::Tune),
        1 => (100_usize..66_000).prop_map(Step::Unit),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..300)
}

/// What is known of a run.
struct Model {
    line: Line,
    now: Duration,
    /// The packets on a wire without super-packets that were pushed and not popped.
    expected: HashMap<(u16, u64), Vec<u8>>,
    /// The number of the next packet of each port, and of the one that may be popped next.
    numbers: [u64; 8],
    popped: [u64; 8],
    pushed: Load,
    left: Load,
    marked: u64,
}

impl Model {
    fn push(&mut self, header: &VnetHeader, packet: &[u8]) {
        for segment in segments(header, packet) {
            assert!(self.expected.insert(label(&segment), segment).is_none());
        }
        self.pushed += self.line.push(self.now, header, packet);
    }

    fn pop(&mut self) -> bool {
        let waiting = self.line.queue.bytes();
        let Some((header, packet)) = self.line.pop(self.now) else { return false };
        assert!(self.line.queue.bytes() + packet.len() <= waiting);
        for segment in segments(&header, &packet) {
            let (port, number) = label(&segment);
            let mut expected = self.expected.remove(&(port, number)).expect("it was pushed, and not popped before");
            assert!(number >= self.popped[usize::from(port)], "in their order");
            self.popped[usize::from(port)] = number + 1;
            if segment[1] != expected[1] {
                assert_ne!(expected[1] & 3, 0, "marked without having asked for it");
                expected[1] |= 3;
            } else if segment[1] & 3 != 3 {
                assert_eq!(segment, expected);
            }
            assert_eq!(checksum(&segment[..20]), 0);
            assert!(segment[12..] == expected[12..] && segment[..10] == expected[..10]);
            self.left += Load { packets: 1, bytes: segment.len() as u64 };
            self.marked += u64::from(segment[1] & 3 == 3);
        }
        true
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Tcp { port, tos, size, len } => {
                let number = &mut self.numbers[usize::from(port)];
                let packet = tcp(port, tos, *number as u32, &vec![*number as u8; len]);
                *number += len as u64;
                self.push(&unfinished(if len > size { size } else { 0 }), &packet);
            }
            Step::Udp { port, len } => {
                let number = &mut self.numbers[usize::from(port)];
                *number += 1;
                let packet = udp(port, *number, len);
                self.push(&VnetHeader::default(), &packet);
            }
            Step::Pop(times) => {
                // All of them, or as many as wait.
                (0..times).all(|_| self.pop());
            }
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Tune(milliseconds) => {
                self.line.queue.tune(Tuning::for_round_trip(Duration::from_millis(milliseconds)));
            }
            Step::Unit(unit) => self.line.unit = unit,
            Step::Trim => self.line.memory.trim(self.now),
        }
    }
}

proptest! {
    #[test]
    fn what_is_pushed_is_popped_once_and_in_order_or_dropped_and_counted(
        steps in steps(),
        bytes in prop::sample::select(vec![3_000_usize, 30_000, 300_000]),
    ) {
        let mut model = Model {
            line: Line::new(bytes),
            now: Duration::from_secs(1),
            expected: HashMap::new(),
            numbers: [0; 8],
            popped: [0; 8],
            pushed: Load::default(),
            left: Load::default(),
            marked: 0,
        };
        for step in &steps {
            model.take(step);
            prop_assert!(model.line.queue.bytes() <= bytes);
            prop_assert_eq!(model.line.queue.is_empty(), model.line.queue.bytes() == 0);
        }
        // Half of what waits is popped, the other half cleared.
        let half = model.line.queue.bytes() / 2;
        while model.line.queue.bytes() > half {
            prop_assert!(model.pop() || model.line.queue.bytes() <= half);
        }
        let cleared = model.line.queue.clear(&mut model.line.memory);
        prop_assert!(model.line.queue.is_empty() && model.line.queue.bytes() == 0);
        let mut all = model.left;
        all += cleared;
        model.line.events.drops().for_each(|(_, load)| all += load);
        prop_assert_eq!(all, model.pushed);
        prop_assert_eq!(model.expected.len() as u64, cleared.packets + model.line.dropped());
        prop_assert!(model.line.events.marked() <= model.marked);
        // The memory has all of its blocks back.
        model.now += Duration::from_secs(11);
        model.line.memory.trim(model.now);
        model.line.memory.trim(model.now + Duration::from_secs(11));
        prop_assert!(model.line.memory.owned() < 10_000, "{}", model.line.memory.owned());
    }
}
