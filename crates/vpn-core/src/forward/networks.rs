//! Lists of IPv4 networks, as the configuration names them, and the look-up of a packet's address in them.

use std::net::Ipv4Addr;

use crate::lease::Subnet;

/// Networks, sorted and without overlaps: a look-up takes a few comparisons, whatever the number of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The first and the last address of each.
    ranges: Box<[(u32, u32)]>,
}

/// An item of a list is not a network.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{0:?} is not an IPv4 network such as 192.168.0.0/16")]
pub struct BadNetwork(pub String);

impl Networks {
    /// Parses networks such as 192.168.0.0/16; an address alone is a network of one.
    ///
    /// Refuses bits outside the prefix: whether the network or the address is a mistake is for its owner to say.
    ///
    /// ```
    /// use vpn_core::forward::Networks;
    ///
    /// let networks = Networks::parse(["192.168.0.0/16", "10.1.2.3"])?;
    /// assert!(networks.contains([192, 168, 255, 255].into()) && networks.contains([10, 1, 2, 3].into()));
    /// assert!(!networks.contains([10, 1, 2, 4].into()));
    ///
    /// let error = Networks::parse(["192.168.0.1/16"]).map_err(|error| error.to_string());
    /// assert_eq!(error, Err("\"192.168.0.1/16\" is not an IPv4 network such as 192.168.0.0/16".to_owned()));
    /// # Ok::<(), vpn_core::forward::BadNetwork>(())
    /// ```
    pub fn parse(items: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Networks, BadNetwork> {
        let parse = |item: &str| range(item.trim()).ok_or_else(|| BadNetwork(item.trim().to_owned()));
        items.into_iter().map(|item| parse(item.as_ref())).collect::<Result<Vec<_>, _>>().map(Networks::of_ranges)
    }

    /// The networks with these addresses and prefix lengths; bits outside a prefix do not count.
    pub fn of(networks: impl IntoIterator<Item = (Ipv4Addr, u8)>) -> Networks {
        let range = |(address, prefix)| {
            let host = host_mask(prefix);
            (u32::from(address) & !host, u32::from(address) | host)
        };
        Networks::of_ranges(networks.into_iter().map(range).collect())
    }

    /// All addresses of both.
    pub fn join(&self, other: &Networks) -> Networks {
        Networks::of_ranges([&*self.ranges, &*other.ranges].concat())
    }

    /// The addresses of these networks that are in none of the `others`.
    ///
    /// ```
    /// use vpn_core::forward::Networks;
    ///
    /// let (networks, gateway) = (Networks::parse(["10.98.0.0/24"])?, Networks::parse(["10.98.0.1"])?);
    /// let rest = networks.without(&gateway);
    /// assert!(rest.contains([10, 98, 0, 0].into()) && rest.contains([10, 98, 0, 2].into()));
    /// assert!(!rest.contains([10, 98, 0, 1].into()));
    /// # Ok::<(), vpn_core::forward::BadNetwork>(())
    /// ```
    pub fn without(&self, others: &Networks) -> Networks {
        let mut rest = Vec::with_capacity(self.ranges.len() + others.ranges.len());
        for &(first, last) in &self.ranges {
            // The next address that may stay; `None` behind the last of all.
            let mut next = Some(first);
            for &(from, to) in &others.ranges {
                let Some(start) = next.filter(|start| from <= last && *start <= to) else { continue };
                if start < from {
                    rest.push((start, from - 1));
                }
                next = to.checked_add(1);
            }
            if let Some(start) = next.filter(|start| *start <= last) {
                rest.push((start, last));
            }
        }
        Networks::of_ranges(rest)
    }

    /// The networks as the fewest blocks of an address and a prefix length, in order.
    ///
    /// ```
    /// use vpn_core::forward::Networks;
    ///
    /// let rest = Networks::parse(["10.0.0.0/30"])?.without(&Networks::parse(["10.0.0.1"])?);
    /// assert_eq!(rest.blocks(), [([10, 0, 0, 0].into(), 32), ([10, 0, 0, 2].into(), 31)]);
    /// # Ok::<(), vpn_core::forward::BadNetwork>(())
    /// ```
    pub fn blocks(&self) -> Vec<(Ipv4Addr, u8)> {
        let mut blocks = Vec::new();
        for &(first, last) in &self.ranges {
            let mut next = Some(first);
            while let Some(start) = next.filter(|start| *start <= last) {
                let fits = |prefix: &u8| start & host_mask(*prefix) == 0 && last - start >= host_mask(*prefix);
                let prefix = (0..32).find(fits).unwrap_or(32);
                blocks.push((start.into(), prefix));
                next = (start | host_mask(prefix)).checked_add(1);
            }
        }
        blocks
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether one of the networks has the address.
    #[inline]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        let behind = self.ranges.partition_point(|(first, _)| *first <= address);
        self.ranges.get(..behind).and_then(<[_]>::last).is_some_and(|(_, last)| address <= *last)
    }

    /// Whether these are all networks of the public Internet, with private ones and the shared ones of providers (RFC 1918,
    /// RFC 6598) or without: then the user expects that nothing leaves around them.
    ///
    /// ```
    /// use vpn_core::forward::Networks;
    ///
    /// assert!(Networks::parse(["0.0.0.0/1", "128.0.0.0/1"])?.hold_the_internet());
    /// assert!(!Networks::parse(["0.0.0.0/1", "192.0.2.0/24"])?.hold_the_internet());
    /// # Ok::<(), vpn_core::forward::BadNetwork>(())
    /// ```
    pub fn hold_the_internet(&self) -> bool {
        let held = self.join(&Networks::of(UNROUTABLE.into_iter().chain(NEAR)));
        Networks::of([(Ipv4Addr::UNSPECIFIED, 0)]).without(&held).is_empty()
    }

    fn of_ranges(mut ranges: Vec<(u32, u32)>) -> Networks {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut().filter(|before| first <= before.1.saturating_add(1)) {
                Some(before) => before.1 = before.1.max(last),
                None => merged.push((first, last)),
            }
        }
        Networks { ranges: merged.into() }
    }
}

