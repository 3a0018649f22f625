//! The pool's record of each address, by the address's number.

use super::record::{PAGES, TokenHash};
use crate::source::Source;

/// The number of addresses in one block of memory. A block is allocated with its first address and freed with its last.
const CHUNK: usize = 128;

/// The records of leased and kept addresses. Neighbours share memory: new addresses are leased in order, so a lease's
/// record is usually close to one that was touched just before.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Option<Box<Chunk>>>,
}

#[derive(Debug)]
struct Chunk {
    used: usize,
    slots: [Option<Slot>; CHUNK],
}

/// The record of one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// What recognises its client's token.
    pub(super) token: TokenHash,
    /// Where its client comes from.
    pub(super) source: Source,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Live {
        /// The number of the lease.
        id: u64,
    },
    /// Nobody has it now; it is one client's alone (a static lease).
    Reserved,
    /// A link in the list of kept addresses, in the order of their return.
    Held {
        /// The time of the return, in nanoseconds on the pool's clock. No two returns have the same.
        returned: u64,
        /// The number of the next older kept address, or 0.
        older: u32,
        /// The number of the next newer kept address, or 0.
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

    /// All records, with the numbers of their addresses.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.of_blocks(0, 1)
    }

    /// The records of a page, with the numbers of their addresses.
    pub(super) fn of_page(&self, page: u16) -> impl Iterator<Item = (u32, &Slot)> {
        self.of_blocks(page.into(), PAGES.into())
    }

    fn of_blocks(&self, first: usize, step: usize) -> impl Iterator<Item = (u32, &Slot)> {
        let chunks = self.chunks.iter().enumerate().skip(first).step_by(step);
        chunks.filter_map(|(number, chunk)| Some((number, chunk.as_ref()?))).flat_map(|(number, chunk)| {
            let hosts = (number * CHUNK) as u32..;
            hosts.zip(&chunk.slots).filter_map(|(host, slot)| Some((host, slot.as_ref()?)))
        })
    }

    /// The number of allocated blocks.
    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.iter().flatten().count()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.chunks() * size_of::<Chunk>() + self.chunks.capacity() * size_of::<Option<Box<Chunk>>>()
    }
}

/// The page that stores the record of an address: that of its block. As many blocks as fit share a page.
pub(super) fn page(host: u32) -> u16 {
    (position(host).0 % usize::from(PAGES)) as u16
}

fn position(host: u32) -> (usize, usize) {
    (host as usize / CHUNK, host as usize % CHUNK)
}
