//! Services, their sessions and usages, as C sees them, and the service channel's callbacks.

use super::boundary::{guard, text};
use super::owned::CShared;
use super::stream::{Session, dap_stream_ch_proc_add, on_channel};
use crate::client::NodeClient;
use crate::config;
use crate::ctypes::*;
use crate::net::{self, NetRef};
use crate::runtime;
use crate::service::{self, CHANNEL, Rate};
use crate::stream::sessions;
use std::cell::Cell;
use std::ffi::{c_char, c_long, c_void};
use std::ptr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use vpn_core::wire::Request;

/// A registered service.
pub(crate) struct Service(CShared<dap_chain_net_srv>);

impl Service {
    fn fields(&self) -> &dap_chain_net_srv {
        // SAFETY: only fields that never change after construction are read through this.
        unsafe { self.0.get() }
    }

    pub(crate) fn uid(&self) -> u64 {
        self.fields().uid.uint64
    }

    pub(crate) fn allows_free(&self) -> bool {
        self.fields().allow_free_srv
    }

    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// 0 when the service has no such callback.
    pub(crate) fn requested(&self, usage: &Handle, request: &[u8]) -> i32 {
        self.call(self.fields().callbacks.requested, usage, request)
    }

    /// 0 when the service has no such callback.
    pub(crate) fn response_success(&self, usage: &Handle, request: &[u8]) -> i32 {
        self.call(self.fields().callbacks.response_success, usage, request)
    }

    pub(crate) fn response_error(&self, usage: &Handle, error: &[u8]) {
        self.call(self.fields().callbacks.response_error, usage, error);
    }

    fn call(&self, callback: dap_chain_net_srv_callback_data_t, usage: &Handle, data: &[u8]) -> i32 {
        let Some(callback) = callback else { return 0 };
        // SAFETY: C gave the function for this service; the remote belongs to a usage that its session, or the caller,
        // keeps alive; this is the stream's worker.
        unsafe { callback(self.0.as_ptr(), usage.id, usage.remote, data.as_ptr().cast(), data.len()) }
    }
}

/// What a callback is told of a usage.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) id: u32,
    remote: *mut dap_chain_net_srv_client_remote,
}

impl Handle {
    /// For a request that was refused before there was a usage: id 0, remote NULL.
    pub(crate) const NONE: Handle = Handle { id: 0, remote: ptr::null_mut() };
}

/// What channel 'R' keeps of a stream's session; owned by the session.
pub(crate) struct ServiceSession {
    view: CShared<dap_chain_net_srv_stream_session>,
    usages: Vec<Usage>,
    pub(crate) requests: Rate,
    pub(crate) checks: Rate,
}

struct Usage {
    id: u32,
    net_id: u64,
    view: CShared<dap_chain_net_srv_usage>,
    remote: CShared<dap_chain_net_srv_client_remote>,
    service: Arc<Service>,
}

impl ServiceSession {
    fn new(parent: &Session) -> Self {
        let stats = dap_net_stats {
            bytes_sent: 0,
            bytes_recv: 0,
            bytes_sent_lost: 0,
            bytes_recv_lost: 0,
            packets_sent: 0,
            packets_recv: 0,
            packets_sent_lost: 0,
            packets_recv_lost: 0,
        };
        let view = CShared::new(dap_chain_net_srv_stream_session {
            ts_activated: Cell::new(0),
            parent: parent.as_ptr(),
            usage_active: Cell::new(ptr::null_mut()),
            limits_bytes: Cell::new(0),
            limits_ts: Cell::new(0),
            last_update_ts: Cell::new(0),
            stats: Cell::new(stats),
        });
        ServiceSession { view, usages: Vec::new(), requests: Rate::default(), checks: Rate::default() }
    }

    /// A usage of state FREE that is not active yet.
    pub(crate) fn add_free_usage(
        &mut self,
        service: &Arc<Service>,
        net: NetRef,
        ch: *mut dap_stream_ch,
        stream_worker: *mut dap_stream_worker,
        request: &Request,
    ) -> Handle {
        let id = usage_id();
        let now = seconds_now();
        let remote = CShared::new(dap_chain_net_srv_client_remote {
            ch,
            ts_created: now,
            stream_worker,
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
        });
        let view = CShared::new(dap_chain_net_srv_usage {
            id,
            ts_created: now,
            net: net.as_ptr(),
            service: service.0.as_ptr(),
            client: remote.as_ptr(),
            tx_cond_hash: dap_hash_fast { raw: request.tx_cond },
            client_pkey_hash: dap_hash_fast { raw: request.client_pkey_hash },
            static_order_hash: dap_hash_fast { raw: request.order_hash },
            is_active: Cell::new(false),
            service_state: Cell::new(dap_chain_net_srv_usage_service_state::DAP_CHAIN_NET_SRV_USAGE_SERVICE_STATE_FREE),
        });
        let handle = Handle { id, remote: remote.as_ptr() };
        self.usages.push(Usage { id, net_id: net.id(), view, remote, service: Arc::clone(service) });
        handle
    }

