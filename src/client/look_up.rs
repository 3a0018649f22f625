//! The address of the server's name, on a node. Its SDK would look the name up on a worker, and nothing else of that
//! worker's would go on until a name server answers: for 20 s where they are behind the tunnel that is down. So a thread
//! looks it up, and the SDK gets the address. (The embedded SDK does so by itself; see `embedded::dial`.)

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use host::threads::{self, Permits};

/// How long a look-up may take before the address from before is taken.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon it is noticed that nobody wants the address any more.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Most look-ups at once: one that nobody waits for any more cannot be ended.
const MOST: usize = 8;

static PERMITS: Permits = Permits::new(MOST);

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The name is not known, or cannot be looked up now.
    Unknown,
    /// No name server has answered in time.
    NoAnswer,
    /// `is_wanted` has returned false.
    Unwanted,
}

/// Returns whether a host is a name, and no address, which may name its link.
pub(super) fn is_name(host: &str) -> bool {
    !host.contains(':') && host.parse::<IpAddr>().is_err()
}

/// Looks a name up for at most `time`. `before` is the address that it had, which counts if there is no answer. Blocks.
pub(super) fn address(
    name: &str,
    before: Option<IpAddr>,
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<IpAddr, Missing> {
    let resolve = |name: &str| Ok((name, 0).to_socket_addrs()?.map(|address: SocketAddr| address.ip()).collect());
    address_by(resolve, name, before, time, is_wanted)
}

fn address_by(
    resolve: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
    name: &str,
    before: Option<IpAddr>,
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<IpAddr, Missing> {
    let instead = |why: &str, missing| {
        let address = before.ok_or(missing)?;
        log::info!("{name}: {why}; {address}, which it had before, is tried");
        Ok(address)
    };
    let Some(permit) = PERMITS.take() else { return instead("earlier look-ups still wait", Missing::NoAnswer) };
    let (found, result) = mpsc::channel();
    let asked = name.to_owned();
    let body = move || {
        let _permit = permit;
        // The receiver is gone if nobody waits any more.
        let _ = found.send(resolve(&asked));
    };
    if let Err(error) = threads::spawn("vpn-look-up", body) {
        return instead(&format!("no thread looks it up: {error}"), Missing::Unknown);
    }
    let until = Instant::now() + if before.is_some() { PATIENCE.min(time) } else { time };
    loop {
        match result.recv_timeout(CHECK_INTERVAL) {
            Ok(Ok(addresses)) => match addresses.first() {
                Some(address) => return Ok(*address),
                None => return instead("it has no address", Missing::Unknown),
            },
            Ok(Err(error)) => return instead(&error.to_string(), Missing::Unknown),
            Err(RecvTimeoutError::Timeout) if !is_wanted() => return Err(Missing::Unwanted),
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
            Err(RecvTimeoutError::Timeout) => return instead("no name server answers", Missing::NoAnswer),
            Err(RecvTimeoutError::Disconnected) => return instead("the look-up has failed", Missing::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    const TIME: Duration = Duration::from_secs(60);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BEFORE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

    fn silent(_: &str) -> io::Result<Vec<IpAddr>> {
        sleep(Duration::from_secs(3));
        Ok(vec![ADDRESS])
    }

    #[test]
    fn the_address_from_before_stands_in_for_a_silent_name_server() {
        let known = |_: &str| Ok(vec![ADDRESS, BEFORE]);
        let unknown = |_: &str| Err(io::Error::other("not known"));
        for before in [None, Some(BEFORE)] {
            assert_eq!(address_by(known, "a", before, TIME, || true), Ok(ADDRESS));
            assert_eq!(address_by(unknown, "a", before, TIME, || true), before.ok_or(Missing::Unknown));
            assert_eq!(address_by(|_| Ok(vec![]), "a", before, TIME, || true), before.ok_or(Missing::Unknown));
        }
        let started = Instant::now();
        assert_eq!(address_by(silent, "a", Some(BEFORE), TIME, || true), Ok(BEFORE));
        assert!(started.elapsed() >= PATIENCE);
        assert_eq!(address_by(silent, "a", None, CHECK_INTERVAL, || true), Err(Missing::NoAnswer));
        assert_eq!(address_by(silent, "a", None, TIME, || false), Err(Missing::Unwanted));
        assert_eq!(address("localhost", None, TIME, || true).map(|address| address.is_loopback()), Ok(true));
    }

    #[test]
    fn an_address_is_no_name() {
        for host in ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"] {
            assert!(!is_name(host), "{host}");
        }
        assert!(is_name("vpn.example.com") && is_name("host"));
    }
}
