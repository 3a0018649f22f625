//! The tunnel's subnet, as configured.

use std::fmt;
use std::net::Ipv4Addr;

/// A range of IPv4 addresses: a network address and a prefix length.
///
/// The C module takes a network address with bits outside the netmask, and then the gateway is not the range's first
/// host: it is the address as configured with its last bit set, and clients get the addresses behind it. Operators have
/// such configurations, so a subnet keeps these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// The network address as configured. Bits outside the netmask move the gateway; they are zero in most networks.
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
    /// The address has bits outside the netmask that leave no address for clients.
    #[error("with {address} the server has {gateway} in {subnet}, behind which there is no address for clients")]
    NoneBehind {
        /// The address as given.
        address: Ipv4Addr,
        /// The server's own address.
        gateway: Ipv4Addr,
        /// The subnet it lies in.
        subnet: Subnet,
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
    /// Parses a network address and a netmask from the configuration, in the forms that [`dotted`] reads.
    ///
    /// ```
    /// use vpn_core::lease::{Subnet, SubnetError};
    ///
    /// let subnet = Subnet::parse("10.98.0.0", "255.255.255.0")?;
    /// assert_eq!(subnet.to_string(), "10.98.0.0/24");
    /// assert_eq!((subnet.gateway(), subnet.capacity()), ([10, 98, 0, 1].into(), 253));
    ///
    /// // Bits outside the netmask: the server has 10.98.7.1, clients get 10.98.7.2 and on.
    /// let subnet = Subnet::parse("10.98.7.0", "255.255.0.0")?;
    /// assert_eq!((subnet.to_string(), subnet.base()), ("10.98.0.0/16".into(), [10, 98, 0, 0].into()));
    /// assert_eq!((subnet.gateway(), subnet.capacity()), ([10, 98, 7, 1].into(), 65_535 - (7 * 256 + 1) - 1));
    ///
    /// let error = Subnet::parse("10.98.0.0", "255.0.255.0").map_err(|error| error.to_string());
    /// assert!(error.unwrap_err().starts_with("netmask 255.0.255.0 is not contiguous"));
    /// # Ok::<(), SubnetError>(())
    /// ```
    ///
    /// # Errors
    /// [`SubnetError`]; also for link-local and future addresses, which `check_usable` accepts.
    pub fn parse(address: &str, mask: &str) -> Result<Subnet, SubnetError> {
        let address = dotted(address).ok_or_else(|| SubnetError::BadAddress(address.to_owned()))?;
        let mask = dotted(mask).ok_or_else(|| SubnetError::BadMask(mask.to_owned()))?;
        let prefix = prefix_of(mask).ok_or(SubnetError::NonContiguousMask(mask))?;
        let subnet = Subnet { network: address, prefix };
        subnet.check_served()?;
        Ok(subnet)
    }

    /// Parses a network in the form 10.0.0.0/8, whose bits behind the prefix are zero; `None` for any other text.
    pub fn parse_cidr(text: &str) -> Option<Subnet> {
        let (network, prefix) = text.split_once('/')?;
        let is_number = prefix.bytes().all(|digit| digit.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| is_number && *prefix <= 32)?;
        let subnet = Subnet { network: network.parse().ok()?, prefix };
        (subnet.network == subnet.base()).then_some(subnet)
    }

    /// Checks that the subnet has an address for a gateway and for a client, and no addresses that the kernel drops.
    pub(crate) fn check_usable(&self) -> Result<(), SubnetError> {
        if self.prefix == 0 {
            return Err(SubnetError::ZeroMask);
        }
        if self.prefix > 30 {
            return Err(SubnetError::TooSmall(*self));
        }
        self.check_reserved(&DROPPED)
    }

    /// Checks that a server may have the subnet: it is usable, has an address behind the gateway, and is not forbidden.
    pub(crate) fn check_served(&self) -> Result<(), SubnetError> {
        self.check_usable()?;
        self.check_reserved(&FORBIDDEN)?;
        if self.capacity() == 0 {
            let (address, gateway) = (self.network, self.gateway());
            return Err(SubnetError::NoneBehind { address, gateway, subnet: *self });
        }
        Ok(())
    }

    fn check_reserved(&self, ranges: &[(Subnet, &'static str)]) -> Result<(), SubnetError> {
        match ranges.iter().find(|(reserved, _)| reserved.overlaps(self)) {
            Some(&(reserved, purpose)) => Err(SubnetError::Reserved { subnet: *self, reserved, purpose }),
            None => Ok(()),
        }
    }

    /// Returns the network that an address with a prefix of at most 32 is in.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Subnet {
        let inside = Subnet { network: address, prefix };
        Subnet { network: inside.base(), prefix }
    }

    /// The netmask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(!self.host_mask())
    }

    /// The last address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | self.host_mask())
    }

    /// The first address, whose host bits are zero.
    pub fn base(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) & !self.host_mask())
    }

    /// The server's own address: host number 1, unless the network address has bits outside the netmask.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 1)
    }

    /// Whether the address is in the subnet, which includes the network, gateway and broadcast addresses.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        self.host(addr).is_some()
    }

    /// Whether all addresses of the other subnet are in this one.
    pub fn holds(&self, other: &Subnet) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }

    /// Whether the two subnets have an address in common.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        let wider = self.host_mask() | other.host_mask();
        u32::from(self.network) & !wider == u32::from(other.network) & !wider
    }

    /// The number of addresses for clients: those between the gateway and the broadcast address.
    pub fn capacity(&self) -> u32 {
        (self.host_mask() - (u32::from(self.gateway()) & self.host_mask())).saturating_sub(1)
    }

    /// The first and the last address for clients.
    pub fn clients(&self) -> (Ipv4Addr, Ipv4Addr) {
        let (gateway, last) = (u32::from(self.gateway()), u32::from(self.broadcast()));
        (Ipv4Addr::from(gateway.saturating_add(1)), Ipv4Addr::from(last.saturating_sub(1)))
    }

    /// Whether the address is one for clients.
    pub fn is_for_clients(&self, addr: Ipv4Addr) -> bool {
        let (first, last) = self.clients();
        (first..=last).contains(&addr)
    }

    /// The number of an address in the subnet, counted from its first one; `None` if the address is outside.
    pub fn host(&self, addr: Ipv4Addr) -> Option<u32> {
        let host = u32::from(addr) ^ u32::from(self.base());
        (host & !self.host_mask() == 0).then_some(host)
    }

    /// The address with this number; `None` if the subnet has no such number.
    pub fn address(&self, host: u32) -> Option<Ipv4Addr> {
        (host <= self.host_mask()).then(|| Ipv4Addr::from(u32::from(self.base()) | host))
    }

    /// The number of a client's address, counted from the gateway: its own is 1, the first client's 2. `None` outside
    /// the subnet and for an address before the gateway.
    pub(super) fn number(&self, addr: Ipv4Addr) -> Option<u32> {
        let gateway = u32::from(self.gateway());
        self.host(addr)?;
        (u32::from(addr).checked_sub(gateway)?).checked_add(1)
    }

    /// The address with this number, counted from the gateway.
    pub(super) fn numbered(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.gateway()).wrapping_add(number).wrapping_sub(1))
    }

    /// The complement of the netmask, which is also the broadcast address's number.
    pub(crate) fn host_mask(&self) -> u32 {
        u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

/// Ranges that a tunnel must not use although the kernel routes them: an instance in a cloud asks link-local addresses for
/// its keys and start-up scripts, and nobody has the addresses that are reserved for future use (RFC 3927, RFC 1112).
const FORBIDDEN: [(Subnet, &str); 2] = [
    (Subnet { network: Ipv4Addr::new(169, 254, 0, 0), prefix: 16 }, "link-local, with the metadata services of clouds"),
    (Subnet { network: Ipv4Addr::new(240, 0, 0, 0), prefix: 4 }, "reserved for future use"),
];

/// Ranges that a tunnel cannot use: the kernel drops them as sources or destinations (RFC 6890, RFC 5771).
const DROPPED: [(Subnet, &str); 3] = [
    (Subnet { network: Ipv4Addr::new(0, 0, 0, 0), prefix: 8 }, "\"this network\""),
    (Subnet { network: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 }, "loopback"),
    (Subnet { network: Ipv4Addr::new(224, 0, 0, 0), prefix: 4 }, "multicast"),
];

/// Reads an IPv4 address as C's `inet_aton` does, which the C module reads its configuration with: one to four numbers,
/// decimal, octal with a leading 0 or hexadecimal with 0x; the last one fills the remaining bytes. Text behind a space
/// is ignored.
pub fn dotted(text: &str) -> Option<Ipv4Addr> {
    let text = text.split_ascii_whitespace().next().filter(|first| text.starts_with(first))?;
    let parts = text.split('.').map(number_of).collect::<Option<Vec<u32>>>()?;
    let (last, leading) = parts.split_last().filter(|(_, leading)| leading.len() <= 3)?;
    let free = u32::BITS - 8 * leading.len() as u32;
    if leading.iter().any(|part| *part > 255) || u64::from(*last) >> free != 0 {
        return None;
    }
    let mut address = 0_u64;
    for part in leading {
        address = address << 8 | u64::from(*part);
    }
    u32::try_from(address << free | u64::from(*last)).ok().map(Ipv4Addr::from)
}

fn number_of(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` alone would take a sign.
    if digits.chars().all(|digit| digit.is_digit(radix)) { u32::from_str_radix(digits, radix).ok() } else { None }
}

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
        for address in ["", "text", "0.0.0.1/24", "10.0.0.0/24", "10.0.0.256", " 10.0.0.0", "080.0.0.0", "::1"] {
            assert_eq!(Subnet::parse(address, mask), Err(SubnetError::BadAddress(address.to_owned())));
        }
        for mask in ["", "/24", "255.255.255.256", "ffffff00"] {
            assert_eq!(Subnet::parse("10.0.0.0", mask), Err(SubnetError::BadMask(mask.to_owned())));
        }
        for mask in ["255.0.255.0", "0.255.255.255", "0.0.0.255", "255.255.255.1", "24", "255.255.255"] {
            let expected = SubnetError::NonContiguousMask(dotted(mask).unwrap());
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
            ("169.254.0.0", "255.255.0.0"),
            ("169.254.169.0", "255.255.255.0"),
            ("169.254.169.252", "255.255.255.252"),
            ("169.0.0.0", "255.0.0.0"),
            ("240.0.0.0", "255.0.0.0"),
            ("255.255.255.0", "255.255.255.0"),
        ] {
            assert!(matches!(Subnet::parse(address, mask), Err(SubnetError::Reserved { .. })), "{address} {mask}");
        }
    }

    /// The gateways and first leases are those that the C module made of these configurations.
    #[test]
    fn bits_outside_the_netmask_move_the_gateway() {
        for (address, mask, gateway, shown, capacity) in [
            ("10.11.12.0", "255.255.0.0", [10, 11, 12, 1], "10.11.0.0/16", 65_535 - 3073 - 1),
            ("10.11.12.1", "255.255.255.0", [10, 11, 12, 1], "10.11.12.0/24", 253),
            ("10.11.12.4", "255.255.255.0", [10, 11, 12, 5], "10.11.12.0/24", 249),
            ("10.11.12.253", "255.255.255.0", [10, 11, 12, 253], "10.11.12.0/24", 1),
            ("192.168.0.0", "255.0.0.0", [192, 168, 0, 1], "192.0.0.0/8", (1 << 24) - 1 - (168 << 16 | 1) - 1),
        ] {
            let subnet = Subnet::parse(address, mask).unwrap();
            let expected = (Ipv4Addr::from(gateway), shown.to_owned(), capacity);
            assert_eq!((subnet.gateway(), subnet.to_string(), subnet.capacity()), expected, "{address}/{mask}");
            assert_eq!((subnet.number(subnet.gateway()), subnet.numbered(1)), (Some(1), subnet.gateway()));
            assert_eq!(subnet.numbered(capacity + 2), subnet.broadcast());
            assert!(subnet.base() < subnet.gateway() && subnet.number(subnet.base()).is_none());
        }
        for address in ["10.11.12.254", "10.11.12.255"] {
            let error = Subnet::parse(address, "255.255.255.0").unwrap_err();
            let says = format!("with {address} the server has 10.11.12.255 in 10.11.12.0/24, behind which there is no");
            assert!(matches!(error, SubnetError::NoneBehind { .. }) && error.to_string().contains(&says), "{error}");
        }
    }

    /// Each value is what C's `inet_aton` reads.
    #[test]
    fn addresses_are_read_as_the_c_module_read_them() {
        for (text, read) in [
            ("10.98.0.0", Some([10, 98, 0, 0])),
            ("10.98.0", Some([10, 98, 0, 0])),
            ("10.98.259", Some([10, 98, 1, 3])),
            ("10.98", Some([10, 0, 0, 98])),
            ("174194688", Some([10, 98, 0, 0])),
            ("010.98.0.0", Some([8, 98, 0, 0])),
            ("0xa.0X62.0.0", Some([10, 98, 0, 0])),
            ("0xffffff00", Some([255, 255, 255, 0])),
            ("10.98.0.0 inner", Some([10, 98, 0, 0])),
            ("255.255.255.255", Some([255, 255, 255, 255])),
            ("4294967295", Some([255, 255, 255, 255])),
            ("4294967296", None),
            ("256.0.0.0", None),
            ("10.98.65536", None),
            ("10.16777216", None),
            ("1.2.3.4.5", None),
            ("1..2", None),
            ("1.2.3.", None),
            (".1.2.3", None),
            ("+1.2.3.4", None),
            ("-1", None),
            ("09.0.0.0", None),
            ("0x", None),
            (" 10.0.0.0", None),
            ("10.0.0.0/24", None),
            ("", None),
        ] {
            assert_eq!(dotted(text), read.map(Ipv4Addr::from), "{text:?}");
        }
    }

    #[test]
    fn a_network_with_its_prefix_is_read_strictly() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "203.0.113.0/24", "192.0.2.7/32", "128.0.0.0/1"] {
            assert_eq!(Subnet::parse_cidr(text).map(|subnet| subnet.to_string()), Some(text.to_owned()));
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/255.0.0.0",
            "::/0",
            "10.0.0.0/08x",
            "010.0.0.0/8",
        ] {
            assert_eq!(Subnet::parse_cidr(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_subnet_holds_itself_and_what_is_in_it() {
        for (outer, inner, holds) in [
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.255.255.252/30", true),
            ("10.0.0.0/9", "10.128.0.0/9", false),
            ("10.0.0.0/9", "10.0.0.0/8", false),
            ("0.0.0.0/0", "10.0.0.0/8", true),
        ] {
            assert_eq!(subnet(outer).holds(&subnet(inner)), holds, "{outer} {inner}");
        }
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
        fn clients_are_numbered_from_the_gateway(network: u32, prefix in 1_u8..=30, addr: u32) {
            let subnet = Subnet { network: Ipv4Addr::from(network), prefix };
            let host = addr & subnet.host_mask();
            let addr = subnet.address(host).unwrap();
            match subnet.number(addr) {
                Some(number) => prop_assert_eq!(subnet.numbered(number), addr),
                None => prop_assert!(addr < subnet.gateway()),
            }
            let clients = 2..subnet.capacity() + 2;
            let is_client = subnet.number(addr).is_some_and(|number| clients.contains(&number));
            prop_assert_eq!(is_client, addr > subnet.gateway() && addr < subnet.broadcast());
            prop_assert_eq!(subnet.number(Ipv4Addr::from(!u32::from(addr))), None);
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
