//! The part `client-tun` as the connection uses it: this library's, or the legacy C file in its place.

#[cfg(not(feature = "client-tun"))]
pub(super) use foreign::*;
#[cfg(feature = "client-tun")]
pub(super) use own::*;

#[cfg(feature = "client-tun")]
mod own {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::tunnel::{self, Settings};
    pub(in crate::client) use super::super::tunnel::{delete, detach, dropped, lease, set_readable, totals};
    use crate::sdk::channel::Channel;
    use crate::wire::AddrReply;

    /// Makes the device that a server's reply asks for, on the channel's worker.
    pub(in crate::client) fn create(
        channel: &Arc<Channel>,
        usage_id: u32,
        reply: &AddrReply,
        mtu: u16,
        _packet: &[u8],
    ) -> Result<(), String> {
        let mut settings = Settings::from_reply(reply);
        settings.mtu = settings.mtu.min(mtu);
        settings.worker = channel.worker();
        settings.channel = Some(Arc::clone(channel));
        settings.usage_id = usage_id;
        tunnel::create(&settings).map_err(|error| error.to_string())
    }

    pub(in crate::client) fn deliver(_channel: &Mutex<Option<Arc<Channel>>>, packet: &[u8]) {
        tunnel::deliver(packet);
    }
}

#[cfg(not(feature = "client-tun"))]
mod foreign {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use crate::client::LeaseInfo;
    use crate::forward::{Counters, DropCause, Totals};
    use crate::sdk::channel::Channel;
    use crate::sdk::parts;
    use crate::wire::AddrReply;

    pub(in crate::client) fn create(
        channel: &Arc<Channel>,
        _usage_id: u32,
        _reply: &AddrReply,
        _mtu: u16,
        packet: &[u8],
    ) -> Result<(), String> {
        match parts::tun_leased(channel, &mut packet.to_vec()) {
            0 => Ok(()),
            code => Err(format!("ch_sf_tun_addr_leased returned {code}")),
        }
    }

    pub(in crate::client) fn deliver(channel: &Mutex<Option<Arc<Channel>>>, packet: &[u8]) {
        let channel = channel.lock().clone();
        if let Some(channel) = channel {
            parts::tun_deliver(&channel, &mut packet.to_vec());
        }
    }

    pub(in crate::client) fn delete() {
        parts::tun_delete();
    }

    /// The legacy part looks for the running connection with each packet.
    pub(in crate::client) fn detach() {}

    pub(in crate::client) fn set_readable(_readable: bool) {}

    /// The legacy part counts nothing.
    pub(in crate::client) fn dropped(cause: DropCause) {
        log::trace!("packet from the server dropped: {}", cause.name());
    }

    pub(in crate::client) fn lease() -> Option<LeaseInfo> {
        None
    }

    pub(in crate::client) fn totals() -> Totals {
        Counters::new(1).totals()
    }
}
