//! The last hour: what passed, how many sessions there were, and what was dropped, one sample in ten seconds.
//!
//! It takes its memory once. The thread of the monitor reads the counters for it: no packet and no worker pays.

use std::time::Duration;

use serde_json::{Value, json};

/// The time that a sample stands for.
const STEP: Duration = Duration::from_secs(10);
/// The time between two samples: a little more, so that no clock that counts in milliseconds takes it for less.
pub(super) const PERIOD: Duration = Duration::from_millis(10_005);
/// The samples of an hour.
const SAMPLES: usize = 360;
/// An unfinished sample is shown when it is as old as this: a shorter one would be noise.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// What the counters say at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// The bytes of inner packets from clients since the start.
    pub(super) up: u64,
    /// The bytes to clients.
    pub(super) down: u64,
    /// The dropped packets.
    pub(super) drops: u64,
    /// The sessions now.
    pub(super) sessions: u32,
    /// The median of the sessions' round trips, in milliseconds; `None` if none is known.
    pub(super) rtt: Option<f32>,
}

/// One interval: rates are per second, sessions and the round trip those at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    /// When it ended.
    at: Duration,
    up: u64,
    down: u64,
    drops: f32,
    sessions: u32,
    rtt: Option<f32>,
}

/// The samples of the last hour, in a ring.
#[derive(Debug)]
pub(super) struct History {
    ring: Box<[Sample]>,
    /// The number of samples ever taken.
    taken: usize,
    /// The reading at the end of the last sample.
    last: Option<(Duration, Reading)>,
}

impl History {
    pub(super) fn new() -> History {
        History { ring: vec![Sample::default(); SAMPLES].into(), taken: 0, last: None }
    }

    /// Takes a reading, and makes a sample of it if the last one is old enough. Times are since any fixed moment.
    pub(super) fn note(&mut self, now: Duration, reading: Reading) {
        match self.sample(now, &reading, STEP) {
            Some(sample) => {
                let place = self.taken % self.ring.len();
                self.ring[place] = sample;
                self.taken += 1;
                self.last = Some((now, reading));
            }
            None if self.last.is_none() => self.last = Some((now, reading)),
            None => {}
        }
    }

    /// What has passed since the last sample, if that is as long ago as `least`.
    fn sample(&self, now: Duration, reading: &Reading, least: Duration) -> Option<Sample> {
        let (at, before) = self.last?;
        let lasts = now.checked_sub(at).filter(|lasts| *lasts >= least)?.as_secs_f64();
        // A counter goes back where the device refuses packets that were counted before.
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / lasts;
        Some(Sample {
            at: now,
            up: rate(reading.up, before.up).round() as u64,
            down: rate(reading.down, before.down).round() as u64,
            drops: rate(reading.drops, before.drops) as f32,
            sessions: reading.sessions,
            rtt: reading.rtt,
        })
    }

    /// Returns the samples for the page, the oldest first; the last one is of the time since the last whole one:
    /// `[seconds ago, bytes up a second, bytes down a second, sessions, drops a second, round trip in ms]`.
    pub(super) fn json(&self, now: Duration, reading: Reading) -> Value {
        let kept = self.taken.min(self.ring.len());
        let whole = (self.taken - kept..self.taken).map(|number| self.ring[number % self.ring.len()]);
        let hour = STEP * SAMPLES as u32;
        let samples = whole.chain(self.sample(now, &reading, SHOWN_AFTER)).filter_map(|sample| {
            let ago = now.saturating_sub(sample.at);
            (ago <= hour).then(|| {
                let Sample { up, down, sessions, drops, rtt, .. } = sample;
                json!([ago.as_secs(), up, down, sessions, rounded(drops), rtt.map(rounded)])
            })
        });
        json!({"step": STEP.as_secs(), "samples": samples.collect::<Vec<_>>()})
    }
}

/// Two digits behind the point: what a chart shows.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A server that carries 1000 bytes up and 3000 down a second.
    fn reading(seconds: u64) -> Reading {
        Reading { up: 1000 * seconds, down: 3000 * seconds, drops: seconds / 2, sessions: 4, rtt: Some(12.345) }
    }

    fn samples(history: &History, now: u64) -> Vec<Value> {
        history.json(at(now), reading(now))["samples"].as_array().expect("a list").clone()
    }

    #[test]
    fn a_sample_is_a_rate_over_ten_seconds() {
        let mut history = History::new();
        (0..=20).for_each(|second| history.note(at(second), reading(second)));
        assert_eq!(
            samples(&history, 20),
            [json!([10, 1000, 3000, 4, 0.5, 12.35]), json!([0, 1000, 3000, 4, 0.5, 12.35])]
        );
        assert_eq!(history.json(at(20), reading(20))["step"], 10);
    }

    #[test]
    fn what_has_passed_since_is_shown_before_ten_seconds_are_over() {
        let mut history = History::new();
        history.note(at(100), reading(100));
        assert!(samples(&history, 101).is_empty());
        assert_eq!(samples(&history, 104), [json!([0, 1000, 3000, 4, 0.5, 12.35])]);
        history.note(at(104), reading(104));
        assert_eq!(history.taken, 0, "only looked at");
    }

    #[test]
    fn it_holds_an_hour_and_takes_no_more_memory() {
        let mut history = History::new();
        let place = history.ring.as_ptr();
        (0..10_000).for_each(|second| history.note(at(second), reading(second)));
        let shown = samples(&history, 9_999);
        assert_eq!(shown.len(), SAMPLES + 1);
        assert_eq!((&shown[0][0], &shown[SAMPLES][0]), (&json!(3599), &json!(0)));
        assert!(shown.is_sorted_by_key(|sample| std::cmp::Reverse(sample[0].as_u64())));
        assert_eq!((history.ring.as_ptr(), history.ring.len()), (place, SAMPLES));
    }

    #[test]
    fn what_is_older_than_an_hour_is_left_out() {
        let mut history = History::new();
        history.note(at(0), reading(0));
        history.note(at(10), reading(10));
        // The process was stopped for two hours.
        assert_eq!(samples(&history, 7210).len(), 1);
        history.note(at(7210), reading(7210));
        assert_eq!(samples(&history, 7210), [json!([0, 1000, 3000, 4, 0.5, 12.35])], "over the whole pause");
    }

    #[test]
    fn a_counter_or_a_clock_that_goes_back_is_no_rate() {
        let mut history = History::new();
        history.note(at(50), reading(50));
        history.note(at(40), reading(60));
        assert_eq!(history.taken, 0);
        history.note(at(60), Reading { up: 0, ..Reading::default() });
        assert_eq!(samples(&history, 60)[0], json!([0, 0, 0, 0, 0.0, null]));
    }
}
