//! What the operator's log says of a session: by whose key and from where, and no more often than a peer may cause it.
//!
//! One style for all lines, which docs/migration.md lists: `event: client KEY at PEER, usage N, facts`. Amounts have units.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::Level;
use parking_lot::Mutex;

use vpn_core::meter::Unit;
use vpn_core::source::Source;

/// The most sources whose lines are counted apart.
const SOURCES_MAX: usize = 4096;

/// A bound on the lines that a peer causes.
#[derive(Debug)]
struct Budget {
    /// How many lines it may cause at once.
    burst: u64,
    /// The time after which it may cause another one, in milliseconds.
    refill: u64,
    /// When the budget is full again, in milliseconds on the server's clock.
    full_at: AtomicU64,
}

impl Budget {
    const fn new(burst: u64, refill: u64) -> Budget {
        Budget { burst, refill, full_at: AtomicU64::new(0) }
    }

    /// The bound of one session.
    const fn of_session() -> Budget {
        Budget::new(24, 15_000)
    }

    /// The bound of all sessions of a source, which may follow each other fast.
    const fn of_source() -> Budget {
        Budget::new(256, 1000)
    }

    /// Takes a line; false if the peer has caused too many.
    fn take(&self, now: u64) -> bool {
        let full_at = self.full_at.load(Ordering::Relaxed).max(now) + self.refill;
        let fits = full_at - now <= self.burst * self.refill;
        if fits {
            self.full_at.store(full_at, Ordering::Relaxed);
        }
        fits
    }
}

/// The budgets of the sources of sessions. A source that finds no place shares one with others.
#[derive(Debug)]
pub(super) struct Sources {
    budgets: Mutex<HashMap<Source, Arc<Budget>>>,
    shared: Arc<Budget>,
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources { budgets: Mutex::default(), shared: Arc::new(Budget::of_source()) }
    }

    fn budget(&self, now: Duration, source: IpAddr) -> Arc<Budget> {
        let (now, source) = (now.as_millis() as u64, Source::of(source));
        let mut budgets = self.budgets.lock();
        if budgets.len() >= SOURCES_MAX && !budgets.contains_key(&source) {
            budgets.retain(|_, budget| Arc::strong_count(budget) > 1 || budget.full_at.load(Ordering::Relaxed) > now);
        }
        if budgets.len() >= SOURCES_MAX && !budgets.contains_key(&source) {
            return Arc::clone(&self.shared);
        }
        Arc::clone(budgets.entry(source).or_insert_with(|| Arc::new(Budget::of_source())))
    }
}

/// A session's part of the log.
#[derive(Debug)]
pub(super) struct Journal {
    /// The client's host and port.
    peer: String,
    opened: Duration,
    budget: Budget,
    source: Arc<Budget>,
    was_served: AtomicBool,
    end: Mutex<Option<String>>,
}

impl Journal {
    pub(super) fn new(now: Duration, peer: String, sources: &Sources, source: IpAddr) -> Journal {
        Journal {
            peer,
            opened: now,
            budget: Budget::of_session(),
            source: sources.budget(now, source),
            was_served: AtomicBool::new(false),
            end: Mutex::default(),
        }
    }

    /// Names the client of a line.
    pub(super) fn who(&self, key: Option<[u8; 32]>, usage_id: u32) -> Who<'_> {
        Who { key, peer: &self.peer, usage_id }
    }

    /// Returns the level of a line that the client can cause at will: INFO, or DEBUG once it has caused too many.
    pub(super) fn level(&self, now: Duration) -> Level {
        if self.budget.take(now.as_millis() as u64) { self.session_level(now) } else { Level::Debug }
    }

    /// Returns the level of a line that each session causes: INFO, or DEBUG once its source has caused too many.
    pub(super) fn session_level(&self, now: Duration) -> Level {
        if self.source.take(now.as_millis() as u64) { Level::Info } else { Level::Debug }
    }

    /// As [`Journal::level`], for a warning.
    pub(super) fn warning(&self, now: Duration) -> Level {
        if self.level(now) == Level::Info { Level::Warn } else { Level::Debug }
    }

    /// Remembers that the session had a service, so that its end is worth a line.
    pub(super) fn served(&self) {
        self.was_served.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_served(&self) -> bool {
        self.was_served.load(Ordering::Relaxed)
    }

    /// Remembers why the server ends the session. The first reason counts.
    pub(super) fn ends(&self, why: impl Into<String>) {
        self.end.lock().get_or_insert_with(|| why.into());
    }

    /// Returns why the session ended. Without a reason of the server it is the client's leaving or the loss of its
    /// connection, which the SDK does not tell apart.
    pub(super) fn end(&self) -> String {
        self.end.lock().clone().unwrap_or_else(|| "the client's stream ended".to_owned())
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.opened)
    }
}

