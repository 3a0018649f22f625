//! The leases as `vpn_stat` shows them, and the end of one by the operator.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::sdk::channel::Channel;
use crate::sdk::worker;
use vpn_core::lease::Entry;

use super::session::Session;
use super::{SERVER, Server};

/// An address that is somebody's.
#[derive(Clone, Debug)]
pub(crate) struct LeaseInfo {
    pub(crate) address: Ipv4Addr,
    pub(crate) state: LeaseState,
    /// It is one client's alone.
    pub(crate) is_static: bool,
    /// The hash of the client's key, where it is known: a static lease's, or the one that the session's client has named.
    pub(crate) client: Option<[u8; 32]>,
    /// How long it has been in this state, without the time in which the service did not run; `None` if it never changed.
    pub(crate) lasts: Option<Duration>,
    /// Of a leased one: the client's host and port, and the number of its usage.
    pub(crate) session: Option<(String, u32)>,
}

/// Whether a client has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// A session has it.
    Leased,
    /// It is kept for the client that had it.
    Kept,
    /// It waits for the client that it is reserved for.
    Reserved,
}

/// Why a session cannot be dropped.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DropError {
    /// There is no service.
    #[error("the VPN service is not running")]
    NotRunning,
    /// No client can have the address.
    #[error("{0} is no address of a client; expected one of {1} to {2}")]
    Unknown(Ipv4Addr, Ipv4Addr, Ipv4Addr),
    /// No client has it now.
    #[error("no session has {0}")]
    NotLeased(Ipv4Addr),
}

/// Returns the leases, in the order of their addresses; `None` if the service does not run.
pub(crate) fn leases() -> Option<Vec<LeaseInfo>> {
    let server = SERVER.lock().clone()?;
    Some(server.lease_list())
}

/// Ends the session that has an address. Returns how its client is named in the log.
pub(crate) fn drop_session(address: Ipv4Addr) -> Result<String, DropError> {
    let server = SERVER.lock().clone().ok_or(DropError::NotRunning)?;
    server.drop_session(address)
}

impl Server {
    fn lease_list(&self) -> Vec<LeaseInfo> {
        let entries: Vec<_> = {
            let leases = self.leases.lock();
            let entry = |(address, entry)| {
                (address, entry, leases.since(address), leases.holder(address).map(|owner| owner.channel()))
            };
            leases.pool().entries().map(entry).collect()
        };
        let now = self.now();
        let info = |(address, entry, since, channel): (_, _, Option<Duration>, Option<Arc<Channel>>)| {
            let session = channel.as_ref().and_then(|channel| channel.data::<Session>());
            let (state, is_static, lasts) = match entry {
                Entry::Leased { is_reserved } => {
                    (LeaseState::Leased, is_reserved, since.map(|since| now.saturating_sub(since)))
                }
                Entry::Kept { ago } => (LeaseState::Kept, false, Some(ago)),
                Entry::Reserved => (LeaseState::Reserved, true, None),
            };
            let of_static = || self.settings().static_leases.key_of(address).filter(|_| is_static);
            LeaseInfo {
                address,
                state,
                is_static,
                client: of_static().or_else(|| session.and_then(Session::client_key)),
                lasts,
                session: session.map(|session| (session.journal.peer().to_owned(), session.usage_id())),
            }
        };
        entries.into_iter().map(info).collect()
    }

    fn drop_session(&self, address: Ipv4Addr) -> Result<String, DropError> {
        let subnet = &self.subnet;
        if !subnet.is_for_clients(address) {
            let (first, last) = subnet.clients();
            return Err(DropError::Unknown(address, first, last));
        }
        let not_leased = || DropError::NotLeased(address);
        let channel = self.leases.lock().holder(address).map(|owner| owner.channel()).ok_or_else(not_leased)?;
        let session = channel.data::<Session>().ok_or_else(not_leased)?;
        let who = session.who().to_string();
        session.journal.ends("the operator has dropped it");
        // A stream that moves between two workers closes on arrival.
        session.drop_on_arrival();
        if let Some(worker) = channel.worker() {
            let channel = Arc::clone(&channel);
            worker::exec(worker, move || channel.close());
        }
        Ok(who)
    }
}
