//! A node client: one connection to a server's stream, from dialling to the last callback.
//!
//! Callbacks, each at most once: first `connected`, or `error` if the connection fails; then `disconnected`; last
//! `delete`. A client that is closed while dialling gets `delete` alone.

use crate::addresses;
use crate::ctypes::{dap_client, dap_stream_ch, dap_stream_worker};
use crate::cview::client::{self as callbacks, CNodeClient, Handle};
use crate::cview::packets::Packet;
use crate::cview::stream::StreamView;
use crate::reactor::{Reactor, Shared, moves};
use crate::stream::client_end::ClientEnd;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ptr;
use std::sync::{Arc, Weak};
use vpn_core::names;

/// All node clients, by the address of the struct that C holds.
static CLIENTS: Mutex<BTreeMap<usize, Arc<NodeClient>>> = Mutex::new(BTreeMap::new());

/// The node client with the struct at an address, which is compared, never followed.
pub(crate) fn find(address: usize) -> Option<Arc<NodeClient>> {
    CLIENTS.lock().get(&address).cloned()
}

/// The node client with the connection at an address, which is compared, never followed.
pub(crate) fn find_by_handle(handle: *mut dap_client) -> Option<Arc<NodeClient>> {
    CLIENTS.lock().values().find(|client| client.handle.as_ptr() == handle).cloned()
}

/// All node clients whose `delete` has not been called.
pub(crate) fn all() -> Vec<Arc<NodeClient>> {
    CLIENTS.lock().values().cloned().collect()
}

/// Drains the registry; the caller decides when the clients are freed.
pub(crate) fn take_all() -> impl Sized {
    std::mem::take(&mut *CLIENTS.lock())
}

/// Begins an attempt at another address, on a thread of its own; false if that is not possible.
type Another = Box<dyn FnOnce(Arc<NodeClient>) -> bool + Send>;

/// Any thread.
pub(crate) struct NodeClient {
    weak_self: Weak<NodeClient>,
    pub(crate) view: CNodeClient,
    /// What `client->client` points to.
    pub(crate) handle: Handle,
    host: String,
    port: u16,
    channels: Vec<u8>,
    state: Mutex<State>,
    another: Mutex<Option<Another>>,
}

struct State {
    phase: Phase,
    /// `close_mt` was called; the client's current owner deletes it.
    close: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The connecting thread owns the client.
    Dialling,
    /// A stream in its handshake owns the client.
    Joining { stream: u64 },
    /// A stream owns the client, and `connected` has been called.
    Up { stream: u64 },
    /// `error` and `disconnected` are being called.
    Ending,
    /// Has no owner: waits for `close_mt`.
    Down,
    /// `delete` has been called, or is about to be.
    Deleted,
}

impl NodeClient {
    pub(crate) fn new(view: CNodeClient, handle: Handle, host: String, port: u16, channels: Vec<u8>) -> Arc<Self> {
        let state = Mutex::new(State { phase: Phase::Dialling, close: false });
        let client = Arc::new_cyclic(|weak_self| NodeClient {
            weak_self: Weak::clone(weak_self),
            view,
            handle,
            host,
            port,
            channels,
            state,
            another: Mutex::default(),
        });
        CLIENTS.lock().insert(client.view.addr(), Arc::clone(&client));
        client
    }

    /// Removes the client from the registry: C cannot name it any more.
    pub(crate) fn unregister(&self) {
        CLIENTS.lock().remove(&self.view.addr());
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    // --- the connecting thread ---

    /// False once the connection is no longer wanted.
    pub(crate) fn is_dialling(&self) -> bool {
        self.state.lock().phase == Phase::Dialling
    }

    /// Gives the client to a stream; false if it was closed meanwhile.
    pub(crate) fn join(&self, stream: u64) -> bool {
        let mut state = self.state.lock();
        let joins = state.phase == Phase::Dialling;
        if joins {
            state.phase = Phase::Joining { stream };
        }
        joins
    }

    /// Sets what follows when the stream's handshake meets silence.
    pub(crate) fn set_another(&self, another: Another) {
        *self.another.lock() = Some(another);
    }

    /// The connection attempt failed.
    pub(crate) fn dial_failed(&self, errno: i32) {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Dialling {
                return;
            }
            state.phase = Phase::Ending;
        }
        callbacks::error(&self.view, errno);
        callbacks::disconnected(&self.view);
        self.ended();
    }

