//! A server that lies, floods or falls silent. The client's call ends with a sentence, in bounded time and memory.

use super::{NET, cell, server};
use crate::peer::packet;
use crate::support::configure;
use embedded::bank::account::{self, BankError};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::{TEST_TIMEOUT, noise};
use vpn_core::money::bank::{BankAnswer, ChainState, Prices, kind};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// A TLS server with a key of its own; `serve` gets each connection after the hello.
fn lying(serve: impl Fn(&mut Stream, usize) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"cellframe-vpn/1".to_vec()];
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for (number, io) in listener.incoming().enumerate() {
            let Ok(io) = io else { return };
            io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), io);
            let mut hello = [0; 7];
            if stream.read_exact(&mut hello).is_ok() {
                assert_eq!(&hello, b"CFVS\x01\x01B");
                let _ = stream.write_all(b"CFVS\x01\x00");
                serve(&mut stream, number);
            }
        }
    });
    port
}

/// Reads one request; returns its type.
fn request(stream: &mut Stream) -> u8 {
    let mut header = [0; 16];
    if stream.read_exact(&mut header).is_err() {
        return 0;
    }
    let mut data = vec![0; u32::from_le_bytes(header[12..].try_into().unwrap()) as usize];
    stream.read_exact(&mut data).unwrap();
    header[2]
}

fn tell(stream: &mut Stream, answer: &BankAnswer) {
    let (kind, data) = answer.encode();
    let _ = stream.write_all(&packet(b'B', kind, data.len() as u32, &data));
}

#[test]
fn lies_are_named() {
    let sdk = server("");
    let says = |bytes: Vec<u8>, part: &str| {
        // The identity of the server before is another one.
        let port = lying(move |stream, _| {
            request(stream);
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0]);
        });
        let error = account::open(NET, "127.0.0.1", port).unwrap_err();
        assert!(matches!(&error, BankError::NoAnswer { .. }) && error.to_string().contains(part), "{error}");
    };
    let prices = BankAnswer::Prices(Prices::default()).encode().1;
    let with = |kind, data: &[u8]| packet(b'B', kind, data.len() as u32, data);
    says(with(0x81, &prices[..prices.len() - 1]), "too few");
    says(with(0x81, &[&prices[..], &[0]].concat()), "expected at most");
    says(with(0x82, &prices), "does not know");
    says(with(0x84, &BankAnswer::Chain(ChainState::Spent).encode().1), "its answer is of type 0x84");
    says(with(0x01, &prices), "0x1 is not accepted");
    says(packet(b'S', 0x81, 5, &prices), "on channel 0x53");
    says(packet(b'B', 0x81, u32::MAX, &[]), "a packet of 4294967295 bytes");
    drop(sdk);
}

#[test]
fn random_bytes_panic_nobody() {
    let sdk = server("");
    for seed in 0..20 {
        let port = lying(move |stream, _| {
            request(stream);
            let _ = stream.write_all(&noise(seed, seed as usize * 31 + 1));
        });
        assert!(account::open(NET, "127.0.0.1", port).is_err(), "seed {seed}");
    }
    drop(sdk);
}

/// A byte now and then does not keep the client waiting for ever.
#[test]
fn a_server_that_drips_is_left() {
    let sdk = server("");
    let port = lying(|stream, _| {
        request(stream);
        while stream.write_all(b"B").is_ok() {
            std::thread::sleep(Duration::from_millis(900));
        }
    });
    let began = Instant::now();
    let error = account::open(NET, "127.0.0.1", port).unwrap_err();
    assert!(matches!(error, BankError::NoAnswer { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    drop(sdk);
}

/// Another key has another ledger: what was opened at the first is not asked of the second.
#[test]
fn a_server_that_changes_its_key_is_refused() {
    let sdk = server("");
    let good = |stream: &mut Stream, _| {
        while request(stream) == kind::PRICES {
            tell(stream, &BankAnswer::Prices(Prices::default()));
        }
    };
    let port = lying(good);
    account::open(NET, "127.0.0.1", port).unwrap();
    // The same address is trusted for its first key.
    let pin = format!("[vpn_client]\nserver_pin=sha256:{}\n", "11".repeat(32));
    configure(sdk.directory.path(), 2, &pin);
    let error = account::balance(NET, &[1; 32], cell()).unwrap_err();
    assert!(matches!(error, BankError::Unreachable { errno: libc::EKEYREJECTED, .. }), "{error}");
}
