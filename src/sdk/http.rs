//! `GET /remain_limits_vpn`.

use std::ffi::CStr;

use parking_lot::RwLock;

use super::{callbacks, raw};

/// Answers a request: the query's bytes in, status and JSON out. Any thread.
pub type Handler = fn(&[u8]) -> (u16, String);

static HANDLER: RwLock<Option<Handler>> = RwLock::new(None);

/// The node has no server to answer HTTP.
#[derive(Debug, thiserror::Error)]
#[error(
    "[server] enabled is false, or nothing can be listened on: expected true, and a free listen_address for clients"
)]
pub struct NoServer;

/// Registers the path with the node's server.
pub fn register(handler: Handler) -> Result<(), NoServer> {
    callbacks::install();
    *HANDLER.write() = Some(handler);
    // SAFETY: no arguments.
    match unsafe { raw::vpn_glue_http_register() } {
        0 => Ok(()),
        _ => {
            *HANDLER.write() = None;
            Err(NoServer)
        }
    }
}

/// Takes the path back; where the SDK cannot, requests get 404.
pub fn unregister() {
    *HANDLER.write() = None;
    // SAFETY: no arguments.
    unsafe { raw::vpn_glue_http_unregister() };
}

pub(super) fn remain_limits(query: &[u8]) -> (u16, String) {
    let handler = *HANDLER.read();
    handler
        .map_or_else(|| (404, String::from("{\"error\":\"the VPN service is not running\"}")), |handler| handler(query))
}

/// "0x" and 64 hex digits: the hash of the key that signs this node's receipts; None when there is no such key.
pub fn receipt_key_hash() -> Option<String> {
    let mut text = [0; 80];
    // SAFETY: at most 80 bytes are written, with a NUL.
    if !unsafe { raw::vpn_glue_receipt_key_hash(text.as_mut_ptr(), text.len()) } {
        return None;
    }
    // SAFETY: NUL-terminated by the call above.
    Some(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
}
