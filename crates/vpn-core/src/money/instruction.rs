//! The instructions that a wallet signs for the ledger of a server: one locks a value that receipts may spend, the other
//! takes back what is left of it.
//!
//! The layout, all numbers little-endian, is canonical: equal instructions are equal bytes, and everything that a
//! signature covers stands in front of it.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 8 | magic | `CFVPNTX` and the version, 1 |
//! | 1 | kind | 1 opens, 2 closes |
//! | 8 | net | the id of the Cellframe network |
//! | 32 | authority | SHA-256 of the public key (SubjectPublicKeyInfo) of the server, which a client pins |
//! | 32 | owner | SHA3-256 of the wallet's public key |
//! | 8 | counter | higher than in every earlier instruction of the owner in this ledger |
//! | 10 | token | opens: its ticker, with zeros behind |
//! | 16 | value | opens: what is locked, datoshi |
//! | 16 | max unit price | opens: the most that a unit may cost, datoshi; 0 for no limit |
//! | 16 | fee | opens: what each payment takes besides its value, datoshi |
//! | 8 | service | opens: the service that it pays; 1 is the VPN |
//! | 4 | unit | opens: the unit that it pays for ([`unit`](crate::wire::unit)) |
//! | 32 | first | closes: the hash of the transaction that opened |
//! | ... | signature | over all of the above: `dap_sign_t` |
//!
//! The length differs from that of what a receipt's signature covers, so neither signature stands for the other.

use std::fmt;

use crate::wire::reader::Reader;

const MAGIC: [u8; 8] = *b"CFVPNTX\x01";
const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const OPENING_LEN: usize = 159;
const CLOSING_LEN: usize = 121;
/// A signature is far shorter: key and signature of the longest that the Cellframe SDK makes have some 50 KB.
const SIGNATURE_MAX: usize = 8 << 10;

/// The most bytes of a token's ticker.
pub const TOKEN_MAX: usize = 9;

/// A token's ticker: 1 to 9 ASCII letters, digits, dots or dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; TOKEN_MAX + 1]);

/// A text is no ticker.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("expected a token's ticker of 1 to {TOKEN_MAX} letters, digits, dots or dashes, such as CELL, not {0:?}")]
pub struct TokenError(String);

impl Token {
    /// Returns the token with this ticker.
    pub fn new(text: &str) -> Result<Token, TokenError> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let mut bytes = [0; TOKEN_MAX + 1];
        match bytes.get_mut(..text.len()).filter(|_| (1..=TOKEN_MAX).contains(&text.len())) {
            Some(place) if text.bytes().all(is_good) => place.copy_from_slice(text.as_bytes()),
            _ => return Err(TokenError(text.chars().take(40).collect())),
        }
        Ok(Token(bytes))
    }

    fn parse(bytes: [u8; TOKEN_MAX + 1]) -> Result<Token, InstructionError> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = str::from_utf8(&bytes[..end]).ok().and_then(|text| Token::new(text).ok());
        text.filter(|token| token.0 == bytes).ok_or(InstructionError::Token)
    }

    /// The ticker.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        // Always ASCII.
        str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Locks a value of the owner's, which receipts with the owner's signature spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The id of the Cellframe network.
    pub net: u64,
    /// SHA-256 of the server's public key.
    pub authority: [u8; 32],
    /// SHA3-256 of the wallet's public key.
    pub owner: [u8; 32],
    /// Higher than in every earlier instruction of the owner.
    pub counter: u64,
    /// What is locked.
    pub token: Token,
    /// How much of it, in datoshi.
    pub value: u128,
    /// The most that a unit may cost; 0 for no limit.
    pub max_unit_price: u128,
    /// What each payment takes besides its value.
    pub fee: u128,
    /// The service that it pays.
    pub srv_uid: u64,
    /// The unit that it pays for.
    pub unit: u32,
}

/// Gives the owner back what is left in a chain of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The id of the Cellframe network.
    pub net: u64,
    /// SHA-256 of the server's public key.
    pub authority: [u8; 32],
    /// SHA3-256 of the wallet's public key.
    pub owner: [u8; 32],
    /// Higher than in every earlier instruction of the owner.
    pub counter: u64,
    /// The hash of the transaction with which the chain begins.
    pub first: [u8; 32],
}

/// An instruction that a wallet signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Locks a value.
    Open(Opening),
    /// Takes back the rest.
    Close(Closing),
}

