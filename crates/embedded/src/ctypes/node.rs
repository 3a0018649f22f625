//! Commands, and the HTTP side of the listener.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

/// (argc, argv, reply, version) -> the command's exit code.
pub type dap_cli_server_cmd_callback_t =
    Option<unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_void, c_int) -> c_int>;

/// Opaque: a registered command.
pub struct dap_cli_cmd;
pub type dap_cli_cmd_t = dap_cli_cmd;

/// Opaque: the HTTP side of the listener.
pub struct dap_http_server;
pub type dap_http_server_t = dap_http_server;

#[repr(C)]
pub struct dap_server {
    /// The `dap_http_server_t`.
    pub _inheritor: Cell<*mut c_void>,
}
pub type dap_server_t = dap_server;

#[repr(C)]
pub struct dap_http_client {
    pub url_path: [c_char; 1024],
    pub in_query_string: [c_char; 1024],
    pub url_path_len: u32,
    pub in_query_string_len: u32,
}
pub type dap_http_client_t = dap_http_client;

#[repr(C)]
pub struct dap_http_simple {
    pub http_client: *mut dap_http_client,
    pub reply_mime: [c_char; 256],
    pub _pvt: *mut c_void,
}
pub type dap_http_simple_t = dap_http_simple;

/// The second argument is a `http_status_code_t *` (an int) with the status of the reply.
pub type dap_http_simple_callback_t = Option<unsafe extern "C" fn(*mut dap_http_simple, *mut c_void)>;

/// Opaque: a registered path.
pub struct dap_http_url_proc;
