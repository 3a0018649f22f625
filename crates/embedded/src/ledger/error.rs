//! Why a ledger cannot be opened, or refuses an operation.

use super::file::FileError;
use super::rules::OPEN_MAX;
use crate::state::StateError;
use std::path::PathBuf;
use vpn_core::money::{Amount, InstructionError, Token, TokenError};

/// Why the ledgers cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory, or a file in it, cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node's key is missing; the log has the reason.
    #[error("the ledger cannot be opened without this node's identity")]
    Identity,
    /// Another process has opened the file.
    #[error(
        "the ledger {} is in use by another process: ask the server that runs here, or stop it", .0.display()
    )]
    Locked(PathBuf),
    /// The file cannot be read, or is not what it was.
    #[error("the ledger {}: {}{}", path.display(), source, source.advice())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Fault,
    },
}

/// What is wrong with a ledger's file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Fault(FileError);

impl Fault {
    /// What the operator can do about it.
    fn advice(&self) -> &'static str {
        match self.0 {
            FileError::Head | FileError::Short { .. } | FileError::Damaged { .. } | FileError::Sums(_) => {
                "; it stays as it is, and nothing is sold from it: restore it from a copy"
            }
            _ => "",
        }
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Fault {
        Fault(error)
    }
}

/// Why the ledger refuses an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no instruction.
    #[error("the instruction is malformed: {0}")]
    Malformed(#[from] InstructionError),
    /// It is for the ledger of another network.
    #[error("the instruction is for network {got:#018x}: expected {expected:#018x}")]
    Net {
        /// The network that it names.
        got: u64,
        /// That of the ledger.
        expected: u64,
    },
    /// It is for the ledger of another server.
    #[error("the instruction is for another server: it names another identity than this one's")]
    Authority,
    /// The signature is missing, of another kind, or of other bytes.
    #[error("the signature of the instruction is wrong")]
    Signature,
    /// The signature is good, but not the owner's.
    #[error("the instruction is signed by another key than its owner's")]
    Signer,
    /// The instruction was given already, or is an old one.
    #[error("the instruction's counter is {got}, and the owner's last one had {last}: expected a higher one")]
    Counter {
        /// The counter.
        got: u64,
        /// The highest one before.
        last: u64,
    },
    /// An amount of nothing.
    #[error("the amount is 0: expected more")]
    Zero,
    /// More than can be counted.
    #[error("the amount is too large: all that was given out would be more than {max}", max = Amount(u128::MAX))]
    TooLarge,
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The account does not hold the value.
    #[error("there is not enough: the wallet has {has} {token}, and {needs} are to be locked")]
    NotEnough {
        /// The token.
        token: Token,
        /// What the account has.
        has: Amount,
        /// What the instruction locks.
        needs: Amount,
    },
    /// The owner has many conditional transactions.
    #[error("the wallet has {OPEN_MAX} open conditional transactions already: use them, or close one")]
    TooManyOpen,
    /// The owner gives more instructions than the file should keep.
    #[error("the wallet gives too many instructions: one a minute is accepted, after a few at once")]
    TooOften,
    /// The transaction to close is not in the ledger, or is not the first of its chain.
    #[error("the ledger has no such conditional transaction, or it is a payment out of one")]
    Unknown,
    /// The transaction to close is another owner's.
    #[error("the conditional transaction is another wallet's")]
    NotYours,
    /// The transaction to close holds nothing.
    #[error("the conditional transaction holds nothing any more")]
    Finished,
    /// A payment out of the transaction to close waits.
    #[error("a payment out of the conditional transaction is under way: try again when it is in the ledger")]
    InFlight,
    /// It is in the ledger.
    #[error("the ledger has this transaction already")]
    Known,
    /// A payment's reason.
    #[error("the payment: {0}")]
    Payment(&'static str),
    /// The ledgers are open, and there is none of this network.
    #[error("there is no ledger of network {0:#018x}: expected one of those that [networks] names lists")]
    NotOpen(u64),
    /// The operation is not on the disk.
    #[error("the ledger cannot be written, and the operation is not done: {0}")]
    Write(String),
}
