//! Leases that nobody uses: what a server takes back when an address is missing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::lease::Pool;
use crate::source::Network;

/// How often the sessions are looked through at most, so that requests cannot make the server do nothing else.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The leases that were unused when the sessions were last looked through.
///
/// An address is in the list of all and in those of the networks that it counts for. A request takes entries off the end
/// of one list and puts none back, so that all requests between two looks together cost no more than a look.
#[derive(Debug, Default)]
pub(super) struct Unused {
    /// The next one to end is the last of each list: of the source that has the largest part of its share, or is in a
    /// network that has, the one that was unused for longest.
    all: Vec<Ipv4Addr>,
    /// Peers choose the keys, so this uses the standard library's hash.
    within: HashMap<Network, Vec<Ipv4Addr>>,
    looked: Option<Duration>,
}

impl Unused {
    /// Returns whether the sessions may be looked through now.
    pub(super) fn may_look(&self, now: Duration) -> bool {
        self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_INTERVAL)
    }

    /// Takes the unused leases, each with the time of its last use.
    pub(super) fn found(&mut self, now: Duration, pool: &Pool, unused: impl Iterator<Item = (Ipv4Addr, Duration)>) {
        let key = |(addr, used): (Ipv4Addr, Duration)| {
            let part = pool.source_of(addr).map_or(0, |source| pool.part_of(source));
            (part, Reverse(used), Reverse(addr))
        };
        let mut found: Vec<_> = unused.map(key).collect();
        found.sort_unstable();
        self.all = found.into_iter().map(|(_, _, Reverse(addr))| addr).collect();
        self.within.clear();
        for &addr in &self.all {
            for network in pool.source_of(addr).into_iter().flat_map(|source| source.networks()) {
                self.within.entry(network).or_default().push(addr);
            }
        }
        self.looked = Some(now);
    }

    /// Takes the next one for which `fits` holds, if any, in the network if one is given. The ones before it, which are
    /// used again or have ended, are forgotten until the next look.
    pub(super) fn next(
        &mut self,
        pool: &Pool,
        within: Option<&Network>,
        fits: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        // The address may have gone to another source since.
        let is_inside = |addr: Ipv4Addr| match within {
            Some(network) => pool.source_of(addr).is_some_and(|source| network.contains(source)),
            None => true,
        };
        let list = match within {
            Some(network) => self.within.get_mut(network)?,
            None => &mut self.all,
        };
        while let Some(addr) = list.pop() {
            if is_inside(addr) && fits(addr) {
                return Some(addr);
            }
        }
        None
    }
}
