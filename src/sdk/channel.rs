//! Channel 'S' of a stream: the VPN packets of one peer.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::net::Ipv4Addr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use parking_lot::RwLock;
use std::sync::OnceLock;

use super::boundary::{bytes, guard};
use super::types::{dap_chain_net_srv_t, dap_stream_ch_pkt_t, dap_stream_ch_t};
use super::visible::{UT_hash_handle, dap_chain_net_srv_ch_vpn, dap_chain_net_srv_vpn_tun_socket};
use super::{raw, worker};

pub use super::raw::{SessionStats, SessionView};

/// The packet type that carries VPN packets.
pub const TYPE_DATA: u8 = 0x02;

/// What a role does with its channels. Called on the channel's worker.
pub trait ChannelHandler: Send + Sync {
    /// A peer's channel is there.
    fn opened(&self, channel: &Arc<Channel>);
    /// It is gone: its functions fail from now on.
    fn closed(&self, channel: &Arc<Channel>);
    /// A packet arrived.
    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]);
    /// What was waiting to be sent has been sent.
    fn drained(&self, channel: &Arc<Channel>);
    /// The stream leaves this worker: no call on the channel until `arrived`.
    fn leaving(&self, _channel: &Arc<Channel>) {}
    /// The stream has come to this worker.
    fn arrived(&self, _channel: &Arc<Channel>, _worker: u32) {}
}

/// Which end of a stream a handler serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Streams that clients opened to this node.
    Server,
    /// Streams that this node opened.
    Client,
}

static HANDLERS: [RwLock<Option<Arc<dyn ChannelHandler>>>; 2] = [RwLock::new(None), RwLock::new(None)];

fn slot(role: Role) -> &'static RwLock<Option<Arc<dyn ChannelHandler>>> {
    &HANDLERS[usize::from(role == Role::Client)]
}

/// Serves the channels of a role that are opened from now on; None: they stay unused.
pub fn set_handler(role: Role, handler: Option<Arc<dyn ChannelHandler>>) {
    let serves = handler.is_some();
    *slot(role).write() = handler;
    if serves {
        // One registration serves both roles. It is repeated, since an SDK that was stopped in between may have lost it.
        // SAFETY: no arguments; the callbacks are installed.
        unsafe { raw::vpn_glue_channel_register() };
    }
}

/// A peer's channel. It can be held anywhere; what touches the SDK works on the owning worker only, and while the
/// channel is open: elsewhere those functions do nothing and say so.
pub struct Channel {
    ch: AtomicPtr<dap_stream_ch_t>,
    worker: AtomicU32,
    role: Role,
    handler: Arc<dyn ChannelHandler>,
    visible: AtomicPtr<dap_chain_net_srv_ch_vpn>,
    data: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// What `ch->internal` points to: first what C may look at, then what Rust needs.
#[repr(C)]
struct Internal {
    visible: dap_chain_net_srv_ch_vpn,
    channel: Arc<Channel>,
}

/// What the SDK's billing side says of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Number of the usage.
    pub id: u32,
    /// Service may be given.
    pub is_active: bool,
    /// How it is paid.
    pub state: UsageState,
    /// The node's role in the network is one that serves (master or above).
    pub role_serves: bool,
}

/// How a usage is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageState {
    /// Nothing agreed yet.
    Idle,
    /// The first payment is pending.
    Grace,
    /// Paid by receipts.
    Normal,
    /// It went wrong; no service.
    Error,
    /// A free order: nothing is counted.
    Free,
}

impl Channel {
    /// The SDK's channel, if this is its worker and it is open.
    fn here(&self) -> Option<*mut dap_stream_ch_t> {
        if worker::current() != Some(self.worker.load(Ordering::Acquire)) {
            return None;
        }
        let ch = self.ch.load(Ordering::Acquire);
        (!ch.is_null()).then_some(ch)
    }

    /// Sends a packet; false when it was not taken: the channel is closed, on another worker, or its stream is full.
    pub fn send(&self, kind: u8, data: &[u8]) -> bool {
        let Some(ch) = self.here() else { return false };
        // SAFETY: open and on its worker; the SDK copies `data` before it returns.
        unsafe { raw::vpn_glue_channel_send(ch, kind, data.as_ptr().cast(), data.len()) > 0 }
    }

    /// Bytes that wait to be sent on the stream; None when it cannot be told here.
    pub fn pending(&self) -> Option<usize> {
        // SAFETY: open and on its worker.
        self.here().map(|ch| unsafe { raw::vpn_glue_channel_pending(ch) })
    }

