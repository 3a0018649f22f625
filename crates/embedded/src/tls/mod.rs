//! TLS 1.3 under the stream: the node's identity, the client's pin, the handshake and the record layer.

mod aead;
pub(crate) mod error;
pub mod identity;
pub mod pin;
pub(crate) mod records;
pub(crate) mod session;
#[cfg(test)]
pub(crate) mod session_tests;
pub(crate) mod sizes;
mod traffic;
pub(crate) mod window;

pub(crate) use identity::identity_key;
pub use identity::{IdentityError, fingerprint_text, identity_fingerprint, identity_spki};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// The protocol that both ends must agree on in TLS (RFC 7301).
pub const ALPN: &[u8] = b"cellframe-vpn/1";

/// The server's side with the node's identity. No tickets: a stream lives long, and a resumed stream would skip the
/// check of the identity.
pub(crate) fn server_config(
    provider: Arc<CryptoProvider>,
    identity: &identity::Identity,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // This module has its own record layer.
    config.enable_secret_extraction = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's side; the server must prove an identity that `pin` accepts.
pub(crate) fn client_config(
    provider: Arc<CryptoProvider>,
    pin: &Arc<pin::PinVerifier>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier: Arc<pin::PinVerifier> = Arc::clone(pin);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        // rustls calls every verifier other than WebPKI dangerous; this one checks the key itself.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// aws-lc-rs with X25519MLKEM768 first among the key exchanges (feature `prefer-post-quantum`).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Seeds the random number generator, which takes some tens of milliseconds the first time, so that no connection waits
/// for it.
pub(crate) fn warm_up() {
    if ::aws_lc_rs::rand::fill(&mut [0]).is_err() {
        log::error!("the random number generator failed: TLS cannot work");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_exchange_withstands_quantum_computers() {
        assert_eq!(provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
