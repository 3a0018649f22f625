//! Paid service on channel 'R': the Cellframe SDK's messages with their sizes, its states, and its callbacks in its order,
//! without its faults: a usage is freed once and its timers with it, what the client signs is verified before it pays, and
//! a usage that is paid is never lost.
//!
//! Tests have it play the SDK, faults included ([`crate::money`]); so the states are written once, in `machine`.

mod asking;
pub(crate) mod desk;
pub(crate) mod fault;
mod grace;
mod machine;
mod signed;

pub(crate) use asking::{SIGNATURE_WAIT, set_signature_wait};
pub(crate) use signed::{new_transaction, signed};

use crate::ctypes::*;
use crate::cview::service::{Handle, Service};
use crate::cview::usage::{self, Place, Usage, Which, state, step};
use crate::ledger::{self, Hash, Order};
use crate::net::NetRef;
use crate::reactor::Worker;
use crate::stream::SERVICE_CHANNEL;
use crate::stream::conn::Conn;
use crate::stream::conn::registry::on_channel;
use desk::{Desk, active, set_active};
use fault::{Fault, plays_the_sdk, record};
use std::rc::Rc;
use std::sync::Arc;
use vpn_core::wire::{Request, ServiceError, error_code, pkt};

/// The service channel's letter.
pub(crate) const CHANNEL: u8 = SERVICE_CHANNEL;

/// Where a packet on channel 'R' has arrived.
pub(crate) struct At {
    pub(crate) worker: Rc<Worker>,
    pub(crate) conn: Rc<Conn>,
    pub(crate) ch: *mut dap_stream_ch,
}

impl At {
    /// The place of a usage that begins here.
    pub(crate) fn place(&self) -> Place {
        Place { ch: self.ch, stream_worker: self.worker.shared.view.stream_worker.as_ptr() }
    }

    fn desk(&self, usage: Arc<Usage>) -> Desk {
        Desk { worker: Rc::clone(&self.worker), stream: self.conn.uuid, usage }
    }

    /// Refuses a request that gets no service, and reports it without a client.
    pub(crate) fn refuse(&self, request: &Request, service: Option<&Arc<Service>>, usage_id: u32, code: u32) {
        let error = ServiceError { net_id: request.net_id, srv_uid: request.srv_uid, usage_id, code }.encode();
        self.conn.write_packet(&self.worker, CHANNEL, pkt::ERROR, &error);
        if let Some(service) = service {
            service.response_error(&Handle::NONE, &error);
        }
    }

    /// The session's usage with its stream, if it is one that is paid for; when the SDK is played, any.
    pub(crate) fn usage(&self) -> Option<Desk> {
        let usage = usage::at(active(&self.conn))?;
        if !plays_the_sdk() {
            return usage.price().is_some().then(|| self.desk(usage));
        }
        if usage.is_deleted() {
            record(Fault::FreedUsage);
            set_active(&self.conn, None);
            return None;
        }
        Some(self.desk(usage))
    }
}

/// Has C's timers and the ledger's news reach the billing.
pub(crate) fn register() {
    usage::set_receipt_timer(Some(start_receipt_timer));
    ledger::listen(transaction_added);
}

/// C wants the receipt that waits to be asked for again.
fn start_receipt_timer(usage: &Arc<Usage>) {
    let desk = on_channel(usage.channel(), |worker, conn, _| Desk {
        worker: Rc::clone(worker),
        stream: conn.uuid,
        usage: Arc::clone(usage),
    });
    match desk {
        Some(desk) => machine::ask_for_signature(&desk),
        None if plays_the_sdk() => record(Fault::FreedChannel),
        None => log::error!("receipt_timeout_timer_start_callback: expected a usage whose channel is open"),
    }
}

/// Begins a usage of an order that has a price.
pub(crate) fn begin(at: &At, service: &Arc<Service>, net: NetRef, request: &Request, data: &[u8], order: &Order) {
    let usage = Usage::new(service, net.view(), at.place(), request, Some(price(order)), state::IDLE);
    set_active(&at.conn, Some(&usage));
    let refusal = service.requested(&usage.handle(), data);
    if refusal != 0 {
        at.refuse(request, Some(service), usage.id, refusal.cast_unsigned());
        set_active(&at.conn, None);
        return delete_usage(usage.address());
    }
    serve(at, &at.desk(usage), net, request);
}

