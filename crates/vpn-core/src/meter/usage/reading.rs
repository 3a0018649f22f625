//! What a driver reads from a meter.

use super::Meter;
use super::state::{Ask, Phase};
use crate::meter::{Allowance, Books, Holding, Left, Unit, Use};
use std::time::Duration;

impl Meter {
    /// Returns the time and the bytes of grace that were used, for [`Grace::release`](crate::meter::Grace::release).
    pub fn grace_used(&self) -> (Duration, u64) {
        (self.grace.time, self.grace.bytes)
    }

    /// Returns the account, as of the last event.
    pub fn books(&self) -> Books {
        self.account.books()
    }

    /// Returns what outlasts the session, as of the last event. A value above `i64::MAX` is reduced to it.
    pub fn holding(&self) -> Holding {
        let steps = self.terms.unit.steps();
        let (rest, pending) = self.account.rests();
        let rest = i64::try_from(rest / steps).unwrap_or(i64::MAX);
        let pending = u64::try_from(pending / steps).unwrap_or(u64::MAX);
        Holding { rest: self.former.unwrap_or_default().with(self.terms.unit, rest), pending }
    }

    /// Returns what is left, for `GET /remain_limits_vpn` and the SDK's fields. Changes nothing.
    pub fn left(&self, now: Duration, used: Use) -> Left {
        let mut account = self.account;
        if self.is_allowed() {
            let (time, bytes) = self.since(now, used);
            account.served = account.served.saturating_add(self.steps(time, bytes));
        }
        let switch_at = self.switch_at.filter(|at| account.used() < *at).unwrap_or(account.paid);
        let signed = |steps: u128| i128::try_from(steps).unwrap_or(i128::MAX);
        let units = |steps: i128| steps.div_euclid(signed(self.terms.unit.steps()));
        let fit = |units: i128| i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX });
        Left {
            current: fit(units(signed(switch_at).saturating_sub(signed(account.used())))),
            next: fit(units(signed(account.paid.saturating_sub(switch_at)))),
        }
    }

    /// Returns how far the data path may go before the next event.
    pub fn allowance(&self) -> Allowance {
        let now = self.now.unwrap_or_default();
        let mut limit = if self.is_allowed() { u64::MAX } else { 0 };
        let mut due = limit;
        let mut times = [self.confirm_by, None, None, None];
        if let Phase::Grace { until, bytes_limit } = self.phase {
            times[1] = Some(until);
            limit = bytes_limit;
            due = bytes_limit;
        }
        if self.phase == Phase::Served {
            let rest = self.account.rest();
            let will_ask = self.may_ask() && matches!(self.ask, Ask::No | Ask::Again(_));
            let half = (will_ask && !self.is_half_used()).then(|| rest.saturating_sub(self.receipt / 2));
            let switch = self.switch_at.map(|at| at.saturating_sub(self.account.used()));
            let next = half.into_iter().chain(switch).fold(rest, u128::min);
            match self.terms.unit {
                Unit::Bytes => {
                    limit = self.used.bytes.saturating_add(u64::try_from(rest).unwrap_or(u64::MAX));
                    due = self.used.bytes.saturating_add(u64::try_from(next).unwrap_or(u64::MAX));
                }
                Unit::Seconds => times[1] = Some(now.saturating_add(duration(next))),
            }
            times[2] = Some(self.save_checked.saturating_add(self.terms.save_every));
            if let (Ask::Again(at), true) = (self.ask, self.may_ask() && self.is_half_used()) {
                times[3] = Some(at);
            }
        }
        Allowance { bytes_limit: limit, bytes_due: due, until: times.into_iter().flatten().min() }
    }
}

fn duration(steps: u128) -> Duration {
    const SECOND: u128 = Unit::Seconds.steps();
    // Less than 10^9, so the second cast is exact.
    u64::try_from(steps / SECOND).map_or(Duration::MAX, |seconds| Duration::new(seconds, (steps % SECOND) as u32))
}
