//! Packets from a device on their way to a peer: together in bundles where it takes them, else one by one.

use std::ops::DerefMut;

use super::bundle::{Bundle, FULL_BUNDLE};
use super::{DropCause, Load, Offload, split};
use crate::wire::{HEADER_LEN, Ipv4View, write_header};

/// What VPN packets to a peer say of themselves.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Op of a bundle.
    pub bundle_op: u32,
    /// Op of a packet by itself.
    pub plain_op: u32,
    /// Number of the usage.
    pub usage_id: u32,
    /// Largest bundle that the peer takes, bytes; 0: none.
    pub largest: usize,
}

/// The bundle that is being filled, and what is in it. A packet is read into its [room](Bundler::room), looked at, and
/// taken.
pub struct Bundler<B = Box<[u8]>> {
    bundle: Bundle<B>,
    load: Load,
}

impl Default for Bundler {
    fn default() -> Bundler {
        Bundler { bundle: Bundle::default(), load: Load::default() }
    }
}

impl<B: DerefMut<Target = [u8]>> Bundler<B> {
    /// With nothing taken yet, in this memory, in which there may already be what fills the first room.
    pub fn over(buffer: B) -> Bundler<B> {
        Bundler { bundle: Bundle::over(buffer), load: Load::default() }
    }

    /// Where the next packet goes, as a TUN queue gives it: its header in front.
    pub fn room(&mut self) -> &mut [u8] {
        self.bundle.room()
    }

    /// What to do with a packet that somebody else has read into this memory, the first room of a bundle: one that is
    /// worth a bundle of its own stays there, and that bundle is returned; another is copied into the room here.
    pub fn take_over<'a>(&mut self, memory: &'a mut [u8], filled: usize) -> Option<Bundler<&'a mut [u8]>> {
        let mut alone = Bundler::over(memory);
        if filled < FULL_BUNDLE
            && let (Some(from), Some(to)) = (alone.room().get(..filled), self.room().get_mut(..filled))
        {
            to.copy_from_slice(from);
            return None;
        }
        Some(alone)
    }

    /// Looks at the packet that fills so many bytes of the room.
    pub fn check(&self, filled: usize) -> Result<(Ipv4View, Offload, Load), DropCause> {
        let (header, packet) = self.bundle.next(filled).ok_or(DropCause::Malformed)?;
        let (view, offload) = Offload::check(&header, packet)?;
        Ok((view, offload, Load::of(&offload, packet.len())))
    }

    /// Takes the packet in the room for a peer, the one of the packets that are in the bundle: with these, or by itself
    /// where the peer takes no bundle that holds it. Whole VPN packets go to `send`.
    pub fn take(
        &mut self,
        filled: usize,
        offload: &Offload,
        load: Load,
        peer: &Peer,
        mut send: impl FnMut(&[u8], Load),
    ) {
        if !self.bundle.fits(filled, peer.largest) {
            self.flush(filled, peer, &mut send);
        }
        if !self.bundle.fits(filled, peer.largest) {
            return split(self.bundle.plain(filled), HEADER_LEN, offload, |packet| {
                let bytes = packet.len().saturating_sub(HEADER_LEN) as u64;
                send(write_header(packet, peer.plain_op, peer.usage_id), Load { packets: 1, bytes });
            });
        }
        self.load += load;
        self.bundle.keep(filled, &offload.to_header());
        if self.bundle.len() >= FULL_BUNDLE {
            self.flush(0, peer, send);
        }
    }

    /// Sends the bundle; the `next` bytes in the room begin the next one.
    pub fn flush(&mut self, next: usize, peer: &Peer, mut send: impl FnMut(&[u8], Load)) {
        let load = std::mem::take(&mut self.load);
        if !self.bundle.is_empty() {
            send(self.bundle.packet(peer.bundle_op, peer.plain_op, peer.usage_id), load);
        }
        self.bundle.restart(next);
    }

    /// Lets go of the bundle, as of a peer that is gone; what was in it. The `next` bytes in the room begin the next one.
    pub fn discard(&mut self, next: usize) -> Load {
        self.bundle.restart(next);
        std::mem::take(&mut self.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_packet_stays_where_it_was_read_and_a_small_one_is_copied() {
        for (filled, stays) in [(FULL_BUNDLE - 1, false), (FULL_BUNDLE, true), (65_545, true)] {
            // In front of a bundle's first room are its header and the record's size.
            let mut memory = vec![7; HEADER_LEN + 2 + filled];
            let mut bundler = Bundler::default();
            let alone = bundler.take_over(&mut memory, filled);
            assert_eq!(alone.is_some(), stays, "{filled}");
            match alone {
                Some(mut alone) => assert_eq!(alone.room().len(), filled),
                None => assert!(bundler.room()[..filled].iter().all(|byte| *byte == 7)),
            }
        }
    }
}
