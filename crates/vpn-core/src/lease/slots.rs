//! What the pool knows of an address, by the address's number.

use super::Token;

/// Addresses in one block of memory: it is made with its first address and freed with its last.
const CHUNK: usize = 128;

/// Of the addresses that are leased or kept. Neighbours share memory: fresh addresses leave in order, so what belongs to
/// one lease is seldom far from what was touched just before.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Option<Box<Chunk>>>,
}

#[derive(Debug)]
struct Chunk {
    used: usize,
    slots: [Option<Slot>; CHUNK],
}

/// One address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) token: Token,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Live {
        /// Number of the lease.
        id: u64,
    },
    /// A link of the list of kept addresses, in the order of their return.
    Held {
        /// Nanoseconds on the pool's clock.
        returned: u64,
        /// Number of the address that came back before; 0: none.
        older: u32,
        /// Number of the address that came back after; 0: none.
        newer: u32,
    },
}

impl Slots {
    pub(super) fn get(&self, host: u32) -> Option<&Slot> {
        let (chunk, place) = position(host);
        self.chunks.get(chunk)?.as_ref()?.slots.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, host: u32) -> Option<&mut Slot> {
        let (chunk, place) = position(host);
        self.chunks.get_mut(chunk)?.as_mut()?.slots.get_mut(place)?.as_mut()
    }

    pub(super) fn set(&mut self, host: u32, slot: Slot) {
        let (chunk, place) = position(host);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Box::new(Chunk { used: 0, slots: [None; CHUNK] }));
        if chunk.slots[place].replace(slot).is_none() {
            chunk.used += 1;
        }
    }

    pub(super) fn remove(&mut self, host: u32) {
        let (chunk, place) = position(host);
        let Some(entry) = self.chunks.get_mut(chunk) else { return };
        let Some(chunk) = entry.as_mut() else { return };
        if chunk.slots[place].take().is_some() {
            chunk.used -= 1;
        }
        if chunk.used == 0 {
            *entry = None;
        }
    }

    /// Blocks that take memory.
    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.iter().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.chunks() * size_of::<Chunk>() + self.chunks.capacity() * size_of::<Option<Box<Chunk>>>()
    }
}

fn position(host: u32) -> (usize, usize) {
    (host as usize / CHUNK, host as usize % CHUNK)
}
