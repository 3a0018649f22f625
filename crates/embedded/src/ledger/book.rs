//! The ledger of one network: its state, what waits for it, and its file if it has one.

use super::file::{self, FileError, Log, Medium};
use super::operation::{Operation, Payment, What};
use super::rules::Rules;
use super::state::{Effect, State};
use super::{Error, Hash, OpenError, Order, Refusal};
use crate::receipt;
use crate::state::StateDir;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vpn_core::money::Instruction;
use vpn_core::rate::Budget;

/// The instructions that an owner may give at once, and then one in this time: they stay in the file.
const INSTRUCTIONS: (u32, Duration) = (64, Duration::from_secs(60));
/// The most refused payments that are remembered.
const REFUSED_MAX: usize = 1024;

/// The ledger of a network.
pub(super) struct Book {
    net: u64,
    /// The file; `None` for a ledger in memory. Whoever holds it alone changes the state.
    log: Mutex<Option<Log>>,
    inner: Mutex<Inner>,
    /// The node's key; for a ledger in memory the one that it has when it is asked.
    identity: Option<Identity>,
    /// It has no file, although the ledgers of this process have.
    is_closed: bool,
}

/// The hashes of the node's key: the one that instructions name, and the one of its receipts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) authority: Hash,
    pub(super) provider: Hash,
}

impl Identity {
    fn of_node() -> Option<Identity> {
        receipt::node_key().map(|key| Identity { authority: key.fingerprint(), provider: key.hash() })
    }
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) orders: BTreeMap<Hash, Order>,
    pub(super) state: State,
    pub(super) mempool: Vec<Operation>,
    /// The mempool waits for [`process`](super::process).
    pub(super) by_hand: bool,
    pub(super) is_offline: bool,
    pub(super) net_fee: u128,
    pub(super) refused: VecDeque<Refusal>,
    instructions: BTreeMap<Hash, Budget>,
}

impl Inner {
    /// Whether a payment out of this chain waits.
    fn is_paying(&self, first: &Hash) -> bool {
        let spends = |operation: &Operation| match &operation.what {
            What::Payment(payment) => Some(payment.spends),
            _ => None,
        };
        self.mempool.iter().filter_map(spends).any(|spends| self.state.is_same_chain(&spends, first))
    }
}

impl Book {
    /// A ledger in memory, or one that accepts nothing.
    pub(super) fn new(net: u64, is_closed: bool) -> Book {
        Book { net, log: Mutex::new(None), inner: Mutex::default(), identity: None, is_closed }
    }

