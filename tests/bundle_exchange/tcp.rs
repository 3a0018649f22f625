//! TCP super-packets in both directions. The test builds the client's end of the connection by hand.

use std::io::Write;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, ipproto, socket, sockopt};
use testkit::inner::{ACK, CWR, ECE, Ip, PSH, RST, SYN, Seen, Sum, Tcp};
use testkit::netns::in_namespace;
use testkit::records::{Got, Vnet, packets_of, record};
use testkit::wire::{BUNDLE_SEND, VPN_SEND, vpn};
use testkit::{TEST_TIMEOUT, noise};

use crate::lab::{BUNDLES, GATEWAY, Lab};

/// The case's name, its IP header, its virtio header, TCP's flags and options, and the size of its payload.
type Case<'a> = (&'a str, &'a Ip, Vnet, u8, &'a [u8], usize);

/// Sends to a closed port; a raw socket receives the packets before TCP answers.
#[test]
fn super_packets_arrive_complete() {
    in_namespace("tcp::super_packets_arrive_complete", || {
        let lab = Lab::start("", &BUNDLES);
        let ports = (41_001, 41_002);
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::TCP)).unwrap();
        rustix::net::bind(&raw, &SocketAddrV4::new(GATEWAY, 0)).unwrap();
        let raw = UdpSocket::from(raw);
        let _ = sockopt::set_socket_recv_buffer_size_force(&raw, 16 << 20);
        raw.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (plain, options) = (lab.ip(), Ip { options: vec![1, 1, 1, 0], ..lab.ip() });
        let stamps = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let good = Vnet::tcp(1000);
        let cases: [Case<'_>; 12] = [
            ("plain", &plain, good, ACK, &[], 3500),
            ("PSH", &plain, good, ACK | PSH, &[], 3500),
            ("ECE", &plain, good, ACK | ECE, &[], 3500),
            ("CWR", &plain, Vnet { gso_type: 0x81, ..good }, ACK | CWR, &[], 3500),
            ("time stamps", &plain, Vnet { hdr_len: 52, ..good }, ACK, &stamps, 3500),
            ("IP options", &options, Vnet { csum_start: 24, ..good }, ACK, &[], 3500),
            ("both", &options, Vnet { csum_start: 24, ..good }, ACK, &stamps, 3500),
            ("80 bytes", &plain, Vnet::tcp(80), ACK, &[], 3500),
            ("81 bytes, unknown flags", &plain, Vnet { flags: 0xff, ..Vnet::tcp(81) }, ACK, &[], 3500),
            ("hdr_len 0", &plain, Vnet { hdr_len: 0, ..good }, ACK, &[], 3500),
            ("hdr_len 65535", &plain, Vnet { hdr_len: 65_535, ..good }, ACK, &[], 3500),
            ("64 KiB", &plain, Vnet::tcp(1350), ACK, &[], 65_000),
        ];
        for (number, (what, ip, vnet, flags, options, size)) in cases.into_iter().enumerate() {
            let payload = noise(number as u64, size);
            let seq = 1_000_000 * (number as u32 + 1);
            let tcp = Tcp { options: options.to_vec(), ..Tcp::new(seq, flags) };
            let packet = ip.tcp(ports, &tcp, &payload, Sum::Pseudo);
            let data = [lab.good(b"before"), record(vnet, &packet), lab.good(b"behind")].concat();
            lab.check(what, &data, &[b"before", b"behind"], &[]);
            let got = stream(&raw, ports, seq, size, flags, options, what);
            assert!(got == payload, "{what}: the bytes are not those that were sent");
        }
    });
}

/// Receives the bytes from `seq` on, in one packet or several, each with the super-packet's header values.
fn stream(raw: &UdpSocket, ports: (u16, u16), seq: u32, size: usize, flags: u8, options: &[u8], what: &str) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = vec![0; 65_536];
    while got.len() < size {
        let length = raw.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}, {} bytes: {error}", got.len()));
        let seen = Seen::new(&buffer[..length]);
        if seen.ports() != ports {
            continue;
        }
        let at = seen.seq().wrapping_sub(seq) as usize;
        assert_eq!(at, got.len(), "{what}: not the next bytes");
        got.extend(seen.payload());
        let should = (flags & !(PSH | CWR)) | if at == 0 { flags & CWR } else { 0 };
        let should = should | if got.len() == size { flags & PSH } else { 0 };
        assert_eq!(seen.flags(), should, "{what}: flags at byte {at}");
        assert_eq!(&seen.transport()[20..seen.transport().len() - seen.payload().len()], options, "{what}");
    }
    got
}

