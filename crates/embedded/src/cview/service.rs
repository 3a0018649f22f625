//! Services, as C sees them, and the calls to their callbacks.

use super::owned::CShared;
use crate::ctypes::*;
use std::ptr;

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
    pub(super) fn new(id: u32, remote: *mut dap_chain_net_srv_client_remote) -> Self {
        Handle { id, remote }
    }

    /// For a request that was refused before it had a usage: id 0, remote NULL.
    pub(crate) const NONE: Handle = Handle { id: 0, remote: ptr::null_mut() };
}