    /// Makes a usage the session's one. On the stream's worker.
    pub(crate) fn select(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        // SAFETY: the session's service state is changed by its stream's worker only.
        let view = unsafe { self.view.get() };
        view.ts_activated.set(seconds_now());
        view.usage_active.set(usage.view.as_ptr());
    }

    /// The service has begun. On the stream's worker.
    pub(crate) fn activate(&self, id: u32) {
        let Some(usage) = self.usages.iter().find(|usage| usage.id == id) else { return };
        // SAFETY: as in `select`.
        unsafe { usage.view.get() }.is_active.set(true);
    }

    /// Takes a refused usage out; the caller keeps it until its last callback has returned.
    pub(crate) fn drop_usage(&mut self, id: u32) -> Option<impl Sized + use<>> {
        let position = self.usages.iter().position(|usage| usage.id == id)?;
        let usage = self.usages.swap_remove(position);
        // SAFETY: as in `select`.
        let view = unsafe { self.view.get() };
        if view.usage_active.get() == usage.view.as_ptr() {
            view.usage_active.set(ptr::null_mut());
        }
        Some(usage)
    }

    /// Usage, network and service of the session's active usage.
    pub(crate) fn active(&self) -> Option<(u32, u64, u64)> {
        // SAFETY: as in `select`.
        let active = unsafe { self.view.get() }.usage_active.get();
        let usage = self.usages.iter().find(|usage| usage.view.as_ptr() == active)?;
        // SAFETY: as in `select`.
        let is_active = unsafe { usage.view.get() }.is_active.get();
        is_active.then(|| (usage.id, usage.net_id, usage.service.uid()))
    }

    fn usage_at(&self, id: u32) -> Option<*mut dap_chain_net_srv_usage> {
        self.usages.iter().find(|usage| usage.id == id).map(|usage| {
            debug_assert!(!usage.remote.as_ptr().is_null());
            usage.view.as_ptr()
        })
    }
}

/// Makes the session's service part if it has none. On the stream's worker.
pub(crate) fn ensure_service_session(session: &Session) -> *mut dap_chain_net_srv_stream_session {
    let mut service = session.service.lock();
    if let Some(known) = &*service {
        return known.view.as_ptr();
    }
    let made = ServiceSession::new(session);
    let pointer = made.view.as_ptr();
    session.set_inheritor(pointer.cast());
    *service = Some(made);
    pointer
}

/// Non-zero and, but for 2^32 of them, unique in the process.
fn usage_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if id != 0 {
            return id;
        }
    }
}

