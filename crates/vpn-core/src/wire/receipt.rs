//! Receipts on the service channel 'R': SIGN_REQUEST brings one with the server's signature, SIGN_RESPONSE returns it
//! with the client's behind.
//!
//! A signature is over the 96 bytes of the [`ReceiptInfo`] as they are on the wire, so those bytes are kept. The
//! signatures themselves belong to the SDK; here only their lengths are read, so that each is found where it is.

use super::WireError;
use super::reader::Reader;

/// The unit that a receipt counts in, by the number that the SDK has for it.
pub mod unit {
    /// Seconds.
    pub const SECONDS: u32 = 0x02;
    /// Bytes.
    pub const BYTES: u32 = 0x11;
    /// Pieces.
    pub const PIECES: u32 = 0x22;
}

/// The version of receipts that carry the hash of the transaction they spend.
const VERSION: u8 = 2;
/// The type byte in front of a receipt, as an item of a transaction.
const ITEM_TYPE: u8 = 0x71;
/// Where the size field stands, behind the type byte and the info.
const SIZE_AT: usize = 1 + ReceiptInfo::LEN;
/// The lengths of key and signature stand in a signature's header, in its last eight bytes.
const SIGNATURE_HEADER_LEN: usize = 14;

/// What a receipt says: units of a service for a value, out of a conditional transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptInfo {
    /// The service: 1 is the VPN.
    pub srv_uid: u64,
    /// One of [`mod@unit`].
    pub units_type: u32,
    /// 2 in every receipt of today.
    pub version: u8,
    /// How many units are sold.
    pub units: u64,
    /// The value in datoshi, as the SDK lays out 256 bits: two little-endian halves of 128 bits, the upper half first.
    pub value: [u8; 32],
    /// The hash of the transaction that the payment spends: the last one of its chain.
    pub prev_tx: [u8; 32],
}

impl ReceiptInfo {
    /// Length on the wire, bytes.
    pub const LEN: usize = 96;

    /// Returns the value in datoshi; `None` if it does not fit into 64 bits.
    pub fn datoshi(&self) -> Option<u64> {
        let (upper, lower) = self.value.split_first_chunk::<16>()?;
        let low = u128::from_le_bytes(lower.try_into().ok()?);
        u64::try_from(low).ok().filter(|_| *upper == [0; 16])
    }

    /// Lays out a value in datoshi for [`value`](Self::value).
    pub fn value_of(datoshi: u64) -> [u8; 32] {
        let mut value = [0; 32];
        value[16..24].copy_from_slice(&datoshi.to_le_bytes());
        value
    }

    fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0..8].copy_from_slice(&self.srv_uid.to_le_bytes());
        out[16..20].copy_from_slice(&self.units_type.to_le_bytes());
        out[20] = self.version;
        out[24..32].copy_from_slice(&self.units.to_le_bytes());
        out[32..64].copy_from_slice(&self.value);
        out[64..96].copy_from_slice(&self.prev_tx);
        out
    }

    /// Parses the bytes that are signed.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let srv_uid = reader.u64()?;
        reader.take::<8>()?;
        let units_type = reader.u32()?;
        let [version, ..] = reader.take::<4>()?;
        Ok(ReceiptInfo {
            srv_uid,
            units_type,
            version,
            units: reader.u64()?,
            value: reader.take()?,
            prev_tx: reader.take()?,
        })
    }
}

/// A receipt with its signatures, as it is on the wire.
///
/// ```
/// use vpn_core::wire::{Receipt, ReceiptInfo, WireError};
///
/// let info = ReceiptInfo { srv_uid: 1, units_type: 2, version: 2, units: 20, ..ReceiptInfo::default() };
/// let message = Receipt::unsigned(&info);
/// let receipt = Receipt::parse(&message)?;
/// assert_eq!((receipt.info, receipt.signatures.len()), (info, 0));
/// # Ok::<(), WireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// What the receipt says.
    pub info: ReceiptInfo,
    /// The bytes that are signed.
    pub signed: &'a [u8; ReceiptInfo::LEN],
    /// The signatures with their headers: the server's, then the client's.
    pub signatures: Vec<&'a [u8]>,
}

impl<'a> Receipt<'a> {
    /// The length of a receipt without extensions and signatures, bytes.
    pub const LEN: usize = 113;

    /// Returns a receipt without signatures as it goes over the wire.
    pub fn unsigned(info: &ReceiptInfo) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        out.push(ITEM_TYPE);
        out.extend_from_slice(&info.encode());
        out.extend_from_slice(&(Self::LEN as u64).to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out
    }

