//! Sockets of applications on both sides of a tunnel, and traffic between them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, eth, getpeername, getsockname, ipproto, socket, sockopt};

use crate::hosts::Host;
use crate::noise::noise;
use crate::wait::TEST_TIMEOUT;

/// Opens a UDP socket on the calling thread's host.
pub fn udp(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket
}

/// Opens a UDP socket on a client's host, at the client's inner address.
pub fn udp_at(host: &Host, address: Ipv4Addr) -> UdpSocket {
    host.run(move || udp(address))
}

/// Sends one datagram there and another of the same size back. Both must arrive unchanged, with the right source.
pub fn echo(near: &UdpSocket, far: &UdpSocket, payload: &[u8]) {
    let (near_address, far_address) = (near.local_addr().unwrap(), far.local_addr().unwrap());
    let answer: Vec<u8> = payload.iter().map(|byte| !byte).collect();
    for (from, to, source, target, bytes) in
        [(near, far, near_address, far_address, payload), (far, near, far_address, near_address, &answer)]
    {
        let what = format!("{} bytes from {source} to {target}", bytes.len());
        assert_eq!(from.send_to(bytes, target).unwrap(), bytes.len(), "{what}");
        assert_eq!(received(to, &what), (bytes.to_vec(), source), "{what}");
    }
}

/// Receives the next datagram; returns it and its source.
pub fn received(socket: &UdpSocket, what: &str) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (size, from) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
    buffer.truncate(size);
    (buffer, from)
}

/// Opens a TCP connection through the tunnel; returns the connecting end and the accepting end. `connect` runs on the
/// connecting host.
pub fn tcp(
    listener: &TcpListener,
    connect: impl FnOnce(SocketAddr) -> Result<TcpStream, std::io::Error>,
) -> (TcpStream, TcpStream) {
    let connecting = connect(listener.local_addr().unwrap()).unwrap();
    // The kernel has completed the handshake, so this returns at once.
    let (accepted, _) = listener.accept().unwrap();
    (connecting, accepted)
}

/// For [`tcp`]: connects from a client's host.
pub fn connect_from(host: &Host) -> impl FnOnce(SocketAddr) -> Result<TcpStream, std::io::Error> {
    move |target| host.run(move || TcpStream::connect_timeout(&target, TEST_TIMEOUT))
}

/// Sends `size` bytes each way at the same time, to the end, and compares all of them.
pub fn exchange((one, other): &(TcpStream, TcpStream), size: usize, seed: u64) {
    let (there, back) = (noise(seed, size), noise(seed ^ 0x5eed, size));
    thread::scope(|scope| {
        for (from, to, bytes) in [(one, other, &there), (other, one, &back)] {
            scope.spawn(move || {
                from.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
                (&mut &*from).write_all(bytes).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                to.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                let mut got = Vec::with_capacity(size);
                let end = (&mut &*to).read_to_end(&mut got);
                let same = got.iter().zip(bytes).take_while(|(got, sent)| got == sent).count();
                assert!(end.is_ok() && got == *bytes, "{end:?}: {} of {size} bytes, {same} of them right", got.len());
            });
        }
    });
}

/// Whether the kernel at this address answers an ICMP echo (RFC 792) from the calling thread's host.
pub fn ping(target: Ipv4Addr) -> bool {
    // A raw socket needs no sysctl, unlike a ping socket. It also delivers the IP header and other messages.
    let socket = UdpSocket::from(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap());
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut request = vec![8, 0, 0, 0, 0x43, 0x46, 0, 1];
    request.extend(noise(7, 56));
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum + (sum >> 16)) as u16);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    socket.send_to(&request, SocketAddrV4::new(target, 0)).unwrap();
    let deadline = Instant::now() + TEST_TIMEOUT;
    let mut packet = [0; 2048];
    while Instant::now() < deadline {
        match socket.recv(&mut packet) {
            Ok(size) if size == 20 + request.len() => {
                let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
                if from == target && packet[20..22] == [0, 0] && packet[24..size] == request[4..] {
                    return true;
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("ping: {error}"),
        }
    }
    false
}

/// Opens a socket for packets with their own IP header, on the calling thread's host. The kernel fills in length and
/// checksum, and an id in place of 0 (raw(7)).
pub fn raw_sender() -> UdpSocket {
    UdpSocket::from(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap())
}

/// Opens a socket that receives every packet of every device of the calling thread's host, from the IP header on
/// (packet(7)).
pub fn every_packet() -> UdpSocket {
    let socket = UdpSocket::from(socket(AddressFamily::PACKET, SocketType::DGRAM, Some(eth::ALL)).unwrap());
    large_buffer(&socket);
    socket
}

/// Enlarges the receive buffer, so that a burst is not lost in the socket; beyond the system's limit if that is
/// permitted.
pub fn large_buffer(socket: &UdpSocket) {
    let _ = sockopt::set_socket_recv_buffer_size_force(socket, 32 << 20);
}

/// Sets UDP_SEGMENT of udp(7), which rustix does not support; 0 disables it.
#[allow(unsafe_code)]
pub fn segment(socket: &UdpSocket, size: usize) {
    let size = size as libc::c_int;
    let length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: an open socket; the value lives through the call, and its length is passed.
    let code = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), length)
    };
    assert_eq!(code, 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
}

/// Whether a socket's packets may be fragmented on their way (IP_MTU_DISCOVER of ip(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// "Don't fragment" is not set.
    Allowed,
    /// "Don't fragment" is set, and the kernel does not fragment either.
    Forbidden,
}

