//! This module's TLS against rustls's own, against itself, and against hostile peers.

use super::error::TlsError;
use super::records::Batch;
use super::session::TlsSession;
use super::traffic::Traffic;
use super::window::Window;
use super::{client_config, identity, pin, provider, server_config};
use crate::config::Config;
use proptest::prelude::*;
use rustls::crypto::CryptoProvider;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, Connection, ContentType, Error, HandshakeType,
    PeerMisbehaved, ServerConfig, ServerConnection,
};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

pub(crate) static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| server(provider()));

fn server(provider: Arc<CryptoProvider>) -> Arc<ServerConfig> {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::parse(&format!("[general]\nstate_dir={}\n", directory.path().display()), "test").0;
    server_config(provider, &identity::load(&config).unwrap()).unwrap()
}

pub(crate) fn client() -> ClientConfig {
    client_with(provider())
}

fn client_with(provider: Arc<CryptoProvider>) -> ClientConfig {
    let pin = pin::PinVerifier::new("test".into(), pin::Expected::Anyone);
    ClientConfig::clone(&client_config(provider, &pin).unwrap())
}

/// For the client: the server accepts the suite that it is offered.
fn only(suite: CipherSuite) -> ClientConfig {
    let mut provider = CryptoProvider::clone(&provider());
    provider.cipher_suites.retain(|known| known.suite() == suite);
    client_with(Arc::new(provider))
}

/// One of this module's sessions, with its buffers.
struct Ours {
    tls: TlsSession,
    received: Vec<u8>,
    plain_end: usize,
    cipher_begin: usize,
    out: Vec<u8>,
}

impl Ours {
    fn new(tls: TlsSession) -> Ours {
        let mut ours = Ours { tls, received: Vec::new(), plain_end: 0, cipher_begin: 0, out: Vec::new() };
        ours.take(&[]).unwrap();
        ours
    }

    fn server() -> Ours {
        Ours::new(TlsSession::server(Arc::clone(&SERVER)).unwrap())
    }

    fn client(config: ClientConfig) -> Ours {
        Ours::new(TlsSession::client(Arc::new(config)).unwrap())
    }

    /// Returns whether the peer has closed its side.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, TlsError> {
        self.received.extend_from_slice(bytes);
        let Ours { received, plain_end, cipher_begin, .. } = self;
        let mut window = Window { bytes: received, plain_end: *plain_end, cipher_begin: *cipher_begin };
        let closed = self.tls.receive(&mut window, &mut self.out);
        (self.plain_end, self.cipher_begin) = (window.plain_end, window.cipher_begin);
        closed
    }

    fn plain(&self) -> &[u8] {
        &self.received[..self.plain_end]
    }

    fn send(&mut self, mut plain: &[u8]) {
        while !plain.is_empty() {
            let mut batch = Batch::default();
            plain = batch.push(plain);
            let sealed = self.tls.seal(batch, &mut self.out).unwrap();
            self.out.extend_from_slice(&sealed);
        }
    }

    fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn traffic(&mut self) -> &mut Traffic {
        self.tls.traffic().unwrap()
    }
}

/// Exchanges the output of both ends until neither has more.
fn converse(ours: &mut Ours, theirs: &mut Connection) {
    loop {
        let (said, mut answer) = (ours.output(), Vec::new());
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            theirs.read_tls(&mut rest).unwrap();
            theirs.process_new_packets().unwrap();
            let mut plain = Vec::new();
            let _ = theirs.reader().read_to_end(&mut plain);
            RECEIVED.with_borrow_mut(|received| received.extend_from_slice(&plain));
        }
        while theirs.wants_write() {
            theirs.write_tls(&mut answer).unwrap();
        }
        if said.is_empty() && answer.is_empty() {
            return;
        }
        assert!(!ours.take(&answer).unwrap());
    }
}

