//! The valid and invalid contents of a record's virtio_net_hdr.

use dap_chain_net_srv_vpn::app;
use testkit::inner::{ACK, DF, Ip, MF, Sum, TCP, Tcp, UDP};
use testkit::netns::in_namespace;
use testkit::records::{Vnet, record};
use testkit::{TEST_TIMEOUT, noise};
use vpn_core::forward::DropCause;

use crate::lab::{BUNDLES, Lab};

/// Each invalid record is between good ones, which must be delivered.
#[test]
fn a_header_that_does_not_fit_is_dropped_alone() {
    in_namespace("offloads::a_header_that_does_not_fit_is_dropped_alone", || {
        let lab = Lab::start("", &BUNDLES);
        let (before, behind) = (lab.good(b"before"), lab.good(b"behind"));
        let bad: Vec<_> = [bad_tcp(&lab), bad_udp(&lab), bad_single(&lab)].concat();
        assert!(bad.len() > 60, "{}", bad.len());
        for (what, record) in bad {
            let data = [before.as_slice(), &record, &behind].concat();
            lab.check(&what, &data, &[b"before", b"behind"], &[(DropCause::BadOffload, 1)]);
        }
    });
}

fn of(what: &str, vnet: Vnet, packet: &[u8]) -> (String, Vec<u8>) {
    (format!("{what}: {vnet:?}"), record(vnet, packet))
}

/// Returns invalid variants of a good super-packet of either protocol.
fn bad_for_both(name: &str, good: Vnet, other: Vnet, make: &dyn Fn(&Ip) -> Vec<u8>, ip: &Ip) -> Vec<(String, Vec<u8>)> {
    let packet = make(ip);
    let mut bad = Vec::new();
    // 3 is UDP's old fragmentation, 4 is TCP over IPv6, 5 with 0x80 is ECN on UDP, 0x40 is a tunnel's bit.
    let types = [2, 3, 4, 6, 7, 16, 0x20, 0x40, 0x41, 0x45, 0x7f, 0x80, 0x82, 0x83, 0x84, 0x85, 0xff];
    for gso_type in types.into_iter().chain([other.gso_type]) {
        bad.push(of(&format!("{name}, gso_type"), Vnet { gso_type, ..good }, &packet));
    }
    bad.push(of(&format!("{name}, described as the other protocol"), other, &packet));
    for flags in [0, 2, 4, 0xfe] {
        bad.push(of(&format!("{name}, NEEDS_CSUM missing"), Vnet { flags, ..good }, &packet));
    }
    for csum_start in [0, 12, 16, 19, 21, 24, 28, 40, packet.len() as u16, 65_535] {
        bad.push(of(&format!("{name}, csum_start"), Vnet { csum_start, ..good }, &packet));
    }
    for csum_offset in [0, 4, 8, 18, other.csum_offset, packet.len() as u16, 65_535] {
        bad.push(of(&format!("{name}, csum_offset"), Vnet { csum_offset, ..good }, &packet));
    }
    for fragment in [MF, 1, 185, MF | 7, DF | MF, DF | 1] {
        bad.push(of(&format!("{name}, fragment {fragment:#06x}"), good, &make(&Ip { fragment, ..ip.clone() })));
    }
    let options = Ip { options: vec![1, 1, 1, 0], ..ip.clone() };
    bad.push(of(&format!("{name}, csum_start does not know of the options"), good, &make(&options)));
    bad
}

fn bad_tcp(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let payload = noise(1, 3000);
    let make = |ip: &Ip| ip.tcp(lab.ports(), &Tcp::new(1000, ACK), &payload, Sum::Pseudo);
    let good = Vnet::tcp(1000);
    let mut bad = bad_for_both("TCP", good, Vnet::udp(1000), &make, &lab.ip());
    for gso_size in [0, 1, 31] {
        bad.push(of("TCP, gso_size", Vnet { gso_size, ..good }, &make(&lab.ip())));
    }
    for (what, offset, length) in
        [("beyond the packet", 15, 59), ("beyond the packet", 6, 23), ("below five", 4, 2000), ("nothing", 0, 2000)]
    {
        let mut transport = make(&lab.ip()).split_off(20);
        transport[12] = offset << 4;
        transport.truncate(length);
        bad.push(of(&format!("TCP, data offset {what}"), Vnet::tcp(32), &lab.ip().packet(TCP, &transport)));
    }
    for length in [0, 1, 12, 13, 19] {
        let transport = make(&lab.ip()).split_off(20);
        let packet = lab.ip().packet(TCP, &transport[..length]);
        bad.push(of(&format!("TCP, {length} bytes of its header"), good, &packet));
    }
    for protocol in [1, 0, 132, 41] {
        let packet = lab.ip().packet(protocol, &make(&lab.ip())[20..]);
        bad.push(of(&format!("TCP super-packet of protocol {protocol}"), good, &packet));
    }
    bad
}

