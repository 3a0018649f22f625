//! The bank channel 'B': what a client of the embedded SDK asks of a server's ledger. docs/wire.md describes it.
//!
//! Every message begins with its version. A request asks about one network and gets one answer. The sentence of a
//! refusal goes to logs and terminals: it is printable ASCII.

use super::instruction::{TOKEN_MAX, Token};
use crate::wire::WireError;
use crate::wire::reader::Reader;

/// The version of all messages.
const VERSION: u8 = 1;
/// The most orders in a list of prices.
pub const MAX_OFFERS: usize = 64;
/// The most bytes of a transaction.
pub const MAX_TRANSACTION: usize = 4096;
/// The most bytes of a refusal's sentence.
pub const MAX_REASON: usize = 400;
/// A token's ticker with its padding, bytes.
const TOKEN_LEN: usize = TOKEN_MAX + 1;

/// Packet types on channel 'B'.
pub mod kind {
    /// Asks for the prices.
    pub const PRICES: u8 = 0x01;
    /// Asks what an account holds.
    pub const BALANCE: u8 = 0x02;
    /// Brings a signed transaction.
    pub const SUBMIT: u8 = 0x03;
    /// Asks for the end of a chain of payments.
    pub const CHAIN: u8 = 0x04;
    /// Added to a request's type in its answer.
    pub const ANSWER: u8 = 0x80;
    /// Answers any request that is not granted.
    pub const REFUSED: u8 = 0xff;
}

/// Why a request is refused.
pub mod refusal {
    /// The request is malformed, or of another version.
    pub const MALFORMED: u8 = 1;
    /// The server does not know the network.
    pub const NETWORK: u8 = 2;
    /// The server has no time for it at present.
    pub const BUSY: u8 = 3;
    /// The ledger does not accept the transaction.
    pub const LEDGER: u8 = 4;
}

/// Why bytes from a peer are no message of this channel.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Fewer bytes than the message has.
    #[error("{len} bytes are too few")]
    TooShort {
        /// The number of bytes present.
        len: usize,
    },
    /// More bytes than the message has.
    #[error("{len} bytes, expected at most {most}")]
    TooLong {
        /// The number of bytes present.
        len: usize,
        /// The most.
        most: usize,
    },
    /// A packet type that this side never receives.
    #[error("packet type {0:#x} is not accepted from this side")]
    Kind(u8),
    /// A field with a value that it cannot have.
    #[error("{field} is {value}, which is not known here")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// A token's ticker that is none.
    #[error("a token is not a ticker of 1 to {TOKEN_MAX} letters, digits, dots or dashes with zeros behind")]
    Token,
}

impl From<WireError> for MessageError {
    /// The reader's only error is that a field is cut off.
    fn from(error: WireError) -> MessageError {
        match error {
            WireError::TooShort { len } => MessageError::TooShort { len },
            _ => MessageError::TooShort { len: 0 },
        }
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What the server sells.
    Prices,
    /// What an account holds of a token.
    Balance {
        /// The hash of the account's key.
        key_hash: [u8; 32],
        /// The token.
        token: Token,
    },
    /// To enter a transaction, in the ledger's encoding.
    Submit(Vec<u8>),
    /// Where a chain of payments ends.
    Chain([u8; 32]),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankRequest {
    /// The network's number.
    pub net_id: u64,
    /// The question.
    pub ask: Ask,
}

/// An order in a list of prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The order's hash.
    pub hash: [u8; 32],
    /// One of [`unit`](crate::wire::unit).
    pub unit: u32,
    /// The units of one receipt.
    pub units: u64,
    /// What they cost, in datoshi.
    pub value: u128,
    /// The token.
    pub token: Token,
}

/// A list of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// The service is also given away, for the network's free order.
    pub gives_free: bool,
    /// What a payment costs beside its value, in datoshi.
    pub payment_fee: u128,
    /// The orders, at most [`MAX_OFFERS`].
    pub offers: Vec<Offer>,
}

/// What is left in a chain of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The last transaction, which the next payment spends.
    pub last: [u8; 32],
    /// The hash of the key that may spend it.
    pub key_hash: [u8; 32],
    /// What it holds, in datoshi.
    pub value: u128,
    /// What a payment costs beside its value, in datoshi.
    pub fee: u128,
    /// The most that a unit may cost, in datoshi; 0 for no limit.
    pub max_unit_price: u128,
    /// One of [`unit`](crate::wire::unit).
    pub unit: u32,
    /// The token.
    pub token: Token,
}

