//! The server's side of channel 'R': REQUEST, SUCCESS, ERROR, CHECK. [`billing`] has what is paid for.

use crate::billing::{self, At, CHANNEL};
use crate::ctypes::{dap_chain_node_role_enum as role, dap_stream_ch};
use crate::cview::packets::{Packet, PacketHandler, proc_of};
use crate::cview::service::{Handle, Service};
pub use crate::ledger::free_order;
use crate::ledger::{self, Order};
use crate::net::{self, NetRef};
use crate::reactor::Worker;
use crate::services;
use crate::stream::conn::Conn;
use crate::stream::conn::registry::on_channel;
use crate::stream::{COUNTERS, count, procs};
use parking_lot::RwLock;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::gate::{CheckAnswer, answer_check};
use vpn_core::wire::{Request, ServiceError, Success, error_code, pkt};

/// Most bytes of data in a CHECK, each way.
pub const CHECK_DATA_MAX: usize = 64 * 1024;

/// Channel 'R'.
struct ServiceChannel;

impl PacketHandler for ServiceChannel {
    fn packet_in(ch: *mut dap_stream_ch, packet: &Packet<'_>) -> bool {
        let Some(at) = at(ch) else { return false };
        match at.conn.client() {
            Some(client) => client.service_packet(ch, packet),
            None => on_packet(&at, packet.kind, packet.data),
        }
        true
    }

    fn closed(ch: *mut dap_stream_ch) {
        if let Some(at) = at(ch).filter(|at| at.conn.client().is_none()) {
            match stand_in() {
                Some(stand_in) => stand_in.closed(&at),
                None => billing::closed(&at),
            }
        }
    }
}

fn at(ch: *mut dap_stream_ch) -> Option<At> {
    on_channel(ch, |worker, conn, _| At { worker: Rc::clone(worker), conn: Rc::clone(conn), ch })
}

/// Another server's side of channel 'R', which takes this module's place in tests.
pub(crate) trait StandIn: Sync {
    /// A client has sent a packet.
    fn packet(&self, at: &At, kind: u8, data: &[u8]);
    /// A client's channel ends.
    fn closed(&self, at: &At);
}

static STAND_IN: RwLock<Option<&'static dyn StandIn>> = RwLock::new(None);

/// Has another take this module's place, or no more.
pub(crate) fn set_stand_in(other: Option<&'static dyn StandIn>) {
    *STAND_IN.write() = other;
}

fn stand_in() -> Option<&'static dyn StandIn> {
    *STAND_IN.read()
}

/// Registers channel 'R'.
pub(crate) fn register_channel() {
    procs::add(proc_of::<ServiceChannel>(CHANNEL));
    billing::register();
}

/// Handles a packet on channel 'R' of a stream that a client opened.
fn on_packet(at: &At, kind: u8, data: &[u8]) {
    let Some(view) = at.conn.view() else { return };
    view.session.ensure_service();
    if let Some(stand_in) = stand_in() {
        return stand_in.packet(at, kind, data);
    }
    let allowed = {
        let mut session = view.session.service.lock();
        session.as_mut().is_some_and(|session| session.allows(kind, at.worker.now()))
    };
    if !allowed {
        return count(&COUNTERS.service_dropped);
    }
    match kind {
        pkt::REQUEST => request(at, data),
        pkt::CHECK_REQUEST => check(&at.worker, &at.conn, data),
        pkt::SIGN_RESPONSE => {
            if let Some(desk) = at.usage() {
                billing::signed(&desk, data);
            }
        }
        _ => {
            if let (Some(desk), Ok(request)) = (at.usage(), Request::parse(data)) {
                billing::new_transaction(&desk, &request, true);
            }
        }
    }
}

