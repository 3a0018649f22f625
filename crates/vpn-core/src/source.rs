//! Where a peer comes from, as far as shares of what is scarce are concerned.
//!
//! A peer chooses its address within the network that it has been given. So an IPv4 address is one [`Source`], and so is
//! an IPv6 /64, whose addresses one host can all have. Whoever has one /64 often has the /56 or the /48 around it as
//! well: what a source has counts for these, too, each with a larger share ([`Width::share`]).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The source of a connection: an IPv4 address, or the /64 of an IPv6 address.
///
/// ```
/// use vpn_core::source::Source;
///
/// let of = |address: &str| Source::of(address.parse().unwrap());
/// assert_eq!(of("2001:db8::1"), of("2001:db8::2:1"));
/// assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
/// assert_ne!(of("192.0.2.8"), of("192.0.2.7"));
/// assert_eq!(of("2001:db8:1:203:4::5").to_string(), "2001:db8:1:203::/64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Network);

/// A network that has a share: a source, or one of the networks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first address; an IPv4 address in its mapped form.
    base: Ipv6Addr,
    width: Width,
}

/// How large a network with a share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// A source itself.
    Source,
    /// An IPv6 /56, as providers give to a home.
    Site,
    /// An IPv6 /48, as providers give to a company.
    Organisation,
}

impl Width {
    /// Returns the share of a network of this width, where a source's is `source`: half as much again for a /56, twice as
    /// much for a /48. It grows slower than the number of honest hosts, because a /48 costs an attacker nothing.
    pub fn share(self, source: u64) -> u64 {
        match self {
            Width::Source => source,
            Width::Site => source.saturating_add(source.div_ceil(2)),
            Width::Organisation => source.saturating_mul(2),
        }
    }
}

impl Source {
    /// Returns the source that an address belongs to.
    pub fn of(address: IpAddr) -> Source {
        let base = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => prefix(address, 64),
        };
        Source(Network { base, width: Width::Source })
    }

    /// Returns the source's first address, of which [`Source::of`] makes the source again; an IPv4 address in its mapped
    /// form.
    pub fn address(self) -> Ipv6Addr {
        self.0.base
    }

    /// Returns the networks that what this source has counts for, the source itself first.
    pub fn networks(self) -> impl Iterator<Item = Network> {
        let Network { base, .. } = self.0;
        let around = [(56, Width::Site), (48, Width::Organisation)].into_iter();
        let around = around.filter(move |_| base.to_ipv4_mapped().is_none());
        std::iter::once(self.0).chain(around.map(move |(bits, width)| Network { base: prefix(base, bits), width }))
    }
}

impl Network {
    /// Returns how large the network is.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Returns the source that this network is; `None` for a wider one.
    pub fn source(self) -> Option<Source> {
        (self.width == Width::Source).then_some(Source(self))
    }

    /// Returns whether the source is this network or lies in it.
    pub fn contains(&self, source: Source) -> bool {
        source.networks().any(|network| network == *self)
    }
}

fn prefix(address: Ipv6Addr, bits: u32) -> Ipv6Addr {
    (u128::from(address) & (u128::MAX << (128 - bits))).into()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base.to_ipv4_mapped(), self.width) {
            (Some(address), _) => address.fmt(f),
            (None, Width::Source) => write!(f, "{}/64", self.base),
            (None, Width::Site) => write!(f, "{}/56", self.base),
            (None, Width::Organisation) => write!(f, "{}/48", self.base),
        }
    }
}

/// How much of one scarce thing each source has, and the networks around it. Entries without an amount are dropped, so
/// memory grows with what is given away.
///
/// ```
/// use vpn_core::source::{Source, Tally};
///
/// let of = |address: &str| Source::of(address.parse().unwrap());
/// let mut tally = Tally::default();
/// tally.add(of("2001:db8:0:1::1"), 4);
/// assert!(tally.full(of("2001:db8:0:1::2"), 1, 4).is_some());
/// // Its neighbour has a share of its own, and the /56 half a share beyond that of one /64.
/// assert!(tally.full(of("2001:db8:0:2::1"), 2, 4).is_none());
/// assert_eq!(tally.full(of("2001:db8:0:2::1"), 3, 4).unwrap().to_string(), "2001:db8::/56");
/// ```
#[derive(Debug, Default)]
pub struct Tally {
    /// Peers choose the keys, so this uses the standard library's hash.
    amounts: HashMap<Network, u64>,
}

