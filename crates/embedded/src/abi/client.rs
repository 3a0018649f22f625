//! Node clients: the exported C functions.

use crate::client::{self, NodeClient};
use crate::ctypes::*;
use crate::cview::client::Handle;
use crate::cview::owned::CShared;
use crate::cview::strings::bytes;
use crate::dial;
use crate::panics::guard;
use crate::reactor::{self, Reactor};
use crate::stream::{hello, procs};
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::slice;

/// Connects to a node and opens channels there, in the background. `info` is copied; `channels` are 1 to 15 distinct
/// letters that are registered in this process too. Returns NULL and logs the reason if an argument is invalid or the
/// SDK is not retained.
///
/// # Safety
/// May be called from any thread. `info` is NULL or points to a node info with `ext_host_len` bytes of host and a NUL
/// behind it; `channels` is NULL or a string; `callbacks` is NULL or points to a struct, which is copied, and whose
/// functions may be called on workers and on the connecting thread until `delete` has been called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_node_client_create_n_connect(
    net: *mut dap_chain_net_t,
    info: *mut dap_chain_node_info_t,
    channels: *const c_char,
    callbacks: *const dap_chain_node_client_callbacks_t,
    callbacks_arg: *mut c_void,
) -> *mut dap_chain_node_client_t {
    const NAME: &str = "dap_chain_node_client_create_n_connect";
    guard(NAME, ptr::null_mut(), || {
        let Some(reactor) = reactor::active() else {
            log::error!("{NAME}: the embedded SDK is not running");
            return ptr::null_mut();
        };
        // SAFETY: NULL, or as the caller promises.
        let Some((host, port)) = (unsafe { host_and_port(info) }) else {
            log::error!("{NAME}: expected a node info whose host is a name");
            return ptr::null_mut();
        };
        // SAFETY: NULL or a string, by the caller's promise.
        let channels = unsafe { bytes(channels) }.unwrap_or_default().to_vec();
        if !hello::are_valid(&channels) || channels.iter().any(|letter| procs::find(*letter).is_none()) {
            log::error!("{NAME}: expected 1 to 15 distinct channel letters, each registered");
            return ptr::null_mut();
        }
        const NONE: dap_chain_node_client_callbacks =
            dap_chain_node_client_callbacks { connected: None, disconnected: None, r#delete: None, error: None };
        // SAFETY: NULL, or a struct that the caller promises is readable.
        let callbacks = unsafe { callbacks.as_ref() }.copied().unwrap_or(NONE);
        let handle = Handle::new();
        let view = CShared::new(dap_chain_node_client {
            client: handle.as_ptr(),
            net,
            callbacks,
            notify_callbacks: dap_chain_node_client_notify_callbacks { srv_pkt_in: Cell::new(None) },
            callbacks_arg,
        });
        let pointer = view.as_ptr();
        let client = NodeClient::new(view, handle, host, port, channels);
        if let Err(error) = dial::start(&reactor, &client) {
            log::error!("{NAME}: {error}");
            client.unregister();
            return ptr::null_mut();
        }
        pointer
    })
}

/// Ends a node client in any state: `delete` is its last callback, after which the struct is freed.
///
/// # Safety
/// May be called from any thread, also in the client's callbacks; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_chain_node_client_close_mt(client: *mut dap_chain_node_client_t) {
    guard("dap_chain_node_client_close_mt", (), || {
        let Some(reactor) = reactor::current() else { return };
        if let Some(known) = client::find(client.addr()) {
            known.close(&reactor);
        }
    });
}

/// The channel with this letter; NULL while not connected. Use it on the stream's worker.
///
/// # Safety
/// May be called from any thread; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_client_get_stream_ch_unsafe(client: *mut dap_client_t, id: u8) -> *mut dap_stream_ch_t {
    guard("dap_client_get_stream_ch_unsafe", ptr::null_mut(), || {
        with_client(client, |known, _| known.channel(id)).unwrap_or(ptr::null_mut())
    })
}

/// The stream's worker; NULL while not connected.
///
/// # Safety
/// May be called from any thread; a stale address is compared, not followed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dap_client_get_stream_worker(client: *mut dap_client_t) -> *mut dap_stream_worker_t {
    guard("dap_client_get_stream_worker", ptr::null_mut(), || {
        with_client(client, |known, reactor| known.stream_worker(reactor)).unwrap_or(ptr::null_mut())
    })
}

fn with_client<R>(client: *mut dap_client_t, body: impl FnOnce(&NodeClient, &Reactor) -> R) -> Option<R> {
    let reactor = reactor::current()?;
    let known = client::find_by_handle(client)?;
    Some(body(&known, &reactor))
}

/// # Safety
/// `info` is NULL or points to a node info with `ext_host_len` bytes behind its fixed part.
unsafe fn host_and_port(info: *const dap_chain_node_info_t) -> Option<(String, u16)> {
    // SAFETY: the caller's promise.
    let fields = unsafe { info.as_ref() }?;
    let length = usize::from(fields.ext_host_len);
    let port = fields.ext_port;
    let offset = std::mem::offset_of!(dap_chain_node_info_t, ext_host);
    // SAFETY: the host begins there, inside the caller's allocation.
    let host = unsafe { info.cast::<u8>().add(offset) };
    // SAFETY: the caller promises `ext_host_len` bytes of host.
    let host = unsafe { slice::from_raw_parts(host, length) };
    let host = std::str::from_utf8(host).ok()?.trim_end_matches('\0');
    (!host.is_empty() && port != 0).then(|| (host.to_owned(), port))
}
