//! REQUEST: orders, prices, and the begin of the service.

use super::desk::{Desk, active, set_active};
use super::fault::{Fault, record};
use super::{grace, machine};
use crate::ctypes::*;
use crate::cview::service::{Handle, Service};
use crate::cview::usage::{self, Place, Usage, state, step};
use crate::ledger::{self, Order};
use crate::net::{self, NetRef};
use crate::service::{self, At, CHANNEL};
use std::sync::Arc;
use vpn_core::wire::{Request, ServiceError, error_code, pkt};

/// Handles a REQUEST.
pub(super) fn request(at: &At, data: &[u8]) {
    let Some(request) = data.get(..Request::LEN).and_then(|data| Request::parse(data).ok()) else {
        return host::log_bounded!(Warn, "dropped a REQUEST of {} bytes", data.len());
    };
    let service = service::find(request.srv_uid);
    let (net, service) = match acceptable(&request, service.as_ref()) {
        Ok(found) => found,
        Err(code) => return refuse(at, &request, service.as_ref(), 0, code),
    };
    if usage::at(active(&at.conn)).is_some_and(|old| !old.is_deleted()) {
        record(Fault::LostUsage);
    }
    let order = ledger::order(net, &request.order_hash).filter(|order| is_served(order, &service));
    let place = Place { ch: at.ch, stream_worker: at.worker.shared.view.stream_worker.as_ptr() };
    let price = order.as_ref().map(price);
    let usage = Usage::new(&service, net.view(), place, &request, price, state::IDLE);
    set_active(&at.conn, Some(&usage));
    let Some(order) = order else {
        refuse(at, &request, Some(&service), usage.id, error_code::PRICE_ERROR);
        // The SDK frees the usage and leaves its address in the session.
        if !usage.delete() {
            record(Fault::DoubleFree);
        }
        return;
    };
    let desk = Desk { worker: at.worker.clone(), stream: at.conn.uuid, usage };
    if order.value == 0 {
        serve_free(&desk);
    } else {
        serve_paid(at, &desk, net, &request);
    }
}

/// The network and the service of a request, or the code to refuse it with.
fn acceptable(request: &Request, service: Option<&Arc<Service>>) -> Result<(NetRef, Arc<Service>), u32> {
    if request.order_hash == [0; 32] {
        return Err(error_code::PRICE_NO_ORDER_HASH);
    }
    if request.tx_cond == [0; 32] {
        return Err(error_code::PRICE_NO_TX_HASH);
    }
    let net = net::find_by_id(request.net_id).ok_or(error_code::NETWORK_NOT_FOUND)?;
    let serves = net.role() as u32 <= dap_chain_node_role_enum::NODE_ROLE_MASTER as u32;
    let service = service.filter(|_| serves).ok_or(error_code::SERVICE_NODE_ROLE_ERROR)?;
    Ok((net, Arc::clone(service)))
}

fn is_served(order: &Order, service: &Service) -> bool {
    order.is_ours && (service.allows_free() || order.value != 0 && order.units != 0)
}

fn price(order: &Order) -> dap_chain_net_srv_price {
    let mut token = [0; DAP_CHAIN_TICKER_SIZE_MAX];
    for (to, from) in token.iter_mut().zip(order.token.as_bytes()) {
        *to = from.cast_signed();
    }
    dap_chain_net_srv_price {
        value_datoshi: uint256 { bytes: ledger::value_bytes(order.value) },
        token,
        units: order.units,
        units_uid: dap_chain_net_srv_price_unit_uid { enm: order.unit },
    }
}

fn serve_free(desk: &Desk) {
    let usage = &desk.usage;
    usage.fields().service_state.set(state::FREE);
    usage.set_step(step::NORMAL);
    desk.send_success(false);
    usage.service.receipt_success(&usage.handle(), None);
}

fn serve_paid(at: &At, desk: &Desk, net: NetRef, request: &Request) {
    let usage = &desk.usage;
    if ledger::is_offline(net.id()) {
        refuse(at, request, Some(&usage.service), usage.id, error_code::NETWORK_IS_OFFLINE);
        set_active(&at.conn, None);
        return service::delete_usage(usage.address());
    }
    let means = ledger::means(net.id(), &request.tx_cond);
    let found = means.and_then(|means| if ledger::follows_chains() { means.last } else { Some(request.tx_cond) });
    if let Some(transaction) = found {
        grace::unban(usage);
        usage.fields().tx_cond_hash.set(dap_hash_fast { raw: transaction });
        usage.set_paying(Some(transaction));
        machine::pay_service(desk);
    } else if grace::is_banned(usage) {
        refuse(at, request, Some(&usage.service), usage.id, error_code::RECEIPT_BANNED_PKEY_HASH);
    } else {
        machine::go_to_grace(desk);
    }
}

/// Sends the error of a request that gets no service, and reports it without a client.
fn refuse(at: &At, request: &Request, service: Option<&Arc<Service>>, usage_id: u32, code: u32) {
    let error = ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id, code }.encode();
    at.conn.write_packet(&at.worker, CHANNEL, pkt::ERROR, &error);
    if let Some(service) = service {
        service.response_error(&Handle::NONE, &error);
    }
}
