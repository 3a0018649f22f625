//! Commands of the node's CLI.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use super::raw;

/// A command's C function: (argc, argv, reply, version) -> exit code.
pub type Function = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_void, c_int) -> c_int;

/// Registers a command, or replaces the one with this name.
pub fn add(name: &CStr, function: Function, summary: &CStr, usage: &CStr) {
    // SAFETY: NUL-terminated texts, which the SDK copies; the function lives as long as the program.
    unsafe { raw::vpn_glue_command_add(name.as_ptr(), function, summary.as_ptr(), usage.as_ptr()) };
}

/// Unregisters a command.
pub fn remove(name: &CStr) {
    // SAFETY: NUL-terminated.
    unsafe { raw::vpn_glue_command_remove(name.as_ptr()) };
}

/// Sets a command's reply.
///
/// # Safety
/// `reply` points to NULL or to an earlier reply.
pub unsafe fn reply(reply: *mut *mut c_void, text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the caller's promise; the text is copied.
    unsafe { raw::vpn_glue_command_reply(reply, text.as_ptr()) };
}