/// The state of a chain of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainState {
    /// The ledger does not have the transaction.
    Unknown,
    /// Nothing is left.
    Spent,
    /// Something is left.
    Open(Left),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BankAnswer {
    /// The prices.
    Prices(Prices),
    /// The account.
    Balance {
        /// What it holds, in datoshi.
        value: u128,
        /// What the owner's transactions hold besides.
        locked: u128,
        /// The highest counter of the owner's instructions in this ledger; the next one needs a higher one.
        counter: u64,
    },
    /// The hash of the transaction that the ledger has accepted.
    Submitted([u8; 32]),
    /// The chain's state.
    Chain(ChainState),
    /// The request is not granted.
    Refused {
        /// One of [`refusal`], or another number.
        code: u8,
        /// Why, in a sentence.
        reason: String,
    },
}

impl BankRequest {
    /// Returns the packet's type and data. A transaction above [`MAX_TRANSACTION`] is refused by the server.
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.net_id.to_le_bytes());
        let kind = match &self.ask {
            Ask::Prices => kind::PRICES,
            Ask::Balance { key_hash, token } => {
                out.extend_from_slice(key_hash);
                out.extend_from_slice(&padded(token));
                kind::BALANCE
            }
            Ask::Submit(transaction) => {
                out.extend_from_slice(transaction);
                kind::SUBMIT
            }
            Ask::Chain(hash) => {
                out.extend_from_slice(hash);
                kind::CHAIN
            }
        };
        (kind, out)
    }

    /// Parses a client's packet.
    pub fn parse(kind: u8, data: &[u8]) -> Result<BankRequest, MessageError> {
        let mut reader = versioned(data)?;
        let net_id = reader.u64()?;
        let ask = match kind {
            kind::PRICES => Ask::Prices,
            kind::BALANCE => Ask::Balance { key_hash: reader.take()?, token: take_token(&mut reader)? },
            kind::SUBMIT => {
                let transaction = reader.rest();
                if transaction.is_empty() {
                    return Err(MessageError::TooShort { len: data.len() });
                }
                if transaction.len() > MAX_TRANSACTION {
                    return Err(MessageError::TooLong { len: transaction.len(), most: MAX_TRANSACTION });
                }
                return Ok(BankRequest { net_id, ask: Ask::Submit(transaction.to_vec()) });
            }
            kind::CHAIN => Ask::Chain(reader.take()?),
            other => return Err(MessageError::Kind(other)),
        };
        nothing_more(&reader, data)?;
        Ok(BankRequest { net_id, ask })
    }
}

