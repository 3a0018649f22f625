//! The server's table: it translates what its clients send to other networks, and says whose forwarding was off.
//!
//! Each tunnel device has a table of its own, so that several servers share a host. Its chain comes behind those of other
//! programs at the same place, and a packet is translated once: their rules win where they apply.
//!
//! Forwarding is enabled for single devices. `net.ipv4.ip_forward` would do it for all, change the redirects that the
//! host accepts, and lose the devices' own values when it is put back. And it tells afterwards whether another program
//! has asked for forwarding meanwhile, which then stays.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use super::listing::ListedRule;
use super::{
    BaseChain, Batch, Chain, ChainHook, Family, Nft, NftError, Rule, TableName, open_for_look, owner,
    rule_of_this_process,
};
use crate::owner::Owner;

/// The beginning of the table's name, of the family [`Family::Ip`]; the device's name follows.
const TABLE: &str = "cellframe-vpn-server-";
/// Behind the chains of other programs, which use 100 for the translation of sources.
const BEHIND_OTHERS: i32 = 101;
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// What a server's table does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// The name of the tunnel's device.
    pub device: String,
    /// The tunnel's network, whose packets are translated when they leave by other devices; `None` for none.
    pub translate: Option<(Ipv4Addr, u8)>,
    /// The devices whose forwarding was off before it was enabled for the tunnel.
    pub forwarding_was_off: Vec<String>,
}

/// What other programs' tables do with a tunnel's packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// The table that translates the tunnel's packets, or may, as nft(8) names it.
    pub translates: Option<String>,
    /// The chains that drop forwarded packets unless a rule accepts them, and have none for the tunnel's device.
    pub refuses: Vec<Chain>,
    /// The tables of the older ip_tables (iptables-legacy), whose rules are not looked at.
    pub legacy: Vec<String>,
}

/// The name of the table for a device.
pub fn table_of(device: &str) -> String {
    format!("{TABLE}{device}")
}

/// Puts the table up, in the place of the one for a device that it replaces.
///
/// # Errors
/// If the kernel refuses; what was there is then as it was.
pub fn put_up(nat: &Nat, replaced: Option<&str>) -> Result<(), NftError> {
    let (mut batch, table) = (Batch::new(), table_of(&nat.device));
    if let Some(replaced) = replaced.filter(|replaced| *replaced != nat.device) {
        batch.delete_table(Family::Ip, &table_of(replaced));
    }
    batch.put_table(Family::Ip, &table);
    let chain = BaseChain { name: FORWARD, kind: "filter", hook: ChainHook::Forward, priority: 0, accepts: true };
    batch.add_chain(Family::Ip, &table, &chain);
    batch.add_rule(Family::Ip, &table, FORWARD, rule_of_this_process().in_by(&nat.device).count());
    for device in &nat.forwarding_was_off {
        batch.add_rule(Family::Ip, &table, FORWARD, Rule::new(forwarding_comment(device)).in_by(device).count());
    }
    if let Some((network, prefix)) = nat.translate {
        let chain = BaseChain {
            name: POSTROUTING,
            kind: "nat",
            hook: ChainHook::Postrouting,
            priority: BEHIND_OTHERS,
            accepts: true,
        };
        batch.add_chain(Family::Ip, &table, &chain);
        let rule = Rule::new("the tunnel's clients").from(network.into(), prefix).out_by_other_than(&nat.device);
        batch.add_rule(Family::Ip, &table, POSTROUTING, rule.count().masquerade());
    }
    Nft::open()?.perform(batch)
}

/// Takes the table of a device down, and disables the forwarding that was off. Returns what it has done in half
/// sentences; none if there is no table.
///
/// # Errors
/// If the kernel refuses.
pub fn take_down(device: &str) -> Result<Vec<String>, NftError> {
    let Some((mut nft, tables)) = open_for_look()? else { return Ok(Vec::new()) };
    take_down_table(&mut nft, &tables, &table_of(device))
}

fn take_down_table(nft: &mut Nft, tables: &[TableName], table: &str) -> Result<Vec<String>, NftError> {
    let Some(rules) = nft.rules_if_there(Family::Ip, table)? else { return Ok(Vec::new()) };
    let mut done = Vec::new();
    let kept = enabled_by(nft, tables.iter().filter(|(_, name)| name != table))?;
    for device in forwarding_was_off(&rules).into_iter().filter(|device| !kept.contains(device)) {
        // Whoever has enabled it for all devices since needs it.
        if forwards_everywhere().unwrap_or(true) {
            continue;
        }
        match set_forwarding(&device, false) {
            Ok(()) => done.push(format!("disabled the forwarding of {device}, which was off")),
            // The device is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => done.push(format!("cannot disable the forwarding of {device}, which was off: {error}")),
        }
    }
    let mut batch = Batch::new();
    batch.delete_table(Family::Ip, table);
    nft.perform(batch)?;
    done.push(format!("removed the address translation (nf_tables: table ip {table})"));
    Ok(done)
}

