//! VPN packets of channel 'S': a 20 byte header and data.

use super::WireError;
use super::caps::{CAPS_MAGIC, Capabilities};
use super::reader::Reader;
use std::net::Ipv4Addr;

/// The length of the VPN packet header, in bytes (`dap_stream_ch_vpn_pkt_t::header`).
pub const HEADER_LEN: usize = 20;

/// The op codes of VPN packets that this implementation uses (`VPN_PACKET_OP_CODE_*`).
pub mod op {
    /// Both ways: reports a failure. The header's value is a code of [`problem`](super::problem).
    pub const PROBLEM: u32 = 0xae;
    /// Client -> server: asks for an address; the data is empty or capabilities.
    pub const ADDR_REQUEST: u32 = 0xb2;
    /// Server -> client: the leased address and the gateway.
    pub const ADDR_REPLY: u32 = 0xb3;
    /// Client -> server: one whole IPv4 packet.
    pub const VPN_SEND: u32 = 0xbc;
    /// Server -> client: one whole IPv4 packet.
    pub const VPN_RECV: u32 = 0xbd;
    /// Client -> server: a bundle of records; only after both sides announced bundles.
    pub const BUNDLE_SEND: u32 = 0xbe;
    /// Server -> client: a bundle of records; only after both sides announced bundles.
    pub const BUNDLE_RECV: u32 = 0xbf;
    /// Both ways: refreshes the session; answered with [`PONG`].
    pub const PING: u32 = 0xc0;
    /// Both ways: the answer to [`PING`].
    pub const PONG: u32 = 0xc1;
}

/// Codes of a PROBLEM packet (`VPN_PROBLEM_CODE_*`).
pub mod problem {
    /// The pool is exhausted.
    pub const NO_FREE_ADDR: u32 = 1;
    /// The server's tunnel is down.
    pub const TUNNEL_DOWN: u32 = 2;
    /// A packet was lost.
    pub const PACKET_LOST: u32 = 3;
    /// This session already holds an address.
    pub const ALREADY_ASSIGNED_ADDR: u32 = 4;
}

/// The header of a VPN packet, all integers little-endian on the wire.
///
/// Its last four bytes are padding: written as zero and ignored on reading, since legacy peers leave garbage there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Not used for IP traffic; legacy peers put a descriptor here.
    pub sock_id: i32,
    /// One of [`op`].
    pub op: u32,
    /// The number of the usage, from the service channel's SUCCESS.
    pub usage_id: u32,
    /// The size of the data behind the header, in bytes; for [`op::PROBLEM`] its code, at the same offset.
    pub value: u32,
}

impl Header {
    /// Splits a VPN packet into its header and the bytes behind it, without a check of their number.
    pub fn parse(packet: &[u8]) -> Result<(Header, &[u8]), WireError> {
        let mut reader = Reader::new(packet);
        let header =
            Header { sock_id: reader.i32()?, op: reader.u32()?, usage_id: reader.u32()?, value: reader.u32()? };
        reader.take::<4>()?;
        Ok((header, reader.rest()))
    }

    /// Writes the header to `out`.
    pub fn write_to(&self, out: &mut [u8; HEADER_LEN]) {
        *out = self.to_bytes();
    }

    /// The header in its wire format.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&self.sock_id.to_le_bytes());
        out[4..8].copy_from_slice(&self.op.to_le_bytes());
        out[8..12].copy_from_slice(&self.usage_id.to_le_bytes());
        out[12..16].copy_from_slice(&self.value.to_le_bytes());
        out
    }
}

