//! Whether the client has a granted service, and what follows: how much output a stream may hold, how long it lives, and
//! whether it makes room for newcomers. A free usage is anybody's and does not count: the service says that it serves
//! such a client once that has what is scarce.

use super::Conn;
use crate::budget::ALWAYS;
use crate::reactor::Worker;
use crate::stream::incoming::BLOCK;
use crate::stream::{OUTPUT_LIMIT, OUTPUT_LIMIT_UNSERVED};
use std::time::Instant;

impl Conn {
    /// The service serves the client, or no more, whatever the usage on channel 'R' says: as while a payment is not in
    /// the ledger yet.
    pub(crate) fn set_served(&self, worker: &Worker, served: bool) {
        self.is_served.set(served);
        self.look_for_service(worker.now());
    }

    /// Looks whether the client has a granted service. Always true at the client's end.
    pub(super) fn look_for_service(&self, now: Instant) -> bool {
        let (Some(view), Some(permit)) = (self.view.get(), &self.permit) else { return self.has_service.get() };
        let is_paid = || view.session.service.lock().as_ref().is_some_and(|service| service.is_paid());
        let has_service = self.is_served.get() || is_paid();
        if self.has_service.replace(has_service) != has_service {
            self.unserved_since.set(now);
            permit.set_served(has_service);
            // Others' use of the budget ends no stream that is served.
            self.input_account.assure(if has_service { BLOCK } else { ALWAYS });
            self.mailbox.set_served(has_service);
            view.es.buf_out_size_max.set(self.output_limit());
        }
        has_service
    }

    /// True for a server's end whose client has had no granted service for too long, however much it sends.
    pub(super) fn has_outlived(&self, now: Instant) -> bool {
        let Some(permit) = &self.permit else { return false };
        !self.look_for_service(now) && now.saturating_duration_since(self.unserved_since.get()) >= permit.life()
    }

    /// Most bytes of output that may wait.
    pub(super) fn output_limit(&self) -> usize {
        if self.has_service.get() { OUTPUT_LIMIT } else { OUTPUT_LIMIT_UNSERVED }
    }
}