impl<'a> FromIterator<&'a Subnet> for Networks {
    fn from_iter<T: IntoIterator<Item = &'a Subnet>>(subnets: T) -> Networks {
        Networks::of(subnets.into_iter().map(|subnet| (subnet.network, subnet.prefix)))
    }
}

fn range(item: &str) -> Option<(u32, u32)> {
    let network = match item.contains('/') {
        true => Subnet::parse_cidr(item)?,
        false => Subnet { network: item.parse().ok()?, prefix: 32 },
    };
    Some((network.base().into(), network.broadcast().into()))
}

fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

/// The networks whose addresses are not [routable](is_routable).
pub const UNROUTABLE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Private networks, and those that a provider shares among its customers.
const NEAR: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];

/// Whether packets with this address leave a host: addresses of "this network" and loopback (RFC 1122, 3.2.1.3), of one
/// link (RFC 3927, 2.7), multicast, reserved ones and the broadcast do not pass a tunnel, in either field.
#[inline]
pub fn is_routable(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    !(first == 0 || first == 127 || first >= 224 || (first == 169 && second == 254))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(items: &[&str]) -> Networks {
        Networks::parse(items).unwrap()
    }

    #[test]
    fn every_address_of_a_network_is_in_it() {
        for (network, first, last) in [
            ("192.168.0.0/16", "192.168.0.0", "192.168.255.255"),
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("172.16.0.0/12", "172.16.0.0", "172.31.255.255"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.7"),
            (" 192.0.2.7 ", "192.0.2.7", "192.0.2.7"),
            ("192.0.2.6/31", "192.0.2.6", "192.0.2.7"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("128.0.0.0/1", "128.0.0.0", "255.255.255.255"),
        ] {
            let list = networks(&[network]);
            let [first, last] = [first, last].map(|text| u32::from(text.parse::<Ipv4Addr>().unwrap()));
            assert!(
                [first, first + (last - first) / 2, last].iter().all(|at| list.contains((*at).into())),
                "{network}"
            );
            let outside = [first.checked_sub(1), last.checked_add(1)].into_iter().flatten();
            assert!(outside.into_iter().all(|at| !list.contains(at.into())), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        for item in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "10.0.0/8",
            "fd00::/8",
            "::1",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/8/8",
            "/8",
            "10.0.0.0 /8",
            "010.0.0.0/8",
            "10.0.0.0/8,11.0.0.0/8",
        ] {
            let error = Networks::parse(["192.0.2.0/24", item]).unwrap_err();
            assert_eq!(error, BadNetwork(item.to_owned()));
        }
        assert!(Networks::parse([""; 0]).unwrap().is_empty());
    }

    #[test]
    fn overlaps_and_order_do_not_matter() {
        let expected = networks(&["10.0.0.0/8", "192.168.0.0/16"]);
        assert_eq!(networks(&["192.168.0.0/16", "10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "192.168.3.4"]), expected);
        assert_eq!(networks(&["192.168.0.0/16"]).join(&networks(&["10.0.0.0/8", "192.168.1.0/24"])), expected);
        assert_eq!(Networks::of([([192, 168, 7, 7].into(), 16), ([10, 0, 0, 1].into(), 8)]), expected);
    }

    #[test]
    fn the_internet_is_what_is_public() {
        let public = networks(&["0.0.0.0/0"]).without(&Networks::of(NEAR));
        for (networks, expected) in [
            (networks(&["0.0.0.0/0"]), true),
            (public.without(&networks(&["9.9.9.9"])), false),
            (public, true),
            (networks(&["0.0.0.0/1"]), false),
            (networks(&["10.0.0.0/8"]), false),
            (networks(&[]), false),
        ] {
            assert_eq!(networks.hold_the_internet(), expected, "{networks:?}");
        }
    }

    #[test]
    fn what_no_router_passes_on_is_not_routable() {
        for address in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254"] {
            assert!(!is_routable(address.parse().unwrap()), "{address}");
        }
        for address in ["224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.254", "255.255.255.255"] {
            assert!(!is_routable(address.parse().unwrap()), "{address}");
        }
        for address in ["1.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "223.255.255.255"]
        {
            assert!(is_routable(address.parse().unwrap()), "{address}");
        }
        for first in (0..=u32::MAX >> 16).map(|high| high << 16) {
            for address in [first, first | 0xffff].map(Ipv4Addr::from) {
                assert_eq!(Networks::of(UNROUTABLE).contains(address), !is_routable(address), "{address}");
            }
        }
    }

    proptest! {
        #[test]
        fn contains_what_one_of_them_contains(
            list in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..12),
            address: u32,
            near in 0_usize..12,
        ) {
            // Half of the look-ups are near the edge of a network.
            let address = list.get(near).map_or(address, |(base, prefix)| (base & !host_mask(*prefix)).wrapping_sub(address & 1));
            let is_in = list.iter().any(|(base, prefix)| (base ^ address) & !host_mask(*prefix) == 0);
            let networks = Networks::of(list.iter().map(|(base, prefix)| ((*base).into(), *prefix)));
            prop_assert_eq!(networks.contains(address.into()), is_in);
        }

        #[test]
        fn blocks_are_the_networks_in_as_few_as_there_can_be(
            list in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..8),
            holes in prop::collection::vec(any::<u32>(), 0..4),
        ) {
            let of = |list: &[(u32, u8)]| Networks::of(list.iter().map(|(base, prefix)| ((*base).into(), *prefix)));
            let holes: Vec<_> = holes.into_iter().map(|hole| (hole, 32)).collect();
            let networks = of(&list).without(&of(&holes));
            let blocks = networks.blocks();
            prop_assert!(blocks.iter().all(|(base, prefix)| u32::from(*base) & host_mask(*prefix) == 0));
            prop_assert!(blocks.is_sorted());
            // Two halves of one block would be that block.
            let is_split = |pair: &[(Ipv4Addr, u8)]| {
                let ([(one, prefix), (other, its)], half) = ([pair[0], pair[1]], 1_u32.checked_shl(32 - u32::from(pair[0].1)));
                prefix == its && half.is_some_and(|half| u32::from(one) ^ u32::from(other) == half)
            };
            prop_assert!(!blocks.windows(2).any(is_split), "{:?}", blocks);
            prop_assert_eq!(Networks::of(blocks), networks);
        }

        #[test]
        fn without_has_what_the_first_has_and_the_second_lacks(
            some in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
            others in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..6),
            near in any::<bool>(),
        ) {
            // Of the second list, half lie in networks of the first.
            let shift = |(at, (base, prefix)): (usize, (u32, u8))| match some.get(at).filter(|_| near) {
                Some((within, wide)) => ((within & !host_mask(*wide)) | (base & host_mask(*wide)), prefix.max(*wide)),
                None => (base, prefix),
            };
            let others: Vec<_> = others.into_iter().enumerate().map(shift).collect();
            let of = |list: &[(u32, u8)]| Networks::of(list.iter().map(|(base, prefix)| ((*base).into(), *prefix)));
            let (some_networks, other_networks) = (of(&some), of(&others));
            let rest = some_networks.without(&other_networks);
            let edges = some.iter().chain(&others).flat_map(|(base, prefix)| {
                let (first, last) = (base & !host_mask(*prefix), base | host_mask(*prefix));
                [first.wrapping_sub(1), first, first.wrapping_add(1), last.wrapping_sub(1), last, last.wrapping_add(1)]
            });
            for address in edges.chain([0, u32::MAX]).map(Ipv4Addr::from) {
                let stays = some_networks.contains(address) && !other_networks.contains(address);
                prop_assert_eq!(rest.contains(address), stays, "{}", address);
            }
        }
    }
}
