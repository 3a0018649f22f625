//! Streams whose path has begun to lose full packets without a word ([`host::narrow_path`]).

use std::io;
use std::time::Duration;

use crate::sdk::channel::{Channel, PathInfo};
use host::narrow_path::{self, narrow};

/// How many timeouts in a row show such a path, as for the kernel's own remedy (`net.ipv4.tcp_mtu_probing` = 1 and
/// `net.ipv4.tcp_retries1`). A path that carries nothing at all looks the same, and then it harms nothing.
const TIMEOUTS: u8 = 3;
/// How often something is done about it, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of one stream's path.
#[derive(Default)]
pub(super) struct BlackHole {
    acted: Option<Duration>,
    /// The kernel was told that the path is narrow, and will forget it.
    is_narrow: bool,
}

impl BlackHole {
    /// Looks at what the kernel says of the path, and gets the stream through it: routers of IPv4 may fragment its packets,
    /// those of IPv6 get smaller ones.
    pub(super) fn look(&mut self, now: Duration, path: &PathInfo, channel: &Channel) {
        let is_stuck = path.timeouts >= TIMEOUTS && path.unacked > 0;
        let is_forgotten = self.is_narrow && path.mss > narrow_path::MSS.into();
        if !is_stuck && !is_forgotten || self.acted.is_some_and(|acted| now.saturating_sub(acted) < PAUSE) {
            return;
        }
        self.acted = Some(now);
        let act = || -> io::Result<bool> {
            match channel.address() {
                Some(peer) if peer.is_ipv6() => narrow(peer).map(|()| true),
                _ => channel.allow_fragments().map(|()| false),
            }
        };
        let peer = channel.peer();
        match act() {
            Ok(is_narrow) => {
                self.is_narrow = is_narrow;
                log::debug!("{peer}: the path loses packets; it is taken for a narrow one");
            }
            Err(error) => {
                self.is_narrow = false;
                log::debug!("{peer}: the path loses packets, and cannot be taken for a narrow one: {error}");
            }
        }
    }
}
