//! The bound of service without payment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::source::Source;

/// How much grace is given. The default is what a server without these keys gives: one grace at a time and three in an
/// hour for each address, 64 at a time and 4 GiB in an hour for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceLimits {
    /// The time after which a source's use, and that of all, is forgotten.
    pub window: Duration,
    /// The longest grace.
    pub time: Duration,
    /// The most bytes of one grace.
    pub bytes: u64,
    /// The graces of one source at the same time.
    pub source_at_once: u32,
    /// The time of all graces of one source in a window.
    pub source_time: Duration,
    /// The bytes of all graces of one source in a window.
    pub source_bytes: u64,
    /// The graces at the same time.
    pub total_at_once: u32,
    /// The bytes of all graces in a window.
    pub total_bytes: u64,
    /// The largest number of sources in the table. While it is full, a new source gets no grace.
    pub sources: usize,
}

impl Default for GraceLimits {
    fn default() -> GraceLimits {
        GraceLimits {
            window: Duration::from_secs(3600),
            time: Duration::from_secs(60),
            bytes: 64 << 20,
            source_at_once: 1,
            source_time: Duration::from_secs(3 * 60),
            source_bytes: 3 * (64 << 20),
            total_at_once: 64,
            total_bytes: 4 << 30,
            sources: 4096,
        }
    }
}

/// The bounds of one grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceLimit {
    /// The longest time.
    pub time: Duration,
    /// The most bytes.
    pub bytes: u64,
}

/// Why there is no grace.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceRefusal {
    /// The source has as many graces at the same time as it may.
    #[error("the address is in grace already")]
    SourceAtOnce,
    /// The source has used its time or its bytes.
    #[error("the address has used its grace")]
    SourceUsed,
    /// There are as many graces at the same time as there may be.
    #[error("too many clients are in grace")]
    TotalAtOnce,
    /// All graces together have used the bytes of the window.
    #[error("the bytes of grace are used")]
    TotalUsed,
    /// As many sources are remembered as may be.
    #[error("too many addresses were in grace")]
    Sources,
}

/// Which source may have how much grace. An IPv4 address is a source, and so is an IPv6 network of 64 bits: one host can
/// have all addresses of such a network.
///
/// A grace's whole limit counts as used while it lasts, so that graces at the same time do not exceed the bounds
/// together. A window starts with the first grace after the last window's end; what a grace uses counts in the windows
/// that last when it ends.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::meter::{Grace, GraceLimits, GraceRefusal};
///
/// let mut grace = Grace::new(GraceLimits::default());
/// let at = Duration::from_secs;
/// let client = [192, 0, 2, 7].into();
/// let limit = grace.admit(at(0), client).unwrap();
/// assert_eq!(limit.time, at(60));
/// assert_eq!(grace.admit(at(1), client), Err(GraceRefusal::SourceAtOnce));
/// grace.release(at(10), client, limit, at(10), 5_000);
/// assert!(grace.admit(at(11), client).is_ok());
/// ```
#[derive(Debug)]
pub struct Grace {
    limits: GraceLimits,
    sources: HashMap<Source, Account>,
    total: Account,
}

/// What was used in a window, and what is reserved by the graces that last.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    since: Duration,
    used: Amount,
    reserved: Amount,
    at_once: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    time: Duration,
    bytes: u64,
}

impl Grace {
    /// Creates the table.
    pub fn new(limits: GraceLimits) -> Grace {
        Grace { limits, sources: HashMap::new(), total: Account::default() }
    }

    /// Changes the limits, for what is admitted from now on. What was used before counts.
    pub fn set_limits(&mut self, limits: GraceLimits) {
        self.limits = limits;
    }

    /// Grants a source one grace, and reserves what it may use. [`Grace::release`] ends it.
    pub fn admit(&mut self, now: Duration, source: IpAddr) -> Result<GraceLimit, GraceRefusal> {
        let limits = self.limits;
        let source = Source::of(source);
        self.total.forget(now, limits.window);
        let mut account = self.sources.get(&source).copied().unwrap_or_default();
        account.forget(now, limits.window);
        if account.at_once >= limits.source_at_once {
            return Err(GraceRefusal::SourceAtOnce);
        }
        if self.total.at_once >= limits.total_at_once {
            return Err(GraceRefusal::TotalAtOnce);
        }
        let spent = account.spent();
        let time = limits.time.min(limits.source_time.saturating_sub(spent.time));
        let source_bytes = limits.bytes.min(limits.source_bytes.saturating_sub(spent.bytes));
        if time.is_zero() || source_bytes == 0 {
            return Err(GraceRefusal::SourceUsed);
        }
        let bytes = source_bytes.min(limits.total_bytes.saturating_sub(self.total.spent().bytes));
        if bytes == 0 {
            return Err(GraceRefusal::TotalUsed);
        }
        if !self.has_place(now, &source) {
            return Err(GraceRefusal::Sources);
        }
        let limit = GraceLimit { time, bytes };
        account.begin(now, limit);
        self.total.begin(now, limit);
        self.sources.insert(source, account);
        Ok(limit)
    }

