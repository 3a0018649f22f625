//! A server's offer in its ADDR_REPLY, validated before anything on this host changes: the server decides what is
//! routed to it, so a wrong or malicious reply could redirect much of this host's traffic.

use std::net::{IpAddr, Ipv4Addr};

use crate::lease::{Subnet, SubnetError};
use crate::wire::AddrReply;

/// The shortest prefix: a larger subnet than a /8 is no tunnel's subnet but a part of the Internet.
const SHORTEST: u8 = 8;
/// The longest prefix, with addresses for a gateway and a client.
const LONGEST: u8 = 30;
/// The private networks and the one that carriers share (RFC 1918, RFC 6598): in them a server may choose, because no
/// public host has such an address.
const PRIVATE: [Subnet; 4] = [
    Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 8 },
    Subnet { network: Ipv4Addr::new(172, 16, 0, 0), prefix: 12 },
    Subnet { network: Ipv4Addr::new(192, 168, 0, 0), prefix: 16 },
    Subnet { network: Ipv4Addr::new(100, 64, 0, 0), prefix: 10 },
];
/// The longest prefix that is guessed for a reply without a netmask.
const GUESSED: u8 = 24;

/// An address that this host can use.
///
/// ```
/// use std::net::Ipv4Addr;
/// use vpn_core::exchange::{Offer, OfferError};
/// use vpn_core::lease::Subnet;
/// use vpn_core::wire::AddrReply;
///
/// let reply = |net: [u8; 3]| {
///     let host = |last| Ipv4Addr::new(net[0], net[1], net[2], last);
///     AddrReply { addr: host(2), gateway: host(1), netmask: None, caps: None }
/// };
/// let offer = Offer::validate(&reply([10, 98, 0]), None, &[])?;
/// assert_eq!(offer.subnet().to_string(), "10.98.0.0/24");
///
/// // A server may not take over public addresses, unless the user allows it.
/// let public = reply([203, 0, 113]);
/// assert!(matches!(Offer::validate(&public, None, &[]), Err(OfferError::NotPrivate(_))));
/// let allowed = Subnet { network: Ipv4Addr::new(203, 0, 113, 0), prefix: 24 };
/// assert!(Offer::validate(&public, None, &[allowed]).is_ok());
/// # Ok::<(), OfferError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// This host's inner address.
    pub addr: Ipv4Addr,
    /// The server's inner address.
    pub gateway: Ipv4Addr,
    /// The length of the subnet's prefix.
    pub prefix: u8,
    /// The largest inner packet that the server accepts, in bytes; `None` if the reply does not say.
    pub mtu: Option<u16>,
    /// The largest bundle that the server accepts, in bytes; 0 for none.
    pub bundle: u16,
    /// The name servers that the reply gives, as it gives them; not validated.
    pub dns: Vec<Ipv4Addr>,
}

/// Why an ADDR_REPLY cannot be used: the given value, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The subnet is too large for a tunnel, or too small for two hosts.
    #[error("it gives the subnet {0}; a prefix of /{SHORTEST} to /{LONGEST} is expected")]
    Prefix(Subnet),
    /// No tunnel can have this subnet.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// The address or the gateway is outside of the subnet.
    #[error("it gives {given}, which is outside of its subnet {subnet}; an address in the subnet is expected")]
    Outside {
        /// The address.
        given: Ipv4Addr,
        /// The offered subnet.
        subnet: Subnet,
    },
    /// The address or the gateway is the first or the last of the subnet.
    #[error("it gives {given}, the network or broadcast address of {subnet}; one between the two is expected")]
    NoHost {
        /// The address.
        given: Ipv4Addr,
        /// The offered subnet.
        subnet: Subnet,
    },
    /// Address and gateway are equal.
    #[error("it gives {0} as address and as gateway; two different ones are expected")]
    Same(Ipv4Addr),
    /// The subnet has addresses of public hosts, or of others that the user has not allowed.
    #[error(
        "it gives the subnet {0}, which is in no private network; one in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, \
         100.64.0.0/10 or a network of [vpn_client] allow_subnet is expected"
    )]
    NotPrivate(Subnet),
    /// The route to the server would lead into the tunnel.
    #[error("it gives the subnet {subnet}, which holds its own outer address {outer}; one without it is expected")]
    HoldsServer {
        /// The subnet.
        subnet: Subnet,
        /// The server's outer address.
        outer: Ipv4Addr,
    },
}

