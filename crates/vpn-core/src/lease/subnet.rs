//! The tunnel's subnet, as configured.

use std::fmt;
use std::net::Ipv4Addr;

/// A range of IPv4 addresses: a network address and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// The first address; its host bits are zero.
    pub network: Ipv4Addr,
    /// The prefix length: 1 to 30 if [`Subnet::parse`] made it.
    pub prefix: u8,
}

/// Why `network_address` and `network_mask` do not define a subnet for leases. The message says what was expected.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum SubnetError {
    /// The address is not four decimal numbers.
    #[error("{0:?} is not an IPv4 address such as 10.0.0.0 (without a /prefix)")]
    BadAddress(String),
    /// The mask is not four decimal numbers.
    #[error("{0:?} is not an IPv4 netmask such as 255.255.255.0")]
    BadMask(String),
    /// The mask's ones are not contiguous.
    #[error("netmask {0} is not contiguous: its ones must all stand before its zeros, as in 255.255.255.0")]
    NonContiguousMask(Ipv4Addr),
    /// The mask is 0.0.0.0: the whole Internet.
    #[error("netmask 0.0.0.0 covers the whole Internet; expected one such as 255.255.255.0")]
    ZeroMask,
    /// The address has host bits.
    #[error("{address} is not a network address, bits outside the netmask are set: {meant} was probably meant")]
    HostBitsSet {
        /// The address as given.
        address: Ipv4Addr,
        /// The subnet it lies in.
        meant: Subnet,
    },
    /// Longer than /30: too small for a gateway and a client.
    #[error("{0} is too small for a gateway and a client; the longest prefix is /30 (255.255.255.252)")]
    TooSmall(Subnet),
    /// It overlaps addresses that a tunnel cannot use.
    #[error("{subnet} overlaps {reserved}, which is {purpose}; expected a private network such as 10.0.0.0/24")]
    Reserved {
        /// The subnet as given.
        subnet: Subnet,
        /// The addresses that it overlaps.
        reserved: Subnet,
        /// The purpose of those addresses.
        purpose: &'static str,
    },
}

impl Subnet {
    /// Parses a network address and a netmask from the configuration, both in dotted decimal.
    ///
    /// ```
    /// use vpn_core::lease::{Subnet, SubnetError};
    ///
    /// let subnet = Subnet::parse("10.98.0.0", "255.255.255.0")?;
    /// assert_eq!(subnet.to_string(), "10.98.0.0/24");
    /// assert_eq!((subnet.gateway(), subnet.capacity()), ([10, 98, 0, 1].into(), 253));
    ///
    /// let error = Subnet::parse("10.98.0.1", "255.255.255.0").map_err(|error| error.to_string());
    /// assert_eq!(
    ///     error.unwrap_err(),
    ///     "10.98.0.1 is not a network address, bits outside the netmask are set: 10.98.0.0/24 was probably meant"
    /// );
    /// # Ok::<(), SubnetError>(())
    /// ```
    pub fn parse(address: &str, mask: &str) -> Result<Subnet, SubnetError> {
        let address: Ipv4Addr = address.parse().map_err(|_| SubnetError::BadAddress(address.to_owned()))?;
        let mask: Ipv4Addr = mask.parse().map_err(|_| SubnetError::BadMask(mask.to_owned()))?;
        let prefix = prefix_of(mask).ok_or(SubnetError::NonContiguousMask(mask))?;
        let subnet = Subnet { network: Ipv4Addr::from(u32::from(address) & u32::from(mask)), prefix };
        if prefix == 0 {
            return Err(SubnetError::ZeroMask);
        }
        if prefix > 30 {
            return Err(SubnetError::TooSmall(subnet));
        }
        if subnet.network != address {
            return Err(SubnetError::HostBitsSet { address, meant: subnet });
        }
        match RESERVED.iter().find(|(reserved, _)| reserved.overlaps(&subnet)) {
            Some(&(reserved, purpose)) => Err(SubnetError::Reserved { subnet, reserved, purpose }),
            None => Ok(subnet),
        }
    }

