//! What is exchanged about money where no chain does it: amounts as people write them, the instructions that a
//! wallet signs for a server's ledger, and the questions that a client asks that ledger.

mod amount;
pub mod bank;
mod instruction;

pub use amount::{Amount, AmountError};
pub use instruction::{Closing, Instruction, InstructionError, Opening, TOKEN_MAX, Token, TokenError};
