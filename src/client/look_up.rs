//! The address of a server's name, on a node. Its SDK would look the name up on a worker, and nothing else of that
//! worker's would go on until a name server answers: for 20 s where they are behind the tunnel that is down. So a thread
//! looks it up, and the SDK gets the address. (The embedded SDK does so by itself; see `embedded::dial`.)

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::ClientError;
use host::look_up::{Missing, look_up};
use host::threads::Permits;
use parking_lot::Mutex;

/// Most look-ups at once: one that nobody waits for any more cannot be ended.
const MOST: usize = 8;

/// Most names that are remembered, and most addresses of each.
const NAMES_MAX: usize = 64;
const REMEMBERED_MAX: usize = 8;

static PERMITS: Permits = Permits::new(MOST);

/// The names that were looked up, each with its addresses. They take turns in being tried first, because one may accept
/// connections and not serve; the next one stands first.
static KNOWN: Mutex<BTreeMap<String, Vec<IpAddr>>> = Mutex::new(BTreeMap::new());

/// Takes what a name server says of a name. Many name servers give another order each time, which would make it the same
/// address's turn again and again: those that are known keep their order, new ones follow.
fn learn(name: &str, mut addresses: Vec<IpAddr>) {
    let mut known = KNOWN.lock();
    if known.len() >= NAMES_MAX && !known.contains_key(name) {
        known.clear();
    }
    let known = known.entry(name.to_owned()).or_default();
    let place = |address: &IpAddr| known.iter().position(|known| known == address);
    addresses.sort_by_key(|address| place(address).unwrap_or(usize::MAX));
    addresses.truncate(REMEMBERED_MAX);
    *known = addresses;
}

/// Returns the addresses that a name had when it was looked up last.
pub(super) fn known(name: &str) -> Vec<IpAddr> {
    KNOWN.lock().get(name).cloned().unwrap_or_default()
}

/// Returns the address whose turn it is; `None` if none of this name is known.
pub(super) fn turn(name: &str) -> Option<IpAddr> {
    let mut known = KNOWN.lock();
    let addresses = known.get_mut(name)?;
    let address = *addresses.first()?;
    addresses.rotate_left(1);
    Some(address)
}

/// Begins with this address the next time: it has answered.
pub(super) fn answered(name: &str, address: IpAddr) {
    let is_it = |known: &IpAddr| known.to_canonical() == address.to_canonical();
    if let Some(addresses) = KNOWN.lock().get_mut(name)
        && let Some(at) = addresses.iter().position(is_it)
    {
        addresses.rotate_left(at);
    }
}

/// Returns whether a host is a name, and no address, which may name its link.
pub(super) fn is_name(host: &str) -> bool {
    !host.contains(':') && host.parse::<IpAddr>().is_err()
}