thread_local! {
    /// Plain text that rustls's end received.
    static RECEIVED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn pair(client: &mut Ours, server: &mut Ours) {
    while !client.tls.is_established() || !server.tls.is_established() {
        server.take(&client.output()).unwrap();
        client.take(&server.output()).unwrap();
    }
    server.take(&client.output()).unwrap();
}

fn connected() -> (Ours, Ours) {
    let (mut client, mut server) = (Ours::client(client()), Ours::server());
    pair(&mut client, &mut server);
    assert!(client.tls.has_agreed_protocol() && server.tls.has_agreed_protocol());
    (client, server)
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn with_rustls(mut ours: Ours, mut theirs: Connection, suite: CipherSuite) {
    RECEIVED.with_borrow_mut(Vec::clear);
    converse(&mut ours, &mut theirs);
    assert!(ours.tls.is_established() && !theirs.is_handshaking());
    assert_eq!(theirs.negotiated_cipher_suite().unwrap().suite(), suite);
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for (round, length) in [0, 1, 100, 16_383, 16_384, 16_385, 70_000, 300_000].into_iter().enumerate() {
        let text = text(length);
        ours.send(&text);
        sent.extend_from_slice(&text);
        if round % 2 == 1 {
            // Changes rustls's key and requests a change of ours.
            theirs.refresh_traffic_keys().unwrap();
        }
        for piece in text.chunks(30_000) {
            theirs.writer().write_all(piece).unwrap();
            converse(&mut ours, &mut theirs);
        }
        converse(&mut ours, &mut theirs);
        got.extend_from_slice(&text);
        assert!(ours.plain() == got, "from rustls, round {round}");
        RECEIVED.with_borrow(|received| assert!(*received == sent, "to rustls, round {round}"));
    }
    theirs.send_close_notify();
    let mut goodbye = Vec::new();
    theirs.write_tls(&mut goodbye).unwrap();
    assert!(ours.take(&goodbye).unwrap(), "its end was not noticed");
    ours.tls.send_close_notify(&mut ours.out);
    theirs.read_tls(&mut ours.output().as_slice()).unwrap();
    assert!(theirs.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn a_server_talks_to_rustls() {
    for suite in SUITES {
        let theirs = ClientConnection::new(Arc::new(only(suite)), "test".try_into().unwrap()).unwrap();
        with_rustls(Ours::server(), theirs.into(), suite);
    }
}

#[test]
fn a_client_talks_to_rustls() {
    for suite in SUITES {
        let theirs = ServerConnection::new(Arc::clone(&SERVER)).unwrap();
        with_rustls(Ours::client(only(suite)), theirs.into(), suite);
    }
}

#[test]
fn keys_change_before_they_are_used_up() {
    let (mut client, mut server) = connected();
    client.traffic().limit(7);
    let text = text(64 * 16_384);
    client.send(&text);
    assert!(client.traffic().sending.used() < 7);
    server.take(&client.output()).unwrap();
    assert!(server.plain() == text);
    server.send(b"and back");
    client.take(&server.output()).unwrap();
    assert_eq!(client.plain(), b"and back");
}

/// A record that no honest peer sends, from a connected client.
fn record(client: &mut Ours, kind: ContentType, message: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    client.traffic().sending.append(kind, message, &mut record).unwrap();
    record
}

/// The server's error for such bytes, and its alert. It accepts nothing afterwards.
fn refusal(mut client: Ours, mut server: Ours, bytes: &[u8]) -> (Error, AlertDescription) {
    let Err(TlsError::Protocol(error)) = server.take(bytes) else { panic!("taken") };
    assert_eq!(server.plain(), b"");
    assert!(!server.tls.is_established());
    assert!(matches!(server.take(&[]), Err(TlsError::NotEstablished)));
    match client.take(&server.output()) {
        Err(TlsError::Protocol(Error::AlertReceived(alert))) => (error, alert),
        other => panic!("{other:?} instead of an alert"),
    }
}

fn record_refused(kind: ContentType, message: &[u8]) -> (Error, AlertDescription) {
    let (mut client, server) = connected();
    let record = record(&mut client, kind, message);
    refusal(client, server, &record)
}

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn records_that_no_honest_peer_sends_end_the_connection() {
    let unexpected = |kind, message: &[u8]| {
        let (error, alert) = record_refused(kind, message);
        assert!(matches!(error, Error::InappropriateMessage { .. }), "{error:?}");
        assert_eq!(alert, AlertDescription::UnexpectedMessage);
    };
    unexpected(ContentType::ChangeCipherSpec, &[1]);
    unexpected(ContentType::Heartbeat, &[1, 0, 3, 1, 2, 3]);
    unexpected(ContentType::Unknown(99), b"what");
    // A new session ticket, a client's hello, a key update with more data behind it, a truncated one.
    unexpected(ContentType::Handshake, &[u8::from(HandshakeType::NewSessionTicket), 0, 0, 0]);
    unexpected(ContentType::Handshake, &[u8::from(HandshakeType::ClientHello), 0, 0, 0]);
    unexpected(ContentType::Handshake, &[KEY_UPDATE, KEY_UPDATE].concat());
    unexpected(ContentType::Handshake, &KEY_UPDATE[..4]);
    unexpected(ContentType::Handshake, &[]);
    unexpected(ContentType::Alert, &[]);
    unexpected(ContentType::Alert, &[2]);

    let (error, alert) = record_refused(ContentType::Handshake, &[24, 0, 0, 1, 2]);
    assert!(matches!((error, alert), (Error::InvalidMessage(_), AlertDescription::IllegalParameter)));
    let (error, alert) = record_refused(ContentType::Alert, &[1, 0, 0]);
    assert!(matches!((error, alert), (Error::InvalidMessage(_), AlertDescription::DecodeError)));
    let (error, alert) = record_refused(ContentType::ApplicationData, &text(16_385));
    assert_eq!((error, alert), (Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow));
    let (error, alert) = record_refused(ContentType::ApplicationData, &text(17_000));
    assert_eq!((error, alert), (Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow));
    let (error, alert) = record_refused(ContentType::Unknown(0), &[0; 40]);
    assert_eq!(error, PeerMisbehaved::IllegalTlsInnerPlaintext.into());
    assert_eq!(alert, AlertDescription::UnexpectedMessage);
}

/// An alert or a change of cipher that anyone on the path could have written.
#[test]
fn plain_records_after_the_handshake_end_the_connection() {
    for plain in [&[21, 3, 3, 0, 2, 1, 0][..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 1, 1], b"GET / HTTP/1.1\r\n\r\n"] {
        let (client, server) = connected();
        let (_, alert) = refusal(client, server, plain);
        assert!(matches!(alert, AlertDescription::UnexpectedMessage | AlertDescription::RecordOverflow));
    }
}

#[test]
fn the_largest_record_and_padding_are_taken() {
    let (mut client, mut server) = connected();
    let largest = text(16_384);
    server.take(&record(&mut client, ContentType::ApplicationData, &largest)).unwrap();
    let mut padded = b"padded".to_vec();
    padded.push(u8::from(ContentType::ApplicationData));
    padded.extend_from_slice(&[0; 1000]);
    server.take(&record(&mut client, ContentType::Unknown(0), &padded)).unwrap();
    server.take(&record(&mut client, ContentType::ApplicationData, b"")).unwrap();
    assert!(server.plain() == [&largest[..], b"padded"].concat());
}

/// No record with a changed bit yields plain text; a changed length may leave the receiver waiting.
#[test]
fn no_bit_can_be_changed() {
    const RECORD: usize = 5 + 3 + 17;
    for bit in 0..RECORD * 8 {
        let (mut client, mut server) = connected();
        let mut bytes = record(&mut client, ContentType::ApplicationData, b"abc");
        assert_eq!(bytes.len(), RECORD);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let result = server.take(&bytes);
        assert_eq!(server.plain(), b"", "bit {bit}");
        assert!(result.is_err() || (24..40).contains(&bit), "bit {bit}: {result:?}");
    }
}

#[test]
fn no_record_can_be_repeated_left_out_or_reordered() {
    for order in [&[0, 0][..], &[1], &[1, 0]] {
        let (mut client, server) = connected();
        let records = [b"a", b"b"].map(|text| record(&mut client, ContentType::ApplicationData, text));
        let bytes: Vec<u8> = order.iter().flat_map(|number| records[*number].clone()).collect();
        let mut server = server;
        let Err(TlsError::Protocol(Error::DecryptError)) = server.take(&bytes) else { panic!("{order:?}") };
        assert!(server.plain().len() <= 1);
    }
}

#[test]
fn alerts_end_the_connection_whatever_level_they_claim() {
    for level in [1, 2] {
        let (mut client, mut server) = connected();
        let alert = [level, u8::from(AlertDescription::InternalError)];
        let result = server.take(&record(&mut client, ContentType::Alert, &alert));
        let Err(TlsError::Protocol(Error::AlertReceived(AlertDescription::InternalError))) = result else {
            panic!("{result:?}")
        };
        assert_eq!(server.output(), b"", "an alert is not answered");
    }
    let (mut client, mut server) = connected();
    let alert = [1, u8::from(AlertDescription::UserCanceled)];
    assert!(!server.take(&record(&mut client, ContentType::Alert, &alert)).unwrap());
    client.send(b"still here");
    server.take(&client.output()).unwrap();
    assert_eq!(server.plain(), b"still here");
}

/// The peer requests new keys and reads no answer.
#[test]
fn key_updates_cost_a_bounded_answer_and_data() {
    let (mut client, mut server) = connected();
    let ask = |client: &mut Ours, server: &mut Ours| {
        let record = record(client, ContentType::Handshake, &KEY_UPDATE_REQUESTED);
        client.traffic().renew_sending().unwrap();
        server.take(&record)
    };
    let a_few = text(1024 * 1024);
    for _ in 0..100 {
        ask(&mut client, &mut server).unwrap();
        client.send(&a_few);
        server.take(&client.output()).unwrap();
    }
    assert!(server.out.len() < 600, "{} bytes wait", server.out.len());
    client.take(&server.output()).unwrap();
    server.send(b"answer");
    client.take(&server.output()).unwrap();
    assert_eq!(client.plain(), b"answer");

    let refused = (0..100).find_map(|number| {
        client.send(b".");
        server.take(&client.output()).unwrap();
        ask(&mut client, &mut server).err().map(|error| (number, error))
    });
    let Some((31 | 32, TlsError::Protocol(error))) = refused else { panic!("{refused:?}") };
    assert_eq!(error, PeerMisbehaved::TooManyKeyUpdateRequests.into());
}

/// A client with the address of another service, and a scanner that speaks something like TLS, get an error at once.
#[test]
fn an_invalid_handshake_fails_at_once() {
    for banner in [&b"SSH-2.0-OpenSSH_9.6\r\n"[..], b"220 mail.example ESMTP\r\n", b"+OK POP3 ready\r\n"] {
        assert!(Ours::client(client()).take(banner).is_err(), "{banner:?}");
    }
    assert!(Ours::server().take(b"\x16\xff\xff\x10\x00").is_err());
    for body in [16_641_u16, 17_000, 18_431, 18_432] {
        let mut bytes = vec![22, 3, 1, (body >> 8) as u8, body as u8, 1, 0, 0x41, 0];
        bytes.resize(2000, 0);
        assert!(Ours::server().take(&bytes).is_err(), "{body}");
    }
}

/// The first data of a client, and its close, may arrive together with the end of its handshake.
#[test]
fn everything_in_one_read() {
    let (mut client, mut server) = (Ours::client(client()), Ours::server());
    server.take(&client.output()).unwrap();
    client.take(&server.output()).unwrap();
    client.send(b"one");
    let mut bytes = client.output();
    bytes.extend(record(&mut client, ContentType::Handshake, &KEY_UPDATE));
    client.traffic().renew_sending().unwrap();
    client.send(b"two");
    client.tls.send_close_notify(&mut client.out);
    bytes.extend(client.output());
    bytes.extend(b"noise behind");
    assert!(server.take(&bytes).unwrap());
    assert_eq!(server.plain(), b"onetwo");
}

/// Handshakes in tiny records, and with a second hello.
#[test]
fn handshakes_of_other_shapes() {
    let talk = |ours: Ours, theirs: Connection| with_rustls(ours, theirs, SUITES[0]);
    for size in [32, 64, 500] {
        let mut config = client();
        config.max_fragment_size = Some(size);
        talk(Ours::server(), ClientConnection::new(Arc::new(config), "test".try_into().unwrap()).unwrap().into());
        let mut config = ServerConfig::clone(&SERVER);
        config.max_fragment_size = Some(size);
        talk(Ours::client(client()), ServerConnection::new(Arc::new(config)).unwrap().into());
    }
    // The client offers a key share that the server refuses, among groups of which the server accepts one.
    use rustls::crypto::aws_lc_rs::kx_group::{SECP384R1, X25519};
    let groups = |groups: Vec<_>| Arc::new(CryptoProvider { kx_groups: groups, ..CryptoProvider::clone(&provider()) });
    let (config, picky) = (client_with(groups(vec![X25519, SECP384R1])), server(groups(vec![SECP384R1])));
    talk(Ours::client(config.clone()), ServerConnection::new(Arc::clone(&picky)).unwrap().into());
    let theirs = ClientConnection::new(Arc::new(config), "test".try_into().unwrap()).unwrap();
    talk(Ours::new(TlsSession::server(picky).unwrap()), theirs.into());
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let mut server = Ours::server();
    // A client's hello of 16 MiB, in records of 16 KiB.
    let mut bytes = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    bytes.resize(5 + 0x4000, 0);
    let result = (0..10).try_for_each(|_| server.take(&bytes).map(drop));
    assert!(result.is_err());
    assert!(!server.tls.is_established());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes arrive in pieces of any size, from the start of the handshake on.
    #[test]
    fn pieces_of_any_size(
        sizes in prop::collection::vec(prop_oneof![1_usize..40, 1_usize..20_000], 1..12),
        lengths in prop::collection::vec(prop_oneof![0_usize..50, 0_usize..40_000], 1..6),
    ) {
        let (mut client, mut server) = (Ours::client(client()), Ours::server());
        let mut sizes = sizes.iter().cycle();
        let mut carry = |from: &mut Ours, to: &mut Ours| {
            let said = from.output();
            let mut rest = said.as_slice();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                to.take(piece).unwrap();
                rest = behind;
            }
            !said.is_empty()
        };
        let mut sent = Vec::new();
        for length in lengths {
            let text = text(length);
            if client.tls.is_established() {
                client.send(&text);
                sent.extend_from_slice(&text);
            }
            while carry(&mut client, &mut server) | carry(&mut server, &mut client) {
                // The client's first data comes right behind its handshake.
                if client.tls.is_established() && sent.is_empty() {
                    client.send(&text);
                    sent.extend_from_slice(&text);
                    if text.is_empty() {
                        break;
                    }
                }
            }
            prop_assert!(server.plain() == sent);
        }
    }

    /// Any bytes instead of a handshake, and behind one.
    #[test]
    fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..300), header: bool, size in 0_u16..400) {
        let mut bytes = noise;
        if header {
            bytes.splice(..0, [22, 3, 1, (size >> 8) as u8, size as u8]);
        }
        let mut server = Ours::server();
        let _ = server.take(&bytes);
        prop_assert!(!server.tls.is_established());
        prop_assert_eq!(server.plain(), b"");
        let (_, mut server) = connected();
        bytes.splice(..0, [23, 3, 3, (size >> 8) as u8, size as u8]);
        let _ = server.take(&bytes);
        prop_assert_eq!(server.plain(), b"");
    }
}