fn seconds_now() -> c_long {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

// --- the channel's callbacks -------------------------------------------------------------------------------------------

/// Registers channel 'R'.
pub(crate) fn register_channel() {
    // SAFETY: any thread may call; the functions live for ever.
    unsafe { dap_stream_ch_proc_add(CHANNEL, None, None, Some(service_packet_in), None) };
}

/// `packet_in_callback` of channel 'R'.
///
/// # Safety
/// Called by the stream only: `ch` is one of its channels, `packet` a packet of it.
unsafe extern "C" fn service_packet_in(ch: *mut dap_stream_ch_t, packet: *mut c_void) -> bool {
    guard("channel R", false, || {
        let packet = packet.cast::<dap_stream_ch_pkt_t>();
        // SAFETY: the stream passes a whole packet.
        let header = unsafe { packet.cast::<dap_stream_ch_pkt_hdr_t>().read() };
        let size = header.data_size as usize;
        // SAFETY: the data begins behind the header, inside of the packet or at its end.
        let data = unsafe { packet.cast::<u8>().add(size_of::<dap_stream_ch_pkt_hdr_t>()) };
        // SAFETY: the stream checked that the packet has as much data as its header says, and keeps it during the call.
        let bytes = unsafe { slice::from_raw_parts(data, size) };
        let conn = on_channel(ch, |worker, conn, _| (Rc::clone(worker), Rc::clone(conn)));
        let Some((worker, conn)) = conn else { return false };
        match conn.client() {
            Some(client) => forward(client, ch, header.r#type, packet),
            None => service::on_packet(&worker, &conn, ch, header.r#type, bytes),
        }
        true
    })
}

/// Hands a packet of channel 'R' to the node client's owner.
fn forward(client: &NodeClient, ch: *mut dap_stream_ch_t, kind: u8, packet: *mut dap_stream_ch_pkt_t) {
    // SAFETY: C set the callback for this client, which its stream keeps alive; this is the stream's worker.
    let fields = unsafe { client.view.get() };
    if let Some(callback) = fields.notify_callbacks.srv_pkt_in.get() {
        // SAFETY: as above.
        unsafe { callback(ch.cast(), kind, packet, fields.callbacks_arg) };
    }
}

// --- exports -----------------------------------------------------------------------------------------------------------

/// Registers a service. Reads `allow_free_srv` (default true) and `grace_period` (seconds, default 60) from
/// `config_section`. NULL when the uid is taken, without callbacks, and while nothing is retained.
///
/// # Safety
/// May be called from any thread. `config_section` is NULL or a string; `callbacks` is NULL or points to a struct, which
/// is copied, and whose functions may be called on every worker until `dap_chain_net_srv_del`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_add(
    uid: dap_chain_net_srv_uid_t,
    config_section: *const c_char,
    callbacks: *mut dap_chain_net_srv_callbacks_t,
) -> *mut dap_chain_net_srv_t {
    guard("dap_chain_net_srv_add", ptr::null_mut(), || {
        if runtime::active().is_none() {
            log::error!("dap_chain_net_srv_add: the embedded SDK is not running");
            return ptr::null_mut();
        }
        // SAFETY: NULL, or a struct that the caller lets us copy.
        let Some(callbacks) = unsafe { callbacks.as_ref() }.copied() else {
            log::error!("dap_chain_net_srv_add: no callbacks");
            return ptr::null_mut();
        };
        let config = config::current();
        // SAFETY: NULL or a string, by the caller's promise.
        let section = unsafe { text(config_section) }.unwrap_or_default();
        let service = Service(CShared::new(dap_chain_net_srv {
            uid,
            allow_free_srv: config.get_bool(section, "allow_free_srv", true),
            grace_period: config.get_u64(section, "grace_period", 60).try_into().unwrap_or(u32::MAX),
            callbacks,
            _inheritor: Cell::new(ptr::null_mut()),
            _internal: Cell::new(ptr::null_mut()),
        }));
        let pointer = service.0.as_ptr();
        if !service::add(service) {
            log::error!("dap_chain_net_srv_add: service {:#x} is there already", uid.uint64);
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
        service::find(uid.uint64).map_or(ptr::null_mut(), |service| service.0.as_ptr())
    })
}

/// Ends a service: it takes no more requests. The struct stays until the last session that uses it has ended.
///
/// # Safety
/// May be called from any thread; a callback that is running on a worker may still be running on return. A stale address
/// is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_del(srv: *mut dap_chain_net_srv_t) {
    guard("dap_chain_net_srv_del", (), || {
        if !service::remove(srv.addr()) && !srv.is_null() {
            log::error!("dap_chain_net_srv_del: no such service");
        }
    });
}

/// The service part of a session that a client opened here, made on the first call. NULL for any other session.
///
/// # Safety
/// The worker of the session's stream; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_net_srv_stream_session_create(
    session: *mut dap_stream_session_t,
) -> *mut dap_chain_net_srv_stream_session_t {
    guard("dap_chain_net_srv_stream_session_create", ptr::null_mut(), || {
        sessions::find(session.addr()).map_or(ptr::null_mut(), |session| ensure_service_session(&session))
    })
}

/// The usage with this id in a session, or NULL.
///
/// # Safety
/// The worker of the session's stream; `srv_session` is NULL or the service part of a session that is alive.
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

/// The hash of the order by which this node gives the VPN service away in a network. False for NULL and for a network
/// that is none.
///
/// # Safety
/// May be called from any thread; `out` is NULL or writable. A stale address of a network is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_embedded_free_order(net: *const dap_chain_net_t, out: *mut dap_hash_fast_t) -> bool {
    guard("dap_embedded_free_order", false, || {
        // SAFETY: NULL or writable, by the caller's promise.
        let (Some(net), Some(out)) = (net::find_by_ptr(net), unsafe { out.as_mut() }) else { return false };
        out.raw = service::free_order(net.id());
        true
    })
}
