//! The state of a ledger: accounts, chains of payments, totals; and the rules by which an operation changes it.
//!
//! [`State::check`] decides, [`State::apply`] does it: in between, the ledger's file keeps the operation. At any time,
//! for each token, what was emitted is what accounts and chains hold and what was earned and taken as fees.

use super::operation::{Operation, Payment, What, grant};
use super::{Error, Hash, Means, Transaction, hash_of, value_of};
use crate::receipt;
use std::collections::{BTreeMap, VecDeque};
use vpn_core::money::{Amount, Closing, Instruction, Opening, Token};
use vpn_core::wire::Receipt;

/// The most chains of an owner that are not finished.
pub(super) const OPEN_MAX: u32 = 64;
/// The most recent events that are remembered.
const EVENTS_MAX: usize = 4096;

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

/// The sums of a token, in datoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What the operator has given out.
    pub emitted: u128,
    /// What receipts have brought the operator.
    pub earned: u128,
    /// What payments have taken besides.
    pub fees: u128,
}

/// Something that has happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Seconds since 1970.
    pub time: u64,
    /// What has happened.
    pub kind: EventKind,
    /// Whose account it is.
    pub owner: Hash,
    /// The token.
    pub token: Token,
    /// How much, in datoshi.
    pub amount: u128,
    /// The hash of the operation.
    pub hash: Hash,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The operator has given an amount.
    Funded,
    /// An amount was locked in a conditional transaction.
    Opened,
    /// A receipt was paid, its fees included.
    Paid,
    /// The rest of a conditional transaction was taken back.
    Closed,
}

/// A conditional transaction and the payments out of it.
#[derive(Clone, Debug)]
struct Chain {
    terms: Transaction,
    token: Token,
    first: Hash,
    last: Hash,
    left: u128,
    closed: Option<Hash>,
}

/// A transaction of a chain: the first one, or a payment.
#[derive(Clone, Copy, Debug)]
struct Link {
    chain: usize,
    /// What it holds, or held before it was spent.
    left: u128,
}

/// What an operation does.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Fund {
        hash: Hash,
        owner: Hash,
        token: Token,
        amount: u128,
    },
    /// `counter` is `None` if the value comes out of nothing.
    Open {
        hash: Hash,
        terms: Transaction,
        token: Token,
        counter: Option<u64>,
    },
    Pay {
        hash: Hash,
        chain: usize,
        value: u128,
        fees: u128,
    },
    Close {
        hash: Hash,
        chain: usize,
        counter: u64,
    },
}

impl Effect {
    /// The hash of the operation.
    pub(super) fn hash(&self) -> Hash {
        match self {
            Effect::Fund { hash, .. }
            | Effect::Open { hash, .. }
            | Effect::Pay { hash, .. }
            | Effect::Close { hash, .. } => *hash,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    accounts: BTreeMap<(Hash, Token), u128>,
    /// What the chains of an owner hold: kept, because strangers may ask for it.
    locked: BTreeMap<(Hash, Token), u128>,
    /// The highest counter of an owner.
    counters: BTreeMap<Hash, u64>,
    /// How many chains of an owner are not finished.
    open: BTreeMap<Hash, u32>,
    chains: Vec<Chain>,
    links: BTreeMap<Hash, Link>,
    totals: BTreeMap<Token, Totals>,
    events: VecDeque<Event>,
    operations: u64,
}

/// The hash of a grant.
pub(super) fn grant_hash(net: u64, number: u64, terms: &Transaction) -> Hash {
    hash_of(&[b"grant", &net.to_le_bytes(), &grant(number, terms)])
}

impl State {
    pub(super) fn balance(&self, owner: &Hash, token: &Token) -> u128 {
        self.accounts.get(&(*owner, *token)).copied().unwrap_or(0)
    }

    /// The accounts: owner, token, balance.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (Hash, Token, u128)> {
        self.accounts.iter().map(|((owner, token), balance)| (*owner, *token, *balance))
    }

    /// What an owner's chains hold.
    pub(super) fn locked(&self, owner: &Hash, token: &Token) -> u128 {
        self.locked.get(&(*owner, *token)).copied().unwrap_or(0)
    }

    pub(super) fn counter(&self, owner: &Hash) -> u64 {
        self.counters.get(owner).copied().unwrap_or(0)
    }

    pub(super) fn totals(&self, token: &Token) -> Totals {
        self.totals.get(token).copied().unwrap_or_default()
    }

    /// What receipts have brought, of all tokens.
    pub(super) fn earned(&self) -> u128 {
        self.totals.values().fold(0, |sum, totals| sum.saturating_add(totals.earned))
    }

    /// What happened last, the latest at the end.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn knows(&self, hash: &Hash) -> bool {
        self.links.contains_key(hash)
    }

    /// The last transaction of the chain that `hash` is in; `None` if that one holds nothing.
    pub(super) fn last(&self, hash: &Hash) -> Option<Hash> {
        let chain = self.chains.get(self.links.get(hash)?.chain)?;
        (chain.left > 0).then_some(chain.last)
    }

