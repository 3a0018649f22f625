//! A client that is connected, and the sockets of applications on both sides of the tunnel.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use host::netlink::{Link, Netlink};
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use crate::hosts::{Host, Hosts, PATIENCE, Running};

/// The server's inner address, which is the clients' gateway.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// The start of a configuration that goes on with other keys of its section, which has no default network then.
pub(crate) const NETWORK: &str = "[srv_vpn]\nnetwork_address=10.98.0.0\nnetwork_mask=255.255.255.0\n";

/// A client whose tunnel is up, and what it said of it.
pub(crate) struct Client {
    pub(crate) running: Running,
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) device: String,
    pub(crate) mtu: usize,
}

impl Client {
    /// Connects on the host of client `number`, with the state directory of this name.
    pub(crate) fn connect(hosts: &Hosts, number: usize, state: &str, arguments: &[&str]) -> Client {
        Client::connected(hosts.client_at(number, state, arguments), 1)
    }

    /// Waits until the client has been connected so many times.
    pub(crate) fn connected(mut running: Running, times: usize) -> Client {
        let lines = |running: &Running| running.said().matches("connected to ").count();
        running.wait_until("connected", |running| lines(running) >= times && running.said().ends_with('\n'));
        let said = running.said();
        let line = said.lines().last().unwrap();
        let value = |name: &str| {
            let (_, value) = line.split_once(name).unwrap_or_else(|| panic!("no {name:?}: {line}"));
            value.split(',').next().unwrap().trim().to_owned()
        };
        Client {
            address: value(": address ").parse().unwrap(),
            gateway: value("gateway ").parse().unwrap(),
            device: value("device "),
            mtu: value("MTU ").parse().unwrap(),
            running,
        }
    }
}

/// Waits for a condition that nobody announces.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The TUN devices of the calling thread's host, each with its addresses.
pub(crate) fn tun_devices() -> Vec<(Link, Vec<(Ipv4Addr, u8)>)> {
    let mut netlink = Netlink::open().unwrap();
    let addresses = netlink.addresses().unwrap();
    let of = |link: &Link| {
        addresses.iter().filter(|one| one.index == link.index).map(|one| (one.addr, one.prefix)).collect()
    };
    let links = netlink.links().unwrap().into_iter().filter(|link| link.name.starts_with("tun"));
    links.map(|link| (link.clone(), of(&link))).collect()
}

/// A number that `stat` shows of the session with this address.
pub(crate) fn stat_number(stat: &str, address: Ipv4Addr, name: &str) -> u64 {
    let block = stat.split("\n\n").find(|block| block.contains(&format!("client addr........{address}\n")));
    let block = block.unwrap_or_else(|| panic!("no session of {address}:\n{stat}"));
    let line = block.lines().find_map(|line| line.trim().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}:\n{block}")).trim_matches('.').parse().unwrap()
}

/// A UDP socket of the calling thread's host.
pub(crate) fn udp(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A UDP socket of a client's host, with its inner address.
pub(crate) fn udp_at(host: &Host, address: Ipv4Addr) -> UdpSocket {
    host.run(move || udp(address))
}

/// One datagram there, another of the same size back, both unchanged and from where they say.
pub(crate) fn echo(near: &UdpSocket, far: &UdpSocket, payload: &[u8]) {
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

/// The next datagram, and who sent it.
pub(crate) fn received(socket: &UdpSocket, what: &str) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (size, from) = socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
    buffer.truncate(size);
    (buffer, from)
}

/// A TCP connection through the tunnel: the end that asked, the end that was asked. `ask` runs on the asking host.
pub(crate) fn tcp(
    listener: &TcpListener,
    ask: impl FnOnce(SocketAddr) -> Result<TcpStream, std::io::Error>,
) -> (TcpStream, TcpStream) {
    let asking = ask(listener.local_addr().unwrap()).unwrap();
    // The kernel has accepted already, so this does not wait.
    let (asked, _) = listener.accept().unwrap();
    (asking, asked)
}

/// For [`tcp`]: asks from a client's host.
pub(crate) fn ask_from(host: &Host) -> impl FnOnce(SocketAddr) -> Result<TcpStream, std::io::Error> {
    move |target| host.run(move || TcpStream::connect_timeout(&target, PATIENCE))
}

/// Sends so many bytes each way at the same time, to the end, and compares all of them.
pub(crate) fn exchange((one, other): &(TcpStream, TcpStream), size: usize, seed: u64) {
    let (there, back) = (noise(seed, size), noise(seed ^ 0x5eed, size));
    thread::scope(|scope| {
        for (from, to, bytes) in [(one, other, &there), (other, one, &back)] {
            scope.spawn(move || {
                from.set_write_timeout(Some(PATIENCE)).unwrap();
                (&mut &*from).write_all(bytes).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                to.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut got = Vec::with_capacity(size);
                let end = (&mut &*to).read_to_end(&mut got);
                let same = got.iter().zip(bytes).take_while(|(got, sent)| got == sent).count();
                assert!(end.is_ok() && got == *bytes, "{end:?}: {} of {size} bytes, {same} of them right", got.len());
            });
        }
    });
}

/// Bytes that repeat nowhere, so that a piece that is lost, doubled or swapped shows (Marsaglia's xorshift64).
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    words.flatten().take(size).collect()
}

/// Whether the kernel at this address answers an ICMP echo (RFC 792) of the calling thread's host.
pub(crate) fn ping(target: Ipv4Addr) -> bool {
    // A raw socket needs no sysctl, unlike a ping socket; it shows the IP header and others' messages too.
    let socket = UdpSocket::from(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = vec![8, 0, 0, 0, 0x43, 0x46, 0, 1];
    request.extend(noise(7, 56));
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum + (sum >> 16)) as u16);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    socket.send_to(&request, SocketAddrV4::new(target, 0)).unwrap();
    let deadline = Instant::now() + PATIENCE;
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
