//! The virtual clock, random numbers, and the queue of future events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::NetworkPlan;

/// A stream, which also identifies the client's connection and the server's session.
pub(crate) type Stream = usize;

/// A future event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SimEvent {
    /// A step of the plan.
    Step(usize),
    /// The client learns whether its stream is established.
    Dialled(Stream, Outcome),
    /// A message arrives on channel 'R' or 'S'.
    ToServer(Stream, Message),
    ToClient(Stream, Message),
    /// One end learns that the stream is closed.
    ClientSeesEnd(Stream),
    ServerSeesEnd(Stream),
    /// A timer fires.
    ClientTick(Stream),
    ClientTimeout(Stream),
    ServerTick,
    /// The device of a connection is created, or its creation has failed.
    Device(Stream),
    /// The thread in a failed `start` closes the connection.
    StartEnds(Stream),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Connected,
    ChannelTaken,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Message {
    /// On channel 'R': type and body.
    Service(u8, Vec<u8>),
    /// On channel 'S': a VPN packet.
    Vpn(Vec<u8>),
}

/// The clock, the random numbers, and the future events.
pub(crate) struct Network {
    plan: NetworkPlan,
    /// The time in milliseconds.
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, SimEvent)>>,
    number: u64,
    rng_state: u64,
    /// From now on the network and the timers behave well.
    pub(crate) is_calm: bool,
}

impl Network {
    pub(crate) fn new(plan: &NetworkPlan, seed: u64) -> Network {
        Network { plan: plan.clone(), now: 0, queue: BinaryHeap::new(), number: 0, rng_state: seed, is_calm: false }
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now
    }

    /// Advances the clock to the next event, unless that is later than `limit`.
    pub(crate) fn next(&mut self, limit: u64) -> Option<SimEvent> {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > limit) {
            return None;
        }
        let Reverse((at, _, event)) = self.queue.pop()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn at(&mut self, milliseconds: u64, event: SimEvent) {
        self.number += 1;
        self.queue.push(Reverse((milliseconds.max(self.now), self.number, event)));
    }

    /// Schedules a timer, which may fire late.
    pub(crate) fn timer(&mut self, after: u64, event: SimEvent) {
        let late = self.below(self.latest() + 1);
        self.at(self.now + after + late, event);
    }

    /// Returns how late a timer may fire, in milliseconds.
    pub(crate) fn latest(&self) -> u64 {
        if self.is_calm { 0 } else { self.plan.late }
    }

    /// Sends a message, which may arrive once, twice or never, and out of order.
    pub(crate) fn send(&mut self, event: SimEvent) {
        if self.percent(self.plan.lost) {
            return;
        }
        if self.percent(self.plan.repeated) {
            let at = self.now + self.delay();
            self.at(at, event.clone());
        }
        let at = self.now + self.delay();
        self.at(at, event);
    }

    /// Schedules an event that the stream itself reports to the other end: it arrives exactly once.
    pub(crate) fn signal(&mut self, event: SimEvent) {
        let at = self.now + self.delay();
        self.at(at, event);
    }

    pub(crate) fn outcome(&mut self) -> Outcome {
        if self.percent(self.plan.unreachable) {
            Outcome::Failed
        } else if self.percent(self.plan.taken) {
            Outcome::ChannelTaken
        } else {
            Outcome::Connected
        }
    }

    fn delay(&mut self) -> u64 {
        let longest = if self.is_calm { 10 } else { self.plan.delay };
        self.below(longest + 1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance && !self.is_calm
    }

    pub(crate) fn token(&mut self) -> [u8; 16] {
        let (low, high) = (self.draw(), self.draw());
        (u128::from(low) | u128::from(high) << 64).to_le_bytes()
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.rng_state = self.rng_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.rng_state ^ (self.rng_state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
