//! Which keys of the configuration a running process takes from a reload. docs/config.md marks them with `~`; every other
//! key needs a restart.

use crate::settings::Role;

/// When a value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Within a second, for the sessions that are there too.
    Now,
    /// For what begins from now on: connections, leases, payments.
    Next,
}

impl When {
    /// As the report says it.
    pub(super) fn heading(self) -> &'static str {
        match self {
            When::Now => "in force now",
            When::Next => "for what begins from now on",
        }
    }
}

/// The keys of a server.
const SERVER: &[(&str, &str, When)] = &[
    ("server", "max_streams", When::Next),
    ("server", "max_streams_per_address", When::Next),
    ("server", "max_memory", When::Now),
    ("server", "max_memory_per_address", When::Now),
    ("server", "idle_timeout", When::Next),
    ("srv_vpn", "lease_time", When::Now),
    ("srv_vpn", "client_isolation", When::Now),
    ("srv_vpn", "session_queue", When::Now),
    ("srv_vpn", "queue_memory", When::Now),
    ("srv_vpn", "limit_down", When::Now),
    ("srv_vpn", "limit_up", When::Now),
    ("srv_vpn", "order_limits", When::Now),
    ("srv_vpn", "congestion", When::Next),
    ("srv_vpn", "dns", When::Next),
    ("srv_vpn", "leases_per_address", When::Next),
    ("srv_vpn", "new_leases_per_minute", When::Next),
    ("srv_vpn", "lease_unused", When::Now),
    ("srv_vpn", "static_leases", When::Next),
    ("srv_vpn", "keep_alive", When::Now),
    ("srv_vpn", "log_addresses", When::Now),
    ("srv_vpn", "debug_more", When::Now),
    ("srv_vpn", "deny", When::Now),
    ("srv_vpn", "deny_host", When::Now),
    ("srv_vpn", "prove_key", When::Next),
    ("srv_vpn", "payment_timeout", When::Next),
    ("srv_vpn", "grace_period", When::Next),
    ("srv_vpn", "grace_bytes", When::Next),
    ("srv_vpn", "grace_per_hour", When::Next),
    ("srv_vpn", "grace_at_once", When::Next),
    ("srv_vpn", "grace_bytes_per_hour", When::Next),
    ("srv_vpn", "allow_free_srv", When::Next),
    ("srv_vpn", "prices", When::Next),
];

/// The keys of a client. It reads them for each connection, also for the one after a loss.
const CLIENT: &[(&str, &str, When)] = &[
    ("vpn_client", "start_timeout", When::Next),
    ("vpn_client", "mtu", When::Next),
    ("vpn_client", "keep_alive", When::Next),
    ("vpn_client", "offload", When::Next),
    ("vpn_client", "congestion", When::Next),
    ("vpn_client", "order_hash", When::Next),
    ("vpn_client", "tx_fee", When::Next),
    ("vpn_client", "allow_source", When::Next),
    ("vpn_client", "server_pin", When::Next),
    ("vpn_client", "allow_subnet", When::Next),
    ("vpn_client", "routes", When::Next),
    ("vpn_client", "exclude_routes", When::Next),
    ("vpn_client", "ipv6", When::Next),
    ("vpn_client", "dns", When::Next),
];

/// The keys of the other role in a file that both share. They have no effect on this one.
fn is_of_other(role: Role, section: &str) -> bool {
    match role {
        Role::Server => matches!(section, "vpn_client" | "cdb"),
        Role::Client | Role::Check => section == "srv_vpn",
    }
}

/// What a change of a key means to a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is applied.
    Applied(When),
    /// The process has to be started again.
    Restart,
    /// The process does not use the key.
    None,
}

/// Returns what a change of this key means.
pub(super) fn effect(role: Role, section: &str, key: &str) -> Effect {
    if is_of_other(role, section) {
        return Effect::None;
    }
    let keys = match role {
        Role::Server => SERVER,
        Role::Client | Role::Check => CLIENT,
    };
    let found = keys.iter().find(|(of, name, _)| (*of, *name) == (section, key));
    found.map_or(Effect::Restart, |(_, _, when)| Effect::Applied(*when))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use std::collections::BTreeSet;

    /// What docs/config.md says is what the code does.
    #[test]
    fn the_documentation_marks_these_keys() {
        let text = include_str!("../../../../docs/config.md");
        let headings = [("srv_vpn", "## The service: `[srv_vpn]`"), ("vpn_client", "## The client: `[vpn_client]`")];
        let mut marked = BTreeSet::new();
        let mut section = "";
        for line in text.lines() {
            if line.starts_with("## ") {
                section = headings.iter().find(|(_, heading)| line == *heading).map_or("", |(section, _)| section);
            }
            let Some((cell, _)) = line.strip_prefix("| ").and_then(|row| row.split_once(" |")) else { continue };
            let Some((name, marks)) = cell.strip_prefix('`').and_then(|cell| cell.split_once('`')) else { continue };
            if marks.split_whitespace().any(|mark| mark == "~") {
                let named = name.strip_prefix('[').and_then(|name| name.split_once("] "));
                let (section, key) = named.unwrap_or((section, name));
                assert!(marked.insert(format!("[{section}] {key}")), "{line}");
            }
        }
        let keys: BTreeSet<_> =
            SERVER.iter().chain(CLIENT).map(|(section, key, _)| format!("[{section}] {key}")).collect();
        assert_eq!(marked, keys);
        assert_eq!(keys.len(), SERVER.len() + CLIENT.len(), "a key is there twice");
    }

    #[test]
    fn they_are_keys_of_the_program() {
        for (section, key, _) in SERVER.iter().chain(CLIENT) {
            assert!(settings::is_known(section, key), "[{section}] {key}");
        }
        assert_eq!(effect(Role::Server, "srv_vpn", "mtu"), Effect::Restart);
        assert_eq!(effect(Role::Server, "vpn_client", "mtu"), Effect::None);
        assert_eq!(effect(Role::Client, "srv_vpn", "deny"), Effect::None);
        assert_eq!(effect(Role::Client, "general", "state_dir"), Effect::Restart);
    }
}
