//! The stream: TCP, TLS 1.3 inside it, and the SDK's channel packets inside that. docs/stream.md is the authority.

pub(crate) mod channels;
pub(crate) mod client_end;
pub(crate) mod conn;
#[cfg(test)]
mod duplex_tests;
pub mod hello;
pub(crate) mod incoming;
pub(crate) mod limiter;
pub(crate) mod mailbox;
pub(crate) mod outgoing;
pub(crate) mod procs;
pub(crate) mod sessions;

use rustix::io::Errno;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vpn_core::times::Times;

/// The 16 bytes before each channel packet's data.
pub const HEADER_LEN: usize = size_of::<super::ctypes::dap_stream_ch_pkt_hdr>();
/// The letter of the channel on which a client is granted a service.
pub(crate) const SERVICE_CHANNEL: u8 = b'R';
/// Most bytes of data in one channel packet: a super-packet of 64 KiB, twice over, and its headers.
pub const MAX_DATA: usize = 128 * 1024 + 1024;
/// Most bytes of output of one stream before its client has a granted service, packets from other threads included, and
/// what the kernel keeps until the peer has acknowledged it; a write beyond it is refused.
pub const OUTPUT_LIMIT_UNSERVED: usize = 64 * 1024;
/// Most bytes of data in one channel packet of a stream whose client has no granted service, each way: the largest CHECK.
pub const MAX_DATA_UNSERVED: usize = 66 * 1024;
/// Most bytes of output queued in one stream; a write beyond it is refused.
pub const OUTPUT_LIMIT: usize = 4 * 1024 * 1024;
/// Most connections in the handshake at once.
pub const HANDSHAKES_MAX: usize = 1024;
/// Most of them per source: an eighth, so that no host locks the others out. A /56 and a /48 of IPv6 have greater shares,
/// see [`vpn_core::source`].
pub const HANDSHAKES_MAX_PER_SOURCE: usize = HANDSHAKES_MAX / 8;
/// Most connections from one IPv4 address, or one /64 of IPv6, unless `[server] max_streams_per_address` says
/// otherwise: enough for the clients behind a home's, an office's or a carrier's address.
pub const STREAMS_MAX_PER_SOURCE: usize = 128;
/// How long a stream lives without a granted service, unless `[server] idle_timeout` says otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the streams of the process's servers took to open, from accept to the answer to the hello.
pub static OPENING_TIMES: Times = Times::new();

/// Events that streams count instead of logging.
#[derive(Default)]
pub struct Counters {
    /// Packets for a channel that the stream has not opened.
    pub unknown_channel: AtomicU64,
    /// Streams closed because a packet announced more than [`MAX_DATA`].
    pub oversized: AtomicU64,
    /// Packets refused because of [`OUTPUT_LIMIT`], [`OUTPUT_LIMIT_UNSERVED`] or the process's budget.
    pub output_full: AtomicU64,
    /// Connections closed before their hello: by the peer, after [`Timeouts::handshake`](crate::timeouts::Timeouts::handshake), or for a bad hello.
    pub failed_handshakes: AtomicU64,
    /// Connections closed as soon as they were accepted, because a limit was reached.
    pub turned_away: AtomicU64,
    /// Streams closed because the process's budget has no room for their input.
    pub input_full: AtomicU64,
    /// Streams closed because they had no granted service for [`IDLE_TIMEOUT`].
    pub idle: AtomicU64,
    /// Messages on channel 'R' that a server does not accept, that come too often, or that ask for an answer while
    /// earlier output waits.
    pub service_dropped: AtomicU64,
}

/// The counters of all streams of the process.
pub static COUNTERS: Counters = Counters {
    unknown_channel: AtomicU64::new(0),
    oversized: AtomicU64::new(0),
    output_full: AtomicU64::new(0),
    failed_handshakes: AtomicU64::new(0),
    turned_away: AtomicU64::new(0),
    input_full: AtomicU64::new(0),
    idle: AtomicU64::new(0),
    service_dropped: AtomicU64::new(0),
};

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How long data may stay unacknowledged, in milliseconds.
const UNACKNOWLEDGED_MAX: u32 = 20_000;
/// The same while the peer does not read. The kernel counts that as well, though the peer's TCP answers: its program may
/// be stopped, or its machine suspended.
const UNREAD_MAX: u32 = 60_000;

/// Sets how long the peer of a connection may stay without reading what it is sent.
pub(crate) fn set_patience(io: &TcpStream, is_stopped: bool) {
    let limit = if is_stopped { UNREAD_MAX } else { UNACKNOWLEDGED_MAX };
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(io, limit) {
        log::debug!("cannot set a connection's TCP_USER_TIMEOUT: {error}");
    }
}

/// Makes a connection's socket non-blocking and sets its TCP options: no delay, a probe after 15 s of silence, the end
/// after 20 s without an answer to a probe or to data.
pub(crate) fn prepare_socket(io: &TcpStream) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(io, true)?;
    rustix::net::sockopt::set_tcp_nodelay(io, true)?;
    rustix::net::sockopt::set_socket_keepalive(io, true)?;
    rustix::net::sockopt::set_tcp_keepidle(io, Duration::from_secs(15))?;
    rustix::net::sockopt::set_tcp_keepintvl(io, Duration::from_secs(5))?;
    rustix::net::sockopt::set_tcp_keepcnt(io, 3)?;
    rustix::net::sockopt::set_tcp_user_timeout(io, UNACKNOWLEDGED_MAX)
}