    /// Reads a ledger's file in the state directory, and makes one if there is none.
    pub(super) fn open(net: u64, directory: &StateDir) -> Result<Book, OpenError> {
        let name = format!("ledger-{net:016x}");
        let path = directory.path_of(&name);
        let failed = |error: FileError| OpenError::File { path: path.clone(), source: error.into() };
        let file = loop {
            if let Some((file, mode)) = directory.open_file(&name)? {
                if let Some(mode) = mode.filter(|mode| mode & 0o022 != 0) {
                    log::warn!("{}: other users could write it until now (mode {mode:04o})", path.display());
                }
                break file;
            }
            let made = directory.create(&name, |mut file| {
                file.write_all(&file::head(net))
                    .and_then(|()| file.sync_all())
                    .map_err(|error| failed(FileError::Io(error)))
            });
            match made {
                // Another process has just made it.
                Err(OpenError::State(error)) if error.is_exists() => {}
                made => made?,
            }
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked(path)),
            locked => locked.map_err(|errno| failed(FileError::Io(errno.into())))?,
        }
        let identity = Identity::of_node().ok_or(OpenError::Identity)?;
        let (book, cut) = Book::read(net, Box::new(file), identity).map_err(failed)?;
        if cut > 0 {
            log::warn!("{}: {cut} bytes of an operation that was not finished are removed", path.display());
        }
        Ok(book)
    }

    /// Reads a ledger's file; returns also how many bytes of an unfinished operation were cut off.
    pub(super) fn read(net: u64, medium: Box<dyn Medium>, identity: Identity) -> Result<(Book, u64), FileError> {
        let mut state = State::default();
        // The signatures were verified when the operation came, and the hashes hold it since.
        let rules = Rules { net, trusts: true, ..Rules::default() };
        let (log, cut) = Log::open(medium, net, |bytes| replay(&mut state, bytes, &rules))?;
        state.audit().map_err(FileError::Sums)?;
        let (log, inner) = (Mutex::new(Some(log)), Mutex::new(Inner { state, ..Inner::default() }));
        Ok((Book { net, log, inner, identity: Some(identity), is_closed: false }, cut))
    }

    pub(super) fn with<R>(&self, body: impl FnOnce(&mut Inner) -> R) -> R {
        body(&mut self.inner.lock())
    }

    /// Whether the ledger has a file.
    pub(super) fn is_durable(&self) -> bool {
        self.identity.is_some()
    }

    fn rules(&self, operation: &Operation) -> Rules {
        let asks = matches!(operation.what, What::Instruction(_));
        let identity = self.identity.or_else(|| asks.then(Identity::of_node).flatten());
        Rules {
            net: self.net,
            authority: identity.map(|identity| identity.authority),
            // In memory, tests are the provider.
            provider: self.identity.map(|identity| identity.provider),
            trusts: false,
        }
    }

    /// Decides on an operation, writes it to the disk, and changes the state, in this order.
    pub(super) fn execute(&self, operation: &Operation) -> Result<Hash, Error> {
        if self.is_closed {
            return Err(Error::NotOpen(self.net));
        }
        let mut log = self.log.lock();
        let rules = self.rules(operation);
        let effect = self.inner.lock().state.check(operation, &rules)?;
        let hash = effect.hash();
        if let Some(log) = log.as_mut() {
            log.append(&operation.encode()).map_err(|error| Error::Write(error.to_string()))?;
        }
        self.inner.lock().state.apply(effect, operation.time);
        Ok(hash)
    }

    /// Accepts an instruction of a wallet, now or from the mempool.
    pub(super) fn submit(&self, bytes: &[u8]) -> Result<Hash, Error> {
        if self.is_closed {
            return Err(Error::NotOpen(self.net));
        }
        let (instruction, signed, _) = Instruction::parse(bytes)?;
        let operation = Operation { time: now(), what: What::Instruction(bytes.to_vec()) };
        let rules = self.rules(&operation);
        let answer = self.with(|inner| {
            if let Some(hash) = inner.state.accepted(&instruction, signed) {
                return Ok(Some(hash));
            }
            let effect = inner.state.check(&operation, &rules)?;
            if let Instruction::Close(closing) = &instruction
                && inner.is_paying(&closing.first)
            {
                return Err(Error::InFlight);
            }
            // Only owners of something come so far, so that strangers use up nobody's budget, nor make one.
            let now = clock();
            inner.instructions.retain(|_, budget| !budget.is_full(now));
            let new = || Budget::new(INSTRUCTIONS.0, INSTRUCTIONS.1);
            if !inner.instructions.entry(*instruction.owner()).or_insert_with(new).take(now) {
                return Err(Error::TooOften);
            }
            if inner.by_hand {
                inner.mempool.push(operation.clone());
                return Ok(Some(effect.hash()));
            }
            Ok(None)
        })?;
        answer.map_or_else(|| self.execute(&operation), Ok)
    }

    /// Executes what waits; returns what was accepted.
    pub(super) fn process(&self) -> Vec<Hash> {
        let mempool = self.with(|inner| std::mem::take(&mut inner.mempool));
        let accepted = mempool.into_iter().filter_map(|operation| match self.execute(&operation) {
            Ok(hash) => Some(hash),
            Err(error) => {
                self.refuse(&operation, &error);
                None
            }
        });
        accepted.collect()
    }

    /// Remembers a refused payment.
    pub(super) fn refuse(&self, operation: &Operation, error: &Error) {
        host::log_bounded!(Warn, "the ledger refuses an operation: {error}");
        if let (What::Payment(Payment { hash, .. }), Error::Payment(reason)) = (&operation.what, error) {
            self.with(|inner| {
                if inner.refused.len() == REFUSED_MAX {
                    inner.refused.pop_front();
                }
                inner.refused.push_back(Refusal { payment: *hash, reason });
            });
        }
    }
}

/// Repeats an operation of the file.
fn replay(state: &mut State, bytes: &[u8], rules: &Rules) -> Result<(), String> {
    let operation = Operation::parse(bytes).ok_or("an operation is malformed")?;
    let effect: Effect = state.check(&operation, rules).map_err(|error| format!("an operation cannot be: {error}"))?;
    state.apply(effect, operation.time);
    Ok(())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A clock that does not go back.
fn clock() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