/// The messages that a server accepts from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient<'a> {
    /// Asks for an address, with the client's capabilities; the default if it announced none.
    AddrRequest(Capabilities),
    /// Bytes that claim to be one IPv4 packet; not checked yet.
    Send(&'a [u8]),
    /// Bytes that claim to be bundle records; not checked yet.
    Bundle(&'a [u8]),
    /// Refreshes the session.
    Ping,
    /// Answers a ping.
    Pong,
}

/// Parses a VPN packet that a client sent.
///
/// Errors: [`WireError::UnexpectedOp`] for ops that only servers send, above all ADDR_REPLY;
/// [`WireError::SizeMismatch`], [`WireError::TooShort`], [`WireError::BadTlv`].
///
/// ```
/// use vpn_core::wire::{FromClient, WireError, encode_control, op, parse_from_client};
///
/// let ping = encode_control(op::PING, 7, 0);
/// let (header, message) = parse_from_client(&ping)?;
/// assert_eq!((header.usage_id, message), (7, FromClient::Ping));
///
/// // Only a server sends addresses.
/// let reply = encode_control(op::ADDR_REPLY, 7, 0);
/// assert_eq!(parse_from_client(&reply), Err(WireError::UnexpectedOp(op::ADDR_REPLY)));
/// # Ok::<(), WireError>(())
/// ```
pub fn parse_from_client(packet: &[u8]) -> Result<(Header, FromClient<'_>), WireError> {
    let (header, data) = Header::parse(packet)?;
    let message = match header.op {
        op::ADDR_REQUEST => FromClient::AddrRequest(parse_addr_request(&header, data)?),
        op::VPN_SEND => FromClient::Send(sized(&header, data)?),
        op::BUNDLE_SEND => FromClient::Bundle(sized(&header, data)?),
        op::PING => FromClient::Ping,
        op::PONG => FromClient::Pong,
        other => return Err(WireError::UnexpectedOp(other)),
    };
    Ok((header, message))
}

/// The messages that a client accepts from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer<'a> {
    /// The lease.
    AddrReply(AddrReply),
    /// Bytes that claim to be one IPv4 packet; not checked yet.
    Recv(&'a [u8]),
    /// Bytes that claim to be bundle records; not checked yet.
    Bundle(&'a [u8]),
    /// A code of [`problem`], or an unknown one.
    Problem(u32),
    /// Refreshes the session.
    Ping,
    /// Answers a ping.
    Pong,
}

/// Parses a VPN packet that a server sent. Errors as [`parse_from_client`], and [`WireError::BadNetmask`].
///
/// ```
/// use std::net::Ipv4Addr;
/// use vpn_core::wire::{AddrReply, FromServer, WireError, parse_from_server};
///
/// let lease = AddrReply {
///     addr: Ipv4Addr::new(10, 98, 0, 2),
///     gateway: Ipv4Addr::new(10, 98, 0, 1),
///     netmask: None,
///     caps: None,
/// };
/// let packet = lease.encode(7, 0);
/// assert_eq!(packet.len(), 28);
///
/// let (header, message) = parse_from_server(&packet)?;
/// assert_eq!((header.usage_id, message), (7, FromServer::AddrReply(lease)));
/// # Ok::<(), WireError>(())
/// ```
pub fn parse_from_server(packet: &[u8]) -> Result<(Header, FromServer<'_>), WireError> {
    let (header, data) = Header::parse(packet)?;
    let message = match header.op {
        op::ADDR_REPLY => FromServer::AddrReply(AddrReply::parse(sized(&header, data)?)?),
        op::VPN_RECV => FromServer::Recv(sized(&header, data)?),
        op::BUNDLE_RECV => FromServer::Bundle(sized(&header, data)?),
        op::PROBLEM => FromServer::Problem(header.value),
        op::PING => FromServer::Ping,
        op::PONG => FromServer::Pong,
        other => return Err(WireError::UnexpectedOp(other)),
    };
    Ok((header, message))
}

/// The data of an ADDR_REPLY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddrReply {
    /// The address leased to the client.
    pub addr: Ipv4Addr,
    /// The server's own address in the subnet.
    pub gateway: Ipv4Addr,
    /// The subnet's netmask. It is sent only together with `caps`: a plain reply has no field for it.
    pub netmask: Option<Ipv4Addr>,
    /// The capabilities that the server accepts; `None` for a client that announced none (the reply is then
    /// byte-identical to the legacy reply) and from a legacy server.
    pub caps: Option<Capabilities>,
}

impl AddrReply {
    /// Returns the whole VPN packet, header included. Without `caps` it is exactly 28 bytes. With `caps` and no
    /// netmask, the netmask field is 0.0.0.0, which [`parse_from_server`] reads as `None`.
    pub fn encode(&self, usage_id: u32, sock_id: i32) -> Vec<u8> {
        let mut data = Vec::with_capacity(8);
        data.extend_from_slice(&self.addr.octets());
        data.extend_from_slice(&self.gateway.octets());
        if let Some(caps) = &self.caps {
            data.extend_from_slice(&self.netmask.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
            caps.encode(&mut data);
        }
        with_header(sock_id, op::ADDR_REPLY, usage_id, &data)
    }

    fn parse(data: &[u8]) -> Result<AddrReply, WireError> {
        let mut reader = Reader::new(data);
        let (addr, gateway) = (reader.ipv4()?, reader.ipv4()?);
        let plain = AddrReply { addr, gateway, netmask: None, caps: None };
        // The data that follows is ours only if it starts with the magic; other implementations may append their own.
        let Some((netmask, rest)) = reader.rest().split_first_chunk::<4>() else { return Ok(plain) };
        let Some(tlvs) = rest.strip_prefix(CAPS_MAGIC.as_slice()) else { return Ok(plain) };
        let mask = u32::from_be_bytes(*netmask);
        if mask.leading_ones() + mask.trailing_zeros() < u32::BITS {
            return Err(WireError::BadNetmask(Ipv4Addr::from(mask)));
        }
        let netmask = (mask != 0).then(|| Ipv4Addr::from(mask));
        Ok(AddrReply { netmask, caps: Some(Capabilities::parse(tlvs)?), ..plain })
    }
}

/// Returns a whole ADDR_REQUEST packet: with `None` the 20 bytes that every server accepts, with `Some` followed by the
/// capabilities.
///
/// ```
/// use vpn_core::wire::{Capabilities, FromClient, HEADER_LEN, WireError, encode_addr_request, parse_from_client};
///
/// assert_eq!(encode_addr_request(7, None).len(), HEADER_LEN);
///
/// let caps = Capabilities { mtu: Some(1390), ..Capabilities::default() };
/// let packet = encode_addr_request(7, Some(&caps));
/// assert_eq!(parse_from_client(&packet)?.1, FromClient::AddrRequest(caps));
/// # Ok::<(), WireError>(())
/// ```
pub fn encode_addr_request(usage_id: u32, caps: Option<&Capabilities>) -> Vec<u8> {
    let mut data = Vec::new();
    if let Some(caps) = caps {
        caps.encode(&mut data);
    }
    with_header(0, op::ADDR_REQUEST, usage_id, &data)
}

/// Writes the header of a VPN packet in front of its data; returns the whole packet.
pub fn write_header(packet: &mut [u8], op: u32, usage_id: u32) -> &[u8] {
    let value = packet.len().saturating_sub(HEADER_LEN) as u32;
    if let Some(front) = packet.first_chunk_mut() {
        Header { sock_id: 0, op, usage_id, value }.write_to(front);
    }
    packet
}

/// Returns a packet without data: PING and PONG (`value` 0), or PROBLEM (`value` is the code).
pub fn encode_control(op: u32, usage_id: u32, value: u32) -> [u8; HEADER_LEN] {
    Header { sock_id: 0, op, usage_id, value }.to_bytes()
}

/// Returns the data if the header's size matches it.
fn sized<'a>(header: &Header, data: &'a [u8]) -> Result<&'a [u8], WireError> {
    let declared = usize::try_from(header.value).unwrap_or(usize::MAX);
    if declared == data.len() { Ok(data) } else { Err(WireError::SizeMismatch { declared, present: data.len() }) }
}

