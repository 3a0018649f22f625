//! How often something may happen, and how often the log may say it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::source::{Network, Source};

/// A bound on events: some at once, then one an interval.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::rate::Budget;
///
/// let at = Duration::from_secs;
/// let mut budget = Budget::new(3, at(60));
/// assert_eq!((0..10).filter(|_| budget.take(at(1))).count(), 3);
/// assert!(!budget.take(at(60)) && budget.take(at(61)) && !budget.take(at(61)));
/// // After three intervals it is full.
/// assert!(!budget.is_full(at(180)) && budget.is_full(at(241)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    burst: u32,
    interval: Duration,
    /// When the budget is full again, on the caller's clock.
    full_at: Duration,
}

impl Budget {
    /// Creates a full budget of `burst` events at once, which earns another one in each interval.
    pub const fn new(burst: u32, interval: Duration) -> Budget {
        Budget { burst, interval, full_at: Duration::ZERO }
    }

    /// Creates a full budget of so many events a second, all of which may happen at once.
    pub const fn per_second(events: u32) -> Budget {
        let interval = Duration::from_secs(1).checked_div(events);
        Budget::new(events, if let Some(interval) = interval { interval } else { Duration::MAX })
    }

    /// Takes an event from the budget; returns false if none is left. A clock that goes back earns nothing.
    pub fn take(&mut self, now: Duration) -> bool {
        let fits = self.has_any(now);
        if fits {
            self.full_at = self.full_at.max(now).saturating_add(self.interval);
        }
        fits
    }

    /// Returns whether an event is left.
    pub fn has_any(&self, now: Duration) -> bool {
        let full_at = self.full_at.max(now).saturating_add(self.interval);
        full_at.saturating_sub(now) <= self.interval.saturating_mul(self.burst)
    }

    /// Returns whether the budget is full, so that it need not be remembered.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

/// A bound on the events of each source, and of the networks around it ([`Width::share`](crate::source::Width::share)).
#[derive(Debug)]
pub struct Rates {
    /// How many events of a source there may be in the time, and at once.
    most: u32,
    time: Duration,
    budgets: HashMap<Network, Budget>,
    /// The size of the table at which it is looked through for budgets that are full again.
    look_at: usize,
}

impl Rates {
    const LOOK_MIN: usize = 256;

    /// Creates a bound of `most` events of a source in `time`.
    pub fn new(most: u32, time: Duration) -> Rates {
        Rates { most, time, budgets: HashMap::new(), look_at: Rates::LOOK_MIN }
    }

    /// Returns the network that has no event left for this source; `None` if there may be one.
    pub fn full(&self, now: Duration, source: Source) -> Option<Network> {
        source.networks().find(|network| self.budgets.get(network).is_some_and(|budget| !budget.has_any(now)))
    }

    /// Counts an event of a source.
    pub fn count(&mut self, now: Duration, source: Source) {
        self.count_for(now, source.networks());
    }

    /// Counts an event of these networks alone.
    pub fn count_for(&mut self, now: Duration, networks: impl Iterator<Item = Network>) {
        for network in networks {
            let most = network.width().share(self.most.into()).clamp(1, u32::MAX.into()) as u32;
            let full = || Budget::new(most, self.time / most);
            self.budgets.entry(network).or_insert_with(full).take(now);
        }
        if self.budgets.len() > self.look_at {
            self.budgets.retain(|_, budget| !budget.is_full(now));
            self.look_at = (2 * self.budgets.len()).max(Rates::LOOK_MIN);
        }
    }

    /// Counts an event of a source, unless it has none left; returns whether there may be one.
    pub fn take(&mut self, now: Duration, source: Source) -> bool {
        let fits = self.full(now, source).is_none();
        if fits {
            self.count(now, source);
        }
        fits
    }
}

/// The time in which the log has one line of what a stranger can cause as often as it likes.
pub const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// A bound on one kind of line: a few at once, then one a minute with the number of those that were left out.
///
/// ```
/// use std::time::Duration;
/// use vpn_core::rate::Lines;
///
/// let at = Duration::from_secs;
/// let mut lines = Lines::new(1);
/// assert_eq!(lines.tell(at(0)).map(|more| more.to_string()).as_deref(), Some(""));
/// assert!((1..38).all(|second| lines.tell(at(second)).is_none()));
/// let more = lines.tell(at(60)).unwrap();
/// assert_eq!(more.to_string(), " (and 37 more in the last minutes)");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    budget: Budget,
    is_counting: bool,
    untold: u64,
    /// When the number was last told, or began to grow.
    since: Duration,
}

