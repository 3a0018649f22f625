//! What comes from a peer into a queue, as this kernel takes it: small packets of a flow together, super-packets whole or
//! cut.

use std::time::{Duration, Instant};

use host::tun::Queue;
use vpn_core::forward::{Coalescer, Load, Offload, split};
use vpn_core::wire::Ipv4View;

/// Packets that come one by one, and closer together than this, are taken for one batch. It decides whether a packet may
/// wait for those behind it: until the end of the worker's turn at most, which is soon unless there is much to do.
const BATCH_GAP: Duration = Duration::from_micros(50);

/// Writes packets into a queue, in their order. One packet may wait in it for those that follow: [`Writer::flush`] ends a
/// batch.
pub(crate) struct Writer {
    /// None for a queue that takes no super-packets.
    coalescer: Option<Coalescer>,
    /// A super-packet that this kernel cannot cut is cut here.
    scratch: Vec<u8>,
    lost: Load,
    /// When a single packet last came.
    last_single: Option<Instant>,
    /// The end of the turn was asked for and has not come.
    is_due: bool,
}

impl Writer {
    /// For this queue.
    pub(crate) fn new(queue: &Queue) -> Writer {
        let coalescer = queue.has_offload().then(|| Coalescer::new(queue.has_uso()));
        Writer { coalescer, scratch: Vec::new(), lost: Load::default(), last_single: None, is_due: false }
    }

    /// Takes a packet that was [checked](Offload::check).
    pub(crate) fn write(&mut self, queue: &Queue, packet: &[u8], view: &Ipv4View, offload: &Offload) {
        let lost = &mut self.lost;
        match (&mut self.coalescer, offload) {
            (Some(coalescer), Offload::None | Offload::Checksum { .. }) => {
                coalescer.push(packet, view, offload, &mut |offload, packet| hand_over(queue, offload, packet, lost));
                return;
            }
            (Some(coalescer), Offload::Segments(_)) => {
                coalescer.flush(&mut |offload, packet| hand_over(queue, offload, packet, lost))
            }
            (None, _) => {}
        }
        let passes = match offload {
            Offload::None => true,
            Offload::Checksum { .. } => false,
            Offload::Segments(segments) => queue.has_offload() && (segments.is_tcp || queue.has_uso()),
        };
        if passes {
            return hand_over(queue, offload, packet, lost);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        split(&mut self.scratch, 0, offload, |packet| hand_over(queue, &Offload::None, packet, lost));
    }

    /// Takes a packet that came by itself, from a peer that knows no bundles. The first of a batch is written at once; of
    /// those that follow one may be left waiting. True: have [`Writer::end_turn`] called at the end of the worker's turn.
    pub(crate) fn write_single(
        &mut self,
        queue: &Queue,
        packet: &[u8],
        view: &Ipv4View,
        offload: &Offload,
        now: Instant,
    ) -> bool {
        let last = self.last_single.replace(now);
        self.write(queue, packet, view, offload);
        let in_batch = last.is_some_and(|last| now.saturating_duration_since(last) < BATCH_GAP);
        let waits = self.coalescer.as_ref().is_some_and(|coalescer| !coalescer.is_empty());
        if in_batch && waits {
            return !std::mem::replace(&mut self.is_due, true);
        }
        self.flush(queue);
        false
    }

    /// Writes what [`Writer::write_single`] has left waiting.
    pub(crate) fn end_turn(&mut self, queue: &Queue) {
        self.is_due = false;
        self.flush(queue);
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, queue: &Queue) {
        let lost = &mut self.lost;
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.flush(&mut |offload, packet| hand_over(queue, offload, packet, lost));
        }
    }

    /// What the queue did not take since this was last asked.
    pub(crate) fn take_lost(&mut self) -> Load {
        std::mem::take(&mut self.lost)
    }
}

fn hand_over(queue: &Queue, offload: &Offload, packet: &[u8], lost: &mut Load) {
    if let Err(error) = queue.send(&offload.to_header(), packet) {
        log::trace!("TUN queue: {error}");
        *lost += Load::of(offload, packet.len());
    }
}