    /// Asks for `drained` calls, or no longer.
    pub fn wake_on_drain(&self, wake: bool) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_wake_on_drain(ch, wake) };
        }
    }

    /// Lets packets come in: the SDK holds them back on a channel whose service is not accepted yet.
    pub fn enable(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_enable(ch) };
        }
    }

    /// Tells the SDK that the peer lives.
    pub fn touch(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_touch(ch) };
        }
    }

    /// Closes the whole stream, soon; `closed` follows.
    pub fn close(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; the SDK only takes a note.
            unsafe { raw::vpn_glue_channel_close_stream(ch) };
        }
    }

    /// "host:port" of the peer, for the log.
    pub fn peer(&self) -> String {
        let Some(ch) = self.here() else { return "?".into() };
        let mut text: [c_char; 300] = [0; 300];
        // SAFETY: open and on its worker; at most 300 bytes are written, with a NUL.
        unsafe { raw::vpn_glue_channel_peer(ch, text.as_mut_ptr(), text.len()) };
        // SAFETY: NUL-terminated by the call above.
        unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
    }

    /// What the billing side says; None before REQUEST was accepted.
    pub fn usage(&self) -> Option<Usage> {
        let ch = self.here()?;
        let mut usage = raw::Usage { id: 0, is_active: false, state: raw::USAGE_IDLE, role: raw::NO_ROLE };
        // SAFETY: open and on its worker; usage is writable.
        if !unsafe { raw::vpn_glue_channel_usage(ch, &mut usage) } {
            return None;
        }
        Some(Usage {
            id: usage.id,
            is_active: usage.is_active,
            state: match usage.state {
                raw::USAGE_IDLE => UsageState::Idle,
                raw::USAGE_GRACE => UsageState::Grace,
                raw::USAGE_NORMAL => UsageState::Normal,
                raw::USAGE_FREE => UsageState::Free,
                _ => UsageState::Error,
            },
            role_serves: usage.role <= raw::ROLE_MASTER,
        })
    }

    /// Marks the usage active: the service has begun.
    pub fn activate_usage(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_usage_activate(ch) };
        }
    }

    /// Writes the inner address where `vpn_stat` and C code look for it; None: no lease.
    pub fn set_inner_address(&self, address: Option<Ipv4Addr>) {
        let Some(ch) = self.here() else { return };
        let network_order = address.map_or(0, |address| u32::from_ne_bytes(address.octets()));
        // SAFETY: open and on its worker.
        unsafe { raw::vpn_glue_channel_set_inner_address(ch, network_order) };
        self.update_visible(|visible| visible.addr_ipv4.s_addr = network_order);
    }

    /// Adds to the session's counters.
    pub fn add_stats(&self, delta: &SessionStats) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; delta is read during the call.
            unsafe { raw::vpn_glue_channel_stats_add(ch, delta) };
        }
    }

    /// Fills the C-visible fields of the service.
    pub fn show_service(&self, service: *mut dap_chain_net_srv_t, tun: *mut dap_chain_net_srv_vpn_tun_socket) {
        self.update_visible(|visible| {
            visible.net_srv = service;
            visible.tun_socket = tun;
        });
    }

    /// Fills the C-visible fields of the usage.
    pub fn show_usage(&self, usage_id: u32, is_allowed: bool) {
        self.update_visible(|visible| {
            visible.usage_id = usage_id;
            visible.is_allowed = is_allowed;
        });
    }

    fn update_visible(&self, update: impl FnOnce(&mut dap_chain_net_srv_ch_vpn)) {
        if self.here().is_none() {
            return;
        }
        // SAFETY: the channel is open, so Internal lives; its fields are touched on this worker only.
        if let Some(visible) = unsafe { self.visible.load(Ordering::Acquire).as_mut() } {
            update(visible);
        }
    }

    /// The C-visible struct, NULL when the channel is closed.
    #[cfg(not(feature = "client-tun"))]
    pub(super) fn visible(&self) -> *mut dap_chain_net_srv_ch_vpn {
        self.visible.load(Ordering::Acquire)
    }

    /// What the handler keeps with the channel; set once.
    pub fn set_data(&self, data: Arc<dyn Any + Send + Sync>) -> bool {
        self.data.set(data).is_ok()
    }

    /// What the handler keeps with the channel.
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.data.get()?.downcast_ref()
    }

    /// The owning worker; None between two.
    pub fn worker(&self) -> Option<u32> {
        Some(self.worker.load(Ordering::Acquire)).filter(|worker| *worker != raw::NO_WORKER)
    }

    /// The SDK's channel, for C that asks for it. Another thread must not follow it.
    pub fn raw(&self) -> *mut dap_stream_ch_t {
        self.ch.load(Ordering::Acquire)
    }
}

/// Every service session that the SDK knows of. Any thread.
pub fn sessions() -> Vec<SessionView> {
    unsafe extern "C" fn collect(context: *mut c_void, session: *const SessionView) {
        // SAFETY: context is the vector below, which is not used otherwise during the call.
        let Some(list) = (unsafe { context.cast::<Vec<SessionView>>().as_mut() }) else { return };
        // SAFETY: the SDK's side passes a whole struct.
        if let Some(session) = unsafe { session.as_ref() } {
            list.push(*session);
        }
    }
    let mut list: Vec<SessionView> = Vec::new();
    // SAFETY: collect only pushes to the vector it is given.
    unsafe { raw::vpn_glue_sessions_each(collect, (&raw mut list).cast()) };
    list
}

