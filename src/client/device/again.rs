//! The device that is there already: it is taken from one connection and given to the next.

use std::sync::Arc;

use super::{DELETE_TIMEOUT, Path, Plan, SLOT, Settings, Tunnel, TunnelError, attach, current};
use crate::sdk::tun_socket::{TunHandler, TunSocket};
use crate::sdk::worker;
use std::os::fd::AsFd;

/// Takes the device out of its worker's loop, until [`create`] gives it to another connection. The host's packets wait
/// in the device's queue. Blocks: do not call it on a worker.
pub(in crate::client) fn suspend() {
    let Some(_change) = worker::serialise(&SLOT.change) else { return log::warn!("{}", TunnelError::Busy) };
    release_queue();
}

/// What [`release_queue`] has taken from the device; nothing if the device waited for a connection.
pub(super) struct Taken {
    path: Option<Arc<Path>>,
    socket: Option<Arc<TunSocket>>,
    /// The worker uses the queue no more.
    is_released: bool,
}

/// Takes the device out of its worker's loop.
fn release_queue() -> Taken {
    let socket = SLOT.tunnel.lock().as_mut().and_then(|tunnel| tunnel.socket.take());
    let path = SLOT.path.swap(None);
    if let Some(path) = &path {
        *SLOT.early.lock() = Some(Arc::clone(&path.counters));
    }
    let is_released = socket.as_ref().is_none_or(|socket| socket.remove(DELETE_TIMEOUT));
    if !is_released {
        log::debug!("the tunnel's worker is busy and releases the queue later");
    }
    Taken { path, socket, is_released }
}

/// Gives the device its old path again, because no new one could be made. A worker that has not released the queue yet
/// does so before it takes it back.
pub(super) fn put_back(taken: Taken) {
    let Taken { path: Some(path), socket: Some(old), .. } = taken else { return };
    let handler = Arc::clone(&path) as Arc<dyn TunHandler>;
    let Some(socket) = TunSocket::add(path.queue.as_fd(), old.worker(), handler).map(Arc::new) else {
        return log::warn!("the tunnel device has lost its worker, and carries nothing until the next connection");
    };
    {
        let mut current = SLOT.tunnel.lock();
        let Some(tunnel) = current.as_mut() else { return };
        tunnel.socket = Some(socket);
        SLOT.path.store(Some(Arc::clone(&path)));
    }
    *SLOT.early.lock() = None;
    // A connection that ended meanwhile found no path to detach its channel from.
    worker::exec(old.worker(), move || path.uplink.detach_closed());
}

/// Connects the existing device with the channel in the settings, if it is up and has these settings otherwise; returns
/// false if it has not. `taken` is what the device has lost for that.
pub(super) fn connect_anew(settings: &Settings, plan: &Plan, taken: &mut Option<Taken>) -> Result<bool, TunnelError> {
    let Some(device) = current() else { return Ok(false) };
    let is_up = matches!(device.is_up(), Ok(Some(true)));
    let fits = |tunnel: &&Tunnel| {
        let lease = &tunnel.lease;
        // On its worker the old socket cannot be waited for.
        tunnel.socket.as_ref().is_none_or(|socket| worker::current() != Some(socket.worker()))
            && (lease.addr, lease.gateway, lease.mtu) == (settings.addr, settings.gateway, settings.mtu)
            && (device.prefix(), tunnel.queue.has_offload()) == (settings.prefix, settings.offload)
    };
    let queue = SLOT.tunnel.lock().as_ref().filter(fits).map(|tunnel| Arc::clone(&tunnel.queue));
    let Some(queue) = queue.filter(|_| is_up) else { return Ok(false) };
    if !taken.insert(release_queue()).is_released {
        return Ok(false);
    }
    let (path, socket) = attach(settings, plan, &queue)?;
    let mut current = SLOT.tunnel.lock();
    if let Some(tunnel) = current.as_mut() {
        tunnel.socket = Some(socket);
        tunnel.is_clients = settings.is_clients();
        SLOT.path.store(Some(path));
    }
    Ok(true)
}
