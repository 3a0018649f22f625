//! Channel 'R''s part of a client's session, as C sees it.

use super::net::CNet;
use super::owned::CShared;
use super::service::{Handle, Service};
use super::usage::{self, Place, Usage, seconds_now, state, step};
use crate::ctypes::*;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;
use vpn_core::rate::Budget;
use vpn_core::wire::{Request, pkt};

/// Most packets of one kind that a stream may send in a second.
const PER_SECOND: u32 = 8;

/// Channel 'R''s part of a stream's session, which owns it.
pub(crate) struct ServiceSession {
    view: CShared<dap_chain_net_srv_stream_session>,
    /// The usages that end with the session.
    usages: Vec<Arc<Usage>>,
    since: Instant,
    requests: Budget,
    checks: Budget,
    signed: Budget,
    transactions: Budget,
}

impl ServiceSession {
    /// For the stream's session at `parent`, which owns it.
    pub(super) fn new(parent: *mut dap_stream_session) -> Self {
        let stats = dap_net_stats {
            bytes_sent: 0,
            bytes_recv: 0,
            bytes_sent_lost: 0,
            bytes_recv_lost: 0,
            packets_sent: 0,
            packets_recv: 0,
            packets_sent_lost: 0,
            packets_recv_lost: 0,
        };
        let view = CShared::new(dap_chain_net_srv_stream_session {
            ts_activated: Cell::new(0),
            parent,
            usage_active: Cell::new(ptr::null_mut()),
            limits_bytes: Cell::new(0),
            limits_ts: Cell::new(0),
            last_update_ts: Cell::new(0),
            limits_units_type: Cell::new(dap_chain_net_srv_price_unit_uid { enm: 0 }),
            stats: Cell::new(stats),
        });
        let rate = Budget::per_second(PER_SECOND);
        ServiceSession {
            view,
            usages: Vec::new(),
            since: Instant::now(),
            requests: rate,
            checks: rate,
            signed: rate,
            transactions: rate,
        }
    }

    /// Counts a packet from the client; false if it is none that a client sends, or comes too often.
    pub(crate) fn allows(&mut self, kind: u8, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.since);
        match kind {
            pkt::REQUEST => self.requests.take(now),
            pkt::CHECK_REQUEST => self.checks.take(now),
            pkt::SIGN_RESPONSE => self.signed.take(now),
            pkt::NEW_TX_COND_RESPONSE => self.transactions.take(now),
            _ => false,
        }
    }

    /// A usage of state FREE that is not active yet, and ends with the session.
    pub(crate) fn add_free_usage(
        &mut self,
        service: &Arc<Service>,
        net: &CNet,
        place: Place,
        request: &Request,
    ) -> Handle {
        let usage = Usage::new(service, net, place, request, None, state::FREE);
        let handle = usage.handle();
        self.usages.push(usage);
        handle
    }

    fn fields(&self) -> &dap_chain_net_srv_stream_session {
        // SAFETY: the session's service state is changed by its stream's worker only, which calls.
        unsafe { self.view.get() }
    }

    /// Makes a usage the session's only one. Called on the stream's worker.
    pub(crate) fn select(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        self.fields().ts_activated.set(seconds_now());
        self.fields().usage_active.set(usage.as_ptr());
    }

    /// Marks the usage active. Called on the stream's worker.
    pub(crate) fn activate(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        usage.fields().is_active.set(true);
        usage.set_step(step::NORMAL);
    }

    /// Removes a refused usage; the caller keeps it until its last callback has returned.
    pub(crate) fn drop_usage(&mut self, id: u32) -> Option<impl Sized + use<>> {
        let position = self.usages.iter().position(|usage| usage.id == id)?;
        let usage = self.usages.swap_remove(position);
        if self.fields().usage_active.get() == usage.as_ptr() {
            self.fields().usage_active.set(ptr::null_mut());
        }
        usage::forget(&usage);
        Some(usage)
    }

    /// Usage, network and service of the session's active usage, if it is free.
    pub(crate) fn active_free(&self) -> Option<(u32, u64, u64)> {
        let usage = usage::at(self.fields().usage_active.get().addr())?;
        let is_free = usage.fields().is_active.get() && usage.state() == state::FREE;
        is_free.then(|| (usage.id, usage.net_id, usage.service.uid()))
    }

    /// The client has an active usage that is not free: it pays, or is about to. A free one is anybody's.
    pub(crate) fn is_paid(&self) -> bool {
        let usage = usage::at(self.fields().usage_active.get().addr());
        usage.is_some_and(|usage| usage.fields().is_active.get() && usage.fields().service_state.get() != state::FREE)
    }

    /// The address of the active usage as C sees it, 0 for none. Called on the stream's worker.
    pub(crate) fn active_address(&self) -> usize {
        self.fields().usage_active.get().addr()
    }

    /// Makes a usage that does not end with the session the active one, or none. Called on the stream's worker.
    pub(crate) fn set_active(&self, usage: Option<&Usage>) {
        self.fields().usage_active.set(usage.map_or(ptr::null_mut(), Usage::as_ptr));
    }

    /// Gives the session units to start from. Called on the stream's worker.
    pub(crate) fn set_limit(&self, unit: u32, rest: &dap_stream_ch_chain_net_srv_remain_service_store) {
        match unit {
            vpn_core::wire::unit::SECONDS => self.fields().limits_ts.set(rest.limits_ts),
            _ => self.fields().limits_bytes.set(rest.limits_bytes),
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net_srv_stream_session {
        self.view.as_ptr()
    }

    /// The usage with an id, for C.
    pub(crate) fn usage_at(&self, id: u32) -> Option<*mut dap_chain_net_srv_usage> {
        let active = usage::at(self.fields().usage_active.get().addr());
        let mut usages = self.usages.iter().chain(&active);
        usages.find(|usage| usage.id == id).map(|usage| usage.as_ptr())
    }
}

impl Drop for ServiceSession {
    fn drop(&mut self) {
        self.usages.iter().for_each(|usage| usage::forget(usage));
    }
}
