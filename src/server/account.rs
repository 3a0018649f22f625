//! One session's dealings with the billing.

use std::net::IpAddr;
use std::time::Duration;

use crate::sdk::net::Net;
use crate::sdk::usage::OrderTerms;
use vpn_core::meter::{Action, Client, Event, GraceLimit, Holding, Meter, PaymentId, Rest, Terms, Unit, Use};

/// How often a signature is asked for, and how long each time is waited for it.
pub(super) const ASK_COUNT: u32 = 3;
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(10);

/// A client without any sign of life for so long has vanished. Clients of the SDK show one every 10 s, and a stream
/// without packets from its peer for 15 s ends.
const VANISHED_AFTER: Duration = Duration::from_secs(12);

/// A session's account, under one lock. The lock is not held while the SDK is called that calls back.
pub(super) struct Account {
    /// Identifies the session among those that own rests and chains of payments.
    pub(super) number: u64,
    pub(super) stage: Stage,
    /// The meter and what belongs to it, from the grant of paid service or grace on.
    pub(super) metered: Option<Metered>,
    /// The entry of the service in the account book.
    pub(super) entry: Option<Noted>,
    /// Why the service has stopped, or ends; `None` while it is provided.
    pub(super) stopped: Option<String>,
}

/// A service that the account book has an entry of.
#[derive(Debug)]
pub(super) struct Noted {
    /// The entry.
    pub(super) number: u64,
    /// The bytes from the client that the session had carried before the service.
    pub(super) up: u64,
    /// The same to the client.
    pub(super) down: u64,
    /// When the entry last got what was carried since.
    pub(super) at: Duration,
}

/// Where a session is between REQUEST and the end of its service.
pub(super) enum Stage {
    /// No REQUEST was accepted.
    Idle,
    /// The client is asked to prove that it has the key that it names.
    Proving { offer: Offer, receipt: Vec<u8>, ask: Ask },
    /// The client's former session has its rest, and is asked whether it is alive.
    Waiting { offer: Offer, since: Duration },
    /// Served without payment, until the ledger has the transaction.
    Grace { offer: Offer },
    /// REQUEST is with the SDK.
    Starting { offer: Offer },
    /// The first receipt waits for the client's signature.
    FirstSign { offer: Offer, ask: Ask },
    /// The service is provided, or was until its units were used.
    Served { request: Vec<u8> },
    /// The service has ended; a new REQUEST may begin another.
    Ended,
}

/// A request for paid service that can be granted.
#[derive(Clone)]
pub(super) struct Offer {
    /// REQUEST as it arrived.
    pub(super) request: Vec<u8>,
    pub(super) client: Client,
    pub(super) net: Net,
    pub(super) unit: Unit,
    pub(super) units: u64,
    pub(super) order: OrderTerms,
    /// The transaction that REQUEST names.
    pub(super) transaction: [u8; 32],
    /// The first transaction of its chain of payments; `None` while the ledger does not have it.
    pub(super) chain: Option<[u8; 32]>,
    /// Whether a payment can be made. If not, the code to refuse with unless there is a rest.
    pub(super) payment: Result<(), u32>,
}

/// A question that is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) at: Duration,
    pub(super) count: u32,
}

impl Ask {
    pub(super) fn first(now: Duration) -> Ask {
        Ask { at: now, count: 1 }
    }

    /// Returns what is due: to ask again, or to give up.
    pub(super) fn check(&mut self, now: Duration) -> AskStep {
        if now.saturating_sub(self.at) < ASK_INTERVAL {
            AskStep::Wait
        } else if self.count >= ASK_COUNT {
            AskStep::GiveUp
        } else {
            *self = Ask { at: now, count: self.count + 1 };
            AskStep::Repeat
        }
    }
}

/// What an unanswered question needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskStep {
    Wait,
    Repeat,
    GiveUp,
}

/// The last payment of a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payment {
    /// Nothing was paid.
    None,
    /// In the mempool. It counts when the ledger has it, because the client's address has used up its grace.
    Deferred { id: PaymentId, since: Duration },
    /// In the mempool; the meter counts it.
    Unsettled(PaymentId),
    /// In the ledger.
    Settled,
}

/// A meter and what belongs to it.
pub(super) struct Metered {
    pub(super) meter: Meter,
    pub(super) client: Client,
    pub(super) net: Net,
    pub(super) order: OrderTerms,
    /// The client's rest, as it was when the session took it; `None` if it did not.
    pub(super) taken: Option<Rest>,
    /// The log has a line that half of the current receipt is used.
    pub(super) told_half: bool,
    /// The meter knows the rest.
    pub(super) is_resumed: bool,
    /// The chain of payments that the session has.
    pub(super) chain: Option<[u8; 32]>,
    pub(super) payment: Payment,
    /// The transaction that the payment under way spends; set while a receipt that the gate has checked is with the SDK.
    pub(super) spending: Option<[u8; 32]>,
    /// The client's address at the first payment.
    pub(super) source: Option<IpAddr>,
    /// The next receipt waits for the client's signature.
    pub(super) ask: Option<Ask>,
    /// The next receipt is to be asked for, once the SDK has left its callback and the ledger has the payment before.
    pub(super) is_ask_due: bool,
    /// Grace that has to be given back.
    pub(super) grace: Option<(IpAddr, GraceLimit)>,
    /// When the client last gave a sign of life.
    pub(super) alive: Duration,
    /// The server closes the stream because the client does not answer.
    pub(super) has_vanished: bool,
    /// The units of a payment that was not in the ledger in time, less what was served for them. They become a rest if
    /// it still arrives.
    pub(super) late: u64,
}

