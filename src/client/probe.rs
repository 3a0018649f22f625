//! Tells whether anything accepts TCP connections at an address, without blocking the caller.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use host::descriptors::above_stdio;
use host::threads::{self, Permits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

/// Most probes at once. A name look-up may last longer than the caller waits for it.
const PROBES_MAX: usize = 16;

static PERMITS: Permits = Permits::new(PROBES_MAX);

/// Connects to a host on a thread of its own, and passes the result to `report`: success, or the last address's errno.
/// The probe ends at the deadline, unless the resolver takes longer. Without the means for a probe there is no report.
pub(super) fn start(host: &str, port: u16, deadline: Instant, report: impl FnOnce(Result<(), i32>) + Send + 'static) {
    let Some(permit) = PERMITS.take() else {
        return log::debug!("{PROBES_MAX} probes are running already");
    };
    let host = host.to_owned();
    let spawned = threads::spawn("vpn-probe", move || {
        let _permit = permit;
        report(connect(&host, port, deadline));
    });
    if let Err(error) = spawned {
        log::debug!("no thread for a probe: {error}");
    }
}

/// Tries one address after the other, each with its share of the remaining time.
fn connect(host: &str, port: u16, deadline: Instant) -> Result<(), i32> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| libc::ENOENT)?.collect();
    let mut result = Err(libc::ENOENT);
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (left / others).max(Duration::from_millis(1));
        result = reach(*address, Instant::now() + share).map_err(Errno::raw_os_error);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Connects, and closes the connection at once. The standard library's `connect_timeout` would take one of the host
/// program's descriptors 0 to 2 if it is free.
fn reach(address: SocketAddr, deadline: Instant) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = above_stdio(socket_with(family, SocketType::STREAM, flags, None)?)?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        result => return result,
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return Err(Errno::TIMEDOUT),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return sockopt::socket_error(&socket)?,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn probe(host: &str, port: u16) -> Result<(), i32> {
        connect(host, port, Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn a_listener_is_told_from_a_closed_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(probe("127.0.0.1", port), Ok(()));
        drop(listener);
        assert_eq!(probe("127.0.0.1", port), Err(libc::ECONNREFUSED));
        assert_eq!(probe("name.invalid", port), Err(libc::ENOENT));
    }

    #[test]
    fn probes_are_bounded() {
        let permits: Vec<_> = std::iter::from_fn(|| PERMITS.take()).take(PROBES_MAX + 1).collect();
        assert!(permits.len() <= PROBES_MAX);
        drop(permits);
        assert!(PERMITS.take().is_some());
    }
}