    /// Returns the message with another signature behind it, and with its new length in the size field.
    pub fn append_signature(message: &[u8], signature: &[u8]) -> Vec<u8> {
        let mut out = [message, signature].concat();
        let len = out.len() as u64;
        if let Some(size) = out.get_mut(SIZE_AT..SIZE_AT + size_of::<u64>()) {
            size.copy_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// Parses a receipt of version 2. Its size field must be the message's length, which extensions and at most two
    /// signatures fill exactly: the SDK reads past the end of others.
    pub fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let len = message.len();
        let (_item_type, rest) = message.split_first_chunk::<1>().ok_or(WireError::TooShort { len })?;
        let (signed, rest) = rest.split_first_chunk::<{ ReceiptInfo::LEN }>().ok_or(WireError::TooShort { len })?;
        let info = ReceiptInfo::parse(signed)?;
        if info.version != VERSION {
            return Err(WireError::ReceiptVersion(info.version));
        }
        let (size, rest) = rest.split_first_chunk::<8>().ok_or(WireError::TooShort { len })?;
        let (extensions, rest) = rest.split_first_chunk::<8>().ok_or(WireError::TooShort { len })?;
        let declared = usize::try_from(u64::from_le_bytes(*size)).unwrap_or(usize::MAX);
        if declared != len {
            return Err(WireError::SizeMismatch { declared, present: len });
        }
        let extensions = usize::try_from(u64::from_le_bytes(*extensions)).unwrap_or(usize::MAX);
        let mut rest = rest.get(extensions..).ok_or(WireError::TooShort { len })?;
        let mut signatures = Vec::new();
        while !rest.is_empty() && signatures.len() < 2 {
            let (signature, behind) = split_signature(rest).ok_or(WireError::TooShort { len })?;
            signatures.push(signature);
            rest = behind;
        }
        if !rest.is_empty() {
            return Err(WireError::SizeMismatch { declared: len - rest.len(), present: len });
        }
        Ok(Receipt { info, signed, signatures })
    }
}

/// Splits the first signature off: a header that ends with the lengths of key and signature, then both.
fn split_signature(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(bytes.get(..SIGNATURE_HEADER_LEN)?);
    let _kind = reader.take::<6>().ok()?;
    let (signature, key) = (reader.u32().ok()?, reader.u32().ok()?);
    let len = SIGNATURE_HEADER_LEN as u64 + u64::from(signature) + u64::from(key);
    bytes.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ReceiptInfo {
        let (value, prev_tx) = ([3; 32], [4; 32]);
        ReceiptInfo { srv_uid: 1, units_type: unit::SECONDS, version: VERSION, units: 20, value, prev_tx }
    }

    /// A receipt with signatures of the given lengths behind their headers.
    fn signed(lengths: &[(u32, u32)]) -> Vec<u8> {
        let mut message = Receipt::unsigned(&info());
        for (signature, key) in lengths {
            message.extend_from_slice(&[2, 1, 0, 0, 1, 0]);
            message.extend_from_slice(&signature.to_le_bytes());
            message.extend_from_slice(&key.to_le_bytes());
            message.extend(std::iter::repeat_n(7, (signature + key) as usize));
        }
        let len = message.len() as u64;
        message[97..105].copy_from_slice(&len.to_le_bytes());
        message
    }

    #[test]
    fn layout() {
        let bytes = Receipt::unsigned(&info());
        assert_eq!(bytes.len(), 113);
        assert_eq!((bytes[0], bytes[17], bytes[21], bytes[25]), (0x71, 2, 2, 20));
        assert_eq!((&bytes[33..65], &bytes[65..97]), ([3; 32].as_slice(), [4; 32].as_slice()));
        assert_eq!(bytes[97..], [113, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let receipt = Receipt::parse(&bytes).expect("a receipt");
        assert_eq!((receipt.info, receipt.signed.as_slice(), receipt.signatures.len()), (info(), &bytes[1..97], 0));
    }

    #[test]
    fn a_value_is_two_halves_with_the_upper_one_first() {
        let with = |value| ReceiptInfo { value, ..info() }.datoshi();
        assert_eq!(with(ReceiptInfo::value_of(0x0102_0304)), Some(0x0102_0304));
        assert_eq!(ReceiptInfo::value_of(0x0102)[16..18], [2, 1]);
        assert_eq!(with(ReceiptInfo::value_of(u64::MAX)), Some(u64::MAX));
        for at in (0..16).chain(24..32) {
            let mut value = [0; 32];
            value[at] = 1;
            assert_eq!(with(value), None, "byte {at}");
        }
    }

    #[test]
    fn signatures_are_found_by_their_lengths() {
        let message = signed(&[(2420, 872), (10, 20)]);
        let receipt = Receipt::parse(&message).expect("a receipt");
        assert_eq!(receipt.signatures.iter().map(|signature| signature.len()).collect::<Vec<_>>(), [3306, 44]);
    }

    #[test]
    fn a_second_signature_is_appended() {
        let both = signed(&[(10, 20), (30, 40)]);
        assert_eq!(Receipt::append_signature(&signed(&[(10, 20)]), Receipt::parse(&both).unwrap().signatures[1]), both);
    }

    #[test]
    fn only_what_fits_exactly_is_a_receipt() {
        let good = signed(&[(10, 20), (30, 40)]);
        for len in 0..good.len() {
            assert!(Receipt::parse(&good[..len]).is_err(), "cut to {len}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(Receipt::parse(&longer).is_err());
        assert!(Receipt::parse(&signed(&[(1, 1), (1, 1), (1, 1)])).is_err());
        let with = |at: usize, bytes: &[u8]| {
            let mut message = good.clone();
            message[at..at + bytes.len()].copy_from_slice(bytes);
            message
        };
        let huge = u64::MAX.to_le_bytes();
        let bad = [
            with(21, &[1]),
            with(97, &huge),
            with(105, &huge),
            with(105, &[1]),
            with(119, &huge[..4]),
            with(123, &huge[..4]),
        ];
        for message in bad {
            assert!(Receipt::parse(&message).is_err());
        }
        assert_eq!(Receipt::parse(&with(21, &[3])), Err(WireError::ReceiptVersion(3)));
    }
}
