//! Writes a peer's packets to a TUN queue in the form that the kernel accepts: small packets of a flow merged,
//! super-packets whole or cut.

use std::time::{Duration, Instant};

use host::tun::Queue;
use vpn_core::forward::{Coalescer, Load, MssClamp, Offload, split};
use vpn_core::wire::Ipv4View;

/// Single packets that arrive within this interval count as one batch. A packet of a batch may wait for the next one
/// until the end of the worker's turn, which is soon unless the worker is busy.
const BATCH_GAP: Duration = Duration::from_micros(50);

/// Writes packets to a queue in order. One packet may wait for those that follow; [`Writer::flush`] ends a batch.
pub(crate) struct Writer {
    /// `None` for a queue that accepts no super-packets.
    coalescer: Option<Coalescer>,
    /// Memory for the work on a packet that the kernel cannot do, or must not.
    scratch: Vec<u8>,
    mss: MssClamp,
    refused: Load,
    /// When the last single packet arrived.
    last_single: Option<Instant>,
    /// The caller has been told to call [`Writer::end_turn`], and has not called it yet.
    end_turn_requested: bool,
}

impl Writer {
    /// Creates a writer for this queue.
    pub(crate) fn new(queue: &Queue) -> Writer {
        let coalescer = queue.has_offload().then(|| Coalescer::new(queue.has_uso()));
        Writer {
            coalescer,
            scratch: Vec::new(),
            mss: MssClamp::default(),
            refused: Load::default(),
            last_single: None,
            end_turn_requested: false,
        }
    }

    /// Writes a [checked](Offload::check_record) packet. TCP connections that it opens are held to segments that fit into
    /// `mtu`, if there is one.
    pub(crate) fn write(&mut self, queue: &Queue, packet: &[u8], view: &Ipv4View, offload: &Offload, mtu: Option<u16>) {
        let packet = self.mss.apply(packet, view, offload, mtu);
        let refused = &mut self.refused;
        match (&mut self.coalescer, offload) {
            (Some(coalescer), Offload::None | Offload::Checksum { .. }) => {
                coalescer.push(packet, view, offload, &mut |offload, packet| send(queue, offload, packet, refused));
                return;
            }
            (Some(coalescer), Offload::InnerChecksum { .. } | Offload::Segments(_)) => {
                coalescer.flush(&mut |offload, packet| send(queue, offload, packet, refused))
            }
            (None, _) => {}
        }
        let is_accepted = match offload {
            Offload::None => true,
            // The kernel would write an inner sum behind the host's filters, to a place that the peer has chosen: what
            // they judged would not be what arrives.
            Offload::Checksum { .. } | Offload::InnerChecksum { .. } => false,
            Offload::Segments(segments) => queue.has_offload() && (segments.is_tcp || queue.has_uso()),
        };
        if is_accepted {
            return send(queue, offload, packet, refused);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        split(&mut self.scratch, 0, offload, |packet| send(queue, &Offload::None, packet, refused));
    }

    /// Writes a packet from a peer that does not send bundles. The first packet of a batch is written at once; a later
    /// one may be left waiting. Returns true if the caller must call [`Writer::end_turn`] at the end of the worker's
    /// turn.
    pub(crate) fn write_single(
        &mut self,
        queue: &Queue,
        packet: &[u8],
        view: &Ipv4View,
        offload: &Offload,
        mtu: Option<u16>,
        now: Instant,
    ) -> bool {
        let last = self.last_single.replace(now);
        self.write(queue, packet, view, offload, mtu);
        let in_batch = last.is_some_and(|last| now.saturating_duration_since(last) < BATCH_GAP);
        let waits = self.coalescer.as_ref().is_some_and(|coalescer| !coalescer.is_empty());
        if in_batch && waits {
            return !std::mem::replace(&mut self.end_turn_requested, true);
        }
        self.flush(queue);
        false
    }

    /// Writes the packet that [`Writer::write_single`] left waiting.
    pub(crate) fn end_turn(&mut self, queue: &Queue) {
        self.end_turn_requested = false;
        self.flush(queue);
    }

    /// Writes the waiting packets.
    pub(crate) fn flush(&mut self, queue: &Queue) {
        let refused = &mut self.refused;
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.flush(&mut |offload, packet| send(queue, offload, packet, refused));
        }
    }

    /// Returns the packets that the queue has refused since the last call.
    pub(crate) fn take_refused(&mut self) -> Load {
        std::mem::take(&mut self.refused)
    }
}

fn send(queue: &Queue, offload: &Offload, packet: &[u8], refused: &mut Load) {
    if let Err(error) = queue.send(&offload.to_header(), packet) {
        log::trace!("cannot write to the TUN queue: {error}");
        *refused += Load::of(offload, packet.len());
    }
}
