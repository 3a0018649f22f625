//! The table of functions that the C half calls. Each runs behind the panic boundary and calls its module.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Once;

use super::boundary::{bytes, guard};
use super::{channel, gate, http, link, raw, service, tun_socket};
use vpn_core::wire::BUNDLE_HEADROOM;

/// Gives the table to the C half, once.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        super::start_logging();
        let table = raw::Callbacks {
            tun_headroom: BUNDLE_HEADROOM,
            channel_opened: channel::on_opened,
            channel_closed: channel::on_closed,
            channel_packet: channel::on_packet,
            channel_drained: channel::on_drained,
            channel_leaving: channel::on_leaving,
            channel_arrived: channel::on_arrived,
            gate_opened: gate::on_opened,
            gate_closed: gate::on_closed,
            gate_packet: gate::on_packet,
            service_requested,
            service_accepted,
            service_next_accepted,
            service_refused,
            service_get_rest,
            service_save_rest,
            tun_readable,
            tun_failed,
            tun_deleted,
            client_connected,
            client_failed,
            client_disconnected,
            client_service_packet,
            http_remain_limits,
        };
        // SAFETY: the table is copied during the call.
        unsafe { raw::vpn_glue_set_callbacks(&table) };
    });
}

unsafe extern "C" fn service_requested(usage_id: u32) -> c_int {
    guard("a service request", -1, || service::requested(usage_id))
}

unsafe extern "C" fn service_accepted(vpn_internal: *mut c_void, usage_id: u32) -> c_int {
    guard("an accepted service request", -1, || {
        // SAFETY: the C half passes NULL or ch->internal of an open channel 'S'.
        let channel = unsafe { channel::of(vpn_internal) };
        service::accepted(channel.as_ref(), usage_id)
    })
}

unsafe extern "C" fn service_next_accepted(vpn_internal: *mut c_void, usage_id: u32) -> c_int {
    guard("a paid next receipt", -1, || {
        // SAFETY: as in service_accepted.
        let channel = unsafe { channel::of(vpn_internal) };
        service::next_accepted(channel.as_ref(), usage_id)
    })
}

unsafe extern "C" fn service_refused(vpn_internal: *mut c_void, usage_id: u32, code: u32) {
    guard("a refused service request", (), || {
        // SAFETY: as in service_accepted.
        let channel = unsafe { channel::of(vpn_internal) };
        service::refused(channel.as_ref(), usage_id, code);
    });
}

unsafe extern "C" fn service_get_rest(vpn_internal: *mut c_void, usage_id: u32, rest: *mut raw::Rest) -> bool {
    guard("the rest of a client's service", false, || {
        // SAFETY: as in service_accepted.
        let channel = unsafe { channel::of(vpn_internal) };
        let Some(found) = channel.and_then(|channel| service::rest(&channel, usage_id)) else { return false };
        // SAFETY: the C half passes a writable struct.
        unsafe { rest.write(found) };
        true
    })
}

unsafe extern "C" fn service_save_rest(vpn_internal: *mut c_void, usage_id: u32) {
    guard("the end of a client's service", (), || {
        // SAFETY: as in service_accepted.
        if let Some(channel) = unsafe { channel::of(vpn_internal) } {
            service::ending(&channel, usage_id);
        }
    });
}

unsafe extern "C" fn tun_readable(inheritor: *mut c_void, data: *mut u8, size: usize) {
    // SAFETY: the C half passes the _inheritor of a socket that tun_socket made and that is not deleted.
    let Some(handler) = (unsafe { tun_socket::handler(inheritor) }) else { return };
    guard("a readable TUN queue", (), || {
        // SAFETY: the socket's input buffer, `size` bytes of it; the SDK's loop does not touch it during the call.
        let first = (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts_mut(data, size) });
        handler.readable(first);
    });
}

unsafe extern "C" fn tun_failed(inheritor: *mut c_void, error: c_int) {
    // SAFETY: as in tun_readable.
    if let Some(handler) = unsafe { tun_socket::handler(inheritor) } {
        guard("a failed TUN queue", (), || handler.failed(error));
    }
}

unsafe extern "C" fn tun_deleted(inheritor: *mut c_void) {
    // SAFETY: the C half clears _inheritor first and calls this once for each socket.
    guard("a deleted TUN queue", (), || unsafe { tun_socket::deleted(inheritor) });
}

unsafe extern "C" fn client_connected(id: u64) {
    guard("a connected client", (), || link::connected(id));
}

unsafe extern "C" fn client_failed(id: u64, error: c_int) {
    guard("a failed client", (), || link::event(id, link::Event::Failed(error)));
}

unsafe extern "C" fn client_disconnected(id: u64) {
    guard("a disconnected client", (), || link::event(id, link::Event::Disconnected));
}

unsafe extern "C" fn client_service_packet(id: u64, kind: u8, data: *const u8, size: usize) {
    guard("a service packet", (), || {
        // SAFETY: the SDK's packet has `size` bytes and lives through the call.
        let data = unsafe { bytes(data, size) };
        link::event(id, link::Event::ServicePacket { kind, data });
    });
}

unsafe extern "C" fn http_remain_limits(request: *mut c_void, query: *const c_char, size: usize) {
    let reply = guard("an HTTP request", None, || {
        // SAFETY: the C half passes the query's bytes, which live through the call.
        let query = unsafe { bytes(query.cast(), size) };
        Some(http::remain_limits(query))
    });
    let (status, body) = reply.unwrap_or_else(|| (500, String::from("{\"error\":\"internal error\"}")));
    // SAFETY: the C half's request is valid during this callback; body is read during the call.
    unsafe { raw::vpn_glue_http_reply(request, c_int::from(status), body.as_ptr().cast(), body.len()) };
}
