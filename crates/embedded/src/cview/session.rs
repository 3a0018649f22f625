//! A stream's session, as C sees it.

use super::owned::CShared;
use super::service_session::ServiceSession;
use super::strings::fill_c_array;
use crate::ctypes::*;
use parking_lot::Mutex;
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A stream's session: alive while the stream is alive or the session list is locked.
pub(crate) struct Session {
    view: CShared<dap_stream_session>,
    id: u32,
    /// Channel 'R''s part of the session.
    pub(crate) service: Mutex<Option<ServiceSession>>,
}

impl Session {
    pub(super) fn new(letters: &[u8]) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut active_channels = [0; DAP_STREAM_CHANNELS_MAX + 1];
        fill_c_array(&mut active_channels, letters);
        let view = CShared::new(dap_stream_session {
            id,
            time_created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            active_channels,
            tun_client_addr: Cell::new(libc::in_addr { s_addr: 0 }),
            _inheritor: Cell::new(ptr::null_mut()),
        });
        Arc::new(Session { view, id, service: Mutex::new(None) })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_stream_session {
        self.view.as_ptr()
    }

    /// Makes the session's service part if it has none, and links it for C from the stream's session. Called on the
    /// stream's worker.
    pub(crate) fn ensure_service(&self) -> *mut dap_chain_net_srv_stream_session {
        let mut service = self.service.lock();
        let service = service.get_or_insert_with(|| {
            let made = ServiceSession::new(self.as_ptr());
            // SAFETY: the view lives as long as `self`, and only the worker of the session's stream calls this.
            let view = unsafe { self.view.get() };
            // SAFETY: the field lives as long as `view`; it is written here alone, and other threads read it atomically.
            let field = unsafe { AtomicPtr::from_ptr(view._inheritor.as_ptr()) };
            field.store(made.as_ptr().cast(), Ordering::Release);
            made
        });
        service.as_ptr()
    }
}