    // --- any thread ---

    /// Ends the client: `delete` follows on a worker or on the connecting thread.
    pub(crate) fn close(self: &Arc<Self>, reactor: &Arc<Reactor>) {
        let mut state = self.state.lock();
        if state.close {
            return;
        }
        state.close = true;
        match state.phase {
            Phase::Joining { stream } | Phase::Up { stream } => {
                drop(state);
                if let Some(owner) = reactor.owner(stream).or(reactor.workers.first()) {
                    owner.post(Box::new(move |worker| moves::remove_anywhere(worker, stream)));
                }
            }
            Phase::Dialling | Phase::Down => {
                state.phase = Phase::Deleted;
                drop(state);
                let client = Arc::clone(self);
                if let Some(worker) = reactor.workers.first() {
                    worker.post(Box::new(move |_| client.delete()));
                }
            }
            // The thread that is calling the callbacks checks `close` afterwards.
            Phase::Ending | Phase::Deleted => {}
        }
    }

    /// The channel with a letter; NULL while not connected.
    pub(crate) fn channel(&self, letter: u8) -> *mut dap_stream_ch {
        self.handle.channel(letter)
    }

    /// The stream's worker; NULL while not connected.
    pub(crate) fn stream_worker(&self, reactor: &Reactor) -> *mut dap_stream_worker {
        let stream = match self.state.lock().phase {
            Phase::Up { stream } => stream,
            _ => return ptr::null_mut(),
        };
        reactor.owner(stream).map_or(ptr::null_mut(), |worker: &Arc<Shared>| worker.view.stream_worker.as_ptr())
    }

    /// Called after `disconnected`: waits for `close`, or deletes the client if `close` has come.
    fn ended(&self) {
        {
            let mut state = self.state.lock();
            if !state.close {
                state.phase = Phase::Down;
                return;
            }
            state.phase = Phase::Deleted;
        }
        self.delete();
    }

    /// Goes back to dialling if the stream's handshake met silence or was cut, and there is another address.
    fn tries_another(&self, errno: i32) -> bool {
        let Some(another) = self.another.lock().take() else { return false };
        let Some(client) = self.weak_self.upgrade() else { return false };
        {
            let mut state = self.state.lock();
            let is_silent = matches!(errno, libc::ETIMEDOUT | libc::ECONNRESET | libc::EPIPE);
            if state.close || !is_silent || !matches!(state.phase, Phase::Joining { .. }) {
                return false;
            }
            state.phase = Phase::Dialling;
        }
        if another(client) {
            return true;
        }
        // Without a thread this failure is the last; a close meanwhile has ended the client already.
        self.state.lock().phase != Phase::Dialling
    }

    fn delete(&self) {
        callbacks::delete(&self.view);
        self.unregister();
    }
}

impl ClientEnd for NodeClient {
    /// "host:port" in its one spelling, the key of the server's pin.
    fn address(&self) -> String {
        names::server(&self.host, self.port)
    }

    /// The letters of the channels to open, in order.
    fn channels(&self) -> &[u8] {
        &self.channels
    }

    /// The stream is open.
    fn up(&self, stream: u64, peer: SocketAddr, view: &StreamView) {
        {
            let mut state = self.state.lock();
            if state.close {
                return;
            }
            state.phase = Phase::Up { stream };
        }
        drop(self.another.lock().take());
        addresses::found(&self.host, self.port, peer);
        self.handle.set_stream(view);
        callbacks::connected(&self.view);
    }

    /// The stream is gone; `errno` gives the reason if the client was never up.
    fn lost(&self, errno: i32) {
        self.handle.clear_stream();
        if self.tries_another(errno) {
            return;
        }
        let (was_up, close) = {
            let mut state = self.state.lock();
            let was_up = matches!(state.phase, Phase::Up { .. });
            state.phase = Phase::Ending;
            (was_up, state.close)
        };
        if was_up {
            callbacks::disconnected(&self.view);
        } else if !close {
            callbacks::error(&self.view, errno);
            callbacks::disconnected(&self.view);
        }
        self.ended();
    }

    /// The client has been closed, but is not deleted yet.
    fn is_closed(&self) -> bool {
        self.state.lock().close
    }

    fn service_packet(&self, ch: *mut dap_stream_ch, packet: &Packet<'_>) {
        callbacks::service_packet(&self.view, ch, packet);
    }
}
