//! Paths that lose full packets without a word, because a router's "fragmentation needed" does not arrive (RFC 2923, 2.1).
//!
//! The kernel would send such a packet again until the connection fails: unless `net.ipv4.tcp_mtu_probing` is set, it
//! never tries a smaller one. The handshake has full packets both ways, so it shows such a path to both ends: packets that
//! may be fragmented get through it.

use super::{Phase, registry};
use crate::cview::kernel::send_queue;
use crate::reactor::Worker;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use std::rc::Rc;
use std::time::Duration;

/// How long output of the handshake may stay unacknowledged. The kernel has sent it again by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches a connection until its handshake is complete, and allows routers to fragment its packets from then on if the
/// peer acknowledges nothing. That has no effect on IPv6.
pub(super) fn watch(worker: &Worker, uuid: u64) {
    worker.timers.once(PATIENCE, move |worker: &Rc<Worker>| {
        let Some(conn) = registry::find(uuid).filter(|conn| conn.phase.get() != Phase::Open) else { return };
        if send_queue(&conn.io) == 0 {
            return watch(worker, uuid);
        }
        match set_ip_mtu_discover(&*conn.io, Ipv4PathMtuDiscovery::DONT) {
            Ok(()) => log::debug!("the path to {} loses packets; routers may fragment them", conn.peer),
            Err(error) => log::debug!("cannot set a connection's IP_MTU_DISCOVER: {error}"),
        }
    });
}
