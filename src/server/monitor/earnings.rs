//! What the account book says of all services: sold, charged, earned, and by whom.
//!
//! Adding up takes the book's lock again and again for a moment, so the monitor does it some times a minute, not for each
//! request, and less often if the book is large.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::server::Server;
use vpn_core::book::Sums;
use vpn_core::meter::Client;

/// How often it is done, at most.
const EVERY: Duration = Duration::from_secs(5);
/// How often the orders are looked at.
const OFFERS_EVERY: Duration = Duration::from_secs(60);
/// The part of the time that it may take: one hundredth.
const PART: u32 = 100;
/// The most clients that are listed.
const CLIENTS_MAX: usize = 100;

/// The sums of a moment.
#[derive(Debug)]
pub(super) struct Earnings {
    /// The ticker of the token that the service is paid in; `None` if it sells nothing.
    pub(super) token: Option<String>,
    /// All services since the book began, also those that it has no more.
    pub(super) all: Sums,
    /// The clients that have paid most, the first the one with most, as far as the book has their services.
    pub(super) clients: Vec<(Client, Sums)>,
    /// The clients that the list leaves out.
    pub(super) left_out: usize,
}

/// The last sums.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Only the monitor's thread takes the locks.
    last: Mutex<Option<Arc<Earnings>>>,
    due: Mutex<Option<Instant>>,
    offers: Mutex<Offers>,
}

/// What the node sells.
#[derive(Debug, Default)]
struct Offers {
    looked: Option<Instant>,
    token: Option<String>,
    sells: bool,
}

impl Accounts {
    /// Adds up, if that is due.
    pub(super) fn look(&self, server: &Server) {
        let begin = Instant::now();
        self.look_at_offers(server, begin);
        if self.due.lock().is_some_and(|due| begin < due) {
            return;
        }
        let mut earnings = add_up(server, self.offers.lock().token.clone());
        let mut last = self.last.lock();
        if let (Some(now), Some(before)) = (&mut earnings, &*last) {
            never_less(&mut now.all, &before.all);
        }
        *last = earnings.map(Arc::new);
        *self.due.lock() = Some(begin + EVERY.max(begin.elapsed() * PART));
    }

    /// A node reads its orders from its store: they are looked at now and then.
    fn look_at_offers(&self, server: &Server, now: Instant) {
        let mut offers = self.offers.lock();
        if offers.looked.is_some_and(|looked| now.saturating_duration_since(looked) < OFFERS_EVERY) {
            return;
        }
        let orders = server.billing.offers();
        *offers = Offers {
            looked: Some(now),
            sells: orders.iter().any(|order| order.price > 0),
            token: orders.into_iter().map(|order| order.token).find(|token| !token.is_empty()),
        };
    }

    /// Whether the node has an order with a price.
    pub(super) fn sells(&self) -> bool {
        self.offers.lock().sells
    }

    /// Returns the last sums; `None` if there is no account book.
    pub(super) fn last(&self) -> Option<Arc<Earnings>> {
        self.last.lock().clone()
    }
}

/// Keeps what only grows from falling: what a client has left may be counted better a moment later.
fn never_less(now: &mut Sums, before: &Sums) {
    now.charged_bytes = now.charged_bytes.max(before.charged_bytes);
    now.charged_seconds = now.charged_seconds.max(before.charged_seconds);
}

fn add_up(server: &Server, token: Option<String>) -> Option<Earnings> {
    let (all, by_client) = server.billing.book.sums()?;
    let mut clients: Vec<_> = by_client.into_iter().collect();
    clients.sort_by_key(|(client, sums)| (std::cmp::Reverse(sums.signed_value), client.key));
    let left_out = clients.len().saturating_sub(CLIENTS_MAX);
    clients.truncate(CLIENTS_MAX);
    Some(Earnings { token, all, clients, left_out })
}
