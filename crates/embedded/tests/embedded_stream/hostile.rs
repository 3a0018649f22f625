//! Peers that violate docs/stream.md.

use crate::peer::*;
use crate::support::*;
use embedded::store;
use embedded::stream::{COUNTERS, MAX_DATA};
use embedded::timeouts::{self, Timeouts};
use embedded::tls::pin::PINS;
use rustls::pki_types::PrivateKeyDer;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn bad_hellos_get_their_answer_and_the_end() {
    let sdk = Sdk::start(2);
    for (hello, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 1),
        (b"CFVS\x02\x01R", 1),
        (b"CFVS\x01\x00", 1),
        (b"CFVS\x01\x10AAAAAAAAAAAAAAAA", 1),
        (b"CFVS\x01\x02RR", 1),
        (b"CFVS\x01\x02RX", 2),
    ] {
        let mut stream = good_tls(sdk.port());
        stream.write_all(hello).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [b'C', b'F', b'V', b'S', 1, status], "{hello:?}");
        assert!(is_closed(&mut stream));
    }
    assert_eq!(OPENED.load(Ordering::SeqCst), 0);
    // Byte by byte works as well.
    let mut stream = good_tls(sdk.port());
    for byte in b"CFVS\x01\x01S" {
        stream.write_all(&[*byte]).unwrap();
        stream.flush().unwrap();
    }
    stream.read_exact(&mut [0; 6]).unwrap();
    stream.write_all(&packet(b'S', 4, 2, b"hi")).unwrap();
    let mut echo = [0; 18];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!((echo[0], echo[2], &echo[16..]), (b'S', 4, &b"hi"[..]));
}

#[test]
fn another_protocol_inside_tls_is_refused() {
    let sdk = Sdk::start(1);
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let mut stream = tls(sdk.port(), alpn);
        // The refusal may come before or after the write.
        let _ = stream.write_all(b"CFVS\x01\x01S");
        assert!(is_closed(&mut stream), "{alpn:?}");
    }
    assert_eq!(OPENED.load(Ordering::SeqCst), 0);
}

#[test]
fn an_oversized_packet_ends_the_stream() {
    let sdk = Sdk::start(1);
    for size in [MAX_DATA as u32 + 1, u32::MAX] {
        let before = COUNTERS.oversized.load(Ordering::SeqCst);
        let mut stream = opened(sdk.port());
        stream.write_all(&packet(b'S', 2, size, &[])).unwrap();
        assert!(is_closed(&mut stream), "{size}");
        assert_eq!(COUNTERS.oversized.load(Ordering::SeqCst), before + 1);
    }
    eventually(|| CLOSED.load(Ordering::SeqCst) == 2, || "the channels are still there".into());
}

#[test]
fn packets_for_closed_channels_are_dropped_and_the_rest_is_not() {
    let sdk = Sdk::start(1);
    let before = COUNTERS.unknown_channel.load(Ordering::SeqCst);
    let mut stream = opened(sdk.port());
    let mut bytes = Vec::new();
    for channel in [b'E', 0, 255, b'S', b'X'] {
        bytes.extend(packet(channel, 9, 3, b"abc"));
    }
    stream.write_all(&bytes).unwrap();
    let mut echo = [0; 19];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!((echo[0], &echo[16..]), (b'S', &b"abc"[..]));
    eventually(|| COUNTERS.unknown_channel.load(Ordering::SeqCst) == before + 4, || "not counted".into());
}

#[test]
fn the_first_byte_decides() {
    let sdk = Sdk::start(1);
    let mut http = TcpStream::connect(sdk.server.unwrap()).unwrap();
    http.write_all(b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    for first in [0u8, 0x15, 0x80, b' ', b'1', 0xff] {
        let mut io = TcpStream::connect(sdk.server.unwrap()).unwrap();
        io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        io.write_all(&[first]).unwrap();
        assert!(is_closed(&mut io), "{first:#x}");
    }
    // TLS's first byte, then arbitrary bytes.
    for garbage in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16\xff\xff\xff\xff\xff\xff\xff", &[0x16; 40_000]] {
        let mut io = TcpStream::connect(sdk.server.unwrap()).unwrap();
        io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let _ = io.write_all(garbage);
        // An alert may arrive first.
        let _ = io.read(&mut [0; 64]);
        assert!(is_closed(&mut io), "{:?}", &garbage[..8]);
    }
    sdk.connected("RS");
}

