//! Packets that a server's host forwards from a cable, whose driver has verified the checksums, like network cards.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use testkit::hosts::{Host, forwards_packets};
use testkit::inner::{ACK, DF, Ip, Seen, Sum, Tcp};
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::records::{Got, packets_of};
use testkit::sockets::raw_sender;
use testkit::wire::op;

use crate::lab::{BUNDLES, Lab};

const PORTS: (u16, u16) = (41_007, 41_008);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 2);

/// "One packet alone that needs no header goes as a plain packet." The kernel marks its checksum as verified (flag 2),
/// which a client does not need and which is not a flag of a record.
#[test]
fn a_verified_packet_alone_goes_plain() {
    const NAME: &str = "outside::a_verified_packet_alone_goes_plain";
    in_namespace(NAME, || {
        let Some((lab, sender)) = outside(NAME, &BUNDLES) else { return };
        for number in 0..3 {
            let tcp = Tcp::new(1 + 100 * number, ACK);
            let payload = noise(number.into(), 100);
            let packet = Ip { id: 5, ..Ip::new(SOURCE, lab.address) }.tcp(PORTS, &tcp, &payload, Sum::Right);
            sender.send_to(&packet, (lab.address, 0)).unwrap();
            loop {
                let vpn = lab.peer.next("the segment");
                let what = format!("{:02x?}", &vpn[..vpn.len().min(60)]);
                let is_bundle = op(&vpn) == 0xbf;
                if is_bundle {
                    assert!([0, 1].contains(&vpn[22]), "flags of the record: {what}");
                }
                let packets = packets_of(&vpn, 65_535, &mut Got::default());
                if packets.iter().any(|(packet, _)| Seen::new(packet).source() == SOURCE) {
                    assert!(!is_bundle, "a bundle of one complete packet: {what}");
                    break;
                }
            }
        }
    });
}

/// The kernel merges packets on the cable: one client gets super-packets, the others get cut ones.
#[test]
fn a_burst_from_the_cable_in_large_bundles() {
    burst("outside::a_burst_from_the_cable_in_large_bundles", &BUNDLES, 65_535);
}

#[test]
fn a_burst_from_the_cable_in_small_bundles() {
    burst("outside::a_burst_from_the_cable_in_small_bundles", b"CFV1\x01\x02\xd0\x07", 2000);
}

#[test]
fn a_burst_from_the_cable_without_bundles() {
    burst("outside::a_burst_from_the_cable_without_bundles", b"", 0);
}

fn burst(test: &str, offer: &[u8], limit: usize) {
    in_namespace(test, || {
        let Some((lab, sender)) = outside(test, offer) else { return };
        // The queue of packets that wait for ARP (RFC 826) is short, so one packet goes first.
        let first = Ip::new(SOURCE, lab.address).udp(PORTS, b"first", Sum::Right);
        sender.send_to(&first, (lab.address, 0)).unwrap();
        while !lab.peer.next("the first packet").ends_with(b"first") {}
        let payload = noise(limit as u64, 200_000);
        let seq = 0u32.wrapping_sub(100_000);
        for (at, part) in payload.chunks(1300).enumerate() {
            let ip = Ip { id: 900 + at as u16, fragment: DF, ..Ip::new(SOURCE, lab.address) };
            let tcp = Tcp::new(seq.wrapping_add(1300 * at as u32), ACK);
            sender.send_to(&ip.tcp(PORTS, &tcp, part, Sum::Right), (lab.address, 0)).unwrap();
        }
        let mut got = Got::default();
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < payload.len() {
            let vpn = lab.peer.next("more of the burst");
            for (packet, _) in packets_of(&vpn, limit, &mut got) {
                let seen = Seen::new(&packet);
                if seen.source() == SOURCE {
                    let at = seen.seq().wrapping_sub(seq) as usize;
                    assert_eq!(at, bytes.len(), "unexpected bytes after {got:?}");
                    bytes.extend(seen.payload());
                }
            }
        }
        assert!(bytes == payload, "the bytes differ from those sent");
        println!("{got:?}");
    });
}

/// Returns a client with these capabilities, and a socket on a host outside that sends whole packets to it; `None` if
/// the server's host cannot forward.
fn outside(test: &str, offer: &[u8]) -> Option<(Lab, UdpSocket)> {
    if !forwards_packets(test) {
        return None;
    }
    let host = Host::new(0);
    let lab = Lab::start("", offer);
    // The host answers ARP on the cable for its clients. With generic receive offload the kernel verifies checksums
    // there.
    fs::write("/proc/sys/net/ipv4/conf/near0/proxy_arp", "1").unwrap();
    turn("near0", GRO, 1);
    let sender = host.run(|| {
        // On a cable between two namespaces that works only if the other end cuts its packets itself.
        turn("far0", TSO, 0);
        let raw = raw_sender();
        // Without a route, the kernel looks for the target on the cable.
        bind_to_device(&raw, b"far0");
        raw
    });
    Some((lab, sender))
}

/// ETHTOOL_SGRO and ETHTOOL_STSO of linux/ethtool.h.
const GRO: u32 = 0x2c;
const TSO: u32 = 0x1f;

/// Turns a feature of a device of the calling thread's host on or off.
fn turn(device: &str, command: u32, data: u32) {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        value: *mut Value,
        rest: [u8; 16],
    }
    let mut value = Value { command, data };
    let mut request = Request { name: [0; 16], value: &raw mut value, rest: [0; 16] };
    request.name[..device.len()].copy_from_slice(device.as_bytes());
    let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    // SAFETY: SIOCETHTOOL reads a `struct ifreq`, whose pointer is to a `struct ethtool_value`; both live through the call.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), 0x8946, &raw mut request) };
    assert_eq!(code, 0, "ethtool {command:#x}: {}", std::io::Error::last_os_error());
}

/// SO_BINDTODEVICE of socket(7).
fn bind_to_device(socket: &UdpSocket, device: &[u8]) {
    let (level, name, length) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.len() as libc::socklen_t);
    // SAFETY: an open socket; the name lives through the call, and its length is passed.
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, device.as_ptr().cast(), length) };
    assert_eq!(code, 0, "SO_BINDTODEVICE: {}", std::io::Error::last_os_error());
}
