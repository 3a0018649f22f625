//! One usage with its stream: what the billing sends and reports.

use super::fault::{Fault, record};
use crate::cview::usage::Usage;
use crate::reactor::Worker;
use crate::service::CHANNEL;
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
pub(super) struct Desk {
    pub(super) worker: Rc<Worker>,
    /// The uuid of the stream.
    pub(super) stream: u64,
    pub(super) usage: Arc<Usage>,
}

impl Desk {
    /// The stream, while it is open.
    pub(super) fn conn(&self) -> Option<Rc<Conn>> {
        registry::find(self.stream)
    }

    /// Sends a packet on the usage's channel.
    pub(super) fn send(&self, kind: u8, data: &[u8]) {
        match self.conn() {
            Some(conn) => {
                conn.write_packet(&self.worker, CHANNEL, kind, data);
            }
            None => record(Fault::FreedChannel),
        }
    }

    pub(super) fn send_success(&self, is_signed: bool) {
        let (usage_id, net_id, srv_uid) = (self.usage.id, self.usage.net_id, self.usage.service.uid());
        let mut message = Success { usage_id, net_id, srv_uid }.encode().to_vec();
        if is_signed {
            message.resize(message.len() + SUCCESS_EXTRA, UNSET);
        }
        self.send(pkt::SUCCESS, &message);
    }

    /// Sends the code of the last error alone, as the SDK does once there is a usage.
    pub(super) fn send_code(&self) {
        self.send(pkt::ERROR, &self.usage.fields().last_err_code.get().to_le_bytes());
    }

    /// Sends an error whose code alone is set, and reports it.
    pub(super) fn refuse_unset(&self, code: u32) {
        let mut error = [UNSET; ServiceError::LEN];
        error[ServiceError::LEN - 4..].copy_from_slice(&code.to_le_bytes());
        self.send(pkt::ERROR, &error);
        self.usage.service.response_error(&self.usage.handle(), &error);
    }

    /// Reports the last error to the service.
    pub(super) fn report(&self) {
        let code = self.usage.fields().last_err_code.get();
        let (usage_id, net_id, srv_uid) = (self.usage.id, self.usage.net_id, self.usage.service.uid());
        let error = ServiceError { net_id, srv_uid, usage_id, code }.encode();
        self.usage.service.response_error(&self.usage.handle(), &error);
    }

    /// The address of the session's active usage, 0 for none.
    pub(super) fn active(&self) -> usize {
        self.conn().map_or(0, |conn| active(&conn))
    }
}

/// The address of a session's active usage, 0 for none.
pub(super) fn active(conn: &Conn) -> usize {
    let Some(view) = conn.view() else { return 0 };
    view.session.service.lock().as_ref().map_or(0, |service| service.active_address())
}

/// Makes a usage the session's active one, or none.
pub(super) fn set_active(conn: &Conn, usage: Option<&Usage>) {
    let Some(view) = conn.view() else { return };
    if let Some(service) = view.session.service.lock().as_ref() {
        service.set_active(usage);
    }
}
