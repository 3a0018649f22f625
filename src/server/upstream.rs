//! From clients to the host: handles the packets and bundles of a client, on the worker of its stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sdk::channel::{Channel, SessionStats};
use vpn_core::forward::{DropCause, Load, Networks, Offload, Policy};
use vpn_core::meter::Event;
use vpn_core::wire::{Ipv4View, Record, VnetHeader, records};

use super::Server;
use super::session::Session;
use super::worker_datapath::WorkerDatapath;

impl Server {
    /// Writes to the host a packet that a client sent without a bundle.
    pub(super) fn upstream(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        worker: u32,
        packet: &[u8],
    ) -> Result<(), DropCause> {
        let datapath = self.datapaths.get(worker as usize).ok_or(DropCause::SessionGone)?;
        let record = Record { header: VnetHeader::default(), packet };
        let (view, offload) = self.check(session, &record, &self.deny.load())?;
        if session.is_limited_up() {
            self.wait_up(channel, session, packet, (&view, &offload))?;
            self.pass_up(channel, session);
            return Ok(());
        }
        datapath.write_tun_single(packet, &view, &offload, session.inner_mtu());
        self.count_up(channel, session, datapath, Load::of(&offload, packet.len()));
        Ok(())
    }

    /// Writes the packets and super-packets of a bundle to the host. Only a client that announced bundles, and learned
    /// that the server accepts them, may send one.
    pub(super) fn bundle_upstream(
        &self,
        channel: &Arc<Channel>,
        session: &Session,
        worker: u32,
        data: &[u8],
    ) -> Result<(), DropCause> {
        if session.bundle() == 0 {
            return Err(DropCause::UnexpectedOp);
        }
        let datapath = self.datapaths.get(worker as usize).ok_or(DropCause::SessionGone)?;
        let (mut load, mtu, deny) = (Load::default(), session.inner_mtu(), self.deny.load());
        let is_limited = session.is_limited_up();
        for record in records(data) {
            let bytes = record.as_ref().map_or(0, |record| record.packet.len());
            let checked =
                record.map_err(DropCause::from).and_then(|record| Ok((self.check(session, &record, &deny)?, record)));
            match checked {
                Ok(((view, offload), Record { packet, .. })) if is_limited => {
                    self.wait_up(channel, session, packet, (&view, &offload))?;
                }
                Ok(((view, offload), Record { packet, .. })) => {
                    datapath.write_tun(packet, &view, &offload, mtu);
                    load += Load::of(&offload, packet.len());
                }
                Err(cause) => self.count_drop(channel, worker, cause, bytes),
            }
        }
        if is_limited {
            self.pass_up(channel, session);
            return Ok(());
        }
        datapath.flush_tun();
        self.count_up(channel, session, datapath, load);
        Ok(())
    }

    /// Decides whether a packet, or super-packet, from this client may pass.
    fn check(&self, session: &Session, record: &Record<'_>, deny: &Networks) -> Result<(Ipv4View, Offload), DropCause> {
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        self.policy(deny).check_upstream(&record.header, record.packet, session.leased())
    }

    /// What clients may reach; both directions obey it.
    pub(super) fn policy<'a>(&'a self, deny: &'a Networks) -> Policy<'a> {
        Policy { subnet: &self.subnet, isolate: self.isolates.load(Ordering::Relaxed), deny }
    }

    /// Counts the packets as forwarded, except those that the device refused: they count as dropped.
    pub(super) fn count_up(&self, channel: &Arc<Channel>, session: &Session, datapath: &WorkerDatapath, load: Load) {
        self.counters.up(datapath.worker as usize, load);
        let lost = datapath.reclassify_refused();
        let forwarded = load.bytes.saturating_sub(lost.bytes);
        if session.carried.count(forwarded, 0) {
            self.meter(channel, Event::Tick);
        }
        channel.add_stats(&SessionStats {
            bytes_sent: forwarded,
            packets_sent: load.packets.saturating_sub(lost.packets),
            bytes_sent_lost: lost.bytes,
            packets_sent_lost: lost.packets,
            ..SessionStats::default()
        });
    }

    /// Counts a packet from a client that was dropped.
    pub(super) fn count_drop(&self, channel: &Channel, worker: u32, cause: DropCause, bytes: usize) {
        self.counters.dropped_up(worker as usize, cause, 1);
        let lost = SessionStats { bytes_sent_lost: bytes as u64, packets_sent_lost: 1, ..SessionStats::default() };
        channel.add_stats(&lost);
    }
}
