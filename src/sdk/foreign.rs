//! A channel 'S' that C has opened: the client's, where the part `client` is a legacy C file and the tunnel is this
//! library's.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::channel::TYPE_DATA;
use super::types::{dap_stream_ch_t, dap_stream_worker_t};
use super::visible::dap_chain_net_srv_ch_vpn;
use super::{parts, raw, worker};

/// Kept as a number: C tells nobody when the channel goes, so it is looked up for each packet.
#[derive(Debug)]
pub struct ForeignChannel {
    worker: u32,
    uuid: u64,
    stream_worker: AtomicPtr<dap_stream_worker_t>,
    usage_id: u32,
}

impl ForeignChannel {
    /// The channel of `vpn`; where it names none, that of the running connection (part `client`). None when there is
    /// none, or when it belongs to another thread than this one.
    ///
    /// # Safety
    /// `vpn` points to a VPN channel; its `ch` is NULL or a channel that is open.
    pub unsafe fn of(vpn: *const dap_chain_net_srv_ch_vpn) -> Option<ForeignChannel> {
        // SAFETY: the caller's promise.
        let (ch, usage_id) = unsafe { vpn.as_ref() }.map(|vpn| (vpn.ch, vpn.usage_id))?;
        if !ch.is_null() {
            // SAFETY: open, by the caller's promise.
            return unsafe { Self::here(ch, usage_id) };
        }
        let (ch, stream_worker) = parts::client_stream();
        // SAFETY: a stream worker lives as long as the SDK.
        if ch.is_null() || !unsafe { raw::vpn_glue_stream_worker_is_here(stream_worker) } {
            return None;
        }
        // SAFETY: the connection's channel, open as only this thread, its worker, could close it.
        unsafe { Self::here(ch, usage_id) }
    }

    /// # Safety
    /// `ch` is a channel that is open.
    unsafe fn here(ch: *mut dap_stream_ch_t, usage_id: u32) -> Option<ForeignChannel> {
        let (mut stream_worker, mut uuid) = (std::ptr::null_mut(), 0);
        // SAFETY: the caller's promise; the out pointers are writable.
        if !unsafe { raw::vpn_glue_channel_place(ch, &mut stream_worker, &mut uuid) } {
            log::warn!("a VPN channel is used on another thread than its worker's, nothing is sent on it");
            return None;
        }
        Some(ForeignChannel {
            worker: worker::current()?,
            uuid,
            stream_worker: AtomicPtr::new(stream_worker),
            usage_id,
        })
    }

    /// The worker whose thread alone can send.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// The usage that packets are sent under.
    pub fn usage_id(&self) -> u32 {
        self.usage_id
    }

    /// Sends a VPN packet; false when it was not taken: the channel is gone, this is not its worker, or `most` bytes
    /// wait in its stream already.
    pub fn send(&self, packet: &[u8], most: usize) -> bool {
        if worker::current() != Some(self.worker) {
            return false;
        }
        // SAFETY: on its worker; the stream worker lives as long as the SDK.
        let ch = unsafe { raw::vpn_glue_channel_find(self.stream_worker.load(Ordering::Relaxed), self.uuid) };
        // SAFETY: found just now, and this thread alone could close it.
        if ch.is_null() || unsafe { raw::vpn_glue_channel_pending(ch) } > most {
            return false;
        }
        // SAFETY: as above; the SDK copies the packet.
        unsafe { raw::vpn_glue_channel_send(ch, TYPE_DATA, packet.as_ptr().cast(), packet.len()) > 0 }
    }
}
