//! What the SDK reports to the service: of channels 'S', on their workers, and of usages.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::sdk::channel::{Channel, ChannelHandler};
use crate::sdk::service::ServiceHandler;
use crate::sdk::usage::Rest;
use vpn_core::source::Source;
use vpn_core::wire;

use super::figures::Refusal;
use super::journal::Journal;
use super::session::Session;
use super::{Server, billing};

impl ChannelHandler for Server {
    fn opened(&self, channel: &Arc<Channel>) {
        let (now, source) = (self.now(), Source::of(billing::source_of(channel)));
        let journal = Journal::new(self.uptime(), channel.peer(), &self.log_sources, source);
        channel.set_data(Arc::new(Session::new(now, source, self.billing.open_account(), journal)));
        channel.show_service(self.service_raw(), self.tun_visible(channel.worker()));
        self.settings().congestion.apply(channel);
        self.figures.opened.add(1);
        self.open_channels.lock().insert(Arc::as_ptr(channel).addr(), Arc::clone(channel));
        // The billing side may have accepted the client on 'R' before the client opened 'S'.
        self.refresh(channel);
        if self.is_closing() {
            channel.close();
        }
    }

    fn closed(&self, channel: &Arc<Channel>) {
        if self.is_closing()
            && let Some(session) = channel.data::<Session>()
        {
            session.journal.ends("the service stops");
        }
        self.show_billing(channel);
        channel.disarm_waiting();
        self.end_billing(channel);
        self.log_end(channel);
        self.end_lease(channel);
        self.forget_request(channel);
        self.open_channels.lock().remove(&Arc::as_ptr(channel).addr());
    }

    /// The type is not looked at: nodes send [`TYPE_DATA`], the public GUI 0x00, and the C module reads neither.
    fn packet(&self, channel: &Arc<Channel>, _kind: u8, data: &[u8]) {
        let (Some(session), Some(worker)) = (channel.data::<Session>(), channel.worker()) else { return };
        session.hear(self.now());
        if let Err(cause) = self.vpn_packet(channel, session, worker, data) {
            self.count_drop(channel, worker, cause, data.len());
        }
    }

    fn drained(&self, channel: &Arc<Channel>) {
        self.drained_session(channel);
    }

    fn leaving(&self, channel: &Arc<Channel>) {
        // The packets that the next worker writes must not overtake these.
        if let Some(datapath) = channel.worker().and_then(|worker| self.datapaths.get(worker as usize)) {
            datapath.flush_tun();
        }
        self.withdraw_route(channel);
    }

    fn arrived(&self, channel: &Arc<Channel>, worker: u32) {
        channel.show_service(self.service_raw(), self.tun_visible(Some(worker)));
        self.c_snapshot_is_stale.store(true, Ordering::Release);
        self.announce_route(channel);
        // The stream was between two workers when the service closed all streams, or when another session took the
        // lease over.
        if self.is_closing() || channel.data::<Session>().is_some_and(Session::is_evicted) {
            channel.close();
        }
    }
}

impl ServiceHandler for Server {
    fn requested(&self, _usage_id: u32) -> i32 {
        if self.is_closing() { -1 } else { 0 }
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        let Some(channel) = channel else {
            log::debug!("usage {usage_id} refused: the client requests the VPN without a channel 'S'");
            return -2;
        };
        if !self.usage_accepted(channel) {
            return -1;
        }
        channel.activate_usage();
        channel.enable();
        // A repeated REQUEST, which a client sends until it receives an answer, changes nothing.
        self.refresh(channel);
        0
    }

    fn next_accepted(&self, channel: Option<&Arc<Channel>>, _usage_id: u32) -> i32 {
        if channel.is_some_and(|channel| self.next_paid(channel)) { 0 } else { -1 }
    }

    fn rest(&self, channel: &Arc<Channel>, _usage_id: u32) -> Option<Rest> {
        self.rest_for_usage(channel)
    }

    fn ending(&self, channel: &Arc<Channel>, _usage_id: u32) {
        self.show_billing(channel);
        self.end_billing(channel);
        channel.disarm_waiting();
    }

    fn refused(&self, channel: Option<&Arc<Channel>>, usage_id: u32, code: u32) {
        if let Some(channel) = channel {
            return self.usage_refused(channel, code);
        }
        self.figures.refuse(Refusal::of_code(code));
        log::debug!(
            "usage {usage_id}: the billing side refused service with code {code:#x} ({})",
            wire::error_text(code)
        );
    }
}

/// Receives the service's callbacks without keeping the server alive.
pub(super) struct WeakHandler(pub(super) Weak<Server>);

impl ServiceHandler for WeakHandler {
    fn requested(&self, usage_id: u32) -> i32 {
        self.0.upgrade().map_or(-1, |server| server.requested(usage_id))
    }

    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        self.0.upgrade().map_or(-1, |server| server.accepted(channel, usage_id))
    }

    fn next_accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32 {
        self.0.upgrade().map_or(-1, |server| server.next_accepted(channel, usage_id))
    }

    fn refused(&self, channel: Option<&Arc<Channel>>, usage_id: u32, code: u32) {
        if let Some(server) = self.0.upgrade() {
            server.refused(channel, usage_id, code);
        }
    }

    fn rest(&self, channel: &Arc<Channel>, usage_id: u32) -> Option<Rest> {
        self.0.upgrade().and_then(|server| server.rest(channel, usage_id))
    }

    fn ending(&self, channel: &Arc<Channel>, usage_id: u32) {
        if let Some(server) = self.0.upgrade() {
            server.ending(channel, usage_id);
        }
    }
}