/// The client of a line: `client KEY at PEER, usage N`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    key: Option<[u8; 32]>,
    peer: &'a str,
    usage_id: u32,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "client {} at {}", Key(key), self.peer)?,
            None => write!(f, "client without a key at {}", self.peer)?,
        }
        match self.usage_id {
            0 => Ok(()),
            id => write!(f, ", usage {id}"),
        }
    }
}

/// A key's hash as the node's commands take it and as the store has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a>(pub(super) &'a [u8; 32]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// An amount of units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount(pub(super) Unit, pub(super) i64);

impl Amount {
    /// The amount of a receipt.
    pub(super) fn of_receipt(unit: Unit, units: u64) -> Amount {
        Amount(unit, i64::try_from(units).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unit::Bytes => write!(f, "{} bytes", self.1),
            Unit::Seconds => write!(f, "{} s", self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    fn journal(now: Duration, sources: &Sources, source: IpAddr) -> Journal {
        Journal::new(now, "192.0.2.7:4711".into(), sources, source)
    }

    #[test]
    fn a_session_causes_a_bounded_number_of_lines() {
        let journal = journal(Duration::ZERO, &Sources::new(), HOME);
        let told = |seconds: std::ops::Range<u64>, per_second: u32| {
            let lines = seconds.flat_map(|second| (0..per_second).map(move |_| Duration::from_secs(second)));
            lines.filter(|now| journal.level(*now) == Level::Info).count()
        };
        assert_eq!(told(0..1, 1000), 24);
        assert_eq!(told(1..61, 8), 4);
        assert_eq!(told(3600..3601, 1000), 24);
        assert_eq!(journal.warning(Duration::from_secs(3601)), Level::Debug);
        assert_eq!(journal.warning(Duration::from_secs(3620)), Level::Warn);
    }

    #[test]
    fn the_sessions_of_a_source_cause_a_bounded_number_of_lines() {
        let sources = Sources::new();
        let told = |second: u64, source: IpAddr| {
            let now = Duration::from_secs(second);
            (0..1000).filter(|_| journal(now, &sources, source).session_level(now) == Level::Info).count()
        };
        assert_eq!(told(0, HOME), 256);
        assert_eq!(told(10, HOME), 10);
        assert_eq!(told(10, IpAddr::from([192, 0, 2, 8])), 256, "another source");
        let [one, other] = ["2001:db8::1", "2001:db8::2:1"].map(|address| address.parse().unwrap());
        assert_eq!((told(10, one), told(10, other)), (256, 0), "one /64");
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let sources = Sources::new();
        let now = Duration::from_secs(1);
        let of = |number: u32| journal(now, &sources, Ipv4Addr::from(number).into());
        for number in 0..10_000 {
            assert_eq!(of(number).session_level(now), if number < 4096 + 256 { Level::Info } else { Level::Debug });
        }
        assert_eq!(sources.budgets.lock().len(), SOURCES_MAX);
        let later = Duration::from_secs(1000);
        journal(later, &sources, HOME);
        assert_eq!(sources.budgets.lock().len(), 1, "full budgets are forgotten");
    }

    #[test]
    fn a_line_names_its_client() {
        let journal = journal(Duration::from_secs(5), &Sources::new(), HOME);
        let key = format!("0x{}", "0A".repeat(32));
        assert_eq!(journal.who(Some([10; 32]), 7).to_string(), format!("client {key} at 192.0.2.7:4711, usage 7"));
        assert_eq!(journal.who(None, 0).to_string(), "client without a key at 192.0.2.7:4711");
        assert_eq!(journal.end(), "the client's stream ended");
        journal.ends("silent for 60 s");
        journal.ends("the service stops");
        assert_eq!(journal.end(), "silent for 60 s");
        assert_eq!(journal.age(Duration::from_secs(8)), Duration::from_secs(3));
    }

    #[test]
    fn amounts_have_units() {
        let texts = [Amount(Unit::Bytes, 6000), Amount(Unit::Seconds, -3)].map(|amount| amount.to_string());
        assert_eq!(texts, ["6000 bytes", "-3 s"]);
    }
}
