//! systemd-resolved, by its D-Bus interface org.freedesktop.resolve1(5).
//!
//! The tunnel's link gets the name servers and the routing domain `~.`: every name is asked there, and the servers of other
//! links only for domains of their own. resolved forgets a link's settings when the link goes, so that nothing outlives a
//! process that is killed.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::Duration;

use zbus::Connection;
use zbus::connection::Builder;

use crate::threads;

const SERVICE: &str = "org.freedesktop.resolve1";
const MANAGER: &str = "/org/freedesktop/resolve1";
const INTERFACE: &str = "org.freedesktop.resolve1.Manager";
const BUS: &str = "org.freedesktop.DBus";
/// The address family of a server, AF_INET.
const IPV4: i32 = libc::AF_INET;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all calls may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why systemd-resolved did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ResolvedError {
    /// It refused, or did not answer.
    #[error(transparent)]
    Call(#[from] zbus::Error),
    /// It runs in another network namespace, in which the number of the tunnel's link is another link's.
    #[error("it is in another network namespace than this process; expected the same one")]
    Elsewhere,
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// No thread could be started.
    #[error("no thread can be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// Gives the link these name servers, for every name. Returns false if systemd-resolved does not run here.
pub(super) fn set(link: u32, servers: &[Ipv4Addr]) -> Result<bool, ResolvedError> {
    let servers: Vec<(i32, Vec<u8>)> = servers.iter().map(|server| (IPV4, server.octets().to_vec())).collect();
    on_thread(move |bus| {
        zbus::block_on(async {
            if !is_here(&bus).await? {
                return Ok(false);
            }
            let link = link as i32;
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "SetLinkDNS", &(link, servers)).await?;
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "SetLinkDomains", &(link, vec![(".", true)]))
                .await?;
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "SetLinkDefaultRoute", &(link, true)).await?;
            // The giver of the tunnel must not answer for hosts of the client's own network.
            for method in ["SetLinkLLMNR", "SetLinkMulticastDNS"] {
                bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), method, &(link, "no")).await?;
            }
            // What the servers before have answered.
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "FlushCaches", &()).await?;
            Ok(true)
        })
    })
}

/// Takes everything back that the link was given.
pub(super) fn revert(link: u32) -> Result<(), ResolvedError> {
    on_thread(move |bus| {
        zbus::block_on(async {
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "RevertLink", &(link as i32)).await?;
            bus.call_method(Some(SERVICE), MANAGER, Some(INTERFACE), "FlushCaches", &()).await?;
            Ok(true)
        })
    })
    .map(drop)
}

/// Connects to the bus and runs `job`, on a thread of its own, which takes none of the host program's signals. Returns
/// false if there is no bus.
fn on_thread(
    job: impl FnOnce(Connection) -> Result<bool, ResolvedError> + Send + 'static,
) -> Result<bool, ResolvedError> {
    let (done, result) = mpsc::channel();
    let body = move || {
        let bus = zbus::block_on(Builder::system().method_timeout(CALL_TIMEOUT).build());
        let came_to = match bus {
            Ok(bus) => job(bus),
            Err(error) => {
                log::debug!("no system bus: {error}");
                Ok(false)
            }
        };
        // The caller may have given up.
        let _ = done.send(came_to);
    };
    threads::spawn("vpn-resolved", body).map_err(ResolvedError::Thread)?;
    result.recv_timeout(TIMEOUT).unwrap_or(Err(ResolvedError::Timeout))
}

/// Returns whether systemd-resolved runs in this network. Starts none: a bus can start services that it is asked for.
async fn is_here(bus: &Connection) -> Result<bool, ResolvedError> {
    let has_owner = bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "NameHasOwner", &SERVICE).await?;
    if !has_owner.body().deserialize::<bool>()? {
        return Ok(false);
    }
    let process =
        bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetConnectionUnixProcessID", &SERVICE).await?;
    let process: u32 = process.body().deserialize()?;
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    match network(&process.to_string()) {
        Some(theirs) if network("thread-self") == Some(theirs.clone()) => Ok(true),
        _ => Err(ResolvedError::Elsewhere),
    }
}
