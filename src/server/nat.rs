//! The way of the clients' packets from this host to other networks and back: forwarding and address translation.
//!
//! [`host::nft::nat`] has the table, and says what else is put back. With `nat = auto` the service does what is missing:
//! it leaves the translation to another program's rule that may cover the subnet, and forwarding alone where the host
//! forwards for all its devices. What it cannot do is a warning; with `nat = on` it stops the start.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::tunnel::Tunnel;

use crate::sdk::NOTICE;
use crate::sdk::config::{BadValue, Config};
use crate::sdk::worker;
use host::netlink::{Netlink, NetlinkError, SHORT_PATIENCE};
use host::nft::nat::{self, Others};
use vpn_core::lease::Subnet;

/// How often the service looks where the host's routes lead, in seconds.
const SECONDS: u32 = 5;

/// The value of `nat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What is missing is done, where it can be.
    Auto,
    /// Addresses are translated, or the service does not start.
    On,
    /// The host is left as it is.
    Off,
}

impl Mode {
    pub(super) fn read(config: &Config, section: &str) -> Result<Mode, BadValue> {
        let expected = "auto, on or off";
        match config.checked_text(section, "nat", expected)?.as_deref() {
            // An operator of a node has set the host up.
            None => Ok(if cfg!(feature = "embedded") { Mode::Auto } else { Mode::Off }),
            Some("auto") => Ok(Mode::Auto),
            Some("on") => Ok(Mode::On),
            Some("off") => Ok(Mode::Off),
            Some(other) => Err(BadValue::new(section, "nat", other, expected)),
        }
    }
}

/// Why the host cannot be made to pass the clients' packets on.
#[derive(Debug, thiserror::Error)]
#[error("[srv_vpn] nat = on: {0}; expected a host on which this can be done, or auto or off")]
pub struct NatError(String);

/// What the service has changed on the host. Dropping it puts everything back.
pub(super) struct Nat {
    mode: Mode,
    subnet: Subnet,
    state: Mutex<State>,
    ticks: AtomicU32,
    /// What keeps clients from other networks, as the start has found it.
    obstacles: Mutex<Vec<Obstacle>>,
}

/// What keeps clients from other networks, and what the operator can do.
#[derive(Clone, Debug)]
pub(super) struct Obstacle {
    pub(super) what: String,
    pub(super) remedy: String,
}

#[derive(Default)]
struct State {
    /// The table that is up.
    table: Option<nat::Nat>,
    /// The links whose forwarding the service has enabled, or found enabled, by index: a link that comes back has
    /// another one.
    seen: HashSet<u32>,
}

impl Nat {
    /// Makes the host pass on what comes from the tunnel's device, and what goes back.
    pub(super) fn start(mode: Mode, subnet: Subnet, device: &str) -> Result<Nat, NatError> {
        let nat = Nat { mode, subnet, state: Mutex::default(), ticks: AtomicU32::new(0), obstacles: Mutex::default() };
        // A server that was killed may have had another device, or another mode.
        match nat::repair() {
            Ok(done) => done.iter().for_each(|done| log::info!("after a server that has ended: {done}")),
            Err(error) if mode == Mode::Off => log::debug!("cannot look for what an earlier server has left: {error}"),
            Err(error) => nat.fails(&error)?,
        }
        if mode == Mode::Off {
            warn_if_not_forwarding();
            return Ok(nat);
        }
        let others = match nat::others(device, (subnet.base(), subnet.prefix)) {
            Ok(others) => others,
            Err(error) => {
                nat.fails(format_args!("the clients' addresses cannot be translated: {error}"))?;
                warn_if_not_forwarding();
                return Ok(nat);
            }
        };
        if let Err(error) = nat.set_up(device, &others) {
            nat.fails(error)?;
        }
        for chain in &others.refuses {
            let (family, table, name) = (chain.family.name(), &chain.table, &chain.name);
            let what = format!(
                "the chain {name} of the table {family} {table} drops what the host forwards, and no rule there names \
                 {device}: clients reach this host alone"
            );
            let remedy = format!(
                "rules that accept the device, such as `nft insert rule {family} {table} {name} iifname {device} accept` and \
                 the same with oifname"
            );
            log::warn!("{what}; expected {remedy}");
            nat.obstacles.lock().push(Obstacle { what, remedy });
        }
        if !others.legacy.is_empty() {
            log::warn!(
                "this host has tables of iptables-legacy ({}), which are not looked at: if clients reach this host alone, \
                 see `iptables-legacy -S FORWARD`; expected rules that accept {device} there, such as `iptables-legacy -I \
                 FORWARD -i {device} -j ACCEPT` and the same with -o",
                others.legacy.join(", ")
            );
        }
        Ok(nat)
    }

    /// Reports what cannot be done: a warning, or the end of the start.
    fn fails(&self, why: impl Display) -> Result<(), NatError> {
        if self.mode == Mode::On {
            return Err(NatError(why.to_string()));
        }
        log::warn!("[srv_vpn] nat = auto: {why}; clients may reach this host alone");
        let remedy = "what the sentence asks for, or rules of your own with [srv_vpn] nat = off".to_owned();
        let what = format!("this service cannot translate its clients' addresses or forward for them: {why}");
        self.obstacles.lock().push(Obstacle { what, remedy });
        Ok(())
    }

