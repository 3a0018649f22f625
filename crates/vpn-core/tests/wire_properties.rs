//! Properties of the wire format: a value that is written is read back, and no bytes make a parser panic or return a
//! wrong value.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use vpn_core::wire::{
    AddrReply, CAPS_MAGIC, Capabilities, Check, FromClient, FromServer, HEADER_LEN, Header, MAX_DNS, Receipt, Request,
    ServiceError, Success, WireError, encode_addr_request, encode_control, inspect, op, parse_from_client,
    parse_from_server,
};

fn addresses() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let numbers = (option::of(any::<u16>()), option::of(any::<u16>()), option::of(any::<u16>()));
    (numbers, vec(addresses(), 0..=MAX_DNS), option::of(any::<[u8; 16]>()))
        .prop_map(|((bundle, mtu, keep_alive), dns, resume)| Capabilities { bundle, mtu, dns, keep_alive, resume })
}

/// A netmask that can be sent: on the wire 0.0.0.0 means none.
fn netmask() -> impl Strategy<Value = Option<Ipv4Addr>> {
    (0_u32..=32).prop_map(|prefix| (prefix > 0).then(|| Ipv4Addr::from(u32::MAX << (32 - prefix))))
}

/// Bytes that often look enough like a VPN packet to pass the header's check: an op in use; in two of three cases the
/// correct size; in half of the cases data that starts with the magic.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let data = (any::<bool>(), vec(any::<u8>(), 0..60)).prop_map(|(magic, mut data)| {
        if magic {
            let at = if data.len() > 12 { 12 } else { 0 };
            data.splice(at..at, CAPS_MAGIC);
        }
        data
    });
    (0xa9_u32..0xc3, data, prop_oneof![2 => Just(None), 1 => any::<u32>().prop_map(Some)], any::<[u8; 8]>()).prop_map(
        |(op, data, size, other)| {
            let value = size.unwrap_or(data.len() as u32);
            let [a, b, c, d, e, f, g, h] = other;
            let header = Header {
                sock_id: i32::from_le_bytes([a, b, c, d]),
                op,
                usage_id: u32::from_le_bytes([e, f, g, h]),
                value,
            };
            [header.to_bytes().as_slice(), &data].concat()
        },
    )
}

