//! TCP to the first of a host's addresses that answers, as RFC 8305 ("Happy Eyeballs") advises: an attempt stays open
//! while later ones begin, so that neither a dead address nor a long path costs the time of the others.

use crate::descriptors::above_stdio;
use crate::patience::Patience;
use libc::{ECANCELED, ECONNREFUSED, EHOSTUNREACH, ENOENT, ETIMEDOUT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as connect_socket, socket_with, sockopt};
use rustix::time::Timespec;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The time from one attempt to the next, unless there are many addresses (RFC 8305, 8: "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The shortest that the RFC allows.
const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(10);
/// How soon the caller's loss of interest is noticed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Most addresses that are tried, so that a hostile name server cannot take all descriptors.
const ADDRESSES_MAX: usize = 64;

/// Connects to the first of `addresses` that accepts, and closes the other attempts. Returns the non-blocking socket and
/// its address, or an errno: ECANCELED when `is_wanted` has returned false, ETIMEDOUT when the time is over and an
/// attempt still waits, otherwise the most telling of the failures. Blocks; asks `is_wanted` every 20 ms.
///
/// The addresses are tried in their order, the families in turns. All attempts begin within half of the time.
pub fn connect(
    addresses: &[SocketAddr],
    time: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<(TcpStream, SocketAddr), i32> {
    let mut waiting = interleaved(addresses).into_iter().take(ADDRESSES_MAX);
    let delay = attempt_delay(time, waiting.len());
    let mut patience = Patience::new(time);
    let mut attempts: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut failure = ENOENT;
    let mut next = Some(Instant::now());
    while is_wanted() {
        if next.is_some_and(|next| Instant::now() >= next) {
            next = match waiting.next() {
                None => None,
                Some(address) => match begin(address) {
                    Ok(socket) => {
                        attempts.push((socket, address));
                        Some(Instant::now() + delay)
                    }
                    Err(error) => {
                        failure = more_telling(failure, address, error);
                        Some(Instant::now())
                    }
                },
            };
        }
        if attempts.is_empty() && next.is_none() {
            return Err(failure);
        }
        let Some(step) = patience.step() else { return Err(if attempts.is_empty() { failure } else { ETIMEDOUT }) };
        let until_next = next.map_or(step, |next| next.saturating_duration_since(Instant::now()));
        for index in ready(&attempts, step.min(until_next).min(CHECK_INTERVAL))?.into_iter().rev() {
            let (socket, address) = attempts.swap_remove(index);
            match sockopt::socket_error(&socket).and_then(|result| result) {
                Ok(()) => return Ok((TcpStream::from(socket), address)),
                Err(error) => {
                    failure = more_telling(failure, address, error);
                    // The next attempt begins at once.
                    next = next.map(|_| Instant::now());
                }
            }
        }
    }
    Err(ECANCELED)
}

/// The families in turns, beginning with that of the first address (RFC 8305, 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, mut second) = (
        addresses.iter().filter(|address| address.is_ipv4() == first_is_v4),
        addresses.iter().filter(|address| address.is_ipv4() != first_is_v4),
    );
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(first.next());
        all.extend(second.next());
    }
    all
}

fn attempt_delay(time: Duration, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    (time / 2 / count).clamp(ATTEMPT_DELAY_MIN, ATTEMPT_DELAY)
}

