//! The sessions as `vpn_stat` shows them.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::sdk::channel::Channel;
use vpn_core::meter::Unit;
use vpn_core::wire::Request;

use super::Server;
use super::account::Stage;
use super::rates::SessionRates;
use super::session::Session;

/// A session that has an address.
#[derive(Clone, Debug)]
pub(crate) struct SessionInfo {
    /// The leased inner address.
    pub(crate) address: Ipv4Addr,
    /// The hash of the client's key. Of a free service nothing has proved it.
    pub(crate) client: Option<[u8; 32]>,
    /// The number of the network; `None` if the client has named none.
    pub(crate) net: Option<u64>,
    /// The order's hash; `None` if it is not known.
    pub(crate) order: Option<[u8; 32]>,
    /// The number of the SDK's usage.
    pub(crate) usage: u32,
    /// How the service is paid: `free`, `grace`, `paid`, or `none` while there is none.
    pub(crate) service: &'static str,
    /// The unit of what is paid; `None` if nothing is.
    pub(crate) unit: Option<Unit>,
    /// What the client has left, in units.
    pub(crate) left: u64,
    /// The receipts: asked for, signed, in the ledger; `None` without an account book.
    pub(crate) receipts: Option<[u32; 3]>,
    /// The bytes that waited for the client and from it within the last second.
    pub(crate) queued: usize,
    /// The session's limits.
    pub(crate) rates: SessionRates,
    /// The time since the session began.
    pub(crate) age: Duration,
    /// The bytes of inner packets from the client, and to it.
    pub(crate) carried: (u64, u64),
    /// The same a second, at the moment.
    pub(crate) rates_now: (u64, u64),
    /// The round trip to the client; `None` if it was not asked for, see `monitor`.
    pub(crate) round_trip: Option<Duration>,
    /// The worker; `None` while the stream moves to another.
    pub(crate) worker: Option<u32>,
}

impl Server {
    /// Returns the sessions that have an address. Any thread but the workers: it waits for many locks, each of which is
    /// held for a moment.
    pub(super) fn listing(&self) -> Vec<SessionInfo> {
        self.channels().iter().filter_map(|channel| self.info(channel)).collect()
    }

    fn info(&self, channel: &Channel) -> Option<SessionInfo> {
        let session = channel.data::<Session>()?;
        let address = session.leased()?;
        let account = session.account.lock();
        let request = account.current_request().and_then(|request| Request::parse(request).ok());
        let metered = account.metered.as_ref();
        let service = match (&account.stage, metered) {
            _ if !session.is_allowed() => "none",
            (Stage::Grace { .. }, _) => "grace",
            (_, Some(_)) => "paid",
            (_, None) => "free",
        };
        let order = request.as_ref().map(|request| request.order_hash);
        Some(SessionInfo {
            address,
            client: session.client_key(),
            net: request.map(|request| request.net_id).or(metered.map(|metered| metered.client.net)),
            order,
            usage: session.usage_id(),
            service,
            unit: metered.map(|metered| metered.meter.terms().unit),
            left: metered.map_or(0, |metered| self.left_now(session, metered)),
            receipts: account.entry.as_ref().and_then(|noted| self.billing.book.receipts(noted.number)),
            queued: session.queued(),
            rates: self.settings().rates.of(order.as_ref()),
            age: session.journal.age(self.uptime()),
            carried: session.carried.both_ways(),
            rates_now: session.pulse.rates(),
            round_trip: session.pulse.round_trip(),
            worker: channel.worker(),
        })
    }
}
