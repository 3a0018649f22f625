//! The rules by which an operation changes a ledger: [`State::check`] decides what it does, or why it is refused.

use super::operation::{Operation, Payment, What, grant};
use super::state::{Effect, State};
use super::{Error, Hash, Transaction, hash_of, value_of};
use crate::receipt;
use vpn_core::money::{Amount, Closing, Instruction, Opening, Token};
use vpn_core::wire::Receipt;

/// The most chains of an owner that are not finished.
pub(super) const OPEN_MAX: u32 = 64;
/// What an operation is measured by beside the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) net: u64,
    /// The hash that instructions name; `None` if this node has no key, and then none is accepted.
    pub(super) authority: Option<Hash>,
    /// The hash of the key that must have issued a receipt; `None` for any.
    pub(super) provider: Option<Hash>,
    /// Signatures are not looked at: they were when the ledger took the operation.
    pub(super) trusts: bool,
}

/// The hash of a grant.
pub(super) fn grant_hash(net: u64, number: u64, terms: &Transaction) -> Hash {
    hash_of(&[b"grant", &net.to_le_bytes(), &grant(number, terms)])
}

impl State {
    /// Decides what an operation does, or why it is refused.
    pub(super) fn check(&self, operation: &Operation, rules: &Rules) -> Result<Effect, Error> {
        match &operation.what {
            What::Fund { owner, token, amount, number } => {
                if *amount == 0 {
                    return Err(Error::Zero);
                }
                self.can_emit(token, *amount)?;
                let (net, number) = (rules.net.to_le_bytes(), number.to_le_bytes());
                let hash = hash_of(&[b"fund", &net, owner, token.as_str().as_bytes(), &number, &amount.to_le_bytes()]);
                Ok(Effect::Fund { hash, owner: *owner, token: *token, amount: *amount })
            }
            What::Grant { terms, number } => {
                let token = Token::new(&terms.token)?;
                self.can_emit(&token, terms.value)?;
                let hash = grant_hash(rules.net, *number, terms);
                if self.knows(&hash) {
                    return Err(Error::Known);
                }
                Ok(Effect::Open { hash, terms: terms.clone(), token, counter: None })
            }
            What::Instruction(bytes) => {
                let (instruction, signed, signature) = Instruction::parse(bytes)?;
                self.check_author(&instruction, signed, signature, rules)?;
                match &instruction {
                    Instruction::Open(opening) => self.check_opening(opening, signed),
                    Instruction::Close(closing) => self.check_closing(closing, signed),
                }
            }
            What::Payment(payment) => self.check_payment(payment, rules).map_err(Error::Payment),
        }
    }

    fn can_emit(&self, token: &Token, amount: u128) -> Result<(), Error> {
        self.totals(token).emitted.checked_add(amount).map(|_| ()).ok_or(Error::TooLarge)
    }

    /// Whether an instruction is for this ledger, new, and its owner's.
    fn check_author(
        &self,
        instruction: &Instruction,
        signed: &[u8],
        signature: &[u8],
        rules: &Rules,
    ) -> Result<(), Error> {
        if instruction.net() != rules.net {
            return Err(Error::Net { got: instruction.net(), expected: rules.net });
        }
        if !rules.trusts {
            if Some(*instruction.authority()) != rules.authority {
                return Err(Error::Authority);
            }
            if !receipt::verify(signature, signed) {
                return Err(Error::Signature);
            }
            if receipt::key_hash(signature) != Some(*instruction.owner()) {
                return Err(Error::Signer);
            }
        }
        let last = self.counter(instruction.owner());
        if instruction.counter() <= last {
            return Err(Error::Counter { got: instruction.counter(), last });
        }
        Ok(())
    }

    fn check_opening(&self, opening: &Opening, signed: &[u8]) -> Result<Effect, Error> {
        let Opening { owner, counter, token, value, max_unit_price, fee, srv_uid, unit, .. } = opening;
        if *value == 0 {
            return Err(Error::Zero);
        }
        let has = self.balance(owner, token);
        if has < *value {
            return Err(Error::NotEnough { token: *token, has: Amount(has), needs: Amount(*value) });
        }
        if self.open.get(owner).is_some_and(|open| *open >= OPEN_MAX) {
            return Err(Error::TooManyOpen);
        }
        let terms = Transaction {
            client_key: *owner,
            unit: *unit,
            value: *value,
            token: token.to_string(),
            srv_uid: *srv_uid,
            max_unit_price: *max_unit_price,
            fee: *fee,
        };
        Ok(Effect::Open { hash: hash_of(&[signed]), terms, token: *token, counter: Some(*counter) })
    }

    fn check_closing(&self, closing: &Closing, signed: &[u8]) -> Result<Effect, Error> {
        let index = self.links.get(&closing.first).ok_or(Error::Unknown)?.chain;
        let chain = self.chains.get(index).filter(|chain| chain.first == closing.first).ok_or(Error::Unknown)?;
        if chain.terms.client_key != closing.owner {
            return Err(Error::NotYours);
        }
        if chain.left == 0 {
            return Err(Error::Finished);
        }
        Ok(Effect::Close { hash: hash_of(&[signed]), chain: index, counter: closing.counter })
    }

    fn check_payment(&self, payment: &Payment, rules: &Rules) -> Result<Effect, &'static str> {
        let link = self.links.get(&payment.spends).ok_or("it spends what the ledger does not have")?;
        let chain = self.chains.get(link.chain).ok_or("it spends what the ledger does not have")?;
        if chain.closed.is_some() {
            return Err("it spends what its owner has taken back");
        }
        if chain.last != payment.spends {
            return Err("it spends what is spent already");
        }
        if chain.left == 0 {
            return Err("it spends a transaction that holds nothing");
        }
        if self.knows(&payment.hash) {
            return Err("it is in the ledger already");
        }
        let receipt = Receipt::parse(&payment.receipt).map_err(|_| "its receipt is malformed")?;
        let [provider, client] = *receipt.signatures else { return Err("its receipt has not two signatures") };
        let verifies = |signature| rules.trusts || receipt::verify(signature, receipt.signed);
        if !verifies(provider) || !verifies(client) {
            return Err("a signature of its receipt is wrong");
        }
        if receipt::key_hash(client) != Some(chain.terms.client_key) {
            return Err("its receipt is signed by another client");
        }
        if rules.provider.is_some_and(|expected| receipt::key_hash(provider) != Some(expected)) {
            return Err("its receipt is not this node's");
        }
        let info = receipt.info;
        if info.prev_tx != payment.spends {
            return Err("its receipt is for another transaction");
        }
        if info.srv_uid != chain.terms.srv_uid || info.units_type != chain.terms.unit {
            return Err("its receipt is for another service or unit");
        }
        let value = value_of(&info.value).ok_or("its receipt's value is too large")?;
        if value == 0 {
            return Err("its receipt is worth nothing");
        }
        let unit_price = value.checked_div(info.units.into()).ok_or("its receipt sells no units")?;
        if chain.terms.max_unit_price != 0 && unit_price > chain.terms.max_unit_price {
            return Err("its receipt costs more for a unit than its owner allows");
        }
        let needed = value.checked_add(payment.fees).ok_or("its receipt's value is too large")?;
        if needed > chain.left {
            return Err("it spends more than there is");
        }
        Ok(Effect::Pay { hash: payment.hash, chain: link.chain, value, fees: payment.fees })
    }
}
