//! Tells whether anything accepts TCP connections at an address, without blocking the caller.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use host::threads::{self, Permits};

/// Most probes at once. A name look-up may last longer than the caller waits for it.
const PROBES_MAX: usize = 16;

static PERMITS: Permits = Permits::new(PROBES_MAX);

/// Connects to a host on a thread of its own, and passes the result to `report`: success, or an errno.
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

fn connect(host: &str, port: u16, deadline: Instant) -> Result<(), i32> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| libc::ENOENT)?.collect();
    host::dial::connect(&addresses, deadline.saturating_duration_since(Instant::now()), || true).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

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
