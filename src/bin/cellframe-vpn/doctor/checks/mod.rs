//! The checks: what the facts mean for the VPN. They look at nothing but the facts.

mod client;
mod machine;
mod network;
mod process;
mod reach;
mod server;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::Finding;

/// Judges everything, from what stops all to what only slows.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Vec<Finding>; 6] =
        [machine::check, network::check, process::check, server::check, client::check, reach::check];
    checks.iter().flat_map(|check| check(facts)).collect()
}
