//! The operator's configuration, section `[srv_vpn]`, validated before anything is created.
//!
//! What the C module runs on is taken as the C module takes it, with a warning that names section, key, value, what is
//! made of it and what is expected. An error is left to what cannot carry a client's packets.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::sdk::STREAM_OVERHEAD;
use crate::sdk::config::{BadValue, Config, check_process_wide};
use crate::sdk::congestion::Congestion;
use host::netlink::{Address, Netlink, NetlinkError};
use host::resolvers::resolvers;
use vpn_core::exchange::{LeaseRules, Terms};
use vpn_core::forward::{BadNetwork, Networks, is_routable};
use vpn_core::lease::{Limits, Subnet, SubnetError, dotted};

use super::monitor;
use super::nat::Mode;
use super::rates::Rates;
use super::static_leases::StaticLeases;

const SECTION: &str = "srv_vpn";

/// The service's configuration. docs/config.md lists the keys.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The inner subnet, and in it the gateway.
    pub subnet: Subnet,
    /// The largest inner packet of clients that negotiate it, in bytes.
    pub mtu: u16,
    /// The MTU of the device, in bytes: at least `mtu`.
    pub device_mtu: u16,
    /// How long addresses are kept, and how they are shared.
    pub leases: LeaseRules,
    /// The addresses that are one client's alone.
    pub static_leases: StaticLeases,
    /// Whether leases are stored, so that clients get their addresses back after a restart.
    pub store_leases: bool,
    /// Whether clients are kept from reaching each other.
    pub client_isolation: bool,
    /// The bytes that may wait for a client, in its queue and its stream, before packets to it are dropped.
    pub session_queue: usize,
    /// The bytes that may wait for all clients together in the service's own queues.
    pub queue_memory: usize,
    /// The rates of sessions.
    pub rates: Rates,
    /// The congestion control of the clients' streams.
    pub congestion: Congestion,
    /// The name servers that clients receive.
    pub dns: Vec<Ipv4Addr>,
    /// The silence after which a client is pinged; after three times as long it is disconnected. Applies to clients
    /// that announced that they answer pings.
    pub keep_alive: Duration,
    /// Whether super-packets pass between the device and clients that accept them.
    pub offload: bool,
    /// Whether the service's DEBUG lines are logged at any level of the log.
    pub debug_more: bool,
    /// The device's name; with `None` the kernel picks tunN.
    pub device: Option<String>,
    /// Whether lines above DEBUG show inner addresses of clients.
    pub log_addresses: bool,
    /// Networks outside the tunnel that clients must not reach.
    pub deny: Networks,
    /// Whether clients must not reach the host's own addresses but the gateway.
    pub deny_host: bool,
    /// What the service does for the clients' packets to other networks.
    pub nat: Mode,
    /// Where the service's figures can be read.
    pub monitor: monitor::Mode,
    /// Whether the monitor has the status page, and with it all that names clients.
    pub status_page: bool,
}

