//! The networks this node knows: `[networks] names` and a section `[network_<name>]` for each.
//!
//! A network that C has received stays valid until the process ends: C programs keep `dap_chain_net_t *` without limit.
//! A changed configuration adds networks to the table and removes others from the look-ups.

use std::sync::Arc;

use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};

use crate::config::{self, Config};
use crate::ctypes::dap_chain_node_role_enum::{self as role, *};
use crate::ctypes::{DAP_CHAIN_NET_NAME_MAX, dap_chain_net};
use crate::cview::net::CNet;

/// The network that exists if the configuration names none.
pub const DEFAULT_NAME: &str = "backbone";
/// Its id in the Cellframe main network's configuration.
const DEFAULT_ID: u64 = 0x0404_2022_0000_0000;
const DEFAULT_TICKER: &str = "CELL";

const ROLES: [(&str, role); 7] = [
    ("root-master", NODE_ROLE_ROOT_MASTER),
    ("root", NODE_ROLE_ROOT),
    ("archive", NODE_ROLE_ARCHIVE),
    ("cell-master", NODE_ROLE_CELL_MASTER),
    ("master", NODE_ROLE_MASTER),
    ("full", NODE_ROLE_FULL),
    ("light", NODE_ROLE_LIGHT),
];

/// A network. Valid for the rest of the process, on every thread.
#[derive(Clone, Copy)]
pub struct NetRef(&'static Net);

struct Net {
    settings: Settings,
    c: CNet,
}

#[derive(Clone, PartialEq, Eq)]
struct Settings {
    id: u64,
    name: String,
    role: role,
    gdb_groups_prefix: String,
    native_ticker: String,
}

impl NetRef {
    /// The pointer that C holds.
    pub fn as_ptr(&self) -> *mut dap_chain_net {
        self.0.c.as_ptr()
    }

    /// C's view of the network.
    pub(crate) fn view(&self) -> &'static CNet {
        &self.0.c
    }

    /// The network's id.
    pub fn id(&self) -> u64 {
        self.0.settings.id
    }

    /// The network's name.
    pub fn name(&self) -> &'static str {
        &self.0.settings.name
    }

    /// This node's role in it.
    pub fn role(&self) -> role {
        self.0.settings.role
    }

    /// The ticker of its own token.
    pub fn native_ticker(&self) -> &'static str {
        &self.0.settings.native_ticker
    }

    /// The prefix of this network's groups in the store.
    pub fn gdb_groups_prefix(&self) -> &'static str {
        &self.0.settings.gdb_groups_prefix
    }
}

/// The network with this id in the current configuration.
pub fn find_by_id(id: u64) -> Option<NetRef> {
    find(|net| net.id == id)
}

/// The network with this name in the current configuration.
pub fn find_by_name(name: &str) -> Option<NetRef> {
    find(|net| net.name == name)
}

/// The networks in the current configuration.
pub fn all() -> Vec<NetRef> {
    with_active(|active| active.iter().map(|net| NetRef(net)).collect())
}

/// The network at a pointer that C passed, even if the current configuration no longer names it. The pointer is
/// compared, never followed.
pub fn find_by_ptr(net: *const dap_chain_net) -> Option<NetRef> {
    TABLE.lock().all.iter().find(|known| known.c.as_ptr().cast_const() == net).map(|known| NetRef(known))
}

/// Clears the cached networks; the next look-up reads the configuration again.
pub fn reset() {
    TABLE.lock().built_from = None;
}

fn find(wanted: impl Fn(&Settings) -> bool) -> Option<NetRef> {
    with_active(|active| active.iter().find(|net| wanted(&net.settings)).map(|net| NetRef(net)))
}

