//! One session's dealings with the billing.

use std::net::IpAddr;
use std::time::Duration;

use crate::sdk::net::Net;
use crate::sdk::usage::OrderTerms;
use vpn_core::meter::{Client, GraceLimit, Meter, PaymentId, Rest, Unit};

/// How often a signature is asked for, and how long each time is waited for it.
pub(super) const ASK_COUNT: u32 = 3;
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(10);

/// A client without any sign of life for so long has vanished. Clients of the SDK show one every 10 s, and a stream
/// without packets from its peer for 15 s ends.
const VANISHED_AFTER: Duration = Duration::from_secs(12);

/// A session's account, under one lock. The lock is not held while the SDK is called that calls back.
pub(in crate::server) struct Account {
    /// Identifies the session among those that own rests and chains of payments.
    pub(super) number: u64,
    pub(super) stage: Stage,
    /// The meter and what belongs to it, from the grant of paid service or grace on.
    pub(super) metered: Option<Metered>,
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

/// A meter and what belongs to it.
pub(super) struct Metered {
    pub(super) meter: Meter,
    pub(super) client: Client,
    pub(super) net: Net,
    pub(super) order: OrderTerms,
    /// The client's rest, as it was when the session took it; `None` if it did not.
    pub(super) taken: Option<Rest>,
    /// The meter knows the rest.
    pub(super) is_resumed: bool,
    /// The chain of payments that the session has.
    pub(super) chain: Option<[u8; 32]>,
    /// The last payment, and whether the ledger has it.
    pub(super) payment: Option<PaymentId>,
    pub(super) is_settled: bool,
    /// The first payment counts only when the ledger has it: this source has used up its grace.
    pub(super) is_deferred: bool,
    /// The client's address at the first payment.
    pub(super) source: Option<IpAddr>,
    /// The next receipt waits for the client's signature.
    pub(super) ask: Option<Ask>,
    /// Grace that has to be given back.
    pub(super) grace: Option<(IpAddr, GraceLimit)>,
    /// When the client last gave a sign of life.
    pub(super) alive: Duration,
    /// The server closes the stream because the client does not answer.
    pub(super) has_vanished: bool,
}

impl Metered {
    /// Returns when the client last gave a sign of life, as of the end of its stream. A stream that the client closes is
    /// one, but it arrives without a trace: it is told by the signs of life that came until then.
    pub(super) fn alive_at_end(&self, now: Duration) -> Duration {
        let has_left = !self.has_vanished && now.saturating_sub(self.alive) < VANISHED_AFTER;
        if has_left { now } else { self.alive }
    }

    /// Returns the payment that is not in the ledger.
    pub(super) fn unsettled(&self) -> Option<PaymentId> {
        self.payment.filter(|_| !self.is_settled)
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Account {
    pub(super) fn new(number: u64) -> Account {
        Account { number, stage: Stage::Idle, metered: None }
    }

    /// Returns whether the meter allows packets; `None` if the session has no meter.
    pub(in crate::server) fn allows(&self) -> Option<bool> {
        self.metered.as_ref().map(|metered| metered.meter.is_allowed())
    }

    /// Records that the server closes the stream because the client does not answer.
    pub(in crate::server) fn set_vanished(&mut self) {
        if let Some(metered) = &mut self.metered {
            metered.has_vanished = true;
        }
    }

    /// Returns when the client's TCP last gave a sign of life, as of the meter's last look.
    pub(in crate::server) fn alive(&self) -> Duration {
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
