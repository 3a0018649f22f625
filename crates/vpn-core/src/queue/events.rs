//! What a queue did besides keeping packets.

use super::delays::Delays;
use crate::forward::{DropCause, Load};

/// What a queue did besides keeping packets, for the caller's counters. Several calls may add to the same value.
#[derive(Clone, Debug, Default)]
pub struct Events {
    overflow: Load,
    memory: Load,
    codel: Load,
    marked: u64,
    delays: Delays,
}

impl Events {
    /// Returns the packets that were dropped, by cause.
    pub fn drops(&self) -> impl Iterator<Item = (DropCause, Load)> {
        let all = [
            (DropCause::QueueOverflow, self.overflow),
            (DropCause::QueueMemory, self.memory),
            (DropCause::Codel, self.codel),
        ];
        all.into_iter().filter(|(_, load)| !load.is_empty())
    }

    /// Returns the number of packets that were marked with CE instead of being dropped.
    pub fn marked(&self) -> u64 {
        self.marked
    }

    /// Returns how long the packets waited that left it.
    pub fn delays(&self) -> &Delays {
        &self.delays
    }

    pub(super) fn waited(&mut self, nanoseconds: u64) {
        self.delays.add(nanoseconds);
    }

    pub(super) fn dropped(&mut self, cause: DropCause, load: Load) {
        match cause {
            DropCause::Codel => self.codel += load,
            DropCause::QueueMemory => self.memory += load,
            _ => self.overflow += load,
        }
    }

    pub(super) fn add_marked(&mut self, packets: u64) {
        self.marked += packets;
    }
}
