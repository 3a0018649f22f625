//! Usages, as C sees them: one use of a service by one client.
//!
//! C holds a usage by its address. The table here tells what an address stands for, so that no stale one is followed.

use super::net::CNet;
use super::owned::CShared;
use super::service::{Handle, Service};
use super::strings::{malloc_copy, malloc_free};
use crate::ctypes::*;
use crate::panics::guard;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::wire::Request;

pub(crate) use crate::ctypes::dap_chain_net_srv_usage_service_state as State;
pub(crate) use crate::ctypes::dap_chain_net_srv_usage_service_substate as Step;

/// The states of a usage, under short names.
pub(crate) mod state {
    use super::State::{self, *};
    pub(crate) const IDLE: State = DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_IDLE;
    pub(crate) const GRACE: State = DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_GRACE;
    pub(crate) const NORMAL: State = DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_NORMAL;
    pub(crate) const FREE: State = DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE;
}

/// What the payment of a usage waits for, under short names.
pub(crate) mod step {
    use super::Step::{self, *};
    pub(crate) const IDLE: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_IDLE;
    pub(crate) const FIRST_SIGN: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_FIRST_RECEIPT_SIGN;
    pub(crate) const NEXT_SIGN: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEXT_RECEIPT_SIGN;
    pub(crate) const TX: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_TX_FOR_PAYING;
    pub(crate) const NEW_TX: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_FROM_CLIENT;
    pub(crate) const NEW_TX_SIGN: Step =
        DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_RECEIPT_FOR_NEW_TX_FROM_CLIENT;
    pub(crate) const NEW_TX_IN_LEDGER: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_WAITING_NEW_TX_IN_LEDGER;
    pub(crate) const NORMAL: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_NORMAL;
    pub(crate) const ERROR: Step = DAP_CHAIN_NET_SRV_USAGE_SERVICE_SUBSTATE_ERROR;
}

/// Every usage that C may hold, by its address.
static USAGES: Mutex<BTreeMap<usize, Arc<Usage>>> = Mutex::new(BTreeMap::new());

/// The usage at an address, which is compared, never followed.
pub(crate) fn at(address: usize) -> Option<Arc<Usage>> {
    USAGES.lock().get(&address).cloned()
}

/// The usages in the table that are not deleted.
pub(crate) fn alive() -> usize {
    USAGES.lock().values().filter(|usage| !usage.is_deleted()).count()
}

/// Removes all usages from the table.
pub(crate) fn forget_all() {
    // Dropped after the lock is released.
    let usages = std::mem::take(&mut *USAGES.lock());
    drop(usages);
}

/// Removes a usage from the table.
pub(crate) fn forget(usage: &Usage) {
    // Dropped after the lock is released.
    let usage = USAGES.lock().remove(&usage.address());
    drop(usage);
}

/// Starts the timer that waits for a signature.
type ReceiptTimer = fn(&Arc<Usage>);

/// `None` while nobody bills.
static RECEIPT_TIMER: Mutex<Option<ReceiptTimer>> = Mutex::new(None);

/// Sets the function that starts the timer which waits for a signature.
pub(crate) fn set_receipt_timer(start: Option<ReceiptTimer>) {
    *RECEIPT_TIMER.lock() = start;
}

/// # Safety
/// Called on the worker of the usage's stream; the address is compared, not followed.
unsafe extern "C" fn start_receipt_timer(usage: *mut dap_chain_net_srv_usage) {
    guard("receipt_timeout_timer_start_callback", (), || {
        let start = *RECEIPT_TIMER.lock();
        match (at(usage.addr()), start) {
            (Some(usage), Some(start)) => start(&usage),
            _ => log::error!("receipt_timeout_timer_start_callback: expected a usage that is paid"),
        }
    });
}

/// One use of a service by one client. All methods but those about its identity are called on the stream's worker.
pub(crate) struct Usage {
    pub(crate) id: u32,
    pub(crate) net_id: u64,
    pub(crate) service: Arc<Service>,
    view: CShared<dap_chain_net_srv_usage>,
    remote: CShared<dap_chain_net_srv_client_remote>,
    price: Option<CShared<dap_chain_net_srv_price>>,
    deleted: AtomicBool,
    /// The transaction that the billing found in the ledger to pay from.
    paying: Mutex<Option<[u8; 32]>>,
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
        service_state: State,
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
            receipt_timeout_timer_start_callback: Some(start_receipt_timer),
            receipt_sign_req_cnt: Cell::new(0),
            is_active: Cell::new(false),
            is_limits_changed: Cell::new(false),
            service_state: Cell::new(service_state),
            service_substate: Cell::new(step::IDLE),
            last_err_code: Cell::new(0),
        });
        let (service, deleted, paying) = (Arc::clone(service), AtomicBool::new(false), Mutex::new(None));
        let usage = Arc::new(Usage { id, net_id: net.id(), service, view, remote, price, deleted, paying });
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

    /// The client's channel, which may be gone.
    pub(crate) fn channel(&self) -> *mut dap_stream_ch {
        // SAFETY: `ch` never changes.
        unsafe { self.remote.get() }.ch
    }

    /// The fields that C sees.
    pub(crate) fn fields(&self) -> &dap_chain_net_srv_usage {
        // SAFETY: called on the stream's worker, which owns the struct.
        unsafe { self.view.get() }
    }

    /// The bytes that the client has received and sent, as C has counted them.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        // SAFETY: called on the stream's worker, which owns the struct.
        let remote = unsafe { self.remote.get() };
        (remote.bytes_received.get(), remote.bytes_sent.get())
    }

    /// Whether C must not use the usage any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// The transaction to pay from, as the ledger had it.
    pub(crate) fn paying(&self) -> Option<[u8; 32]> {
        *self.paying.lock()
    }

    pub(crate) fn set_paying(&self, hash: Option<[u8; 32]>) {
        *self.paying.lock() = hash;
    }

    /// The price of one receipt; `None` if the order is free.
    pub(crate) fn price(&self) -> Option<&dap_chain_net_srv_price> {
        // SAFETY: never written after construction.
        self.price.as_ref().map(|price| unsafe { price.get() })
    }

    pub(crate) fn state(&self) -> State {
        self.fields().service_state.get()
    }

    pub(crate) fn step(&self) -> Step {
        self.fields().service_substate.get()
    }

    pub(crate) fn set_step(&self, step: Step) {
        self.fields().service_substate.set(step);
    }

    /// The bytes of the current or of the next receipt, as its size tells.
    pub(crate) fn receipt(&self, which: Which) -> Option<Vec<u8>> {
        let receipt = self.field(which).get();
        // SAFETY: NULL or a receipt, as the field's comment demands of C too.
        let size = unsafe { receipt.as_ref() }?.size;
        // SAFETY: not NULL, and as long as its size tells.
        Some(unsafe { std::slice::from_raw_parts(receipt.cast::<u8>(), usize::try_from(size).ok()?) }.to_vec())
    }

    /// Replaces a receipt by a copy of one whose size field is right.
    pub(crate) fn set_receipt(&self, which: Which, receipt: Option<&[u8]>) {
        free_receipt(self.field(which));
        self.field(which).set(receipt.map_or(ptr::null_mut(), |receipt| malloc_copy(receipt).cast()));
    }

    fn field(&self, which: Which) -> &Cell<*mut dap_chain_datum_tx_receipt> {
        match which {
            Which::Current => &self.fields().receipt,
            Which::Next => &self.fields().receipt_next,
        }
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

/// One of a usage's receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Current,
    Next,
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
