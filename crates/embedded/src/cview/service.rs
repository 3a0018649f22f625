//! Services, as C sees them, and the calls to their callbacks.

use super::owned::CShared;
use crate::ctypes::*;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A registered service.
pub(crate) struct Service(CShared<dap_chain_net_srv>);

impl Service {
    pub(crate) fn new(fields: dap_chain_net_srv) -> Self {
        Service(CShared::new(fields))
    }

    /// Changes whether the free order is served, and how long a client is served before its payment, in seconds: from
    /// the next request on.
    pub(crate) fn change(&self, allows_free: bool, grace_period: u32) {
        self.free_flag().store(allows_free, Ordering::Relaxed);
        self.grace_seconds().store(grace_period, Ordering::Relaxed);
    }

    fn free_flag(&self) -> &AtomicBool {
        // SAFETY: the field lives as long as this and is aligned; while the service is registered, Rust accesses it through
        // this function alone, and C reads it.
        unsafe { AtomicBool::from_ptr(self.fields().allow_free_srv.as_ptr()) }
    }

    fn grace_seconds(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.fields().grace_period.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_chain_net_srv {
        self.0.as_ptr()
    }

    fn fields(&self) -> &dap_chain_net_srv {
        // SAFETY: only fields that never change after construction are read through this, or cells.
        unsafe { self.0.get() }
    }

    pub(crate) fn uid(&self) -> u64 {
        self.fields().uid.uint64
    }

    pub(crate) fn allows_free(&self) -> bool {
        self.free_flag().load(Ordering::Relaxed)
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

    /// Calls `response_success` with a receipt or with nothing; `None` if the service has no such callback.
    pub(crate) fn receipt_success(&self, usage: &Handle, receipt: Option<&[u8]>) -> Option<i32> {
        self.call_if(self.fields().callbacks.response_success, usage, receipt)
    }

    /// Calls `receipt_next_success`; `None` if the service has no such callback.
    pub(crate) fn receipt_next_success(&self, usage: &Handle, receipt: &[u8]) -> Option<i32> {
        self.call_if(self.fields().callbacks.receipt_next_success, usage, Some(receipt))
    }

    /// Calls `get_remain_service`, and returns a copy of the result; `Err` if the service has no such callback.
    pub(crate) fn get_remain(
        &self,
        usage: &Handle,
    ) -> Result<Option<dap_stream_ch_chain_net_srv_remain_service_store>, NoCallback> {
        let callback = self.fields().callbacks.get_remain_service.ok_or(NoCallback)?;
        // SAFETY: as in `call_if`.
        let rest = unsafe { callback(self.0.as_ptr(), usage.id, usage.remote) };
        // SAFETY: NULL, or a record that C keeps at least until the next call.
        Ok(unsafe { rest.as_ref() }.copied())
    }

    /// Calls `save_remain_service`; `Err` if the service has no such callback.
    pub(crate) fn save_remain(&self, usage: &Handle) -> Result<(), NoCallback> {
        let callback = self.fields().callbacks.save_remain_service.ok_or(NoCallback)?;
        // SAFETY: as in `call_if`.
        unsafe { callback(self.0.as_ptr(), usage.id, usage.remote) };
        Ok(())
    }

    /// How long a client is served before its payment, in seconds.
    pub(crate) fn grace_period(&self) -> u32 {
        self.grace_seconds().load(Ordering::Relaxed)
    }

    pub(crate) fn response_error(&self, usage: &Handle, error: &[u8]) {
        self.call(self.fields().callbacks.response_error, usage, error);
    }

    fn call(&self, callback: dap_chain_net_srv_callback_data_t, usage: &Handle, data: &[u8]) -> i32 {
        self.call_if(callback, usage, Some(data)).unwrap_or(0)
    }

    fn call_if(&self, callback: dap_chain_net_srv_callback_data_t, usage: &Handle, data: Option<&[u8]>) -> Option<i32> {
        let (data, size) = data.map_or((ptr::null(), 0), |data| (data.as_ptr(), data.len()));
        // SAFETY: C gave the function for this service; the remote belongs to a usage that its session, or the caller,
        // keeps alive; this is the stream's worker.
        callback.map(|callback| unsafe { callback(self.0.as_ptr(), usage.id, usage.remote, data.cast(), size) })
    }
}

/// The service has not registered this callback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoCallback;

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