/// Why bytes are no instruction.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum InstructionError {
    /// The bytes begin differently.
    #[error("it does not begin as a instruction of version 1")]
    Magic,
    /// Neither kind.
    #[error("its kind is {0}: expected 1 or 2")]
    Kind(u8),
    /// Less than an instruction has.
    #[error("it is cut off: {0} bytes")]
    TooShort(usize),
    /// More than a signature has.
    #[error("{0} bytes stand where a signature has at most {SIGNATURE_MAX}")]
    TooLong(usize),
    /// The token is not written as this version writes it.
    #[error("its token is not a ticker of 1 to {TOKEN_MAX} letters, digits, dots or dashes with zeros behind")]
    Token,
}

impl Instruction {
    /// The id of the network that it is for.
    pub fn net(&self) -> u64 {
        match self {
            Instruction::Open(opening) => opening.net,
            Instruction::Close(closing) => closing.net,
        }
    }

    /// The hash of the server's key that it is for.
    pub fn authority(&self) -> &[u8; 32] {
        match self {
            Instruction::Open(opening) => &opening.authority,
            Instruction::Close(closing) => &closing.authority,
        }
    }

    /// The hash of the key that signs it.
    pub fn owner(&self) -> &[u8; 32] {
        match self {
            Instruction::Open(opening) => &opening.owner,
            Instruction::Close(closing) => &closing.owner,
        }
    }

    /// The owner's number for it.
    pub fn counter(&self) -> u64 {
        match self {
            Instruction::Open(opening) => opening.counter,
            Instruction::Close(closing) => closing.counter,
        }
    }

