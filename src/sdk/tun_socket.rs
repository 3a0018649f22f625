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

/// What a room does with a queue. Called on the queue's worker.
pub trait TunHandler: Send + Sync {
    /// There is something to read. `first` is a packet that the SDK's loop has read by itself, if it did, with
    /// [`BUNDLE_HEADROOM`](vpn_core::wire::BUNDLE_HEADROOM) bytes of room in front; all of it may be written to.
    fn readable(&self, first: Option<&mut [u8]>);
    /// The descriptor failed (`errno`); the queue is dead.
    fn failed(&self, errno: c_int);
}

/// The registration of a queue. It ends with [`TunSocket::remove`] or when dropped; the descriptor must stay open until
/// then.
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

/// What the event socket's `_inheritor` points to: first what C may look at, then what Rust needs.
#[repr(C)]
pub(super) struct Inheritor {
    visible: dap_chain_net_srv_vpn_tun_socket,
    shared: Arc<Shared>,
}

impl TunSocket {
    /// Puts a queue's descriptor into a worker's loop. None when there is no such worker.
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
                // SAFETY: a number; NULL when there is no such worker.
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
            // SAFETY: the SDK did not take it.
            drop(unsafe { Box::from_raw(inheritor) });
            return None;
        }
        shared.es.store(es, Ordering::Release);
        shared.uuid.store(uuid, Ordering::Release);
        shared.visible.store(inheritor.cast(), Ordering::Release);
        // The worker may look at `es` from its first event on; it is the one field that was not known before.
        let complete = Arc::clone(&shared);
        worker::exec(worker, move || {
            let visible = complete.visible.load(Ordering::Acquire);
            if !visible.is_null() && !*complete.gone.lock() {
                // SAFETY: on the owning worker, where alone tun_deleted frees it, and it has not run.
                unsafe { (*visible).es = complete.es.load(Ordering::Acquire) };
            }
        });
        Some(TunSocket { shared, worker })
    }

    /// The SDK's event socket, NULL when it is gone. Another thread must not follow it.
    pub fn event_socket(&self) -> *mut dap_events_socket_t {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.es.load(Ordering::Acquire) }
    }

    /// The C-visible struct, NULL when it is gone. Only the owning worker may follow it.
    pub fn visible(&self) -> *mut dap_chain_net_srv_vpn_tun_socket {
        if *self.shared.gone.lock() { ptr::null_mut() } else { self.shared.visible.load(Ordering::Acquire) }
    }

    /// The worker whose loop the queue is in.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// Stops or resumes the `readable` calls. Only on the owning worker; elsewhere nothing happens.
    pub fn set_readable(&self, readable: bool) {
        if worker::current() != Some(self.worker) || *self.shared.gone.lock() {
            return;
        }
        // SAFETY: on the owning worker, and tun_deleted has not run, so the event socket lives.
        unsafe { raw::vpn_glue_tun_set_readable(self.shared.es.load(Ordering::Acquire), readable) };
    }

    /// Takes the queue out of its loop. When this returns true the SDK does not use the descriptor any more. On the
    /// owning worker it cannot wait and returns false: [`TunSocket::is_gone`] tells later.
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

    /// The event socket has been deleted.
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
/// `inheritor` is NULL or what `TunSocket::add` gave to the SDK, and `deleted` has not been called with it.
pub(super) unsafe fn handler(inheritor: *mut c_void) -> Option<Arc<dyn TunHandler>> {
    // SAFETY: the caller's promise.
    let inheritor = unsafe { inheritor.cast::<Inheritor>().as_ref() }?;
    Some(Arc::clone(&inheritor.shared.handler))
}

/// # Safety
/// As `handler`; `inheritor` is freed.
pub(super) unsafe fn deleted(inheritor: *mut c_void) {
    if inheritor.is_null() {
        return;
    }
    // SAFETY: the caller's promise: made by Box::into_raw in TunSocket::add, and this is the only call.
    let inheritor = unsafe { Box::from_raw(inheritor.cast::<Inheritor>()) };
    *inheritor.shared.gone.lock() = true;
    inheritor.shared.changed.notify_all();
}
