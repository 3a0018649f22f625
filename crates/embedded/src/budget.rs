//! The memory that peers make this process keep, added up: output that waits, input that is incomplete, handshakes, HTTP
//! requests and answers. The process has a budget, and each source a share of it. What exceeds either is refused.

use crate::config::Config;
use crate::cview::heap;
use crate::places;
use crate::threads;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};
use vpn_core::source::{Network, Source};

const MIB: usize = 1024 * 1024;
/// The budget without `[server] max_memory`: a quarter of the machine's memory, within these bounds.
const DEFAULT_MIN: usize = 64 * MIB;
const DEFAULT_MAX: usize = 512 * MIB;
/// What a new account gets even when the budget is used up, bytes: a handshake and small packets fit. So a peer that
/// comes last is still served, and the excess is bounded by the number of connections.
pub(crate) const ALWAYS: usize = 16 * 1024;
/// An account grows by this, bytes, so that most packets change nothing that threads share.
const STEP: usize = 64 * 1024;
/// An account that needs this much less than it has gives the rest back, bytes.
const SLACK: usize = 2 * STEP;
/// When the bytes in use have fallen by this much, the heap returns its free memory to the system.
const GIVE_BACK: usize = 4 * MIB;
/// Shortest time between two times that it does.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(8);

static BUDGET: LazyLock<Budget> = LazyLock::new(|| Budget::new(default_budget()));
/// When the heap last gave memory back.
static GAVE_BACK: Mutex<Option<Instant>> = Mutex::new(None);

/// What was refused because the budget, or a source's share, was used up.
static REFUSED: AtomicU64 = AtomicU64::new(0);

struct Budget {
    most: AtomicUsize,
    most_per_source: AtomicUsize,
    used: AtomicUsize,
    /// The most that was in use since the heap gave memory back.
    high: AtomicUsize,
    /// Peers choose the keys, so this uses the standard library's hash.
    shares: Mutex<HashMap<Network, Weak<Share>>>,
}

/// What one network uses.
struct Share {
    network: Network,
    used: AtomicUsize,
}

/// The bytes that one connection uses, in one direction. It belongs to one thread at a time.
pub(crate) struct Account {
    shares: Box<[Arc<Share>]>,
    held: Cell<usize>,
    always: Cell<usize>,
}

/// Reads the budget from `[server] max_memory` and `max_memory_per_address`. Later accounts and changes follow it.
pub(crate) fn configure(config: &Config) {
    let configured = |key: &str| match config.get_u64("server", key, 0) {
        0 => None,
        bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
    };
    let most = configured("max_memory").unwrap_or_else(default_budget);
    let per_source = configured("max_memory_per_address").unwrap_or(most / 4);
    BUDGET.most.store(most, Ordering::Relaxed);
    BUDGET.most_per_source.store(per_source, Ordering::Relaxed);
}

/// The bytes that all accounts together use now, and the most they may use.
pub fn used() -> (usize, usize) {
    (BUDGET.used.load(Ordering::Relaxed), BUDGET.most.load(Ordering::Relaxed))
}

/// The number of times that memory was refused.
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// Gives the heap's free memory back to the system if much less is in use than was, on a thread of its own. Returns true
/// if that is still to be done, because it was done a moment ago.
pub(crate) fn give_back() -> bool {
    let used = BUDGET.used.load(Ordering::Relaxed);
    if BUDGET.high.load(Ordering::Relaxed).saturating_sub(used) < GIVE_BACK {
        return false;
    }
    let mut last = GAVE_BACK.lock();
    if last.is_some_and(|last| last.elapsed() < GIVE_BACK_INTERVAL) {
        return true;
    }
    *last = Some(Instant::now());
    BUDGET.high.store(used, Ordering::Relaxed);
    // Without a thread the memory stays until the next time.
    drop(threads::spawn("vpn-trim", heap::give_back));
    false
}

impl Budget {
    fn new(most: usize) -> Budget {
        Budget {
            most: AtomicUsize::new(most),
            most_per_source: AtomicUsize::new(most / 4),
            used: AtomicUsize::new(0),
            high: AtomicUsize::new(0),
            shares: Mutex::default(),
        }
    }
}

