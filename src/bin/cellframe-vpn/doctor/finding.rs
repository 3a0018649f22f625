//! What a check came to.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// The VPN works, but worse than it could.
    Warning,
    /// The VPN does not work, or not as it is set up.
    Fault,
}

impl Level {
    /// The word for it, in the text and in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Warning => "warning",
            Level::Fault => "fault",
        }
    }
}

/// What was checked, what was found, what follows, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The check, by a word that scripts may rely on.
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    /// What follows from it for the VPN; empty if all is well.
    pub(super) follows: String,
    /// What helps: commands, lines of the configuration, or sentences. The first one is the first to try.
    pub(super) remedies: Vec<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, level: Level::Ok, found: found.into(), follows: String::new(), remedies: Vec::new() }
    }

    pub(super) fn unknown(check: &'static str, found: impl Into<String>, remedy: &str) -> Finding {
        Finding::ok(check, found).with(Level::Unknown, "", &[remedy])
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, follows: &str, remedies: &[&str]) -> Finding {
        Finding::ok(check, found).with(Level::Warning, follows, remedies)
    }

    pub(super) fn fault(check: &'static str, found: impl Into<String>, follows: &str, remedies: &[&str]) -> Finding {
        Finding::ok(check, found).with(Level::Fault, follows, remedies)
    }

    fn with(mut self, level: Level, follows: &str, remedies: &[&str]) -> Finding {
        self.level = level;
        follows.clone_into(&mut self.follows);
        self.remedies = remedies.iter().map(|remedy| (*remedy).to_owned()).collect();
        self
    }

    pub(super) fn as_json(&self) -> Value {
        let follows = (!self.follows.is_empty()).then_some(&self.follows);
        json!({
            "check": self.check, "level": self.level.word(), "found": self.found, "follows": follows,
            "remedies": self.remedies,
        })
    }
}