proptest! {
    #[test]
    fn headers_round_trip(sock_id: i32, op: u32, usage_id: u32, value: u32, data in vec(any::<u8>(), 0..40)) {
        let header = Header { sock_id, op, usage_id, value };
        let packet = [header.to_bytes().as_slice(), &data].concat();
        prop_assert_eq!(Header::parse(&packet), Ok((header, data.as_slice())));
    }

    #[test]
    fn data_packets_round_trip(usage_id: u32, data in vec(any::<u8>(), 0..2000)) {
        for op in [op::VPN_SEND, op::BUNDLE_SEND, op::VPN_RECV, op::BUNDLE_RECV] {
            let header = Header { sock_id: 0, op, usage_id, value: data.len() as u32 };
            let packet = [header.to_bytes().as_slice(), &data].concat();
            match op {
                op::VPN_SEND => prop_assert_eq!(parse_from_client(&packet), Ok((header, FromClient::Send(&data)))),
                op::BUNDLE_SEND => prop_assert_eq!(parse_from_client(&packet), Ok((header, FromClient::Bundle(&data)))),
                op::VPN_RECV => prop_assert_eq!(parse_from_server(&packet), Ok((header, FromServer::Recv(&data)))),
                _ => prop_assert_eq!(parse_from_server(&packet), Ok((header, FromServer::Bundle(&data)))),
            }
        }
    }

    #[test]
    fn capabilities_round_trip(caps in capabilities(), usage_id: u32) {
        let mut out = Vec::new();
        caps.encode(&mut out);
        prop_assert_eq!(&out[..4], CAPS_MAGIC.as_slice());
        prop_assert_eq!(Capabilities::parse(&out[4..]), Ok(caps.clone()));
        let request = encode_addr_request(usage_id, Some(&caps));
        let (header, message) = parse_from_client(&request).unwrap();
        prop_assert_eq!(header.usage_id, usage_id);
        prop_assert_eq!(message, FromClient::AddrRequest(caps));
    }

    #[test]
    fn truncated_capabilities_are_refused_except_between_two(caps in capabilities(), cut: prop::sample::Index) {
        let mut out = Vec::new();
        caps.encode(&mut out);
        let tlvs = &out[4..];
        let cut = cut.index(tlvs.len() + 1);
        let mut boundary = 0;
        while boundary < cut {
            boundary += 2 + usize::from(tlvs[boundary + 1]);
        }
        prop_assert_eq!(Capabilities::parse(&tlvs[..cut]).is_ok(), boundary == cut);
    }

    #[test]
    fn replies_round_trip(
        addr in addresses(), gateway in addresses(), netmask in netmask(), caps in option::of(capabilities()),
        usage_id: u32, sock_id: i32,
    ) {
        let reply = AddrReply { addr, gateway, netmask: netmask.filter(|_| caps.is_some()), caps };
        let packet = reply.encode(usage_id, sock_id);
        if reply.caps.is_none() {
            prop_assert_eq!(packet.len(), 28);
        }
        let (header, message) = parse_from_server(&packet).unwrap();
        prop_assert_eq!((header.usage_id, header.sock_id), (usage_id, sock_id));
        prop_assert_eq!(message, FromServer::AddrReply(reply));
    }

    #[test]
    fn control_packets_round_trip(usage_id: u32, code: u32) {
        let packet = encode_control(op::PROBLEM, usage_id, code);
        let header = Header { sock_id: 0, op: op::PROBLEM, usage_id, value: code };
        prop_assert_eq!(parse_from_server(&packet), Ok((header, FromServer::Problem(code))));
        prop_assert_eq!(parse_from_client(&packet), Err(WireError::UnexpectedOp(op::PROBLEM)));
    }

    #[test]
    fn an_accepted_message_matches_its_header(packet in packets()) {
        let present = packet.len() - HEADER_LEN;
        if let Ok((header, message)) = parse_from_client(&packet) {
            let sized = match message {
                FromClient::Send(data) | FromClient::Bundle(data) => {
                    prop_assert_eq!(data, &packet[HEADER_LEN..]);
                    true
                }
                FromClient::AddrRequest(_) => packet[HEADER_LEN..].starts_with(&CAPS_MAGIC),
                FromClient::Ping | FromClient::Pong => false,
            };
            prop_assert!(!sized || header.value as usize == present);
        }
        if let Ok((header, message)) = parse_from_server(&packet) {
            let sized = match message {
                FromServer::Recv(data) | FromServer::Bundle(data) => {
                    prop_assert_eq!(data, &packet[HEADER_LEN..]);
                    true
                }
                FromServer::AddrReply(reply) => {
                    prop_assert!(present >= 8);
                    prop_assert!(reply.netmask.is_none() || reply.caps.is_some());
                    true
                }
                FromServer::Problem(code) => {
                    prop_assert_eq!(code, header.value);
                    false
                }
                FromServer::Ping | FromServer::Pong => false,
            };
            prop_assert!(!sized || header.value as usize == present);
        }
    }

    #[test]
    fn no_bytes_panic_a_parser(bytes in vec(any::<u8>(), 0..700)) {
        let too_short = |minimum: usize| bytes.len() < minimum;
        prop_assert_eq!(Header::parse(&bytes).is_err(), too_short(HEADER_LEN));
        prop_assert_eq!(Request::parse(&bytes).is_err(), too_short(Request::LEN));
        prop_assert_eq!(Success::parse(&bytes).is_err(), too_short(Success::LEN));
        // The code alone has 4 bytes.
        prop_assert_eq!(ServiceError::parse(&bytes).is_err(), too_short(ServiceError::LEN) && bytes.len() != 4);
        prop_assert!(Receipt::parse(&bytes).is_err() || bytes.len() >= Receipt::LEN);
        prop_assert!(Check::parse(&bytes).is_err() || bytes.len() >= Check::LEN);
        prop_assert!(parse_from_client(&bytes).is_err() || bytes.len() >= HEADER_LEN);
        prop_assert!(parse_from_server(&bytes).is_err() || bytes.len() >= HEADER_LEN);
        if let Ok(caps) = Capabilities::parse(&bytes) {
            prop_assert!(caps.dns.len() <= MAX_DNS);
        }
        if let Ok(view) = inspect(&bytes) {
            prop_assert_eq!(view.total_len, bytes.len());
        }
    }

    #[test]
    fn service_messages_round_trip(
        net_id: u64, srv_uid: u64, usage_id: u32, code: u32, token: [u8; 10],
        tx_cond: [u8; 32], client_pkey_hash: [u8; 32], order_hash: [u8; 32],
    ) {
        let request = Request { net_id, tx_cond, srv_uid, token, client_pkey_hash, order_hash };
        prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
        let success = Success { usage_id, net_id, srv_uid };
        prop_assert_eq!(Success::parse(&success.encode()), Ok(success));
        let error = ServiceError { net_id, srv_uid, usage_id, code };
        prop_assert_eq!(ServiceError::parse(&error.encode()), Ok(error));
    }

    #[test]
    fn checks_round_trip(
        ids: (u32, u64, u64, i32, i32), times: [u64; 4], sizes: (u64, u64), host: u8,
        data in vec(any::<u8>(), 0..3000), extra in 1_usize..5,
    ) {
        let (usage_id, net_id, srv_uid, time_connect_ms, err_code) = ids;
        let [recv_time1, recv_time2, send_time1, send_time2] = times;
        let check = Check {
            usage_id,
            net_id,
            srv_uid,
            time_connect_ms,
            recv_time1,
            recv_time2,
            send_time1,
            send_time2,
            host_send: [host; 256],
            host_recv: [host.wrapping_add(1); 256],
            err_code,
            data_size_send: sizes.0,
            data_size_recv: sizes.1,
            data_size: data.len() as u64,
            data_hash: Check::hash(&data),
        };
        let mut packet = check.encode(&data);
        prop_assert_eq!(Check::parse(&packet), Ok((check, data.as_slice())));
        packet.resize(packet.len() + extra, 0);
        let mismatch = WireError::SizeMismatch { declared: data.len(), present: data.len() + extra };
        prop_assert_eq!(Check::parse(&packet), Err(mismatch));
    }
}