    /// Ends a grace that [`Grace::admit`] granted to the source with this limit, and of which `time` and `bytes` were
    /// used.
    pub fn release(&mut self, now: Duration, source: IpAddr, limit: GraceLimit, time: Duration, bytes: u64) {
        let source = Source::of(source);
        let Some(account) = self.sources.get_mut(&source).filter(|account| account.at_once > 0) else { return };
        for account in [account, &mut self.total] {
            account.forget(now, self.limits.window);
            account.end(limit, Amount { time, bytes });
        }
    }

    /// Counts service for a payment that did not come as grace of the source. A source that cannot be remembered is
    /// counted in the total alone.
    pub fn charge(&mut self, now: Duration, source: IpAddr, time: Duration, bytes: u64) {
        let source = Source::of(source);
        self.total.add(now, self.limits.window, Amount { time, bytes });
        if self.has_place(now, &source) {
            self.sources.entry(source).or_default().add(now, self.limits.window, Amount { time, bytes });
        }
    }

    /// Returns whether the source, or all together, have used all grace of the window, or there is none: such a source is
    /// served only for payments that are in the ledger.
    pub fn is_used(&mut self, now: Duration, source: IpAddr) -> bool {
        let limits = self.limits;
        self.total.forget(now, limits.window);
        if self.total.used.bytes >= limits.total_bytes || limits.source_time.is_zero() || limits.source_bytes == 0 {
            return true;
        }
        let Some(account) = self.sources.get_mut(&Source::of(source)) else { return false };
        account.forget(now, limits.window);
        account.used.time >= limits.source_time || account.used.bytes >= limits.source_bytes
    }

    /// Returns the number of sources that are remembered.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Makes a place for a source, if necessary by forgetting all whose windows are over.
    fn has_place(&mut self, now: Duration, source: &Source) -> bool {
        if self.sources.len() >= self.limits.sources && !self.sources.contains_key(source) {
            let window = self.limits.window;
            self.sources.retain(|_, account| account.at_once > 0 || !account.is_over(now, window));
            return self.sources.len() < self.limits.sources;
        }
        true
    }
}

impl Account {
    fn is_over(&self, now: Duration, window: Duration) -> bool {
        now.saturating_sub(self.since) >= window
    }

    /// Starts a new window if the last one is over.
    fn forget(&mut self, now: Duration, window: Duration) {
        if self.is_over(now, window) {
            self.used = Amount::default();
            self.since = now;
        }
    }

    fn spent(&self) -> Amount {
        Amount {
            time: self.used.time.saturating_add(self.reserved.time),
            bytes: self.used.bytes.saturating_add(self.reserved.bytes),
        }
    }

    fn begin(&mut self, now: Duration, limit: GraceLimit) {
        if self.at_once == 0 && self.used.time.is_zero() && self.used.bytes == 0 {
            self.since = now;
        }
        self.reserved.time = self.reserved.time.saturating_add(limit.time);
        self.reserved.bytes = self.reserved.bytes.saturating_add(limit.bytes);
        self.at_once += 1;
    }

    fn add(&mut self, now: Duration, window: Duration, used: Amount) {
        self.forget(now, window);
        self.used.time = self.used.time.saturating_add(used.time);
        self.used.bytes = self.used.bytes.saturating_add(used.bytes);
    }

    fn end(&mut self, limit: GraceLimit, used: Amount) {
        self.at_once = self.at_once.saturating_sub(1);
        self.reserved.time = self.reserved.time.saturating_sub(limit.time);
        self.reserved.bytes = self.reserved.bytes.saturating_sub(limit.bytes);
        self.used.time = self.used.time.saturating_add(used.time);
        self.used.bytes = self.used.bytes.saturating_add(used.bytes);
    }
}

#[cfg(test)]
mod tests;
