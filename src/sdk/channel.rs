//! Channel 'S' of a stream: the VPN packets of one peer.

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use parking_lot::RwLock;
use std::sync::OnceLock;

use super::boundary::{bytes, guard};
use super::types::{dap_chain_net_srv_t, dap_stream_ch_pkt_t, dap_stream_ch_t};
use super::visible::{UT_hash_handle, dap_chain_net_srv_ch_vpn, dap_chain_net_srv_vpn_tun_socket};
use super::{raw, worker};

pub use super::raw::{Bbr, PathInfo, SessionStats, SessionView};

/// The packet type that carries VPN packets.
pub const TYPE_DATA: u8 = 0x02;

/// The channel events of a role. All are called on the channel's worker.
pub trait ChannelHandler: Send + Sync {
    /// A peer's channel was opened.
    fn opened(&self, channel: &Arc<Channel>);
    /// The channel was closed: its functions fail from now on.
    fn closed(&self, channel: &Arc<Channel>);
    /// A packet arrived.
    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]);
    /// After [`Channel::wake_on_drain`]: nothing waits above the kernel, and the kernel takes more. Called again and again
    /// while that is so and the calls are enabled: a handler that has nothing to send disables them.
    fn drained(&self, channel: &Arc<Channel>);
    /// The stream leaves this worker: no further call on the channel until `arrived`.
    fn leaving(&self, _channel: &Arc<Channel>) {}
    /// The stream has arrived on this worker.
    fn arrived(&self, _channel: &Arc<Channel>, _worker: u32) {}
}

/// Which end of a stream a handler serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Streams that clients open to this node.
    Server,
    /// Streams that this node opens.
    Client,
}

static HANDLERS: [RwLock<Option<Arc<dyn ChannelHandler>>>; 2] = [RwLock::new(None), RwLock::new(None)];

fn slot(role: Role) -> &'static RwLock<Option<Arc<dyn ChannelHandler>>> {
    &HANDLERS[usize::from(role == Role::Client)]
}

/// Sets the handler for a role's channels that are opened from now on; with `None` those stay unused.
pub fn set_handler(role: Role, handler: Option<Arc<dyn ChannelHandler>>) {
    let serves = handler.is_some();
    *slot(role).write() = handler;
    if serves {
        // One registration serves both roles. It is repeated because an SDK that was stopped in between may have lost
        // it.
        // SAFETY: no arguments; the callbacks are installed.
        unsafe { raw::vpn_glue_channel_register() };
    }
}

/// A peer's channel. Any thread may hold it. Functions that call the SDK work only on the owning worker and while the
/// channel is open; otherwise they do nothing and report that.
pub struct Channel {
    ch: AtomicPtr<dap_stream_ch_t>,
    worker: AtomicU32,
    role: Role,
    handler: Arc<dyn ChannelHandler>,
    visible: AtomicPtr<dap_chain_net_srv_ch_vpn>,
    data: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// `drained` calls are enabled; the owning worker's.
    wakes: AtomicBool,
}

/// The target of `ch->internal`: first the struct that C may read, then Rust's part.
#[repr(C)]
struct Internal {
    visible: dap_chain_net_srv_ch_vpn,
    channel: Arc<Channel>,
}

impl Channel {
    /// Returns the SDK's channel if it is open and the caller is on its worker.
    pub(super) fn here(&self) -> Option<*mut dap_stream_ch_t> {
        if worker::current() != Some(self.worker.load(Ordering::Acquire)) {
            return None;
        }
        let ch = self.ch.load(Ordering::Acquire);
        (!ch.is_null()).then_some(ch)
    }

    /// Sends a packet. Returns false if the channel is closed or on another worker, or its stream's queue is full.
    pub fn send(&self, kind: u8, data: &[u8]) -> bool {
        let Some(ch) = self.here() else { return false };
        // SAFETY: open and on its worker; the SDK copies `data` before it returns.
        unsafe { raw::vpn_glue_channel_send(ch, kind, data.as_ptr().cast(), data.len()) > 0 }
    }

