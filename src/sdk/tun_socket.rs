//! A TUN queue in a worker's event loop.

use std::cell::UnsafeCell;
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
}

/// The target of the event socket's `_inheritor`: first the struct that C may read, then Rust's part. The event socket
/// has one reference, and each [`TunSocket`].
#[repr(C)]
struct Shared {
    visible: UnsafeCell<dap_chain_net_srv_vpn_tun_socket>,
    handler: Arc<dyn TunHandler>,
    worker: u32,
    es: AtomicPtr<dap_events_socket_t>,
    uuid: AtomicU64,
    gone: Mutex<bool>,
    changed: Condvar,
}

// SAFETY: the pointers in `visible` are the SDK's, and never followed here. Its one change, of `es`, is made on the
// owning worker before that worker can run C code that reads it; other threads read the other fields alone.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl TunSocket {
    /// Adds a queue's descriptor to a worker's loop. `None` if the worker does not exist.
    pub fn add(queue: BorrowedFd<'_>, worker: u32, handler: Arc<dyn TunHandler>) -> Option<TunSocket> {
        let visible = dap_chain_net_srv_vpn_tun_socket {
            worker_id: u8::try_from(worker).unwrap_or(u8::MAX),
            // SAFETY: a number; NULL if the worker does not exist.
            worker: unsafe { raw::vpn_glue_worker_pointer(worker) }.cast(),
            es: ptr::null_mut(),
            clients: ptr::null_mut(),
            queue_tun_msg_input: ptr::null_mut(),
            buf_size_aux: 0,
        };
        let shared = Arc::new(Shared {
            visible: UnsafeCell::new(visible),
            handler,
            worker,
            es: AtomicPtr::default(),
            uuid: AtomicU64::new(0),
            gone: Mutex::new(false),
            changed: Condvar::new(),
        });
        let inheritor = Arc::into_raw(Arc::clone(&shared)).cast_mut();
        let mut uuid = 0;
        // SAFETY: the inheritor lives until tun_deleted takes its reference back; uuid is writable.
        let es = unsafe { raw::vpn_glue_tun_add(queue.as_raw_fd(), worker, inheritor.cast::<c_void>(), &mut uuid) };
        if es.is_null() {
            // SAFETY: from Arc::into_raw above; the SDK refused it.
            drop(unsafe { Arc::from_raw(inheritor) });
            return None;
        }
        shared.es.store(es, Ordering::Release);
        shared.uuid.store(uuid, Ordering::Release);
        // C on the worker may read `es` from its first event on; it is the only field that was unknown until now.
        let complete = Arc::clone(&shared);
        worker::exec(worker, move || {
            // SAFETY: on the owning worker, which alone writes the struct and reads this field.
            unsafe { (*complete.visible.get()).es = complete.es.load(Ordering::Acquire) };
        });
        Some(TunSocket { shared })
    }

    /// Returns the SDK's event socket; NULL after its end. Other threads must not follow it.
    pub fn event_socket(&self) -> *mut dap_events_socket_t {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.es.load(Ordering::Acquire) }
    }

    /// Returns the C-visible struct; NULL after the event socket's end. It lives as long as a `TunSocket`; only the
    /// owning worker may read its `es`.
    pub fn visible(&self) -> *mut dap_chain_net_srv_vpn_tun_socket {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.visible.get() }
    }

    /// Returns the worker whose loop has the queue.
    pub fn worker(&self) -> u32 {
        self.shared.worker
    }

    /// Removes the queue from its loop. If it returns true, the SDK no longer uses the descriptor. On the owning worker
    /// it cannot wait and returns false; [`TunSocket::is_gone`] becomes true later.
    pub fn remove(&self, wait: Duration) -> bool {
        if self.is_gone() {
            return true;
        }
        // SAFETY: numbers only.
        unsafe { raw::vpn_glue_tun_remove(self.shared.worker, self.shared.uuid.load(Ordering::Acquire)) };
        if worker::current() == Some(self.shared.worker) {
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
            unsafe { raw::vpn_glue_tun_remove(self.shared.worker, self.shared.uuid.load(Ordering::Acquire)) };
        }
    }
}

/// # Safety
/// `inheritor` is NULL or was given to the SDK by `TunSocket::add`, and `deleted` has not been called with it.
pub(super) unsafe fn handler(inheritor: *mut c_void) -> Option<Arc<dyn TunHandler>> {
    // SAFETY: the caller's promise.
    let shared = unsafe { inheritor.cast::<Shared>().as_ref() }?;
    Some(Arc::clone(&shared.handler))
}

/// # Safety
/// Like `handler`; takes the reference of `inheritor` back.
pub(super) unsafe fn deleted(inheritor: *mut c_void) {
    if inheritor.is_null() {
        return;
    }
    // SAFETY: the caller's promise: made by Arc::into_raw in TunSocket::add, and this is the only call.
    let shared = unsafe { Arc::from_raw(inheritor.cast::<Shared>()) };
    *shared.gone.lock() = true;
    shared.changed.notify_all();
}