fn begin(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = above_stdio(socket_with(family, SocketType::STREAM, flags, None)?)?;
    match connect_socket(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Waits, and returns the attempts that have come to something, in their order.
fn ready(attempts: &[(OwnedFd, SocketAddr)], wait: Duration) -> Result<Vec<usize>, i32> {
    let mut polled: Vec<_> = attempts.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => Ok((0..polled.len()).filter(|index| polled.get(*index).is_some_and(is_ready)).collect()),
        Err(Errno::INTR) => Ok(Vec::new()),
        Err(error) => Err(error.raw_os_error()),
    }
}

fn is_ready(polled: &PollFd<'_>) -> bool {
    !polled.revents().is_empty()
}

/// A refusal tells more than a missing route, and both more than a local failure.
fn more_telling(known: i32, address: SocketAddr, error: Errno) -> i32 {
    log::debug!("{address}: {error}");
    let rank = |errno| match errno {
        ECONNREFUSED => 3,
        ETIMEDOUT => 2,
        EHOSTUNREACH => 1,
        _ => 0,
    };
    let errno = match error {
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => EHOSTUNREACH,
        other => other.raw_os_error(),
    };
    if rank(errno) >= rank(known) { errno } else { known }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    const TIME: Duration = Duration::from_secs(5);

    /// A listener whose queue is full: the kernel drops each SYN, as a dead host does, until the queue is emptied.
    struct Full {
        listener: TcpListener,
        filling: Vec<OwnedFd>,
    }

    impl Full {
        fn new(last: u8) -> Full {
            let address = SocketAddr::from((Ipv4Addr::new(127, 0, 77, last), 0));
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            rustix::net::bind(&socket, &address).unwrap();
            rustix::net::listen(&socket, 0).unwrap();
            let listener = TcpListener::from(socket);
            let address = listener.local_addr().unwrap();
            let filling: Vec<_> = (0..3).map(|_| begin(address).unwrap()).collect();
            // The attempts of a full queue do not complete.
            thread::sleep(Duration::from_millis(2));
            Full { listener, filling }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().unwrap()
        }

        /// Empties the queue after a while: the next repetition of a SYN is answered.
        fn open_after(self, wait: Duration) -> thread::JoinHandle<Full> {
            thread::spawn(move || {
                thread::sleep(wait);
                self.listener.set_nonblocking(true).unwrap();
                let mut full = self;
                full.filling.clear();
                let end = Instant::now() + TIME;
                while Instant::now() < end {
                    let _ = full.listener.accept();
                    thread::sleep(Duration::from_millis(1));
                }
                full
            })
        }
    }

    #[test]
    fn one_slow_address_among_nineteen_dead_ones_is_reached_in_any_order() {
        for (round, position) in [0, 9, 19].into_iter().enumerate() {
            let hosts: Vec<_> = (0..20).map(|last| Full::new(last + 1 + 20 * round as u8)).collect();
            let addresses: Vec<_> = hosts.iter().map(Full::address).collect();
            let mut dead = hosts;
            let slow = dead.remove(position);
            let began = Instant::now();
            // Linux repeats a SYN after a second: a first answer after 500 ms arrives later than on a path of 500 ms.
            let opened = slow.open_after(Duration::from_millis(500));
            let (_, address) = connect(&addresses, TIME, || true).unwrap();
            assert_eq!(address, addresses[position]);
            assert!(began.elapsed() < TIME, "{position}: {:?}", began.elapsed());
            opened.join().unwrap();
        }
    }

    #[test]
    fn dead_addresses_use_up_the_time_and_no_more() {
        let dead = Full::new(201);
        let began = Instant::now();
        assert_eq!(connect(&[dead.address()], Duration::from_millis(300), || true).unwrap_err(), ETIMEDOUT);
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(
            connect(&[dead.address()], TIME, || began.elapsed() < Duration::from_millis(600)).unwrap_err(),
            ECANCELED
        );
    }

    #[test]
    fn a_refusal_is_followed_by_the_next_address_at_once() {
        let closed = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 78, last), 1));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let mut addresses: Vec<_> = (1..20).map(closed).collect();
        assert_eq!(connect(&addresses, TIME, || true).unwrap_err(), ECONNREFUSED);
        addresses.push(open);
        let began = Instant::now();
        assert_eq!(connect(&addresses, TIME, || true).unwrap().1, open);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(connect(&[], TIME, || true).unwrap_err(), ENOENT);
    }

    #[test]
    fn families_take_turns_and_many_addresses_begin_in_time() {
        let [a, b, c, x]: [SocketAddr; 4] =
            ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "[2001:db8::1]:1"].map(|text| text.parse().unwrap());
        assert_eq!(interleaved(&[a, b, c, x]), [a, x, b, c]);
        assert_eq!(interleaved(&[x, a, b, c]), [x, a, b, c]);
        for count in 1..=ADDRESSES_MAX {
            let delay = attempt_delay(TIME, count);
            assert!(delay * count as u32 <= TIME / 2 && delay <= ATTEMPT_DELAY, "{count}");
        }
        assert_eq!(attempt_delay(TIME, 2), ATTEMPT_DELAY);
    }
}
