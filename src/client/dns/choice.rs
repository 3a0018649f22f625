//! Which name servers the host is to use while the tunnel is up: what the user says, and what the server gives.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use host::descriptors::above_stdio;
use host::outer_path::source_towards;
use vpn_core::forward::Networks;
use vpn_core::lease::Subnet;

/// The values of the key `dns`.
pub(in crate::client) const EXPECTED: &str =
    "auto, off, gateway, or a list of IPv4 addresses of name servers, for example [10.0.0.1]";
/// The most name servers that are taken from a lease.
const MOST: usize = 4;
/// Addresses of the Internet that answer everywhere. Nothing is sent to them: the kernel is asked where it would go.
const INTERNET: [Ipv4Addr; 3] = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(193, 0, 14, 129)];
/// How long the gateway has to answer a query, and after which times it is asked.
const ANSWER: Duration = Duration::from_millis(500);
const ASKED_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_millis(200)];
const STEP: Duration = Duration::from_millis(50);

/// What the user says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) enum Choice {
    /// Those of the lease, else the gateway if it answers; only while the Internet is reached through the tunnel.
    Auto,
    /// The host's stay.
    Off,
    /// The server's inner address.
    Gateway,
    /// These.
    Servers(Vec<Ipv4Addr>),
}

impl Choice {
    /// Reads the items of the key.
    pub(in crate::client) fn parse(items: &[impl AsRef<str>]) -> Option<Choice> {
        let words: Vec<&str> = items.iter().map(|item| item.as_ref().trim()).collect();
        match words[..] {
            ["auto"] => Some(Choice::Auto),
            ["off"] => Some(Choice::Off),
            ["gateway"] => Some(Choice::Gateway),
            [] => None,
            _ => {
                let servers = words.iter().map(|word| {
                    word.parse().ok().filter(|server| {
                        unfit(*server).is_none_or(|_| {
                            // The user may run one on this host.
                            Ipv4Addr::is_loopback(server)
                        })
                    })
                });
                servers.collect::<Option<_>>().map(Choice::Servers)
            }
        }
    }
}

/// Returns why no name server can have this address.
fn unfit(server: Ipv4Addr) -> Option<&'static str> {
    match server {
        _ if server.is_loopback() => Some("is this host's"),
        _ if server.is_multicast() => Some("is a group of hosts"),
        _ if server.octets()[0] == 0 || server.octets()[0] >= 240 => Some("is no host's"),
        _ if server.is_link_local() => Some("is passed on by no router"),
        _ => None,
    }
}

/// Returns the name servers of a lease that can be used, [`MOST`] at most, and of each other one the reason. `is_inside`
/// tells whether packets to an address go into the tunnel.
///
/// A server outside would see the host's names, and the giver of the lease could name a host of the client's own network;
/// so such a one is not used, and no route is made for it.
pub(super) fn of_lease(
    given: &[Ipv4Addr],
    is_inside: impl Fn(Ipv4Addr) -> bool,
) -> (Vec<Ipv4Addr>, Vec<(Ipv4Addr, &'static str)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for server in given {
        match unfit(*server) {
            Some(why) => bad.push((*server, why)),
            None if !is_inside(*server) => bad.push((*server, "is not reached through the tunnel")),
            None if good.len() < MOST && !good.contains(server) => good.push(*server),
            None => {}
        }
    }
    (good, bad)
}

/// Returns whether packets to this address leave by the tunnel, whose address on this host is `own`.
pub(super) fn goes_inside(target: Ipv4Addr, own: Ipv4Addr) -> bool {
    source_towards(target.into()) == Some(own.into())
}

/// Returns whether the Internet is reached through the tunnel: the routes are to lead there, and the kernel says that
/// they do. A server on this host gets no such routes.
pub(super) fn has_internet(routes: &[Subnet], own: Ipv4Addr) -> bool {
    routes.iter().collect::<Networks>().hold_the_internet()
        && INTERNET.into_iter().any(|address| goes_inside(address, own))
}

