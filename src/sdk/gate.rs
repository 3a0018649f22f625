//! The gate in front of channel 'R': sees each packet of a client before the SDK's billing does.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::boundary::{bytes, guard};
use super::channel::{self, Channel};
use super::raw;
use super::types::dap_stream_ch_t;
use vpn_core::wire::{ServiceError, error_code, pkt};

/// The decisions about channels 'R' that clients open. All are called on the stream's worker.
pub trait GateHandler: Send + Sync {
    /// A channel was opened.
    fn opened(&self, r: &ServiceChannel<'_>);
    /// A channel, and with it the session's usage, is about to end. `session` is the stream's channel 'S', if it has
    /// one.
    fn closed(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>);
    /// A packet arrived. The SDK does not see it unless [`ServiceChannel::pass`] is called.
    fn packet(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>, kind: u8, data: &[u8]);
}

/// The kernel reckons a socket's times in ticks of its clock, of at most 10 ms (CONFIG_HZ).
const KERNEL_TICK: Duration = Duration::from_millis(10);

static HANDLER: RwLock<Option<Arc<dyn GateHandler>>> = RwLock::new(None);

/// A client's channel 'R', during a call of the handler.
#[derive(Debug)]
pub struct ServiceChannel<'a> {
    ch: *mut dap_stream_ch_t,
    call: PhantomData<&'a ()>,
}

impl ServiceChannel<'_> {
    /// Returns the number that identifies the channel until it is closed.
    pub fn id(&self) -> usize {
        self.ch.addr()
    }

    /// Gives a packet to the SDK.
    pub fn pass(&self, kind: u8, data: &[u8]) {
        // SAFETY: open and on its worker during the call; data is read during it.
        unsafe { raw::vpn_glue_gate_pass(self.ch, kind, data.as_ptr().cast(), data.len()) };
    }

    /// Sends a packet to the client.
    pub fn send(&self, kind: u8, data: &[u8]) -> bool {
        // SAFETY: as in pass.
        unsafe { raw::vpn_glue_gate_send(self.ch, kind, data.as_ptr().cast(), data.len()) }
    }

    /// Returns the number of bytes in the stream's send queue.
    pub fn pending(&self) -> usize {
        // SAFETY: open and on its worker during the call.
        unsafe { raw::vpn_glue_channel_pending(self.ch) }
    }

    /// Returns the number of bytes that have left the send queue and that the peer has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        // SAFETY: open and on its worker during the call.
        unsafe { raw::vpn_glue_channel_unacknowledged(self.ch) }
    }
}

impl Channel {
    /// Gives a packet to the SDK's handler of channel 'R' of the same stream.
    pub fn pass_to_billing(&self, kind: u8, data: &[u8]) {
        if let Some(ch) = self.here() {
            // SAFETY: open and on its worker; data is read during the call.
            unsafe { raw::vpn_glue_gate_pass(ch, kind, data.as_ptr().cast(), data.len()) };
        }
    }

    /// Sends a packet on channel 'R' of the same stream. Returns false if there is none, or it does not accept it.
    pub fn send_service(&self, kind: u8, data: &[u8]) -> bool {
        let Some(ch) = self.here() else { return false };
        // SAFETY: open and on its worker; data is read during the call.
        unsafe { raw::vpn_glue_gate_send(ch, kind, data.as_ptr().cast(), data.len()) }
    }

    /// Returns the peer's address; `None` off the channel's worker, or if the kernel does not know it.
    pub fn address(&self) -> Option<IpAddr> {
        // SAFETY: open and on its worker.
        self.here().and_then(|ch| unsafe { address_of(ch) })
    }

    /// Returns how long the peer's TCP has given no sign of life, at least; `None` off the channel's worker, or if the
    /// kernel does not say.
    pub fn silence(&self) -> Option<Duration> {
        let ch = self.here()?;
        // SAFETY: open and on its worker.
        let millis = u64::try_from(unsafe { raw::vpn_glue_channel_silence(ch) }).ok()?;
        Some(Duration::from_millis(millis).saturating_sub(KERNEL_TICK))
    }
}

/// # Safety
/// `ch` is an open channel, and the caller is on its worker.
unsafe fn address_of(ch: *const dap_stream_ch_t) -> Option<IpAddr> {
    let mut octets = [0; 16];
    // SAFETY: the caller's promise; 16 bytes are written.
    unsafe { raw::vpn_glue_channel_address(ch, octets.as_mut_ptr()) };
    (octets != [0; 16]).then(|| Ipv6Addr::from(octets).to_canonical())
}

/// Puts the gate in front of channel 'R'. Returns false if this SDK cannot have one.
pub fn install(handler: Arc<dyn GateHandler>) -> bool {
    *HANDLER.write() = Some(handler);
    let installed = stay_installed();
    if !installed {
        *HANDLER.write() = None;
    }
    installed
}

/// Puts the gate in front again if the registration of another service has replaced it.
pub fn stay_installed() -> bool {
    // SAFETY: no arguments; the callbacks are installed.
    unsafe { raw::vpn_glue_gate_install() }
}

/// Takes the handler away. The gate then refuses every request, and the SDK sees no packet.
pub fn close() {
    *HANDLER.write() = None;
}

// --- callbacks of the SDK -----------------------------------------------------------------------------------------

fn with_handler(what: &str, r: *mut dap_stream_ch_t, call: impl FnOnce(Option<&dyn GateHandler>, &ServiceChannel<'_>)) {
    let handler = HANDLER.read().clone();
    guard(what, (), || call(handler.as_deref(), &ServiceChannel { ch: r, call: PhantomData }));
}

pub(super) unsafe extern "C" fn on_opened(r: *mut dap_stream_ch_t) {
    with_handler("a new service channel", r, |handler, r| {
        if let Some(handler) = handler {
            handler.opened(r);
        }
    });
}

pub(super) unsafe extern "C" fn on_closed(r: *mut dap_stream_ch_t, vpn_internal: *mut c_void) {
    // SAFETY: the C half passes NULL or ch->internal of an open channel 'S'.
    let session = unsafe { channel::of(vpn_internal) };
    with_handler("a closed service channel", r, |handler, r| {
        if let Some(handler) = handler {
            handler.closed(r, session.as_ref());
        }
    });
}

pub(super) unsafe extern "C" fn on_packet(
    r: *mut dap_stream_ch_t,
    vpn_internal: *mut c_void,
    kind: u8,
    data: *const u8,
    size: usize,
) {
    // SAFETY: the C half passes NULL or ch->internal of an open channel 'S'.
    let session = unsafe { channel::of(vpn_internal) };
    // SAFETY: the SDK's packet has `size` bytes and lives through the call.
    let data = unsafe { bytes(data, size) };
    with_handler("a packet on the service channel", r, |handler, r| match handler {
        Some(handler) => handler.packet(r, session.as_ref(), kind, data),
        None if kind == pkt::REQUEST => {
            let refusal = ServiceError { code: error_code::SERVICE_NOT_FOUND, ..ServiceError::default() };
            r.send(pkt::ERROR, &refusal.encode());
        }
        None => {}
    });
}
