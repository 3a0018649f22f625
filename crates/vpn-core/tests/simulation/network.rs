//! Time, chance, and what is on its way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::NetworkPlan;

/// A stream, and with it the connection that made it and the session that serves it.
pub(crate) type Stream = usize;

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A step of the plan.
    Step(usize),
    /// The stream is made, or not: what the client learns.
    Dialled(Stream, Outcome),
    /// A message arrives: channel 'R' or 'S', type, body.
    ToServer(Stream, Message),
    ToClient(Stream, Message),
    /// An end learns that the stream is gone.
    ClientSeesEnd(Stream),
    ServerSeesEnd(Stream),
    /// Timers.
    ClientTick(Stream),
    ClientTimeout(Stream),
    ServerTick,
    /// The device of a connection is there, or could not be made.
    Device(Stream),
    /// The thread in a start that has failed takes the connection down.
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

/// The clock, the dice, and what will happen.
pub(crate) struct Network {
    plan: NetworkPlan,
    /// Milliseconds.
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    number: u64,
    dice: u64,
    /// The network and the timers behave from now on.
    pub(crate) is_calm: bool,
}

impl Network {
    pub(crate) fn new(plan: &NetworkPlan, seed: u64) -> Network {
        Network { plan: plan.clone(), now: 0, queue: BinaryHeap::new(), number: 0, dice: seed, is_calm: false }
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now
    }

    /// Moves the clock on to what happens next, unless that is later than `limit`.
    pub(crate) fn next(&mut self, limit: u64) -> Option<Happening> {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > limit) {
            return None;
        }
        let Reverse((at, _, happening)) = self.queue.pop()?;
        self.now = at;
        Some(happening)
    }

    pub(crate) fn at(&mut self, milliseconds: u64, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((milliseconds.max(self.now), self.number, happening)));
    }

    /// A timer: it fires late.
    pub(crate) fn timer(&mut self, after: u64, happening: Happening) {
        let late = self.below(self.latest() + 1);
        self.at(self.now + after + late, happening);
    }

    /// How late a timer fires at most, milliseconds.
    pub(crate) fn latest(&self) -> u64 {
        if self.is_calm { 0 } else { self.plan.late }
    }

    /// A message: it comes once, twice, or not at all, and not in its turn.
    pub(crate) fn send(&mut self, happening: Happening) {
        if self.percent(self.plan.lost) {
            return;
        }
        if self.percent(self.plan.repeated) {
            let at = self.now + self.delay();
            self.at(at, happening.clone());
        }
        let at = self.now + self.delay();
        self.at(at, happening);
    }

    /// What the other end learns by the stream itself: it comes once.
    pub(crate) fn signal(&mut self, happening: Happening) {
        let at = self.now + self.delay();
        self.at(at, happening);
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
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
