//! Messages of the service channel 'R': the client's request for the service, and the server's answers.
//!
//! All structs are packed and little-endian on the wire. The structs here are values; the channel packet around them
//! belongs to the SDK.

use super::WireError;
use super::reader::Reader;

/// Types of channel packets on 'R'.
pub mod pkt {
    /// Client -> server: a [`Request`](super::Request).
    pub const REQUEST: u8 = 0x01;
    /// Server -> client: a receipt to be signed.
    pub const SIGN_REQUEST: u8 = 0x10;
    /// Client -> server: the signed receipt.
    pub const SIGN_RESPONSE: u8 = 0x11;
    /// Server -> client: the service has ended.
    pub const NOTIFY_STOPPED: u8 = 0x20;
    /// Client -> server: data of a service's own.
    pub const DATA: u8 = 0x30;
    /// Server -> client: asks for a new conditional transaction.
    pub const NEW_TX_COND_REQUEST: u8 = 0x40;
    /// Client -> server: gives a new conditional transaction.
    pub const NEW_TX_COND_RESPONSE: u8 = 0x41;
    /// Client -> server: a [`Check`](crate::wire::Check) with data.
    pub const CHECK_REQUEST: u8 = 0x50;
    /// Server -> client: the answer to CHECK_REQUEST.
    pub const CHECK_RESPONSE: u8 = 0x51;
    /// Server -> client: a [`Success`](super::Success).
    pub const SUCCESS: u8 = 0xf0;
    /// Server -> client: a [`ServiceError`](super::ServiceError).
    pub const ERROR: u8 = 0xff;
}

/// Codes of a [`ServiceError`].
pub mod error_code {
    /// The server does not offer this service.
    pub const SERVICE_NOT_FOUND: u32 = 0x100;
    /// The server has no channel for this service.
    pub const SERVICE_CH_NOT_FOUND: u32 = 0x101;
    /// The node's role is below master.
    pub const SERVICE_NODE_ROLE_ERROR: u32 = 0x103;
    /// The order is free and the server does not allow free service.
    pub const FREE_IS_NOT_ALLOWED: u32 = 0x104;
    /// The service does not accept the client after the SDK has.
    pub const SERVICE_INTERNAL_ERROR: u32 = 0x105;
    /// The server is not in this network.
    pub const NETWORK_NOT_FOUND: u32 = 0x200;
    /// The server's network is offline, so that nothing can be paid.
    pub const NETWORK_IS_OFFLINE: u32 = 0x202;
    /// The stream has a usage already.
    pub const CANT_ADD_USAGE: u32 = 0x300;
    /// No such conditional transaction.
    pub const TX_COND_NOT_FOUND: u32 = 0x400;
    /// The transaction has no conditional output.
    pub const TX_COND_NO_COND_OUT: u32 = 0x401;
    /// The conditional output does not hold enough.
    pub const TX_COND_NOT_ENOUGH: u32 = 0x402;
    /// The conditional output is of a token that the price does not name.
    pub const TX_COND_NOT_ACCEPT_TOKEN: u32 = 0x403;
    /// The conditional output is for another service.
    pub const TX_COND_WRONG_SRV_UID: u32 = 0x404;
    /// The client has no new conditional transaction.
    pub const TX_COND_NO_NEW_COND: u32 = 0x405;
    /// The message's size is wrong.
    pub const WRONG_SIZE: u32 = 0x406;
    /// The client requests or sends more data than allowed.
    pub const BIG_SIZE: u32 = 0x407;
    /// The new conditional transaction does not hold enough.
    pub const NEW_TX_COND_NOT_ENOUGH: u32 = 0x408;
    /// The conditional output counts in another unit than the price.
    pub const TX_COND_UNIT_TYPE_ERROR: u32 = 0x410;
    /// The payment could not be made.
    pub const TX_CREATION_ERROR: u32 = 0x411;
    /// The receipt differs from the one that was issued.
    pub const RECEIPT_CANT_FIND: u32 = 0x500;
    /// The receipt is not signed.
    pub const RECEIPT_NO_SIGN: u32 = 0x501;
    /// The receipt is signed by another key.
    pub const RECEIPT_WRONG_PKEY_HASH: u32 = 0x502;
    /// The receipt is signed by a banned key.
    pub const RECEIPT_BANNED_PKEY_HASH: u32 = 0x503;
    /// The price of a unit is above the conditional output's limit.
    pub const RECEIPT_UNITS_ERROR: u32 = 0x505;
    /// The receipt's version is not 2.
    pub const RECEIPT_WRONG_VERSION: u32 = 0x507;
    /// The server has no price for the request.
    pub const PRICE_ERROR: u32 = 0x600;
    /// The request names no order.
    pub const PRICE_NO_ORDER_HASH: u32 = 0x601;
    /// The request names no transaction.
    pub const PRICE_NO_TX_HASH: u32 = 0x602;
    /// Data does not match its hash.
    pub const WRONG_HASH: u32 = 0xBAD;
    /// Every error without its own code.
    pub const UNKNOWN: u32 = 0xffff_ffff;
}

