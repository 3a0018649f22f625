//! The VPN as a service of the node: REQUESTs on channel 'R', which the SDK bills.

use std::cell::Cell;
use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::RwLock;

use super::channel::Channel;
use super::types::dap_chain_net_srv_t;
use super::usage::Rest;
use super::visible::dap_chain_net_srv_vpn_tun_socket;
use super::{raw, worker};

/// The decisions of the service. All are called on the session's worker.
pub trait ServiceHandler: Send + Sync {
    /// A client requests the service. 0 accepts; any other value refuses with that code.
    fn requested(&self, usage_id: u32) -> i32;
    /// The SDK accepted the request, or the first receipt. `channel` is the session's channel 'S', if it opened one.
    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32;
    /// The SDK accepted and paid a next receipt. 0 keeps it; any other value refuses.
    fn next_accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32;
    /// The SDK refused the request, or a payment of a running service failed, with this code. `channel` is `None`
    /// before there is a usage.
    fn refused(&self, channel: Option<&Arc<Channel>>, usage_id: u32, code: u32);
    /// Returns what the client has left of earlier payments, which it uses before it pays again.
    fn rest(&self, channel: &Arc<Channel>, usage_id: u32) -> Option<Rest>;
    /// The session's usage is about to end.
    fn ending(&self, channel: &Arc<Channel>, usage_id: u32);
}

static HANDLER: RwLock<Option<Arc<dyn ServiceHandler>>> = RwLock::new(None);

/// The registered service. Dropping it unregisters it.
#[derive(Debug)]
pub struct Service {
    sdk: AtomicPtr<dap_chain_net_srv_t>,
}

/// The SDK refused the service: its number is taken, or its section names an unknown network.
#[derive(Debug, thiserror::Error)]
#[error(
    "the SDK refused the service: its number 0x1 is already registered, [srv_vpn] net is not a network of this node, or the \
     log tells another reason"
)]
pub struct Taken;

/// A session with a lease, as an entry of the service's list for C.
#[derive(Clone, Debug)]
pub struct ListedSession {
    /// The number of the usage that REQUEST opened.
    pub usage_id: u32,
    /// The leased inner address.
    pub address: Ipv4Addr,
    /// Whether the SDK's billing allows the session to use the service.
    pub is_allowed: bool,
    /// The TUN queue of the session's worker.
    pub tun_socket: *mut dap_chain_net_srv_vpn_tun_socket,
}

impl Service {
    /// Registers the service with the configuration section of its prices and its grace period.
    pub fn register(handler: Arc<dyn ServiceHandler>) -> Result<Service, Taken> {
        *HANDLER.write() = Some(handler);
        // SAFETY: the section is NUL-terminated.
        let sdk = unsafe { raw::vpn_glue_service_add(c"srv_vpn".as_ptr()) };
        if sdk.is_null() {
            *HANDLER.write() = None;
            return Err(Taken);
        }
        Ok(Service { sdk: AtomicPtr::new(sdk) })
    }

    /// Returns the SDK's service.
    pub fn raw(&self) -> *mut dap_chain_net_srv_t {
        self.sdk.load(Ordering::Relaxed)
    }

    /// Replaces C's snapshot of the sessions with a lease, and of the released addresses in the order of their next
    /// lease. Works only on worker 0, the only one on which C may read the snapshot; elsewhere it does nothing.
    pub fn publish_snapshot(&self, sessions: &[ListedSession], released: impl Iterator<Item = Ipv4Addr>) {
        if worker::current() != Some(0) {
            return;
        }
        let network_order = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        let sessions: Vec<_> = sessions
            .iter()
            .map(|session| raw::ListedSession {
                usage_id: session.usage_id,
                address: network_order(session.address),
                is_allowed: session.is_allowed,
                tun_socket: session.tun_socket,
            })
            .collect();
        let released: Vec<_> = released.map(network_order).collect();
        // SAFETY: the service lives until drop; both lists are read during the call; on worker 0, as raw.rs asks.
        unsafe {
            raw::vpn_glue_service_publish(
                self.raw(),
                sessions.as_ptr(),
                sessions.len(),
                released.as_ptr(),
                released.len(),
            );
        };
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        *HANDLER.write() = None;
        // SAFETY: register got this pointer, and this is the only call.
        unsafe { raw::vpn_glue_service_remove(self.raw()) };
    }
}

pub(super) fn requested(usage_id: u32) -> c_int {
    let handler = HANDLER.read().clone();
    handler.map_or(-1, |handler| handler.requested(usage_id))
}

pub(super) fn accepted(channel: Option<&Arc<Channel>>, usage_id: u32) -> c_int {
    let handler = HANDLER.read().clone();
    handler.map_or(-1, |handler| handler.accepted(channel, usage_id))
}

pub(super) fn next_accepted(channel: Option<&Arc<Channel>>, usage_id: u32) -> c_int {
    let handler = HANDLER.read().clone();
    handler.map_or(-1, |handler| handler.next_accepted(channel, usage_id))
}

thread_local! {
    /// The last refusal of a REQUEST that had no usage, or whose usage is gone.
    static REFUSAL: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Forgets a refusal from before a REQUEST.
pub fn forget_refusal() {
    REFUSAL.set(None);
}

/// Returns the code with which the SDK refused a REQUEST on this thread, before it served the client, and forgets it.
pub fn take_refusal() -> Option<u32> {
    REFUSAL.take()
}

pub(super) fn refused(channel: Option<&Arc<Channel>>, usage_id: u32, code: u32) {
    if channel.is_none() {
        REFUSAL.set(Some(code));
    }
    let handler = HANDLER.read().clone();
    if let Some(handler) = handler {
        handler.refused(channel, usage_id, code);
    }
}

pub(super) fn rest(channel: &Arc<Channel>, usage_id: u32) -> Option<Rest> {
    let handler = HANDLER.read().clone();
    handler.and_then(|handler| handler.rest(channel, usage_id))
}

pub(super) fn ending(channel: &Arc<Channel>, usage_id: u32) {
    let handler = HANDLER.read().clone();
    if let Some(handler) = handler {
        handler.ending(channel, usage_id);
    }
}
