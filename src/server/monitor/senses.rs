//! What the monitor watches by itself once a second, so that a request finds it ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::earnings::Accounts;
use super::health::{self, Finding};
use super::probes::Probes;
use super::speed::Speed;
use crate::server::Server;

/// How often the health is looked at, in seconds: it reads the kernel's files, and a node's orders.
const HEALTH_EVERY: u64 = 5;

/// As many sessions have their round trips asked for at any time, which costs a system call a second for each.
const ROUND_TRIPS_ALWAYS: u32 = 500;

/// What the monitor has seen. Only its own thread takes the locks.
#[derive(Debug, Default)]
pub(super) struct Senses {
    pub(super) probes: Probes,
    pub(super) accounts: Accounts,
    pub(super) speed: Speed,
    findings: Mutex<Arc<Vec<Finding>>>,
    ticks: AtomicU64,
}

impl Senses {
    /// Returns what is wrong, the worst first.
    pub(super) fn findings(&self) -> Arc<Vec<Finding>> {
        Arc::clone(&self.findings.lock())
    }
}

/// Looks at everything, once a second.
pub(super) fn tick(server: &Server) {
    let senses = &server.monitor.senses;
    senses.speed.read(Instant::now(), server.figures.never_less(server.counters.totals()));
    senses.accounts.look(server);
    // Beyond this the workers ask the kernel only while somebody looks.
    if server.figures.pool().leased <= ROUND_TRIPS_ALWAYS {
        server.figures.watch(server.now());
    }
    if senses.ticks.fetch_add(1, Ordering::Relaxed).is_multiple_of(HEALTH_EVERY) {
        *senses.findings.lock() = Arc::new(health::look(server, &senses.probes.lags(), &senses.speed));
    }
    // Last: what they wait now is seen at the next look.
    senses.probes.send(server.datapaths.len());
}