fn bad_udp(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let payload = noise(2, 3000);
    let make = |ip: &Ip| ip.udp(lab.ports(), &payload, Sum::Pseudo);
    let good = Vnet::udp(1000);
    let mut bad = bad_for_both("UDP", good, Vnet::tcp(1000), &make, &lab.ip());
    for gso_size in [0, 1, 23] {
        bad.push(of("UDP, gso_size, or too many datagrams", Vnet { gso_size, ..good }, &make(&lab.ip())));
    }
    for (gso_size, length) in [(1, 129), (10, 1281), (500, 64_001)] {
        let packet = lab.ip().udp(lab.ports(), &noise(3, length), Sum::Pseudo);
        bad.push(of("UDP, 129 datagrams", Vnet { gso_size, ..good }, &packet));
    }
    for length in [0, 1, 7] {
        let transport = make(&lab.ip()).split_off(20);
        let packet = lab.ip().packet(UDP, &transport[..length]);
        bad.push(of(&format!("UDP, {length} bytes of its header"), good, &packet));
    }
    bad
}

/// Single packets whose checksum field is in an invalid place: before the transport header, where it would change
/// checked fields, or beyond the end.
fn bad_single(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let packet = lab.ip().udp(lab.ports(), &noise(4, 100), Sum::Pseudo);
    let end = packet.len() as u16;
    let places = [
        (0, 0),
        (0, 10),
        (0, 12),
        (0, 16),
        (0, 26),
        (12, 0),
        (19, 7),
        (20, end - 20),
        (20, end - 21),
        (end, 0),
        (end - 1, 0),
        (end, 6),
        (65_535, 0),
        (65_535, 65_535),
        (65_510, 26),
        (20, 65_535),
    ];
    let single = |(csum_start, csum_offset)| Vnet { flags: 1, csum_start, csum_offset, ..Vnet::default() };
    places.into_iter().map(|place| of("one packet, checksum elsewhere", single(place), &packet)).collect()
}

/// The place of the checksum in a TCP or UDP header is fixed. With any other place, a kernel would overwrite a port, a
/// length or a flag after the host's packet filter has seen another value: see `forwarded`. (Behind that header every
/// place is valid: an encapsulated packet has its checksum there.)
#[test]
fn a_checksum_is_completed_only_where_the_protocol_has_it() {
    in_namespace("offloads::a_checksum_is_completed_only_where_the_protocol_has_it", || {
        let lab = Lab::start("", &BUNDLES);
        let udp = lab.ip().udp(lab.ports(), b"payload", Sum::Zero);
        let tcp = lab.ip().tcp(lab.ports(), &Tcp::new(7, ACK), b"payload", Sum::Pseudo);
        let udp_places = [(20, 0), (20, 1), (20, 2), (20, 3), (20, 4), (20, 5), (22, 0), (22, 4), (26, 0)];
        let tcp_places =
            [(20, 0), (20, 2), (20, 4), (20, 8), (20, 12), (20, 14), (20, 15), (20, 17), (20, 18), (22, 14)];
        for (packet, places) in [(&udp, udp_places.as_slice()), (&tcp, &tcp_places)] {
            for &(csum_start, csum_offset) in places {
                let vnet = Vnet { flags: 1, csum_start, csum_offset, ..Vnet::default() };
                let data = [lab.good(b"before"), record(vnet, packet), lab.good(b"behind")].concat();
                let what = format!("protocol {}, {vnet:?}", packet[9]);
                lab.check(&what, &data, &[b"before", b"behind"], &[(DropCause::BadOffload, 1)]);
            }
        }
    });
}

/// The pseudo header's sum covers a whole datagram or segment. A fragment has no field for it, and the second fragment
/// would have a port or a flag in its place.
#[test]
fn a_fragment_has_no_checksum_to_complete() {
    in_namespace("offloads::a_fragment_has_no_checksum_to_complete", || {
        let lab = Lab::start("", &BUNDLES);
        let lacks = Vnet { flags: 1, csum_start: 20, csum_offset: 6, ..Vnet::default() };
        for fragment in [MF, 1, MF | 1, 185] {
            let packet = Ip { fragment, ..lab.ip() }.udp(lab.ports(), &noise(9, 64), Sum::Pseudo);
            let data = [lab.good(b"before"), record(lacks, &packet), lab.good(b"behind")].concat();
            let what = format!("fragment {fragment:#06x}");
            lab.check(&what, &data, &[b"before", b"behind"], &[(DropCause::BadOffload, 1)]);
        }
    });
}

