//! What a configuration consists of.

use std::collections::BTreeMap;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<String>),
    /// What stands in the file, and why it cannot be read.
    Unreadable(String),
}

/// A section's or a key's name as the SDK compares it.
pub(super) fn name(written: &str) -> String {
    written.replace('-', "_")
}

/// Values by key by section. A section without keys is present too.
pub(super) type Sections = BTreeMap<String, BTreeMap<String, Value>>;
