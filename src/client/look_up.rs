//! The address of a server's name, on a node. Its SDK would look the name up on a worker, and nothing else of that
//! worker's would go on until a name server answers: for 20 s where they are behind the tunnel that is down. So a thread
//! looks it up, and the SDK gets the address. (The embedded SDK does so by itself; see `embedded::dial`.)

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::ClientError;
use host::look_up::{Missing, look_up};
use host::threads::Permits;

/// Most look-ups at once: one that nobody waits for any more cannot be ended.
const MOST: usize = 8;

static PERMITS: Permits = Permits::new(MOST);

/// Returns whether a host is a name, and no address, which may name its link.
fn is_name(host: &str) -> bool {
    !host.contains(':') && host.parse::<IpAddr>().is_err()
}

/// Returns what the SDK is given to connect to a host of this name: its address, as [`address`] finds it. `server` is
/// host:port, for an error. An address stays as it is.
pub(super) fn target(
    name: &str,
    server: &str,
    before: Option<IpAddr>,
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<String, ClientError> {
    if !is_name(name) {
        return Ok(name.to_owned());
    }
    let server = server.to_owned();
    match address(name, before, time, is_wanted) {
        Ok(address) => Ok(address.to_string()),
        Err(Missing::Unknown | Missing::Failed(_)) => Err(ClientError::Connect { server, errno: libc::ENOENT }),
        Err(Missing::NoAnswer) => Err(ClientError::NoAnswer { server, waiting_for: "a name server", after: time }),
        Err(Missing::Unwanted) => Err(ClientError::Stopped),
    }
}

/// Looks a name up for at most `time`. `before` is the address that it had, which counts if there is no answer. Blocks.
fn address(
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
    let instead = |why: &str| {
        let address = before?;
        log::info!("{name}: {why}; {address}, which it had before, is tried");
        Some(address)
    };
    let Some(permit) = PERMITS.take() else { return instead("earlier look-ups still wait").ok_or(Missing::NoAnswer) };
    let asked = name.to_owned();
    let resolve = move || {
        let _permit = permit;
        resolve(&asked)?.first().copied().ok_or_else(|| io::Error::other("it has no address"))
    };
    match look_up(resolve, Some(time), instead, is_wanted) {
        Err(Missing::Failed(errno)) => {
            let why = format!("it cannot be looked up: {}", io::Error::from_raw_os_error(errno));
            instead(&why).ok_or(Missing::Unknown)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(1);

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
        assert_eq!(address_by(silent, "a", None, Duration::from_millis(20), || true), Err(Missing::NoAnswer));
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

    #[test]
    fn the_sdk_gets_an_address() {
        let target = |name, is_wanted| target(name, "a:1", None, TIME, move || is_wanted);
        assert_eq!(target("fe80::1%eth0", true).unwrap(), "fe80::1%eth0");
        assert!(target("localhost", true).unwrap().parse::<IpAddr>().unwrap().is_loopback());
        let error = target("name.invalid", true).unwrap_err();
        assert!(matches!(error, ClientError::Connect { errno: libc::ENOENT, .. }), "{error}");
    }
}