    /// The netmask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(!self.host_mask())
    }

    /// The last address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | self.host_mask())
    }

    /// The server's own address: host number 1.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 1)
    }

    /// Whether the address is in the subnet, which includes the network, gateway and broadcast addresses.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        self.host(addr).is_some()
    }

    /// Whether the two subnets have an address in common.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        let wider = self.host_mask() | other.host_mask();
        u32::from(self.network) & !wider == u32::from(other.network) & !wider
    }

    /// The number of addresses for clients: all but the network, gateway and broadcast addresses.
    pub fn capacity(&self) -> u32 {
        self.host_mask().saturating_sub(2)
    }

    /// The number of an address in the subnet: 0 is the network address, 1 the gateway; `None` if the address is
    /// outside.
    pub fn host(&self, addr: Ipv4Addr) -> Option<u32> {
        let host = u32::from(addr) ^ (u32::from(self.network) & !self.host_mask());
        (host & !self.host_mask() == 0).then_some(host)
    }

    /// The address with this number; `None` if the subnet has no such number.
    pub fn address(&self, host: u32) -> Option<Ipv4Addr> {
        (host <= self.host_mask()).then(|| Ipv4Addr::from((u32::from(self.network) & !self.host_mask()) | host))
    }

    /// The complement of the netmask, which is also the broadcast address's number.
    pub(crate) fn host_mask(&self) -> u32 {
        u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Ranges that a tunnel cannot use: the kernel drops them as sources or destinations (RFC 6890, RFC 5771).
const RESERVED: [(Subnet, &str); 3] = [
    (Subnet { network: Ipv4Addr::new(0, 0, 0, 0), prefix: 8 }, "\"this network\""),
    (Subnet { network: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 }, "loopback"),
    (Subnet { network: Ipv4Addr::new(224, 0, 0, 0), prefix: 4 }, "multicast"),
];

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let mask = u32::from(mask);
    let prefix = mask.leading_ones();
    (prefix + mask.trailing_zeros() >= u32::BITS).then_some(prefix as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        let (network, prefix) = text.split_once('/').unwrap();
        Subnet { network: network.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn parts_of_a_subnet() {
        let subnet = Subnet::parse("10.0.0.0", "255.255.255.0").unwrap();
        assert_eq!(subnet.to_string(), "10.0.0.0/24");
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(10, 0, 0, 255));
        assert_eq!(subnet.capacity(), 253);
        assert_eq!(subnet.address(255), Some(subnet.broadcast()));
        assert_eq!(subnet.address(256), None);
        assert_eq!(subnet.host(Ipv4Addr::new(10, 0, 0, 7)), Some(7));
        assert_eq!(subnet.host(Ipv4Addr::new(10, 0, 1, 7)), None);
        assert!(subnet.contains(subnet.network) && subnet.contains(subnet.broadcast()));
        assert!(!subnet.contains(Ipv4Addr::new(9, 255, 255, 255)) && !subnet.contains(Ipv4Addr::new(10, 0, 1, 0)));
    }

    #[test]
    fn the_smallest_and_the_widest() {
        let smallest = Subnet::parse("192.168.7.4", "255.255.255.252").unwrap();
        assert_eq!((smallest.capacity(), smallest.broadcast()), (1, Ipv4Addr::new(192, 168, 7, 7)));
        let widest = Subnet::parse("10.0.0.0", "255.0.0.0").unwrap();
        assert_eq!(widest.capacity(), (1 << 24) - 3);
    }

    #[test]
    fn mistakes_are_told_apart() {
        let mask = "255.255.255.0";
        for address in
            ["", "text", "0.0.0.1/24", "10.0.0.0/24", "10.0.0", "10.0.0.256", " 10.0.0.0", "010.0.0.0", "::1"]
        {
            assert_eq!(Subnet::parse(address, mask), Err(SubnetError::BadAddress(address.to_owned())));
        }
        for mask in ["", "24", "/24", "255.255.255", "255.255.255.256", "ffffff00"] {
            assert_eq!(Subnet::parse("10.0.0.0", mask), Err(SubnetError::BadMask(mask.to_owned())));
        }
        for mask in ["255.0.255.0", "0.255.255.255", "0.0.0.255", "255.255.255.1"] {
            let expected = SubnetError::NonContiguousMask(mask.parse().unwrap());
            assert_eq!(Subnet::parse("10.0.0.0", mask), Err(expected));
        }
        assert_eq!(Subnet::parse("10.0.0.0", "0.0.0.0"), Err(SubnetError::ZeroMask));
        assert_eq!(Subnet::parse("10.0.0.0", "255.255.255.254"), Err(SubnetError::TooSmall(subnet("10.0.0.0/31"))));
        assert_eq!(Subnet::parse("10.0.0.1", "255.255.255.255"), Err(SubnetError::TooSmall(subnet("10.0.0.1/32"))));
        for (address, mask) in [
            ("0.0.0.0", "255.0.0.0"),
            ("0.0.0.0", "128.0.0.0"),
            ("127.1.0.0", "255.255.0.0"),
            ("239.0.0.0", "255.0.0.0"),
            ("128.0.0.0", "128.0.0.0"),
        ] {
            assert!(matches!(Subnet::parse(address, mask), Err(SubnetError::Reserved { .. })), "{address} {mask}");
        }
    }

    #[test]
    fn the_message_names_the_intended_subnet() {
        let error = Subnet::parse("10.0.0.5", "255.255.255.0").unwrap_err();
        assert_eq!(
            error,
            SubnetError::HostBitsSet { address: Ipv4Addr::new(10, 0, 0, 5), meant: subnet("10.0.0.0/24") }
        );
        assert!(error.to_string().contains("10.0.0.0/24"), "{error}");
        assert!(error.to_string().contains("10.0.0.5"), "{error}");
    }

    #[test]
    fn a_hand_made_subnet_never_panics() {
        for prefix in [0, 31, 32, 33, 255] {
            let odd = Subnet { network: Ipv4Addr::new(10, 0, 0, 9), prefix };
            assert!(odd.contains(odd.network), "/{prefix}");
            assert!(odd.overlaps(&odd) && odd.host(odd.broadcast()).is_some());
        }
        assert_eq!(Subnet { network: Ipv4Addr::UNSPECIFIED, prefix: 0 }.capacity(), u32::MAX - 2);
        for prefix in [31, 32, 40] {
            assert_eq!(Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix }.capacity(), 0);
        }
    }

    proptest! {
        #[test]
        fn overlap_is_symmetric_and_means_a_shared_address(a: u32, b: u32, pa in 0_u8..=32, pb in 0_u8..=32) {
            let cut = |addr: u32, prefix: u8| {
                let odd = Subnet { network: Ipv4Addr::from(addr), prefix };
                Subnet { network: Ipv4Addr::from(addr & !odd.host_mask()), prefix }
            };
            // In half of the cases both share their upper half, so that both results are frequent.
            for b in [b, a & 0xffff_0000 | b & 0xffff] {
                let (a, b) = (cut(a, pa), cut(b, pb));
                // Of two subnets with a common address, one contains the other.
                let shared = a.contains(b.network) || b.contains(a.network);
                prop_assert_eq!(a.overlaps(&b), shared);
                prop_assert_eq!(b.overlaps(&a), shared);
            }
        }

        #[test]
        fn number_and_address_are_inverse(network: u32, prefix in 1_u8..=30, host: u32) {
            let mut subnet = Subnet { network: Ipv4Addr::from(network), prefix };
            subnet.network = Ipv4Addr::from(network & u32::from(subnet.mask()));
            let host = host & subnet.host_mask();
            let addr = subnet.address(host).unwrap();
            prop_assert!(addr >= subnet.network && addr <= subnet.broadcast());
            prop_assert_eq!(subnet.host(addr), Some(host));
        }
    }
}
