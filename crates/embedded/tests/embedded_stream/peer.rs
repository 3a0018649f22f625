//! Peers that speak TLS, the hello and packets by themselves, without this crate's client.

use embedded::tls::pin::{Expected, PinVerifier};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use testkit::TEST_TIMEOUT;

/// A stream of TLS over TCP.
pub(crate) type Peer = StreamOwned<ClientConnection, TcpStream>;

/// A TCP connection from 127.0.0.`host`.
pub(crate) fn from(host: u8, port: u16) -> TcpStream {
    let io = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&io, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    connect(&io, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let io = TcpStream::from(io);
    io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    io
}

/// Like [`from`], with segments and a window so small that little fits the kernel's buffers at either end.
pub(crate) fn small_from(host: u8, port: u16) -> TcpStream {
    let io = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let segment: libc::c_int = 536;
    // SAFETY: a socket, and an option that is a number of this size.
    let set = unsafe {
        let (value, size) = ((&raw const segment).cast(), size_of_val(&segment) as libc::socklen_t);
        libc::setsockopt(io.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, value, size)
    };
    assert_eq!(set, 0);
    set_socket_recv_buffer_size(&io, 4096).unwrap();
    bind(&io, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    connect(&io, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    TcpStream::from(io)
}

/// A TLS connection without application data.
pub(crate) fn tls_over(io: TcpStream, alpn: &[&[u8]]) -> Peer {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(PinVerifier::new("test".into(), Expected::Anyone))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    io.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let connection = ClientConnection::new(Arc::new(config), "test".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, io)
}

pub(crate) fn tls(port: u16, alpn: &[&[u8]]) -> Peer {
    tls_over(TcpStream::connect(("127.0.0.1", port)).unwrap(), alpn)
}

pub(crate) fn good_tls(port: u16) -> Peer {
    tls(port, &[b"cellframe-vpn/1"])
}

pub(crate) fn opened(port: u16) -> Peer {
    opened_over(TcpStream::connect(("127.0.0.1", port)).unwrap(), "RS").unwrap()
}

/// A stream with these channels, unless the server ends the connection first.
pub(crate) fn opened_over(io: TcpStream, channels: &str) -> std::io::Result<Peer> {
    let mut stream = tls_over(io, &[b"cellframe-vpn/1"]);
    stream.write_all(b"CFVS\x01")?;
    stream.write_all(&[channels.len() as u8])?;
    stream.write_all(channels.as_bytes())?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"CFVS\x01\x00");
    Ok(stream)
}

pub(crate) fn packet(channel: u8, kind: u8, size: u32, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![channel, 0, kind, 0];
    packet.extend_from_slice(&0u64.to_le_bytes());
    packet.extend_from_slice(&size.to_le_bytes());
    packet.extend_from_slice(data);
    packet
}

/// True if the peer ends the connection without sending another byte.
pub(crate) fn is_closed(io: &mut impl Read) -> bool {
    match io.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        // A reset, or TCP's close without TLS's, counts; a timeout does not.
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}