/// Returns what the SDK is given to connect to a host of this name and port: an address, as [`address`] and then
/// [`first_to_accept`] find it. `server` is host:port, for an error. An address stays as it is.
pub(super) fn target(
    (name, port): (&str, u16),
    server: &str,
    before: Option<IpAddr>,
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<String, ClientError> {
    if !is_name(name) {
        return Ok(name.to_owned());
    }
    match address(name, before, time, &is_wanted) {
        Ok(first) => first_to_accept((name, port), server, first, time, is_wanted),
        Err(Missing::Unknown | Missing::Failed(_)) => {
            Err(ClientError::Connect { server: server.to_owned(), errno: libc::ENOENT })
        }
        Err(Missing::NoAnswer) => {
            Err(ClientError::NoAnswer { server: server.to_owned(), waiting_for: "a name server", after: time })
        }
        Err(Missing::Unwanted) => Err(ClientError::Stopped),
    }
}

/// Returns the address of a name that accepts a TCP connection on this port first. The SDK tries one address alone, and
/// waits for a dead one until the start has failed. `first` is tried first, and is the answer if no other one is known.
/// Blocks for at most `time`.
pub(super) fn first_to_accept(
    (name, port): (&str, u16),
    server: &str,
    first: IpAddr,
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<String, ClientError> {
    let others = known(name).into_iter().filter(|address| *address != first);
    let addresses: Vec<_> = [first].into_iter().chain(others).map(|address| SocketAddr::new(address, port)).collect();
    if addresses.len() < 2 {
        return Ok(first.to_string());
    }
    match host::dial::connect(&addresses, time, is_wanted) {
        Ok((_, address)) => Ok(address.ip().to_string()),
        Err(libc::ECANCELED) => Err(ClientError::Stopped),
        Err(errno) => Err(ClientError::Connect { server: server.to_owned(), errno }),
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
        let address = turn(name).or(before)?;
        log::info!("{name}: {why}; {address}, which it had before, is tried");
        Some(address)
    };
    let Some(permit) = PERMITS.take() else { return instead("earlier look-ups still wait").ok_or(Missing::NoAnswer) };
    let asked = name.to_owned();
    let resolve = move || {
        let _permit = permit;
        let addresses = resolve(&asked)?;
        if addresses.is_empty() {
            return Err(io::Error::other("it has no address"));
        }
        learn(&asked, addresses);
        turn(&asked).ok_or_else(|| io::Error::other("other names were looked up meanwhile"))
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
    use std::net::TcpListener;
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
    fn addresses_take_turns_and_the_one_that_answered_begins() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let both = move |_: &str| Ok(vec![a, b]);
        let unknown = |_: &str| Err(io::Error::other("not known"));
        assert_eq!(
            (0..3).map(|_| address_by(both, "turns", None, TIME, || true).unwrap()).collect::<Vec<_>>(),
            [a, b, a]
        );
        answered("turns", b);
        assert_eq!([(); 3].map(|()| address_by(unknown, "turns", Some(c), TIME, || true)), [Ok(b), Ok(a), Ok(b)]);
        assert_eq!((known("turns"), known("another"), turn("another")), (vec![a, b], vec![], None));
        assert_eq!(address_by(unknown, "another", Some(c), TIME, || true), Ok(c));
    }

    #[test]
    fn each_address_has_its_turn_whatever_order_the_name_server_answers_in() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let tried = |answers: &[&[IpAddr]]| {
            let asked = |answer: &&[IpAddr]| {
                let answer = answer.to_vec();
                address_by(move |_| Ok(answer), "rotates", None, TIME, || true).unwrap()
            };
            answers.iter().map(asked).collect::<Vec<_>>()
        };
        assert_eq!(tried(&[&[a, b], &[b, a], &[a, b], &[b, a]]), [a, b, a, b]);
        answered("rotates", b);
        assert_eq!(tried(&[&[a, b, c], &[c, b, a], &[a, c], &[c, a]]), [b, a, c, a]);
    }

    #[test]
    fn the_address_that_accepts_is_taken_and_a_lone_one_is_not_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (alive, port) = (listener.local_addr().unwrap().ip(), listener.local_addr().unwrap().port());
        let [dead, other] = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let found = |name, first| first_to_accept((name, port), "a:1", first, TIME, || true).ok();
        learn("several", vec![dead, alive, other]);
        assert_eq!(
            [dead, alive].map(|first| found("several", first)),
            [Some(alive.to_string()), Some(alive.to_string())]
        );
        learn("none", vec![dead, other]);
        let refused = first_to_accept(("none", port), "a:1", other, TIME, || true).unwrap_err();
        assert!(matches!(refused, ClientError::Connect { errno: libc::ECONNREFUSED, .. }), "{refused}");
        let stopped = first_to_accept(("none", port), "a:1", other, TIME, || false).unwrap_err();
        assert!(matches!(stopped, ClientError::Stopped), "{stopped}");
        learn("one", vec![dead]);
        assert_eq!(["one", "unknown"].map(|name| found(name, dead)), [Some(dead.to_string()), Some(dead.to_string())]);
    }

    #[test]
    fn the_address_from_before_stands_in_for_a_silent_name_server() {
        let known = |_: &str| Ok(vec![ADDRESS, BEFORE]);
        let unknown = |_: &str| Err(io::Error::other("not known"));
        for before in [None, Some(BEFORE)] {
            answered("a", ADDRESS);
            assert_eq!(address_by(known, "a", before, TIME, || true), Ok(ADDRESS));
            assert_eq!(address_by(unknown, "b", before, TIME, || true), before.ok_or(Missing::Unknown));
            assert_eq!(address_by(|_| Ok(vec![]), "b", before, TIME, || true), before.ok_or(Missing::Unknown));
        }
        let started = Instant::now();
        assert_eq!(address_by(silent, "c", Some(BEFORE), TIME, || true), Ok(BEFORE));
        assert!(started.elapsed() >= PATIENCE);
        assert_eq!(address_by(silent, "c", None, Duration::from_millis(20), || true), Err(Missing::NoAnswer));
        assert_eq!(address_by(silent, "c", None, TIME, || false), Err(Missing::Unwanted));
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
        let target = |name, is_wanted| target((name, 1), "a:1", None, TIME, move || is_wanted);
        assert_eq!(target("fe80::1%eth0", true).unwrap(), "fe80::1%eth0");
        assert!(target("localhost", true).unwrap().parse::<IpAddr>().unwrap().is_loopback());
        let error = target("name.invalid", true).unwrap_err();
        assert!(matches!(error, ClientError::Connect { errno: libc::ENOENT, .. }), "{error}");
    }
}