/// Calls `work` with the networks in the current configuration.
fn with_active<R>(work: impl FnOnce(&[&'static Net]) -> R) -> R {
    let config = config::current();
    let mut table = TABLE.lock();
    if !table.built_from.as_ref().is_some_and(|built_from| Arc::ptr_eq(built_from, &config)) {
        table.rebuild(config);
    }
    work(&table.active)
}

static TABLE: Mutex<Table> = Mutex::new(Table { built_from: None, active: Vec::new(), all: Vec::new() });

struct Table {
    built_from: Option<Arc<Config>>,
    active: Vec<&'static Net>,
    /// Every network ever passed to C: equal settings find their old entry again, so that restarts add nothing.
    all: Vec<&'static Net>,
}

impl Table {
    fn rebuild(&mut self, config: Arc<Config>) {
        self.active.clear();
        for settings in configured(&config) {
            let known = self.all.iter().copied().find(|net| net.settings == settings);
            if let Some(net) = known.or_else(|| self.add(settings)) {
                self.active.push(net);
            }
        }
        self.built_from = Some(config);
    }

    fn add(&mut self, settings: Settings) -> Option<&'static Net> {
        let c = CNet::new(settings.id, &settings.name, &settings.gdb_groups_prefix, &settings.native_ticker);
        let Some(c) = c else {
            log::error!("network {:?}: its settings contain a NUL; the network is ignored", settings.name);
            return None;
        };
        let net: &'static Net = Box::leak(Box::new(Net { settings, c }));
        self.all.push(net);
        Some(net)
    }
}

/// The networks that a configuration names, except for invalid ones, which are logged.
fn configured(config: &Config) -> Vec<Settings> {
    let mut names = config.get_list("networks", "names");
    if names.is_empty() {
        names.push(DEFAULT_NAME.to_owned());
    }
    let mut networks: Vec<Settings> = Vec::new();
    for name in names {
        let settings = settings(config, name);
        if settings.name.len() > DAP_CHAIN_NET_NAME_MAX {
            log::error!(
                "[networks] names: {}... is longer than {DAP_CHAIN_NET_NAME_MAX} bytes; the network is ignored",
                settings.name.chars().take(20).collect::<String>()
            );
        } else if let Some(other) = networks.iter().find(|net| net.id == settings.id || net.name == settings.name) {
            log::error!(
                "[network_{}] has the name or the id {:#018x} of network {}: expected a unique name \
                 and id; the network is ignored",
                settings.name,
                settings.id,
                other.name
            );
        } else {
            networks.push(settings);
        }
    }
    networks
}

fn settings(config: &Config, name: String) -> Settings {
    let section = format!("network_{name}");
    let text = |key: &str, default: &str| {
        config.get_str(&section, key).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let default_id = if name == DEFAULT_NAME { DEFAULT_ID } else { id_from_name(&name) };
    let role_name = text("role", "master");
    let role = ROLES.iter().find(|(known, _)| *known == role_name).map(|(_, role)| *role).unwrap_or_else(|| {
        let known: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
        log::error!("[{section}] role={role_name}: expected one of {}; using master", known.join(", "));
        NODE_ROLE_MASTER
    });
    Settings {
        id: config.get_u64(&section, "id", default_id),
        role,
        gdb_groups_prefix: text("gdb_groups_prefix", &name),
        native_ticker: text("native_ticker", DEFAULT_TICKER),
        name,
    }
}

/// The first eight bytes, little-endian, of the SHA3-256 of the name: equal on every node, without configuration.
fn id_from_name(name: &str) -> u64 {
    let hash = Sha3_256::digest(name.as_bytes());
    hash.iter().take(8).rev().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Vec<Settings> {
        configured(&Config::parse(text, "test.cfg").0)
    }

    #[test]
    fn the_default_is_backbone() {
        let networks = networks("");
        assert_eq!(networks.len(), 1);
        let net = &networks[0];
        assert_eq!((net.id, net.name.as_str(), net.role), (0x0404_2022_0000_0000, "backbone", NODE_ROLE_MASTER));
        assert_eq!((net.gdb_groups_prefix.as_str(), net.native_ticker.as_str()), ("backbone", "CELL"));
    }

    #[test]
    fn settings_as_written() {
        let networks = networks(
            "[networks]\nnames=[one,two]\n[network_one]\nid=0x10\nrole=light\ngdb_groups_prefix=o\nnative_ticker=T\n",
        );
        let (one, two) = (&networks[0], &networks[1]);
        assert_eq!((one.id, one.role, one.gdb_groups_prefix.as_str()), (16, NODE_ROLE_LIGHT, "o"));
        assert_eq!((one.native_ticker.as_str(), two.native_ticker.as_str()), ("T", "CELL"));
        // printf two | openssl dgst -sha3-256
        assert_eq!(two.id, id_from_name("two"));
        assert_ne!(two.id, id_from_name("three"));
    }

    #[test]
    fn the_configuration_knows_the_roles() {
        assert_eq!(ROLES.map(|(name, _)| name), crate::config::ROLES);
    }

    #[test]
    fn invalid_networks_are_left_out() {
        let long = "n".repeat(DAP_CHAIN_NET_NAME_MAX + 1);
        let networks = networks(&format!("[networks]\nnames=[a,{long},a,b,c]\n[network_b]\nid=7\n[network_c]\nid=7\n"));
        let names: Vec<_> = networks.iter().map(|net| net.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(super::tests::networks("[network_backbone]\nrole=king\n")[0].role, NODE_ROLE_MASTER);
    }

    #[test]
    fn equal_settings_keep_their_pointer() {
        let mut table = Table { built_from: None, active: Vec::new(), all: Vec::new() };
        let with = |text| Arc::new(Config::parse(text, "test.cfg").0);
        table.rebuild(with(""));
        let first = table.active[0].c.as_ptr();
        table.rebuild(with("[network_backbone]\nrole=light\n"));
        let other = table.active[0].c.as_ptr();
        table.rebuild(with("[other]\n"));
        assert_ne!(first, other);
        assert_eq!((first, table.all.len()), (table.active[0].c.as_ptr(), 2));
    }
}
