//! A TUN queue in a worker's event loop.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::types::dap_events_socket_t;
use super::visible::dap_chain_net_srv_vpn_tun_socket;
use super::{raw, worker};

/// The events of a queue. All are called on the queue's worker.
pub trait TunHandler: Send + Sync {
    /// The queue is readable. `first` is a packet that the SDK's loop may already have read, with
    /// [`BUNDLE_HEADROOM`](vpn_core::wire::BUNDLE_HEADROOM) bytes of headroom in front; the handler may overwrite all
    /// of it.
    fn readable(&self, first: Option<&mut [u8]>);
    /// The descriptor failed with this errno; the queue is unusable.
    fn failed(&self, errno: c_int);
}

/// The registration of a queue with a worker. [`TunSocket::remove`] or dropping it ends the registration; the
/// descriptor must stay open until then.
pub struct TunSocket {
    shared: Arc<Shared>,
    worker: u32,
}

struct Shared {
    handler: Arc<dyn TunHandler>,
    es: AtomicPtr<dap_events_socket_t>,
    visible: AtomicPtr<dap_chain_net_srv_vpn_tun_socket>,
    uuid: AtomicU64,
    gone: Mutex<bool>,
    changed: Condvar,
}

/// The target of the event socket's `_inheritor`: first the struct that C may read, then Rust's part.
#[repr(C)]
pub(super) struct Inheritor {
    visible: dap_chain_net_srv_vpn_tun_socket,
    shared: Arc<Shared>,
}

impl TunSocket {
    /// Adds a queue's descriptor to a worker's loop. `None` if the worker does not exist.
    pub fn add(queue: BorrowedFd<'_>, worker: u32, handler: Arc<dyn TunHandler>) -> Option<TunSocket> {
        let shared = Arc::new(Shared {
            handler,
            es: AtomicPtr::default(),
            visible: AtomicPtr::default(),
            uuid: AtomicU64::new(0),
            gone: Mutex::new(false),
            changed: Condvar::new(),
        });
        let inheritor = Box::into_raw(Box::new(Inheritor {
            visible: dap_chain_net_srv_vpn_tun_socket {
                worker_id: u8::try_from(worker).unwrap_or(u8::MAX),
                // SAFETY: a number; NULL if the worker does not exist.
                worker: unsafe { raw::vpn_glue_worker_pointer(worker) }.cast(),
                es: ptr::null_mut(),
                clients: ptr::null_mut(),
                queue_tun_msg_input: ptr::null_mut(),
                buf_size_aux: 0,
            },
            shared: Arc::clone(&shared),
        }));
        let mut uuid = 0;
        // SAFETY: the inheritor lives until tun_deleted takes it back; uuid is writable.
        let es = unsafe { raw::vpn_glue_tun_add(queue.as_raw_fd(), worker, inheritor.cast::<c_void>(), &mut uuid) };
        if es.is_null() {
            // SAFETY: the SDK refused the inheritor, so this is its only owner.
            drop(unsafe { Box::from_raw(inheritor) });
            return None;
        }
        shared.es.store(es, Ordering::Release);
        shared.uuid.store(uuid, Ordering::Release);
        shared.visible.store(inheritor.cast(), Ordering::Release);
        // C on the worker may read `es` from its first event on; it is the only field that was unknown until now.
        let complete = Arc::clone(&shared);
        worker::exec(worker, move || {
            let visible = complete.visible.load(Ordering::Acquire);
            if !visible.is_null() && !*complete.gone.lock() {
                // SAFETY: on the owning worker, which alone runs tun_deleted; it has not freed the struct yet.
                unsafe { (*visible).es = complete.es.load(Ordering::Acquire) };
            }
        });
        Some(TunSocket { shared, worker })
    }

    /// Returns the SDK's event socket; NULL after its end. Other threads must not follow it.
    pub fn event_socket(&self) -> *mut dap_events_socket_t {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.es.load(Ordering::Acquire) }
    }

    /// Returns the C-visible struct; NULL after its end. Only the owning worker may follow it.
    pub fn visible(&self) -> *mut dap_chain_net_srv_vpn_tun_socket {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.visible.load(Ordering::Acquire) }
    }

    /// Returns the worker whose loop has the queue.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// Enables or disables `readable` calls. Works only on the owning worker; elsewhere it does nothing.
    pub fn set_readable(&self, readable: bool) {
        if worker::current() != Some(self.worker) || *self.shared.gone.lock() {
            return;
        }
        // SAFETY: on the owning worker, and tun_deleted has not run, so the event socket lives.
        unsafe { raw::vpn_glue_tun_set_readable(self.shared.es.load(Ordering::Acquire), readable) };
    }

    /// Removes the queue from its loop. If it returns true, the SDK no longer uses the descriptor. On the owning worker
    /// it cannot wait and returns false; [`TunSocket::is_gone`] becomes true later.
    pub fn remove(&self, wait: Duration) -> bool {
        if self.is_gone() {
            return true;
        }
        // SAFETY: numbers only.
        unsafe { raw::vpn_glue_tun_remove(self.worker, self.shared.uuid.load(Ordering::Acquire)) };
        if worker::current() == Some(self.worker) {
            return self.is_gone();
        }
        let mut gone = self.shared.gone.lock();
        self.shared.changed.wait_while_for(&mut gone, |gone| !*gone, wait);
        *gone
    }

    /// Whether the event socket has been deleted.
    pub fn is_gone(&self) -> bool {
        *self.shared.gone.lock()
    }
}

impl Drop for TunSocket {
    fn drop(&mut self) {
        if !self.is_gone() {
            // SAFETY: numbers only.
            unsafe { raw::vpn_glue_tun_remove(self.worker, self.shared.uuid.load(Ordering::Acquire)) };
        }
    }
}

/// # Safety
/// `inheritor` is NULL or was given to the SDK by `TunSocket::add`, and `deleted` has not been called with it.
pub(super) unsafe fn handler(inheritor: *mut c_void) -> Option<Arc<dyn TunHandler>> {
    // SAFETY: the caller's promise.
    let inheritor = unsafe { inheritor.cast::<Inheritor>().as_ref() }?;
    Some(Arc::clone(&inheritor.shared.handler))
}

/// # Safety
/// Like `handler`; frees `inheritor`.
pub(super) unsafe fn deleted(inheritor: *mut c_void) {
    if inheritor.is_null() {
        return;
    }
    // SAFETY: the caller's promise: made by Box::into_raw in TunSocket::add, and this is the only call.
    let inheritor = unsafe { Box::from_raw(inheritor.cast::<Inheritor>()) };
    *inheritor.shared.gone.lock() = true;
    inheritor.shared.changed.notify_all();
}