    /// Returns the number of bytes in the stream's send queue; `None` off the channel's worker.
    pub fn pending(&self) -> Option<usize> {
        // SAFETY: open and on its worker.
        self.here().map(|ch| unsafe { raw::vpn_glue_channel_pending(ch) })
    }

    /// Enables or disables `drained` calls: one each time the kernel can take more, which is at once if it can now, and
    /// after [`Channel::set_unsent_limit`] when less than half the limit is unsent.
    pub fn wake_on_drain(&self, wake: bool) {
        if let Some(ch) = self.here() {
            // True is repeated, because other users of the stream may have cleared the SDK's flag.
            if !self.wakes.swap(wake, Ordering::Relaxed) && !wake {
                return;
            }
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_wake_on_drain(ch, wake) };
        }
    }

    /// Asks the kernel about the path of the stream's TCP connection; `None` off the channel's worker, or if the stream is
    /// none of TCP. It costs a system call.
    pub fn path(&self) -> Option<PathInfo> {
        let ch = self.here()?;
        let mut path = MaybeUninit::uninit();
        // SAFETY: open and on its worker, and `path` is writable.
        let is_known = unsafe { raw::vpn_glue_channel_path(ch, path.as_mut_ptr()) };
        // SAFETY: the call writes the whole struct if its result is true.
        is_known.then(|| unsafe { path.assume_init() })
    }

    /// Asks bbr, version 1, about the path; `None` off the channel's worker, or if the connection has another congestion
    /// control. It costs a system call.
    pub fn bbr(&self) -> Option<Bbr> {
        let ch = self.here()?;
        let mut bbr = MaybeUninit::uninit();
        // SAFETY: open and on its worker, and `bbr` is writable.
        let is_known = unsafe { raw::vpn_glue_channel_bbr(ch, bbr.as_mut_ptr()) };
        // SAFETY: the call writes the whole struct if its result is true.
        is_known.then(|| unsafe { bbr.assume_init() })
    }

    /// Returns the bytes that the kernel has taken and not sent yet; `None` off the channel's worker, or if the kernel
    /// does not say. It costs a system call, the cheapest one.
    pub fn unsent(&self) -> Option<usize> {
        // SAFETY: open and on its worker.
        self.here().and_then(|ch| usize::try_from(unsafe { raw::vpn_glue_channel_unsent(ch) }).ok())
    }

    /// Bounds the bytes that the kernel takes and cannot send yet: from `bytes` on it takes nothing more, and below half
    /// of them it does again. Returns false off the channel's worker, or if the kernel refuses.
    pub fn set_unsent_limit(&self, bytes: u32) -> bool {
        // SAFETY: open and on its worker.
        self.here().is_some_and(|ch| unsafe { raw::vpn_glue_channel_set_unsent_limit(ch, bytes) } == 0)
    }

    /// Bounds the rate at which the kernel sends, bytes per second, where the congestion control paces, as bbr does;
    /// `u64::MAX` for no bound. Returns false off the channel's worker, or if the kernel refuses.
    pub fn set_rate_limit(&self, bytes_per_second: u64) -> bool {
        // SAFETY: open and on its worker.
        self.here().is_some_and(|ch| unsafe { raw::vpn_glue_channel_set_rate_limit(ch, bytes_per_second) } == 0)
    }

    /// Lets routers of IPv4 fragment the packets of the stream's TCP connection, those that the kernel sends again too.
    ///
    /// # Errors
    /// ENOTCONN off the channel's worker; or if the kernel refuses.
    pub fn allow_fragments(&self) -> io::Result<()> {
        let Some(ch) = self.here() else { return Err(io::Error::from_raw_os_error(libc::ENOTCONN)) };
        // SAFETY: open and on its worker.
        match unsafe { raw::vpn_glue_channel_allow_fragments(ch) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Sets the congestion control of the stream's TCP connection.
    ///
    /// # Errors
    /// ENOENT if the kernel does not have one of this name, EPERM if this process may not choose it, ENOTCONN off the
    /// channel's worker.
    pub fn set_congestion(&self, name: &CStr) -> io::Result<()> {
        let Some(ch) = self.here() else { return Err(io::Error::from_raw_os_error(libc::ENOTCONN)) };
        // SAFETY: open and on its worker; the name is NUL-terminated.
        match unsafe { raw::vpn_glue_channel_set_congestion(ch, name.as_ptr()) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Returns the name of the connection's congestion control; `None` off the channel's worker, or if the stream is none
    /// of TCP.
    pub fn congestion(&self) -> Option<String> {
        let ch = self.here()?;
        let mut text: [c_char; 32] = [0; 32];
        // SAFETY: open and on its worker; at most 32 bytes are written, with a NUL.
        let errno = unsafe { raw::vpn_glue_channel_congestion(ch, text.as_mut_ptr(), text.len()) };
        // SAFETY: NUL-terminated, by the call above or from the start.
        (errno == 0).then(|| unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Enables reception: the SDK holds packets back until the channel's service is accepted.
    pub fn enable(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_enable(ch) };
        }
    }

    /// Reports to the SDK that the peer is alive.
    pub fn touch(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_touch(ch) };
        }
    }

    /// Tells the SDK whether the service serves the client, whose stream it then keeps.
    pub fn serve(&self, is_served: bool) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker.
            unsafe { raw::vpn_glue_channel_serve(ch, is_served) };
        }
    }

    /// Requests the end of the whole stream; `closed` follows.
    pub fn close(&self) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; the SDK only records the request.
            unsafe { raw::vpn_glue_channel_close_stream(ch) };
        }
    }

    /// Returns the peer's "host:port", for the log.
    pub fn peer(&self) -> String {
        let Some(ch) = self.here() else { return "?".into() };
        let mut text: [c_char; 300] = [0; 300];
        // SAFETY: open and on its worker; at most 300 bytes are written, with a NUL.
        unsafe { raw::vpn_glue_channel_peer(ch, text.as_mut_ptr(), text.len()) };
        // SAFETY: NUL-terminated by the call above.
        unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
    }

    /// Sets the inner address that `vpn_stat` and C code read; `None` without a lease.
    pub fn set_inner_address(&self, address: Option<Ipv4Addr>) {
        let Some(ch) = self.here() else { return };
        let network_order = address.map_or(0, |address| u32::from_ne_bytes(address.octets()));
        // SAFETY: open and on its worker.
        unsafe { raw::vpn_glue_channel_set_inner_address(ch, network_order) };
        self.update_visible(|visible| visible.addr_ipv4.s_addr = network_order);
    }

    /// Adds `delta` to the session's counters.
    pub fn add_stats(&self, delta: &SessionStats) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; delta is read during the call.
            unsafe { raw::vpn_glue_channel_stats_add(ch, delta) };
        }
    }

    /// Sets the C-visible fields of the service.
    pub fn show_service(&self, service: *mut dap_chain_net_srv_t, tun: *mut dap_chain_net_srv_vpn_tun_socket) {
        self.update_visible(|visible| {
            visible.net_srv = service;
            visible.tun_socket = tun;
        });
    }

    /// Sets the C-visible fields of the usage.
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
        // SAFETY: the channel is open, so Internal lives; only this worker accesses its fields.
        if let Some(visible) = unsafe { self.visible.load(Ordering::Acquire).as_mut() } {
            update(visible);
        }
    }

    /// Returns the C-visible struct; NULL if the channel is closed.
    #[cfg(not(feature = "client-tun"))]
    pub(super) fn visible(&self) -> *mut dap_chain_net_srv_ch_vpn {
        self.visible.load(Ordering::Acquire)
    }

    /// Attaches the handler's data to the channel, once; false if there already is some.
    pub fn set_data(&self, data: Arc<dyn Any + Send + Sync>) -> bool {
        self.data.set(data).is_ok()
    }

    /// Returns the handler's data.
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.data.get()?.downcast_ref()
    }

    /// Returns the owning worker; `None` while the stream moves to another.
    pub fn worker(&self) -> Option<u32> {
        Some(self.worker.load(Ordering::Acquire)).filter(|worker| *worker != raw::NO_WORKER)
    }

    /// Returns the SDK's channel, for C callers. Other threads must not follow the pointer.
    pub fn raw(&self) -> *mut dap_stream_ch_t {
        self.ch.load(Ordering::Acquire)
    }
}

