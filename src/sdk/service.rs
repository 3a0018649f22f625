//! The VPN as a service of the node: REQUESTs on channel 'R', billed by the SDK.

use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::RwLock;

use super::channel::Channel;
use super::types::dap_chain_net_srv_t;
use super::{raw, worker};

/// What the service decides. Called on the session's worker.
pub trait ServiceHandler: Send + Sync {
    /// A client asks for service. 0 lets it go on, anything else refuses with that code.
    fn requested(&self, usage_id: u32) -> i32;
    /// The request was accepted, or a next receipt was. `channel` is the session's channel 'S', if it opened one.
    /// 0 sends SUCCESS, anything else ERROR.
    fn accepted(&self, channel: Option<&Arc<Channel>>, usage_id: u32) -> i32;
    /// The request was refused with a code of the SDK's.
    fn refused(&self, usage_id: u32, code: u32);
}

static HANDLER: RwLock<Option<Arc<dyn ServiceHandler>>> = RwLock::new(None);

/// The registered service; taken back when dropped.
#[derive(Debug)]
pub struct Service {
    sdk: AtomicPtr<dap_chain_net_srv_t>,
}

/// The SDK refused: the service's number is taken, or the network that its section names is unknown.
#[derive(Debug, thiserror::Error)]
#[error(
    "the SDK refused the service: its number 0x1 is registered already, or [srv_vpn] net names no network of this node"
)]
pub struct Taken;

/// A session with a lease, as C finds it in the service's list.
#[derive(Clone, Debug)]
pub struct ShownSession {
    /// The usage that REQUEST opened.
    pub usage_id: u32,
    /// The leased inner address.
    pub address: Ipv4Addr,
    /// The billing side lets it use the service.
    pub is_allowed: bool,
    /// Its channel.
    pub channel: Arc<Channel>,
}

impl Service {
    /// Registers the service, with the configuration section that its prices and its grace period come from.
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

    /// The SDK's service.
    pub fn raw(&self) -> *mut dap_chain_net_srv_t {
        self.sdk.load(Ordering::Relaxed)
    }

    /// Shows C the sessions with a lease, and the released addresses in the order of their next lease: copies, which
    /// replace those shown before. Only on worker 0, the one worker that C may look at them on; elsewhere it does nothing.
    pub fn show(&self, sessions: &[ShownSession], released: impl Iterator<Item = Ipv4Addr>) {
        if worker::current() != Some(0) {
            return;
        }
        let network_order = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
        let sessions: Vec<_> = sessions
            .iter()
            .map(|session| raw::Shown {
                usage_id: session.usage_id,
                address: network_order(session.address),
                is_allowed: session.is_allowed,
                ch: session.channel.raw(),
            })
            .collect();
        let released: Vec<_> = released.map(network_order).collect();
        // SAFETY: the service lives until drop; both lists are read during the call; on worker 0, as raw.rs asks.
        unsafe {
            raw::vpn_glue_service_show(
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
        // SAFETY: what register got, and this is the only call.
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

pub(super) fn refused(usage_id: u32, code: u32) {
    let handler = HANDLER.read().clone();
    if let Some(handler) = handler {
        handler.refused(usage_id, code);
    }
}
