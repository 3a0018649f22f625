//! The packets that clients receive: bundles by the rules for clients that have requested them, plain packets for the
//! others.

use std::time::Duration;

use testkit::inner::{MF, Seen, UDP};
use testkit::netns::in_namespace;
use testkit::noise;
use testkit::records::{Got, packets_of};
use testkit::sockets::segment;

use crate::lab::{BUNDLES, Lab};

#[test]
fn datagrams_to_a_client_of_large_bundles() {
    in_namespace("downstream::datagrams_to_a_client_of_large_bundles", || {
        let got = send_everything(&Lab::start("", &BUNDLES), 65_535);
        assert!(got.bundles > 0 && got.supers > 0, "{got:?}");
    });
}

#[test]
fn datagrams_to_clients_of_small_bundles() {
    in_namespace("downstream::datagrams_to_clients_of_small_bundles", || {
        let got = send_everything(&Lab::start("", b"CFV1\x01\x02\xd0\x07"), 2000);
        assert!(got.bundles > 0, "nothing fits into 2000 bytes: {got:?}");
        // A packet of 1028 bytes exceeds these bundles.
        let got = send_everything(&Lab::start("", b"CFV1\x01\x02\x0f\x04"), 1039);
        assert!(got.bundles > 0 && got.plain > 100, "{got:?}");
        for limit in [1u8, 12, 13, 40] {
            let offer = [b"CFV1\x01\x02".as_slice(), &[limit, 0]].concat();
            let got = send_everything(&Lab::start("", &offer), limit.into());
            assert!(got.plain > 0, "{got:?}");
        }
    });
}

#[test]
fn clients_without_bundles_get_complete_packets() {
    in_namespace("downstream::clients_without_bundles_get_complete_packets", || {
        for (keys, offer) in [
            ("", b"CFV1\x01\x02\x00\x00".as_slice()),
            ("", b"CFV1\x02\x02\x6e\x05"),
            ("", b""),
            ("offload=false\n", &BUNDLES),
            ("offload=false\n", b""),
        ] {
            let got = send_everything(&Lab::start(keys, offer), 0);
            assert!(got.bundles == 0 && got.plain > 100, "{keys:?} {offer:02x?}: {got:?}");
        }
    });
}

/// Sends a burst of all kinds; checks that everything arrives in order, cut at the original boundaries.
fn send_everything(lab: &Lab, limit: usize) -> Got {
    let mut got = Got::default();
    let target = (lab.address, 4242);
    let send = |bytes: &[u8]| assert_eq!(lab.socket.send_to(bytes, target).unwrap(), bytes.len());
    let mut expected = Vec::new();
    for number in 0..60 {
        for size in [1000, 100 + number, 0, 1362] {
            expected.push(noise((number * 7 + size) as u64, size));
        }
    }
    expected.iter().for_each(|payload| send(payload));
    receive(lab, limit, &expected, &mut got);
    // In one call. A kernel before 6.11 refuses that if the device leaves checksums to it.
    for (size, count, rest) in [(1000, 40, 13), (1362, 40, 1362), (400, 100, 1), (1, 128, 1), (33, 60, 32)] {
        let bytes = noise(size as u64, size * (count - 1) + rest);
        segment(&lab.socket, size);
        let sent = lab.socket.send_to(&bytes, target);
        segment(&lab.socket, 0);
        if sent.is_err_and(|error| error.raw_os_error() == Some(libc::EIO)) {
            continue;
        }
        let expected: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        receive(lab, limit, &expected, &mut got);
    }
    let large = noise(11, 65_507);
    send(&large);
    receive_fragments(lab, limit, &large, &mut got);
    lab.check_packets("afterwards", Vec::new(), &[], &[]);
    got
}

fn receive(lab: &Lab, limit: usize, expected: &[Vec<u8>], got: &mut Got) {
    let mut at = 0;
    while at < expected.len() {
        let packet = lab.peer.next(&format!("datagram {at} of {}", expected.len()));
        for (packet, size) in packets_of(&packet, limit, got) {
            let seen = Seen::new(&packet);
            if seen.protocol() != UDP || seen.ports().1 != 4242 {
                continue;
            }
            let payload = seen.payload();
            for payload in
                payload.chunks(size.unwrap_or(payload.len()).max(1)).chain(payload.is_empty().then_some(payload))
            {
                assert!(at < expected.len(), "more datagrams arrived than were sent");
                let what = format!("datagram {at} of {} for a client of {limit}", expected.len());
                assert!(
                    payload == expected[at],
                    "{what}: {} bytes arrived, not these {}",
                    payload.len(),
                    expected[at].len()
                );
                at += 1;
            }
        }
    }
}

fn receive_fragments(lab: &Lab, limit: usize, payload: &[u8], got: &mut Got) {
    let mut whole: Vec<u8> = Vec::new();
    while whole.len() < payload.len() + 8 {
        let packet = lab.peer.next("a fragment");
        for (packet, size) in packets_of(&packet, limit, got) {
            let seen = Seen::new(&packet);
            if seen.protocol() == UDP && seen.fragment() & (MF | 0x1fff) != 0 {
                assert_eq!(size, None);
                assert_eq!(usize::from(seen.fragment() & 0x1fff) * 8, whole.len(), "not the next fragment");
                whole.extend(seen.transport());
            }
        }
    }
    assert!(whole[8..] == *payload, "the datagram is not what was sent");
    assert!(lab.peer.next_within(Duration::from_millis(20)).is_none(), "a packet arrived twice");
}