impl Tally {
    /// Returns how much the source has.
    pub fn amount(&self, source: Source) -> u64 {
        self.amount_of(&source.0)
    }

    /// Returns how much the sources in a network have.
    pub fn amount_of(&self, network: &Network) -> u64 {
        self.amounts.get(network).copied().unwrap_or(0)
    }

    /// Returns the network whose share `amount` more for this source would exceed; `None` if it fits. `share` is the
    /// largest amount of one source.
    pub fn full(&self, source: Source, amount: u64, share: u64) -> Option<Network> {
        source.networks().find(|network| self.amount_of(network).saturating_add(amount) > network.width.share(share))
    }

    /// Counts what the source gets.
    pub fn add(&mut self, source: Source, amount: u64) {
        for network in source.networks().filter(|_| amount > 0) {
            let had = self.amounts.entry(network).or_default();
            *had = had.saturating_add(amount);
        }
    }

    /// Counts what the source gives back.
    pub fn remove(&mut self, source: Source, amount: u64) {
        for network in source.networks() {
            let Entry::Occupied(mut had) = self.amounts.entry(network) else { continue };
            *had.get_mut() = had.get().saturating_sub(amount);
            if *had.get() == 0 {
                had.remove();
            }
        }
    }

    /// Returns the networks that have something, with their amounts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Network, u64)> {
        self.amounts.iter().map(|(network, amount)| (*network, *amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn ipv6_counts_for_three_networks_and_ipv4_for_one() {
        let names = |address| of(address).networks().map(|network| network.to_string()).collect::<Vec<_>>();
        assert_eq!(names("192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(names("::ffff:192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(names("2001:db8:1:234::5"), ["2001:db8:1:234::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
        // The same first address, and yet three networks.
        assert_eq!(names("2001:db8::5"), ["2001:db8::/64", "2001:db8::/56", "2001:db8::/48"]);
        assert!(of("2001:db8:1:234::5").networks().all(|network| network.contains(of("2001:db8:1:234::6"))));
        assert!(of("192.0.2.7").networks().all(|network| !network.contains(of("192.0.2.8"))));
    }

    #[test]
    fn shares_grow_with_the_network() {
        let shares = [Width::Source, Width::Site, Width::Organisation].map(|width| width.share(63));
        assert_eq!(shares, [63, 95, 126]);
        assert_eq!(Width::Organisation.share(u64::MAX), u64::MAX);
        assert_eq!(Width::Site.share(1), 2);
    }

    #[test]
    fn a_whole_48_has_twice_a_share() {
        let mut tally = Tally::default();
        let mut taken = 0;
        for network in 0..65_536_u32 {
            let source = of(&format!("2001:db8:1:{network:x}::1"));
            if tally.full(source, 1, 63).is_none() {
                tally.add(source, 1);
                taken += 1;
            }
        }
        assert_eq!(taken, 126);
        assert!(tally.full(of("2001:db8:2::1"), 1, 63).is_none());
    }

    proptest! {
        /// What was added and removed again leaves nothing, and a network has the sum of its sources.
        #[test]
        fn amounts_add_up(steps in prop::collection::vec((0_u8..12, 0_u64..9), 0..60)) {
            let address = |number: u8| match number {
                0..4 => IpAddr::from([192, 0, 2, number]),
                number => format!("2001:db8:{:x}:{:x}::1", number / 8, u16::from(number) * 0x80).parse().unwrap(),
            };
            let mut tally = Tally::default();
            for (number, amount) in &steps {
                tally.add(Source::of(address(*number)), *amount);
            }
            for number in 0..12 {
                for network in Source::of(address(number)).networks() {
                    let inside = |step: &&(u8, u64)| network.contains(Source::of(address(step.0)));
                    let sum: u64 = steps.iter().filter(inside).map(|step| step.1).sum();
                    prop_assert_eq!(tally.amount_of(&network), sum);
                }
            }
            for (number, amount) in &steps {
                tally.remove(Source::of(address(*number)), *amount);
            }
            prop_assert_eq!(tally.iter().count(), 0);
        }
    }
}