/// Serves a usage that has begun: from what the client has left, for a receipt, or in grace.
pub(crate) fn serve(at: &At, desk: &Desk, net: NetRef, request: &Request) {
    let usage = &desk.usage;
    let refuse = |code| {
        at.refuse(request, Some(&usage.service), usage.id, code);
        set_active(&at.conn, None);
        delete_usage(usage.address());
    };
    if ledger::is_offline(net.id()) {
        return refuse(error_code::NETWORK_IS_OFFLINE);
    }
    let named = request.tx_cond;
    let found = ledger::means(net.id(), &named).and_then(|means| match plays_the_sdk() {
        true if ledger::follows_chains() => means.last,
        true => Some(named),
        // A chain that holds nothing may still have a rest to serve.
        false => Some(means.last.unwrap_or(named)),
    });
    if let Some(transaction) = found {
        grace::unban(usage);
        usage.fields().tx_cond_hash.set(dap_hash_fast { raw: transaction });
        usage.set_paying(Some(transaction));
        machine::pay_service(desk);
    } else if !grace::is_banned(usage) {
        machine::go_to_grace(desk);
    } else if plays_the_sdk() {
        at.refuse(request, Some(&usage.service), usage.id, error_code::RECEIPT_BANNED_PKEY_HASH);
    } else {
        refuse(error_code::RECEIPT_BANNED_PKEY_HASH);
    }
}

/// Answers a REQUEST on a channel whose usage is paid for. Returns false if there is none, or it is over: it has ended
/// then, and another one can begin.
pub(crate) fn answer_again(at: &At, request: &Request) -> bool {
    let Some(desk) = at.usage() else { return false };
    let usage = &desk.usage;
    let is_over = match usage.state() {
        state::NORMAL => usage.step() == step::ERROR,
        _ => usage.fields().last_err_code.get() != 0,
    };
    if is_over {
        closed(at);
        return false;
    }
    let fields = usage.fields();
    let is_same = (fields.client_pkey_hash.raw, fields.static_order_hash.raw, usage.net_id)
        == (request.client_pkey_hash, request.order_hash, request.net_id);
    if !is_same {
        at.refuse(request, Some(&usage.service), usage.id, error_code::CANT_ADD_USAGE);
    } else if at.conn.has_output() {
        log::debug!("dropped a repeated REQUEST: its client has not received the answer yet");
    } else if usage.step() == step::FIRST_SIGN {
        if let Some(receipt) = usage.receipt(Which::Current) {
            desk.send(pkt::SIGN_REQUEST, &receipt);
        }
    } else {
        desk.send_success(false);
    }
    true
}

/// The channel ends, and with it the usage.
pub(crate) fn closed(at: &At) {
    let Some(desk) = at.usage() else { return };
    if desk.usage.service.save_remain(&desk.usage.handle()).is_err() && plays_the_sdk() {
        record(Fault::NullCallback);
    }
    // C may have taken the usage away in the callback.
    let active = active(&at.conn);
    if active != 0 {
        set_active(&at.conn, None);
        delete_usage(active);
    }
}

/// Deletes the usage at an address, which is compared, never followed. Called on its stream's worker.
pub(crate) fn delete_usage(address: usize) {
    let Some(usage) = usage::at(address) else {
        return log::error!("dap_chain_net_srv_usage_delete: expected a usage");
    };
    let is_first = usage.delete();
    if !plays_the_sdk() {
        asking::end(&usage);
        grace::stop(&usage);
        return usage::forget(&usage);
    }
    if !is_first {
        return record(Fault::DoubleFree);
    }
    // What was another session's item is gone, too.
    grace::stop(&usage);
}

/// Forgets every usage, grace and ban. No stream may be open.
pub(crate) fn clear() {
    grace::clear();
    usage::forget_all();
}

pub(crate) fn price(order: &Order) -> dap_chain_net_srv_price {
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

/// The ledger has a transaction that graces may wait for. Called on any thread.
fn transaction_added(net: u64, hash: Hash) {
    let pays = ledger::means(net, &hash).is_some_and(|means| means.output.is_some());
    if !pays {
        return;
    }
    for item in grace::waiting_for(net, &hash) {
        let worker = Arc::clone(&item.worker);
        worker.post(Box::new(move |worker| machine::transaction_came(worker, &item)));
    }
}
