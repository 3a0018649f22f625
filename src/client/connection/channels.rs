//! The channels 'S' of this node's outgoing streams, and their connections.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Connection, tunnel};
use crate::sdk::channel::{Channel, ChannelHandler};
use crate::sdk::link::Link;
use vpn_core::exchange::Event;

/// The open channels 'S' of this node's outgoing streams. A channel's connection is known once the link is up.
static OPEN: Mutex<Vec<Arc<Channel>>> = Mutex::new(Vec::new());

impl Connection {
    /// Binds the channel 'S' of this link only: a stream that was stopped while connecting may open its channels after
    /// the next connection has started.
    pub(super) fn bind(self: &Arc<Self>, link: &Link) -> bool {
        let raw = link.channel(b'S');
        let found = OPEN.lock().iter().find(|channel| !raw.is_null() && channel.raw() == raw).cloned();
        let Some(channel) = found else { return false };
        channel.set_data(Arc::clone(self) as Arc<_>);
        {
            let mut shared = self.shared.lock();
            shared.server_address = channel.address();
            shared.channel = Some(Arc::clone(&channel));
        }
        self.settings.congestion.apply(&channel);
        channel.enable();
        true
    }
}

/// Handles the client's side of channels 'S'.
pub(in crate::client) struct Channels;

impl ChannelHandler for Channels {
    fn opened(&self, channel: &Arc<Channel>) {
        OPEN.lock().push(Arc::clone(channel));
    }

    fn closed(&self, channel: &Arc<Channel>) {
        OPEN.lock().retain(|open| !Arc::ptr_eq(open, channel));
        if let Some(connection) = channel.data::<Connection>() {
            // Report the loss first, then detach: a device that is being created meanwhile either sees the loss or is
            // detached.
            connection.handle(Event::Disconnected);
            tunnel::detach(channel);
            connection.shared.lock().channel = None;
        }
    }

    fn packet(&self, channel: &Arc<Channel>, kind: u8, data: &[u8]) {
        if let Some(connection) = channel.data::<Connection>() {
            connection.packet(kind, data);
        }
    }

    fn drained(&self, channel: &Arc<Channel>) {
        if !tunnel::drained(channel) {
            channel.wake_on_drain(false);
        }
    }
}
