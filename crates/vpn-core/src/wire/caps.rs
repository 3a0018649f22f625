//! Capabilities: the magic `CFV1`, then TLVs (type 1 byte, length 1 byte, value), integers little-endian.

use super::WireError;
use std::net::Ipv4Addr;

/// The magic in front of the capabilities in ADDR_REQUEST and ADDR_REPLY.
pub const CAPS_MAGIC: [u8; 4] = *b"CFV1";

/// The largest number of DNS servers that one side announces.
pub const MAX_DNS: usize = 8;

const BUNDLE: u8 = 1;
const MTU: u8 = 2;
const DNS: u8 = 3;
const KEEP_ALIVE: u8 = 4;
const RESUME: u8 = 5;

/// The capabilities that a request offers or a reply accepts. The default is that of a peer without capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest bundle that this side accepts, in bytes of data behind the VPN packet header. 0: no bundles.
    pub bundle: Option<u16>,
    /// The MTU of the tunnel, in bytes of an inner packet.
    pub mtu: Option<u16>,
    /// The DNS servers inside the tunnel, at most [`MAX_DNS`]; more are not sent.
    pub dns: Vec<Ipv4Addr>,
    /// The interval of keep-alive pings in seconds.
    pub keep_alive: Option<u16>,
    /// The token of a lease: in a request that of the last lease, in a reply the one to show next time.
    pub resume: Option<[u8; 16]>,
}

impl Capabilities {
    /// Parses the TLVs behind the magic.
    ///
    /// Unknown types are skipped, and the last of repeated ones counts. A TLV that exceeds the data, or a known one
    /// with a wrong length, is [`WireError::BadTlv`].
    pub fn parse(tlvs: &[u8]) -> Result<Self, WireError> {
        let mut caps = Capabilities::default();
        let mut rest = tlvs;
        while !rest.is_empty() {
            let (&[kind, len], behind) = rest.split_first_chunk::<2>().ok_or(WireError::BadTlv { kind: 0 })?;
            let (value, behind) = behind.split_at_checked(usize::from(len)).ok_or(WireError::BadTlv { kind })?;
            caps.set(kind, value).ok_or(WireError::BadTlv { kind })?;
            rest = behind;
        }
        Ok(caps)
    }

    /// Appends the magic and the TLVs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&CAPS_MAGIC);
        let mut u16_tlv = |kind, value: Option<u16>| {
            if let Some(value) = value {
                let [low, high] = value.to_le_bytes();
                out.extend_from_slice(&[kind, 2, low, high]);
            }
        };
        u16_tlv(BUNDLE, self.bundle);
        u16_tlv(MTU, self.mtu);
        u16_tlv(KEEP_ALIVE, self.keep_alive);
        let dns = self.dns.get(..MAX_DNS).unwrap_or(&self.dns);
        if !dns.is_empty() {
            // At most 32: MAX_DNS bounds it.
            out.extend_from_slice(&[DNS, (dns.len() * 4) as u8]);
            dns.iter().for_each(|server| out.extend_from_slice(&server.octets()));
        }
        if let Some(token) = &self.resume {
            out.extend_from_slice(&[RESUME, 16]);
            out.extend_from_slice(token);
        }
    }

    /// Sets a known capability; `None` if its value has a wrong length.
    fn set(&mut self, kind: u8, value: &[u8]) -> Option<()> {
        match kind {
            BUNDLE => self.bundle = Some(u16_value(value)?),
            MTU => self.mtu = Some(u16_value(value)?),
            KEEP_ALIVE => self.keep_alive = Some(u16_value(value)?),
            RESUME => self.resume = Some(value.try_into().ok()?),
            DNS => {
                let (servers, tail) = value.as_chunks::<4>();
                if servers.is_empty() || servers.len() > MAX_DNS || !tail.is_empty() {
                    return None;
                }
                self.dns = servers.iter().map(|octets| Ipv4Addr::from(*octets)).collect();
            }
            _ => {}
        }
        Some(())
    }
}

fn u16_value(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_stable() {
        let caps = Capabilities {
            bundle: Some(0x1234),
            mtu: Some(1400),
            dns: vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(9, 9, 9, 9)],
            keep_alive: Some(25),
            resume: Some([7; 16]),
        };
        let mut out = Vec::new();
        caps.encode(&mut out);
        let mut expected = b"CFV1\x01\x02\x34\x12\x02\x02\x78\x05\x04\x02\x19\x00".to_vec();
        expected.extend_from_slice(&[3, 8, 10, 0, 0, 1, 9, 9, 9, 9, 5, 16]);
        expected.extend_from_slice(&[7; 16]);
        assert_eq!(out, expected);
        assert_eq!(Capabilities::parse(&out[4..]), Ok(caps));
    }

    #[test]
    fn no_capabilities_is_the_magic_alone() {
        let mut out = Vec::new();
        Capabilities::default().encode(&mut out);
        assert_eq!(out, CAPS_MAGIC);
        assert_eq!(Capabilities::parse(&[]), Ok(Capabilities::default()));
    }

    #[test]
    fn unknown_types_are_skipped_and_the_last_of_a_repeated_one_counts() {
        let tlvs = [0x77, 3, 1, 2, 3, MTU, 2, 1, 0, 0, 0, MTU, 2, 2, 0, 0xff, 0];
        assert_eq!(Capabilities::parse(&tlvs), Ok(Capabilities { mtu: Some(2), ..Capabilities::default() }));
    }

    #[test]
    fn cut_off_and_wrong_lengths_are_refused() {
        assert_eq!(Capabilities::parse(&[MTU]), Err(WireError::BadTlv { kind: 0 }));
        assert_eq!(Capabilities::parse(&[0x77, 2, 0]), Err(WireError::BadTlv { kind: 0x77 }));
        for (kind, good) in [(BUNDLE, 2), (MTU, 2), (KEEP_ALIVE, 2), (RESUME, 16)] {
            for len in 0..=40_u8 {
                let mut tlv = vec![kind, len];
                tlv.resize(2 + usize::from(len), 0);
                let parsed = Capabilities::parse(&tlv);
                assert_eq!(parsed.is_ok(), len == good, "type {kind} length {len}");
                assert!(parsed.is_ok() || parsed == Err(WireError::BadTlv { kind }));
            }
        }
        for len in 0..=40_u8 {
            let mut tlv = vec![DNS, len];
            tlv.resize(2 + usize::from(len), 0);
            let good = len > 0 && len <= 32 && len % 4 == 0;
            assert_eq!(Capabilities::parse(&tlv).is_ok(), good, "{len} bytes of DNS servers");
        }
    }

    #[test]
    fn more_dns_servers_than_allowed_are_not_sent() {
        let all: Vec<_> = (0..12).map(|host| Ipv4Addr::new(10, 0, 0, host)).collect();
        let mut out = Vec::new();
        Capabilities { dns: all.clone(), ..Capabilities::default() }.encode(&mut out);
        assert_eq!(Capabilities::parse(&out[4..]).unwrap().dns, all[..MAX_DNS]);
    }
}