    /// Returns the bytes that are signed. Their SHA3-256 is the hash of the instruction; the signature follows them on the
    /// wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OPENING_LEN);
        out.extend_from_slice(&MAGIC);
        out.push(if matches!(self, Instruction::Open(_)) { OPEN } else { CLOSE });
        out.extend_from_slice(&self.net().to_le_bytes());
        out.extend_from_slice(self.authority());
        out.extend_from_slice(self.owner());
        out.extend_from_slice(&self.counter().to_le_bytes());
        match self {
            Instruction::Open(opening) => {
                out.extend_from_slice(&opening.token.0);
                for amount in [opening.value, opening.max_unit_price, opening.fee] {
                    out.extend_from_slice(&amount.to_le_bytes());
                }
                out.extend_from_slice(&opening.srv_uid.to_le_bytes());
                out.extend_from_slice(&opening.unit.to_le_bytes());
            }
            Instruction::Close(closing) => out.extend_from_slice(&closing.first),
        }
        out
    }

    /// Parses an instruction with its signature behind; returns it, the bytes that are signed, and the signature, whose
    /// contents are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<(Instruction, &[u8], &[u8]), InstructionError> {
        let too_short = || InstructionError::TooShort(bytes.len());
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(too_short)?;
        if *magic != MAGIC {
            return Err(InstructionError::Magic);
        }
        let len = match rest.first() {
            Some(&OPEN) => OPENING_LEN,
            Some(&CLOSE) => CLOSING_LEN,
            Some(kind) => return Err(InstructionError::Kind(*kind)),
            None => return Err(too_short()),
        };
        let (signed, signature) = bytes.split_at_checked(len).ok_or_else(too_short)?;
        if signature.len() > SIGNATURE_MAX {
            return Err(InstructionError::TooLong(signature.len()));
        }
        let mut reader = Reader::new(signed.get(9..).unwrap_or_default());
        let instruction = Instruction::parse_fields(&mut reader, len == OPENING_LEN).ok_or_else(too_short)??;
        Ok((instruction, signed, signature))
    }

    fn parse_fields(reader: &mut Reader<'_>, opens: bool) -> Option<Result<Instruction, InstructionError>> {
        let (net, authority) = (reader.u64().ok()?, reader.take().ok()?);
        let (owner, counter) = (reader.take().ok()?, reader.u64().ok()?);
        if !opens {
            let first = reader.take().ok()?;
            return Some(Ok(Instruction::Close(Closing { net, authority, owner, counter, first })));
        }
        let token = match Token::parse(reader.take().ok()?) {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        let mut amount = || reader.take().ok().map(u128::from_le_bytes);
        let (value, max_unit_price, fee) = (amount()?, amount()?, amount()?);
        let (srv_uid, unit) = (reader.u64().ok()?, reader.u32().ok()?);
        let opening = Opening { net, authority, owner, counter, token, value, max_unit_price, fee, srv_uid, unit };
        Some(Ok(Instruction::Open(opening)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opening() -> Opening {
        Opening {
            net: 0x0404_2022_0000_0000,
            authority: [1; 32],
            owner: [2; 32],
            counter: 3,
            token: Token::new("CELL").unwrap(),
            value: 1 << 100,
            max_unit_price: 5,
            fee: 6,
            srv_uid: 1,
            unit: 2,
        }
    }

    fn closing() -> Instruction {
        Instruction::Close(Closing { net: 7, authority: [1; 32], owner: [2; 32], counter: 3, first: [4; 32] })
    }

    #[test]
    fn layout() {
        let bytes = Instruction::Open(opening()).encode();
        assert_eq!(bytes.len(), OPENING_LEN);
        assert_eq!(&bytes[..9], b"CFVPNTX\x01\x01");
        assert_eq!(bytes[9..17], [0, 0, 0, 0, 0x22, 0x20, 4, 4]);
        assert_eq!((&bytes[17..49], &bytes[49..81]), ([1; 32].as_slice(), [2; 32].as_slice()));
        assert_eq!(bytes[81..89], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[89..99], b"CELL\0\0\0\0\0\0");
        assert_eq!((bytes[111], bytes[115], bytes[131], bytes[147], bytes[155]), (16, 5, 6, 1, 2));
        let bytes = closing().encode();
        assert_eq!((bytes.len(), bytes[8], &bytes[89..]), (CLOSING_LEN, 2, [4; 32].as_slice()));
    }

    #[test]
    fn a_parsed_instruction_is_the_encoded_one() {
        for instruction in [Instruction::Open(opening()), closing()] {
            let signed = instruction.encode();
            let whole = [signed.as_slice(), b"signature"].concat();
            let parsed = Instruction::parse(&whole).expect("an instruction");
            assert_eq!(parsed, (instruction, signed.as_slice(), b"signature".as_slice()));
        }
    }

    #[test]
    fn what_is_no_instruction_is_refused_with_the_reason() {
        let good = Instruction::Open(opening()).encode();
        for len in 0..good.len() {
            assert_eq!(Instruction::parse(&good[..len]), Err(InstructionError::TooShort(len)));
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Instruction::parse(&bytes).expect_err("refused")
        };
        assert_eq!((with(7, 2), with(0, 0)), (InstructionError::Magic, InstructionError::Magic));
        assert_eq!((with(8, 0), with(8, 3)), (InstructionError::Kind(0), InstructionError::Kind(3)));
        // An empty token, a space, no ASCII, and something behind the zeros.
        for (at, byte) in [(89, 0), (90, b' '), (91, 0xff), (98, b'X'), (94, b'X')] {
            assert_eq!(with(at, byte), InstructionError::Token, "byte {at}");
        }
        let long = [good.as_slice(), &[0; SIGNATURE_MAX + 1]].concat();
        assert_eq!(Instruction::parse(&long), Err(InstructionError::TooLong(SIGNATURE_MAX + 1)));
    }

    #[test]
    fn tokens() {
        for text in ["A", "CELL", "mCELL", "a.b-c", "123456789"] {
            assert_eq!(Token::new(text).expect("a token").as_str(), text);
        }
        for text in ["", "1234567890", "CE LL", "CELL\0", "ЦЕЛЛ", "A/B"] {
            assert!(Token::new(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_instruction_or_refused(head in 0..4_usize, tail: Vec<u8>) {
            let head: &[u8] = [b"".as_slice(), &MAGIC, b"CFVPNTX\x01\x01", b"CFVPNTX\x01\x02"][head];
            let bytes = [head, &tail].concat();
            if let Ok((instruction, signed, signature)) = Instruction::parse(&bytes) {
                prop_assert_eq!([signed, signature].concat(), bytes.clone());
                prop_assert_eq!(instruction.encode(), signed);
            }
        }

        /// Canonical: no other bytes are the same instruction.
        #[test]
        fn a_changed_byte_is_another_instruction(at in 0..OPENING_LEN, change in 1..=u8::MAX) {
            let good = Instruction::Open(opening()).encode();
            let mut bytes = good.clone();
            bytes[at] ^= change;
            if let Ok((instruction, ..)) = Instruction::parse(&bytes) {
                prop_assert_ne!(instruction.encode(), good);
            }
        }
    }
}