fn request(at: &At, data: &[u8]) {
    let (worker, conn) = (&at.worker, &at.conn);
    let Some(view) = conn.view() else { return };
    // The lock is taken for each step anew: callbacks run in between, and C may look at the session in them.
    let active = view.session.service.lock().as_ref().and_then(|session| session.active_free());
    if let Some((usage_id, net_id, srv_uid)) = active {
        // The client has not received the first answer.
        return success(worker, conn, &Success { usage_id, net_id, srv_uid });
    }
    let Ok(request) = Request::parse(data) else {
        return at.refuse(&Request::default(), None, 0, error_code::WRONG_SIZE);
    };
    if billing::answer_again(at, &request) {
        return;
    }
    let (net, service, order) = match acceptable(&request) {
        Ok(found) => found,
        Err(code) => return at.refuse(&request, services::find(request.srv_uid).as_ref(), 0, code),
    };
    if order.value > 0 {
        return billing::begin(at, &service, net, &request, data, &order);
    }
    let usage = view
        .session
        .service
        .lock()
        .as_mut()
        .map(|session| session.add_free_usage(&service, net.view(), at.place(), &request));
    let Some(usage) = usage else { return };
    let refusal = service.requested(&usage, data);
    if refusal != 0 {
        return drop_usage(worker, conn, &request, &service, &usage, refusal.cast_unsigned());
    }
    if let Some(session) = &*view.session.service.lock() {
        session.select(usage.id);
    }
    if service.response_success(&usage, data) != 0 {
        return drop_usage(worker, conn, &request, &service, &usage, error_code::SERVICE_CH_NOT_FOUND);
    }
    if let Some(session) = &*view.session.service.lock() {
        session.activate(usage.id);
    }
    success(worker, conn, &Success { usage_id: usage.id, net_id: request.net_id, srv_uid: request.srv_uid });
}

/// The network, service and order of a request that this node may grant, or the code to refuse it with.
fn acceptable(request: &Request) -> Result<(NetRef, Arc<Service>, Order), u32> {
    let net = net::find_by_id(request.net_id).ok_or(error_code::NETWORK_NOT_FOUND)?;
    let service = services::find(request.srv_uid).ok_or(error_code::SERVICE_NOT_FOUND)?;
    // The greater the number, the less trusted the node.
    if net.role() as u32 > role::NODE_ROLE_MASTER as u32 {
        return Err(error_code::SERVICE_NODE_ROLE_ERROR);
    }
    if request.order_hash == [0; 32] {
        return Err(error_code::PRICE_NO_ORDER_HASH);
    }
    if request.tx_cond == [0; 32] {
        return Err(error_code::PRICE_NO_TX_HASH);
    }
    let order = ledger::order(net, &request.order_hash).filter(|order| order.is_ours);
    let order = order.ok_or(error_code::PRICE_ERROR)?;
    match order.value {
        0 if !service.allows_free() => Err(error_code::FREE_IS_NOT_ALLOWED),
        value if value > 0 && order.units == 0 => Err(error_code::RECEIPT_UNITS_ERROR),
        _ => Ok((net, service, order)),
    }
}

fn success(worker: &Worker, conn: &Conn, success: &Success) {
    conn.write_packet(worker, CHANNEL, pkt::SUCCESS, &success.encode());
}

fn refuse(worker: &Worker, conn: &Conn, request: &Request, usage_id: u32, code: u32) -> [u8; ServiceError::LEN] {
    let error = ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id, code }.encode();
    conn.write_packet(worker, CHANNEL, pkt::ERROR, &error);
    error
}

fn drop_usage(worker: &Worker, conn: &Conn, request: &Request, service: &Service, usage: &Handle, code: u32) {
    let Some(view) = conn.view() else { return };
    let dropped = view.session.service.lock().as_mut().and_then(|session| session.drop_usage(usage.id));
    let error = refuse(worker, conn, request, usage.id, code);
    service.response_error(usage, &error);
    drop(dropped);
}

fn check(worker: &Worker, conn: &Conn, packet: &[u8]) {
    if conn.has_output() {
        // A stranger may ask for a hundred times what it sends; whoever does not receive the answers gets no more.
        return count(&COUNTERS.service_dropped);
    }
    let fill = |reply: &mut [u8]| aws_lc_rs::rand::fill(reply).is_ok();
    match answer_check(packet, CHECK_DATA_MAX, fill, nanoseconds_now) {
        CheckAnswer::Response(message) => conn.write_packet(worker, CHANNEL, pkt::CHECK_RESPONSE, &message),
        CheckAnswer::Error(error) => conn.write_packet(worker, CHANNEL, pkt::ERROR, &error.encode()),
    };
}

fn nanoseconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos().try_into().unwrap_or(u64::MAX))
}
