//! What clients are sent: bundles that keep the rules for who has asked for them, plain packets for the others.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::inner::{MF, Seen, TCP, UDP};
use crate::lab::{BUNDLES, Lab, Vnet, noise};
use crate::netns::in_namespace;
use crate::peer::{BUNDLE_RECV, PONG, VPN_RECV, op};

/// What a client has got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Down {
    pub(crate) bundles: usize,
    pub(crate) records: usize,
    pub(crate) supers: usize,
    pub(crate) plain: usize,
}

/// The packets in a VPN packet for a client that takes bundles of at most `limit` bytes, each checked, with the payload of
/// a segment where it is a super-packet.
pub(crate) fn packets_of(vpn: &[u8], limit: usize, down: &mut Down) -> Vec<(Vec<u8>, Option<usize>)> {
    let size = u32::from_le_bytes(*vpn[12..].first_chunk().unwrap()) as usize;
    let data = &vpn[20..];
    match op(vpn) {
        VPN_RECV => {
            assert_eq!(size, data.len());
            down.plain += 1;
            check_complete(&Seen::new(data));
            vec![(data.to_vec(), None)]
        }
        BUNDLE_RECV => {
            assert_eq!(size, data.len());
            assert!(size <= limit, "a bundle of {size} bytes for a client that takes {limit}");
            assert!(size > 0, "an empty bundle");
            down.bundles += 1;
            let packets = records(data);
            down.records += packets.len();
            down.supers += packets.iter().filter(|(_, size)| size.is_some()).count();
            packets
        }
        PONG => Vec::new(),
        other => panic!("op {other:#x} from the server"),
    }
}

fn records(mut data: &[u8]) -> Vec<(Vec<u8>, Option<usize>)> {
    let mut packets = Vec::new();
    while !data.is_empty() {
        assert!(data.len() > 12, "a record is cut off: {data:02x?}");
        let number = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
        let vnet = Vnet {
            flags: data[2],
            gso_type: data[3],
            hdr_len: number(4),
            gso_size: number(6),
            csum_start: number(8),
            csum_offset: number(10),
        };
        let end = 12 + usize::from(number(0));
        assert!(end > 12 && end <= data.len(), "a record of {end} bytes, of which {} are there", data.len());
        let packet = &data[12..end];
        packets.push((packet.to_vec(), check(vnet, &Seen::new(packet))));
        data = &data[end..];
    }
    packets
}

/// Checks header and packet by docs/wire.md: the payload of a super-packet's segment.
fn check(vnet: Vnet, seen: &Seen<'_>) -> Option<usize> {
    let what = format!("{vnet:?}, {:02x?}", &seen.whole[..seen.whole.len().min(60)]);
    assert!(seen.has_right_header_sum(), "{what}");
    if vnet.flags == 0 {
        assert_eq!(vnet.gso_type, 0, "{what}");
        check_complete(seen);
        return None;
    }
    assert_eq!(vnet.flags, 1, "{what}");
    assert!(seen.has_pseudo_sum(), "what stands in the checksum's place is not the pseudo header's sum: {what}");
    assert_eq!(seen.fragment() & (MF | 0x1fff), 0, "a fragment: {what}");
    assert_eq!(usize::from(vnet.csum_start), seen.header_len(), "{what}");
    let (protocol, offset) = if seen.protocol() == TCP { (TCP, 16) } else { (UDP, 6) };
    assert_eq!((seen.protocol(), vnet.csum_offset), (protocol, offset), "{what}");
    let size = usize::from(vnet.gso_size);
    match vnet.gso_type {
        0 => return None,
        1 | 0x81 => assert!(protocol == TCP && size >= 32, "{what}"),
        5 => assert!(protocol == UDP && size >= 1 && seen.payload().len().div_ceil(size) <= 128, "{what}"),
        other => panic!("gso_type {other}: {what}"),
    }
    assert!(seen.payload().len() > size, "a super-packet of one segment: {what}");
    Some(size)
}

fn check_complete(seen: &Seen<'_>) {
    let what = format!("{:02x?}", &seen.whole[..seen.whole.len().min(60)]);
    assert!(seen.has_right_header_sum(), "IP header: {what}");
    let is_fragment = seen.fragment() & (MF | 0x1fff) != 0;
    let has_ports = [TCP, UDP].contains(&seen.protocol());
    assert!(is_fragment || !has_ports || seen.has_right_sum(), "checksum: {what}");
    assert!(seen.whole.len() <= 1390, "{} bytes in one packet, the MTU is 1390", seen.whole.len());
}

#[test]
fn datagrams_to_a_client_of_large_bundles() {
    in_namespace("downstream::datagrams_to_a_client_of_large_bundles", || {
        let down = send_everything(&Lab::start("", &BUNDLES), 65_535);
        assert!(down.bundles > 0 && down.supers > 0, "{down:?}");
    });
}

