//! A channel 'S' that C opened: the client's, if the part `client` is a legacy C file and `client-tun` is this
//! library's.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::channel::TYPE_DATA;
use super::types::{dap_stream_ch_t, dap_stream_worker_t};
use super::visible::dap_chain_net_srv_ch_vpn;
use super::{parts, raw, worker};

/// A channel that C owns, identified by its uuid. C does not report its end, so each packet looks it up.
#[derive(Debug)]
pub struct ExternalChannel {
    worker: u32,
    uuid: u64,
    stream_worker: AtomicPtr<dap_stream_worker_t>,
    usage_id: u32,
}

impl ExternalChannel {
    /// Returns the channel of `vpn`, or that of the running connection (part `client`) if `vpn` has none. `None`
    /// without a channel, or if its worker is not the calling thread.
    ///
    /// # Safety
    /// `vpn` points to a VPN channel; its `ch` is NULL or an open channel.
    pub unsafe fn of(vpn: *const dap_chain_net_srv_ch_vpn) -> Option<ExternalChannel> {
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
        // SAFETY: the connection's channel; it is open, because only this thread, its worker, closes it.
        unsafe { Self::here(ch, usage_id) }
    }

    /// # Safety
    /// `ch` is an open channel.
    unsafe fn here(ch: *mut dap_stream_ch_t, usage_id: u32) -> Option<ExternalChannel> {
        let (mut stream_worker, mut uuid) = (std::ptr::null_mut(), 0);
        // SAFETY: the caller's promise; the out pointers are writable.
        if !unsafe { raw::vpn_glue_channel_place(ch, &mut stream_worker, &mut uuid) } {
            log::warn!("a VPN channel is used on a thread other than its worker's; nothing is sent on it");
            return None;
        }
        Some(ExternalChannel {
            worker: worker::current()?,
            uuid,
            stream_worker: AtomicPtr::new(stream_worker),
            usage_id,
        })
    }

    /// Returns the only worker that can send.
    pub fn worker(&self) -> u32 {
        self.worker
    }

    /// Returns the usage under which packets are sent.
    pub fn usage_id(&self) -> u32 {
        self.usage_id
    }

    /// Sends a VPN packet. Returns false if the channel is closed, this is not its worker, or its stream's queue
    /// already has `most` bytes.
    pub fn send(&self, packet: &[u8], most: usize) -> bool {
        if worker::current() != Some(self.worker) {
            return false;
        }
        // SAFETY: on its worker; the stream worker lives as long as the SDK.
        let ch = unsafe { raw::vpn_glue_channel_find(self.stream_worker.load(Ordering::Relaxed), self.uuid) };
        // SAFETY: it was found just now, and only this thread closes it.
        if ch.is_null() || unsafe { raw::vpn_glue_channel_pending(ch) } > most {
            return false;
        }
        // SAFETY: as above; the SDK copies the packet.
        unsafe { raw::vpn_glue_channel_send(ch, TYPE_DATA, packet.as_ptr().cast(), packet.len()) > 0 }
    }
}