#[test]
fn half_open_connections_time_out() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let sdk = Sdk::start(2);
    timeouts::set(Timeouts { handshake: TIMEOUT, ..Timeouts::DEFAULT });
    let begin = Instant::now();
    let patient = |io: TcpStream| {
        io.set_read_timeout(Some(TIMEOUT + Duration::from_secs(5))).unwrap();
        io
    };
    let silent = patient(TcpStream::connect(sdk.server.unwrap()).unwrap());
    let mut partial = patient(TcpStream::connect(sdk.server.unwrap()).unwrap());
    partial.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01").unwrap();
    let mut no_hello = good_tls(sdk.port());
    no_hello.write_all(b"CF").unwrap();
    let no_hello_io = patient(no_hello.sock.try_clone().unwrap());
    // A stream with a complete handshake stays.
    let client = sdk.connected("S");
    for (name, mut io) in [("silent", silent), ("partial", partial), ("no hello", no_hello_io)] {
        // TLS messages may arrive first at the end.
        while matches!(io.read(&mut [0; 4096]), Ok(read) if read > 0) {}
        let after = begin.elapsed();
        assert!(after > TIMEOUT - Duration::from_millis(500), "{name}: {after:?}");
        assert!(after < TIMEOUT + Duration::from_secs(3), "{name}: {after:?}");
    }
    assert_eq!(client.events(), ["connected"]);
}

#[test]
fn a_reset_ends_the_stream_at_once() {
    let sdk = Sdk::start(1);
    let stream = opened(sdk.port());
    eventually(|| OPENED.load(Ordering::SeqCst) == 1, || "not open".into());
    rustix::net::sockopt::set_socket_linger(&stream.sock, Some(Duration::ZERO)).unwrap();
    drop(stream);
    eventually(|| CLOSED.load(Ordering::SeqCst) == 1, || "not closed".into());
}

#[test]
fn a_paused_stream_notices_the_reset() {
    use embedded::abi::stream as c;
    use embedded::ctypes::dap_stream_ch;
    unsafe extern "C" fn pause(ch: *mut dap_stream_ch, _packet: *mut std::ffi::c_void) -> bool {
        // SAFETY: on the channel's worker.
        unsafe { c::dap_stream_ch_set_ready_to_read_unsafe(ch, false) };
        true
    }
    unsafe extern "C" fn gone(_ch: *mut dap_stream_ch, _arg: *mut std::ffi::c_void) {
        CLOSED.fetch_add(1, Ordering::SeqCst);
    }
    let sdk = Sdk::start(1);
    // SAFETY: functions of this program.
    unsafe { c::dap_stream_ch_proc_add(b'P', None, Some(gone), Some(pause), None) };
    let mut stream = good_tls(sdk.port());
    stream.write_all(b"CFVS\x01\x01P").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    stream.write_all(&packet(b'P', 1, 0, &[])).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    rustix::net::sockopt::set_socket_linger(&stream.sock, Some(Duration::ZERO)).unwrap();
    drop(stream);
    eventually(|| CLOSED.load(Ordering::SeqCst) == 1, || "not closed".into());
}

/// A port of another service, which speaks first.
#[test]
fn a_server_that_speaks_no_tls_is_an_error_at_once() {
    let _sdk = Sdk::start(1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for io in listener.incoming() {
            let mut io = io.unwrap();
            io.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
            held.push(io);
        }
    });
    let begin = Instant::now();
    let client = Client::connect("127.0.0.1", port, "S");
    let failed = || client.events().iter().any(|event| event.starts_with("error"));
    eventually(failed, || format!("{:?}", client.events()));
    assert!(begin.elapsed() < Timeouts::DEFAULT.handshake / 2, "{:?}", client.events());
    assert_eq!(client.events().first(), Some(&format!("error {}", libc::EPROTO)));
}

/// A TLS server with a key of its own, which offers these protocols; returns its port.
fn tls_server(alpn: &[&[u8]]) -> u16 {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["login.test".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let connection = rustls::ServerConnection::new(config).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
        let _ = stream.read(&mut [0; 64]);
    });
    port
}

/// The page of a captive portal answers in the place of a known server: it is none with another identity.
#[test]
fn only_a_server_of_this_protocol_has_another_identity() {
    let _sdk = Sdk::start(1);
    let cases: [(&[&[u8]], i32); 3] =
        [(&[], libc::EPROTO), (&[b"http/1.1"], libc::EPROTO), (&[b"cellframe-vpn/1"], libc::EKEYREJECTED)];
    for (alpn, errno) in cases {
        let port = tls_server(alpn);
        store::set(PINS, &format!("127.0.0.1:{port}"), &[7; 32]).unwrap();
        let client = Client::connect("127.0.0.1", port, "S");
        let failed = || client.events().iter().any(|event| event.starts_with("error"));
        eventually(failed, || format!("{:?}", client.events()));
        assert_eq!(client.events().first(), Some(&format!("error {errno}")), "{alpn:?}");
    }
}
