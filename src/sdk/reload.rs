//! Another configuration for the embedded SDK and what runs on it. A node's SDK has no such thing.

use std::ops::Deref;

use super::config::Config;

pub use embedded::config::Config as NodeConfig;
pub use embedded::lifecycle::{ReloadError, reload};

/// A configuration that is not the process-wide one, or not yet, as a [`Config`].
#[derive(Debug)]
pub struct Candidate(Config);

impl Candidate {
    /// Opens it.
    pub fn open(config: NodeConfig) -> Candidate {
        Candidate(Config::of_pointer(embedded::abi::config::open(config.into()).cast()))
    }
}

impl Deref for Candidate {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // SAFETY: it was opened above, and nobody keeps a string of it: `Config` copies each.
        unsafe { embedded::abi::config::dap_config_close(self.0.raw().cast()) };
    }
}

/// Makes it the process-wide configuration, for a process that has a client alone: nothing else of the SDK follows it.
pub fn set_current(config: NodeConfig) {
    embedded::config::set_current(config);
}

/// Checks the security keys.
pub fn check(config: &NodeConfig) -> Result<(), ReloadError> {
    Ok(config.check()?)
}