impl Offer {
    /// Validates an address and a gateway that this host's own program has chosen, and guesses their subnet. The program
    /// may choose addresses that a server may not give: public and link-local ones.
    pub fn of_pair(addr: Ipv4Addr, gateway: Ipv4Addr) -> Result<Offer, OfferError> {
        Offer::well_formed(addr, gateway, None)
    }

    /// Validates a reply. `outer` is the server's outer address, if known; `allow` are the networks that the user allows
    /// beside the private ones.
    pub fn validate(reply: &AddrReply, outer: Option<IpAddr>, allow: &[Subnet]) -> Result<Offer, OfferError> {
        let mut offer = Offer::well_formed(reply.addr, reply.gateway, reply.netmask)?;
        if let Some(caps) = &reply.caps {
            offer.mtu = caps.mtu;
            offer.bundle = caps.bundle.unwrap_or(0);
            offer.dns.clone_from(&caps.dns);
        }
        let subnet = offer.subnet();
        subnet.check_served()?;
        if !PRIVATE.iter().chain(allow).any(|allowed| allowed.holds(&subnet)) {
            return Err(OfferError::NotPrivate(subnet));
        }
        match outer.map(|outer| outer.to_canonical()) {
            Some(IpAddr::V4(outer)) if subnet.contains(outer) => Err(OfferError::HoldsServer { subnet, outer }),
            _ => Ok(offer),
        }
    }

    /// The subnet that is to be routed into the tunnel.
    pub fn subnet(&self) -> Subnet {
        subnet_of(self.addr, self.prefix)
    }

    /// Checks that the addresses of an offer without capabilities fit each other.
    fn well_formed(addr: Ipv4Addr, gateway: Ipv4Addr, netmask: Option<Ipv4Addr>) -> Result<Offer, OfferError> {
        let prefix = netmask.map_or_else(|| guess_prefix(addr, gateway), |mask| u32::from(mask).leading_ones() as u8);
        let subnet = subnet_of(addr, prefix);
        if !(SHORTEST..=LONGEST).contains(&prefix) {
            return Err(OfferError::Prefix(subnet));
        }
        subnet.check_usable()?;
        for given in [addr, gateway] {
            if !subnet.contains(given) {
                return Err(OfferError::Outside { given, subnet });
            }
            if is_edge(&subnet, given) {
                return Err(OfferError::NoHost { given, subnet });
            }
        }
        if addr == gateway {
            return Err(OfferError::Same(addr));
        }
        Ok(Offer { addr, gateway, prefix, mtu: None, bundle: 0, dns: Vec::new() })
    }
}

/// Returns the longest prefix, at most /24, whose subnet holds both addresses as hosts. Legacy replies carry no
/// netmask, and a legacy pool may be as large as a /8. Addresses that share no /8 get one that holds only the first:
/// [`Offer::validate`] refuses them.
fn guess_prefix(addr: Ipv4Addr, gateway: Ipv4Addr) -> u8 {
    let shared = (u32::from(addr) ^ u32::from(gateway)).leading_zeros() as u8;
    let longest = shared.clamp(SHORTEST, GUESSED);
    let fits = |prefix: &u8| {
        let subnet = subnet_of(addr, *prefix);
        !is_edge(&subnet, addr) && !is_edge(&subnet, gateway)
    };
    (SHORTEST..=longest).rev().find(fits).unwrap_or(longest)
}

fn subnet_of(addr: Ipv4Addr, prefix: u8) -> Subnet {
    let subnet = Subnet { network: addr, prefix };
    Subnet { network: Ipv4Addr::from(u32::from(addr) & u32::from(subnet.mask())), prefix }
}