/// Returns every service session that the SDK lists. Any thread.
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

/// Returns the type and the data of a channel packet.
///
/// # Safety
/// `packet` points to a whole packet that lives for `'a`.
pub unsafe fn packet_parts<'a>(packet: *const dap_stream_ch_pkt_t) -> (u8, &'a [u8]) {
    let (mut kind, mut size) = (0, 0);
    // SAFETY: the caller's promise; the out pointers are writable.
    let data = unsafe { raw::vpn_glue_packet_parts(packet, &mut kind, &mut size) };
    // SAFETY: a whole packet has `size` bytes of data.
    (kind, unsafe { bytes(data, size) })
}

// --- callbacks of the SDK -----------------------------------------------------------------------------------------

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
            wakes: AtomicBool::new(false),
        });
        let internal = Box::into_raw(Box::new(Internal {
            visible: dap_chain_net_srv_ch_vpn {
                usage_id: 0,
                net_srv: ptr::null_mut(),
                is_allowed: false,
                tun_socket: ptr::null_mut(),
                addr_ipv4: libc::in_addr { s_addr: 0 },
                ch,
                hh: UT_hash_handle::default(),
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
        // SAFETY: on_opened returned this pointer, and the C half removed it from ch->internal, so this is the only
        // call.
        let internal = unsafe { Box::from_raw(internal.cast::<Internal>()) };
        let closing = ClearOnDrop(Arc::clone(&internal.channel));
        closing.0.handler.closed(&closing.0);
    });
}

/// Clears the pointers that C is about to free, before `Internal` is freed, even if the handler panics.
struct ClearOnDrop(Arc<Channel>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.ch.store(ptr::null_mut(), Ordering::Release);
        self.0.visible.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Returns the channel behind `ch->internal`; a clone, so that it outlives the handler's call.
///
/// # Safety
/// `internal` was returned by `on_opened`, and `on_closed` has not been called with it.
pub(super) unsafe fn of(internal: *mut c_void) -> Option<Arc<Channel>> {
    // SAFETY: the caller's promise.
    unsafe { internal.cast::<Internal>().as_ref() }.map(|internal| Arc::clone(&internal.channel))
}

pub(super) unsafe extern "C" fn on_packet(internal: *mut c_void, kind: u8, data: *const u8, size: usize) {
    // SAFETY: the C half passes ch->internal of an open channel.
    let Some(channel) = (unsafe { of(internal) }) else { return };
    let done = guard("a packet", false, || {
        // SAFETY: the SDK's packet has `size` bytes and lives through the call.
        channel.handler.packet(&channel, kind, unsafe { bytes(data, size) });
        true
    });
    if !done {
        // After a panic in the middle of a packet, the session's state cannot be trusted.
        channel.close();
    }
}

/// Returns whether there is to be a next call. The Cellframe SDK calls after any write, and before it passes its queue to
/// the kernel: so each call looks whether it is wanted, and whether something waits.
pub(super) unsafe extern "C" fn on_drained(internal: *mut c_void, waiting: usize) -> bool {
    // SAFETY: the C half passes ch->internal of an open channel.
    let Some(channel) = (unsafe { of(internal) }) else { return false };
    if waiting == 0 && channel.wakes.load(Ordering::Relaxed) {
        guard("a drained channel", (), || channel.handler.drained(&channel));
    }
    channel.wakes.load(Ordering::Relaxed)
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