/// Returns the meaning of an error code, for a log line or the CLI. For an unknown code it says so; print the number
/// beside it.
pub fn error_text(code: u32) -> &'static str {
    match code {
        error_code::SERVICE_NOT_FOUND => "the server does not offer this service",
        error_code::SERVICE_CH_NOT_FOUND => "the server has no channel for this service",
        error_code::SERVICE_NODE_ROLE_ERROR => "the server's node may not offer this service: its role is below master",
        error_code::FREE_IS_NOT_ALLOWED => "the server does not offer this service for free",
        error_code::SERVICE_INTERNAL_ERROR => "the server's service refused the client",
        error_code::NETWORK_IS_OFFLINE => "the server's network is offline, so nothing can be paid",
        error_code::CANT_ADD_USAGE => "the server serves this client, its transaction or this stream already",
        error_code::NETWORK_NOT_FOUND => "the server does not know this network",
        error_code::TX_COND_NOT_FOUND => "the server cannot find the conditional transaction",
        error_code::TX_COND_NO_COND_OUT => "the transaction has no conditional output",
        error_code::TX_COND_NOT_ENOUGH => "the conditional transaction does not hold enough for the price",
        error_code::TX_COND_NOT_ACCEPT_TOKEN => "the server does not accept the transaction's token",
        error_code::TX_COND_WRONG_SRV_UID => "the conditional transaction is for another service",
        error_code::TX_COND_NO_NEW_COND => "there is no new conditional transaction",
        error_code::NEW_TX_COND_NOT_ENOUGH => "the new conditional transaction does not hold enough for the price",
        error_code::TX_COND_UNIT_TYPE_ERROR => "the conditional transaction counts in another unit than the price",
        error_code::TX_CREATION_ERROR => "the server cannot make the payment: the transaction may be spent already",
        error_code::WRONG_SIZE => "the size of the message is wrong",
        error_code::BIG_SIZE => "the message is too big",
        error_code::RECEIPT_CANT_FIND => "the receipt differs from the one that the server issued",
        error_code::RECEIPT_NO_SIGN => "the receipt is not signed",
        error_code::RECEIPT_WRONG_PKEY_HASH => "the receipt is signed by another key",
        error_code::RECEIPT_BANNED_PKEY_HASH => "the receipt is signed by a banned key",
        error_code::RECEIPT_UNITS_ERROR => "the price of a unit is above the conditional transaction's limit",
        error_code::RECEIPT_WRONG_VERSION => "the receipt's version is not 2",
        error_code::PRICE_ERROR => "the server has no price for this request",
        error_code::PRICE_NO_ORDER_HASH => "the request names no order",
        error_code::PRICE_NO_TX_HASH => "the request names no conditional transaction",
        error_code::WRONG_HASH => "the data does not match its hash",
        error_code::UNKNOWN => "the server reports an error without a cause",
        _ => "the server reports an error that this version does not know",
    }
}

/// REQUEST: asks for a service.
///
/// ```
/// use vpn_core::wire::{Request, WireError};
///
/// let request = Request { srv_uid: 1, tx_cond: [1; 32], order_hash: [2; 32], ..Request::default() };
/// let message = request.encode();
/// assert_eq!(Request::parse(&message)?, request);
/// assert_eq!(Request::parse(&message[..100]), Err(WireError::TooShort { len: 100 }));
/// # Ok::<(), WireError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The network.
    pub net_id: u64,
    /// The hash of the conditional transaction that pays; any non-zero value for a free order.
    pub tx_cond: [u8; 32],
    /// The service: 1 is the VPN.
    pub srv_uid: u64,
    /// The ticker of the token, NUL padded.
    pub token: [u8; 10],
    /// The hash of the client's public key.
    pub client_pkey_hash: [u8; 32],
    /// The hash of the order that the client accepts; the server answers all zeros with PRICE_NO_ORDER_HASH.
    pub order_hash: [u8; 32],
}

impl Request {
    /// Length on the wire, bytes.
    pub const LEN: usize = 122;

    /// The message as it goes over the wire.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0..8].copy_from_slice(&self.net_id.to_le_bytes());
        out[8..40].copy_from_slice(&self.tx_cond);
        out[40..48].copy_from_slice(&self.srv_uid.to_le_bytes());
        out[48..58].copy_from_slice(&self.token);
        out[58..90].copy_from_slice(&self.client_pkey_hash);
        out[90..122].copy_from_slice(&self.order_hash);
        out
    }

    /// Parses a message; a service's own data may follow the fixed part and is ignored.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        Ok(Request {
            net_id: reader.u64()?,
            tx_cond: reader.take()?,
            srv_uid: reader.u64()?,
            token: reader.take()?,
            client_pkey_hash: reader.take()?,
            order_hash: reader.take()?,
        })
    }
}

/// SUCCESS: the service is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Success {
    /// The usage's number, which VPN packets carry in their header.
    pub usage_id: u32,
    /// The network of the request.
    pub net_id: u64,
    /// The service of the request.
    pub srv_uid: u64,
}

