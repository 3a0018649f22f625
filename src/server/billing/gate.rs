//! Packets on channel 'R' before the SDK sees them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::sdk::channel::Channel;
use crate::sdk::gate::{self, GateHandler, ServiceChannel};
use crate::server::{Server, session::Session};
use vpn_core::gate::{CheckAnswer, VPN_UID, answer_check};
use vpn_core::wire::{Check, ServiceError, error_code, pkt};

/// Most packets of one kind that a client may send on 'R' in a second.
const PER_SECOND: u32 = 8;
/// Most bytes of data in a check, each way, as the SDK allows.
const CHECK_DATA_MAX: usize = if cfg!(feature = "embedded") { 65_536 } else { 10_240 };
/// The header of a DATA packet, and where it has its data's size and its service.
const DATA_HEADER_LEN: usize = 16;

/// The gate of a running service.
pub(in crate::server) struct Gate {
    server: Weak<Server>,
    /// The rates of each open channel 'R'.
    channels: Mutex<HashMap<usize, Rates>>,
}

/// How many packets of each kind a client sent in the current second.
#[derive(Default)]
struct Rates {
    since: Duration,
    sent: HashMap<u8, u32>,
}

impl Rates {
    fn allows(&mut self, now: Duration, kind: u8) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            *self = Rates { since: now, sent: HashMap::new() };
        }
        let sent = self.sent.entry(kind).or_default();
        *sent += 1;
        *sent <= PER_SECOND
    }
}

impl Gate {
    /// Puts the gate in front of channel 'R', unless the configuration turns it off or the SDK cannot have one.
    pub(in crate::server) fn install(server: &Arc<Server>) {
        if !server.billing.rules().gate {
            return log::warn!(
                "[srv_vpn] gate = false: packets on channel 'R' go to the node unchecked; a stranger can end it by one packet"
            );
        }
        let gate = Arc::new(Gate { server: Arc::downgrade(server), channels: Mutex::default() });
        let installed = gate::install(gate);
        server.billing.is_gated.store(installed, Ordering::Release);
        if installed {
            log::info!("a gate checks packets on channel 'R' before the node sees them ([srv_vpn] gate)");
        }
    }
}

impl GateHandler for Gate {
    fn opened(&self, r: &ServiceChannel<'_>) {
        self.channels.lock().insert(r.id(), Rates::default());
    }

    fn closed(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>) {
        self.channels.lock().remove(&r.id());
        if let (Some(server), Some(channel)) = (self.server.upgrade(), session) {
            // Before the SDK makes its statistics of them.
            server.show_billing(channel);
            server.end_billing(channel);
            channel.disarm_waiting();
        }
    }

    fn packet(&self, r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>, kind: u8, data: &[u8]) {
        let Some(server) = self.server.upgrade() else { return };
        let allowed = self.channels.lock().entry(r.id()).or_default().allows(server.now(), kind);
        if !allowed {
            host::log_bounded!(Warn, "dropped a packet on channel 'R': a client sent too many of its type in a second");
            return;
        }
        if server.is_closing() {
            return;
        }
        match kind {
            pkt::REQUEST => server.request(r, session, data),
            pkt::SIGN_RESPONSE => {
                if let Some(channel) = session {
                    server.signed(channel, data);
                }
            }
            pkt::CHECK_REQUEST if has_output(r, session) => {
                host::log_bounded!(Warn, "dropped a CHECK: its client has not received yet what it was sent before");
            }
            pkt::CHECK_REQUEST if server.tunnel.is_out() => refuse_check(r, data),
            pkt::CHECK_REQUEST => check(r, data),
            pkt::DATA if is_foreign_data(data) => r.pass(kind, data),
            // A new transaction is never asked for, because the SDK cannot pay from one that it gets this way.
            kind => log::debug!("dropped a packet of type {kind:#x} on channel 'R'"),
        }
    }
}

/// Puts the gate in front again if the registration of another service has replaced it.
pub(super) fn stay() {
    if !gate::stay_installed() {
        log::warn!("the gate in front of channel 'R' cannot be put back");
    }
}

/// Takes the gate's handler away: every REQUEST is then refused.
pub(super) fn close() {
    gate::close();
}

/// Whether output waits: here, or, of a client that has not earned its place, in the kernel, which would keep megabytes
/// of answers for a client that does not read.
fn has_output(r: &ServiceChannel<'_>, session: Option<&Arc<Channel>>) -> bool {
    let keeps_place = session.and_then(|channel| channel.data::<Session>()).is_some_and(Session::keeps_place);
    r.pending() > 0 || !keeps_place && r.unacknowledged() > 0
}

fn check(r: &ServiceChannel<'_>, data: &[u8]) {
    let fill = |reply: &mut [u8]| rustix::rand::getrandom(reply, rustix::rand::GetRandomFlags::empty()).is_ok();
    match answer_check(data, CHECK_DATA_MAX, fill, nanoseconds_now) {
        CheckAnswer::Response(message) => r.send(pkt::CHECK_RESPONSE, &message),
        CheckAnswer::Error(error) => r.send(pkt::ERROR, &error.encode()),
    };
}

/// Refuses a check while the tunnel is down: a server that carries nothing must not look well.
fn refuse_check(r: &ServiceChannel<'_>, data: &[u8]) {
    let Check { net_id, srv_uid, usage_id, .. } = Check::parse(data).map(|(check, _)| check).unwrap_or_default();
    let error = ServiceError { net_id, srv_uid, usage_id, code: error_code::SERVICE_INTERNAL_ERROR };
    r.send(pkt::ERROR, &error.encode());
}

fn nanoseconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// Whether a DATA packet is well-formed and for another service than the VPN, which has no use for it.
fn is_foreign_data(data: &[u8]) -> bool {
    let Some((header, payload)) = data.split_at_checked(DATA_HEADER_LEN) else { return false };
    let size = u16::from_le_bytes([header[1], header[2]]);
    let uid = header[8..].try_into().map_or(VPN_UID, u64::from_le_bytes);
    usize::from(size) == payload.len() && uid != VPN_UID
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_allows_eight_of_a_kind() {
        let mut rates = Rates::default();
        let at = Duration::from_millis;
        assert!((0..8).all(|_| rates.allows(at(5000), 1)));
        assert!(!rates.allows(at(5999), 1));
        assert!(rates.allows(at(5999), 2));
        assert!(rates.allows(at(6000), 1));
    }

    #[test]
    fn data_is_for_other_services_and_of_its_own_size() {
        let packet = |size: u16, uid: u64, payload: &[u8]| {
            let size = size.to_le_bytes();
            [&[1, size[0], size[1], 0, 0, 0, 0, 0], uid.to_le_bytes().as_slice(), payload].concat()
        };
        assert!(is_foreign_data(&packet(3, 9, b"abc")));
        assert!(!is_foreign_data(&packet(3, 1, b"abc")));
        assert!(!is_foreign_data(&packet(4, 9, b"abc")));
        assert!(!is_foreign_data(&packet(3, 9, b"abc")[..15]));
        assert!(!is_foreign_data(&[]));
    }
}
