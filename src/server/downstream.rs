//! From the host to clients: what a wake-up of a TUN queue, or of a mailbox, does.

use std::sync::Arc;

use crate::forward::{DropCause, Load, Offload, Route, split};
use crate::sdk::channel::{Channel, SessionStats, TYPE_DATA};
use crate::wire::{FULL_BUNDLE, HEADER_LEN, Header, VNET_LEN, op};

use super::Server;
use super::lane::{Lane, Outbound};
use super::session::Session;

/// Packets that one wake-up handles before the other sockets of the worker get their turn, and bytes.
const BUDGET: usize = 256;
const BUDGET_BYTES: usize = 1024 * 1024;

impl Server {
    /// Reads what the host wants to send to clients, up to the budget, and sends it on.
    pub(super) fn drain_tun(self: &Arc<Self>, lane: &Lane, first: Option<&[u8]>) {
        // What waits for the host does not wait for a batch of the other direction.
        lane.flush_tun();
        let Some(mut lent) = lane.lend() else { return };
        let out = lent.outbound();
        if let Some(filled) = first.and_then(|read| lane.queue.recv_from(read, out.bundle.room())) {
            self.forward(lane, out, filled);
        }
        let mut bytes = 0;
        for _ in 0..BUDGET {
            match lane.queue.recv(out.bundle.room()) {
                Ok(Some(filled)) => {
                    self.forward(lane, out, filled);
                    bytes += filled;
                    if bytes >= BUDGET_BYTES {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("TUN queue of worker {}: {error}", lane.worker);
                    break;
                }
            }
        }
        self.flush(lane, out, 0);
        drop(lent);
        self.wake_others(lane.worker);
    }

    /// The packet in the bundle's room: to its session here, or into the mailbox of the worker that has it.
    fn forward(&self, lane: &Lane, out: &mut Outbound, filled: usize) {
        let Some((header, packet)) = out.bundle.next(filled) else { return };
        let (view, offload) = match Offload::check(&header, packet) {
            Ok(checked) => checked,
            Err(cause) => return self.counters.dropped(lane.worker as usize, cause),
        };
        let load = Load::of(&offload, packet.len());
        let result = match self.table.get(view.destination) {
            None => Err(DropCause::NoRoute),
            Some(route) if u32::from(route.worker) == lane.worker => self.deliver(lane, out, filled, route, &offload),
            Some(route) => match self.lanes.get(usize::from(route.worker)) {
                None => Err(DropCause::SessionGone),
                Some(other) if other.mailbox.post(route, out.bundle.room().get(..filled).unwrap_or_default()) => Ok(()),
                Some(_) => Err(DropCause::QueueFull),
            },
        };
        if let Err(cause) = result {
            self.counters.dropped_all(lane.worker as usize, cause, load.packets);
        }
    }

    fn wake_others(self: &Arc<Self>, worker: u32) {
        for lane in self.lanes.iter().filter(|lane| lane.worker != worker) {
            let server = Arc::downgrade(self);
            let receiver = lane.worker;
            lane.mailbox.wake(move || {
                if let Some(server) = server.upgrade() {
                    server.open_mailbox(receiver);
                }
            });
        }
    }

    fn open_mailbox(&self, worker: u32) {
        let Some(lane) = self.lanes.get(worker as usize) else { return };
        lane.mailbox.open();
        let Some(mut lent) = lane.lend() else { return };
        let out = lent.outbound();
        lane.mailbox.drain(|route, read| {
            let filled = read.len();
            let Some(room) = out.bundle.room().get_mut(..filled) else { return };
            room.copy_from_slice(read);
            let Some((header, packet)) = out.bundle.next(filled) else { return };
            let Ok((_, offload)) = Offload::check(&header, packet) else { return };
            let load = Load::of(&offload, packet.len());
            if let Err(cause) = self.deliver(lane, out, filled, route, &offload) {
                self.counters.dropped_all(worker as usize, cause, load.packets);
            }
        });
        self.flush(lane, out, 0);
    }

    /// Takes the packet in the bundle's room to its client, on the session's worker: with a bundle, or by itself.
    fn deliver(
        &self,
        lane: &Lane,
        out: &mut Outbound,
        filled: usize,
        route: Route,
        offload: &Offload,
    ) -> Result<(), DropCause> {
        let channel = lane.channel(route).ok_or(DropCause::SessionGone)?;
        let session = channel.data::<Session>().ok_or(DropCause::SessionGone)?;
        if !session.is_allowed() {
            return Err(DropCause::NotAllowed);
        }
        let limit = session.bundle();
        if out.route != Some(route) || !out.bundle.fits(filled, limit) {
            self.flush(lane, out, filled);
        }
        if !out.bundle.fits(filled, limit) {
            self.send_plain(lane, &channel, session, out.bundle.plain(filled), offload);
            return Ok(());
        }
        out.load += Load::of(offload, filled - VNET_LEN);
        out.route = Some(route);
        out.bundle.keep(filled, &offload.to_header());
        if out.bundle.len() >= FULL_BUNDLE {
            self.flush(lane, out, 0);
        }
        Ok(())
    }

    /// A client that takes no bundles, or none so large, gets one packet at a time. `filled` has room for the VPN header
    /// in front.
    fn send_plain(&self, lane: &Lane, channel: &Channel, session: &Session, filled: &mut [u8], offload: &Offload) {
        split(filled, HEADER_LEN, offload, |filled| {
            let size = filled.len().saturating_sub(HEADER_LEN);
            let header = Header { sock_id: 0, op: op::VPN_RECV, usage_id: session.usage_id(), value: size as u32 };
            if let Some(front) = filled.first_chunk_mut() {
                header.write_to(front);
            }
            self.send(lane, channel, filled, Load { packets: 1, bytes: size as u64 });
        });
    }

    /// Sends the bundle that is being filled; the `next` bytes in its room begin the next one.
    fn flush(&self, lane: &Lane, out: &mut Outbound, next: usize) {
        let load = std::mem::take(&mut out.load);
        if let Some(route) = out.route.take() {
            match lane.channel(route) {
                Some(channel) => {
                    let usage_id = channel.data::<Session>().map_or(0, Session::usage_id);
                    self.send(lane, &channel, out.bundle.packet(op::BUNDLE_RECV, op::VPN_RECV, usage_id), load);
                }
                None => self.counters.dropped_all(lane.worker as usize, DropCause::SessionGone, load.packets),
            }
        }
        out.bundle.restart(next);
    }

    /// A whole VPN packet. A client that does not read costs its queue, and no more.
    fn send(&self, lane: &Lane, channel: &Channel, packet: &[u8], load: Load) {
        let Load { packets, bytes } = load;
        let has_room = channel.pending().is_some_and(|waiting| waiting + packet.len() <= self.settings.session_queue);
        if has_room && channel.send(TYPE_DATA, packet) {
            self.counters.down(lane.worker as usize, load);
            channel.add_stats(&SessionStats { bytes_recv: bytes, packets_recv: packets, ..SessionStats::default() });
        } else {
            self.counters.dropped_all(lane.worker as usize, DropCause::OutputFull, packets);
            let lost = SessionStats { bytes_recv_lost: bytes, packets_recv_lost: packets, ..SessionStats::default() };
            channel.add_stats(&lost);
        }
    }
}
