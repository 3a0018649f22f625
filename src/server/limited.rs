//! Sessions with rate limits: which limits one has, and what passes when they allow it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sdk::channel::{Channel, SessionStats};
use vpn_core::forward::{DropCause, Load, Offload, Route};
use vpn_core::queue::Events;
use vpn_core::wire::{Ipv4View, Request};

use super::Server;
use super::session::Session;
use super::worker_datapath::WorkerDatapath;

impl Server {
    /// Gives the session the limits of its order, on its worker. A free session has an order, too.
    pub(super) fn apply_rates(&self, channel: &Arc<Channel>) {
        let Some(session) = channel.data::<Session>() else { return };
        let generation = self.generation.load(Ordering::Acquire);
        let has_changed = session.settings_seen() != generation;
        if !has_changed && !self.has_had_rates.load(Ordering::Relaxed) {
            return;
        }
        let order = match session.account.lock().current_request().map(Request::parse) {
            Some(Ok(request)) => Some(request.order_hash),
            _ => None,
        };
        let rates = self.settings().rates.of(order.as_ref());
        let Some((route, datapath)) = self.place(session) else { return };
        let queue = self.session_queue();
        if has_changed {
            datapath.set_queue(route, queue);
        }
        datapath.set_rates(route, &rates, queue);
        session.see_settings(generation);
        if session.limit_up(rates.up.is_some()) && rates.up.is_none() {
            // Later packets no longer wait, and must not overtake these.
            self.hand_up(datapath, route, channel, session);
        }
    }

    /// Lets a packet, which was checked, wait for the session's limit. [`Server::hand_up`] follows.
    pub(super) fn wait_up(
        &self,
        channel: &Channel,
        session: &Session,
        packet: &[u8],
        described: (&Ipv4View, &Offload),
    ) -> Result<(), DropCause> {
        let (route, datapath) = self.place(session).ok_or(DropCause::SessionGone)?;
        self.count_events_up(datapath, channel, &datapath.wait_up(route, packet, described));
        Ok(())
    }

    /// Writes to the host what the session's limit allows now.
    pub(super) fn pass_up(&self, channel: &Arc<Channel>, session: &Session) {
        if let Some((route, datapath)) = self.place(session) {
            self.hand_up(datapath, route, channel, session);
        }
    }

    /// Goes on with the sessions that wait for their limits on this worker. Returns whether some still do.
    pub(super) fn go_on_limited(&self, worker: u32) -> bool {
        let Some(datapath) = self.datapaths.get(worker as usize) else { return false };
        if let Some(mut guard) = datapath.lend_bundler() {
            for _ in 0..datapath.held() {
                let Some(route) = datapath.next_held() else { break };
                self.hand_down(datapath, route, guard.bundler());
                if let Some(channel) = datapath.channel(route)
                    && let Some(session) = channel.data::<Session>()
                {
                    self.hand_up(datapath, route, &channel, session);
                }
            }
        }
        datapath.goes_on()
    }

    fn hand_up(&self, datapath: &WorkerDatapath, route: Route, channel: &Arc<Channel>, session: &Session) {
        let cause = match session.leased() {
            None => Some(DropCause::SessionGone),
            Some(_) => (!session.is_allowed()).then_some(DropCause::NotAllowed),
        };
        if let Some(cause) = cause {
            self.count_lost_up(datapath, channel, cause, datapath.clear_up(route));
        }
        let mut events = Events::default();
        let load = datapath.write_due(route, session.inner_mtu(), &mut events);
        self.count_events_up(datapath, channel, &events);
        if !load.is_empty() {
            self.count_up(channel, session, datapath, load);
        }
    }

    /// Returns the bytes that wait in the session's queues, on its worker.
    pub(super) fn waiting(&self, session: &Session) -> usize {
        self.place(session).map_or(0, |(route, datapath)| datapath.waiting(route))
    }

    fn place(&self, session: &Session) -> Option<(Route, &Arc<WorkerDatapath>)> {
        let route = (*session.route.lock())?;
        Some((route, self.datapaths.get(usize::from(route.worker))?))
    }

    fn count_events_up(&self, datapath: &WorkerDatapath, channel: &Channel, events: &Events) {
        events.drops().for_each(|(cause, load)| self.count_lost_up(datapath, channel, cause, load));
        self.counters.marked(datapath.worker as usize, events.marked());
        self.figures.waited_up(datapath.worker, events.delays());
    }

    fn count_lost_up(&self, datapath: &WorkerDatapath, channel: &Channel, cause: DropCause, lost: Load) {
        let Load { packets, bytes } = lost;
        self.counters.dropped_up(datapath.worker as usize, cause, packets);
        channel.add_stats(&SessionStats {
            bytes_sent_lost: bytes,
            packets_sent_lost: packets,
            ..SessionStats::default()
        });
    }
}