/// Data without our magic belongs to a client without capabilities. Neither it nor its size is looked at: the C module
/// reads neither.
fn parse_addr_request(header: &Header, data: &[u8]) -> Result<Capabilities, WireError> {
    if !data.starts_with(&CAPS_MAGIC) {
        return Ok(Capabilities::default());
    }
    Capabilities::parse(sized(header, data)?.get(CAPS_MAGIC.len()..).unwrap_or_default())
}

fn with_header(sock_id: i32, op: u32, usage_id: u32, data: &[u8]) -> Vec<u8> {
    // Packets that are sent this way have a few hundred bytes at most.
    let value = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER_LEN + data.len());
    out.extend_from_slice(&Header { sock_id, op, usage_id, value }.to_bytes());
    out.extend_from_slice(data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

    fn packet(op: u32, value: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Header { sock_id: -7, op, usage_id: 9, value }.to_bytes().to_vec();
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn header_layout_matches_the_abi() {
        let header = Header { sock_id: -2, op: 0x0403_0201, usage_id: 0x0807_0605, value: 0x0c0b_0a09 };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [0xfe, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0]);
        let mut written = [0xaa; HEADER_LEN];
        header.write_to(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn padding_is_ignored_and_a_short_header_is_refused() {
        let mut bytes = encode_control(op::PING, 3, 0);
        bytes[16..].fill(0x5a);
        assert_eq!(parse_from_client(&bytes).unwrap().1, FromClient::Ping);
        for len in 0..HEADER_LEN {
            assert_eq!(Header::parse(&bytes[..len]), Err(WireError::TooShort { len }));
            assert_eq!(parse_from_client(&bytes[..len]), Err(WireError::TooShort { len }));
            assert_eq!(parse_from_server(&bytes[..len]), Err(WireError::TooShort { len }));
        }
    }

    #[test]
    fn each_side_accepts_only_what_the_other_may_send() {
        for op in (0..0x200).chain([u32::MAX]) {
            let bytes = packet(op, 8, &[0; 8]);
            let by_client = matches!(op, op::ADDR_REQUEST | op::VPN_SEND | op::BUNDLE_SEND | op::PING | op::PONG);
            let by_server =
                matches!(op, op::ADDR_REPLY | op::VPN_RECV | op::BUNDLE_RECV | op::PROBLEM | op::PING | op::PONG);
            let unexpected = Err(WireError::UnexpectedOp(op));
            assert_eq!(parse_from_client(&bytes).map(|_| ()), if by_client { Ok(()) } else { unexpected.clone() });
            assert_eq!(parse_from_server(&bytes).map(|_| ()), if by_server { Ok(()) } else { unexpected });
        }
    }

    #[test]
    fn data_reaches_the_caller_and_a_wrong_size_is_refused() {
        let good = packet(op::VPN_SEND, 3, b"abc");
        let (header, message) = parse_from_client(&good).unwrap();
        assert_eq!((header.usage_id, header.sock_id), (9, -7));
        assert_eq!(message, FromClient::Send(b"abc"));
        assert_eq!(parse_from_client(&packet(op::BUNDLE_SEND, 3, b"abc")).unwrap().1, FromClient::Bundle(b"abc"));
        assert_eq!(parse_from_server(&packet(op::VPN_RECV, 3, b"abc")).unwrap().1, FromServer::Recv(b"abc"));
        assert_eq!(parse_from_server(&packet(op::BUNDLE_RECV, 3, b"abc")).unwrap().1, FromServer::Bundle(b"abc"));
        for declared in [0, 2, 4, u32::MAX] {
            let expected = WireError::SizeMismatch { declared: declared as usize, present: 3 };
            for op in [op::VPN_SEND, op::BUNDLE_SEND] {
                assert_eq!(parse_from_client(&packet(op, declared, b"abc")), Err(expected.clone()));
            }
            // Only capabilities have a size; a legacy client's request is served whatever it says.
            let legacy = packet(op::ADDR_REQUEST, declared, b"abc");
            assert_eq!(parse_from_client(&legacy).unwrap().1, FromClient::AddrRequest(Capabilities::default()));
            let expected = WireError::SizeMismatch { declared: declared as usize, present: 7 };
            let sized = packet(op::ADDR_REQUEST, declared, b"CFV1\x63\x01\x00");
            assert_eq!(parse_from_client(&sized), Err(expected));
            let expected = WireError::SizeMismatch { declared: declared as usize, present: 3 };
            for op in [op::VPN_RECV, op::BUNDLE_RECV, op::ADDR_REPLY] {
                assert_eq!(parse_from_server(&packet(op, declared, b"abc")), Err(expected.clone()));
            }
        }
    }

    #[test]
    fn control_packets_carry_no_size() {
        let garbage = packet(op::PONG, 0xdead_beef, b"xy");
        assert_eq!(parse_from_client(&garbage).unwrap().1, FromClient::Pong);
        assert_eq!(parse_from_server(&garbage).unwrap().1, FromServer::Pong);
        let problem = encode_control(op::PROBLEM, 5, problem::ALREADY_ASSIGNED_ADDR);
        let (header, message) = parse_from_server(&problem).unwrap();
        assert_eq!((header.usage_id, message), (5, FromServer::Problem(4)));
    }

    #[test]
    fn address_request_with_and_without_capabilities() {
        let plain = encode_addr_request(7, None);
        assert_eq!(plain, encode_control(op::ADDR_REQUEST, 7, 0));
        assert_eq!(parse_from_client(&plain).unwrap().1, FromClient::AddrRequest(Capabilities::default()));
        let caps = Capabilities { mtu: Some(1400), ..Capabilities::default() };
        let announced = encode_addr_request(7, Some(&caps));
        let (header, message) = parse_from_client(&announced).unwrap();
        assert_eq!((header.value, message), (8, FromClient::AddrRequest(caps)));
        // Another implementation's extension is not a capability.
        let foreign = packet(op::ADDR_REQUEST, 6, b"CFV2\x02\x09");
        assert_eq!(parse_from_client(&foreign).unwrap().1, FromClient::AddrRequest(Capabilities::default()));
        let cut = packet(op::ADDR_REQUEST, 6, b"CFV1\x02\x02");
        assert_eq!(parse_from_client(&cut), Err(WireError::BadTlv { kind: 2 }));
    }

    #[test]
    fn plain_reply_is_28_bytes_in_network_order() {
        let reply = AddrReply { addr: ADDR, gateway: GATEWAY, netmask: Some(MASK), caps: None };
        let bytes = reply.encode(0x11, -1);
        let mut expected = vec![0xff, 0xff, 0xff, 0xff, 0xb3, 0, 0, 0, 0x11, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(bytes, expected);
        let plain = AddrReply { netmask: None, ..reply };
        assert_eq!(parse_from_server(&bytes).unwrap().1, FromServer::AddrReply(plain));
    }

    #[test]
    fn reply_with_capabilities_carries_the_netmask() {
        let caps = Some(Capabilities { dns: vec![GATEWAY], ..Capabilities::default() });
        for netmask in [Some(MASK), None] {
            let reply = AddrReply { addr: ADDR, gateway: GATEWAY, netmask, caps: caps.clone() };
            assert_eq!(parse_from_server(&reply.encode(1, 2)).unwrap().1, FromServer::AddrReply(reply));
        }
    }

    #[test]
    fn reply_tolerates_foreign_bytes_but_not_malformed_capabilities() {
        let plain = FromServer::AddrReply(AddrReply { addr: ADDR, gateway: GATEWAY, netmask: None, caps: None });
        let mut data = vec![10, 0, 0, 2, 10, 0, 0, 1];
        for extra in [b"".as_slice(), b"x", &[255, 255, 255, 0], b"\xff\xff\xff\x00CFV0"] {
            data.truncate(8);
            data.extend_from_slice(extra);
            let bytes = packet(op::ADDR_REPLY, data.len() as u32, &data);
            assert_eq!(parse_from_server(&bytes).unwrap().1, plain, "{extra:?}");
        }
        assert_eq!(parse_from_server(&packet(op::ADDR_REPLY, 7, &data[..7])), Err(WireError::TooShort { len: 7 }));
        data.truncate(8);
        data.extend_from_slice(b"\xff\x00\xff\x00CFV1");
        let bytes = packet(op::ADDR_REPLY, data.len() as u32, &data);
        assert_eq!(parse_from_server(&bytes), Err(WireError::BadNetmask(Ipv4Addr::new(255, 0, 255, 0))));
    }
}
