//! The user's configuration, section `[vpn_client]`. docs/config.md lists the keys.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::dns;
use crate::sdk::STREAM_OVERHEAD;
use crate::sdk::config::{BadValue, Config, check_process_wide};
use crate::sdk::congestion::Congestion;
use vpn_core::forward::{BadNetwork, Networks};
use vpn_core::lease::Subnet;
use vpn_core::wire;

const SECTION: &str = "vpn_client";
/// The values of `allow_subnet`, `routes` and `exclude_routes`.
const NETWORKS: &str = "a list of networks such as 203.0.113.0/24, whose bits behind the prefix are 0";
/// The item of `allow_source` that names the lease's subnet, which every list has.
const TUNNELS_SUBNET: &str = "subnet";

/// The client's configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The time limit of a start.
    pub(super) start_timeout: Duration,
    /// The largest inner packet that this host sends, in bytes; the server may request less.
    pub(super) mtu: u16,
    /// The silence after which the client pings; after three times as long the connection is lost.
    pub(super) keep_alive: Duration,
    /// Whether the client connects again after a loss.
    pub(super) reconnect: bool,
    /// Whether super-packets pass between the device and a server that accepts them. The device of a legacy part has
    /// none.
    pub(super) offload: bool,
    /// The congestion control of the stream.
    pub(super) congestion: Congestion,
    /// The networks in which a server may give a subnet, beside the private ones.
    pub(super) allow_subnet: Vec<Subnet>,
    /// The order for the service, for networks whose orders do not reach this node.
    pub(super) order_hash: Option<[u8; 32]>,
    /// The validators' fee of a conditional transaction, in datoshi; `None` for the least that they accept.
    pub(super) tx_fee: Option<u64>,
    /// The networks beside the lease's subnet that packets from the server may come from; `None` for any.
    pub(super) allow_source: Option<Networks>,
    /// The networks that are routed into the tunnel beside its subnet; all by default.
    pub(super) routes: Vec<Subnet>,
    /// The networks in them that are not.
    pub(super) exclude_routes: Vec<Subnet>,
    /// Whether nothing may leave this host around the tunnel.
    pub(super) kill_switch: bool,
    /// Whether the kill switch lets local networks through.
    pub(super) kill_switch_local: bool,
    /// Whether the host's IPv6 is kept from leaving around a tunnel that has the Internet.
    pub(super) block_ipv6: bool,
    /// The host's name servers while the tunnel is up.
    pub(super) dns: dns::Choice,
}

impl Settings {
    pub(super) fn read(config: &Config) -> Result<Settings, BadValue> {
        check_process_wide()?;
        let hash = "64 hexadecimal digits, with or without 0x";
        let seconds = |key, bounds, otherwise| {
            Duration::from_secs(config.number_in(SECTION, key, bounds, otherwise).unsigned_abs())
        };
        Ok(Settings {
            start_timeout: seconds("start_timeout", 1..=300, 10),
            mtu: config.number_in(SECTION, "mtu", 576..=65535, i64::from(1500 - STREAM_OVERHEAD)) as u16,
            keep_alive: seconds("keep_alive", 1..=3600, 5),
            reconnect: config.flag(SECTION, "reconnect", true),
            offload: cfg!(feature = "client-tun") && config.flag(SECTION, "offload", true),
            congestion: Congestion::read(config, SECTION),
            allow_subnet: allowed_subnets(config)?,
            order_hash: match config.checked_text(SECTION, "order_hash", hash)? {
                Some(text) => Some(parse_hash(&text).ok_or_else(|| BadValue::new(SECTION, "order_hash", &text, hash))?),
                None => None,
            },
            tx_fee: match config.checked_text(SECTION, "tx_fee", "a number of datoshi")? {
                Some(text) => {
                    Some(text.parse().map_err(|_| BadValue::new(SECTION, "tx_fee", &text, "a number of datoshi"))?)
                }
                None => None,
            },
            allow_source: allow_source(config)?,
            routes: routed(config)?,
            exclude_routes: config.checked_list(SECTION, "exclude_routes", NETWORKS, Subnet::parse_cidr)?,
            kill_switch: config.checked_flag(SECTION, "kill_switch", false)?,
            kill_switch_local: config.checked_flag(SECTION, "kill_switch_local", false)?,
            block_ipv6: blocks_ipv6(config)?,
            dns: name_servers(config)?,
        })
    }
}

