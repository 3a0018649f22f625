//! Why the service did not start.

use super::{NatError, SettingsError};
use crate::sdk::service::Taken;
use crate::sdk::{NotRunning, http};
use host::tun::TunError;

/// Why the service did not start. Nothing remains of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The SDK's workers are not running.
    #[error(transparent)]
    NotRunning(#[from] NotRunning),
    /// The configuration is invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The TUN device cannot be created.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A worker's event loop rejected its TUN queue.
    #[error("worker {0} cannot add its TUN queue to its event loop")]
    Queue(u32),
    /// The service's number is taken.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The service is running already.
    #[error("the VPN service is already running; call dap_chain_net_srv_vpn_deinit first")]
    AlreadyRunning,
    /// Another thread is starting or stopping the service. The caller is a worker, and that thread may be waiting for
    /// it.
    #[error("another thread is starting or stopping the VPN service; a worker must not wait for it")]
    Busy,
    /// The host cannot be made to pass the clients' packets on.
    #[error(transparent)]
    Nat(#[from] NatError),
    /// The node has no HTTP server.
    #[error(transparent)]
    NoServer(#[from] http::NoServer),
}

impl InitError {
    /// Returns whether the configuration is the reason: a start with the same one cannot succeed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, InitError::Settings(error) if error.is_configuration())
    }
}
