//! From clients to the host: what the packets and bundles of one client do, on the worker of the client's stream.

use crate::sdk::channel::{Channel, SessionStats};
use vpn_core::forward::{DropCause, Load, Offload, check_upstream};
use vpn_core::wire::{Ipv4View, Record, VnetHeader, records};

use super::Server;
use super::lane::Lane;
use super::session::Session;

impl Server {
    /// Writes a packet that a client sent by itself to the host's network.
    pub(super) fn upstream(
        &self,
        channel: &Channel,
        session: &Session,
        worker: u32,
        packet: &[u8],
    ) -> Result<(), DropCause> {
        let lane = self.lanes.get(worker as usize).ok_or(DropCause::SessionGone)?;
        let record = Record { header: VnetHeader::default(), packet };
        let (view, offload) = self.check(session, &record)?;
        lane.write_tun_single(packet, &view, &offload);
        self.count_up(channel, lane, Load::of(&offload, packet.len()));
        Ok(())
    }

    /// Writes the packets and super-packets of a bundle. Only a client that announced bundles, and was told that the
    /// server takes them, may send one.
    pub(super) fn bundle_upstream(
        &self,
        channel: &Channel,
        session: &Session,
        worker: u32,
        data: &[u8],
    ) -> Result<(), DropCause> {
        if session.bundle() == 0 {
            return Err(DropCause::UnexpectedOp);
        }
        let lane = self.lanes.get(worker as usize).ok_or(DropCause::SessionGone)?;
        let mut load = Load::default();
        for record in records(data) {
            let bytes = record.as_ref().map_or(0, |record| record.packet.len());
            let checked =
                record.map_err(DropCause::from).and_then(|record| Ok((self.check(session, &record)?, record)));
            match checked {
                Ok(((view, offload), Record { packet, .. })) => {
                    lane.write_tun(packet, &view, &offload);
                    load += Load::of(&offload, packet.len());
                }
                Err(cause) => self.count_drop(channel, worker, cause, bytes),
            }
        }
        lane.flush_tun();
        self.count_up(channel, lane, load);
        Ok(())
    }

    /// Decides whether a packet, or super-packet, from this client may pass.
    fn check(&self, session: &Session, record: &Record<'_>) -> Result<(Ipv4View, Offload), DropCause> {
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        let (subnet, isolate) = (&self.settings.subnet, self.settings.client_isolation);
        check_upstream(&record.header, record.packet, session.leased(), subnet, isolate)
    }

    /// Counts what the lane took for the host; what the device refused of it counts as dropped.
    fn count_up(&self, channel: &Channel, lane: &Lane, load: Load) {
        self.counters.up(lane.worker as usize, load);
        let lost = lane.count_lost();
        channel.add_stats(&SessionStats {
            bytes_sent: load.bytes.saturating_sub(lost.bytes),
            packets_sent: load.packets.saturating_sub(lost.packets),
            bytes_sent_lost: lost.bytes,
            packets_sent_lost: lost.packets,
            ..SessionStats::default()
        });
    }

    /// Counts a packet from a client that was dropped.
    pub(super) fn count_drop(&self, channel: &Channel, worker: u32, cause: DropCause, bytes: usize) {
        self.counters.dropped(worker as usize, cause);
        let lost = SessionStats { bytes_sent_lost: bytes as u64, packets_sent_lost: 1, ..SessionStats::default() };
        channel.add_stats(&lost);
    }
}
