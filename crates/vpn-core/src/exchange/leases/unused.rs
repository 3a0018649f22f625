//! Leases that nobody uses: what a server takes back when an address is missing.

use std::cmp::Reverse;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::lease::Pool;
use crate::source::Network;

/// How often the sessions are looked through at most, so that requests cannot make the server do nothing else.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The leases that were unused when the sessions were last looked through.
#[derive(Debug, Default)]
pub(super) struct Unused {
    /// The next one to end is the last: of the source with the most leases, the one that was unused for longest.
    addresses: Vec<Ipv4Addr>,
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
            let leases = pool.source_of(addr).map_or(0, |source| pool.leased_of(source));
            (leases, Reverse(used), Reverse(addr))
        };
        let mut found: Vec<_> = unused.map(key).collect();
        found.sort_unstable();
        self.addresses = found.into_iter().map(|(_, _, Reverse(addr))| addr).collect();
        self.looked = Some(now);
    }

    /// Takes the next one for which `fits` holds, if any, in the network if one is given.
    pub(super) fn next(
        &mut self,
        pool: &Pool,
        within: Option<&Network>,
        fits: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let is_inside = |addr: Ipv4Addr| match within {
            Some(network) => pool.source_of(addr).is_some_and(|source| network.contains(source)),
            None => true,
        };
        let place = self.addresses.iter().rposition(|addr| is_inside(*addr) && fits(*addr))?;
        Some(self.addresses.remove(place))
    }
}
