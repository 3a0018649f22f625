//! The check of a server on the service channel 'R': data to the server and back, with hashes and time stamps.

use super::WireError;
use super::reader::Reader;
use sha3::{Digest, Sha3_256};

/// CHECK_REQUEST and CHECK_RESPONSE: a test of a server, the same message both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The usage, or 0.
    pub usage_id: u32,
    /// The network.
    pub net_id: u64,
    /// The service: 1 is the VPN.
    pub srv_uid: u64,
    /// The time that the client took to connect, in milliseconds.
    pub time_connect_ms: i32,
    /// When the client received the response, in nanoseconds of Unix time by the client's clock. The next three are in
    /// the same unit.
    pub recv_time1: u64,
    /// When the server received the request, by the server's clock.
    pub recv_time2: u64,
    /// When the client sent the request.
    pub send_time1: u64,
    /// When the server sent the response, by the server's clock.
    pub send_time2: u64,
    /// The host that sends the request, NUL padded text.
    pub host_send: [u8; 256],
    /// The host that receives the request, NUL padded text.
    pub host_recv: [u8; 256],
    /// 0, or one of [`error_code`](super::error_code).
    pub err_code: i32,
    /// The size of the data that the client sends, in bytes.
    pub data_size_send: u64,
    /// The size of the data that the client requests, in bytes.
    pub data_size_recv: u64,
    /// The size of the data behind this message's fixed part, in bytes.
    pub data_size: u64,
    /// [`Check::hash`] of that data.
    pub data_hash: [u8; 32],
}

impl Default for Check {
    fn default() -> Self {
        Check {
            usage_id: 0,
            net_id: 0,
            srv_uid: 0,
            time_connect_ms: 0,
            recv_time1: 0,
            recv_time2: 0,
            send_time1: 0,
            send_time2: 0,
            host_send: [0; 256],
            host_recv: [0; 256],
            err_code: 0,
            data_size_send: 0,
            data_size_recv: 0,
            data_size: 0,
            data_hash: [0; 32],
        }
    }
}

impl Check {
    /// The length of the fixed part on the wire, in bytes.
    pub const LEN: usize = 628;

    /// Returns the message with `data` behind it. `data_size` is set to the length of `data`, so that the message is
    /// consistent; every other field is sent as it is.
    pub fn encode(&self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN + data.len());
        out.extend_from_slice(&self.usage_id.to_le_bytes());
        out.extend_from_slice(&self.net_id.to_le_bytes());
        out.extend_from_slice(&self.srv_uid.to_le_bytes());
        out.extend_from_slice(&self.time_connect_ms.to_le_bytes());
        for time in [self.recv_time1, self.recv_time2, self.send_time1, self.send_time2] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        out.extend_from_slice(&self.host_send);
        out.extend_from_slice(&self.host_recv);
        out.extend_from_slice(&self.err_code.to_le_bytes());
        for size in [self.data_size_send, self.data_size_recv, data.len() as u64] {
            out.extend_from_slice(&size.to_le_bytes());
        }
        out.extend_from_slice(&self.data_hash);
        out.extend_from_slice(data);
        out
    }

    /// Splits a message into its fixed part and its data. Errors: [`WireError::TooShort`], and
    /// [`WireError::SizeMismatch`] if `data_size` differs from the data present. The caller compares the hash.
    ///
    /// ```
    /// use vpn_core::wire::{Check, WireError};
    ///
    /// let data = [0xab; 1024];
    /// let request = Check { srv_uid: 1, data_hash: Check::hash(&data), ..Check::default() };
    /// let message = request.encode(&data);
    ///
    /// let (check, received) = Check::parse(&message)?;
    /// assert_eq!(check.data_size, 1024);
    /// assert_eq!(check.data_hash, Check::hash(received));
    /// # Ok::<(), WireError>(())
    /// ```
    pub fn parse(packet: &[u8]) -> Result<(Check, &[u8]), WireError> {
        let mut reader = Reader::new(packet);
        let check = Check {
            usage_id: reader.u32()?,
            net_id: reader.u64()?,
            srv_uid: reader.u64()?,
            time_connect_ms: reader.i32()?,
            recv_time1: reader.u64()?,
            recv_time2: reader.u64()?,
            send_time1: reader.u64()?,
            send_time2: reader.u64()?,
            host_send: reader.take()?,
            host_recv: reader.take()?,
            err_code: reader.i32()?,
            data_size_send: reader.u64()?,
            data_size_recv: reader.u64()?,
            data_size: reader.u64()?,
            data_hash: reader.take()?,
        };
        let data = reader.rest();
        let declared = usize::try_from(check.data_size).unwrap_or(usize::MAX);
        if declared != data.len() {
            return Err(WireError::SizeMismatch { declared, present: data.len() });
        }
        Ok((check, data))
    }

    /// Returns the SHA3-256 (FIPS 202) of the data, the hash that this network uses everywhere.
    pub fn hash(data: &[u8]) -> [u8; 32] {
        Sha3_256::digest(data).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_layout() {
        let check = Check {
            usage_id: 1,
            net_id: 2,
            srv_uid: 3,
            time_connect_ms: -4,
            recv_time1: 5,
            recv_time2: 6,
            send_time1: 7,
            send_time2: 8,
            host_send: [9; 256],
            host_recv: [10; 256],
            err_code: -11,
            data_size_send: 12,
            data_size_recv: 13,
            data_size: 3,
            data_hash: Check::hash(b"abc"),
        };
        let bytes = check.encode(b"abc");
        assert_eq!(bytes.len(), Check::LEN + 3);
        for (offset, value) in [(0, 1), (4, 2), (12, 3), (24, 5), (32, 6), (40, 7), (48, 8), (572, 12), (580, 13)] {
            assert_eq!(bytes[offset], value, "offset {offset}");
        }
        assert_eq!(bytes[20..24], (-4_i32).to_le_bytes());
        assert_eq!((bytes[56], bytes[311], bytes[312], bytes[567]), (9, 9, 10, 10));
        assert_eq!(bytes[568..572], (-11_i32).to_le_bytes());
        assert_eq!(bytes[588..596], 3_u64.to_le_bytes());
        assert_eq!(bytes[596..628], check.data_hash);
        assert_eq!(Check::parse(&bytes), Ok((check, b"abc".as_slice())));
    }

    #[test]
    fn check_sizes_are_checked() {
        let bytes = Check { data_size: 99, ..Check::default() }.encode(b"abc");
        assert_eq!(Check::parse(&bytes).unwrap().0.data_size, 3);
        assert_eq!(Check::parse(&bytes[..630]), Err(WireError::SizeMismatch { declared: 3, present: 2 }));
        assert_eq!(Check::parse(&bytes[..627]), Err(WireError::TooShort { len: 627 }));
        let mut huge = bytes;
        huge[588..596].fill(0xff);
        assert_eq!(Check::parse(&huge), Err(WireError::SizeMismatch { declared: usize::MAX, present: 3 }));
    }

    #[test]
    fn hash_is_sha3_256() {
        let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(Check::hash(b"abc")), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
        assert_eq!(hex(Check::hash(b"")), "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a");
    }
}
