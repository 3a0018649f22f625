//! What has left the client by its cable: each frame, by capture at the cable's other end (packet(7)).
//!
//! The capture stands outside of the client's host: it sees what the client's kernel has sent, whatever its rules and
//! routes say.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::net::{AddressFamily, SocketType, eth, sockopt};
use serde_json::{Value, json};

use super::hosts::{CLIENT_HARDWARE, SERVER};
use crate::exit::{Code, Failure};
use crate::target::DEFAULT_PORT;

/// Kinds of frames that are told apart; the rest of them count as one.
const KINDS: usize = 64;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// What has left the client since the last [`Wire::take`].
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Packets to the VPN server's address and port, and their bytes.
    stream: (u64, u64),
    /// What hosts on one cable say to find each other: ARP, and ICMPv6 that no router passes on.
    link: u64,
    /// Everything else, by protocol and destination.
    other: BTreeMap<String, u64>,
}

/// A capture, on a thread of its own as long as the process.
pub(super) struct Wire {
    seen: Arc<Mutex<Seen>>,
}

impl Wire {
    /// Begins the capture of what arrives at the calling thread's host from the client.
    pub(super) fn watch() -> Result<Wire, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Code::Privilege, format!("the demo cannot capture what leaves the client: {error}"))
        };
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(eth::ALL))
            .map_err(|error| failed(error.into()))?;
        // For a burst; the system's limit holds.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
        let mut socket = std::fs::File::from(socket);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let counted = Arc::clone(&seen);
        let capture = move || {
            let mut frame = vec![0; 1 << 16];
            loop {
                // The link's being set down is reported here once.
                let Ok(length) = socket.read(&mut frame) else { continue };
                if frame[..length].get(6..12) == Some(&CLIENT_HARDWARE) {
                    counted.lock().unwrap_or_else(PoisonError::into_inner).count(&frame[..length]);
                }
            }
        };
        thread::Builder::new().name("demo-wire".into()).spawn(capture).map_err(failed)?;
        Ok(Wire { seen })
    }

    /// Returns what was seen, and begins anew.
    pub(super) fn take(&self) -> Value {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let (packets, bytes) = seen.stream;
        json!({"stream_packets": packets, "stream_bytes": bytes, "link": seen.link, "other": seen.other})
    }
}

