//! Part `cmd`: dap_chain_net_srv_vpn_cmd.c.

use std::ffi::{c_char, c_int, c_void};

use super::{arguments, boundary};
use crate::{cli, sdk};

/// The command `vpn_stat`: one block for each session.
///
/// `a_argc` and `a_argv` are the command's words, the first its name. The text goes to `*a_reply`, from the SDK's
/// allocator, the caller's to free. Any thread. Returns 0; -1 when an argument is wrong.
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

/// The command `vpn_client`: start, stop, status, check, check result, init.
///
/// As `com_vpn_statistics`; returns what the client's function returned, -1 for a wrong parameter, -2 for an unknown
/// network.
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

/// Nothing to do: the commands register with the service and the client. Returns 0.
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
            log::warn!("{name}: argv is NULL or has fewer than argc = {argc} strings");
            return -1;
        };
        if reply.is_null() {
            log::warn!("{name}: reply is NULL, there is nowhere to put the answer");
            return -1;
        }
        let answer = command(&words);
        // SAFETY: reply is not NULL and, by the caller's promise, points to NULL or to an earlier reply.
        unsafe { sdk::command::reply(reply, &answer.text) };
        answer.code
    })
}