/// Reads the networks in which a server may give a subnet.
pub(super) fn allowed_subnets(config: &Config) -> Result<Vec<Subnet>, BadValue> {
    config.checked_list(SECTION, "allow_subnet", NETWORKS, Subnet::parse_cidr)
}

/// Reads `allow_source`: networks, and the word `subnet` for a list that widens nothing, like an empty one. `None` if the
/// key is missing.
fn allow_source(config: &Config) -> Result<Option<Networks>, BadValue> {
    const KEY: &str = "allow_source";
    let expected = "a list of IPv4 networks, for example [192.168.0.0/16], or subnet for the tunnel's alone";
    if config.checked_text(SECTION, KEY, expected) == Ok(None) {
        return Ok(None);
    }
    let list = config.list(SECTION, KEY);
    let networks = Networks::parse(list.iter().filter(|item| item.trim() != TUNNELS_SUBNET));
    networks.map(Some).map_err(|BadNetwork(value)| BadValue::new(SECTION, KEY, &value, expected))
}

/// Reads `routes`; all networks if the key is missing. The legacy part routes none beside the tunnel's subnet.
fn routed(config: &Config) -> Result<Vec<Subnet>, BadValue> {
    const KEY: &str = "routes";
    const ALL: Subnet = Subnet { network: Ipv4Addr::UNSPECIFIED, prefix: 0 };
    if cfg!(feature = "client-tun") && config.checked_text(SECTION, KEY, NETWORKS) == Ok(None) {
        return Ok(vec![ALL]);
    }
    config.checked_list(SECTION, KEY, NETWORKS, Subnet::parse_cidr)
}

/// Reads `ipv6`: whether IPv6 is blocked, which is the default.
fn blocks_ipv6(config: &Config) -> Result<bool, BadValue> {
    let (key, expected) = ("ipv6", "one of block, leave");
    match config.checked_text(SECTION, key, expected)?.as_deref() {
        None | Some("block") => Ok(true),
        Some("leave") => Ok(false),
        Some(value) => Err(BadValue::new(SECTION, key, value, expected)),
    }
}

/// Reads `dns`; [`dns::Choice::Auto`] if the key is missing.
fn name_servers(config: &Config) -> Result<dns::Choice, BadValue> {
    const KEY: &str = "dns";
    if config.checked_text(SECTION, KEY, dns::EXPECTED) == Ok(None) {
        return Ok(dns::Choice::Auto);
    }
    let list = config.list(SECTION, KEY);
    dns::Choice::parse(&list).ok_or_else(|| BadValue::new(SECTION, KEY, &list.join(","), dns::EXPECTED))
}

/// Parses 64 hex digits, with or without 0x.
fn parse_hash(text: &str) -> Option<[u8; 32]> {
    wire::parse_hash(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::parse_hash;

    #[test]
    fn hashes() {
        let digits = "00ff".repeat(16);
        let expected: Vec<u8> = [0x00, 0xff].repeat(16);
        assert_eq!(parse_hash(&digits).map(|hash| hash.to_vec()), Some(expected.clone()));
        assert_eq!(parse_hash(&format!("0x{}", digits.to_uppercase())).map(|hash| hash.to_vec()), Some(expected));
        for wrong in ["", "0x", &digits[1..], &"é".repeat(32), &"g".repeat(64), &format!("0x0x{}", &digits[2..])] {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }
}
