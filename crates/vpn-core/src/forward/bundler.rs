//! Bundles packets from a device for a peer, or sends them singly if the peer does not accept bundles.

use std::ops::DerefMut;

use super::bundle::{Bundle, FULL_BUNDLE};
use super::{DropCause, Load, Offload, split};
use crate::wire::{HEADER_LEN, Ipv4View, VNET_LEN, write_header};

/// The header fields of VPN packets to a peer, and its limit for bundles.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The op of a bundle.
    pub bundle_op: u32,
    /// The op of a plain packet.
    pub plain_op: u32,
    /// The number of the usage.
    pub usage_id: u32,
    /// The largest bundle that the peer accepts, in bytes; 0 for none.
    pub largest: usize,
}

/// The bundle that is being filled, and its load. The caller reads a packet into the [spare
/// capacity](Bundler::spare_capacity), checks it, and adds it.
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
    /// Creates an empty bundler in this memory, whose spare capacity may already hold the next packet.
    pub fn over(buffer: B) -> Bundler<B> {
        Bundler { bundle: Bundle::over(buffer), load: Load::default() }
    }

    /// The spare capacity for the next packet as a TUN queue provides it, with its header in front.
    pub fn spare_capacity(&mut self) -> &mut [u8] {
        self.bundle.spare_capacity()
    }

    /// Accepts a packet that the caller has already read into `memory`, which is laid out as an empty bundle. A large
    /// packet stays there: the returned bundler sends it as a bundle of its own. A small packet is copied into this
    /// bundler's spare capacity.
    pub fn adopt<'a>(&mut self, memory: &'a mut [u8], filled: usize) -> Option<Bundler<&'a mut [u8]>> {
        let mut alone = Bundler::over(memory);
        if filled < FULL_BUNDLE
            && let (Some(from), Some(to)) =
                (alone.spare_capacity().get(..filled), self.spare_capacity().get_mut(..filled))
        {
            to.copy_from_slice(from);
            return None;
        }
        Some(alone)
    }

    /// Checks the packet that fills `filled` bytes of the spare capacity.
    pub fn check(&self, filled: usize) -> Result<(Ipv4View, Offload, Load), DropCause> {
        let (header, packet) = self.bundle.next(filled).ok_or(DropCause::Malformed)?;
        let (view, offload) = Offload::check(&header, packet)?;
        Ok((view, offload, Load::of(&offload, packet.len())))
    }

    /// The packet that fills `filled` bytes of the spare capacity, without its header.
    pub fn packet(&self, filled: usize) -> &[u8] {
        self.bundle.next(filled).map(|(_, packet)| packet).unwrap_or_default()
    }

    /// The same, to change it.
    pub fn packet_mut(&mut self, filled: usize) -> &mut [u8] {
        self.bundle.spare_capacity().get_mut(VNET_LEN..filled).unwrap_or_default()
    }

    /// Adds the packet in the spare capacity to the bundle for `peer`, the receiver of all packets in the bundle; sends
    /// it alone if the peer accepts no bundle of its size. A super-packet that a peer would refuse because it
    /// [amplifies](Offload::amplifies), from a host whose segments are tiny, is sent as its segments. `send` receives
    /// whole VPN packets.
    pub fn take(
        &mut self,
        filled: usize,
        offload: &Offload,
        load: Load,
        peer: &Peer,
        mut send: impl FnMut(&[u8], Load),
    ) {
        let is_refused = offload.amplifies(filled.saturating_sub(VNET_LEN));
        if is_refused || !self.bundle.fits(filled, peer.largest) {
            self.flush(filled, peer, &mut send);
        }
        if is_refused || !self.bundle.fits(filled, peer.largest) {
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

    /// Sends the bundle; the packet in the first `next` bytes of the spare capacity starts the next bundle.
    pub fn flush(&mut self, next: usize, peer: &Peer, mut send: impl FnMut(&[u8], Load)) {
        let load = std::mem::take(&mut self.load);
        if !self.bundle.is_empty() {
            send(self.bundle.packet(peer.bundle_op, peer.plain_op, peer.usage_id), load);
        }
        self.bundle.restart(next);
    }

    /// Discards the bundle, as its receiver is gone, and returns its load. The packet in the first `next` bytes of the
    /// spare capacity starts the next bundle.
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
            // A bundle's header and the record's size precede the first packet.
            let mut memory = vec![7; HEADER_LEN + 2 + filled];
            let mut bundler = Bundler::default();
            let alone = bundler.adopt(&mut memory, filled);
            assert_eq!(alone.is_some(), stays, "{filled}");
            match alone {
                Some(mut alone) => assert_eq!(alone.spare_capacity().len(), filled),
                None => assert!(bundler.spare_capacity()[..filled].iter().all(|byte| *byte == 7)),
            }
        }
    }
}
