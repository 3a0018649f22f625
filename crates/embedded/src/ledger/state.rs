//! The state of a ledger: accounts, chains of payments, totals.
//!
//! [`State::check`] decides what an operation does, [`State::apply`] does it: in between, the ledger's file keeps the
//! operation. At any time, for each token, what was emitted is what accounts and chains hold and what was earned and
//! taken as fees.

use super::{Hash, Means, Transaction, hash_of};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use vpn_core::money::{Instruction, Token};

/// The most recent events that are remembered.
const EVENTS_MAX: usize = 4096;

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

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EventKind::Funded => "funded",
            EventKind::Opened => "opened",
            EventKind::Paid => "paid",
            EventKind::Closed => "closed",
        })
    }
}

/// A conditional transaction and the payments out of it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) terms: Transaction,
    pub(super) token: Token,
    pub(super) first: Hash,
    pub(super) last: Hash,
    pub(super) left: u128,
    pub(super) closed: Option<Hash>,
}

/// A transaction of a chain: the first one, or a payment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) chain: usize,
    /// What it holds, or held before it was spent.
    pub(super) left: u128,
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
    /// What an owner's chains hold.
    locked: BTreeMap<(Hash, Token), u128>,
    /// The highest counter of an owner.
    counters: BTreeMap<Hash, u64>,
    /// How many chains of an owner are not finished.
    pub(super) open: BTreeMap<Hash, u32>,
    pub(super) chains: Vec<Chain>,
    pub(super) links: BTreeMap<Hash, Link>,
    totals: BTreeMap<Token, Totals>,
    events: VecDeque<Event>,
    operations: u64,
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

    /// Does what [`State::check`] has decided on this state.
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
                if amount > 0 {
                    *self.open.entry(owner).or_default() += 1;
                    *self.locked.entry((owner, token)).or_default() += amount;
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
                self.links.insert(hash, Link { chain: index, left: chain.left });
                let is_finished = chain.left == 0;
                self.unlock(owner, token, amount);
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
                self.unlock(owner, token, amount);
                *self.accounts.entry((owner, token)).or_default() += amount;
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

    fn unlock(&mut self, owner: Hash, token: Token, amount: u128) {
        if let Entry::Occupied(mut locked) = self.locked.entry((owner, token)) {
            *locked.get_mut() -= amount;
            if *locked.get() == 0 {
                locked.remove();
            }
        }
    }

    fn finished(&mut self, owner: &Hash) {
        if let Some(open) = self.open.get_mut(owner) {
            *open = open.saturating_sub(1);
        }
    }

    /// Adds everything up; returns what does not fit.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut locked: BTreeMap<(Hash, Token), u128> = BTreeMap::new();
        for chain in self.chains.iter().filter(|chain| chain.left > 0) {
            let sum = locked.entry((chain.terms.client_key, chain.token)).or_default();
            *sum = sum.checked_add(chain.left).ok_or_else(|| format!("what {} holds is too large", chain.token))?;
        }
        if locked != self.locked {
            return Err("the conditional transactions hold another sum than their owners have locked".into());
        }
        let mut held: BTreeMap<Token, u128> = BTreeMap::new();
        let accounts = self.accounts.iter().map(|((_, token), balance)| (*token, *balance));
        let chains = self.chains.iter().map(|chain| (chain.token, chain.left));
        for (token, amount) in accounts.chain(chains) {
            let sum = held.entry(token).or_default();
            *sum = sum.checked_add(amount).ok_or_else(|| format!("the balances of {token} are too large"))?;
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
