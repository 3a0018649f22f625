//! What the operator's log says of a session: by whose key and from where, and no more often than a peer may cause it.
//!
//! One style for all lines, which docs/migration.md lists: `event: client KEY at PEER, usage N, facts`. Amounts have units.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::Level;
use parking_lot::Mutex;

use vpn_core::meter::Unit;
use vpn_core::rate::{Budget, LINE_INTERVAL, Lines};
use vpn_core::source::Source;
use vpn_core::wire::HashText;

/// The lines of one kind that strangers may cause at once, all together, each source one; then one a minute.
const STRANGERS: u32 = 16;
/// The lines that one session of a client that pays may cause at once, and then one in this time.
const PAYING: (u32, Duration) = (32, Duration::from_secs(15));
/// The same for all such sessions of a source, which may follow each other fast.
const PAYING_SOURCE: (u32, Duration) = (128, Duration::from_secs(5));
/// The most sources whose lines are counted apart.
const SOURCES_MAX: usize = 4096;

/// The lines that clients have caused.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By kind: the event that the line begins with.
    strangers: Mutex<BTreeMap<&'static str, Kind>>,
    paying: Mutex<HashMap<Source, Budget>>,
}

/// One kind of line.
#[derive(Debug)]
struct Kind {
    all: Lines,
    /// Of the sources that have lines in the log; few, as `all` bounds them.
    sources: HashMap<Source, Budget>,
}

impl Kind {
    fn tell(&mut self, now: Duration, source: Source) -> bool {
        self.sources.retain(|_, budget| !budget.is_full(now));
        if self.sources.get(&source).is_some_and(|budget| !budget.has_any(now)) {
            self.all.leave_out(now);
            return false;
        }
        if self.all.tell(now).is_none() {
            return false;
        }
        self.sources.entry(source).or_insert_with(|| Budget::new(1, LINE_INTERVAL)).take(now);
        true
    }
}

impl Sources {
    /// Counts a line that a client without paid service causes. Returns false if the log has enough of this kind.
    fn stranger(&self, now: Duration, kind: &'static str, source: Source) -> bool {
        let new = || Kind { all: Lines::counting(STRANGERS), sources: HashMap::new() };
        self.strangers.lock().entry(kind).or_insert_with(new).tell(now, source)
    }

    /// The same for a client that pays.
    fn paying(&self, now: Duration, source: Source) -> bool {
        let mut paying = self.paying.lock();
        if paying.len() >= SOURCES_MAX && !paying.contains_key(&source) {
            paying.retain(|_, budget| !budget.is_full(now));
            if paying.len() >= SOURCES_MAX {
                return false;
            }
        }
        paying.entry(source).or_insert_with(|| Budget::new(PAYING_SOURCE.0, PAYING_SOURCE.1)).take(now)
    }

    /// Returns the kinds of which lines were left out, and how many, a minute after the first of them.
    pub(super) fn left_out(&self, now: Duration) -> Vec<(&'static str, u64)> {
        let mut kinds = self.strangers.lock();
        kinds.iter_mut().filter_map(|(kind, lines)| Some((*kind, lines.all.overdue(now)?))).collect()
    }
}

/// A session's part of the log.
#[derive(Debug)]
pub(super) struct Journal {
    /// The client's host and port.
    peer: String,
    opened: Duration,
    sources: Arc<Sources>,
    source: Source,
    /// The client pays, or has paid.
    is_paying: AtomicBool,
    /// What it may cause then.
    budget: Mutex<Budget>,
    was_served: AtomicBool,
    end: Mutex<Option<String>>,
}

impl Journal {
    pub(super) fn new(now: Duration, peer: String, sources: &Arc<Sources>, source: Source) -> Journal {
        Journal {
            peer,
            opened: now,
            sources: Arc::clone(sources),
            source,
            is_paying: AtomicBool::new(false),
            budget: Mutex::new(Budget::new(PAYING.0, PAYING.1)),
            was_served: AtomicBool::new(false),
            end: Mutex::default(),
        }
    }

