//! Reading a node's configuration again while its sessions live, as `vpn_stat -reload` asks for it.
//!
//! The SDK and other services of the node keep the configuration of its start. Of `[srv_vpn]` the keys in [`TAKEN`] take
//! effect; the others in [`KEPT`] keep their values until a restart of the node, and are named.

use std::fmt;

use serde_json::{Value, json};

use super::reload::{self, ReloadError};
use crate::sdk::config::Config;

const SECTION: &str = "srv_vpn";

/// The keys that a running service takes. docs/config.md marks them.
pub(crate) const TAKEN: &[&str] = &[
    "lease_time",
    "client_isolation",
    "session_queue",
    "queue_memory",
    "limit_down",
    "limit_up",
    "order_limits",
    "congestion",
    "dns",
    "leases_per_address",
    "new_leases_per_minute",
    "lease_unused",
    "static_leases",
    "keep_alive",
    "log_addresses",
    "debug_more",
    "deny",
    "deny_host",
    "prove_key",
    "payment_timeout",
    "grace_bytes",
    "grace_per_hour",
    "grace_at_once",
    "grace_bytes_per_hour",
];

/// The keys that need a restart. The node's SDK reads the last six at its start.
pub(crate) const KEPT: &[&str] = &[
    "network_address",
    "network_mask",
    "mtu",
    "device_mtu",
    "store_leases",
    "offload",
    "device",
    "nat",
    "monitor",
    "status_page",
    "auto_cpu_reassignment",
    "gate",
    "account_book",
    "account_book_free",
    "receipt_sign_cert",
    "wallet_addr",
    "net",
    "allow_free_srv",
    "grace_period",
    "enabled",
];

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    key: &'static str,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    fn to_json(&self) -> Value {
        let Change { key, before, after } = self;
        json!({"section": SECTION, "key": key, "before": before, "after": after})
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        write!(f, "[{SECTION}] {}: {} -> {}", self.key, shown(&self.before), shown(&self.after))
    }
}

/// What a reload has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// What is in force.
    pub(crate) applied: Vec<Change>,
    /// What needs a restart: the old value stays in force.
    pub(crate) restart: Vec<Change>,
}

impl Report {
    /// `taken` has the values of [`TAKEN`] that are in force, `node` those of [`KEPT`].
    fn new(taken: &Config, node: &Config, new: &Config) -> Report {
        let changes = |keys: &[&'static str], old: &Config| {
            let change = |key: &&'static str| {
                let (before, after) = (old.written(SECTION, key), new.written(SECTION, key));
                (before != after).then_some(Change { key, before, after })
            };
            keys.iter().filter_map(change).collect()
        };
        Report { applied: changes(TAKEN, taken), restart: changes(KEPT, node) }
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let counts = match (self.applied.len(), self.restart.len()) {
            (0, 0) => "nothing has changed".to_owned(),
            (applied, 0) => format!("{applied} changed"),
            (applied, restart) => format!("{applied} changed, {restart} to change with a restart"),
        };
        format!("[{SECTION}] was read again: {counts}")
    }

    pub(crate) fn to_json(&self) -> Value {
        let list = |changes: &[Change]| changes.iter().map(Change::to_json).collect::<Vec<_>>();
        json!({"applied": list(&self.applied), "needs_restart": list(&self.restart)})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        self.applied.iter().try_for_each(|change| write!(f, "\napplied: {change}"))?;
        self.restart.iter().try_for_each(|change| write!(f, "\nneeds a restart: {change}"))
    }
}

/// Gives the running service what `new` has of [`TAKEN`], all or none. `taken` has what was given last. What `new` says
/// must be valid for a restart, too.
fn take(new: &Config, taken: &Config) -> Result<Report, ReloadError> {
    let node = Config::of_node();
    reload::check(new)?;
    let report = Report::new(taken, &node, new);
    reload::reload(&new.keeping(KEPT), || Ok(()))?;
    Ok(report)
}