fn is_edge(subnet: &Subnet, addr: Ipv4Addr) -> bool {
    addr == subnet.network || addr == subnet.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(addr: &str, gateway: &str, netmask: &str) -> Result<Offer, OfferError> {
        validate_with(addr, gateway, netmask, &[])
    }

    fn validate_with(addr: &str, gateway: &str, netmask: &str, allow: &[&str]) -> Result<Offer, OfferError> {
        let allow: Vec<_> = allow.iter().map(|text| Subnet::parse_cidr(text).unwrap()).collect();
        let netmask = netmask.parse().ok();
        let reply = AddrReply { addr: addr.parse().unwrap(), gateway: gateway.parse().unwrap(), netmask, caps: None };
        Offer::validate(&reply, "10.55.0.1".parse().ok(), &allow)
    }

    #[test]
    fn useful_replies() {
        for (addr, gateway, netmask, prefix) in [
            ("10.98.0.2", "10.98.0.1", "255.255.255.0", 24),
            ("10.98.0.2", "10.98.0.1", "", 24),
            ("10.0.3.2", "10.0.0.1", "", 22),
            ("192.168.7.6", "192.168.7.5", "255.255.255.252", 30),
            ("100.64.0.2", "100.64.0.1", "255.192.0.0", 10),
            ("172.31.255.253", "172.16.0.1", "255.240.0.0", 12),
            ("192.168.0.2", "192.168.0.1", "255.255.0.0", 16),
            ("172.31.0.2", "172.16.0.1", "", 12),
            // The pool of a /16 may lease addresses that would be the edge of a /24.
            ("10.98.0.255", "10.98.0.1", "", 23),
            ("10.98.1.0", "10.98.0.1", "", 23),
        ] {
            let offer = validate(addr, gateway, netmask).unwrap();
            assert_eq!((offer.addr.to_string(), offer.prefix), (addr.to_owned(), prefix), "{addr} {netmask}");
        }
    }

    #[test]
    fn invalid_replies() {
        for (addr, gateway, netmask, says) in [
            ("10.98.0.2", "10.98.0.1", "128.0.0.0", "the subnet 0.0.0.0/1; a prefix of /8 to /30 is expected"),
            ("10.98.0.2", "10.98.0.1", "254.0.0.0", "10.0.0.0/7"),
            ("10.98.0.2", "10.98.0.3", "255.255.255.254", "10.98.0.2/31; a prefix of /8 to /30"),
            ("10.98.0.2", "10.98.0.2", "255.255.255.255", "10.98.0.2/32"),
            ("10.98.0.2", "10.98.0.2", "255.255.255.0", "10.98.0.2 as address and as gateway"),
            ("10.98.0.0", "10.98.0.1", "255.255.255.0", "10.98.0.0, the network or broadcast address"),
            ("10.98.0.255", "10.98.0.1", "255.255.255.0", "10.98.0.255, the network or broadcast address"),
            ("10.98.0.2", "10.98.0.255", "255.255.255.0", "10.98.0.255, the network or broadcast address"),
            ("10.98.0.2", "10.98.0.0", "255.255.255.0", "10.98.0.0, the network or broadcast address"),
            ("10.98.0.2", "10.98.1.1", "255.255.255.0", "10.98.1.1, which is outside of its subnet 10.98.0.0/24"),
            ("172.16.0.2", "10.0.0.1", "", "10.0.0.1, which is outside of its subnet 172.0.0.0/8"),
            ("100.64.0.2", "100.64.0.1", "255.0.0.0", "100.0.0.0/8, which is in no private network"),
            ("172.16.0.2", "172.16.0.1", "255.0.0.0", "172.0.0.0/8, which is in no private network"),
            ("172.32.0.2", "172.32.0.1", "255.255.255.0", "172.32.0.0/24, which is in no private network"),
            ("192.169.0.2", "192.169.0.1", "255.255.0.0", "192.169.0.0/16, which is in no private network"),
            ("192.168.0.2", "192.168.0.1", "255.254.0.0", "192.168.0.0/15, which is in no private network"),
            ("11.0.0.2", "11.0.0.1", "", "11.0.0.0/24, which is in no private network"),
            ("8.0.0.2", "8.0.0.1", "255.0.0.0", "8.0.0.0/8, which is in no private network"),
            ("198.18.0.2", "198.18.0.1", "", "198.18.0.0/24, which is in no private network"),
            ("169.254.169.2", "169.254.169.1", "255.255.255.0", "overlaps 169.254.0.0/16, which is link-local"),
            ("169.0.0.2", "169.0.0.1", "255.0.0.0", "overlaps 169.254.0.0/16"),
            ("240.0.0.2", "240.0.0.1", "255.0.0.0", "overlaps 240.0.0.0/4, which is reserved for future use"),
            ("198.18.0.5", "9.9.9.9", "", "9.9.9.9, which is outside of its subnet 198.0.0.0/8"),
            ("10.98.0.2", "10.98.0.2", "", "10.98.0.2 as address and as gateway"),
            ("127.0.0.2", "127.0.0.1", "255.0.0.0", "loopback"),
            ("224.0.0.2", "224.0.0.1", "255.255.255.0", "multicast"),
            ("0.0.0.0", "10.98.0.1", "255.255.255.0", "\"this network\""),
            ("10.98.0.2", "0.0.0.0", "255.255.255.0", "0.0.0.0, which is outside"),
            ("10.55.0.9", "10.55.0.8", "255.255.255.0", "10.55.0.0/24, which holds its own outer address 10.55.0.1"),
            ("10.98.0.2", "10.98.0.1", "255.0.0.0", "10.0.0.0/8, which holds its own outer address 10.55.0.1"),
        ] {
            let error = validate(addr, gateway, netmask).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("expected"), "{addr} {gateway} {netmask}: {error}");
        }
    }

    #[test]
    fn the_user_may_allow_more_but_not_link_local_and_future_addresses() {
        let everything = &["0.0.0.0/0"];
        for (addr, gateway, netmask, allow) in [
            ("8.0.0.2", "8.0.0.1", "255.0.0.0", &["8.0.0.0/8"][..]),
            ("8.8.8.2", "8.8.8.1", "255.255.255.0", &["1.0.0.0/8", "8.0.0.0/8"]),
            ("203.0.113.6", "203.0.113.5", "255.255.255.252", everything),
        ] {
            assert!(validate_with(addr, gateway, netmask, allow).is_ok(), "{addr}");
        }
        for (addr, gateway, netmask, allow) in [
            ("8.0.0.2", "8.0.0.1", "255.0.0.0", &["8.0.0.0/9"][..]),
            ("9.0.0.2", "9.0.0.1", "255.255.255.0", &["8.0.0.0/8"]),
            ("169.254.1.2", "169.254.1.1", "255.255.255.0", everything),
            ("169.254.1.2", "169.254.1.1", "255.255.255.0", &["169.254.0.0/16"]),
            ("250.0.0.2", "250.0.0.1", "255.255.255.0", &["240.0.0.0/4"]),
            ("127.0.0.2", "127.0.0.1", "255.0.0.0", everything),
            ("10.55.0.9", "10.55.0.8", "255.255.255.0", everything),
        ] {
            let error = validate_with(addr, gateway, netmask, allow).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }

    /// The C API's users decide themselves what they route into the tunnel.
    #[test]
    fn a_pair_that_the_host_has_chosen_may_be_public() {
        let of_pair = |addr: [u8; 4], gateway: [u8; 4]| Offer::of_pair(addr.into(), gateway.into());
        assert_eq!(of_pair([198, 18, 0, 5], [198, 18, 0, 1]).unwrap().prefix, 24);
        assert_eq!(of_pair([169, 254, 7, 5], [169, 254, 7, 1]).unwrap().prefix, 24);
        assert!(of_pair([127, 0, 0, 5], [127, 0, 0, 1]).is_err());
        assert!(of_pair([10, 0, 0, 1], [10, 0, 0, 1]).is_err());
    }
}
