//! Maps errors to the codes that C gets. No other file does this.

use std::ffi::c_int;
#[cfg(feature = "server")]
use std::io;

#[cfg(feature = "client")]
use crate::client::{ClientError, wallet::WalletError};
#[cfg(feature = "server")]
use crate::server::InitError;
#[cfg(feature = "server")]
use host::tun::TunError;

/// Returns the code of `dap_chain_net_srv_vpn_init`.
#[cfg(feature = "server")]
pub(crate) fn server_init(error: &InitError) -> c_int {
    match error {
        InitError::NotRunning(_) | InitError::Tun(TunError::Open(_) | TunError::NotSupported) => -1,
        InitError::Tun(TunError::Create { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => -1,
        InitError::Settings(_) | InitError::Tun(_) | InitError::Queue(_) | InitError::Nat(_) => -2,
        InitError::Taken(_) | InitError::AlreadyRunning | InitError::Busy => -3,
        InitError::NoServer(_) => -100,
    }
}

/// Returns the code of `dap_chain_net_vpn_client_start` and `_check`.
#[cfg(feature = "client")]
pub(crate) fn client(result: Result<(), ClientError>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(ClientError::Argument(_)) => -1,
        Err(ClientError::NoAnswer { .. }) => -3,
        Err(
            ClientError::Config(_)
            | ClientError::NotRunning
            | ClientError::Elsewhere(_)
            | ClientError::Connect { .. }
            | ClientError::Refused { .. }
            | ClientError::Busy { .. }
            | ClientError::Unconfirmed(_)
            | ClientError::Tunnel(_)
            | ClientError::Payment(_)
            | ClientError::Lost { .. }
            | ClientError::OnWorker
            | ClientError::Stopped,
        ) => -2,
    }
}

/// Returns the code of `dap_chain_net_vpn_client_tun_create`; logs an error.
#[cfg(feature = "client-tun")]
pub(crate) fn tunnel(result: Result<(), crate::client::device::TunnelError>) -> c_int {
    use crate::client::device::TunnelError;

    let Err(error) = result else { return 0 };
    log::error!("cannot create the tunnel's device: {error}");
    match error {
        TunnelError::BadAddress(_) => -1,
        TunnelError::Overlap { .. }
        | TunnelError::Tun(_)
        | TunnelError::Netlink(_)
        | TunnelError::UnknownServer
        | TunnelError::TooManyRoutes(_)
        | TunnelError::Ipv6 { .. }
        | TunnelError::Ipv6Mtu(_) => -2,
        TunnelError::NotRunning(_) | TunnelError::Busy => -3,
    }
}

/// Returns the code of `dap_chain_net_vpn_client_update`; logs an error.
#[cfg(feature = "client")]
pub(crate) fn wallet(result: Result<(), WalletError>) -> c_int {
    let Err(error) = result else { return 0 };
    log::error!("{error}");
    match error {
        WalletError::Closed(_) => -1,
        WalletError::Config(_) | WalletError::Store(_) => -2,
        WalletError::Funds { .. } | WalletError::Unmetered { .. } | WalletError::Refused(_) => -3,
    }
}