    /// Whether two transactions are of one chain.
    pub(super) fn is_same_chain(&self, one: &Hash, other: &Hash) -> bool {
        let chain = |hash| self.links.get(hash).map(|link| link.chain);
        chain(one).is_some_and(|one| chain(other) == Some(one))
    }

    pub(super) fn means(&self, hash: &Hash) -> Option<Means> {
        let link = self.links.get(hash)?;
        let chain = self.chains.get(link.chain)?;
        let output = (link.left > 0).then(|| Transaction { value: link.left, ..chain.terms.clone() });
        Some(Means { output, first: chain.first, is_payment: *hash != chain.first, last: self.last(hash) })
    }

    /// Returns the hash of an instruction that the ledger has accepted already.
    pub(super) fn accepted(&self, instruction: &Instruction, signed: &[u8]) -> Option<Hash> {
        let hash = hash_of(&[signed]);
        let is_known = match instruction {
            Instruction::Open(_) => self.links.contains_key(&hash),
            Instruction::Close(closing) => {
                let chain = self.links.get(&closing.first).and_then(|link| self.chains.get(link.chain));
                chain.is_some_and(|chain| chain.closed == Some(hash))
            }
        };
        is_known.then_some(hash)
    }

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

    /// Does what [`check`](Self::check) has decided on this state.
    pub(super) fn apply(&mut self, effect: Effect, time: u64) {
        self.operations += 1;
        let event = match effect {
            Effect::Fund { hash, owner, token, amount } => {
                self.totals.entry(token).or_default().emitted += amount;
                *self.accounts.entry((owner, token)).or_default() += amount;
                Event { time, kind: EventKind::Funded, owner, token, amount, hash }
            }
            Effect::Open { hash, terms, token, counter } => {
                let (owner, amount) = (terms.client_key, terms.value);
                match counter {
                    Some(counter) => {
                        *self.accounts.entry((owner, token)).or_default() -= amount;
                        self.counters.insert(owner, counter);
                    }
                    None => self.totals.entry(token).or_default().emitted += amount,
                }
                *self.locked.entry((owner, token)).or_default() += amount;
                if amount > 0 {
                    *self.open.entry(owner).or_default() += 1;
                }
                self.links.insert(hash, Link { chain: self.chains.len(), left: amount });
                self.chains.push(Chain { terms, token, first: hash, last: hash, left: amount, closed: None });
                Event { time, kind: EventKind::Opened, owner, token, amount, hash }
            }
            Effect::Pay { hash, chain: index, value, fees } => {
                let chain = &mut self.chains[index];
                let (owner, token, amount) = (chain.terms.client_key, chain.token, value + fees);
                chain.left -= amount;
                chain.last = hash;
                *self.locked.entry((owner, token)).or_default() -= amount;
                self.links.insert(hash, Link { chain: index, left: chain.left });
                let is_finished = chain.left == 0;
                let totals = self.totals.entry(token).or_default();
                totals.earned += value;
                totals.fees += fees;
                if is_finished {
                    self.finished(&owner);
                }
                Event { time, kind: EventKind::Paid, owner, token, amount, hash }
            }
            Effect::Close { hash, chain: index, counter } => {
                let chain = &mut self.chains[index];
                let (owner, token, amount) = (chain.terms.client_key, chain.token, std::mem::take(&mut chain.left));
                chain.closed = Some(hash);
                self.links.insert(chain.last, Link { chain: index, left: 0 });
                *self.accounts.entry((owner, token)).or_default() += amount;
                *self.locked.entry((owner, token)).or_default() -= amount;
                self.counters.insert(owner, counter);
                self.finished(&owner);
                Event { time, kind: EventKind::Closed, owner, token, amount, hash }
            }
        };
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn finished(&mut self, owner: &Hash) {
        if let Some(open) = self.open.get_mut(owner) {
            *open = open.saturating_sub(1);
        }
    }

    /// Adds everything up; returns what does not fit.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut held: BTreeMap<Token, u128> = BTreeMap::new();
        let accounts = self.accounts.iter().map(|((_, token), balance)| (*token, *balance));
        let chains = self.chains.iter().map(|chain| (chain.token, chain.left));
        for (token, amount) in accounts.chain(chains) {
            let sum = held.entry(token).or_default();
            *sum = sum.checked_add(amount).ok_or_else(|| format!("the balances of {token} are too large"))?;
        }
        let mut left: BTreeMap<(Hash, Token), u128> = BTreeMap::new();
        for chain in &self.chains {
            let sum = left.entry((chain.terms.client_key, chain.token)).or_default();
            *sum = sum.saturating_add(chain.left);
        }
        if left != self.locked {
            return Err("what the chains hold is not what their owners have locked".to_owned());
        }
        for (token, totals) in &self.totals {
            let held = held.remove(token).unwrap_or(0);
            let sum = held.checked_add(totals.earned).and_then(|sum| sum.checked_add(totals.fees));
            if sum != Some(totals.emitted) {
                let Totals { emitted, earned, fees } = totals;
                return Err(format!("{token}: {emitted} emitted, but {held} held, {earned} earned, {fees} of fees"));
            }
        }
        held.into_iter()
            .find(|(_, sum)| *sum > 0)
            .map_or(Ok(()), |(token, sum)| Err(format!("{sum} {token} of nobody")))
    }
}
