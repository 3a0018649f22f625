//! Usages, as C sees them: one use of a service by one client.
//!
//! C holds a usage by its address. The table here tells what an address stands for, so that no stale one is followed.

use super::net::CNet;
use super::owned::CShared;
use super::service::{Handle, Service};
use super::strings::malloc_free;
use crate::ctypes::dap_chain_net_srv_usage_service_state as state;
use crate::ctypes::dap_chain_net_srv_usage_service_substate as substate;
use crate::ctypes::*;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::wire::Request;

/// Every usage that C may hold, by its address.
static USAGES: Mutex<BTreeMap<usize, Arc<Usage>>> = Mutex::new(BTreeMap::new());

/// The usage at an address, which is compared, never followed.
pub(crate) fn at(address: usize) -> Option<Arc<Usage>> {
    USAGES.lock().get(&address).cloned()
}

/// Removes a usage from the table.
pub(crate) fn forget(usage: &Usage) {
    // Dropped after the lock is released.
    let usage = USAGES.lock().remove(&usage.address());
    drop(usage);
}

/// One use of a service by one client. All methods but those about its identity are called on the stream's worker.
pub(crate) struct Usage {
    pub(crate) id: u32,
    pub(crate) net_id: u64,
    pub(crate) service: Arc<Service>,
    view: CShared<dap_chain_net_srv_usage>,
    remote: CShared<dap_chain_net_srv_client_remote>,
    _price: Option<CShared<dap_chain_net_srv_price>>,
    deleted: AtomicBool,
}

/// Where a usage's client is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) ch: *mut dap_stream_ch,
    pub(crate) stream_worker: *mut dap_stream_worker,
}

impl Usage {
    /// A usage in the table, which is not active yet.
    pub(crate) fn new(
        service: &Arc<Service>,
        net: &CNet,
        place: Place,
        request: &Request,
        price: Option<dap_chain_net_srv_price>,
        service_state: state,
    ) -> Arc<Usage> {
        let (id, now) = (usage_id(), seconds_now());
        let remote = CShared::new(dap_chain_net_srv_client_remote {
            ch: place.ch,
            ts_created: now,
            stream_worker: place.stream_worker,
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
        });
        let price = price.map(CShared::new);
        let view = CShared::new(dap_chain_net_srv_usage {
            id,
            ts_created: now,
            net: net.as_ptr(),
            service: service.as_ptr(),
            receipt: Cell::new(ptr::null_mut()),
            receipt_next: Cell::new(ptr::null_mut()),
            price: price.as_ref().map_or(ptr::null_mut(), CShared::as_ptr),
            client: remote.as_ptr(),
            tx_cond_hash: Cell::new(dap_hash_fast { raw: request.tx_cond }),
            client_pkey_hash: dap_hash_fast { raw: request.client_pkey_hash },
            static_order_hash: dap_hash_fast { raw: request.order_hash },
            receipts_timeout_timer: Cell::new(ptr::null_mut()),
            receipt_sign_req_cnt: Cell::new(0),
            is_active: Cell::new(false),
            is_limits_changed: Cell::new(false),
            service_state: Cell::new(service_state),
            service_substate: Cell::new(substate::DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_IDLE),
            last_err_code: Cell::new(0),
        });
        let (service, deleted) = (Arc::clone(service), AtomicBool::new(false));
        let usage = Arc::new(Usage { id, net_id: net.id(), service, view, remote, _price: price, deleted });
        USAGES.lock().insert(usage.address(), Arc::clone(&usage));
        usage
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net_srv_usage {
        self.view.as_ptr()
    }

    pub(crate) fn address(&self) -> usize {
        self.view.addr()
    }

    /// The arguments of a callback about this usage.
    pub(crate) fn handle(&self) -> Handle {
        Handle::new(self.id, self.remote.as_ptr())
    }

    /// The fields that C sees.
    pub(crate) fn fields(&self) -> &dap_chain_net_srv_usage {
        // SAFETY: called on the stream's worker, which owns the struct.
        unsafe { self.view.get() }
    }

    /// Does what C calls freeing: the receipts are freed, and C must not use the usage any more. False if it was
    /// deleted before.
    pub(crate) fn delete(&self) -> bool {
        let first = !self.deleted.swap(true, Ordering::Relaxed);
        if first {
            free_receipt(&self.fields().receipt);
            free_receipt(&self.fields().receipt_next);
        }
        first
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.delete();
    }
}

/// Frees the receipt in a field of a usage.
fn free_receipt(field: &Cell<*mut dap_chain_datum_tx_receipt>) {
    // SAFETY: NULL or from malloc, as the field's comment demands of C too; the field forgets it.
    unsafe { malloc_free(field.replace(ptr::null_mut()).cast()) };
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

/// Seconds since 1970.
pub(super) fn seconds_now() -> std::ffi::c_long {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
