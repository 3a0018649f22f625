//! Part `cmd`: dap_chain_net_srv_vpn_cmd.c.

use std::ffi::{c_char, c_int, c_void};

use super::{arguments, boundary};
use crate::{cli, sdk};

/// Runs the command `vpn_stat`: reports each session with a lease, or with `-history` the account book.
///
/// `a_argc` and `a_argv` are the command's words, beginning with its name. The reply is stored in `*a_reply`; the
/// caller frees it with the SDK's allocator. Call it on any thread. Returns 0; -1 if an argument is invalid, -2 for an
/// unknown network.
///
/// # Safety
/// `a_argv` is NULL or holds `a_argc` strings; `a_reply` is NULL or points to NULL or to an earlier reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn com_vpn_statistics(
    a_argc: c_int,
    a_argv: *mut *mut c_char,
    a_reply: *mut *mut c_void,
    a_version: c_int,
) -> c_int {
    // SAFETY: the caller's promise, passed on.
    unsafe { run("com_vpn_statistics", a_argc, a_argv, a_reply, a_version, cli::stat::run) }
}

/// Runs the command `vpn_client`: start, stop, status, check, check result, init.
///
/// Arguments and reply are as in `com_vpn_statistics`. Returns the code of the client's function; -1 for an invalid
/// parameter, -2 for an unknown network.
///
/// # Safety
/// As `com_vpn_statistics`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn com_vpn_client(
    a_argc: c_int,
    a_argv: *mut *mut c_char,
    a_reply: *mut *mut c_void,
    a_version: c_int,
) -> c_int {
    // SAFETY: the caller's promise, passed on.
    unsafe { run("com_vpn_client", a_argc, a_argv, a_reply, a_version, cli::client::run) }
}

/// Does nothing: the service and the client register the commands. Returns 0.
#[unsafe(no_mangle)]
pub extern "C" fn dap_chain_net_srv_vpn_cmd_init() -> c_int {
    0
}

/// # Safety
/// As `com_vpn_statistics`.
unsafe fn run(
    name: &'static str,
    argc: c_int,
    argv: *mut *mut c_char,
    reply: *mut *mut c_void,
    _version: c_int,
    command: fn(&[String]) -> cli::Answer,
) -> c_int {
    boundary(name, -1, || {
        // SAFETY: the caller's promise on argc and argv.
        let Some(words) = (unsafe { arguments(argc, argv) }) else {
            log::warn!("{name}: argv is NULL or holds a NULL word; expected argc = {argc} strings");
            return -1;
        };
        if reply.is_null() {
            log::warn!("{name}: reply is NULL; expected a place for the reply");
            return -1;
        }
        let answer = command(&words);
        // SAFETY: reply is not NULL and, by the caller's promise, points to NULL or to an earlier reply.
        unsafe { sdk::command::reply(reply, &answer.text) };
        answer.code
    })
}
