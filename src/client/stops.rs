//! How a stop ends every start that began before it, whatever that start waits for.
//!
//! A flag would not do: a start that waits for another one would clear it, and miss its stop. So stops are counted, and
//! each start remembers the count at which it began.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

static COUNT: Mutex<u64> = Mutex::new(0);
/// What the log has last said on each subject, and since which start.
static SAID: Mutex<Option<(Began, BTreeMap<&'static str, String>)>> = Mutex::new(None);
/// Wakes the starts that pause.
static STOPPED: Condvar = Condvar::new();

/// The moment at which a start began; a connection keeps it, and passes it on to the one that continues it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Began(u64);

impl Began {
    /// The present moment.
    pub(super) fn now() -> Began {
        Began(*COUNT.lock())
    }

    /// Returns whether the client was stopped since.
    pub(super) fn is_stopped(self) -> bool {
        *COUNT.lock() != self.0
    }

    /// Returns whether the log has a line to say: not if it was the last one on its subject since the start began, because
    /// a client that connects again would repeat it at each attempt.
    pub(super) fn is_news(self, subject: &'static str, line: &str) -> bool {
        let mut said = SAID.lock();
        let (_, lines) = match &mut *said {
            Some(said) if said.0 == self => said,
            other => other.insert((self, BTreeMap::new())),
        };
        lines.insert(subject, line.to_owned()).is_none_or(|last| last != line)
    }

    /// Waits for this long. Returns false, and at once, when the client is stopped.
    pub(super) fn pause(self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut count = COUNT.lock();
        while *count == self.0 {
            if STOPPED.wait_until(&mut count, deadline).timed_out() {
                return *count == self.0;
            }
        }
        false
    }
}

/// How often the client was stopped.
pub(super) fn count() -> u64 {
    *COUNT.lock()
}

/// Stops all starts that have begun until now.
pub(super) fn stop() {
    *COUNT.lock() += 1;
    STOPPED.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_news_once_for_a_start_and_when_it_changes() {
        let (first, second) = (Began(u64::MAX - 1), Began(u64::MAX));
        let news = [
            (first, "order", "unknown", true),
            (first, "order", "unknown", false),
            (first, "dns", "unknown", true),
            (first, "order", "unknown", false),
            (first, "order", "known", true),
            (first, "order", "unknown", true),
            (second, "order", "unknown", true),
            (second, "order", "unknown", false),
        ];
        for (number, (began, subject, line, expected)) in news.into_iter().enumerate() {
            assert_eq!(began.is_news(subject, line), expected, "{number}");
        }
    }

    #[test]
    fn a_stop_ends_the_pauses_of_all_that_began_before_it_and_of_no_later_one() {
        let (first, second) = (Began::now(), Began::now());
        assert!(first.pause(Duration::from_millis(1)) && !first.is_stopped());
        let waiting = [first, second].map(|began| std::thread::spawn(move || began.pause(Duration::from_secs(60))));
        let started = Instant::now();
        stop();
        for thread in waiting {
            assert!(!thread.join().unwrap(), "stopped");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(first.is_stopped() && second.is_stopped() && !Began::now().is_stopped());
        assert!(!first.pause(Duration::from_secs(60)), "a pause that begins after the stop does not wait");
    }
}
