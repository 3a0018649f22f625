//! What differs between two configurations, for a program that reads its file again while it runs.

use std::collections::BTreeSet;
use std::fmt;

use super::value::{Value, name};
use super::{Config, spelling};

/// A value with more bytes is shown in part.
const SHOWN: usize = 120;

/// A key that has not the same value in two configurations. A built-in default counts as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value before as it would be written; `None` for a key that was not there.
    pub before: Option<String>,
    /// The value now; `None` for a key that is not there any more.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { section, key, before, after } = self;
        let shown = |value: &Option<String>| match value {
            None => "not set".to_owned(),
            Some(value) if value.len() > SHOWN => {
                let begin: String = value.chars().take(SHOWN / 2).collect();
                format!("{}... ({} bytes)", begin.escape_debug(), value.len())
            }
            Some(value) => value.escape_debug().to_string(),
        };
        write!(f, "[{section}] {key}: {} -> {}", shown(before), shown(after))
    }
}

impl Config {
    /// Returns the keys that have another value in `new`, by section and key.
    pub fn changes(&self, new: &Config) -> Vec<Change> {
        let both = [self, new].map(Config::keys);
        let defaults = [self, new].map(Config::built_in_keys);
        let keys: BTreeSet<_> = both.into_iter().flatten().chain(defaults.into_iter().flatten()).collect();
        let change = |(section, key)| {
            let (before, after) = (self.effective(section, key), new.effective(section, key));
            let text = |value: Option<Value>| value.map(|value| value.to_string());
            let (section, key) = spelling(section, key);
            (before != after).then(|| Change { section, key, before: text(before), after: text(after) })
        };
        keys.into_iter().filter_map(change).collect()
    }

    /// Gives a key the value that it has in `other`, or removes it if it has none there.
    pub fn take_from(&mut self, other: &Config, section: &str, key: &str) {
        let (section, key) = (name(section), name(key));
        match other.effective(&section, &key) {
            Some(value) => drop(self.sections.entry(section).or_default().insert(key, value)),
            None => {
                if let Some(keys) = self.sections.get_mut(&section) {
                    keys.remove(&key);
                }
            }
        }
    }

    fn effective(&self, section: &str, key: &str) -> Option<Value> {
        let built_in = || self.built_in(section, key).map(|text| Value::Scalar(text.to_owned()));
        self.written(section, key).cloned().or_else(built_in)
    }
}

/// As in a file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(text) | Value::Unreadable(text) => f.write_str(text),
            Value::List(items) => write!(f, "[{}]", items.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse(text, "test.cfg").0
    }

    fn between(before: &str, after: &str) -> Vec<String> {
        parse(before).changes(&parse(after)).iter().map(Change::to_string).collect()
    }

    #[test]
    fn a_key_changes_with_its_value() {
        assert_eq!(between("[a]\nx=1\ny=2", "[a]\nx=3\ny=2"), ["[a] x: 1 -> 3"]);
        assert_eq!(between("[a]\nx=1", "[a]\ny=[1,2]"), ["[a] x: 1 -> not set", "[a] y: not set -> [1,2]"]);
        assert_eq!(between("[cli_server]\nlisten_path=/a", "[cli-server]\nlisten-path=/a"), [""; 0]);
        assert_eq!(between("", "[cli-server]\nlisten-path=/a"), ["[cli-server] listen-path: not set -> /a"]);
    }

    #[test]
    fn a_default_is_a_value() {
        let named = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n";
        assert_eq!(between("", named), [""; 0]);
        assert_eq!(between("", "[server]\nlisten_address=0.0.0.0:8079"), [""; 0]);
        let moved = named.replace("98", "99");
        assert_eq!(between("", &moved), ["[srv_vpn] network_address: 10.98.0.0 -> 10.99.0.0"]);
        // Such a file cannot be started with, but is compared all the same.
        assert_eq!(between("", "[srv_vpn]\nmtu=1400").len(), 3);
    }

    #[test]
    fn a_value_can_be_kept() {
        let (old, mut new) = (parse("[srv_vpn]\nmtu=1390"), parse("[srv_vpn]\nmtu=1400\ndevice=vpn0\nlease_time=1"));
        for key in ["mtu", "device"] {
            new.take_from(&old, "srv_vpn", key);
        }
        let left: Vec<_> = old.changes(&new).iter().map(Change::to_string).collect();
        assert_eq!(left, ["[srv_vpn] lease_time: not set -> 1"]);
        // The default network, which a section without it would not have.
        let mut new = parse("[srv_vpn]\nnetwork_address=10.1.0.0\nnetwork_mask=255.255.0.0");
        for key in ["network_address", "network_mask"] {
            new.take_from(&parse(""), "srv_vpn", key);
        }
        assert_eq!(parse("").changes(&new), []);
        assert_eq!(new.get_str("srv_vpn", "network_mask").as_deref(), Some("255.255.255.0"));
    }

    #[test]
    fn a_long_value_is_shown_in_part() {
        let change = &parse("").changes(&parse(&format!("[a]\nx={}", "é".repeat(100))))[0];
        assert!(change.to_string().ends_with("... (200 bytes)"), "{change}");
    }
}
