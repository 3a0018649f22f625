//! A server's offer in its ADDR_REPLY, validated before anything on this host changes: the server decides what is
//! routed to it, so a wrong or malicious reply could redirect much of this host's traffic.

use std::net::{IpAddr, Ipv4Addr};

use crate::lease::{Subnet, SubnetError};
use crate::wire::AddrReply;

/// The shortest prefix: a larger subnet than a /8 is no tunnel's subnet but a part of the Internet.
const SHORTEST: u8 = 8;
/// The longest prefix, with addresses for a gateway and a client.
const LONGEST: u8 = 30;
/// The longest prefix that is guessed for a reply without a netmask.
const GUESSED: u8 = 24;

/// An address that this host can use.
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
    /// Validates an address and a gateway that no server has sent, and guesses their subnet.
    pub fn of_pair(addr: Ipv4Addr, gateway: Ipv4Addr) -> Result<Offer, OfferError> {
        Offer::validate(&AddrReply { addr, gateway, netmask: None, caps: None }, None)
    }

    /// Validates a reply. `outer` is the server's outer address, if known.
    pub fn validate(reply: &AddrReply, outer: Option<IpAddr>) -> Result<Offer, OfferError> {
        let &AddrReply { addr, gateway, netmask, .. } = reply;
        let prefix = netmask.map_or_else(|| guess_prefix(addr, gateway), |mask| u32::from(mask).leading_ones() as u8);
        let subnet = subnet_of(addr, prefix);
        if !(SHORTEST..=LONGEST).contains(&prefix) {
            return Err(OfferError::Prefix(subnet));
        }
        Subnet::parse(&subnet.network.to_string(), &subnet.mask().to_string())?;
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
        match outer.map(|outer| outer.to_canonical()) {
            Some(IpAddr::V4(outer)) if subnet.contains(outer) => Err(OfferError::HoldsServer { subnet, outer }),
            _ => {
                let caps = reply.caps.as_ref();
                let bundle = caps.and_then(|caps| caps.bundle).unwrap_or(0);
                Ok(Offer { addr, gateway, prefix, mtu: caps.and_then(|caps| caps.mtu), bundle })
            }
        }
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
        let netmask = netmask.parse().ok();
        let reply = AddrReply { addr: addr.parse().unwrap(), gateway: gateway.parse().unwrap(), netmask, caps: None };
        Offer::validate(&reply, "10.55.0.1".parse().ok())
    }

    #[test]
    fn useful_replies() {
        for (addr, gateway, netmask, prefix) in [
            ("10.98.0.2", "10.98.0.1", "255.255.255.0", 24),
            ("10.98.0.2", "10.98.0.1", "", 24),
            ("10.0.3.2", "10.0.0.1", "", 22),
            ("192.168.7.6", "192.168.7.5", "255.255.255.252", 30),
            ("100.64.0.2", "100.64.0.1", "255.0.0.0", 8),
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
}