#[test]
fn datagrams_to_clients_of_small_bundles() {
    in_namespace("downstream::datagrams_to_clients_of_small_bundles", || {
        let down = send_everything(&Lab::start("", b"CFV1\x01\x02\xd0\x07"), 2000);
        assert!(down.bundles > 0, "nothing fits into 2000 bytes: {down:?}");
        // A packet of 1028 bytes fits into no bundle of these.
        let down = send_everything(&Lab::start("", b"CFV1\x01\x02\x0f\x04"), 1039);
        assert!(down.bundles > 0 && down.plain > 100, "{down:?}");
        for limit in [1u8, 12, 13, 40] {
            let says = [b"CFV1\x01\x02".as_slice(), &[limit, 0]].concat();
            let down = send_everything(&Lab::start("", &says), limit.into());
            assert!(down.plain > 0, "{down:?}");
        }
    });
}

#[test]
fn clients_without_bundles_get_complete_packets() {
    in_namespace("downstream::clients_without_bundles_get_complete_packets", || {
        for (keys, says) in [
            ("", b"CFV1\x01\x02\x00\x00".as_slice()),
            ("", b"CFV1\x02\x02\x6e\x05"),
            ("", b""),
            ("offload=false\n", &BUNDLES),
            ("offload=false\n", b""),
        ] {
            let down = send_everything(&Lab::start(keys, says), 0);
            assert!(down.bundles == 0 && down.plain > 100, "{keys:?} {says:02x?}: {down:?}");
        }
    });
}

/// A burst of all kinds: everything comes, in its order, cut as it was sent.
fn send_everything(lab: &Lab, limit: usize) -> Down {
    let mut down = Down::default();
    let target = (lab.address, 4242);
    let send = |bytes: &[u8]| assert_eq!(lab.socket.send_to(bytes, target).unwrap(), bytes.len());
    let mut expected = Vec::new();
    for number in 0..60 {
        for size in [1000, 100 + number, 0, 1362] {
            expected.push(noise((number * 7 + size) as u64, size));
        }
    }
    expected.iter().for_each(|payload| send(payload));
    receive(lab, limit, &expected, &mut down);
    // In one call; a kernel before 6.11 refuses that where the device leaves checksums to it.
    for (size, count, rest) in [(1000, 40, 13), (1362, 40, 1362), (400, 100, 1), (1, 128, 1), (33, 60, 32)] {
        let bytes = noise(size as u64, size * (count - 1) + rest);
        segment(&lab.socket, size);
        let sent = lab.socket.send_to(&bytes, target);
        segment(&lab.socket, 0);
        if sent.is_err_and(|error| error.raw_os_error() == Some(libc::EIO)) {
            continue;
        }
        let expected: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        receive(lab, limit, &expected, &mut down);
    }
    let large = noise(11, 65_507);
    send(&large);
    receive_fragments(lab, limit, &large, &mut down);
    lab.check_packets("afterwards", Vec::new(), &[], &[]);
    down
}

fn receive(lab: &Lab, limit: usize, expected: &[Vec<u8>], down: &mut Down) {
    let mut at = 0;
    while at < expected.len() {
        let packet = lab.peer.next(&format!("datagram {at} of {}", expected.len()));
        for (packet, size) in packets_of(&packet, limit, down) {
            let seen = Seen::new(&packet);
            if seen.protocol() != UDP || seen.ports().1 != 4242 {
                continue;
            }
            let payload = seen.payload();
            for payload in
                payload.chunks(size.unwrap_or(payload.len()).max(1)).chain(payload.is_empty().then_some(payload))
            {
                assert!(at < expected.len(), "more came than was sent");
                let what = format!("datagram {at} of {} for a client of {limit}", expected.len());
                assert!(
                    payload == expected[at],
                    "{what}: {} bytes came, not these {}",
                    payload.len(),
                    expected[at].len()
                );
                at += 1;
            }
        }
    }
}

fn receive_fragments(lab: &Lab, limit: usize, payload: &[u8], down: &mut Down) {
    let mut whole: Vec<u8> = Vec::new();
    while whole.len() < payload.len() + 8 {
        let packet = lab.peer.next("a fragment");
        for (packet, size) in packets_of(&packet, limit, down) {
            let seen = Seen::new(&packet);
            if seen.protocol() == UDP && seen.fragment() & (MF | 0x1fff) != 0 {
                assert_eq!(size, None);
                assert_eq!(usize::from(seen.fragment() & 0x1fff) * 8, whole.len(), "not the next fragment");
                whole.extend(seen.transport());
            }
        }
    }
    assert!(whole[8..] == *payload, "the datagram is not what was sent");
    assert!(lab.peer.next_within(Duration::from_millis(20)).is_none(), "something came twice");
}

/// Sets or, with 0, unsets UDP_SEGMENT of udp(7).
fn segment(socket: &UdpSocket, size: usize) {
    let size = size as libc::c_int;
    let length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: an open socket; the value lives through the call and has the length that is given.
    let code = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), length)
    };
    assert_eq!(code, 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
}
