//! The flows of one queue, and their turns (RFC 8290, section 4): deficit round robin, in which a flow that has just come
//! goes before those that were there.

use super::blocks::{Blocks, NONE, Unit};
use super::codel::Codel;

/// The flows that are told apart.
const FLOWS: usize = 256;
/// The places that a flow may have. Flows share one only if all of these are taken.
const WAYS: usize = 8;
/// The end of a list of flows.
const END: u16 = u16::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In no list.
    Idle,
    New,
    Old,
}

/// One flow, or several that share a place.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The first blocks of its oldest and its newest packet.
    head: u32,
    tail: u32,
    /// The bytes that it may still send in this round.
    deficit: i32,
    /// The bytes that wait.
    bytes: u32,
    codel: Codel,
    next: u16,
    state: State,
}

/// A first-in, first-out list of flows.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u16,
    tail: u16,
}

/// The flows of a queue that is not empty.
pub(super) struct Table {
    /// What a flow is recognised by, of each place.
    tags: [u32; FLOWS],
    /// The blocks that each flow's packets take.
    blocks: [u32; FLOWS],
    flows: [Flow; FLOWS],
    new: List,
    old: List,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("new", &self.new).field("old", &self.old).finish_non_exhaustive()
    }
}

impl Default for Table {
    fn default() -> Table {
        let flow = Flow {
            head: NONE,
            tail: NONE,
            deficit: 0,
            bytes: 0,
            codel: Codel::default(),
            next: END,
            state: State::Idle,
        };
        let list = List { head: END, tail: END };
        Table { tags: [0; FLOWS], blocks: [0; FLOWS], flows: [flow; FLOWS], new: list, old: list }
    }
}

impl Table {
    /// Returns the place of the flow with this hash: its own, else one of an idle flow, else a shared one. A returning
    /// flow finds CoDel's state, which knows how old it is.
    pub(super) fn place(&mut self, hash: u64) -> usize {
        let tag = (hash >> 32) as u32;
        let set = hash as usize % (FLOWS / WAYS) * WAYS;
        let mut idle = None;
        for place in set..set + WAYS {
            if self.tags[place] == tag {
                return place;
            }
            if self.flows[place].state == State::Idle {
                idle = Some(place);
            }
        }
        match idle {
            Some(place) => {
                self.tags[place] = tag;
                self.flows[place].codel = Codel::default();
                place
            }
            None => set + tag as usize % WAYS,
        }
    }

    /// Appends a stored packet to a flow. A flow that was idle is new.
    pub(super) fn append(&mut self, blocks: &mut Blocks, place: usize, first: u32, unit: &Unit, quantum: i32) {
        let flow = &mut self.flows[place];
        match blocks.unit(flow.tail) {
            Some(last) => last.next = first,
            None => flow.head = first,
        }
        flow.tail = first;
        flow.bytes += unit.len;
        self.blocks[place] += unit.blocks() as u32;
        if flow.state == State::Idle {
            (flow.state, flow.deficit) = (State::New, quantum);
            self.new.push(&mut self.flows, place as u16);
        }
    }

    /// Returns the place of the flow whose turn it is, and its oldest packet. `None` if no flow has packets.
    pub(super) fn turn(&mut self, quantum: i32) -> Option<(usize, u32)> {
        loop {
            let is_new = self.new.head != END;
            let list = if is_new { &mut self.new } else { &mut self.old };
            let place = usize::from(list.head);
            let flow = self.flows.get_mut(place)?;
            let has_turn = flow.deficit > 0;
            if has_turn && flow.head != NONE {
                return Some((place, flow.head));
            }
            list.pop(&mut self.flows);
            let flow = &mut self.flows[place];
            if has_turn {
                flow.codel.rest();
                // A flow that has just come and is empty waits for its turn among the old ones: it would be new at each
                // packet, and they would never have one.
                if !is_new || self.old.head == END {
                    flow.state = State::Idle;
                    continue;
                }
            } else {
                flow.deficit += quantum;
            }
            flow.state = State::Old;
            self.old.push(&mut self.flows, place as u16);
        }
    }

    pub(super) fn codel(&mut self, place: usize) -> &mut Codel {
        &mut self.flows[place].codel
    }

    /// The bytes of the flow's packets.
    pub(super) fn bytes(&self, place: usize) -> u32 {
        self.flows[place].bytes
    }

    /// Counts bytes against the flow's turn.
    pub(super) fn charge(&mut self, place: usize, len: usize) {
        let flow = &mut self.flows[place];
        flow.deficit = flow.deficit.saturating_sub(len as i32);
    }

    /// Takes the flow's oldest packet out and returns its first block and its description. Its blocks stay stored.
    pub(super) fn unlink(&mut self, blocks: &mut Blocks, place: usize) -> Option<(u32, Unit)> {
        let flow = &mut self.flows[place];
        let first = flow.head;
        let unit = *blocks.unit(first)?;
        flow.head = unit.next;
        if flow.head == NONE {
            flow.tail = NONE;
        }
        flow.bytes = flow.bytes.saturating_sub(unit.len);
        self.blocks[place] = self.blocks[place].saturating_sub(unit.blocks() as u32);
        Some((first, unit))
    }

    /// Returns the place of the flow that takes the most memory, if `more` blocks came to the flow at `to`.
    pub(super) fn fattest(&self, to: usize, more: usize) -> usize {
        let own = self.blocks[to].saturating_add(more as u32);
        let largest = self.blocks.iter().copied().fold(0, u32::max);
        if own >= largest {
            return to;
        }
        self.blocks.iter().position(|blocks| *blocks == largest).unwrap_or(to)
    }

    /// Makes all flows idle, once the queue has no packets.
    pub(super) fn rest(&mut self) {
        for list in [&mut self.new, &mut self.old] {
            while let Some(place) = list.pop(&mut self.flows) {
                let flow = &mut self.flows[usize::from(place)];
                flow.state = State::Idle;
                flow.codel.rest();
            }
        }
    }
}

impl List {
    fn push(&mut self, flows: &mut [Flow; FLOWS], place: u16) {
        flows[usize::from(place)].next = END;
        match flows.get_mut(usize::from(self.tail)) {
            Some(last) => last.next = place,
            None => self.head = place,
        }
        self.tail = place;
    }

    fn pop(&mut self, flows: &mut [Flow; FLOWS]) -> Option<u16> {
        let place = self.head;
        self.head = flows.get(usize::from(place))?.next;
        if self.head == END {
            self.tail = END;
        }
        Some(place)
    }
}