impl BankAnswer {
    /// Returns the packet's type and data. Of more than [`MAX_OFFERS`] orders the first ones are sent, and of a reason
    /// what fits.
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = vec![VERSION];
        let kind = match self {
            BankAnswer::Prices(prices) => {
                out.push(prices.gives_free.into());
                out.extend_from_slice(&prices.payment_fee.to_le_bytes());
                let offers = prices.offers.get(..MAX_OFFERS).unwrap_or(&prices.offers);
                out.push(offers.len() as u8);
                for offer in offers {
                    out.extend_from_slice(&offer.hash);
                    out.extend_from_slice(&offer.unit.to_le_bytes());
                    out.extend_from_slice(&offer.units.to_le_bytes());
                    out.extend_from_slice(&offer.value.to_le_bytes());
                    out.extend_from_slice(&padded(&offer.token));
                }
                kind::PRICES | kind::ANSWER
            }
            BankAnswer::Balance { value, locked, counter } => {
                out.extend_from_slice(&value.to_le_bytes());
                out.extend_from_slice(&locked.to_le_bytes());
                out.extend_from_slice(&counter.to_le_bytes());
                kind::BALANCE | kind::ANSWER
            }
            BankAnswer::Submitted(hash) => {
                out.extend_from_slice(hash);
                kind::SUBMIT | kind::ANSWER
            }
            BankAnswer::Chain(state) => {
                match state {
                    ChainState::Unknown => out.push(0),
                    ChainState::Spent => out.push(1),
                    ChainState::Open(left) => {
                        out.push(2);
                        out.extend_from_slice(&left.last);
                        out.extend_from_slice(&left.key_hash);
                        out.extend_from_slice(&left.value.to_le_bytes());
                        out.extend_from_slice(&left.fee.to_le_bytes());
                        out.extend_from_slice(&left.max_unit_price.to_le_bytes());
                        out.extend_from_slice(&left.unit.to_le_bytes());
                        out.extend_from_slice(&padded(&left.token));
                    }
                }
                kind::CHAIN | kind::ANSWER
            }
            BankAnswer::Refused { code, reason } => {
                out.push(*code);
                out.extend(reason.chars().take(MAX_REASON).map(|letter| printable(letter) as u8));
                kind::REFUSED
            }
        };
        (kind, out)
    }

    /// Parses a server's packet.
    pub fn parse(kind: u8, data: &[u8]) -> Result<BankAnswer, MessageError> {
        const PRICES: u8 = kind::PRICES | kind::ANSWER;
        const BALANCE: u8 = kind::BALANCE | kind::ANSWER;
        const SUBMITTED: u8 = kind::SUBMIT | kind::ANSWER;
        const CHAIN: u8 = kind::CHAIN | kind::ANSWER;
        let mut reader = versioned(data)?;
        let answer = match kind {
            PRICES => BankAnswer::Prices(take_prices(&mut reader)?),
            BALANCE => {
                let (value, locked) = (take_value(&mut reader)?, take_value(&mut reader)?);
                BankAnswer::Balance { value, locked, counter: reader.u64()? }
            }
            SUBMITTED => BankAnswer::Submitted(reader.take()?),
            CHAIN => BankAnswer::Chain(match reader.take()? {
                [0] => ChainState::Unknown,
                [1] => ChainState::Spent,
                [2] => ChainState::Open(Left {
                    last: reader.take()?,
                    key_hash: reader.take()?,
                    value: take_value(&mut reader)?,
                    fee: take_value(&mut reader)?,
                    max_unit_price: take_value(&mut reader)?,
                    unit: reader.u32()?,
                    token: take_token(&mut reader)?,
                }),
                [other] => return Err(MessageError::Field { field: "the chain's state", value: other }),
            }),
            kind::REFUSED => {
                let [code] = reader.take()?;
                let reason = reader.rest();
                if reason.len() > MAX_REASON {
                    return Err(MessageError::TooLong { len: reason.len(), most: MAX_REASON });
                }
                let reason = reason.iter().map(|byte| printable((*byte).into())).collect();
                return Ok(BankAnswer::Refused { code, reason });
            }
            other => return Err(MessageError::Kind(other)),
        };
        nothing_more(&reader, data)?;
        Ok(answer)
    }
}

fn take_prices(reader: &mut Reader<'_>) -> Result<Prices, MessageError> {
    let gives_free = match reader.take()? {
        [0] => false,
        [1] => true,
        [other] => return Err(MessageError::Field { field: "the mark of a free service", value: other }),
    };
    let payment_fee = take_value(reader)?;
    let [count] = reader.take()?;
    if usize::from(count) > MAX_OFFERS {
        return Err(MessageError::Field { field: "the number of orders", value: count });
    }
    let mut offers = Vec::with_capacity(count.into());
    for _ in 0..count {
        offers.push(Offer {
            hash: reader.take()?,
            unit: reader.u32()?,
            units: reader.u64()?,
            value: take_value(reader)?,
            token: take_token(reader)?,
        });
    }
    Ok(Prices { gives_free, payment_fee, offers })
}

/// Begins to read a message of this version.
fn versioned(data: &[u8]) -> Result<Reader<'_>, MessageError> {
    let mut reader = Reader::new(data);
    match reader.take()? {
        [VERSION] => Ok(reader),
        [other] => Err(MessageError::Field { field: "the version", value: other }),
    }
}

/// A message has one encoding: nothing follows it.
fn nothing_more(reader: &Reader<'_>, data: &[u8]) -> Result<(), MessageError> {
    let most = data.len() - reader.rest().len();
    if reader.rest().is_empty() { Ok(()) } else { Err(MessageError::TooLong { len: data.len(), most }) }
}

fn take_value(reader: &mut Reader<'_>) -> Result<u128, WireError> {
    reader.take().map(u128::from_le_bytes)
}

fn take_token(reader: &mut Reader<'_>) -> Result<Token, MessageError> {
    let field: [u8; TOKEN_LEN] = reader.take()?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(TOKEN_LEN);
    let text = field.get(..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    Token::new(text).ok().filter(|token| padded(token) == field).ok_or(MessageError::Token)
}

fn padded(token: &Token) -> [u8; TOKEN_LEN] {
    let mut field = [0; TOKEN_LEN];
    field.iter_mut().zip(token.as_str().bytes()).for_each(|(to, from)| *to = from);
    field
}

fn printable(letter: char) -> char {
    if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' }
}
