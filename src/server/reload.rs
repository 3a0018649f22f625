//! Takes other settings while sessions live.
//!
//! What is read now and then is swapped as a whole. What packets read is in atomics of its own, and what belongs to a
//! worker is changed on that worker; sessions get their part with the next check, within a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::billing::Rules;
use super::lifecycle::CHANGE;
use super::static_leases::StaticLeases;
use super::{SERVER, Server, Settings, SettingsError, leases, queue_memory};
use crate::sdk::config::Config;
use crate::sdk::{log_more, worker};
use vpn_core::lease::Reserved;

/// Why the service takes no other settings.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It does not run.
    #[error("the VPN service does not run")]
    NotRunning,
    /// It is being started or stopped.
    #[error("the VPN service is being started or stopped")]
    Busy,
    /// They are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Those of the client are.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Client(crate::sdk::config::BadValue),
    /// The SDK does not take them.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Sdk(#[from] crate::sdk::reload::ReloadError),
}

impl ReloadError {
    /// Returns whether a key is the reason.
    pub fn is_configuration(&self) -> bool {
        match self {
            ReloadError::NotRunning | ReloadError::Busy => false,
            ReloadError::Settings(error) => error.is_configuration(),
            #[cfg(feature = "embedded")]
            ReloadError::Client(_) => true,
            #[cfg(feature = "embedded")]
            ReloadError::Sdk(error) => error.is_configuration(),
        }
    }
}

/// Reads settings as a start does, without what only a start asks of the host.
pub(crate) fn check(config: &Config) -> Result<(), SettingsError> {
    let settings = Settings::parse(config)?;
    Rules::read(config)?.fit(&settings)
}

/// Gives the service that runs the settings in `config`, all or none. `commit` gives the SDK its part. The keys that a
/// running service cannot change must have their values from before.
pub(crate) fn reload(config: &Config, commit: impl FnOnce() -> Result<(), ReloadError>) -> Result<(), ReloadError> {
    let _change = worker::serialise(&CHANGE).ok_or(ReloadError::Busy)?;
    let server = SERVER.lock().clone().ok_or(ReloadError::NotRunning)?;
    let settings = Settings::parse(config)?;
    let rules = Rules::read(config).map_err(SettingsError::from)?;
    rules.fit(&settings)?;
    let deny = server.deny.prepare(&settings)?;
    commit()?;
    server.deny.change(deny);
    server.billing.change(rules);
    server.take(settings);
    Ok(())
}

impl Server {
    fn take(&self, settings: Settings) {
        let before = self.settings();
        log_more(settings.debug_more);
        if before.congestion != settings.congestion {
            settings.congestion.say();
        }
        settings.rates.say();
        {
            let mut leases = self.leases.lock();
            leases.set_rules(&settings.leases);
            self.change_static(&mut leases, &before.static_leases, &settings.static_leases);
        }
        self.lease_store.wake();
        self.terms.store(Arc::new(settings.terms(self.terms.load().bundles)));
        self.isolates.store(settings.client_isolation, Ordering::Relaxed);
        self.session_queue.store(settings.session_queue, Ordering::Relaxed);
        let memory = queue_memory(&settings, self.datapaths.len());
        for datapath in &self.datapaths {
            let (worker, datapath) = (datapath.worker, Arc::clone(datapath));
            worker::exec(worker, move || datapath.limit_memory(memory));
        }
        if !settings.rates.is_empty() {
            self.has_had_rates.store(true, Ordering::Relaxed);
        }
        self.settings.store(Arc::new(settings));
        // Last: a session that sees the number has the settings.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Ends the reservations that are gone, and makes those that are new.
    fn change_static(
        &self,
        leases: &mut vpn_core::exchange::Leases<leases::Owner>,
        before: &StaticLeases,
        after: &StaticLeases,
    ) {
        for (_, address) in before.not_in(after) {
            // Without random numbers no token of a client is in use either.
            leases.unreserve(address, &leases::random().unwrap_or_default());
        }
        let Some(tokens) = self.key_tokens.as_ref() else { return };
        for (key, address) in after.not_in(before) {
            if leases.reserve_now(address, &tokens.of_static(&key)) == Reserved::AfterLease {
                let drop = if cfg!(feature = "sdk") { "vpn_stat -drop" } else { "cellframe-vpn leases --drop" };
                log::warn!(
                    "[srv_vpn] static_leases: {address} is another client's now; it is reserved from the end of that \
                     session on (`{drop} {address}` ends it)"
                );
            }
        }
    }
}