impl Metered {
    /// Returns the meter of an offer, before any event.
    pub(super) fn new(offer: &Offer, confirm_within: Duration, save_every: Duration, now: Duration) -> Metered {
        let Offer { client, net, order, unit, units, .. } = offer;
        Metered {
            meter: Meter::new(Terms { unit: *unit, units: *units, confirm_within, save_every }),
            client: *client,
            net: net.clone(),
            order: *order,
            taken: None,
            told_half: false,
            is_resumed: false,
            chain: None,
            payment: Payment::None,
            spending: None,
            source: None,
            ask: None,
            is_ask_due: false,
            grace: None,
            alive: now,
            has_vanished: false,
            late: 0,
        }
    }

    /// Returns when the client last gave a sign of life, as of the end of its stream. A stream that the client closes is
    /// one, but it arrives without a trace: it is told by the signs of life that came until then.
    fn alive_at_end(&self, now: Duration) -> Duration {
        let has_left = !self.has_vanished && now.saturating_sub(self.alive) < VANISHED_AFTER;
        if has_left { now } else { self.alive }
    }

    /// Passes an event to the meter, and returns what it asks for.
    pub(super) fn handle(&mut self, now: Duration, bytes: u64, event: Event) -> Vec<Action> {
        if event == Event::End {
            self.meter.handle(now, Use { bytes, alive: self.alive }, Event::Tick);
            self.late = self.late_units();
            self.meter.handle(now, Use { bytes, alive: self.alive_at_end(now) }, event);
        } else {
            self.meter.handle(now, Use { bytes, alive: self.alive }, event);
            self.late = self.late_units();
        }
        std::iter::from_fn(|| self.meter.next_action()).collect()
    }

    fn late_units(&self) -> u64 {
        let books = self.meter.books();
        let is_late = matches!(self.payment, Payment::Unsettled(_)) && books.taken_back > 0;
        let left = books.taken_back.saturating_sub(books.debt) / self.meter.terms().unit.steps();
        if is_late { u64::try_from(left).unwrap_or(u64::MAX).min(self.meter.terms().units) } else { 0 }
    }

    /// Returns what was served for the payment that is not in the ledger, in the steps of the books, as of the end of
    /// the session. Its units are used last.
    pub(super) fn served_unpaid(&self) -> u128 {
        let Payment::Unsettled(_) = self.payment else { return 0 };
        if self.meter.books().taken_back > 0 {
            return 0;
        }
        u128::from(self.meter.terms().units.saturating_sub(self.meter.holding().pending))
            * self.meter.terms().unit.steps()
    }

    /// Returns what outlasts the session.
    pub(super) fn holding(&self) -> Holding {
        let known = match self.taken {
            Some(rest) if !self.is_resumed => Holding { rest, pending: 0 },
            _ => self.meter.holding(),
        };
        Holding { pending: known.pending.saturating_add(self.uncounted()), ..known }
    }

    /// Returns the units of payments that the meter does not count: they become a rest when the ledger has them.
    pub(super) fn uncounted(&self) -> u64 {
        let deferred = if let Payment::Deferred { .. } = self.payment { self.meter.terms().units } else { 0 };
        self.late.saturating_add(deferred)
    }

    /// Returns the payment that is not in the ledger.
    pub(super) fn unsettled(&self) -> Option<PaymentId> {
        match self.payment {
            Payment::Deferred { id, .. } | Payment::Unsettled(id) => Some(id),
            Payment::None | Payment::Settled => None,
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Account {
    pub(super) fn new(number: u64) -> Account {
        Account { number, stage: Stage::Idle, metered: None, entry: None, stopped: None }
    }

    /// Returns whether the first payment counts only when the ledger has it.
    pub(super) fn is_deferred(&self) -> bool {
        self.metered.as_ref().is_some_and(|metered| matches!(metered.payment, Payment::Deferred { .. }))
    }

    /// Returns whether the meter allows packets; `None` if the session has no meter.
    pub(super) fn allows(&self) -> Option<bool> {
        self.metered.as_ref().map(|metered| metered.meter.is_allowed())
    }

    /// Records that the server closes the stream because the client does not answer.
    pub(super) fn set_vanished(&mut self) {
        if let Some(metered) = &mut self.metered {
            metered.has_vanished = true;
        }
    }

    /// Returns when the client's TCP last gave a sign of life, as of the meter's last look.
    pub(super) fn alive(&self) -> Duration {
        self.metered.as_ref().map_or(Duration::ZERO, |metered| metered.alive)
    }

    /// Returns REQUEST of the service that is provided, being prepared or waited for.
    pub(super) fn current_request(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Idle | Stage::Ended => None,
            Stage::Served { request } => Some(request),
            Stage::Proving { offer, .. }
            | Stage::Waiting { offer, .. }
            | Stage::Grace { offer }
            | Stage::Starting { offer }
            | Stage::FirstSign { offer, .. } => Some(&offer.request),
        }
    }
}
