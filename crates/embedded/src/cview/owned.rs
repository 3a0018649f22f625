//! Owners of the structs that C sees: each has a stable address and one owner, which frees it once.

use crate::ctypes;
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::NonNull;

/// A C-visible struct that may move between threads.
///
/// # Safety
/// Every field that C or another thread may change is a `Cell`, the rest is never written after construction, and the
/// Rust object that owns the struct keeps the targets of its pointers alive.
pub(crate) unsafe trait CView {}

// SAFETY: changeable fields are Cells; the pointers point to workers (alive while retained) and to C's own data.
unsafe impl CView for ctypes::dap_events_socket {}
// SAFETY: as above; `id` never changes.
unsafe impl CView for ctypes::dap_worker {}
// SAFETY: points to a worker of the same reactor, which lives as long.
unsafe impl CView for ctypes::dap_stream_worker {}
// SAFETY: never written after construction.
unsafe impl CView for ctypes::dap_timerfd {}
// SAFETY: points to the event socket and session that the same connection owns.
unsafe impl CView for ctypes::dap_stream {}
// SAFETY: changeable fields are Cells; `proc` is kept by the channel's owner.
unsafe impl CView for ctypes::dap_stream_ch {}
// SAFETY: never written after construction.
unsafe impl CView for ctypes::dap_stream_ch_proc {}
// SAFETY: changeable fields are Cells.
unsafe impl CView for ctypes::dap_stream_session {}
// SAFETY: changeable fields are Cells; `parent` is the session that owns it.
unsafe impl CView for ctypes::dap_chain_net_srv_stream_session {}
// SAFETY: changeable fields are Cells; network and service outlive it, its price and remote have the same owner.
unsafe impl CView for ctypes::dap_chain_net_srv_usage {}
// SAFETY: changeable fields are Cells.
unsafe impl CView for ctypes::dap_chain_net_srv_client_remote {}
// SAFETY: never written after construction.
unsafe impl CView for ctypes::dap_chain_net_srv_price {}
// SAFETY: changeable fields are Cells; the rest is never written after construction.
unsafe impl CView for ctypes::dap_chain_net_srv {}
// SAFETY: changeable fields are Cells; the rest is never written after construction.
unsafe impl CView for ctypes::dap_chain_node_client {}

/// Owns a C-visible struct; moves between threads with its owner.
pub(crate) struct CBox<T>(NonNull<T>);

impl<T> CBox<T> {
    pub(crate) fn new(value: T) -> Self {
        CBox(NonNull::from(Box::leak(Box::new(value))))
    }

    /// The address that C holds.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// The address as a number, which look-ups compare, so that a stale pointer from C is never followed.
    pub(crate) fn addr(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl<T> Deref for CBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: allocated in `new`, freed in `drop` only; C's writes go to Cells (see CView).
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for CBox<T> {
    fn drop(&mut self) {
        // SAFETY: `new` leaked this very Box, and nothing else frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: the trait CView promises that the struct may move with its owner.
unsafe impl<T: CView> Send for CBox<T> {}

/// Like [`CBox`], but many threads may hold it: they can use only the address. The contents belong to one worker's
/// thread, which reaches them through [`CShared::get`].
pub(crate) struct CShared<T>(CBox<T>);

impl<T> CShared<T> {
    pub(crate) fn new(value: T) -> Self {
        CShared(CBox::new(value))
    }

    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// The struct itself.
    ///
    /// # Safety
    /// The caller reads only fields that never change, or the calling thread is the worker that owns the struct.
    pub(crate) unsafe fn get(&self) -> &T {
        &self.0
    }
}

// SAFETY: as for CBox.
unsafe impl<T: CView> Send for CShared<T> {}
// SAFETY: a shared reference gives access to the address alone; all else needs the promise of `get`.
unsafe impl<T: CView> Sync for CShared<T> {}

/// A C pointer that is passed on, compared and returned, never followed here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opaque(pub(crate) *mut c_void);

// SAFETY: Rust treats it as a number; the function that C passed it to documents where it may be used.
unsafe impl Send for Opaque {}
// SAFETY: as above.
unsafe impl Sync for Opaque {}

/// A C function with its argument, for another thread.
#[derive(Clone, Copy)]
pub(crate) struct Callback<F: Copy> {
    pub(crate) function: F,
    pub(crate) argument: Opaque,
}

impl<F: Copy> Callback<F> {
    /// Returns both parts. A closure that names the parts one by one would capture the bare pointer, which is not Send.
    pub(crate) fn whole(self) -> Self {
        self
    }
}
