//! Services, and the sessions and usages of their clients, as C sees them.

use super::net::CNet;
use super::owned::CShared;
use crate::ctypes::*;
use crate::rate::Rate;
use std::cell::Cell;
use std::ffi::c_long;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::wire::Request;

/// A registered service.
pub(crate) struct Service(CShared<dap_chain_net_srv>);

impl Service {
    pub(crate) fn new(fields: dap_chain_net_srv) -> Self {
        Service(CShared::new(fields))
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net_srv {
        self.0.as_ptr()
    }

    fn fields(&self) -> &dap_chain_net_srv {
        // SAFETY: only fields that never change after construction are read through this.
        unsafe { self.0.get() }
    }

    pub(crate) fn uid(&self) -> u64 {
        self.fields().uid.uint64
    }

    pub(crate) fn allows_free(&self) -> bool {
        self.fields().allow_free_srv
    }

    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// Calls `requested`; 0 if the service has no such callback.
    pub(crate) fn requested(&self, usage: &Handle, request: &[u8]) -> i32 {
        self.call(self.fields().callbacks.requested, usage, request)
    }

    /// Calls `response_success`; 0 if the service has no such callback.
    pub(crate) fn response_success(&self, usage: &Handle, request: &[u8]) -> i32 {
        self.call(self.fields().callbacks.response_success, usage, request)
    }

    pub(crate) fn response_error(&self, usage: &Handle, error: &[u8]) {
        self.call(self.fields().callbacks.response_error, usage, error);
    }

    fn call(&self, callback: dap_chain_net_srv_callback_data_t, usage: &Handle, data: &[u8]) -> i32 {
        let Some(callback) = callback else { return 0 };
        // SAFETY: C gave the function for this service; the remote belongs to a usage that its session, or the caller,
        // keeps alive; this is the stream's worker.
        unsafe { callback(self.0.as_ptr(), usage.id, usage.remote, data.as_ptr().cast(), data.len()) }
    }
}

/// The arguments of a callback about a usage.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
}

impl Handle {
    /// For a request that was refused before it had a usage: id 0, remote NULL.
    pub(crate) const NONE: Handle = Handle { id: 0, remote: ptr::null_mut() };
}

/// Channel 'R''s part of a stream's session, which owns it.
pub(crate) struct ServiceSession {
    view: CShared<dap_chain_net_srv_stream_session>,
    usages: Vec<Usage>,
    pub(crate) requests: Rate,
    pub(crate) checks: Rate,
}

struct Usage {
    id: u32,
    net_id: u64,
    view: CShared<dap_chain_net_srv_usage>,
    remote: CShared<dap_chain_net_srv_client_remote>,
    service: Arc<Service>,
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
            stats: Cell::new(stats),
        });
        ServiceSession { view, usages: Vec::new(), requests: Rate::default(), checks: Rate::default() }
    }

    /// A usage of state FREE that is not active yet.
    pub(crate) fn add_free_usage(
        &mut self,
        service: &Arc<Service>,
        net: &CNet,
        ch: *mut dap_stream_ch,
        stream_worker: *mut dap_stream_worker,
        request: &Request,
    ) -> Handle {
        let id = usage_id();
        let now = seconds_now();
        let remote = CShared::new(dap_chain_net_srv_client_remote {
            ch,
            ts_created: now,
            stream_worker,
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
        });
        let view = CShared::new(dap_chain_net_srv_usage {
            id,
            ts_created: now,
            net: net.as_ptr(),
            service: service.0.as_ptr(),
            client: remote.as_ptr(),
            tx_cond_hash: dap_hash_fast { raw: request.tx_cond },
            client_pkey_hash: dap_hash_fast { raw: request.client_pkey_hash },
            static_order_hash: dap_hash_fast { raw: request.order_hash },
            is_active: Cell::new(false),
            service_state: Cell::new(dap_chain_net_srv_usage_service_state::DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE),
        });
        let handle = Handle { id, remote: remote.as_ptr() };
        self.usages.push(Usage { id, net_id: net.id(), view, remote, service: Arc::clone(service) });
        handle
    }

    /// Makes a usage the session's only one. Called on the stream's worker.
    pub(crate) fn select(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        // SAFETY: the session's service state is changed by its stream's worker only.
        let view = unsafe { self.view.get() };
        view.ts_activated.set(seconds_now());
        view.usage_active.set(usage.view.as_ptr());
    }

    /// Marks the usage active. Called on the stream's worker.
    pub(crate) fn activate(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        // SAFETY: as in `select`.
        unsafe { usage.view.get() }.is_active.set(true);
    }

    /// Removes a refused usage; the caller keeps it until its last callback has returned.
    pub(crate) fn drop_usage(&mut self, id: u32) -> Option<impl Sized + use<>> {
        let position = self.usages.iter().position(|usage| usage.id == id)?;
        let usage = self.usages.swap_remove(position);
        // SAFETY: as in `select`.
        let view = unsafe { self.view.get() };
        if view.usage_active.get() == usage.view.as_ptr() {
            view.usage_active.set(ptr::null_mut());
        }
        Some(usage)
    }

    /// Usage, network and service of the session's active usage.
    pub(crate) fn active(&self) -> Option<(u32, u64, u64)> {
        // SAFETY: as in `select`.
        let active = unsafe { self.view.get() }.usage_active.get();
        let usage = self.usages.iter().find(|usage| usage.view.as_ptr() == active)?;
        // SAFETY: as in `select`.
        let is_active = unsafe { usage.view.get() }.is_active.get();
        is_active.then(|| (usage.id, usage.net_id, usage.service.uid()))
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net_srv_stream_session {
        self.view.as_ptr()
    }

    /// The usage with an id, for C.
    pub(crate) fn usage_at(&self, id: u32) -> Option<*mut dap_chain_net_srv_usage> {
        self.usages.iter().find(|usage| usage.id == id).map(|usage| {
            debug_assert!(!usage.remote.as_ptr().is_null());
            usage.view.as_ptr()
        })
    }
}

/// Non-zero, and unique in the process for 2^32 calls.
fn usage_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if id != 0 {
            return id;
        }
    }
}

fn seconds_now() -> c_long {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
