//! The VPN as a service of the node: REQUESTs on channel 'R', billed by the SDK.

use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::{Mutex, RwLock};

use super::channel::Channel;
use super::types::dap_chain_net_srv_t;
use super::visible::{dap_chain_net_srv_vpn, dap_chain_net_srv_vpn_item_ipv4};
use super::{callbacks, raw};

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
    visible: Mutex<Visible>,
}

/// `dap_chain_net_srv_t::_internal`, and the cells of its list of released addresses.
#[derive(Debug)]
struct Visible {
    root: Box<dap_chain_net_srv_vpn>,
    unleased: Vec<dap_chain_net_srv_vpn_item_ipv4>,
    sessions: Vec<Arc<Channel>>,
}

// SAFETY: the raw pointers are handed to C, which follows them on worker threads; Rust changes what they point to under
// Service's lock and never follows a pointer that is not its own.
unsafe impl Send for Visible {}

/// The SDK refused: the service's number is taken.
#[derive(Debug, thiserror::Error)]
#[error("the SDK refused the service: number 0x1 is registered already")]
pub struct Taken;

impl Service {
    /// Registers the service, with the configuration section that its prices and its grace period come from.
    pub fn register(handler: Arc<dyn ServiceHandler>) -> Result<Service, Taken> {
        callbacks::install();
        let mut root = Box::new(dap_chain_net_srv_vpn {
            ipv4_unleased: ptr::null_mut(),
            ch_vpn_ipv4: ptr::null_mut(),
            parent: ptr::null_mut(),
        });
        *HANDLER.write() = Some(handler);
        // SAFETY: the section is NUL-terminated; root stays until the service is removed.
        let sdk = unsafe { raw::vpn_glue_service_add(c"srv_vpn".as_ptr(), (&raw mut *root).cast()) };
        if sdk.is_null() {
            *HANDLER.write() = None;
            return Err(Taken);
        }
        root.parent = sdk;
        let visible = Visible { root, unleased: Vec::new(), sessions: Vec::new() };
        Ok(Service { sdk: AtomicPtr::new(sdk), visible: Mutex::new(visible) })
    }

    /// The SDK's service.
    pub fn raw(&self) -> *mut dap_chain_net_srv_t {
        self.sdk.load(Ordering::Relaxed)
    }

    /// Shows C the released addresses, in the order of their next lease.
    pub fn show_unleased(&self, addresses: impl Iterator<Item = std::net::Ipv4Addr>) {
        let visible = &mut *self.visible.lock();
        visible.root.ipv4_unleased = ptr::null_mut();
        visible.unleased = addresses
            .map(|address| dap_chain_net_srv_vpn_item_ipv4 {
                addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                next: ptr::null_mut(),
            })
            .collect();
        let mut next = ptr::null_mut();
        for item in visible.unleased.iter_mut().rev() {
            item.next = next;
            next = &raw mut *item;
        }
        visible.root.ipv4_unleased = next;
    }

    /// Adds a session that has a lease to the list that C sees.
    pub fn show_session(&self, channel: &Arc<Channel>) {
        let visible = &mut *self.visible.lock();
        if !visible.sessions.iter().any(|other| Arc::ptr_eq(other, channel)) {
            visible.sessions.push(Arc::clone(channel));
            visible.link();
        }
    }

    /// Takes a session out of the list that C sees. On the session's worker, before its channel is gone.
    pub fn hide_session(&self, channel: &Arc<Channel>) {
        let visible = &mut *self.visible.lock();
        if let Some(index) = visible.sessions.iter().position(|other| Arc::ptr_eq(other, channel)) {
            let gone = visible.sessions.remove(index);
            // SAFETY: the channel is still open, so what it shows lives.
            if let Some(shown) = unsafe { gone.visible().as_mut() } {
                shown.hh.prev = ptr::null_mut();
                shown.hh.next = ptr::null_mut();
            }
            visible.link();
        }
    }
}

impl Visible {
    /// Links the sessions through `hh.prev` and `hh.next`, as uthash does for elements in the order they were added.
    fn link(&mut self) {
        self.root.ch_vpn_ipv4 = self.sessions.first().map_or(ptr::null_mut(), |channel| channel.visible());
        for (index, channel) in self.sessions.iter().enumerate() {
            let at = |other: Option<usize>| {
                other.and_then(|other| self.sessions.get(other)).map_or(ptr::null_mut(), |other| other.visible())
            };
            // SAFETY: hide_session takes a channel out before it closes, so what each shows lives; the two links are
            // written under Service's lock alone.
            if let Some(shown) = unsafe { channel.visible().as_mut() } {
                shown.hh.prev = at(index.checked_sub(1)).cast();
                shown.hh.next = at(Some(index + 1)).cast();
            }
        }
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