/// Reads the node's file again.
#[cfg(feature = "sdk")]
pub(crate) fn reread() -> Result<Report, Option<ReloadError>> {
    use crate::sdk::config::Reread;

    /// What was given last; before that the node's configuration.
    static TAKEN_LAST: parking_lot::Mutex<Option<Reread>> = parking_lot::Mutex::new(None);

    let mut last = TAKEN_LAST.lock();
    let new = Reread::open().ok_or(None)?;
    let node = Config::of_node();
    let report = take(&new, last.as_deref().unwrap_or(&node))?;
    *last = Some(new);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sdk::reload::Candidate;
    use embedded::config::Config as NodeConfig;

    fn candidate(keys: &str) -> Candidate {
        Candidate::open(NodeConfig::parse(&format!("[srv_vpn]\n{keys}"), "test").0)
    }

    /// What docs/config.md says of a node is what the code does.
    #[test]
    fn the_documentation_marks_these_keys() {
        let text = include_str!("../../docs/config.md");
        let of_service = text.split_once("## The service: `[srv_vpn]`").expect("the section").1;
        let rows = of_service.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| {
            let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
            let (key, marks) = cells.first()?.split_once('`')?;
            let is_of_node = *cells.get(3)? != "embedded";
            is_of_node.then_some((key, marks.contains('~')))
        });
        let (marked, others): (Vec<_>, Vec<_>) = rows.partition(|(_, is_marked)| *is_marked);
        let of = |rows: Vec<(&'static str, bool)>| rows.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
        let (mut marked, mut others) = (of(marked), of(others));
        assert!(marked.remove("grace_period"), "the node's SDK reads it at its start");
        others.extend(["grace_period", "wallet_addr", "net", "allow_free_srv"]);
        assert_eq!(marked, TAKEN.iter().copied().collect());
        assert_eq!(others, KEPT.iter().copied().collect());
    }

    #[test]
    fn a_report_names_each_key_that_differs() {
        let node = candidate("limit_down=10\nmtu=1300\n");
        let taken = candidate("limit_down=20\n");
        let new = candidate("limit_down=30\ndeny=[10.0.0.0/8,10.1.2.3]\nmtu=1200\n");
        let report = Report::new(&taken, &node, &new);
        let expected = "[srv_vpn] was read again: 2 changed, 1 to change with a restart\n\
                        applied: [srv_vpn] limit_down: 20 -> 30\n\
                        applied: [srv_vpn] deny: not set -> [10.0.0.0/8,10.1.2.3]\n\
                        needs a restart: [srv_vpn] mtu: 1300 -> 1200";
        assert_eq!(report.to_string(), expected);
        let json = json!({"section": "srv_vpn", "key": "mtu", "before": "1300", "after": "1200"});
        assert_eq!(report.to_json()["needs_restart"], json!([json]));
        assert_eq!(Report::new(&taken, &node, &taken).applied, []);
        assert_eq!(Report::default().to_string(), "[srv_vpn] was read again: nothing has changed");
    }

    #[test]
    fn kept_keys_are_read_from_the_node() {
        let new = candidate("limit_down=30\nmtu=700\nnat=on\n");
        let merged = new.keeping(&["mtu"]);
        assert_eq!(merged.written(SECTION, "limit_down").as_deref(), Some("30"));
        assert_eq!(merged.number(SECTION, "mtu", 5), 5, "the process-wide one has none");
        assert_eq!(merged.written(SECTION, "nat").as_deref(), Some("on"));
        assert_eq!(new.number(SECTION, "mtu", 5), 700);
    }

    #[test]
    fn a_mistake_or_no_service_changes_nothing() {
        let none = candidate("");
        let wrong = candidate("network_address=10.9.0.0\nnetwork_mask=255.255.255.0\nlimit_down=fast\n");
        let error = take(&wrong, &none).expect_err("a mistake").to_string();
        assert_eq!(error, "[srv_vpn] limit_down = fast: expected a number from 0 to 1000000000");
        let right = candidate("network_address=10.9.0.0\nnetwork_mask=255.255.255.0\n");
        assert!(matches!(take(&right, &none), Err(ReloadError::NotRunning)));
    }
}