/// The server's kernel cuts no packets if its device has offload: each client gets what its request allows.
#[test]
fn a_stream_to_each_kind_of_client() {
    in_namespace("tcp::a_stream_to_each_kind_of_client", || {
        for (offer, limit) in [
            (BUNDLES.as_slice(), 65_535),
            (b"CFV1\x01\x02\xd0\x07", 2000),
            (b"CFV1\x01\x02\x10\x27", 10_000),
            (b"CFV1\x01\x02\x0d\x00", 13),
            (b"CFV1\x01\x02\x00\x00", 0),
            (b"", 0),
        ] {
            let lab = Lab::start("", offer);
            let payload = noise(9, 400_000);
            let down = download(&lab, &payload, limit, limit > 0);
            if limit == 65_535 {
                assert!(down.supers > 0, "no super-packet for a client that accepts all sizes: {down:?}");
            }
            if limit <= 13 {
                assert_eq!(down.bundles, 0, "{down:?}");
            }
        }
        let lab = Lab::start("offload=false\n", &BUNDLES);
        let down = download(&lab, &noise(9, 400_000), 0, false);
        assert_eq!(down.bundles, 0, "{down:?}");
    });
}

/// A connection that the client's side opens by hand; the server's host sends these bytes over it.
fn download(lab: &Lab, payload: &[u8], limit: usize, may_send_bundles: bool) -> Got {
    let listener = TcpListener::bind((GATEWAY, 0)).unwrap();
    let ports = (41_003, listener.local_addr().unwrap().port());
    let send = |tcp: &Tcp| {
        let packet = lab.ip().tcp(ports, tcp, &[], Sum::Right);
        lab.peer.send(&vpn(VPN_SEND, lab.peer.usage, &packet));
    };
    let mut down = Got::default();
    // MSS 1350, window scale 7.
    let hello = Tcp { ack: 0, options: vec![2, 4, 5, 70, 1, 3, 3, 7], ..Tcp::new(100, SYN) };
    send(&hello);
    let mut seq = None;
    while seq.is_none() {
        let packet = lab.peer.next("SYN, ACK");
        for (packet, _) in packets_of(&packet, limit, &mut down) {
            let seen = Seen::new(&packet);
            if seen.protocol() == 6 && seen.ports() == (ports.1, ports.0) {
                assert_eq!(seen.flags() & (SYN | ACK | RST), SYN | ACK);
                seq = Some(seen.seq().wrapping_add(1));
            }
        }
    }
    let first = seq.unwrap();
    let ack = |got: usize| Tcp { ack: first.wrapping_add(got as u32), ..Tcp::new(101, ACK) };
    send(&ack(0));
    let mut got: Vec<u8> = Vec::with_capacity(payload.len());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
            stream.write_all(payload).unwrap();
            // The end of the scope closes it, when everything has been read.
            std::thread::sleep(Duration::from_millis(1));
        });
        while got.len() < payload.len() {
            let packet = lab.peer.next("more of the stream");
            for (packet, _) in packets_of(&packet, limit, &mut down) {
                let seen = Seen::new(&packet);
                if seen.protocol() != 6 || seen.ports() != (ports.1, ports.0) {
                    continue;
                }
                assert_eq!(seen.flags() & RST, 0, "the server's kernel has given the connection up");
                let at = seen.seq().wrapping_sub(first) as usize;
                // A slow machine may cause retransmissions; nothing is lost here, so no segment is ahead.
                if at + seen.payload().len() > got.len() && at < payload.len() {
                    assert!(at <= got.len(), "bytes {} to {at} are missing, or the order is lost", got.len());
                    got.extend(&seen.payload()[got.len() - at..]);
                }
            }
            send(&ack(got.len()));
        }
        // The client has also sent it in bundles: the server must accept that from a client that may send them.
        if may_send_bundles {
            let reset = lab.ip().tcp(ports, &Tcp { seq: 101, ..ack(got.len()) }, &[], Sum::Right);
            lab.peer.send(&vpn(BUNDLE_SEND, lab.peer.usage, &record(Vnet::default(), &reset)));
        }
    });
    assert!(got == payload, "{limit}: the bytes are not those that were sent");
    lab.check_packets("afterwards", vec![], &[], &[]);
    down
}