/// Sets whether the socket's packets may be fragmented; connections that a listener accepts inherit it.
#[allow(unsafe_code)]
pub fn set_fragments(socket: &impl AsRawFd, fragments: Fragments) {
    let value: libc::c_int = match fragments {
        Fragments::Allowed => libc::IP_PMTUDISC_DONT,
        Fragments::Forbidden => libc::IP_PMTUDISC_DO,
    };
    let length = size_of_val(&value) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    // SAFETY: an open socket; the value lives through the call, and its length is passed.
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    assert_eq!(code, 0, "IP_MTU_DISCOVER: {}", std::io::Error::last_os_error());
}

/// Returns the path MTU that the kernel knows for a connected socket (IP_MTU of ip(7)).
#[allow(unsafe_code)]
pub fn path_mtu(socket: &impl AsRawFd) -> usize {
    let mut mtu: libc::c_int = 0;
    let mut length = size_of_val(&mtu) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_MTU);
    // SAFETY: an open socket; value and length live through the call, and the length is that of the value.
    let code = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut length) };
    assert_eq!(code, 0, "IP_MTU: {}", std::io::Error::last_os_error());
    mtu as usize
}

/// Returns this process's sockets with a peer, as duplicates, each with its own address and its peer's.
#[allow(unsafe_code)]
fn connections() -> Vec<(OwnedFd, SocketAddr, SocketAddr)> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<_> = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    // A number that another thread gives up meanwhile must not become that of a duplicate: it would be looked at, too.
    let above = numbers.iter().max().map_or(0, |highest| highest + 1);
    let connection = |fd| {
        // SAFETY: a duplicate of the descriptor, or an error if it is closed by now; no memory is passed.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) };
        if copy < 0 {
            return None;
        }
        // SAFETY: fcntl returned a new descriptor, which nothing else owns.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let own = SocketAddr::try_from(getsockname(&copy).ok()?).ok()?;
        // A listening socket has no peer.
        let peer = SocketAddr::try_from(getpeername(&copy).ok()??).ok()?;
        Some((copy, own, peer))
    };
    numbers.into_iter().filter_map(connection).collect()
}

/// Has both ends of this process's connections to `server` drop all that arrives, as on a path that has lost its
/// network: nothing is acknowledged any more.
#[allow(unsafe_code)]
pub fn cut(server: SocketAddr) {
    let mut drop_all = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
    let ends: Vec<_> = connections().into_iter().filter(|(_, own, peer)| [*own, *peer].contains(&server)).collect();
    for (end, ..) in &ends {
        let length = size_of_val(&program) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
        // SAFETY: an open socket; the program and its one instruction live through the call, which copies them.
        let code = unsafe { libc::setsockopt(end.as_raw_fd(), level, option, (&raw const program).cast(), length) };
        assert_eq!(code, 0, "SO_ATTACH_FILTER: {}", std::io::Error::last_os_error());
    }
    let ends = ends.len();
    assert!(ends > 0 && ends % 2 == 0, "{ends} ends of connections to {server}");
}

/// Has both ends of this process's connections to `server` send at most this many bytes in a second each, as on a slow
/// line (SO_MAX_PACING_RATE of socket(7)).
#[allow(unsafe_code)]
pub fn slow_down(server: SocketAddr, rate: u32) {
    let ends: Vec<_> = connections().into_iter().filter(|(_, own, peer)| [*own, *peer].contains(&server)).collect();
    for (end, ..) in &ends {
        let length = size_of_val(&rate) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
        // SAFETY: an open socket; the value lives through the call, and its length is passed.
        let code = unsafe { libc::setsockopt(end.as_raw_fd(), level, option, (&raw const rate).cast(), length) };
        assert_eq!(code, 0, "SO_MAX_PACING_RATE: {}", std::io::Error::last_os_error());
    }
    assert!(!ends.is_empty(), "no connection to {server}");
}

/// Returns whether this process may choose a congestion control.
pub fn allows_congestion(name: &str) -> bool {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_tcp_congestion(socket, name).is_ok()
}

/// Returns the congestion control of each connection of this process that `belongs`, by its own and its peer's address.
pub fn congestion_of(belongs: impl Fn(SocketAddr, SocketAddr) -> bool) -> Vec<String> {
    let of_these = connections().into_iter().filter(|(_, own, peer)| belongs(*own, *peer));
    of_these.map(|(socket, ..)| sockopt::tcp_congestion(socket).unwrap()).collect()
}

/// Returns by what bbr multiplies what fills the path, for its window, in parts of 256: for each connection of this process
/// to `server` (TCP_CC_INFO of tcp(7)). Four packets at a time travel at 256.
#[allow(unsafe_code)]
pub fn window_gains_of_bbr(server: SocketAddr) -> Vec<u32> {
    let gain = |end: &OwnedFd| {
        // Its last field.
        let mut info = [0_u32; 5];
        let mut length = size_of_val(&info) as libc::socklen_t;
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_CC_INFO);
        // SAFETY: an open socket; the buffer is writable, and its length is passed.
        let code = unsafe { libc::getsockopt(end.as_raw_fd(), level, option, (&raw mut info).cast(), &mut length) };
        assert_eq!((code, length), (0, 20), "TCP_CC_INFO: {}", std::io::Error::last_os_error());
        info[4]
    };
    connections().iter().filter(|(_, _, peer)| *peer == server).map(|(end, ..)| gain(end)).collect()
}
