//! The services of this node, and the server's side of channel 'R': REQUEST, SUCCESS, ERROR, CHECK.

use crate::ctypes::{dap_chain_node_role_enum as role, dap_stream_ch};
use crate::cview::packets::{Packet, PacketHandler, proc_of};
use crate::cview::service::{Handle, Service};
use crate::cview::usage::{self, Place, Usage};
pub use crate::ledger::free_order;
use crate::net::{self, NetRef};
use crate::reactor::Worker;
use crate::stream::conn::Conn;
use crate::stream::conn::registry::on_channel;
use crate::stream::{COUNTERS, SERVICE_CHANNEL, count, procs};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::gate::{CheckAnswer, answer_check};
use vpn_core::wire::{Request, ServiceError, Success, error_code, pkt};

/// The service channel's letter.
pub const CHANNEL: u8 = SERVICE_CHANNEL;
/// Most bytes of data in a CHECK, each way.
pub const CHECK_DATA_MAX: usize = 64 * 1024;

static SERVICES: RwLock<BTreeMap<u64, Arc<Service>>> = RwLock::new(BTreeMap::new());

/// Registers a service; false if its uid is taken.
pub(crate) fn add(service: Service) -> bool {
    let mut services = SERVICES.write();
    if services.contains_key(&service.uid()) {
        return false;
    }
    services.insert(service.uid(), Arc::new(service));
    true
}

pub(crate) fn find(uid: u64) -> Option<Arc<Service>> {
    SERVICES.read().get(&uid).cloned()
}

/// Removes the service at an address, which is compared, never followed.
pub(crate) fn remove(address: usize) -> bool {
    let mut services = SERVICES.write();
    let before = services.len();
    services.retain(|_, service| service.addr() != address);
    services.len() < before
}

/// Drains the registry; the caller decides when the services are freed.
pub(crate) fn take_all() -> impl Sized {
    std::mem::take(&mut *SERVICES.write())
}

/// Deletes the usage at an address, which is compared, never followed. Called on its stream's worker.
pub(crate) fn delete_usage(address: usize) {
    match usage::at(address) {
        Some(usage) => {
            let is_first = usage.delete();
            match billing() {
                Some(billing) => billing.deleted(&usage, is_first),
                None => usage::forget(&usage),
            }
        }
        None => log::error!("dap_chain_net_srv_usage_delete: expected a usage"),
    }
}

/// The order behind an order hash. Only the free order is served.
enum Order {
    Free,
    Unknown,
}

impl Order {
    fn find(net: NetRef, hash: &[u8; 32]) -> Self {
        if *hash == free_order(net.id()) { Order::Free } else { Order::Unknown }
    }
}

/// Channel 'R'.
struct ServiceChannel;

impl PacketHandler for ServiceChannel {
    fn packet_in(ch: *mut dap_stream_ch, packet: &Packet<'_>) -> bool {
        let conn = on_channel(ch, |worker, conn, _| (Rc::clone(worker), Rc::clone(conn)));
        let Some((worker, conn)) = conn else { return false };
        match conn.client() {
            Some(client) => client.service_packet(ch, packet),
            None => on_packet(&worker, &conn, ch, packet.kind, packet.data),
        }
        true
    }

    fn closed(ch: *mut dap_stream_ch) {
        let Some(billing) = billing() else { return };
        let at = on_channel(ch, |worker, conn, _| At { worker: Rc::clone(worker), conn: Rc::clone(conn), ch });
        if let Some(at) = at.filter(|at| at.conn.client().is_none()) {
            billing.closed(&at);
        }
    }
}

/// Where a packet on channel 'R' has arrived.
pub(crate) struct At {
    pub(crate) worker: Rc<Worker>,
    pub(crate) conn: Rc<Conn>,
    pub(crate) ch: *mut dap_stream_ch,
}

/// Another server's side of channel 'R', which takes this module's place.
pub(crate) trait Billing: Sync {
    /// A client has sent a packet.
    fn packet(&self, at: &At, kind: u8, data: &[u8]);
    /// A client's channel ends.
    fn closed(&self, at: &At);
    /// C, or the billing itself, has deleted a usage; for the first time, or once more.
    fn deleted(&self, usage: &Arc<Usage>, is_first: bool);
}

static BILLING: RwLock<Option<&'static dyn Billing>> = RwLock::new(None);

/// Has another billing take this module's place, or no more.
pub(crate) fn set_billing(billing: Option<&'static dyn Billing>) {
    *BILLING.write() = billing;
}

fn billing() -> Option<&'static dyn Billing> {
    *BILLING.read()
}

/// Registers channel 'R'.
pub(crate) fn register_channel() {
    procs::add(proc_of::<ServiceChannel>(CHANNEL));
}

/// Handles a packet on channel 'R' of a stream that a client opened.
fn on_packet(worker: &Rc<Worker>, conn: &Rc<Conn>, ch: *mut dap_stream_ch, kind: u8, data: &[u8]) {
    let Some(view) = conn.view() else { return };
    view.session.ensure_service();
    if let Some(billing) = billing() {
        return billing.packet(&At { worker: Rc::clone(worker), conn: Rc::clone(conn), ch }, kind, data);
    }
    let allowed = {
        let mut session = view.session.service.lock();
        session.as_mut().is_some_and(|session| session.allows(kind, worker.now()))
    };
    if !allowed {
        return count(&COUNTERS.service_dropped);
    }
    if kind == pkt::REQUEST {
        request(worker, conn, ch, data);
    } else {
        check(worker, conn, data);
    }
}

fn request(worker: &Rc<Worker>, conn: &Rc<Conn>, ch: *mut dap_stream_ch, data: &[u8]) {
    let Some(view) = conn.view() else { return };
    // The lock is taken for each step anew: callbacks run in between, and C may look at the session in them.
    let active = view.session.service.lock().as_ref().and_then(|session| session.active());
    if let Some((usage_id, net_id, srv_uid)) = active {
        // The client has not received the first answer.
        return success(worker, conn, &Success { usage_id, net_id, srv_uid });
    }
    let Ok(request) = Request::parse(data) else {
        refuse(worker, conn, &Request::default(), 0, error_code::WRONG_SIZE);
        return;
    };
    let (net, service) = match acceptable(&request) {
        Ok(found) => found,
        Err(code) => {
            let error = refuse(worker, conn, &request, 0, code);
            if let Some(service) = find(request.srv_uid) {
                service.response_error(&Handle::NONE, &error);
            }
            return;
        }
    };
    let usage = view.session.service.lock().as_mut().map(|session| {
        let place = Place { ch, stream_worker: worker.shared.view.stream_worker.as_ptr() };
        session.add_free_usage(&service, net.view(), place, &request)
    });
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

/// The network and service of a request that this node may grant, or the code to refuse it with.
fn acceptable(request: &Request) -> Result<(NetRef, Arc<Service>), u32> {
    let net = net::find_by_id(request.net_id).ok_or(error_code::NETWORK_NOT_FOUND)?;
    let service = find(request.srv_uid).ok_or(error_code::SERVICE_NOT_FOUND)?;
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
    match Order::find(net, &request.order_hash) {
        Order::Free if service.allows_free() => Ok((net, service)),
        Order::Free => Err(error_code::FREE_IS_NOT_ALLOWED),
        Order::Unknown => Err(error_code::PRICE_ERROR),
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
