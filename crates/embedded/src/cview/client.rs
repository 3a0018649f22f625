//! A node client and its callbacks, as C sees them.
//!
//! Each call is made with nothing borrowed or locked; the client is alive until `delete` has returned.

use super::owned::CShared;
use super::packets::Packet;
use super::stream::StreamView;
use crate::ctypes::*;
use parking_lot::Mutex;
use std::ptr;

/// What C sees of a node client.
pub(crate) type CNodeClient = CShared<dap_chain_node_client>;

/// The connection of a node client: the target of a `dap_client_t *`.
pub(crate) struct Handle(Box<Connection>);

struct Connection {
    channels: Mutex<Vec<(u8, ChannelAddress)>>,
}

/// A channel's address that moves between threads.
#[derive(Clone, Copy)]
struct ChannelAddress(*mut dap_stream_ch);

// SAFETY: never followed here; C follows it on the channel's worker.
unsafe impl Send for ChannelAddress {}

impl Handle {
    pub(crate) fn new() -> Self {
        Handle(Box::new(Connection { channels: Mutex::default() }))
    }

    pub(crate) fn as_ptr(&self) -> *mut dap_client {
        ptr::from_ref(&*self.0).cast_mut().cast()
    }

    pub(crate) fn set_stream(&self, view: &StreamView) {
        let channels = view.channels.iter().map(|channel| (channel.letter, ChannelAddress(channel.view.as_ptr())));
        *self.0.channels.lock() = channels.collect();
    }

    pub(crate) fn clear_stream(&self) {
        self.0.channels.lock().clear();
    }

    pub(crate) fn channel(&self, letter: u8) -> *mut dap_stream_ch {
        let channels = self.0.channels.lock();
        channels.iter().find(|(known, _)| *known == letter).map_or(ptr::null_mut(), |(_, address)| address.0)
    }
}

pub(crate) fn connected(client: &CNodeClient) {
    call(client, |callbacks| callbacks.connected);
}

pub(crate) fn disconnected(client: &CNodeClient) {
    call(client, |callbacks| callbacks.disconnected);
}

pub(crate) fn delete(client: &CNodeClient) {
    call(client, |callbacks| callbacks.r#delete);
}

pub(crate) fn error(client: &CNodeClient, errno: i32) {
    // SAFETY: `callbacks` and `callbacks_arg` never change.
    let fields = unsafe { client.get() };
    if let Some(callback) = fields.callbacks.error {
        // SAFETY: C gave function and argument for this client.
        unsafe { callback(client.as_ptr(), errno, fields.callbacks_arg) };
    }
}

fn call(
    client: &CNodeClient,
    which: impl FnOnce(&dap_chain_node_client_callbacks) -> dap_chain_node_client_callback_t,
) {
    // SAFETY: `callbacks` and `callbacks_arg` never change.
    let fields = unsafe { client.get() };
    if let Some(callback) = which(&fields.callbacks) {
        // SAFETY: C gave function and argument for this client.
        unsafe { callback(client.as_ptr(), fields.callbacks_arg) };
    }
}

/// Passes a packet of channel 'R' to the client's owner. Called on the stream's worker.
pub(crate) fn service_packet(client: &CNodeClient, ch: *mut dap_stream_ch, packet: &Packet<'_>) {
    // SAFETY: `callbacks_arg` never changes, and C sets the callback on this worker or before the client is up.
    let fields = unsafe { client.get() };
    if let Some(callback) = fields.notify_callbacks.srv_pkt_in.get() {
        // SAFETY: C set the callback for this client, which its stream keeps alive.
        unsafe { callback(ch.cast(), packet.kind, packet.whole, fields.callbacks_arg) };
    }
}
