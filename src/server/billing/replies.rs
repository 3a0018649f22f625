//! What the server tells a client about its service, on channels 'R' and 'S'.

use std::sync::Arc;
use std::time::Duration;

use crate::sdk::channel::Channel;
use crate::sdk::gate::ServiceChannel;
use crate::server::Server;
use crate::server::account::Stage;
use crate::server::figures::Refusal;
use crate::server::session::Session;
use vpn_core::meter::StopReason;
use vpn_core::wire::{Request, ServiceError, Success, error_code, error_text, pkt};

impl Server {
    /// Sends SUCCESS for the service that the session has, or is granted in grace.
    pub(super) fn send_success(&self, channel: &Channel, session: &Session) {
        let Some((net_id, srv_uid)) =
            session.account.lock().current_request().and_then(parsed).map(|r| (r.net_id, r.srv_uid))
        else {
            return;
        };
        let success = Success { usage_id: session.usage_id(), net_id, srv_uid };
        channel.send_service(pkt::SUCCESS, &success.encode());
    }

    /// Refuses a REQUEST in the log and to the client.
    pub(super) fn refuse_on(&self, channel: &Channel, code: u32, request: &[u8]) {
        self.figures.refuse(Refusal::of_code(code));
        log_refusal(channel, self.now(), code);
        channel.send_service(pkt::ERROR, &refusal(&parsed(request).unwrap_or_default(), code));
    }

    /// Ends what has not become a service: tells the client why, and forgets the usage.
    pub(super) fn give_up(&self, channel: &Arc<Channel>, code: u32) {
        self.figures.refuse(Refusal::of_code(code));
        log_refusal(channel, self.now(), code);
        channel.send_service(pkt::ERROR, &code.to_le_bytes());
        if let Some(session) = channel.data::<Session>() {
            session.account.lock().stopped = Some(error_text(code).to_owned());
        }
        self.end_billing(channel);
    }

    /// Tells the client that its service has stopped, where old and new clients look for it.
    pub(super) fn notify_stopped(&self, channel: &Channel, session: &Session, reason: StopReason) {
        let in_grace = matches!(session.account.lock().stage, Stage::Grace { .. });
        let code = match reason {
            StopReason::GraceTime | StopReason::GraceBytes => error_code::TX_COND_NOT_FOUND,
            StopReason::NotConfirmed => error_code::TX_CREATION_ERROR,
            // What the C module sends.
            StopReason::UnitsUsed | StopReason::Ended => error_code::RECEIPT_CANT_FIND,
        };
        if in_grace {
            channel.send_service(pkt::ERROR, &code.to_le_bytes());
        }
        channel.send_service(pkt::NOTIFY_STOPPED, &[]);
        let request = session.account.lock().current_request().and_then(parsed).unwrap_or_default();
        let (net_id, srv_uid, usage_id) = (request.net_id, request.srv_uid, session.usage_id());
        let error = ServiceError { net_id, srv_uid, usage_id, code };
        channel.send(pkt::NOTIFY_STOPPED, &error.encode());
    }
}

/// Returns the error that refuses a request, as the SDK sends it before there is a usage.
fn refusal(request: &Request, code: u32) -> [u8; ServiceError::LEN] {
    ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id: 0, code }.encode()
}

/// Refuses a REQUEST of a client that may have no channel 'S'.
pub(super) fn refuse(r: &ServiceChannel<'_>, request: &Request, code: u32) {
    r.send(pkt::ERROR, &refusal(request, code));
}

/// Parses a REQUEST that has arrived whole.
pub(super) fn parsed(request: &[u8]) -> Option<Request> {
    Request::parse(request).ok()
}

/// Whether the client has received what was sent to it. A receipt is 28 times as long as the REQUEST that brings it.
pub(super) fn is_drained(channel: &Channel) -> bool {
    channel.pending() == Some(0)
}

fn log_refusal(channel: &Channel, now: Duration, code: u32) {
    let Some(session) = channel.data::<Session>() else { return };
    let level = session.journal.level(now, "request refused");
    log::log!(level, "request refused: {}, {} ({code:#x})", session.who(), error_text(code));
}