/// Values that the receiver ignores, and every valid one.
#[test]
fn valid_packets_are_delivered_whatever_the_hints_say() {
    in_namespace("offloads::valid_packets_are_delivered_whatever_the_hints_say", || {
        let lab = Lab::start("", &BUNDLES);
        let payload = noise(5, 3333);
        let cut: Vec<&[u8]> = payload.chunks(1000).collect();
        let packet = lab.ip().udp(lab.ports(), &payload, Sum::Pseudo);
        let good = Vnet::udp(1000);
        for hdr_len in [0, 1, 20, 27, 29, 4000, 65_535] {
            lab.check(&format!("hdr_len {hdr_len}"), &record(Vnet { hdr_len, ..good }, &packet), &cut, &[]);
        }
        for flags in [3, 5, 9, 0xff] {
            lab.check(&format!("flags {flags}"), &record(Vnet { flags, ..good }, &packet), &cut, &[]);
        }
        let options = Ip { options: vec![1, 1, 1, 0], ..lab.ip() };
        let with = record(Vnet { csum_start: 24, ..good }, &options.udp(lab.ports(), &payload, Sum::Pseudo));
        lab.check("IP options", &with, &cut, &[]);
        for (size, count, rest) in [(56, 128, 0), (57, 127, 0), (31, 1, 7), (64, 100, 1), (511, 127, 510)] {
            let payload = noise(6, size * count + rest);
            let packet = lab.ip().udp(lab.ports(), &payload, Sum::Pseudo);
            let cut: Vec<&[u8]> = payload.chunks(size).collect();
            let what = format!("{count} datagrams of {size} bytes and one of {rest}");
            lab.check(&what, &record(Vnet::udp(size as u16), &packet), &cut, &[]);
        }

        let single = lab.ip().udp(lab.ports(), b"single", Sum::Pseudo);
        let lacks = Vnet { flags: 1, csum_start: 20, csum_offset: 6, ..Vnet::default() };
        for vnet in [lacks, Vnet { hdr_len: 9, gso_size: 65_535, ..lacks }, Vnet { flags: 0xfd, ..lacks }] {
            lab.check(&format!("without checksum, {vnet:?}"), &record(vnet, &single), &[b"single"], &[]);
        }
        let complete = lab.datagram(b"complete");
        let nonsense = Vnet { hdr_len: 65_535, gso_size: 1, csum_start: 65_535, csum_offset: 3, ..Vnet::default() };
        for vnet in [nonsense, Vnet { flags: 2, ..nonsense }, Vnet { flags: 0xfe, ..nonsense }] {
            lab.check(&format!("complete, {vnet:?}"), &record(vnet, &complete), &[b"complete"], &[]);
        }
        let zero = lab.ip().udp(lab.ports(), b"zero", Sum::Zero);
        lab.check("no UDP checksum", &record(Vnet::default(), &zero), &[b"zero"], &[]);
    });
}

/// Flag 2 tells a kernel that the checksum was verified: no peer may claim that.
#[test]
fn a_peer_cannot_declare_a_checksum_verified() {
    in_namespace("offloads::a_peer_cannot_declare_a_checksum_verified", || {
        let lab = Lab::start("", &BUNDLES);
        let wrong = lab.ip().udp(lab.ports(), b"wrong", Sum::Wrong);
        for flags in [0, 2, 6, 0xfe] {
            let data = [record(Vnet { flags, ..Vnet::default() }, &wrong), lab.good(b"right")].concat();
            lab.check(&format!("flags {flags}"), &data, &[b"right"], &[]);
        }
    });
}

/// "Statistics count the segments of a super-packet as packets, and its bytes as they are in the bundle."
#[test]
fn segments_are_counted_as_packets() {
    in_namespace("offloads::segments_are_counted_as_packets", || {
        let lab = Lab::start("", &BUNDLES);
        lab.check("warm", &lab.good(b"warm"), &[b"warm"], &[]);
        let mark = lab.datagram(b"the end of what is checked").len() as u64;
        let payload = noise(8, 40 * 700 + 3);
        let packet = lab.ip().udp(lab.ports(), &payload, Sum::Pseudo);
        let good = lab.good(b"and one");
        let data = [record(Vnet::udp(700), &packet), good].concat();
        let cut: Vec<&[u8]> = payload.chunks(700).chain([b"and one".as_slice()]).collect();
        // The mark of the previous check may be counted after its arrival.
        lab.peer.ping();
        let before = app::server_totals().unwrap();
        lab.check("a super-packet and a packet", &data, &cut, &[]);
        let packets = || app::server_totals().unwrap().up_packets - before.up_packets;
        let deadline = std::time::Instant::now() + TEST_TIMEOUT;
        while packets() < 43 && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let bytes = app::server_totals().unwrap().up_bytes - before.up_bytes;
        // 40 more headers than the super-packet had: its bytes are those of its segments.
        let headers = 40 * 28;
        let should = packet.len() as u64 + headers + lab.datagram(b"and one").len() as u64 + mark;
        assert_eq!((packets(), bytes), (41 + 1 + 1, should));
    });
}
