//! The client's connection: a stream that this node opens to a server.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use std::sync::LazyLock;

use super::net::Net;
use super::types::{dap_chain_node_client_t, dap_stream_ch_t, dap_stream_worker_t};
use super::{raw, worker};

/// The events of a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The stream is up and its channels are open. Called on the stream's worker, possibly before `connect` returns;
    /// therefore the event carries the link.
    Connected(&'a Arc<Link>),
    /// The connection failed, with an errno. Called on any thread.
    Failed(c_int),
    /// The connection has ended. Called on any thread.
    Disconnected,
    /// A packet on channel 'R'. Called on the stream's worker.
    ServicePacket {
        /// The packet's type.
        kind: u8,
        /// The packet's body.
        data: &'a [u8],
    },
}

/// The client's handler of a connection's events.
pub type Handler = Arc<dyn Fn(Event<'_>) + Send + Sync>;

struct Entry {
    handler: Handler,
    link: Weak<Link>,
}

/// The SDK holds a number instead of a pointer, so a late event finds no entry.
static LINKS: LazyLock<Mutex<HashMap<u64, Entry>>> = LazyLock::new(Mutex::default);

/// A connection, established or in progress. Dropping it closes it; afterwards only an event that is already running
/// may still be delivered. It is shared by Arc, so that no caller holds a lock while calling the SDK through it.
pub struct Link {
    id: u64,
    client: AtomicPtr<dap_chain_node_client_t>,
    /// The stream's worker, once the stream is up. Streams that this node opens stay on their worker.
    worker: AtomicU32,
}

impl Link {
    /// Connects, and opens the channels that the letters name, in their order. `None` if the SDK refuses at once.
    pub fn connect(net: &Net, host: &str, port: u16, channels: &str, handler: Handler) -> Option<Arc<Link>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (host, channels) = (CString::new(host).ok()?, CString::new(channels).ok()?);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link { id, client: AtomicPtr::default(), worker: AtomicU32::new(raw::NO_WORKER) });
        LINKS.lock().insert(id, Entry { handler, link: Arc::downgrade(&link) });
        // SAFETY: NUL-terminated texts, which the SDK copies; a network of the node.
        let client = unsafe { raw::vpn_glue_client_connect(net.raw(), host.as_ptr(), port, channels.as_ptr(), id) };
        // Dropping a link without a client only removes it from the list.
        link.client.store(client, Ordering::Release);
        (!client.is_null()).then_some(link)
    }

    /// Sends on a channel. Returns false if the channel does not exist, or the caller is not on the stream's worker.
    pub fn send(&self, letter: u8, kind: u8, data: &[u8]) -> bool {
        let Some(ch) = self.here(letter) else { return false };
        // SAFETY: open and on its worker; the SDK copies `data` before it returns.
        unsafe { raw::vpn_glue_channel_send(ch, kind, data.as_ptr().cast(), data.len()) > 0 }
    }

    /// Returns the number of bytes that wait to be sent; 0 if the channel does not exist, or the caller is not on the
    /// stream's worker.
    pub fn pending(&self, letter: u8) -> usize {
        // SAFETY: open and on its worker.
        self.here(letter).map_or(0, |ch| unsafe { raw::vpn_glue_channel_pending(ch) })
    }

    /// Returns the SDK's channel if there is one and the caller is on its worker: only there nothing can close it
    /// meanwhile.
    fn here(&self, letter: u8) -> Option<*mut dap_stream_ch_t> {
        if worker::current()? != self.worker.load(Ordering::Acquire) {
            return None;
        }
        let ch = self.channel(letter);
        (!ch.is_null()).then_some(ch)
    }

    /// Returns the SDK's channel, or NULL.
    pub fn channel(&self, letter: u8) -> *mut dap_stream_ch_t {
        let client = self.client.load(Ordering::Acquire);
        if client.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the connection lives until drop closes it.
        unsafe { raw::vpn_glue_client_channel(client, letter as _) }
    }

    /// Returns the SDK's stream worker, or NULL.
    pub fn stream_worker(&self) -> *mut dap_stream_worker_t {
        let client = self.client.load(Ordering::Acquire);
        if client.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the connection lives until drop closes it.
        unsafe { raw::vpn_glue_client_stream_worker(client) }
    }
}

/// Returns the addresses that a server's name had when the embedded SDK looked it up last; none of an address.
#[cfg(feature = "embedded")]
pub fn known_addresses(host: &str, port: u16) -> Vec<std::net::IpAddr> {
    embedded::addresses::known(host, port).into_iter().map(|address| address.ip()).collect()
}

impl Drop for Link {
    fn drop(&mut self) {
        LINKS.lock().remove(&self.id);
        let client = self.client.swap(ptr::null_mut(), Ordering::AcqRel);
        if !client.is_null() {
            // SAFETY: the pointer was taken out of `client`, so this is the only close.
            unsafe { raw::vpn_glue_client_close(client) };
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("id", &self.id).finish_non_exhaustive()
    }
}

pub(super) fn event(id: u64, event: Event<'_>) {
    let handler = LINKS.lock().get(&id).map(|entry| Arc::clone(&entry.handler));
    if let Some(handler) = handler {
        handler(event);
    }
}

/// Called on the stream's worker.
pub(super) fn connected(id: u64) {
    let link = LINKS.lock().get(&id).and_then(|entry| entry.link.upgrade());
    let Some(link) = link else { return };
    if link.client.load(Ordering::Acquire).is_null() {
        // The thread in `connect` is about to store the client. This thread does not wait for it, because the SDK may
        // need this worker meanwhile.
        if let Some(here) = worker::current() {
            worker::exec(here, move || connected(id));
        }
        return;
    }
    link.worker.store(worker::current().unwrap_or(raw::NO_WORKER), Ordering::Release);
    event(id, Event::Connected(&link));
}
