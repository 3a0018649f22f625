//! One usage with its stream: what the billing sends and reports.

use super::CHANNEL;
use super::fault::{Fault, plays_the_sdk, record};
use crate::cview::usage::Usage;
use crate::reactor::Worker;
use crate::stream::conn::Conn;
use crate::stream::conn::registry;
use std::rc::Rc;
use std::sync::Arc;
use vpn_core::wire::{ServiceError, Success, pkt};

/// Bytes that the SDK sends and never sets.
const UNSET: u8 = 0xee;
/// What the SDK sends behind SUCCESS once a receipt is signed.
const SUCCESS_EXTRA: usize = 67;

/// One usage with its stream, on the stream's worker.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) worker: Rc<Worker>,
    /// The uuid of the stream.
    pub(crate) stream: u64,
    pub(crate) usage: Arc<Usage>,
}

impl Desk {
    /// The stream, while it is open.
    pub(super) fn conn(&self) -> Option<Rc<Conn>> {
        registry::find(self.stream)
    }

    /// Whether the usage and its stream are there when a timer of the played SDK fires; if not, that is a fault.
    pub(super) fn is_usable(&self, outlived: Fault) -> bool {
        let fault = match self.conn() {
            _ if self.usage.is_deleted() => outlived,
            None => Fault::FreedChannel,
            Some(_) => return true,
        };
        record(fault);
        false
    }

    /// Sends a packet on the usage's channel.
    pub(super) fn send(&self, kind: u8, data: &[u8]) {
        match self.conn() {
            Some(conn) => {
                conn.write_packet(&self.worker, CHANNEL, kind, data);
            }
            None if plays_the_sdk() => record(Fault::FreedChannel),
            // The client has left, and the usage ends with its channel.
            None => {}
        }
    }

    pub(crate) fn send_success(&self, is_signed: bool) {
        let (usage_id, net_id, srv_uid) = (self.usage.id, self.usage.net_id, self.usage.service.uid());
        let mut message = Success { usage_id, net_id, srv_uid }.encode().to_vec();
        if is_signed {
            message.resize(message.len() + SUCCESS_EXTRA, if plays_the_sdk() { UNSET } else { 0 });
        }
        self.send(pkt::SUCCESS, &message);
    }

    /// Sends the code of the last error alone, as the SDK does once there is a usage.
    pub(super) fn send_code(&self) {
        self.send(pkt::ERROR, &self.usage.fields().last_err_code.get().to_le_bytes());
    }

    /// Sends a whole error, and reports it. The SDK sets the code alone.
    pub(super) fn refuse(&self, code: u32) {
        let mut error = self.error(code);
        if plays_the_sdk() {
            error[..ServiceError::LEN - 4].fill(UNSET);
        }
        self.send(pkt::ERROR, &error);
        self.usage.service.response_error(&self.usage.handle(), &error);
    }

    /// Reports the last error to the service.
    pub(super) fn report(&self) {
        let error = self.error(self.usage.fields().last_err_code.get());
        self.usage.service.response_error(&self.usage.handle(), &error);
    }

    fn error(&self, code: u32) -> [u8; ServiceError::LEN] {
        let (usage_id, net_id, srv_uid) = (self.usage.id, self.usage.net_id, self.usage.service.uid());
        ServiceError { net_id, srv_uid, usage_id, code }.encode()
    }

    /// The address of the session's active usage, 0 for none.
    pub(super) fn active(&self) -> usize {
        self.conn().map_or(0, |conn| active(&conn))
    }
}

/// The address of a session's active usage, 0 for none.
pub(crate) fn active(conn: &Conn) -> usize {
    let Some(view) = conn.view() else { return 0 };
    view.session.service.lock().as_ref().map_or(0, |service| service.active_address())
}

/// Makes a usage the session's active one, or none.
pub(crate) fn set_active(conn: &Conn, usage: Option<&Usage>) {
    let Some(view) = conn.view() else { return };
    if let Some(service) = view.session.service.lock().as_ref() {
        service.set_active(usage);
    }
}

/// Runs a job for a usage on its stream's worker, which may have changed. Nothing happens if the stream has ended.
pub(super) fn follow(worker: &Rc<Worker>, stream: u64, usage: Arc<Usage>, job: impl FnOnce(&Desk) + Send + 'static) {
    if registry::find(stream).is_some() {
        return job(&Desk { worker: Rc::clone(worker), stream, usage });
    }
    // A stream that is moving arrives in its new worker's queue before this job does, or one turn later.
    if let Some(owner) = worker.reactor.owner(stream) {
        owner.post(Box::new(move |worker| follow(worker, stream, usage, job)));
    }
}