/// Undoes what servers have left that have ended without a stop. Returns a sentence for each step.
///
/// # Errors
/// If the tables cannot be listed or changed.
pub fn repair() -> Result<Vec<String>, NftError> {
    let Some((mut nft, mut tables)) = open_for_look()? else { return Ok(Vec::new()) };
    let mut done = Vec::new();
    for (_, table) in tables.clone().iter().filter(|(family, name)| is_ours(*family, name)) {
        let rules = nft.rules_if_there(Family::Ip, table)?.unwrap_or_default();
        match owner(&rules).filter(Owner::is_running) {
            Some(owner) if owner == Owner::this() => {}
            Some(owner) => {
                done.push(format!("the table ip {table} stays: the server of process {} runs and holds it", owner.pid))
            }
            None => {
                done.extend(take_down_table(&mut nft, &tables, table)?);
                tables.retain(|(_, name)| name != table);
            }
        }
    }
    Ok(done)
}

/// Returns the tables of servers, each with the number of its process if that runs.
pub(super) fn tables() -> Result<Vec<(String, Option<u32>)>, NftError> {
    let Some((mut nft, tables)) = open_for_look()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (_, table) in tables.into_iter().filter(|(family, name)| is_ours(*family, name)) {
        let rules = nft.rules_if_there(Family::Ip, &table)?.unwrap_or_default();
        found.push((table, owner(&rules).filter(Owner::is_running).map(|owner| owner.pid)));
    }
    Ok(found)
}

/// Returns the devices whose forwarding was off before a server has enabled it, as the tables say: another server's
/// tunnel must not take it for the administrator's.
///
/// # Errors
/// If the tables cannot be listed.
pub fn enabled_by_servers() -> Result<Vec<String>, NftError> {
    let Some((mut nft, tables)) = open_for_look()? else { return Ok(Vec::new()) };
    enabled_by(&mut nft, tables.iter())
}

fn enabled_by<'a>(nft: &mut Nft, tables: impl Iterator<Item = &'a TableName>) -> Result<Vec<String>, NftError> {
    let mut devices = Vec::new();
    for (_, table) in tables.filter(|(family, name)| is_ours(*family, name)) {
        devices.extend(forwarding_was_off(&nft.rules_if_there(Family::Ip, table)?.unwrap_or_default()));
    }
    Ok(devices)
}

fn is_ours(family: Family, name: &str) -> bool {
    family == Family::Ip && name.starts_with(TABLE)
}

/// Looks at what other programs' tables do with packets from and to a tunnel.
///
/// # Errors
/// If the kernel has no nf_tables, or the privilege is missing.
pub fn others(device: &str, (network, prefix): (Ipv4Addr, u8)) -> Result<Others, NftError> {
    let mut nft = Nft::open()?;
    let mut others = Others { legacy: legacy_tables(), ..Others::default() };
    for chain in nft.base_chains()? {
        let is_nat = chain.kind == "nat" && chain.is_at(ChainHook::Postrouting);
        let is_forward = chain.kind == "filter" && chain.is_at(ChainHook::Forward);
        if is_ours(chain.family, &chain.table) || !(is_nat || is_forward) {
            continue;
        }
        let rules = match nft.rules(chain.family, &chain.table) {
            // It was removed meanwhile.
            Err(error) if error.errno() == Some(libc::ENOENT) => continue,
            rules => rules?,
        };
        if is_nat && rules.iter().any(|rule| rule.may_translate(network, prefix)) {
            others.translates = Some(format!("{} {}", chain.family.name(), chain.table));
        }
        let of_chain = || rules.iter().filter(|rule| rule.chain == chain.name);
        let refuses = chain.drops || of_chain().next_back().is_some_and(ListedRule::refuses_all);
        if is_forward && refuses && !rules.iter().any(|rule| rule.accepts_device(device)) {
            others.refuses.push(chain);
        }
    }
    Ok(others)
}

/// Returns the tables of ip_tables that this network namespace has; none where the kernel has no ip_tables.
fn legacy_tables() -> Vec<String> {
    let names = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    names.lines().map(str::to_owned).collect()
}

fn forwarding_comment(device: &str) -> String {
    format!("the forwarding of {device} was off")
}

fn forwarding_was_off(rules: &[ListedRule]) -> Vec<String> {
    let device =
        |rule: &ListedRule| Some(rule.comment.strip_prefix("the forwarding of ")?.strip_suffix(" was off")?.to_owned());
    rules.iter().filter_map(device).collect()
}

/// Whether the host forwards IPv4 for all devices (`net.ipv4.ip_forward`).
///
/// # Errors
/// If it cannot be read.
pub fn forwards_everywhere() -> io::Result<bool> {
    Ok(fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() != "0")
}

fn path(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/forwarding")
}

/// Whether the host forwards what comes by this device.
///
/// # Errors
/// `NotFound` if there is no such device.
pub fn forwards(device: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(path(device))?.trim() != "0")
}

/// Enables or disables the forwarding of what comes by this device, in the calling thread's network namespace.
///
/// # Errors
/// `NotFound` if there is no such device; `ReadOnlyFilesystem` in many containers.
pub fn set_forwarding(device: &str, on: bool) -> io::Result<()> {
    fs::write(path(device), if on { "1" } else { "0" })
}
