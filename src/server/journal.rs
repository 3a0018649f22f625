//! What the operator's log says of a session: by whose key and from where, and no more often than a peer may cause it.
//!
//! One style for all lines, which docs/migration.md lists: `event: client KEY at PEER, usage N, facts`. Amounts have units.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::Level;
use parking_lot::Mutex;

use vpn_core::meter::Unit;

/// How many lines a client may cause at once by what it sends.
const BURST: u64 = 24;
/// The time after which it may cause another one.
const REFILL: u64 = 15_000;

/// A session's part of the log.
#[derive(Debug)]
pub(super) struct Journal {
    /// The client's host and port.
    peer: String,
    opened: Duration,
    /// When the budget of lines is full again, in milliseconds on the server's clock.
    full_at: AtomicU64,
    was_served: AtomicBool,
    end: Mutex<Option<String>>,
}

impl Journal {
    pub(super) fn new(now: Duration, peer: String) -> Journal {
        Journal {
            peer,
            opened: now,
            full_at: AtomicU64::new(0),
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
        let now = now.as_millis() as u64;
        let full_at = self.full_at.load(Ordering::Relaxed).max(now) + REFILL;
        if full_at - now > BURST * REFILL {
            return Level::Debug;
        }
        self.full_at.store(full_at, Ordering::Relaxed);
        Level::Info
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

    /// Returns why the session ended; the client's leaving if the server had no reason.
    pub(super) fn end(&self) -> String {
        self.end.lock().clone().unwrap_or_else(|| "the client left".to_owned())
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

    #[test]
    fn a_client_causes_a_bounded_number_of_lines() {
        let journal = Journal::new(Duration::ZERO, "192.0.2.7:4711".into());
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
    fn a_line_names_its_client() {
        let journal = Journal::new(Duration::from_secs(5), "192.0.2.7:4711".into());
        let key = format!("0x{}", "0A".repeat(32));
        assert_eq!(journal.who(Some([10; 32]), 7).to_string(), format!("client {key} at 192.0.2.7:4711, usage 7"));
        assert_eq!(journal.who(None, 0).to_string(), "client without a key at 192.0.2.7:4711");
        assert_eq!(journal.end(), "the client left");
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
