//! What each source has of a pool, and how fast it may get more.

use super::LeaseError;
use crate::rate::Rates;
use crate::source::{Network, Source, Tally};
use std::collections::BTreeSet;
use std::time::Duration;

/// How much of a pool one source may have. The /56 and the /48 around an IPv6 source have a share of their own
/// ([`Width::share`](crate::source::Width::share)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most leases of a source at the same time.
    pub leases: u32,
    /// How many addresses that it did not have before a source may get in a minute. As many may be leased at once.
    pub new_per_minute: u32,
}

impl Limits {
    /// The smallest share of a source by default, so that a few clients behind one address work in a small pool.
    const LEASES_MIN: u32 = 4;

    /// Returns the bounds for a pool of `capacity` addresses: a quarter of them for a source; four at least, but one less
    /// than there are, so that another source gets one.
    pub fn of_pool(capacity: u32) -> Limits {
        let leases = (capacity / 4).max(Limits::LEASES_MIN).min(capacity.saturating_sub(1));
        Limits::of_source(leases.max(1))
    }

    /// Returns the bounds of a source that may have so many leases: as many new ones in a minute, and 64 at least, so that
    /// the clients of a small network may come and go.
    pub fn of_source(leases: u32) -> Limits {
        Limits { leases, new_per_minute: leases.max(64) }
    }
}

/// Who asks for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Where the client comes from.
    pub source: Source,
    /// The client has paid: its lease counts, but is not refused for a share or a rate, as each costs its price.
    pub is_paid: bool,
}

/// The books of the sources.
#[derive(Debug)]
pub(super) struct Shares {
    limits: Limits,
    /// The leased addresses of each source.
    live: Tally,
    /// The leased and the kept ones.
    used: Tally,
    /// The kept addresses of each network, in the order of their return: network, time of the return, address.
    kept: BTreeSet<(Network, u64, u32)>,
    /// The new addresses of each source.
    new: Rates,
}

impl Shares {
    pub(super) fn new(limits: Limits) -> Shares {
        Shares {
            limits,
            live: Tally::default(),
            used: Tally::default(),
            kept: BTreeSet::new(),
            new: Rates::new(limits.new_per_minute, Duration::from_secs(60)),
        }
    }

    /// Changes the limits. Each source may get as many new addresses as if it had got none yet.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        if self.limits.new_per_minute != limits.new_per_minute {
            self.new = Rates::new(limits.new_per_minute, Duration::from_secs(60));
        }
        self.limits = limits;
    }

    /// Returns the number of leases of a source.
    pub(super) fn leased(&self, source: Source) -> u64 {
        self.live.amount(source)
    }

    /// Checks that so many more leases of the applicant fit its share.
    pub(super) fn check_share(&self, by: &Applicant, more: u64) -> Result<(), LeaseError> {
        match self.live.full(by.source, more, self.limits.leases.into()).filter(|_| !by.is_paid) {
            Some(network) => Err(LeaseError::Share { network, leases: self.live.amount_of(&network) }),
            None => Ok(()),
        }
    }

    /// Counts an address that the applicant gets in the rate of each network that did not have it before. `former` is
    /// the source that the address was kept for, if it was.
    pub(super) fn count_new(&mut self, now: Duration, by: &Applicant, former: Option<Source>) {
        if !by.is_paid {
            let had = |network: &Network| former.is_some_and(|former| network.contains(former));
            self.new.count_for(now, by.source.networks().filter(|network| !had(network)));
        }
    }

    /// Returns the kept address that an applicant has to use again, if any: the oldest one of the narrowest network
    /// around it that has had as many addresses as it may have leases, or as many new ones as it may get now. So a source
    /// that comes and goes has no more of the pool than one that stays, and others keep what they had; and what a source
    /// returned it gets again at any rate.
    pub(super) fn own_kept_at_limit(&self, now: Duration, by: &Applicant) -> Result<Option<u32>, LeaseError> {
        let full = self.used.full(by.source, 1, self.limits.leases.into());
        let fast = self.new.full(now, by.source).filter(|_| !by.is_paid);
        for network in by.source.networks() {
            let is_fast = fast == Some(network);
            let own = (is_fast || full == Some(network)).then(|| self.oldest_of(&network)).flatten();
            match own {
                None if is_fast => return Err(LeaseError::Rate { network }),
                None => {}
                own => return Ok(own),
            }
        }
        Ok(None)
    }

    /// Returns how large a part of its share a source has, or that one of the networks around it which has the largest
    /// part; in parts of 2^32.
    pub(super) fn part(&self, source: Source) -> u64 {
        let part = |network: Network| {
            let share = network.width().share(self.limits.leases.into()).max(1);
            (self.live.amount_of(&network) << 32) / share
        };
        source.networks().map(part).max().unwrap_or(0)
    }

    /// Returns the oldest kept address of the source, or else of the networks around it.
    pub(super) fn own_kept(&self, source: Source) -> Option<u32> {
        source.networks().find_map(|network| self.oldest_of(&network))
    }

    fn oldest_of(&self, network: &Network) -> Option<u32> {
        let (of, _, host) = self.kept.range((*network, 0, 0)..).next()?;
        (of == network).then_some(*host)
    }

    /// Returns whether the end of one lease in this network lets the applicant have one.
    pub(super) fn may_replace(&self, by: &Applicant, network: &Network) -> bool {
        let fits = |around: Network| self.live.amount_of(&around) <= around.width().share(self.limits.leases.into());
        by.source.networks().skip_while(|around| around != network).all(fits)
    }

    pub(super) fn lease(&mut self, source: Source) {
        self.live.add(source, 1);
        self.used.add(source, 1);
    }

    /// A lease has passed to another source.
    pub(super) fn end(&mut self, source: Source) {
        self.live.remove(source, 1);
        self.used.remove(source, 1);
    }

    pub(super) fn keep(&mut self, source: Source, returned: u64, host: u32) {
        self.live.remove(source, 1);
        self.kept.extend(source.networks().map(|network| (network, returned, host)));
    }

    pub(super) fn forget(&mut self, source: Source, returned: u64, host: u32) {
        self.used.remove(source, 1);
        for network in source.networks() {
            self.kept.remove(&(network, returned, host));
        }
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize, usize) {
        (self.live.iter().count(), self.used.iter().count(), self.kept.len())
    }
}