    fn set_up(&self, device: &str, others: &Others) -> Result<(), String> {
        let mut translate = Some((self.subnet.base(), self.subnet.prefix));
        if let Some(table) = others.translates.as_ref().filter(|_| self.mode == Mode::Auto) {
            log::info!("the table {table} translates clients' addresses, or may: the service leaves that to its rules");
            translate = None;
        }
        let state = &mut *self.state.lock();
        state.table = Some(nat::Nat { device: device.to_owned(), translate, forwarding_was_off: Vec::new() });
        let enabled = self.follow(state, device, true)?;
        if enabled.is_empty() && translate.is_none() {
            return self.take_down(state).map(drop);
        }
        let translation = if translate.is_some() {
            format!("addresses from {} are translated (nf_tables: table ip {})", self.subnet, nat::table_of(device))
        } else {
            "addresses stay as they are".to_owned()
        };
        let forwarding = match enabled.as_slice() {
            [] => "the host forwards already".to_owned(),
            enabled => format!("forwarding was enabled for {}", enabled.join(", ")),
        };
        log::info!(target: NOTICE, "clients reach other networks through this host: {translation}; {forwarding}");
        Ok(())
    }

    /// Returns what keeps clients from other networks, as the start has found it.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        self.obstacles.lock().clone()
    }

    /// Looks every few seconds; called once a second, on worker 0.
    pub(super) fn tick(&self, tunnel: &Tunnel) {
        if self.ticks.fetch_add(1, Ordering::Relaxed) % SECONDS == SECONDS - 1 && !tunnel.is_out() {
            self.look(&tunnel.name());
        }
    }

    /// Follows the tunnel's device, which may be a new one or have another name, and the host's routes, which may lead to
    /// other devices. Cheap where the host forwards for all devices.
    pub(super) fn look(&self, device: &str) {
        let Some(mut state) = self.state.try_lock() else { return };
        if state.table.is_none() || device.is_empty() {
            return;
        }
        match self.follow(&mut state, device, false) {
            Ok(enabled) if enabled.is_empty() => {}
            Ok(enabled) => log::info!("forwarding was enabled for {}, for the VPN's clients", enabled.join(", ")),
            Err(error) => log::warn!("what leads to the VPN's clients has changed, and cannot be followed: {error}"),
        }
    }

    /// Puts the table up if it is the first time or something has changed. Returns the devices whose forwarding it has
    /// enabled. The table comes first: it says what is to be put back.
    fn follow(&self, state: &mut State, device: &str, is_first: bool) -> Result<Vec<String>, String> {
        let Some(table) = &mut state.table else { return Ok(Vec::new()) };
        let replaced = (table.device != device).then(|| std::mem::replace(&mut table.device, device.to_owned()));
        let mut off = Vec::new();
        if !nat::forwards_everywhere().map_err(|error| format!("net.ipv4.ip_forward cannot be read: {error}"))? {
            let mut links = links_in_use(device).map_err(|error| error.to_string())?;
            links.retain(|(index, _)| state.seen.insert(*index));
            let of_servers = || nat::enabled_by_servers().map_err(|error| error.to_string());
            let servers = if links.is_empty() { Vec::new() } else { of_servers()? };
            for (_, name) in links {
                let is_on = match nat::forwards(&name) {
                    Ok(is_on) => is_on,
                    // It has gone meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(format!("the forwarding of {name} cannot be read: {error}")),
                };
                // Another server's device ends with that server. The tunnel's own ends with this one.
                if (!is_on || servers.contains(&name)) && name != device && !table.forwarding_was_off.contains(&name) {
                    table.forwarding_was_off.push(name.clone());
                }
                if !is_on {
                    off.push(name);
                }
            }
        }
        if is_first || replaced.is_some() || !off.is_empty() {
            nat::put_up(table, replaced.as_deref()).map_err(|error| error.to_string())?;
        }
        for name in &off {
            nat::set_forwarding(name, true).map_err(|error| {
                format!(
                    "the forwarding of {name} cannot be enabled: {error}; expected net.ipv4.ip_forward = 1 (sysctl)"
                )
            })?;
        }
        Ok(off)
    }

    fn take_down(&self, state: &mut State) -> Result<Vec<String>, String> {
        state
            .table
            .take()
            .map_or(Ok(Vec::new()), |table| nat::take_down(&table.device).map_err(|error| error.to_string()))
    }

    /// Puts everything back in a process that exits while its workers still run. The device is set down before, so that no
    /// packet leaves untranslated.
    pub(super) fn close_at_exit(&self, device: &str) {
        let is_up = self.state.lock().table.is_some();
        let set_down = || {
            let mut netlink = Netlink::with_patience(SHORT_PATIENCE)?;
            let index = netlink.link_index(device)?;
            netlink.set_down(index)
        };
        if is_up && let Err(error) = set_down() {
            log::debug!("the device {device} cannot be set down: {error}");
        }
        self.close();
    }

    /// Puts everything back.
    pub(super) fn close(&self) {
        match self.take_down(&mut self.state.lock()) {
            Ok(done) => done.iter().for_each(|done| log::info!("the VPN service has {done}")),
            Err(error) => log::error!(
                "the clients' address translation cannot be removed: {error}; the next start or `cellframe-vpn repair` \
                 tries it again"
            ),
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the tunnel's device and those that the host's routes lead to, with their indices.
fn links_in_use(tunnel: &str) -> Result<Vec<(u32, String)>, NetlinkError> {
    let mut netlink =
        if worker::current().is_some() { Netlink::with_patience(SHORT_PATIENCE) } else { Netlink::open() }?;
    let routed: HashSet<u32> = netlink.routes_in_use()?.iter().filter_map(|route| route.index).collect();
    let links = netlink.links()?.into_iter().map(|link| (link.index, link.name));
    Ok(links.filter(|(index, name)| name == tunnel || (routed.contains(index) && name != "lo")).collect())
}

/// Warns if the host does not forward IPv4.
fn warn_if_not_forwarding() {
    if matches!(nat::forwards_everywhere(), Ok(false)) {
        log::warn!(
            "this host does not forward IPv4: clients can reach only the host itself; expected \
             net.ipv4.ip_forward = 1 (sysctl)"
        );
    }
}
