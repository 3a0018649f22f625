//! The part `client-tun` as the connection uses it: this library's, or the legacy C file in its place.

#[cfg(not(feature = "client-tun"))]
pub(super) use foreign::*;
#[cfg(feature = "client-tun")]
pub(super) use own::*;

#[cfg(feature = "client-tun")]
mod own {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::super::device::{self, Routes, UplinkChannel};
    pub(in crate::client) use super::super::device::{
        delete, deliver, deliver_all, detach, drained, dropped, exists, has_failed, health, is_clients, lease,
        measured, own, routed, suspend, totals, trim,
    };
    use crate::client::settings::Settings;
    use crate::sdk::channel::Channel;
    use vpn_core::exchange::Grant;

    /// Leaves these addresses of the server to the host's own routes until the next connection. Blocks: do not call it on a
    /// worker.
    pub(in crate::client) fn leave_out(servers: &[IpAddr]) -> Result<(), String> {
        device::leave_out(servers).map_err(|error| error.to_string())
    }

    /// Creates the device for the offer of a server with this outer address. Blocks: do not call it on a worker.
    pub(in crate::client) fn create(
        channel: &Arc<Channel>,
        grant: &Grant,
        own: &Settings,
        server: Option<IpAddr>,
    ) -> Result<(), String> {
        let mut settings = device::Settings::from_offer(&grant.offer, own.mtu);
        settings.offload = own.offload;
        settings.allow_source = own.allow_source.clone();
        settings.routes = Routes {
            networks: own.routes.clone(),
            exclude: own.exclude_routes.clone(),
            servers: server.into_iter().collect(),
            block_ipv6: own.block_ipv6,
        };
        settings.worker = channel.worker();
        settings.uplink = Some(UplinkChannel::Own(Arc::clone(channel)));
        settings.usage_id = grant.usage_id;
        device::create(&settings).map_err(|error| error.to_string())
    }
}

#[cfg(not(feature = "client-tun"))]
mod foreign {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use parking_lot::Mutex;

    use crate::client::LeaseInfo;
    use crate::client::Routed;
    use crate::client::judge::{Own, netlink};
    use crate::client::settings::Settings;
    use crate::client::watch::Health;
    use crate::sdk::channel::Channel;
    use crate::sdk::{parts, worker};
    use vpn_core::exchange::Grant;
    use vpn_core::forward::{Counters, DropCause, Totals};
    use vpn_core::wire::inspect;

    /// The time limit of the legacy part.
    const LEGACY_TIMEOUT: Duration = Duration::from_secs(10);

    /// The address that the legacy part got last. Its device stays when the connection is lost, and has it.
    static GRANTED: Mutex<Option<Ipv4Addr>> = Mutex::new(None);

    /// The legacy part expects to be called on the channel's worker. It routes the tunnel's subnet alone.
    pub(in crate::client) fn create(
        channel: &Arc<Channel>,
        grant: &Grant,
        own: &Settings,
        _server: Option<IpAddr>,
    ) -> Result<(), String> {
        if !own.routes.is_empty() {
            return Err("[vpn_client] routes needs this library's part client-tun; expected none".into());
        }
        *GRANTED.lock() = Some(grant.offer.addr);
        let (done, result) = mpsc::channel();
        let (channel, mut packet) = (Arc::clone(channel), grant.packet.clone());
        if let Some(worker) = channel.worker() {
            worker::exec(worker, move || {
                // The send fails if the wait has timed out.
                let _ = done.send(parts::tun_leased(&channel, &mut packet));
            });
        }
        match result.recv_timeout(LEGACY_TIMEOUT) {
            Ok(0) => Ok(()),
            Ok(code) => Err(format!("ch_sf_tun_addr_leased returned {code}")),
            Err(_) => Err("the stream's worker did not call ch_sf_tun_addr_leased".into()),
        }
    }

    pub(in crate::client) fn deliver(packet: &[u8]) {
        let written = inspect(packet)
            .map_err(DropCause::from)
            .and_then(|_| if parts::tun_deliver(packet) { Ok(()) } else { Err(DropCause::TunWrite) });
        if let Err(cause) = written {
            dropped(cause);
        }
    }

    /// Drops the records: this client does not announce bundles, so no server may send one.
    pub(in crate::client) fn deliver_all<R>(records: impl Iterator<Item = R>) {
        records.for_each(|_| dropped(DropCause::UnexpectedOp));
    }

    /// Does nothing: only the tunnel's subnet is routed into the legacy part's device.
    pub(in crate::client) fn leave_out(_servers: &[IpAddr]) -> Result<(), String> {
        Ok(())
    }

    pub(in crate::client) fn delete() {
        parts::tun_delete();
        *GRANTED.lock() = None;
    }

    /// Removes the device: the legacy part makes another for the next connection.
    pub(in crate::client) fn suspend() {
        delete();
    }

    /// The legacy part does not name its device, so this looks for the one with the address of the last lease.
    pub(in crate::client) fn own() -> Option<Own> {
        let granted = (*GRANTED.lock())?;
        Own::with_address(granted, &netlink().ok()?.addresses().ok()?)
    }

    /// Returns false: the legacy part has no device other than the one that it creates.
    pub(in crate::client) fn exists() -> bool {
        false
    }

    /// Returns false, as [`exists`].
    pub(in crate::client) fn is_clients() -> bool {
        false
    }

    /// The legacy part does not report its device's state.
    pub(in crate::client) fn has_failed() -> bool {
        false
    }

    /// As [`has_failed`].
    pub(in crate::client) fn health() -> Health {
        Health::Up
    }

    /// The legacy part looks up the running connection for each packet.
    pub(in crate::client) fn detach(_channel: &Arc<Channel>) {}

    /// Returns false: the legacy part sends what it reads, and nothing waits for the stream.
    pub(in crate::client) fn drained(_channel: &Arc<Channel>) -> bool {
        false
    }

    pub(in crate::client) fn trim() {}

    /// The legacy part measures nothing.
    pub(in crate::client) fn measured() -> Option<(Duration, Option<Duration>)> {
        None
    }

    /// The legacy part routes nothing beside the subnet.
    pub(in crate::client) fn routed() -> Option<Routed> {
        None
    }

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
