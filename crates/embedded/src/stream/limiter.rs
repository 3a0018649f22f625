//! Limits the connections that peers open to this node: streams in total and per source, and of these, connections in
//! the handshake in total and per source. So no peer can use up all of them.

use super::{COUNTERS, HANDSHAKES_MAX, HANDSHAKES_MAX_PER_SOURCE, IDLE_TIMEOUT, STREAMS_MAX_PER_SOURCE, count};
use crate::config::Config;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Descriptors that streams never get, whatever the configuration says.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Interval between two log lines about rejected connections.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The settings of streams in `[server]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    streams: usize,
    streams_per_source: usize,
    /// How long a stream without a granted service may be silent.
    idle: Duration,
}

/// The permits of one listener.
pub(crate) struct ConnectionLimiter {
    limits: Limits,
    taken: Mutex<Taken>,
    rejected: Mutex<Rejected>,
}

/// One connection's permit, from accept to its end.
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    source: Source,
    in_handshake: Cell<bool>,
}

/// Why a connection gets no permit.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    #[error("{0} streams are open ([server] max_streams)")]
    Streams(usize),
    #[error("its address has {0} streams open ([server] max_streams_per_address)")]
    StreamsOfSource(usize),
    #[error("{HANDSHAKES_MAX} connections are in the handshake")]
    Handshakes,
    #[error("its address has {HANDSHAKES_MAX_PER_SOURCE} connections in the handshake")]
    HandshakesOfSource,
}

#[derive(Default)]
struct Taken {
    all: Share,
    /// Peers choose the keys, so this uses the standard library's hash.
    by_source: HashMap<Source, Share>,
}

#[derive(Clone, Copy, Default)]
struct Share {
    streams: usize,
    handshakes: usize,
}

#[derive(Default)]
struct Rejected {
    since_warning: u64,
    last_warning: Option<Instant>,
}

/// An IPv4 address, or the /64 of an IPv6 address: one host has all addresses of its /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl Limits {
    pub(crate) fn read(config: &Config) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let idle = IDLE_TIMEOUT.as_secs();
        Limits {
            streams: to_usize(streams_max(config.get_u64("server", "max_streams", 0), descriptors)),
            streams_per_source: match config.get_u64("server", "max_streams_per_address", 0) {
                0 => STREAMS_MAX_PER_SOURCE,
                configured => to_usize(configured),
            },
            idle: Duration::from_secs(within(config, "idle_timeout", idle, 1..=86400)),
        }
    }
}

impl ConnectionLimiter {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(ConnectionLimiter { limits, taken: Mutex::default(), rejected: Mutex::default() })
    }

    /// Most streams that may be open at once.
    pub(crate) fn streams_max(&self) -> usize {
        self.limits.streams
    }

    /// A permit for a connection from `peer`.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, Full> {
        let source = Source::from(peer);
        let mut taken = self.taken.lock();
        let own = taken.by_source.get(&source).copied().unwrap_or_default();
        if taken.all.streams >= self.limits.streams {
            return Err(Full::Streams(self.limits.streams));
        }
        if own.streams >= self.limits.streams_per_source {
            return Err(Full::StreamsOfSource(self.limits.streams_per_source));
        }
        if taken.all.handshakes >= HANDSHAKES_MAX {
            return Err(Full::Handshakes);
        }
        if own.handshakes >= HANDSHAKES_MAX_PER_SOURCE {
            return Err(Full::HandshakesOfSource);
        }
        taken.change(source, |share| {
            share.streams += 1;
            share.handshakes += 1;
        });
        drop(taken);
        Ok(ConnectionPermit { limiter: Arc::clone(self), source, in_handshake: Cell::new(true) })
    }

    /// Counts a connection that got no permit; logs at most once a minute.
    pub(crate) fn reject(&self, peer: SocketAddr, why: Full) {
        count(&COUNTERS.turned_away);
        let mut rejected = self.rejected.lock();
        rejected.since_warning += 1;
        if rejected.last_warning.is_some_and(|last| last.elapsed() < WARN_INTERVAL) {
            return;
        }
        rejected.last_warning = Some(Instant::now());
        let number = std::mem::take(&mut rejected.since_warning);
        drop(rejected);
        log::warn!("rejected {number} connections since the last warning; the latest from {peer}: {why}");
    }
}

impl ConnectionPermit {
    /// The hello is complete: the connection becomes a stream.
    pub(crate) fn end_handshake(&self) {
        if self.in_handshake.replace(false) {
            self.limiter.taken.lock().change(self.source, |share| share.handshakes -= 1);
        }
    }

    pub(crate) fn idle_limit(&self) -> Duration {
        self.limiter.limits.idle
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.end_handshake();
        self.limiter.taken.lock().change(self.source, |share| share.streams -= 1);
    }
}

impl Taken {
    fn change(&mut self, source: Source, change: impl Fn(&mut Share)) {
        change(&mut self.all);
        let own = self.by_source.entry(source).or_default();
        change(own);
        if own.streams == 0 {
            self.by_source.remove(&source);
        }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Source::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Most streams for a number of descriptors: three quarters of them, unless configured.
fn streams_max(configured: u64, descriptors: u64) -> u64 {
    let most = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(1);
    if configured > most {
        log::warn!(
            "[server] max_streams={configured}: expected at most {most}, because RLIMIT_NOFILE is {descriptors}"
        );
    }
    match configured {
        0 => most.min(descriptors - descriptors / 4).max(1),
        configured => configured.min(most),
    }
}

/// Reads a key of `[server]`; logs a value out of bounds and returns the default.
fn within(config: &Config, key: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
    let value = config.get_u64("server", key, default);
    if bounds.contains(&value) {
        return value;
    }
    log::warn!("[server] {key}={value}: expected {} to {}; using {default}", bounds.start(), bounds.end());
    default
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(streams: usize, streams_per_source: usize) -> Arc<ConnectionLimiter> {
        ConnectionLimiter::new(Limits { streams, streams_per_source, idle: Duration::from_secs(60) })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_limit_leaves_descriptors_to_the_node() {
        for (configured, descriptors, expected) in [
            (0, 1024, 768),
            (0, 1 << 20, 786_432),
            (0, 128, 64),
            (0, 32, 1),
            (0, 0, 1),
            (100, 1024, 100),
            (900, 1024, 900),
            (1000, 1024, 960),
            (7, u64::MAX, 7),
        ] {
            assert_eq!(streams_max(configured, descriptors), expected, "{configured} of {descriptors}");
        }
    }

    #[test]
    fn the_configured_limits_apply() {
        let read = |text: &str| Limits::read(&Config::parse(text, "test.cfg").0);
        let limits = read("[server]\nmax_streams=5\nmax_streams_per_address=3\nidle_timeout=7");
        assert_eq!((limits.streams, limits.streams_per_source, limits.idle.as_secs()), (5, 3, 7));
        for text in ["", "[server]\nmax_streams=0\nmax_streams_per_address=0\nidle_timeout=0"] {
            let limits = read(text);
            assert_eq!((limits.streams_per_source, limits.idle), (STREAMS_MAX_PER_SOURCE, IDLE_TIMEOUT));
            assert!(limits.streams > 1);
        }
    }

    #[test]
    fn no_source_takes_all_handshakes() {
        let limiter = limiter(10_000, 10_000);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held: Vec<_> = (0..HANDSHAKES_MAX_PER_SOURCE).map(|_| limiter.take(one).ok().unwrap()).collect();
        assert_eq!(limiter.take(one).err(), Some(Full::HandshakesOfSource));
        assert!(limiter.take(other).is_ok());
        // After its handshake the stream keeps its stream permit and returns the other one.
        held[0].end_handshake();
        held[0].end_handshake();
        held.push(limiter.take(one).ok().unwrap());
        assert_eq!(limiter.take(one).err(), Some(Full::HandshakesOfSource));
        for last in 0..=255u8 {
            let many = IpAddr::from([198, 51, 100, last]);
            held.extend((0..4).map_while(|_| limiter.take(many).ok()));
        }
        assert_eq!(limiter.take(other).err(), Some(Full::Handshakes));
        drop(held);
        let taken = limiter.taken.lock();
        assert_eq!((taken.all.streams, taken.all.handshakes, taken.by_source.len()), (0, 0, 0));
    }

    #[test]
    fn streams_are_bounded_in_total_and_for_each_source() {
        let limiter = limiter(4, 3);
        let (one, other) = (address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        let held: Vec<_> = (0..3).map(|_| limiter.take(one).ok().unwrap()).collect();
        held.iter().for_each(ConnectionPermit::end_handshake);
        assert_eq!(limiter.take(address("2001:db8:1:2:ffff::7")).err(), Some(Full::StreamsOfSource(3)));
        let fourth = limiter.take(other).ok().unwrap();
        assert_eq!(limiter.take(other).err(), Some(Full::Streams(4)));
        drop(fourth);
        assert!(limiter.take(address("::ffff:192.0.2.1")).is_ok());
        let mapped = Source::from(address("::ffff:192.0.2.1"));
        assert!(mapped == Source::from(address("192.0.2.1")));
    }
}
