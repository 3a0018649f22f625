//! What C may read of the service: its sessions and released addresses, and the TUN socket of each worker.

use std::sync::Arc;

use crate::sdk::channel::Channel;
use crate::sdk::service::{ListedSession, Service};
use crate::sdk::types::dap_chain_net_srv_t;
use crate::sdk::visible::dap_chain_net_srv_vpn_tun_socket;
use crate::sdk::worker;

use super::session::Session;
use super::{STOP_TIMEOUT, Server};

/// Upper bound on the released addresses that C sees: a worker copies them, and delays its other work meanwhile.
const SNAPSHOT_RELEASED_MAX: usize = 4096;

impl Server {
    pub(super) fn service_raw(&self) -> *mut dap_chain_net_srv_t {
        self.service.get().map_or(std::ptr::null_mut(), Service::raw)
    }

    pub(super) fn tun_visible(&self, worker: Option<u32>) -> *mut dap_chain_net_srv_vpn_tun_socket {
        let sockets = self.sockets.lock();
        let socket = worker.and_then(|worker| sockets.iter().find(|socket| socket.worker() == worker));
        socket.map_or(std::ptr::null_mut(), |socket| socket.visible())
    }

    /// Returns what C may read of a session; `None` without a lease.
    fn listed(&self, channel: &Channel) -> Option<ListedSession> {
        let session = channel.data::<Session>()?;
        let (address, usage_id, is_allowed) = (session.leased()?, session.usage_id(), session.is_allowed());
        let tun_socket = self.tun_visible(channel.worker());
        Some(ListedSession { usage_id, address, is_allowed, tun_socket })
    }

    /// Clears the lists that C reads, on worker 0, the only worker on which C may read them.
    pub(super) fn clear_c_snapshot(self: &Arc<Self>) {
        let (done, cleared) = crossbeam::channel::bounded(1);
        let server = Arc::clone(self);
        let accepted = worker::exec(0, move || {
            if let Some(service) = server.service.get() {
                service.publish_snapshot(&[], std::iter::empty());
            }
            drop(server);
            // The send fails if the wait has timed out.
            let _ = done.send(());
        });
        if accepted && worker::current().is_none() && cleared.recv_timeout(STOP_TIMEOUT).is_err() {
            log::debug!("worker 0 is busy and clears the lists for C later");
        }
    }

    /// Publishes the sessions with a lease and the released addresses to C, on worker 0.
    pub(super) fn publish_c_snapshot(&self) {
        let Some(service) = self.service.get() else { return };
        let channels = self.channels();
        let sessions: Vec<_> = channels.iter().filter_map(|channel| self.listed(channel)).collect();
        let released: Vec<_> = self.leases.lock().pool().released().take(SNAPSHOT_RELEASED_MAX).collect();
        service.publish_snapshot(&sessions, released.into_iter());
    }
}