/// Returns whether a name server at this address answers a query, within half a second. `goes_on` ends the wait early.
pub(super) fn answers(server: Ipv4Addr, goes_on: impl Fn() -> bool) -> bool {
    query(server, goes_on).unwrap_or(false)
}

fn query(server: Ipv4Addr, goes_on: impl Fn() -> bool) -> std::io::Result<bool> {
    let socket: UdpSocket = above_stdio(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)?;
    // Answers of others are not taken, and a port where nobody listens is reported.
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(STEP))?;
    let mut id = [0; 2];
    let _ = rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty());
    // The name servers of the root (type NS, class IN), which every resolver knows; recursion desired.
    let question = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]].concat();
    let began = Instant::now();
    let mut sent = 0;
    let mut answer = [0; 512];
    while began.elapsed() < ANSWER && goes_on() {
        if ASKED_AFTER.get(sent).is_some_and(|after| began.elapsed() >= *after) {
            socket.send(&question)?;
            sent += 1;
        }
        match socket.recv(&mut answer) {
            Ok(length) if is_answer(&answer[..length], id) => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether this is a response to the query `id`, without an error.
fn is_answer(answer: &[u8], id: [u8; 2]) -> bool {
    matches!(answer, [a, b, flags, code, ..] if [*a, *b] == id && flags & 0x80 != 0 && code & 0x0f == 0)
        && answer.len() >= 12
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 4] = [10, 98, 0, 1];

    #[test]
    fn the_key_is_a_word_or_addresses() {
        for (items, choice) in [
            (&["auto"][..], Some(Choice::Auto)),
            (&["off"], Some(Choice::Off)),
            (&[" gateway "], Some(Choice::Gateway)),
            (&["10.0.0.1", "127.0.0.53"], Some(Choice::Servers(vec![[10, 0, 0, 1].into(), [127, 0, 0, 53].into()]))),
            (&[], None),
            (&["auto", "10.0.0.1"], None),
            (&["none"], None),
            (&["fd00::1"], None),
            (&["0.0.0.0"], None),
            (&["224.0.0.1"], None),
            (&["255.255.255.255"], None),
            (&["one.one"], None),
        ] {
            assert_eq!(Choice::parse(items), choice, "{items:?}");
        }
    }

    #[test]
    fn a_lease_cannot_name_every_address() {
        let hostile = [
            [127, 0, 0, 1],
            [0, 0, 0, 0],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
            [240, 0, 0, 1],
            [169, 254, 169, 254],
            [192, 168, 1, 1],
        ];
        let given: Vec<Ipv4Addr> = hostile.into_iter().chain([OWN, OWN]).map(Ipv4Addr::from).collect();
        let (good, bad) = of_lease(&given, |server| server.octets()[0] != 192);
        assert_eq!(good, [Ipv4Addr::from(OWN)]);
        assert_eq!(bad.len(), hostile.len(), "{bad:?}");
        assert_eq!(bad.last(), Some(&([192, 168, 1, 1].into(), "is not reached through the tunnel")));
        let many: Vec<Ipv4Addr> = (1..=8).map(|last| [10, 98, 0, last].into()).collect();
        assert_eq!(of_lease(&many, |_| true), (many[..MOST].to_vec(), Vec::new()));
    }

    #[test]
    fn an_answer_has_the_querys_number_and_no_error() {
        let answer = |flags, code| [7, 9, flags, code, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(is_answer(&answer(0x81, 0x80), [7, 9]));
        assert!(!is_answer(&answer(0x81, 0x80), [7, 8]), "another number");
        assert!(!is_answer(&answer(0x01, 0x80), [7, 9]), "a query");
        assert!(!is_answer(&answer(0x81, 0x85), [7, 9]), "refused");
        assert!(!is_answer(&answer(0x81, 0x80)[..11], [7, 9]), "cut");
    }
}
