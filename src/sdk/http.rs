//! `GET /remain_limits_vpn`.

use std::ffi::CString;

use parking_lot::RwLock;

use super::config::Config;
use super::raw;
use vpn_core::wire::HashText;

/// Answers a request: takes the query's bytes, returns status and JSON. Called on any thread.
pub type Handler = fn(&[u8]) -> (u16, String);

static HANDLER: RwLock<Option<Handler>> = RwLock::new(None);

/// The node has no HTTP server.
#[derive(Debug, thiserror::Error)]
#[error("[server] enabled is false, or no listen_address can be used: expected true, and a free address for clients")]
pub struct NoServer;

/// Registers the path with the node's HTTP server.
pub fn register(handler: Handler) -> Result<(), NoServer> {
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

/// Unregisters the path; if the SDK cannot, requests get 404.
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

/// Returns "0x" and 64 hex digits: the hash of the key that signs this node's receipts; `None` if there is no such key.
/// `[srv_vpn] receipt_sign_cert` names the key's certificate; if it is not set, the embedded SDK uses its certificate
/// "node".
pub fn receipt_key_hash() -> Option<String> {
    let embedded_default = cfg!(feature = "embedded").then(|| String::from("node"));
    let name = Config::of_node().text("srv_vpn", "receipt_sign_cert").or(embedded_default)?;
    let name = CString::new(name).ok()?;
    let mut hash = [0; 32];
    // SAFETY: NUL-terminated; 32 bytes are written.
    if !unsafe { raw::vpn_glue_certificate_key_hash(name.as_ptr(), hash.as_mut_ptr()) } {
        return None;
    }
    Some(HashText(&hash).to_string())
}
