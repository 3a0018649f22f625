//! The parameters of a connection's exchange: its REQUEST, and the terms on which it pays.

use super::payment::Contract;
use super::settings::Settings;
use crate::sdk::net::Net;
use vpn_core::exchange;
use vpn_core::lease::Token;
use vpn_core::wire::Request;

/// The VPN service's number.
const SERVICE: u64 = 1;

/// Returns the parameters of a connection in a network. The REQUEST is created once, so every repetition is
/// identical. With `is_held` it waits until the connection may send it.
pub(super) fn exchange(
    settings: &Settings,
    net: &Net,
    contract: &Contract,
    resume: Option<Token>,
    is_held: bool,
) -> exchange::Settings {
    let mut request = Request {
        net_id: net.id(),
        tx_cond: random(),
        srv_uid: SERVICE,
        client_pkey_hash: random(),
        ..Request::default()
    };
    let mut agreement = None;
    match contract {
        Contract::Free(order) => request.order_hash = *order,
        Contract::Paid(means) => {
            request.order_hash = means.order.hash;
            request.tx_cond = means.last;
            request.client_pkey_hash = means.key_hash;
            // One byte is left for a NUL.
            let last = request.token.len() - 1;
            request.token[..last].iter_mut().zip(means.order.token.bytes()).for_each(|(to, from)| *to = from);
            agreement = Some(means.agreement());
        }
    }
    exchange::Settings {
        request,
        start_timeout: settings.start_timeout,
        keep_alive: settings.keep_alive,
        mtu: settings.mtu,
        bundles: settings.offload,
        allow: settings.allow_subnet.clone(),
        resume,
        agreement,
        is_held,
    }
}

/// Returns random bytes. They only have to differ; a peer may be able to guess them.
fn random() -> [u8; 32] {
    let mut bytes = [1; 32];
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        log::debug!("the kernel provides no random numbers");
    }
    bytes
}