/// Why the configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key is missing.
    #[error("[srv_vpn] {key} is missing; expected {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// The values that are valid.
        expected: &'static str,
    },
    /// Invalid subnet.
    #[error(
        "[srv_vpn] network_address = {address}, network_mask = {mask}: {source}; expected a network like 10.0.0.0 with a mask like 255.255.255.0, at most /30"
    )]
    Subnet {
        /// The configured value.
        address: String,
        /// The configured value.
        mask: String,
        /// The reason.
        source: SubnetError,
    },
    /// The value is invalid for its key.
    #[error("[srv_vpn] {key} = {value}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The configured value.
        value: String,
        /// The values that are valid.
        expected: &'static str,
    },
    /// A security key cannot be read.
    #[error(transparent)]
    Key(#[from] BadValue),
    /// The host's addresses cannot be read.
    #[error("cannot read this host's addresses: {0}")]
    Host(#[from] NetlinkError),
    /// The thread that reads the host's addresses for `deny_host` cannot start.
    #[error("[srv_vpn] deny_host: cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl SettingsError {
    /// Returns whether a key is the reason, and not this host.
    pub(crate) fn is_configuration(&self) -> bool {
        !matches!(self, SettingsError::Host(_) | SettingsError::Thread(_))
    }
}

impl Settings {
    /// Reads the configuration, and validates it, including against the host's own addresses.
    pub(crate) fn read(config: &Config) -> Result<Settings, SettingsError> {
        let settings = Settings::parse(config)?;
        warn_of_overlaps(&settings.subnet)?;
        Ok(settings)
    }

    /// Reads the configuration, and validates it. With the service's own device, the host has addresses in the network.
    pub(super) fn parse(config: &Config) -> Result<Settings, SettingsError> {
        check_process_wide()?;
        // The SDK reads this one, and takes its default for a value that it cannot read.
        Config::of_node().checked_flag(SECTION, "allow_free_srv", false)?;
        let expected = "the inner network, for example 10.0.0.0";
        let address = config
            .checked_text(SECTION, "network_address", expected)?
            .ok_or(SettingsError::Missing { key: "network_address", expected })?;
        let expected = "the inner network's mask, for example 255.255.255.0";
        let mask = config
            .checked_text(SECTION, "network_mask", expected)?
            .ok_or(SettingsError::Missing { key: "network_mask", expected })?;
        let subnet = match Subnet::parse(&address, &mask) {
            Ok(subnet) => subnet,
            Err(source) => return Err(SettingsError::Subnet { address, mask, source }),
        };
        warn_of_form("network_address", &address, "10.0.0.0");
        warn_of_form("network_mask", &mask, "255.255.255.0");
        warn_of_gateway(&subnet);
        if config.flag(SECTION, "auto_cpu_reassignment", false) {
            log::warn!(
                "[{SECTION}] auto_cpu_reassignment = true: has no effect, each worker serves its own clients; expected \
                 false or no such key"
            );
        }
        let mtu = config.number_in(SECTION, "mtu", 576..=65535, i64::from(1500 - STREAM_OVERHEAD)) as u16;
        // Clients of the C module negotiate nothing: they expect the MTU that its device had.
        let device_mtu = if cfg!(feature = "embedded") { mtu } else { 1500 };
        let device_mtu = config.number_in(SECTION, "device_mtu", 576..=65535, device_mtu.into()) as u16;
        if device_mtu < mtu {
            log::warn!("[{SECTION}] device_mtu = {device_mtu}: {mtu} is used, as the mtu; expected at least the mtu");
        }
        let (deny, deny_host) = (denied_networks(config)?, config.checked_flag(SECTION, "deny_host", false)?);
        let settings = Settings {
            dns: name_servers(config, &deny, deny_host)?,
            subnet,
            mtu,
            device_mtu: device_mtu.max(mtu),
            debug_more: config.flag(SECTION, "debug_more", false),
            leases: lease_rules(config, &subnet)?,
            static_leases: StaticLeases::read(config, &subnet)?,
            store_leases: config.checked_flag(SECTION, "store_leases", true)?,
            client_isolation: config.checked_flag(SECTION, "client_isolation", false)?,
            session_queue: config.checked_number(SECTION, "session_queue", 131_072..=67_108_864, 4_194_304)? as usize,
            queue_memory: config.checked_number(SECTION, "queue_memory", 1_048_576..=68_719_476_736, 268_435_456)?
                as usize,
            rates: Rates::read(config)?,
            congestion: Congestion::read(config, SECTION),
            keep_alive: seconds(config, "keep_alive", 1..=3600, 20),
            offload: config.flag(SECTION, "offload", true),
            device: device_name(config)?,
            // Operators of nodes find them in the C module's log, and look for them.
            log_addresses: config.checked_flag(SECTION, "log_addresses", !cfg!(feature = "embedded"))?,
            deny,
            deny_host,
            nat: Mode::read(config, SECTION)?,
            monitor: monitor::Mode::read(config, SECTION)?,
            status_page: config.checked_flag(SECTION, "status_page", cfg!(feature = "embedded"))?,
        };
        warn_of_denied_servers(&settings.dns, &settings.deny);
        Ok(settings)
    }

    /// Returns what clients receive together with an address. `bundles`: whether the device accepts super-packets.
    pub(super) fn terms(&self, bundles: bool) -> Terms {
        Terms { subnet: self.subnet, mtu: self.mtu, dns: self.dns.clone(), keep_alive: self.keep_alive, bundles }
    }
}

/// Warns of an address or mask that is not four decimal numbers: the C module reads it as C's `inet_aton` does.
fn warn_of_form(key: &str, value: &str, example: &str) {
    if let Some(read) = dotted(value).filter(|read| read.to_string() != value) {
        log::warn!("[{SECTION}] {key} = {value}: is read as {read}; expected four decimal numbers, such as {example}");
    }
}

/// Warns of a network address with bits outside the mask.
fn warn_of_gateway(subnet: &Subnet) {
    let (network, base, mask, gateway) = (subnet.network, subnet.base(), subnet.mask(), subnet.gateway());
    if network != base {
        log::warn!(
            "[{SECTION}] network_address = {network}: is no network address with network_mask = {mask}; the server has \
             {gateway} in {subnet}, and clients get the addresses behind it; expected {base}"
        );
    }
}

/// Warns of each address of the host whose network has an address in common with the subnet. The C module runs there,
/// and clients can do without the addresses that are lost.
fn warn_of_overlaps(subnet: &Subnet) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::open()?;
    for Address { index, addr, prefix } in netlink.addresses()? {
        let theirs = Subnet { network: addr, prefix };
        if !theirs.overlaps(subnet) {
            continue;
        }
        let device = netlink.link(index).map_or_else(|_| format!("link {index}"), |link| link.name);
        // The kernel takes the longest prefix, and of equal ones the older route.
        let result = if subnet.prefix > prefix {
            format!("packets to {subnet} go into the tunnel, and the hosts there are out of reach by {device}")
        } else {
            format!("packets to {theirs} go to {device}, and clients with such an address receive nothing")
        };
        log::warn!(
            "[{SECTION}] network_address = {}: {subnet} overlaps this host's {addr}/{prefix} on {device}; {result}; \
             expected a network that this host has no address in",
            subnet.network
        );
    }
    Ok(())
}

