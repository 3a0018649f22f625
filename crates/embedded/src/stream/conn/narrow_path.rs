//! Paths that lose full packets without a word ([`host::narrow_path`]). The handshake has full packets both ways, so it
//! shows such a path to both ends. What becomes of a path later is the VPN's to notice.

use super::{Phase, registry};
use crate::cview::kernel::send_queue;
use crate::reactor::Worker;
use host::narrow_path::narrow;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use std::rc::Rc;
use std::time::Duration;

/// How long output of the handshake may stay unacknowledged. The kernel has sent it again by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches a connection until its handshake is complete. If the peer acknowledges nothing, routers may fragment its
/// packets from then on, or they become smaller: no router of IPv6 fragments.
pub(super) fn watch(worker: &Worker, uuid: u64) {
    worker.timers.once(PATIENCE, move |worker: &Rc<Worker>| {
        let Some(conn) = registry::find(uuid).filter(|conn| conn.phase.get() != Phase::Open) else { return };
        if send_queue(&conn.io) == 0 {
            return watch(worker, uuid);
        }
        let peer = conn.peer.ip().to_canonical();
        let result = match peer.is_ipv4() {
            true => set_ip_mtu_discover(&*conn.io, Ipv4PathMtuDiscovery::DONT).map_err(Into::into),
            false => narrow(peer),
        };
        match result {
            Ok(()) => log::debug!("the path to {peer} loses packets; it is taken for a narrow one"),
            Err(error) => {
                log::debug!("the path to {peer} loses packets, and cannot be taken for a narrow one: {error}")
            }
        }
    });
}
