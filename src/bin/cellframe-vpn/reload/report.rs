//! What a reload has done, for people and for programs.

use std::fmt;

use embedded::config::Change;
use serde_json::{Value, json};

use super::keys::When;

/// The outcome of a reload.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The file that was read; empty without one.
    pub(super) file: String,
    /// What is in force.
    pub(super) applied: Vec<(Change, When)>,
    /// What needs a restart: the old value stays in force.
    pub(super) restart: Vec<Change>,
    /// How many keys have the value that they had, with those that the command line sets.
    pub(super) unchanged: usize,
}

impl Report {
    /// One line.
    pub(super) fn summary(&self) -> String {
        let keys = |count: usize| if count == 1 { "1 key".to_owned() } else { format!("{count} keys") };
        match (self.applied.len(), self.restart.len()) {
            (0, 0) => "the configuration was read again: nothing has changed".into(),
            (applied, 0) => format!("the configuration was read again: {} changed", keys(applied)),
            (applied, restart) => format!(
                "the configuration was read again: {} changed, {} to change with a restart",
                keys(applied),
                keys(restart)
            ),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let change = |change: &Change| json!({"section": change.section, "key": change.key, "before": change.before, "after": change.after});
        let applied = self.applied.iter().map(|(one, when)| {
            let mut value = change(one);
            value["applies_to"] = match when {
                When::Now => "now".into(),
                When::Next => "next".into(),
            };
            value
        });
        json!({
            "file": self.file,
            "applied": applied.collect::<Vec<_>>(),
            "needs_restart": self.restart.iter().map(change).collect::<Vec<_>>(),
            "unchanged": self.unchanged,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary())?;
        if !self.file.is_empty() {
            write!(f, " ({})", self.file)?;
        }
        for when in [When::Now, When::Next] {
            let mut changes = self.applied.iter().filter(|(_, of)| *of == when).peekable();
            if changes.peek().is_some() {
                write!(f, "\napplied, {}:", when.heading())?;
            }
            changes.try_for_each(|(change, _)| write!(f, "\n  {change}"))?;
        }
        if !self.restart.is_empty() {
            write!(f, "\nneeds a restart, until then the old value is in force:")?;
        }
        self.restart.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_key() {
        let change =
            |key: &str| Change { section: "srv_vpn".into(), key: key.into(), before: None, after: Some("7".into()) };
        let report = Report {
            file: "/a.cfg".into(),
            applied: vec![(change("dns"), When::Next), (change("limit_up"), When::Now)],
            restart: vec![change("mtu")],
            unchanged: 3,
        };
        let expected = "the configuration was read again: 2 keys changed, 1 key to change with a restart (/a.cfg)\n\
                        applied, in force now:\n  [srv_vpn] limit_up: not set -> 7\n\
                        applied, for what begins from now on:\n  [srv_vpn] dns: not set -> 7\n\
                        needs a restart, until then the old value is in force:\n  [srv_vpn] mtu: not set -> 7";
        assert_eq!(report.to_string(), expected);
        let json = report.to_json();
        assert_eq!((&json["applied"][0]["applies_to"], &json["unchanged"]), (&json!("next"), &json!(3)));
        assert_eq!(json["needs_restart"][0], json!({"section": "srv_vpn", "key": "mtu", "before": null, "after": "7"}));
        assert_eq!(Report::default().to_string(), "the configuration was read again: nothing has changed");
    }
}
