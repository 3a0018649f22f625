//! Limits the connections that peers open to this node: streams in total and per source, and of these, connections in
//! the handshake in total and per source. So no peer, and no number of peers, can keep the others out.

use super::{COUNTERS, HANDSHAKES_MAX, HANDSHAKES_MAX_PER_SOURCE, IDLE_TIMEOUT, STREAMS_MAX_PER_SOURCE, count};
use crate::config::Config;
use crate::places::{self, Place, Places};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vpn_core::rate::Rates;
use vpn_core::source::{Network, Source};

/// Handshakes that a source may begin in a second while the places are nearly all taken.
const HANDSHAKES_PER_SECOND: u32 = 16;
/// Descriptors that streams never get, whatever the configuration says.
const DESCRIPTORS_RESERVED: u64 = 64;

/// The settings of streams in `[server]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    streams: usize,
    streams_per_source: usize,
    /// How long a stream lives without a granted service.
    life: Duration,
}

/// The permits of one listener.
pub(crate) struct ConnectionLimiter {
    /// The life of a stream that comes now.
    life: Mutex<Duration>,
    streams: Arc<Places>,
    handshakes: Arc<Places>,
    rates: Arc<Mutex<HandshakeRates>>,
}

/// How many handshakes each source may begin.
struct HandshakeRates {
    since: Instant,
    rates: Rates,
}

/// One connection's permit, from accept to its end.
pub(crate) struct ConnectionPermit {
    since: Instant,
    life: Duration,
    stream: Place,
    handshake: RefCell<Option<Place>>,
    source: Source,
    rates: Arc<Mutex<HandshakeRates>>,
}

/// Why a connection gets no permit.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    #[error("{0} streams have a service ([server] max_streams)")]
    Streams(usize),
    #[error("{0} has {1} streams open ([server] max_streams_per_address)")]
    StreamsOfSource(Network, usize),
    #[error("{HANDSHAKES_MAX} connections are in the handshake")]
    Handshakes,
    #[error("{0} has {1} connections in the handshake")]
    HandshakesOfSource(Network, usize),
}

impl Limits {
    pub(crate) fn read(config: &Config) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let life = IDLE_TIMEOUT.as_secs();
        Limits {
            streams: to_usize(streams_max(config.get_u64("server", "max_streams", 0), descriptors)),
            streams_per_source: match config.get_u64("server", "max_streams_per_address", 0) {
                0 => STREAMS_MAX_PER_SOURCE,
                configured => to_usize(configured),
            },
            life: Duration::from_secs(within(config, "idle_timeout", life, 1..=86400)),
        }
    }
}

impl ConnectionLimiter {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(ConnectionLimiter {
            life: Mutex::new(limits.life),
            streams: Places::new(limits.streams, limits.streams_per_source),
            handshakes: Places::new(HANDSHAKES_MAX, HANDSHAKES_MAX_PER_SOURCE),
            rates: Arc::new(Mutex::new(HandshakeRates {
                since: Instant::now(),
                rates: Rates::new(HANDSHAKES_PER_SECOND, Duration::from_secs(1)),
            })),
        })
    }

    /// Changes the limits, for connections that come from now on.
    pub(crate) fn change(&self, limits: Limits) {
        *self.life.lock() = limits.life;
        self.streams.change(limits.streams, limits.streams_per_source);
    }

    /// Most streams that may be open at once.
    pub(crate) fn streams_max(&self) -> usize {
        self.streams.most()
    }

    /// A permit for a connection from `peer`. It may push out another connection, which has no service yet.
    pub(crate) fn take(&self, peer: IpAddr, socket: &Arc<TcpStream>) -> Result<ConnectionPermit, Full> {
        let no_stream = |full| match full {
            places::Full::All => Full::Streams(self.streams.most()),
            places::Full::Source(network, most) => Full::StreamsOfSource(network, most),
        };
        // First, because a source that gets no stream must not push out another one's handshake.
        self.streams.has_share_left(peer).map_err(no_stream)?;
        let handshake = self.handshakes.take(peer, socket).map_err(|full| match full {
            places::Full::All => Full::Handshakes,
            places::Full::Source(network, most) => Full::HandshakesOfSource(network, most),
        })?;
        let stream = self.streams.take(peer, socket).map_err(no_stream)?;
        let (handshake, rates) = (RefCell::new(Some(handshake)), Arc::clone(&self.rates));
        let (since, life) = (Instant::now(), *self.life.lock());
        Ok(ConnectionPermit { since, life, stream, handshake, source: Source::of(peer), rates })
    }

    /// Counts a connection that got no permit; logs at most once a minute.
    pub(crate) fn reject(peer: SocketAddr, why: Full) {
        count(&COUNTERS.turned_away);
        host::log_bounded!(Warn, "rejected a connection from {peer}: {why}");
    }
}

impl ConnectionPermit {
    /// The connection may begin its handshake now, which costs the server a thousand times what it costs the peer. While
    /// the places are nearly all taken, each source may begin a few a second, so that a worker comes to an honest
    /// client's among those of peers that are pushed out and come again.
    pub(crate) fn begins_handshake(&self) -> bool {
        let is_crowded = self.stream.is_crowded() || self.handshake.borrow().as_ref().is_some_and(Place::is_crowded);
        let mut state = self.rates.lock();
        let now = state.since.elapsed();
        !is_crowded || state.rates.take(now, self.source)
    }

    /// The hello is complete: the connection becomes a stream.
    pub(crate) fn end_handshake(&self) {
        drop(self.handshake.take());
    }

    /// The stream's client has a granted service, or no more: only a stream without one makes room for newcomers.
    pub(crate) fn set_served(&self, served: bool) {
        if served {
            self.stream.hold();
        } else {
            self.stream.loosen();
        }
    }

    /// The time since the connection was accepted.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long a stream lives without a granted service.
    pub(crate) fn life(&self) -> Duration {
        self.life
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
        assert_eq!((limits.streams, limits.streams_per_source, limits.life.as_secs()), (5, 3, 7));
        for text in ["", "[server]\nmax_streams=0\nmax_streams_per_address=0\nidle_timeout=0"] {
            let limits = read(text);
            assert_eq!((limits.streams_per_source, limits.life), (STREAMS_MAX_PER_SOURCE, IDLE_TIMEOUT));
            assert!(limits.streams > 1);
        }
    }

    #[test]
    fn a_permit_ends_with_its_two_places() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let limits = Limits { streams: 10_000, streams_per_source: 10_000, life: Duration::from_secs(60) };
        let limiter = ConnectionLimiter::new(limits);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut held: Vec<_> =
            (0..HANDSHAKES_MAX_PER_SOURCE).map(|_| limiter.take(one, &socket).ok().unwrap()).collect();
        assert!(matches!(limiter.take(one, &socket).err(), Some(Full::HandshakesOfSource(..))));
        assert!(limiter.take(other, &socket).is_ok());
        // After its handshake the stream keeps its own place and returns the other one.
        held[0].end_handshake();
        held[0].end_handshake();
        held.push(limiter.take(one, &socket).ok().unwrap());
        assert!(matches!(limiter.take(one, &socket).err(), Some(Full::HandshakesOfSource(..))));
        held.clear();
        assert!(limiter.take(one, &socket).is_ok());
    }
}
