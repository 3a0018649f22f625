//! Addresses that are one client's alone, by the hash of its key (`static_leases`).
//!
//! Anybody can name a key hash. So a client gets its static lease when it has proved its key, by the signature of a
//! receipt, or when it shows the token that it got with the lease; without a proof only where the operator has switched
//! proofs off (`prove_key = false`).

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use crate::sdk::config::{BadValue, Config};
use vpn_core::exchange::Leases;
use vpn_core::lease::{KeyTokens, Subnet, Token};
use vpn_core::wire::parse_hash;

use super::Server;
use super::leases::Owner;
use super::session::Session;

const SECTION: &str = "srv_vpn";
const KEY: &str = "static_leases";

/// The static leases: key hash to address.
#[derive(Clone, Debug, Default)]
pub(crate) struct StaticLeases(HashMap<[u8; 32], Ipv4Addr>);

impl StaticLeases {
    pub(super) fn read(config: &Config, subnet: &Subnet) -> Result<StaticLeases, BadValue> {
        let entries =
            config.checked_list(SECTION, KEY, "a list of 0x<64 hexadecimal digits>:<IPv4 address>", |text| {
                entry(text).map(|entry| (text.to_owned(), entry))
            })?;
        let mut leases = HashMap::new();
        let mut addresses = HashSet::new();
        for (text, (key, address)) in entries {
            let wrong = |expected: &str| Err(BadValue::new(SECTION, KEY, &text, expected));
            if key == [0; 32] {
                return wrong("the hash of a client's key; zeros name no client");
            }
            if address == subnet.gateway() {
                return wrong(&format!("an address of a client; {address} is the server's own"));
            }
            if !subnet.is_for_clients(address) {
                let (first, last) = subnet.clients();
                return wrong(&format!("an address for clients in {subnet}, which are {first} to {last}"));
            }
            if !addresses.insert(address) {
                return wrong(&format!("each address once; {address} is there twice"));
            }
            if leases.insert(key, address).is_some() {
                return wrong("each key once; this one is there twice");
            }
        }
        Ok(StaticLeases(leases))
    }

    /// Reserves the addresses, before the first lease.
    pub(super) fn reserve(&self, leases: &mut Leases<Owner>, tokens: Option<&KeyTokens>) {
        let Some(tokens) = tokens.filter(|_| !self.0.is_empty()) else { return };
        let reserved = self.0.iter().filter(|(key, address)| leases.reserve(**address, &tokens.of_static(key)));
        log::info!("{} addresses are reserved for one client each ([{SECTION}] {KEY})", reserved.count());
    }

    /// Returns the entries that `other` does not have.
    pub(super) fn not_in(&self, other: &StaticLeases) -> Vec<([u8; 32], Ipv4Addr)> {
        self.0
            .iter()
            .map(|(key, address)| (*key, *address))
            .filter(|(key, address)| other.of(key) != Some(*address))
            .collect()
    }

    /// Returns the address that is reserved for a key.
    pub(super) fn of(&self, key: &[u8; 32]) -> Option<Ipv4Addr> {
        self.0.get(key).copied()
    }

    /// Returns the key that an address is reserved for.
    pub(super) fn key_of(&self, address: Ipv4Addr) -> Option<[u8; 32]> {
        self.0.iter().find(|(_, reserved)| **reserved == address).map(|(key, _)| *key)
    }
}

impl Server {
    /// Returns the token of the address that is reserved for the client; `None` if there is none, or the client has not
    /// proved its key.
    pub(super) fn static_token(&self, session: &Session) -> Option<Token> {
        let key = session.client_key()?;
        self.settings().static_leases.of(&key)?;
        if !session.has_proved(&key) && self.billing.proves_keys() {
            host::log_bounded!(
                Info,
                "static lease not given: {}, which names the key of one and has not proved it; it gets another address",
                session.who()
            );
            return None;
        }
        Some(self.key_tokens.as_ref()?.of_static(&key))
    }
}

fn entry(text: &str) -> Option<([u8; 32], Ipv4Addr)> {
    let (hash, address) = text.split_once(':')?;
    Some((parse_hash(hash.strip_prefix("0x")?)?, address.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_hash_and_an_address() {
        let hash = format!("0x{}", "aB".repeat(32));
        assert_eq!(entry(&format!("{hash}:10.98.0.7")), Some(([0xab; 32], Ipv4Addr::new(10, 98, 0, 7))));
        let short = &hash[..65];
        for bad in [
            String::new(),
            hash.clone(),
            format!("{hash}:"),
            format!("{hash}:10.98.0"),
            format!("{hash}:10.98.0.7/24"),
            format!("{hash}:10.98.0.7:1"),
            format!("{hash} : 10.98.0.7"),
            format!("{}:10.98.0.7", &hash[2..]),
            format!("{short}:10.98.0.7"),
            format!("{short}g:10.98.0.7"),
            format!("{hash}0:10.98.0.7"),
        ] {
            assert_eq!(entry(&bad), None, "{bad}");
        }
    }
}