impl Seen {
    fn count(&mut self, frame: &[u8]) {
        match Kind::of(frame) {
            Kind::Stream => {
                self.stream.0 += 1;
                self.stream.1 += (frame.len() - ETHERNET) as u64;
            }
            Kind::Link => self.link += 1,
            Kind::Other(what) => {
                let is_new = !self.other.contains_key(&what);
                let what = if is_new && self.other.len() >= KINDS { "more".to_owned() } else { what };
                *self.other.entry(what).or_default() += 1;
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Kind {
    Stream,
    Link,
    Other(String),
}

impl Kind {
    /// The kind of an Ethernet frame. A frame that cannot be read is of the kind "other".
    fn of(frame: &[u8]) -> Kind {
        let unknown = || Kind::Other("unknown frame".to_owned());
        let (Some(ether_type), Some(packet)) = (frame.get(12..ETHERNET), frame.get(ETHERNET..)) else {
            return unknown();
        };
        match ether_type {
            [0x08, 0x06] => Kind::Link,
            [0x08, 0x00] => Kind::of_ipv4(packet).unwrap_or_else(unknown),
            [0x86, 0xdd] => Kind::of_ipv6(packet).unwrap_or_else(unknown),
            _ => Kind::Other(format!("Ethernet type {ether_type:02x?}")),
        }
    }

    fn of_ipv4(packet: &[u8]) -> Option<Kind> {
        let header = usize::from(packet.first()? & 0xf) * 4;
        let to: [u8; 4] = *packet.get(16..20)?.first_chunk()?;
        let (protocol, to) = (*packet.get(9)?, IpAddr::from(to));
        let port = port(protocol, packet.get(header..)?);
        if protocol == TCP && (to, port) == (IpAddr::V4(SERVER), Some(DEFAULT_PORT)) {
            return Some(Kind::Stream);
        }
        Some(Kind::Other(name(protocol, to, port)))
    }

    fn of_ipv6(packet: &[u8]) -> Option<Kind> {
        const HEADER: usize = 40;
        let to: [u8; 16] = *packet.get(24..HEADER)?.first_chunk()?;
        let (mut protocol, to) = (*packet.get(6)?, Ipv6Addr::from(to));
        let mut rest = packet.get(HEADER..)?;
        // Reports of multicast groups have an option of one unit for routers (RFC 3810).
        if protocol == 0 {
            protocol = *rest.first()?;
            rest = rest.get(8..)?;
        }
        // Router and neighbour discovery, and those reports (RFC 4861, RFC 3810).
        let is_link = protocol == ICMP6 && matches!(rest.first()?, 130..=137 | 143);
        Some(if is_link { Kind::Link } else { Kind::Other(name(protocol, to.into(), port(protocol, rest))) })
    }
}

fn port(protocol: u8, payload: &[u8]) -> Option<u16> {
    let port = payload.get(2..4)?.first_chunk()?;
    [TCP, UDP].contains(&protocol).then(|| u16::from_be_bytes(*port))
}

fn name(protocol: u8, to: IpAddr, port: Option<u16>) -> String {
    let to = port.map_or_else(|| to.to_string(), |port| SocketAddr::new(to, port).to_string());
    match protocol {
        TCP => format!("TCP to {to}"),
        UDP => format!("UDP to {to}"),
        1 | ICMP6 => format!("ICMP to {to}"),
        _ => format!("IP protocol {protocol} to {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, to: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 40];
        frame[12] = 8;
        frame[ETHERNET] = 0x45;
        frame[ETHERNET + 9] = protocol;
        frame[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&to);
        frame[ETHERNET + 22..ETHERNET + 24].copy_from_slice(&port.to_be_bytes());
        frame
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 40];
        frame[12..ETHERNET].copy_from_slice(&[0x86, 0xdd]);
        frame[ETHERNET + 6] = next;
        frame[ETHERNET + 24] = 0x20;
        frame.extend(payload);
        frame
    }

    #[test]
    fn only_tcp_to_the_servers_port_is_the_stream() {
        let other = |what: &str| Kind::Other(what.to_owned());
        let server = SERVER.octets();
        assert_eq!(Kind::of(&ipv4(TCP, server, DEFAULT_PORT)), Kind::Stream);
        assert_eq!(Kind::of(&ipv4(TCP, server, 53)), other("TCP to 198.51.100.2:53"));
        assert_eq!(Kind::of(&ipv4(UDP, server, DEFAULT_PORT)), other("UDP to 198.51.100.2:8079"));
        assert_eq!(Kind::of(&ipv4(TCP, [192, 0, 2, 1], DEFAULT_PORT)), other("TCP to 192.0.2.1:8079"));
        assert_eq!(Kind::of(&ipv4(1, server, 0)), other("ICMP to 198.51.100.2"));
        assert_eq!(Kind::of(&ipv6(UDP, &[0, 0, 0, 53])), other("UDP to [2000::]:53"));
        assert_eq!(Kind::of(&ipv6(ICMP6, &[128, 0, 0, 0])), other("ICMP to 2000::"));
        assert_eq!(Kind::of(&ipv6(ICMP6, &[135, 0, 0, 0])), Kind::Link);
        assert_eq!(Kind::of(&ipv6(0, &[ICMP6, 0, 5, 2, 0, 0, 0, 0, 143, 0])), Kind::Link);
        assert_eq!(Kind::of(&ipv6(0, &[UDP, 0, 5, 2, 0, 0, 0, 0, 0, 0, 0, 53])), other("UDP to [2000::]:53"));
    }

    #[test]
    fn a_frame_of_any_length_is_counted() {
        for frame in [ipv4(TCP, SERVER.octets(), DEFAULT_PORT), ipv6(0, &[ICMP6, 0, 5, 2, 0, 0, 0, 0, 143, 0])] {
            let mut seen = Seen::default();
            for length in 0..=frame.len() {
                seen.count(&frame[..length]);
            }
            let others: u64 = seen.other.values().sum();
            assert_eq!(seen.stream.0 + seen.link + others, frame.len() as u64 + 1);
            assert!(others > 10);
        }
        let mut seen = Seen::default();
        for port in 0..1000 {
            seen.count(&ipv4(UDP, [1, 1, 1, 1], port));
        }
        assert_eq!((seen.other.len(), seen.other["more"]), (KINDS + 1, 1000 - KINDS as u64));
    }
}