fn seconds(config: &Config, key: &str, bounds: std::ops::RangeInclusive<i64>, otherwise: i64) -> Duration {
    Duration::from_secs(config.number_in(SECTION, key, bounds, otherwise).unsigned_abs())
}

/// Reads `deny`.
fn denied_networks(config: &Config) -> Result<Networks, BadValue> {
    const KEY: &str = "deny";
    let expected = "a list of IPv4 networks, for example [192.168.0.0/16,10.1.2.3]";
    let networks = Networks::parse(config.list(SECTION, KEY));
    networks.map_err(|BadNetwork(value)| BadValue::new(SECTION, KEY, &value, expected))
}

/// Reads `dns`. The word `auto` in it stands for this host's own name servers that clients can reach; if there are none, for
/// the addresses beside it. Without the key it is alone on the embedded SDK; a node's clients get none, as of the C module.
fn name_servers(config: &Config, deny: &Networks, deny_host: bool) -> Result<Vec<Ipv4Addr>, SettingsError> {
    let expected = "auto, or a list of IPv4 addresses, for example [10.0.0.1]";
    let item = |text: &str| if text == "auto" { Some(None) } else { text.parse().ok().map(Some) };
    let items = if config.checked_text(SECTION, "dns", expected) == Ok(None) {
        if cfg!(feature = "embedded") { vec![None] } else { Vec::new() }
    } else {
        config.checked_list(SECTION, "dns", expected, item)?
    };
    let addresses: Vec<Ipv4Addr> = items.iter().copied().flatten().collect();
    if !items.contains(&None) {
        return Ok(addresses);
    }
    let own: Vec<_> = Netlink::open()?.addresses()?.into_iter().map(|own| own.addr).collect();
    let is_reached =
        |server: Ipv4Addr| is_routable(server) && !deny.contains(server) && !(deny_host && own.contains(&server));
    let found = resolvers();
    // Those behind a stub count only where the first file names no other.
    let first = found.first().map(|one| one.file);
    let of_host = found.iter().filter(|one| Some(one.file) == first).map(|one| one.addr);
    let mut reached: Vec<Ipv4Addr> = of_host.filter(|server| is_reached(*server)).collect();
    reached.dedup();
    match (reached.is_empty(), first) {
        (false, Some(file)) => {
            log::info!("[{SECTION}] dns = auto: clients get {reached:?}, this host's name servers in {file}")
        }
        _ => log::info!(
            "[{SECTION}] dns = auto: clients can reach none of this host's name servers; they get {addresses:?}"
        ),
    }
    Ok(if reached.is_empty() { addresses } else { reached })
}

/// Warns of name servers for clients that these must not reach.
fn warn_of_denied_servers(servers: &[Ipv4Addr], deny: &Networks) {
    for server in servers.iter().filter(|server| deny.contains(**server)) {
        log::warn!(
            "[{SECTION}] dns = {server}: clients cannot reach it, as [{SECTION}] deny has it; expected an address outside \
             of these networks"
        );
    }
}

fn lease_rules(config: &Config, subnet: &Subnet) -> Result<LeaseRules, SettingsError> {
    let most = |key, otherwise: u32| {
        Ok::<u32, SettingsError>(config.checked_number(SECTION, key, 1..=16_777_216, otherwise.into())? as u32)
    };
    let leases = most("leases_per_address", Limits::of_pool(subnet.capacity()).leases)?;
    let new_per_minute = most("new_leases_per_minute", Limits::of_source(leases).new_per_minute)?;
    Ok(LeaseRules {
        hold: seconds(config, "lease_time", 0..=31_536_000, 3600),
        limits: Limits { leases, new_per_minute },
        unused_after: Duration::from_secs(
            config.checked_number(SECTION, "lease_unused", 1..=31_536_000, 300)?.unsigned_abs(),
        ),
    })
}

fn device_name(config: &Config) -> Result<Option<String>, SettingsError> {
    let expected = "a device name of 1 to 15 letters, for example vpn0";
    let Some(name) = config.checked_text(SECTION, "device", expected)? else { return Ok(None) };
    let fits = (1..=15).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !fits {
        return Err(SettingsError::Value { key: "device", value: name, expected });
    }
    Ok(Some(name))
}
