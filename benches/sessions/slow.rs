//! A client that stops reading: its cost in the server's memory, and in the others' rates.

use std::fmt;
use std::time::Duration;

use host::lab::enter_network;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::flood::{Flow, Seen, dropped, watch};
use testkit::hosts::Hosts;
use testkit::program::send;
use testkit::tunnel::{Client, NETWORK};
use testkit::{eventually, median};

use crate::{Options, PROGRAM};

/// The share of their rates that the others must keep.
const LEAST_KEPT: f64 = 0.9;
/// The default of `[srv_vpn] session_queue`, and the memory that a queue of that size may use.
const SESSION_QUEUE: u64 = 1024 * 1024;
const MOST_GROWTH: u64 = SESSION_QUEUE + SESSION_QUEUE / 4;

/// The pause between two measurements.
const SETTLING: Duration = Duration::from_secs(2);

/// The load of the two clients that keep reading. The third one always gets paced datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Paced datagrams, far below the CPU's capacity: a loss is due to the third client.
    Paced,
    /// TCP at full speed. All clients share the CPU, so the others' rates rise when the third client leaves its share.
    Bulk,
}

impl Load {
    pub(crate) const ALL: [Load; 2] = [Load::Paced, Load::Bulk];

    fn name(self) -> &'static str {
        match self {
            Load::Paced => "paced",
            Load::Bulk => "bulk",
        }
    }
}

pub(crate) struct Outcome {
    load: Load,
    /// The third client reads and stops in turns, so that other load on the machine affects both alike.
    before: Vec<Seen>,
    after: Vec<Seen>,
    /// Packets that were dropped because the third client did not read.
    dropped: u64,
}

pub(crate) fn measure(load: Load, options: &Options) -> Outcome {
    enter_network().unwrap();
    let hosts = Hosts::with_clients(PROGRAM, 3);
    let config = hosts.config(&format!("{NETWORK}nat=off\n"));
    let (server, pin) = hosts.server_with("server", &["--config", &config]);
    let pin = ["--pin", &pin];
    let clients = [0, 1, 2].map(|number| Client::connect(&hosts, number, &format!("client{number}"), &pin));
    let rate = u64::from(options.rate) * 1_000_000 / 8;
    let flow = |number: usize| match (load, number) {
        (Load::Bulk, 0 | 1) => Flow::bulk(hosts.at(number)),
        _ => Flow::paced(hosts.at(number), clients[number].address, rate),
    };
    let flows = [0, 1, 2].map(flow);
    let (server, time) = (server.child.id(), Duration::from_secs(options.seconds.into()));
    let dropped = || dropped(&hosts.stat("server"), "output_full");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("slow: {} load, round {round} of {}", load.name(), options.rounds);
        let had = dropped();
        // Buffers and TCP windows grow to the size that the traffic needs, and queued packets are sent.
        watch(&flows, server, SETTLING);
        before.push(watch(&flows, server, time));
        send(&clients[2].running.child, Signal::STOP);
        eventually("the third client's queue is full", || dropped() > had);
        after.push(watch(&flows, server, time));
        send(&clients[2].running.child, Signal::CONT);
    }
    Outcome { load, before, after, dropped: dropped() }
}

/// Returns each client's median over the measurements.
fn rates(seen: &[Seen]) -> [f64; 3] {
    [0, 1, 2].map(|client| median(seen.iter().map(|seen| seen.rates[client]).collect()).unwrap())
}

impl Outcome {
    /// Returns the smaller share that one of the two other clients keeps.
    fn kept(&self) -> f64 {
        let shares =
            rates(&self.before).into_iter().zip(rates(&self.after)).take(2).map(|(before, after)| after / before);
        shares.fold(f64::INFINITY, f64::min)
    }

    /// Counts only the first round: later the server still has memory of the earlier rounds.
    fn growth(&self) -> u64 {
        self.after[0].resident.saturating_sub(self.before[0].resident)
    }

    pub(crate) fn is_met(&self) -> bool {
        self.kept() >= LEAST_KEPT && self.growth() <= MOST_GROWTH
    }

    pub(crate) fn to_json(&self) -> Value {
        let part = |seen: &[Seen]| {
            let resident: Vec<_> = seen.iter().map(|seen| seen.resident).collect();
            json!({"bits_per_second": rates(seen).map(|rate| (rate * 8.0).round()), "resident": resident})
        };
        json!({
            "load": self.load.name(),
            "before": part(&self.before),
            "after": part(&self.after),
            "kept": self.kept(),
            "growth": self.growth(),
            "output_full": self.dropped,
            "met": self.is_met(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a client stops reading, {} load", self.load.name())?;
        for (what, seen) in [("all read", &self.before), ("the third stands still", &self.after)] {
            let rates = rates(seen).map(|rate| format!("{:8.1}", rate * 8.0 / 1e6));
            let resident = seen[0].resident as f64 / 1e6;
            writeln!(f, "  {what:24}{} Mbit/s, server {resident:6.1} MB resident", rates.join(" "))?;
        }
        let (kept, growth) = (self.kept() * 100.0, self.growth());
        writeln!(f, "  the others keep         {kept:8.1} % (target: {:.0} at least)", LEAST_KEPT * 100.0)?;
        writeln!(f, "  the server grows by     {growth:8} bytes (target: {MOST_GROWTH} at most)")?;
        write!(f, "  dropped (output_full)   {:8} packets", self.dropped)
    }
}
