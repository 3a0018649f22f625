//! What is exchanged about money where no chain does it: amounts as people write them, and the instructions that a
//! wallet signs for a server's ledger.

mod amount;
mod instruction;

pub use amount::{Amount, AmountError};
pub use instruction::{Closing, Instruction, InstructionError, Opening, TOKEN_MAX, Token, TokenError};
