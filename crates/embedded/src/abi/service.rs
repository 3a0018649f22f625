//! Services, their sessions and usages: the exported C functions.

use crate::billing;
use crate::config;
use crate::ctypes::*;
use crate::cview::service::Service;
use crate::cview::strings::text;
use crate::ledger;
use crate::net;
use crate::panics::guard;
use crate::prices;
use crate::reactor;
use crate::services;
use crate::stream::sessions;
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr;

/// Registers a service. Reads `allow_free_srv` (default true, unless `[srv_vpn] prices` has entries) and `grace_period`
/// (seconds, default 60) from `config_section`. Returns NULL if the uid is taken, `callbacks` is NULL, the prices of the
/// VPN cannot be read, or the SDK is not retained.
///
/// # Safety
/// May be called from any thread. `config_section` is NULL or a string; `callbacks` is NULL or points to a struct,
/// which is copied, and whose functions may be called on every worker until `dap_chain_net_srv_del`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_add(
    uid: dap_chain_net_srv_uid_t,
    config_section: *const c_char,
    callbacks: *mut dap_chain_net_srv_callbacks_t,
) -> *mut dap_chain_net_srv_t {
    guard("dap_chain_net_srv_add", ptr::null_mut(), || {
        if reactor::active().is_none() {
            log::error!("dap_chain_net_srv_add: the embedded SDK is not running");
            return ptr::null_mut();
        }
        // SAFETY: NULL, or a struct that the caller promises is readable.
        let Some(callbacks) = unsafe { callbacks.as_ref() }.copied() else {
            log::error!("dap_chain_net_srv_add: expected callbacks, not NULL");
            return ptr::null_mut();
        };
        let config = config::current();
        // SAFETY: NULL or a string, by the caller's promise.
        let section = unsafe { text(config_section) }.unwrap_or_default();
        if uid.uint64 == ledger::VPN_UID
            && let Err(error) = prices::load(&config)
        {
            log::error!("dap_chain_net_srv_add: {error}");
            return ptr::null_mut();
        }
        let service = Service::new(dap_chain_net_srv {
            uid,
            allow_free_srv: prices::allows_free(&config, section).into(),
            grace_period: prices::grace_period(&config, section).into(),
            callbacks,
            _inheritor: Cell::new(ptr::null_mut()),
            _internal: Cell::new(ptr::null_mut()),
        });
        let pointer = service.as_ptr();
        if !services::add(service) {
            log::error!("dap_chain_net_srv_add: service {:#x} is already registered", uid.uint64);
            return ptr::null_mut();
        }
        pointer
    })
}

/// The service with this uid, or NULL. Valid until `dap_chain_net_srv_del` or the last release.
///
/// # Safety
/// May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_get(uid: dap_chain_net_srv_uid_t) -> *mut dap_chain_net_srv_t {
    guard("dap_chain_net_srv_get", ptr::null_mut(), || {
        services::find(uid.uint64).map_or(ptr::null_mut(), |service| service.as_ptr())
    })
}

/// Ends a service, which then accepts no more requests. The struct lives until the last session that uses it has ended.
///
/// # Safety
/// May be called from any thread; a callback that runs on a worker may still be running on return. A stale address is
/// compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_del(srv: *mut dap_chain_net_srv_t) {
    guard("dap_chain_net_srv_del", (), || {
        if !services::remove(srv.addr()) && !srv.is_null() {
            log::error!("dap_chain_net_srv_del: no such service");
        }
    });
}

/// The service part of a session that a client opened to this node, made on the first call. NULL for any other session.
///
/// # Safety
/// Called on the worker of the session's stream; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_stream_session_create(
    session: *mut dap_stream_session_t,
) -> *mut dap_chain_net_srv_stream_session_t {
    guard("dap_chain_net_srv_stream_session_create", ptr::null_mut(), || {
        sessions::find(session.addr()).map_or(ptr::null_mut(), |session| session.ensure_service())
    })
}

/// The usage with this id in a session, or NULL.
///
/// # Safety
/// Called on the worker of the session's stream; `srv_session` is NULL or the service part of a session that is alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_usage_find_unsafe(
    srv_session: *mut dap_chain_net_srv_stream_session_t,
    id: u32,
) -> *mut dap_chain_net_srv_usage_t {
    guard("dap_chain_net_srv_usage_find_unsafe", ptr::null_mut(), || {
        // SAFETY: NULL or alive, by the caller's promise; `parent` never changes.
        let Some(fields) = (unsafe { srv_session.as_ref() }) else { return ptr::null_mut() };
        let Some(session) = sessions::find(fields.parent.addr()) else { return ptr::null_mut() };
        let service = session.service.lock();
        service.as_ref().and_then(|service| service.usage_at(id)).unwrap_or(ptr::null_mut())
    })
}

/// Deletes a session's active usage with its receipts; nothing happens without one.
///
/// # Safety
/// Called on the worker of the usage's stream; `srv_session` is NULL or points to a struct whose `usage_active` is NULL
/// or was a session's. The address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_usage_delete(srv_session: *mut dap_chain_net_srv_stream_session_t) {
    guard("dap_chain_net_srv_usage_delete", (), || {
        // SAFETY: NULL or a readable struct, by the caller's promise.
        let Some(session) = (unsafe { srv_session.as_ref() }) else { return };
        let usage = session.usage_active.replace(ptr::null_mut());
        if !usage.is_null() {
            billing::delete_usage(usage.addr());
        }
    });
}

/// Writes the hash of the order by which this node gives the VPN service away in a network. False if `out` is NULL or
/// `net` is not a network.
///
/// # Safety
/// May be called from any thread; `out` is NULL or writable. A stale network address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_free_order(net: *const dap_chain_net_t, out: *mut dap_hash_fast_t) -> bool {
    guard("dap_embedded_free_order", false, || {
        // SAFETY: NULL or writable, by the caller's promise.
        let (Some(net), Some(out)) = (net::find_by_ptr(net), unsafe { out.as_mut() }) else { return false };
        out.raw = ledger::free_order(net.id());
        true
    })
}