    /// Returns the client's host and port.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// Names the client of a line.
    pub(super) fn who(&self, key: Option<[u8; 32]>, usage_id: u32) -> Who<'_> {
        Who { key, peer: &self.peer, usage_id }
    }

    /// Returns the level of a line that begins with the event `kind`: INFO, or DEBUG if the log has enough of them.
    pub(super) fn level(&self, now: Duration, kind: &'static str) -> Level {
        let is_told = match self.is_paying.load(Ordering::Relaxed) {
            true => self.budget.lock().take(now) && self.sources.paying(now, self.source),
            false => self.sources.stranger(now, kind, self.source),
        };
        if is_told { Level::Info } else { Level::Debug }
    }

    /// As [`Journal::level`], for a warning.
    pub(super) fn warning(&self, now: Duration, kind: &'static str) -> Level {
        if self.level(now, kind) == Level::Info { Level::Warn } else { Level::Debug }
    }

    /// Remembers that the client pays: it is no stranger, and its lines are worth more.
    pub(super) fn pays(&self) {
        self.is_paying.store(true, Ordering::Relaxed);
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
            Some(key) => write!(f, "client {} at {}", HashText(key), self.peer)?,
            None => write!(f, "client without a key at {}", self.peer)?,
        }
        match self.usage_id {
            0 => Ok(()),
            id => write!(f, ", usage {id}"),
        }
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

    fn source(number: u32) -> Source {
        Source::of(Ipv4Addr::from(number).into())
    }

    fn journal(now: Duration, sources: &Arc<Sources>, source: Source) -> Journal {
        Journal::new(now, "192.0.2.7:4711".into(), sources, source)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many lines of 1000 sessions from these sources the log gets at a second.
    fn told(sources: &Arc<Sources>, second: u64, of: impl Fn(u32) -> Source) -> usize {
        let new = |number| journal(at(second), sources, of(number));
        (0..1000).filter(|number| new(*number).level(at(second), "session ended") == Level::Info).count()
    }

    #[test]
    fn strangers_cause_a_line_a_minute_and_its_number() {
        let sources = Arc::default();
        assert_eq!(told(&sources, 0, |_| source(1)), 1, "of one source");
        assert_eq!(told(&sources, 0, source), 15, "of all");
        assert_eq!(told(&sources, 59, source), 0);
        assert_eq!(sources.left_out(at(59)), []);
        assert_eq!(sources.left_out(at(60)), [("session ended", 999 + 985 + 1000)]);
        let later: Vec<_> = (60..660).map(|second| told(&sources, second, source)).collect();
        assert_eq!(later.iter().sum::<usize>(), 10, "in ten minutes");
        assert_eq!(journal(at(60), &sources, source(9)).level(at(60), "address leased"), Level::Info, "another kind");
    }

    #[test]
    fn few_strangers_are_told_one_by_one() {
        let sources = Arc::default();
        for minute in 0..1000 {
            let journal = journal(at(60 * minute), &sources, source(1));
            assert_eq!(journal.warning(at(60 * minute), "address refused"), Level::Warn);
        }
        assert_eq!(sources.left_out(at(100_000)), []);
    }

    #[test]
    fn a_client_that_pays_is_told_and_bounded() {
        let sources = Arc::default();
        assert_eq!(told(&sources, 0, |_| source(1)), 1);
        let client = journal(at(0), &sources, source(1));
        client.pays();
        assert_eq!((0..100).filter(|_| client.level(at(0), "session ended") == Level::Info).count(), 32);
        let of = |number| {
            let client = journal(at(0), &sources, source(number));
            client.pays();
            client.level(at(0), "session ended") == Level::Info
        };
        assert_eq!((0..1000).filter(|_| of(1)).count(), 96, "all of its source");
        assert_eq!((2..5000).filter(|number| of(*number)).count(), SOURCES_MAX - 1, "the table is bounded");
    }

    #[test]
    fn the_table_of_strangers_is_bounded() {
        let sources = Arc::default();
        for second in 0..3600_u32 {
            told(&sources, second.into(), |number| source(number + 1000 * second));
        }
        let kinds = sources.strangers.lock();
        assert!(kinds.values().all(|kind| kind.sources.len() <= STRANGERS as usize));
    }

    #[test]
    fn a_line_names_its_client() {
        let journal = journal(at(5), &Arc::default(), source(7));
        let key = format!("0x{}", "0A".repeat(32));
        assert_eq!(journal.who(Some([10; 32]), 7).to_string(), format!("client {key} at 192.0.2.7:4711, usage 7"));
        assert_eq!(journal.who(None, 0).to_string(), "client without a key at 192.0.2.7:4711");
        assert_eq!(journal.end(), "the client's stream ended");
        journal.ends("silent for 60 s");
        journal.ends("the service stops");
        assert_eq!(journal.end(), "silent for 60 s");
        assert_eq!(journal.age(at(8)), at(3));
    }

    #[test]
    fn amounts_have_units() {
        let texts = [Amount(Unit::Bytes, 6000), Amount(Unit::Seconds, -3)].map(|amount| amount.to_string());
        assert_eq!(texts, ["6000 bytes", "-3 s"]);
    }
}
