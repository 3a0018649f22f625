//! REQUEST: orders, prices, and the begin of the service.

use crate::billing::desk::{Desk, active, set_active};
use crate::billing::fault::{Fault, record};
use crate::billing::{self, At};
use crate::ctypes::dap_chain_node_role_enum;
use crate::cview::service::Service;
use crate::cview::usage::{self, Usage, state, step};
use crate::ledger::{self, Order};
use crate::net::{self, NetRef};
use crate::services;
use std::sync::Arc;
use vpn_core::wire::{Request, error_code};

/// Handles a REQUEST.
pub(super) fn request(at: &At, data: &[u8]) {
    let Some(request) = data.get(..Request::LEN).and_then(|data| Request::parse(data).ok()) else {
        return host::log_bounded!(Warn, "dropped a REQUEST of {} bytes", data.len());
    };
    let service = services::find(request.srv_uid);
    let (net, service) = match acceptable(&request, service.as_ref()) {
        Ok(found) => found,
        Err(code) => return at.refuse(&request, service.as_ref(), 0, code),
    };
    if usage::at(active(&at.conn)).is_some_and(|old| !old.is_deleted()) {
        record(Fault::LostUsage);
    }
    let order = ledger::order(net, &request.order_hash).filter(|order| is_served(order, &service));
    let price = order.as_ref().map(billing::price);
    let usage = Usage::new(&service, net.view(), at.place(), &request, price, state::IDLE);
    set_active(&at.conn, Some(&usage));
    let Some(order) = order else {
        at.refuse(&request, Some(&service), usage.id, error_code::PRICE_ERROR);
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
        billing::serve(at, &desk, net, &request);
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

fn serve_free(desk: &Desk) {
    let usage = &desk.usage;
    usage.fields().service_state.set(state::FREE);
    usage.set_step(step::NORMAL);
    desk.send_success(false);
    usage.service.receipt_success(&usage.handle(), None);
}
