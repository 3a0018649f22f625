//! What a tunnel must reach on a path, beside wireguard-go in the same run.

use crate::paths::Case;
use crate::types::{Measured, System, Way};

/// The other client of a server keeps at least this share of what it has alone.
const OTHER_KEEPS: f64 = 0.95;

/// One thing to reach.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) system: System,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) limit: Limit,
}

/// The bound of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(least) => self.value >= least,
            Limit::AtMost(most) => self.value <= most,
        }
    }
}

/// Compares each of our systems on a path with the others on it. What was not measured gives no target.
pub(crate) fn path(case: &Case, results: &[(System, Measured)]) -> Vec<Target> {
    let of = |wanted| results.iter().find(|(system, _)| *system == wanted).map(|(_, measured)| measured);
    let mut targets = Vec::new();
    for (system, ours) in results.iter().filter(|(system, _)| system.is_ours()) {
        for way in Way::BOTH {
            let mut add = |what: &str, unit, value: Option<f64>, limit: Option<Limit>| {
                if let Some((value, limit)) = value.zip(limit) {
                    let what = format!("{what} {}", way.name());
                    targets.push(Target { path: case.name(), system: *system, what, unit, value, limit });
                }
            };
            let bulk = ours.bulk(way);
            let mbit =
                |other: Option<&Measured>, share: f64| other.map(|other| Limit::AtLeast(share * other.bulk(way).mbit));
            let wireguard = of(System::WireguardGo);
            match system {
                System::OursHost if case.loss > 0.0 => {
                    add("throughput", "Mbit/s", Some(bulk.mbit), mbit(of(System::None), 0.9));
                }
                System::OursHost => {}
                _ => {
                    let hides_loss = case.loss >= 1.0 && case.congestion.is_loss_based();
                    let share = if hides_loss { 5.0 } else { 0.97 };
                    add("throughput", "Mbit/s", Some(bulk.mbit), mbit(wireguard, share));
                }
            }
            if let Some(wireguard) = wireguard {
                let [median, p95] = ping_limits(case);
                let theirs = &wireguard.bulk(way).small.ping;
                add("ping, median,", "ms", bulk.small.ping.median(), theirs.median().map(median));
                add("ping, p95,", "ms", bulk.small.ping.p95(), theirs.p95().map(p95));
            }
            if case.flows >= 8 && case.loss == 0.0 {
                let idle = ours.idle.sparse.median().map(|idle| Limit::AtMost(idle + 20.0));
                add("sparse flow", "ms", bulk.small.sparse.median(), idle);
            }
        }
    }
    targets
}

/// Returns the limits of median and 95th percentile, each from wireguard-go's in ms.
fn ping_limits(case: &Case) -> [impl Fn(f64) -> Limit; 2] {
    let limit = |factor: f64, more: f64| move |theirs: f64| Limit::AtMost(factor * theirs + more);
    if case.loss > 0.0 {
        // A stream waits for its retransmission.
        [limit(2.0, 0.0), limit(3.0, 0.0)]
    } else if case.rate <= 5 {
        [limit(1.25, 15.0), limit(1.5, 25.0)]
    } else {
        [limit(1.25, 5.0), limit(1.5, 10.0)]
    }
}

/// Compares what a client has, in Mbit/s, while another one of the same server downloads on a slow path, with what it
/// has alone.
pub(crate) fn two_clients(path: &str, alone: f64, beside: f64) -> Target {
    Target {
        path: path.to_owned(),
        system: System::Ours,
        what: "the other client's throughput".to_owned(),
        unit: "Mbit/s",
        value: beside,
        limit: Limit::AtLeast(OTHER_KEEPS * alone),
    }
}

/// Checks that the path itself worked: nothing is faster than its link or its delay, and each direction uses at least
/// the share `least` of the link. The error says what is wrong.
pub(crate) fn plausible(case: &Case, measured: &Measured, least: f64) -> Result<(), String> {
    let (rate, there_and_back) = (f64::from(case.rate), f64::from(2 * case.delay));
    let idle = measured.idle.ping.median().unwrap_or_default();
    if idle < there_and_back {
        return Err(format!("a ping takes {idle} ms over a path of {there_and_back} ms there and back"));
    }
    for way in Way::BOTH {
        let mbit = measured.bulk(way).mbit;
        if mbit > rate || mbit < rate * least {
            return Err(format!("{mbit:.1} Mbit/s {} over a link of {rate} Mbit/s", way.name()));
        }
    }
    Ok(())
}