impl Account {
    /// An account of nothing for a connection with this peer.
    pub(crate) fn of(peer: IpAddr) -> Account {
        let mut shares = BUDGET.shares.lock();
        let shares = Source::of(peer).networks().map(|network| {
            let known = shares.get(&network).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let share = Arc::new(Share { network, used: AtomicUsize::new(0) });
                shares.insert(network, Arc::downgrade(&share));
                share
            })
        });
        Account { shares: shares.collect(), held: Cell::new(0), always: Cell::new(ALWAYS) }
    }

    /// Guarantees the account this many bytes from now on, even when the budget is used up.
    pub(crate) fn assure(&self, bytes: usize) {
        self.always.set(bytes);
    }

    /// Grows the account to cover `bytes`. If the budget does not allow it, counts a refusal and returns false.
    #[inline]
    pub(crate) fn covers(&self, bytes: usize) -> bool {
        bytes <= self.held.get() || self.grow(bytes)
    }

    /// Returns whether the account covers `bytes` already.
    #[inline]
    pub(crate) fn has(&self, bytes: usize) -> bool {
        bytes <= self.held.get()
    }

    #[cold]
    fn grow(&self, bytes: usize) -> bool {
        let held = self.held.get();
        let roomy = if bytes <= ALWAYS { ALWAYS } else { bytes.next_multiple_of(STEP) };
        if self.add(roomy - held) || self.add(bytes - held) {
            return true;
        }
        if bytes <= self.always.get() {
            self.add_in_any_case(bytes - held);
            return true;
        }
        REFUSED.fetch_add(1, Ordering::Relaxed);
        host::log_bounded!(
            Warn,
            "refused memory to {}: {} bytes are in use, of {} ([server] max_memory) and {} per address ([server] \
             max_memory_per_address)",
            self.shares.first().map_or_else(|| "no source".into(), |share| share.network.to_string()),
            used().0,
            used().1,
            BUDGET.most_per_source.load(Ordering::Relaxed)
        );
        false
    }

    fn add(&self, bytes: usize) -> bool {
        let most = BUDGET.most.load(Ordering::Relaxed);
        let per_source = BUDGET.most_per_source.load(Ordering::Relaxed);
        self.add_in_any_case(bytes);
        let fits = BUDGET.used.load(Ordering::Relaxed) <= most
            && self
                .shares
                .iter()
                .all(|share| share.used.load(Ordering::Relaxed) <= places::share(share.network, per_source));
        if !fits {
            self.subtract(bytes);
        }
        fits
    }

    fn add_in_any_case(&self, bytes: usize) {
        for share in &self.shares {
            share.used.fetch_add(bytes, Ordering::Relaxed);
        }
        let used = BUDGET.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        BUDGET.high.fetch_max(used, Ordering::Relaxed);
        self.held.set(self.held.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        for share in &self.shares {
            share.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        BUDGET.used.fetch_sub(bytes, Ordering::Relaxed);
        self.held.set(self.held.get() - bytes);
    }

    /// Gives back what the account has beyond a need of `bytes`, if that is much.
    #[inline]
    pub(crate) fn settle(&self, bytes: usize) {
        if self.held.get() > bytes + SLACK {
            self.subtract(self.held.get() - bytes.next_multiple_of(STEP).max(STEP));
        }
    }

    /// Gives back all that the account has beyond `bytes`.
    pub(crate) fn shrink(&self, bytes: usize) {
        if self.held.get() > bytes {
            self.subtract(self.held.get() - bytes);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = BUDGET.shares.lock();
        // A newer share of the same network may stand there already.
        if shares.get(&self.network).is_some_and(|share| share.strong_count() == 0) {
            shares.remove(&self.network);
        }
    }
}

/// A quarter of the machine's memory, within bounds.
fn default_budget() -> usize {
    let system = rustix::system::sysinfo();
    let memory = u64::from(system.mem_unit).saturating_mul(system.totalram as u64);
    usize::try_from(memory / 4).unwrap_or(usize::MAX).clamp(DEFAULT_MIN, DEFAULT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process has one budget.
    static ALONE: Mutex<()> = Mutex::new(());

    fn budget(most: usize, per_source: usize) {
        let text = format!("[server]\nmax_memory={most}\nmax_memory_per_address={per_source}");
        configure(&Config::parse(&text, "test.cfg").0);
    }

    fn account(text: &str) -> Account {
        Account::of(text.parse().unwrap())
    }

    #[test]
    fn sources_share_the_budget() {
        let _alone = ALONE.lock();
        let before = used().0;
        budget(before + 20 * STEP, 4 * STEP);
        let (one, same, other) = (account("192.0.2.1"), account("::ffff:192.0.2.1"), account("192.0.2.2"));
        assert!(one.covers(3 * STEP) && same.covers(STEP));
        let refusals = refused();
        assert!(!same.covers(2 * STEP) && !one.covers(3 * STEP + 1));
        assert_eq!(refused(), refusals + 2);
        assert!(other.covers(4 * STEP));
        // Little is given in any case.
        let late = account("192.0.2.1");
        assert!(late.covers(ALWAYS) && !late.covers(ALWAYS + 1));
        late.assure(2 * ALWAYS);
        assert!(late.covers(2 * ALWAYS) && !late.covers(2 * ALWAYS + 1));
        late.shrink(ALWAYS);
        late.assure(ALWAYS);
        drop(late);
        one.shrink(STEP);
        assert!(same.covers(3 * STEP));
        drop((one, same, other));
        assert_eq!(used().0, before);
        assert!(BUDGET.shares.lock().keys().all(|network| !network.to_string().starts_with("192.0.2.")));
    }

    #[test]
    fn a_site_has_twice_the_share_of_a_host() {
        let _alone = ALONE.lock();
        let before = used().0;
        budget(before + 100 * STEP, 4 * STEP);
        let accounts: Vec<_> = (0..20).map(|host| account(&format!("2001:db8:1:1{host:02}::1"))).collect();
        // Of one /56 each.
        assert_eq!(accounts.iter().take_while(|account| account.covers(STEP)).count(), 6);
        let other = account("2001:db8:1:200::1");
        assert!(other.covers(2 * STEP) && !other.covers(3 * STEP));
        drop((accounts, other));
        budget(before + 4 * STEP, 100 * STEP);
        let (one, two) = (account("192.0.2.1"), account("192.0.2.2"));
        assert!(one.covers(4 * STEP) && !two.covers(STEP));
        one.settle(0);
        assert!(two.covers(3 * STEP));
        drop((one, two));
        assert_eq!(used().0, before);
        configure(&Config::parse("", "test.cfg").0);
        assert!((DEFAULT_MIN..=DEFAULT_MAX).contains(&used().1));
    }
}
