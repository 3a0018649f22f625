//! Builds VPN packets by hand, as docs/wire.md defines them.

/// A client asks for an address.
pub const ADDR_REQUEST: u32 = 0xb2;
/// The server's answer to [`ADDR_REQUEST`].
pub const ADDR_REPLY: u32 = 0xb3;
/// A packet from the client.
pub const VPN_SEND: u32 = 0xbc;
/// A packet to the client.
pub const VPN_RECV: u32 = 0xbd;
/// A bundle from the client.
pub const BUNDLE_SEND: u32 = 0xbe;
/// A bundle to the client.
pub const BUNDLE_RECV: u32 = 0xbf;
/// Asks for a sign of life.
pub const PING: u32 = 0xc0;
/// The answer to [`PING`].
pub const PONG: u32 = 0xc1;

/// A VPN packet: header and data.
pub fn vpn(op: u32, usage: u32, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(20 + data.len());
    for field in [0, op, usage, data.len() as u32, 0] {
        packet.extend(field.to_le_bytes());
    }
    packet.extend(data);
    packet
}

/// The op code of a VPN packet.
pub fn op(packet: &[u8]) -> u32 {
    u32::from_le_bytes(*packet[4..].first_chunk().unwrap())
}