/// How many lines of a kind were left out before this one. As text it is what the line ends with: nothing for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More(pub u64);

impl Lines {
    /// Creates the bound of one kind of line.
    pub const fn new(burst: u32) -> Lines {
        Lines { budget: Budget::new(burst, LINE_INTERVAL), is_counting: false, untold: 0, since: Duration::ZERO }
    }

    /// The same for lines that do not tell the number: [`Lines::overdue`] does.
    pub const fn counting(burst: u32) -> Lines {
        Lines { is_counting: true, ..Lines::new(burst) }
    }

    /// Returns what a line ends with, if it may be written now. Otherwise counts it.
    pub fn tell(&mut self, now: Duration) -> Option<More> {
        if self.budget.take(now) {
            let told = if self.is_counting { 0 } else { std::mem::take(&mut self.untold) };
            return Some(More(told));
        }
        self.leave_out(now);
        None
    }

    /// Counts a line that another bound leaves out.
    pub fn leave_out(&mut self, now: Duration) {
        if self.untold == 0 {
            self.since = now;
        }
        self.untold = self.untold.saturating_add(1);
    }

    /// Returns the number of lines that were left out, once a minute has passed since the first of them: for a line of
    /// its own.
    pub fn overdue(&mut self, now: Duration) -> Option<u64> {
        let is_due = self.untold > 0 && now.saturating_sub(self.since) >= LINE_INTERVAL;
        is_due.then(|| std::mem::take(&mut self.untold))
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} more in the last minutes)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_second_of_a_budget() {
        let mut budget = Budget::per_second(100);
        let burst = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(ms(now))).count();
        assert_eq!(burst(&mut budget, 0), 100);
        assert_eq!(burst(&mut budget, 9), 0);
        assert_eq!(burst(&mut budget, 10), 1);
        assert_eq!(burst(&mut budget, 510), 50);
        assert_eq!(burst(&mut budget, 100_000), 100);
        // A clock that goes back earns nothing.
        assert_eq!(burst(&mut budget, 0), 0);
        // One that is asked very often still earns.
        let sent = (100_001..101_001).filter(|now| budget.take(ms(*now))).count();
        assert_eq!(sent, 100);
        assert!(!Budget::per_second(0).take(ms(5)));
    }

    #[test]
    fn the_rate_of_a_source_and_of_the_networks_around_it() {
        let mut rates = Rates::new(10, Duration::from_secs(1));
        let v4 = |number: u8| Source::of([192, 0, 2, number].into());
        assert_eq!((0..100).filter(|_| rates.take(ms(0), v4(1))).count(), 10);
        assert!(rates.take(ms(0), v4(2)) && rates.take(ms(100), v4(1)) && !rates.take(ms(199), v4(1)));
        let v6 = |number: u16| Source::of(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into());
        assert_eq!((0..1000).filter(|number| rates.take(ms(0), v6(number % 256))).count(), 15, "a /56");
        assert_eq!((0..1000).filter(|number| rates.take(ms(0), v6(number * 61))).count(), 5, "the rest of the /48");
        // Budgets that are full again are forgotten.
        let other = |number: u32| Source::of(std::net::Ipv4Addr::from(number).into());
        (0..100_000).for_each(|number| rates.count(ms(u64::from(number)), other(number)));
        assert!(rates.budgets.len() < 2048, "{}", rates.budgets.len());
    }

    #[test]
    fn a_number_that_no_line_tells_gets_one_of_its_own() {
        let mut lines = Lines::new(2);
        let told = (0..1000).filter(|step| lines.tell(ms(*step)).is_some()).count();
        assert_eq!(told, 2);
        assert_eq!(lines.overdue(ms(60_001)), None);
        assert_eq!(lines.overdue(ms(60_002)), Some(998));
        assert_eq!(lines.overdue(ms(600_000)), None);
        assert_eq!(lines.tell(ms(600_000)), Some(More(0)));
    }
}