impl Success {
    /// Length on the wire, bytes.
    pub const LEN: usize = 20;

    /// The message as it goes over the wire.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0..4].copy_from_slice(&self.usage_id.to_le_bytes());
        out[4..12].copy_from_slice(&self.net_id.to_le_bytes());
        out[12..20].copy_from_slice(&self.srv_uid.to_le_bytes());
        out
    }

    /// Parses a message; a service's own data may follow the fixed part and is ignored.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        Ok(Success { usage_id: reader.u32()?, net_id: reader.u64()?, srv_uid: reader.u64()? })
    }
}

/// ERROR: the service is refused, or has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceError {
    /// The network of the request.
    pub net_id: u64,
    /// The service of the request.
    pub srv_uid: u64,
    /// The usage, or 0 before there is one.
    pub usage_id: u32,
    /// One of [`error_code`]; [`error_text`] returns its meaning.
    pub code: u32,
}

impl ServiceError {
    /// Length on the wire, bytes.
    pub const LEN: usize = 24;

    /// Returns whether the same request may succeed later: the server or its network is starting, its tunnel is down, or
    /// the ledger has not got the transaction yet.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.code,
            error_code::SERVICE_NOT_FOUND
                | error_code::SERVICE_INTERNAL_ERROR
                | error_code::NETWORK_IS_OFFLINE
                | error_code::CANT_ADD_USAGE
                | error_code::TX_COND_NOT_FOUND
                | error_code::TX_CREATION_ERROR
                | error_code::UNKNOWN
        )
    }

    /// The message as it goes over the wire.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0..8].copy_from_slice(&self.net_id.to_le_bytes());
        out[8..16].copy_from_slice(&self.srv_uid.to_le_bytes());
        out[16..20].copy_from_slice(&self.usage_id.to_le_bytes());
        out[20..24].copy_from_slice(&self.code.to_le_bytes());
        out
    }

    /// Parses a message. The SDK sends the code alone, 4 bytes, once a service has started; bytes behind the fixed part
    /// are ignored.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        if message.len() == size_of::<u32>() {
            return Ok(ServiceError { code: reader.u32()?, ..ServiceError::default() });
        }
        Ok(ServiceError { net_id: reader.u64()?, srv_uid: reader.u64()?, usage_id: reader.u32()?, code: reader.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_layout() {
        let request = Request {
            net_id: 0x0102,
            tx_cond: [0xaa; 32],
            srv_uid: 1,
            token: *b"KEL\0\0\0\0\0\0\0",
            client_pkey_hash: [0xbb; 32],
            order_hash: [0xcc; 32],
        };
        let bytes = request.encode();
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..40], [0xaa; 32]);
        assert_eq!(bytes[40..48], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[48..58], b"KEL\0\0\0\0\0\0\0");
        assert_eq!(bytes[58..90], [0xbb; 32]);
        assert_eq!(bytes[90..], [0xcc; 32]);
        assert_eq!(Request::parse(&bytes), Ok(request.clone()));
        let with_custom_data = [bytes.as_slice(), b"more"].concat();
        assert_eq!(Request::parse(&with_custom_data), Ok(request));
        assert_eq!(Request::parse(&bytes[..121]), Err(WireError::TooShort { len: 121 }));
    }

    #[test]
    fn success_and_error_layouts() {
        let success = Success { usage_id: 5, net_id: 6, srv_uid: 7 };
        let bytes = success.encode();
        assert_eq!(bytes, [5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Success::parse(&bytes), Ok(success));
        assert_eq!(Success::parse(&bytes[..19]), Err(WireError::TooShort { len: 19 }));

        let error = ServiceError { net_id: 6, srv_uid: 7, usage_id: 5, code: error_code::WRONG_HASH };
        let bytes = error.encode();
        assert_eq!(bytes[..20], [6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes[20..], [0xad, 0x0b, 0, 0]);
        assert_eq!(ServiceError::parse(&bytes), Ok(error));
        assert_eq!(ServiceError::parse(&bytes[..23]), Err(WireError::TooShort { len: 23 }));
        let code_alone = ServiceError { code: 0x402, ..ServiceError::default() };
        assert_eq!(ServiceError::parse(&[2, 4, 0, 0]), Ok(code_alone));
    }

    #[test]
    fn every_code_has_its_own_text() {
        let codes = [
            0x100,
            0x101,
            0x103,
            0x104,
            0x105,
            0x200,
            0x202,
            0x300,
            0x400,
            0x401,
            0x402,
            0x403,
            0x404,
            0x405,
            0x406,
            0x407,
            0x408,
            0x410,
            0x411,
            0x500,
            0x501,
            0x502,
            0x503,
            0x505,
            0x507,
            0x600,
            0x601,
            0x602,
            0xBAD,
            0xffff_ffff,
            0x7777,
        ];
        let texts: std::collections::HashSet<_> = codes.iter().map(|code| error_text(*code)).collect();
        assert_eq!(texts.len(), codes.len());
    }
}
