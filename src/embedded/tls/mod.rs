//! TLS 1.3 under the stream: the node's identity, the client's pin, and the record layer.

pub mod identity;
pub mod pin;
pub(crate) mod session;

pub use identity::{IdentityError, fingerprint_text, identity_fingerprint, identity_spki};

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// What both ends must speak inside TLS (RFC 7301).
pub const ALPN: &[u8] = b"cellframe-vpn/1";

/// The server's side with the node's identity. No tickets: a stream lives long, and a resumed one would skip the check
/// of the identity.
pub(crate) fn server_config(identity: &identity::Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's side; the server must prove the identity that `pin` accepts.
pub(crate) fn client_config(pin: &Arc<pin::PinVerifier>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier: Arc<pin::PinVerifier> = Arc::clone(pin);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        // rustls calls every verifier that is not WebPKI dangerous; this one checks the key itself.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// aws-lc-rs with X25519MLKEM768 first among the key exchanges (feature `prefer-post-quantum`).
///
/// The ciphers are the same ones in the same order whoever computes them; where ring does it much faster they are its:
/// docs/performance.md has the figures.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if ring_is_faster() {
        provider.cipher_suites = ring::DEFAULT_CIPHER_SUITES.to_vec();
    }
    Arc::new(provider)
}

/// AES-GCM for processors that have vector AES and no AVX-512, such as AMD's Zen 3 and Intel's Alder Lake: ring has code
/// for them, aws-lc for AVX-512 and for older ones.
fn ring_is_faster() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("avx2")
            && !is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Has the random number generator seed itself, which takes some tens of milliseconds the first time: not while somebody
/// waits for a connection.
pub(crate) fn warm_up() {
    if ::aws_lc_rs::rand::fill(&mut [0]).is_err() {
        log::error!("no random numbers: TLS cannot work");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends of different builds and processors talk to each other: what is offered, and what is preferred, is the same.
    #[test]
    fn both_libraries_have_the_same_ciphers_in_the_same_order() {
        let names = |suites: &[rustls::SupportedCipherSuite]| {
            let tls13 = suites.iter().filter(|suite| suite.tls13().is_some());
            tls13.map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        assert_eq!(names(ring::DEFAULT_CIPHER_SUITES), names(aws_lc_rs::DEFAULT_CIPHER_SUITES));
        assert_eq!(provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