/// The type and the data of a channel packet.
///
/// # Safety
/// `packet` points to a whole packet that stays for `'a`.
pub unsafe fn packet_parts<'a>(packet: *const dap_stream_ch_pkt_t) -> (u8, &'a [u8]) {
    let (mut kind, mut size) = (0, 0);
    // SAFETY: the caller's promise; the out pointers are writable.
    let data = unsafe { raw::vpn_glue_packet_parts(packet, &mut kind, &mut size) };
    // SAFETY: a whole packet has `size` bytes of data.
    (kind, unsafe { bytes(data, size) })
}

// --- what the SDK calls -------------------------------------------------------------------------------------------

pub(super) unsafe extern "C" fn on_opened(ch: *mut dap_stream_ch_t, is_client: bool, worker: u32) -> *mut c_void {
    guard("a new channel", ptr::null_mut(), || {
        let role = if is_client { Role::Client } else { Role::Server };
        let Some(handler) = slot(role).read().clone() else { return ptr::null_mut() };
        let channel = Arc::new(Channel {
            ch: AtomicPtr::new(ch),
            worker: AtomicU32::new(worker),
            role,
            handler,
            visible: AtomicPtr::default(),
            data: OnceLock::new(),
        });
        let internal = Box::into_raw(Box::new(Internal {
            visible: dap_chain_net_srv_ch_vpn {
                usage_id: 0,
                net_srv: ptr::null_mut(),
                is_allowed: false,
                tun_socket: ptr::null_mut(),
                addr_ipv4: libc::in_addr { s_addr: 0 },
                ch,
                hh: UT_hash_handle {
                    tbl: ptr::null_mut(),
                    prev: ptr::null_mut(),
                    next: ptr::null_mut(),
                    hh_prev: ptr::null_mut(),
                    hh_next: ptr::null_mut(),
                    key: ptr::null(),
                    keylen: 0,
                    hashv: 0,
                },
            },
            channel: Arc::clone(&channel),
        }));
        channel.visible.store(internal.cast(), Ordering::Release);
        channel.handler.opened(&channel);
        internal.cast()
    })
}

pub(super) unsafe extern "C" fn on_closed(_ch: *mut dap_stream_ch_t, internal: *mut c_void) {
    guard("a closed channel", (), || {
        // SAFETY: what on_opened returned, and the C half took it out of ch->internal, so this is the only call.
        let internal = unsafe { Box::from_raw(internal.cast::<Internal>()) };
        let gone = Gone(Arc::clone(&internal.channel));
        gone.0.handler.closed(&gone.0);
    });
}

/// Lets go of what C is about to free, before `Internal` is freed, also when the handler panics.
struct Gone(Arc<Channel>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.ch.store(ptr::null_mut(), Ordering::Release);
        self.0.visible.store(ptr::null_mut(), Ordering::Release);
    }
}

/// The channel behind `ch->internal`; a clone, so that it outlives whatever the handler does.
///
/// # Safety
/// `internal` is what `on_opened` returned, and `on_closed` has not been called with it.
pub(super) unsafe fn of(internal: *mut c_void) -> Option<Arc<Channel>> {
    // SAFETY: the caller's promise.
    unsafe { internal.cast::<Internal>().as_ref() }.map(|internal| Arc::clone(&internal.channel))
}

pub(super) unsafe extern "C" fn on_packet(internal: *mut c_void, kind: u8, data: *const u8, size: usize) {
    // SAFETY: the C half passes ch->internal of an open channel.
    let Some(channel) = (unsafe { of(internal) }) else { return };
    let done = guard("a packet", false, || {
        // SAFETY: the SDK's packet has `size` bytes and stays during the call.
        channel.handler.packet(&channel, kind, unsafe { bytes(data, size) });
        true
    });
    if !done {
        // A panic half way through: the session's state cannot be trusted any more.
        channel.close();
    }
}

pub(super) unsafe extern "C" fn on_drained(internal: *mut c_void) {
    // SAFETY: the C half passes ch->internal of an open channel.
    if let Some(channel) = unsafe { of(internal) } {
        guard("a drained channel", (), || channel.handler.drained(&channel));
    }
}

pub(super) unsafe extern "C" fn on_leaving(internal: *mut c_void) {
    // SAFETY: the C half passes ch->internal of an open channel.
    if let Some(channel) = unsafe { of(internal) } {
        guard("a leaving channel", (), || channel.handler.leaving(&channel));
        channel.worker.store(raw::NO_WORKER, Ordering::Release);
    }
}

pub(super) unsafe extern "C" fn on_arrived(internal: *mut c_void, worker: u32) {
    // SAFETY: the C half passes ch->internal of an open channel.
    if let Some(channel) = unsafe { of(internal) } {
        channel.worker.store(worker, Ordering::Release);
        guard("an arrived channel", (), || channel.handler.arrived(&channel, worker));
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("role", &self.role).field("worker", &self.worker()).finish_non_exhaustive()
    }
}
